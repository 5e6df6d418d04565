//! Replays: what an earlier send of a request achieved is told again, and not done again.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use crate::{
    change::{Change, Effect, RequestRemembered},
    command::Request,
    decision::{Draft, check_cap},
    lease,
    memory::Past,
    overlay::View,
    refusal::{Cap, Refusal},
    reply::{Reply, Transacted},
    session::admit,
    types::CommandHash,
};

/// The effect that an earlier send of this request had; `None`: it is unknown, and young
/// enough to be executed, or has no identity.
pub(crate) fn find<'a>(view: View<'a>, request: &Request) -> Result<Option<&'a Effect>, Refusal> {
    let Some(mark) = request.mark else { return Ok(None) };
    let state = view.state;
    if state.find_lease_of(mark.id).is_some() || state.find_waiter_of(mark.id).is_some() {
        return Err(Refusal::RequestIdReused);
    }
    match admit::past(view, request, mark) {
        None => admit::check_unknown(view, request).map(|()| None),
        Some(Past::Abandoned) => Err(Refusal::CancelledWait),
        Some(Past::LeaseEnded { .. }) => Err(Refusal::RequestIdReused),
        Some(Past::Effect { command, effect }) => {
            same_command(Some(*command), mark.command)?;
            Ok(Some(effect))
        }
    }
}

/// The same request is the same command, or its id was reused.
pub(crate) fn same_command(known: Option<CommandHash>, asked: CommandHash) -> Result<(), Refusal> {
    if known == Some(asked) { Ok(()) } else { Err(Refusal::RequestIdReused) }
}

/// The reply again. It fits the command, as the command is the same.
pub(crate) fn again(view: View<'_>, effect: &Effect) -> Result<Reply, Refusal> {
    let replayed = true;
    match effect {
        Effect::Released => Ok(Reply::Released { replayed }),
        Effect::ForceReleased { holder } => {
            Ok(Reply::ForceReleased { holder: holder.clone(), replayed })
        }
        Effect::Acquired { lease_id, token } => {
            lease::acquire::again(view, *lease_id, *token).map(Reply::Acquired)
        }
        Effect::Transferred { lease_id, token } => {
            lease::acquire::again(view, *lease_id, *token).map(Reply::Transferred)
        }
        Effect::RecordPut(put) => Ok(Reply::RecordPut { put: *put, replayed }),
        Effect::Incremented { value, put } => {
            Ok(Reply::Incremented { value: *value, put: *put, replayed })
        }
        Effect::RecordDeleted { version } => {
            Ok(Reply::RecordDeleted { version: Some(*version), replayed })
        }
        Effect::PrefixProtected { revision } => {
            Ok(Reply::PrefixProtected { revision: *revision, existed: false, replayed })
        }
        Effect::PrefixUnprotected => Ok(Reply::PrefixUnprotected { existed: true, replayed }),
        Effect::Transacted { commit, effects } => {
            // All of it happened, whatever has become of its grants since.
            let operation = |effect| {
                again(view, effect).unwrap_or_else(|refusal| Reply::Lost(Box::new(refusal)))
            };
            let replies: Vec<_> = effects.iter().map(operation).collect();
            let (replies, commit) = (replies.into(), *commit);
            Ok(Reply::Transacted(Box::new(Transacted { replies, commit, replayed })))
        }
        Effect::LeaseEnded { .. } => Err(Refusal::RequestIdReused),
    }
}

/// The refusal of an operation, and with it of the whole.
pub(crate) fn of_operation(index: usize, refusal: Refusal) -> Refusal {
    let index = u32::try_from(index).expect("operations are few");
    Refusal::Operation { index, refusal: Box::new(refusal) }
}

/// There is room to remember what a request will have achieved.
pub(crate) fn check_room(view: View<'_>, request: &Request) -> Result<(), Refusal> {
    if request.mark.is_none() {
        return Ok(());
    }
    check_cap(Cap::Memory, view.state.memory.bytes(), 1, view.state.quotas.memory_bytes)
}

/// Writes down what a request has achieved.
pub(crate) fn remember(view: View<'_>, request: &Request, effect: Effect, draft: &mut Draft) {
    let Some(mark) = request.mark else { return };
    let of = admit::operation(view, request);
    let revision = draft.shared_revision();
    draft.change(Change::RequestRemembered(Arc::new(RequestRemembered {
        mark,
        of,
        revision,
        effect,
    })));
}
