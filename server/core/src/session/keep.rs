//! Keeping a session alive, and what its client says of its replies and waits.

use alloc::boxed::Box;

use crate::{
    decision::{After, Draft},
    lease,
    motion::Motion,
    overlay::View,
    refusal::Refusal,
    reply::Reply,
    state::State,
    types::{CallId, SessionId},
};

/// Decides a keep-alive. The answer depends on the session's last change alone, unless it is not
/// known.
pub(crate) fn keep_alive(
    view: View<'_>,
    id: SessionId,
    draft: &mut Draft,
) -> (Result<Reply, Refusal>, After) {
    let Some(slot) = view.session(id) else {
        return (Err(Refusal::SessionLost { end: None }), After::Everything);
    };
    let session = view.state.session(slot);
    if let Some(ended) = &session.ended {
        let lost = Refusal::SessionLost { end: Some(ended.end) };
        return (Err(lost), After::Revision(ended.revision));
    }
    draft.motion(Motion::SessionKept { session: slot });
    let after = After::Revision(session.opened.number.revision());
    (Ok(Reply::SessionKept(session.opened.ttl.ms())), after)
}

/// Decides what acknowledgements come to.
pub(crate) fn acknowledge(
    view: View<'_>,
    id: SessionId,
    below: u64,
    seen: &[u64],
    draft: &mut Draft,
) {
    let Some(session) = view.session(id) else { return };
    let seen: Box<[u64]> = seen.into();
    draft.motion(Motion::RepliesAcknowledged { session, below, seen });
}

/// Decides the ends of waits that their client doesn't want any longer.
pub(crate) fn cancel(state: &State, calls: &[CallId], draft: &mut Draft) {
    // Two calls of one waiter are one cancellation.
    let mut waiters: alloc::vec::Vec<u32> =
        calls.iter().filter_map(|call| state.find_waiter_by(*call)).collect();
    waiters.sort_unstable();
    waiters.dedup();
    for waiter in waiters {
        lease::wait::cancel(state, waiter, draft);
    }
}
