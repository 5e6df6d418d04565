//! The ends of sessions: closed or expired; then, slice by slice, of what they held.

use alloc::sync::Arc;

use crate::{
    change::{Change, SessionEnded},
    decision::Draft,
    lease, limits,
    motion::Motion,
    overlay::View,
    refusal::{Refusal, SessionEnd},
    reply::{Notice, Reply},
    state::State,
    types::{Ms, SessionId},
};

/// Decides a close.
pub(crate) fn close(view: View<'_>, id: SessionId, draft: &mut Draft) -> Result<Reply, Refusal> {
    let slot = view.session(id).ok_or(Refusal::SessionLost { end: None })?;
    match view.state.session(slot).ended.as_deref().map(|ended| ended.end) {
        None => {
            end(view.state, slot, SessionEnd::Closed, draft);
            Ok(Reply::SessionClosed { replayed: false })
        }
        Some(SessionEnd::Closed) => Ok(Reply::SessionClosed { replayed: true }),
        Some(end @ SessionEnd::Expired) => Err(Refusal::SessionLost { end: Some(end) }),
    }
}

/// Ends a session whose deadline has come, or moves the deadline to where it truly is, or
/// forgets one that has ended.
pub(crate) fn expire(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let session = state.session(slot);
    if !session.is_live() {
        let count = limits::SLICE_MAX / limits::SESSIONS_SLICE_MAX;
        draft.motion(Motion::SessionForgotten { session: slot, count });
        return;
    }
    let at = state.floors.deadline(session.renewed, session.opened.ttl.ms());
    if at > now {
        draft.motion(Motion::SessionRearmed { session: slot, at });
    } else {
        end(state, slot, SessionEnd::Expired, draft);
    }
}

fn end(state: &State, slot: u32, end: SessionEnd, draft: &mut Draft) {
    let session = state.session(slot);
    let revision = draft.take_revision();
    let opened = Arc::clone(&session.opened);
    draft.change(Change::SessionEnded(Arc::new(SessionEnded { opened, revision, end })));
    if let Some(stream) = session.stream {
        draft.answer(stream, Ok(Reply::Notice(Notice::SessionLost(end))));
    }
}

/// Decides a slice of the ends of what the first ended session held; `None`: no ended session
/// holds anything.
pub(crate) fn sweep(state: &State, now: Ms, most: usize) -> Option<Draft> {
    let session = state.session(*state.ending.front()?);
    let ended = session.ended.as_deref().expect("only an ended session is swept");
    let mut draft = Draft::new(state.revision);
    let waiters = session.waiters.iter().take(most);
    let left = most - waiters.len();
    for waiter in waiters {
        lease::wait::lose(state, *waiter, ended.end, &mut draft);
    }
    let mut count = 0;
    for lease in session.leases.values().take(left) {
        if draft.weight() > limits::SLICE_BYTES_MAX {
            break;
        }
        let granted = &state.lease(*lease).granted;
        lease::end::end(state, now, granted, ended.end.of_leases(), &mut draft);
        count += 1;
    }
    // Waiters go by motions, which are carried out after all changes: they are gone first.
    if session.waiters.is_empty() && session.leases.len() == count {
        let opened = &session.opened;
        let revision = draft.take_revision();
        draft.change(Change::SessionSwept {
            namespace: opened.namespace.clone(),
            number: opened.number,
            revision,
        });
    }
    Some(draft)
}
