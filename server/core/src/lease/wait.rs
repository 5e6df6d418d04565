//! Waiting for a lease: who is served next, and what those are told who are not.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::acquire::{Asked, granted, life};
use crate::{
    change::Change,
    decision::{Draft, check_fences},
    limits,
    motion::Motion,
    overlay::View,
    refusal::{Held, Refusal, SessionEnd},
    reply::{Grant, HolderInfo, Reply},
    state::{State, Waiter},
    types::{CallId, Mode, Ms, Token},
};

/// Grants on one resource whatever its attached waiters can now hold, in their order, at most
/// `most`; the rest follows in a later slice. True when the resource is settled.
pub(crate) fn settle(
    state: &State,
    now: Ms,
    resource: u32,
    most: usize,
    draft: &mut Draft,
) -> bool {
    let Some(it) = state.resources.get(resource as usize) else { return true };
    let Some(queue) = it.queue() else { return true };
    let mut held = held_mode(state, resource);
    for (count, waiter) in queue.attached.values().enumerate() {
        let mode = state.waiter(*waiter).acquire.target.mode;
        let free = match (held, mode) {
            (None, _) | (Some(Mode::Shared), Mode::Shared) => true,
            (Some(Mode::Exclusive), _) | (Some(Mode::Shared), Mode::Exclusive) => false,
        };
        if !free {
            return true;
        }
        if count == most {
            return false;
        }
        if grant_to(state, now, *waiter, draft) {
            held = Some(mode);
        }
    }
    true
}

/// The mode in which a resource is held.
fn held_mode(state: &State, resource: u32) -> Option<Mode> {
    let first = state.resource(resource).holders().iter().next()?;
    Some(state.lease(first).granted.mode)
}

/// Grants, unless a fence or the session was lost during the wait: the grant is what it guards, not the place
/// in the queue.
fn grant_to(state: &State, now: Ms, slot: u32, draft: &mut Draft) -> bool {
    let waiter = state.waiter(slot);
    assert!(waiter.is_attached(), "only an attached waiter is granted");
    let namespace = &state.space(waiter.space).name;
    let view = View::plain(state, namespace, now);
    let checked = check_fences(view, &waiter.fences).and_then(|()| life(view, &waiter.acquire));
    let life = match checked {
        Ok(life) => life,
        Err(refusal) => {
            drop_waiter(state, slot, &refusal, draft);
            return false;
        }
    };
    let token = Token(draft.take_revision().0);
    let asked = Asked { mark: waiter.mark, by: waiter.asked_by };
    let lease = granted(view, asked, &waiter.acquire, life, token);
    for attached in &waiter.calls {
        let grant = Grant {
            lease_id: lease.lease_id,
            token,
            remaining_ms: life.remaining_ms,
            waited_ms: now.since(attached.since),
            replayed: false,
        };
        draft.answer(attached.call, Ok(Reply::Acquired(grant)));
    }
    draft.change(Change::LeaseGranted(Arc::new(lease)));
    draft.motion(Motion::WaiterDropped { waiter: slot });
    true
}

/// Would this waiter be served at once, if a call were attached to it?
pub(crate) fn is_next(state: &State, slot: u32) -> bool {
    let waiter = state.waiter(slot);
    let free = match (held_mode(state, waiter.resource), waiter.acquire.target.mode) {
        (None, _) | (Some(Mode::Shared), Mode::Shared) => true,
        (Some(Mode::Exclusive), _) | (Some(Mode::Shared), Mode::Exclusive) => false,
    };
    // Whoever is attached before it would have been served, if it could be.
    free && position(state, waiter) == 0
}

/// Makes room for one more call: the one that has waited longest is told to come again.
pub(crate) fn bound_calls(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let waiter = state.waiter(slot);
    if waiter.calls.len() < limits::ATTACHED_MAX {
        return;
    }
    let oldest = waiter.calls.first().expect("there are many");
    let held = held_of(state, now, slot, now.since(oldest.since));
    draft.answer(oldest.call, Err(Refusal::StillWaiting(Box::new(held))));
    draft.motion(Motion::CallDetached { call: oldest.call });
}

/// Ends the waits of a waiter's calls that are due.
pub(crate) fn end_waits(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let waiter = state.waiter(slot);
    for attached in waiter.calls.iter().filter(|attached| attached.until <= now) {
        let held = Box::new(held_of(state, now, slot, now.since(attached.since)));
        let refusal = match waiter.mark {
            Some(_) => Refusal::StillWaiting(held),
            None => Refusal::Held(held),
        };
        draft.answer(attached.call, Err(refusal));
        draft.motion(Motion::CallDetached { call: attached.call });
    }
}

/// A call is gone: nobody waits for its answer any more.
pub(crate) fn drop_call(state: &State, call: CallId, draft: &mut Draft) {
    if state.find_waiter_by(call).is_some() {
        draft.motion(Motion::CallDetached { call });
    }
}

/// Drops a waiter and tells its calls so.
pub(crate) fn cancel(state: &State, slot: u32, draft: &mut Draft) {
    drop_waiter(state, slot, &Refusal::CancelledWait, draft);
}

/// Drops a waiter whose session has ended.
pub(crate) fn lose(state: &State, slot: u32, end: SessionEnd, draft: &mut Draft) {
    drop_waiter(state, slot, &Refusal::SessionLost { end: Some(end) }, draft);
}

fn drop_waiter(state: &State, slot: u32, refusal: &Refusal, draft: &mut Draft) {
    for attached in &state.waiter(slot).calls {
        draft.answer(attached.call, Err(refusal.clone()));
    }
    draft.motion(Motion::WaiterDropped { waiter: slot });
}

/// What stands before a waiter.
pub(crate) fn held_of(state: &State, now: Ms, slot: u32, waited_ms: u64) -> Held {
    let waiter = state.waiter(slot);
    let resource = state.resource(waiter.resource);
    let live = resource.holders().iter().take(limits::SLICE_MAX);
    let told = live.filter(|lease| state.is_live(*lease)).take(limits::HOLDERS_TOLD_MAX);
    let holders: Vec<_> = told
        .map(|lease| {
            let granted = &state.lease(lease).granted;
            HolderInfo {
                holder: granted.holder.clone(),
                token: granted.token,
                remaining_ms: state.remaining_ms(lease, now),
                mode: granted.mode,
            }
        })
        .collect();
    Held {
        resource: resource.name.clone(),
        holders,
        holder_count: u32::try_from(resource.holders().len()).unwrap_or(u32::MAX),
        queue_position: position(state, waiter),
        waited_ms,
    }
}

/// How many attached waiters are served before this one, counted up to a bound.
fn position(state: &State, waiter: &Waiter) -> u32 {
    let queue = state.resource(waiter.resource).queue().expect("a waiter is queued");
    let ahead = queue.attached.range(..waiter.key()).take(limits::POSITION_MAX).count();
    u32::try_from(ahead).expect("bounded")
}
