//! Records: versioned values. Writes may demand a version, a fence, or both.

pub(crate) mod absorb;
pub(crate) mod end;
pub(crate) mod expect;
pub(crate) mod increment;
pub(crate) mod protect;
pub(crate) mod put;
pub(crate) mod show;
pub(crate) mod view;

use crate::{
    change::Effect,
    command::Request,
    decision::{Draft, check_fences},
    fence::Fences,
    overlay::View,
    refusal::Refusal,
    replay,
    reply::Reply,
};

/// Decides a write that stands alone: a known request is answered again, a new one is judged
/// under its fences and remembered.
fn decide_once(
    view: View<'_>,
    request: &Request,
    draft: &mut Draft,
    write: impl FnOnce(&Fences<'_>, &mut Draft) -> Result<(Reply, Effect), Refusal>,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    let (reply, effect) = write(&Fences::new(view, &request.fences), draft)?;
    replay::check_room(view, request)?;
    replay::remember(view, request, effect, draft);
    Ok(reply)
}
