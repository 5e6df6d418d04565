//! Waiting for a lease: who is served next, and what those are told who are not.

use alloc::{boxed::Box, sync::Arc};

use super::{
    acquire::{Asked, end_dead, granted, life},
    claims::{self, Standing},
    explain::held_of,
};
use crate::{
    change::Change,
    decision::{Draft, check_fences},
    limits,
    motion::Motion,
    overlay::View,
    refusal::{Held, Refusal, SessionEnd},
    reply::{Grant, Reply},
    state::State,
    tree::{Class, Mark, QueueKey},
    types::{CallId, Mode, Ms, Token},
};

/// One slice of looking at waiters.
pub(crate) struct Slice {
    /// How many more claims may be looked at.
    left: usize,
    /// How many were.
    pub(crate) examined: usize,
}

/// What came of looking at one waiter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It has its lease, or is refused.
    Gone,
    /// It waits on.
    Waits,
}

// === impl Slice ===

impl Slice {
    pub(crate) const fn new(most: usize) -> Self {
        Self { left: most, examined: 0 }
    }

    /// There is room for one more waiter: of time, and of bytes in the log.
    fn take(&mut self, state: &State, waiter: u32, draft: &Draft) -> bool {
        if self.left == 0 || draft.weight() > limits::SETTLE_BYTES_MAX / 2 {
            return false;
        }
        let claims = state.waiter(waiter).nodes.len();
        self.left = self.left.saturating_sub(claims);
        self.examined += claims;
        true
    }
}

/// Grants where a mark stands whatever its attached waiters can now hold, in their order; what is
/// too much for one slice is marked again.
pub(crate) fn settle(state: &State, now: Ms, mark: Mark, slice: &mut Slice, draft: &mut Draft) {
    let Some(marked) = state.marked(mark) else { return };
    let from = marked.from;
    let further = match mark {
        Mark::At(slot) => settle_at(state, now, slot, from, slice, draft),
        Mark::Below(slot) => settle_below(state, now, slot, from, slice, draft),
    };
    // To the end, and then from the first, if more has ended meanwhile.
    let rest = further.map(|key| (key, marked.is_again()));
    let rest = rest.or_else(|| marked.is_again().then_some((QueueKey::FIRST, false)));
    if let Some((key, again)) = rest {
        let (node, is_below) = match mark {
            Mark::At(node) => (node, false),
            Mark::Below(node) => (node, true),
        };
        let (priority, seq) = (key.descending.0, key.seq);
        draft.motion(Motion::SettledInPart { priority, seq, node, is_below, again });
    }
}

/// The waiters of one node; where to go on, if that was not all.
fn settle_at(
    state: &State,
    now: Ms,
    slot: u32,
    from: QueueKey,
    slice: &mut Slice,
    draft: &mut Draft,
) -> Option<QueueKey> {
    let queue = state.node(slot).queue()?;
    let mut open = Open::new(state, slot);
    let mut at = from;
    loop {
        let heads = Class::ALL.into_iter().filter(|class| open.is_open(*class));
        let heads = heads
            .filter_map(|class| queue.attached.range((class, at)..=(class, QueueKey::LAST)).next());
        let ((class, key), queued) = heads.min_by_key(|((_, key), _)| *key)?;
        if !slice.take(state, queued.waiter, draft) {
            return Some(*key);
        }
        let seen = look_at(state, now, queued.waiter, draft);
        open.pass(*class, u64::from(queued.permits), seen);
        at = key.next();
    }
}

/// The waiters below a node; where to go on, if that was not all.
fn settle_below(
    state: &State,
    now: Ms,
    slot: u32,
    from: QueueKey,
    slice: &mut Slice,
    draft: &mut Draft,
) -> Option<QueueKey> {
    let waiting = state.node(slot).waiting()?;
    let mut at = from;
    loop {
        let heads = [&waiting.shared, &waiting.unshared].into_iter();
        let heads = heads.filter_map(|waiters| waiters.range((at, 0)..).next());
        // One that has several claims here is looked at once.
        let ((key, _), waiter) = heads.min_by_key(|((key, _), _)| *key)?;
        if !slice.take(state, *waiter, draft) {
            return Some(*key);
        }
        look_at(state, now, *waiter, draft);
        at = key.next();
    }
}

/// For which classes of waiters of one node there may be anything, as far as the node and its
/// neighbours show: it saves looking at those for whom there can't.
struct Open {
    classes: [bool; Class::ALL.len()],
    /// Permits that are free and not asked for by those who were passed.
    room: u64,
}

impl Open {
    fn new(state: &State, slot: u32) -> Self {
        let mut open = Self { classes: [true; Class::ALL.len()], room: u64::MAX };
        // What dead sessions have left is counted, but in nobody's way.
        if !state.ending.is_empty() {
            return open;
        }
        let tally = state.tally(slot);
        open.close_clashing(|mode| tally.clashes_here(mode) > 0);
        for above in state.above(slot) {
            let tally = state.tally(above);
            open.close_clashing(|mode| tally.clashes_above(mode) > 0);
        }
        let below = state.node(slot).below();
        if below.claims > 0 {
            open.close(Class::ExclusiveSubtree);
        }
        if below.unshared > 0 {
            open.close(Class::SharedSubtree);
        }
        if let Some(limit) = state.limit_of(slot) {
            open.room = u64::from(limit).saturating_sub(tally.used);
        }
        open
    }

    fn is_open(&self, class: Class) -> bool {
        self.classes.iter().zip(Class::ALL).any(|(open, known)| *open && known == class)
    }

    fn close(&mut self, class: Class) {
        for (open, known) in self.classes.iter_mut().zip(Class::ALL) {
            *open &= known != class;
        }
    }

    fn close_clashing(&mut self, clashes: impl Fn(Mode) -> bool) {
        for class in Class::ALL {
            if clashes(class.mode()) {
                self.close(class);
            }
        }
    }

    /// A waiter was looked at. One that waits on keeps those behind it who clash; permits that it
    /// asks for are not for those behind it either way.
    fn pass(&mut self, class: Class, permits: u64, seen: Seen) {
        if seen == Seen::Waits {
            for other in Class::ALL {
                if other.clashes(class) {
                    self.close(other);
                }
            }
        }
        if class == Class::Permits {
            self.room = self.room.saturating_sub(permits);
            if self.room == 0 {
                self.close(Class::Permits);
            }
        }
    }
}

/// Grants what a waiter waits for, if it may be. The grant is refused if a fence or the session was
/// lost during the wait: the grant is what these guard, not the place in the queue.
fn look_at(state: &State, now: Ms, slot: u32, draft: &mut Draft) -> Seen {
    let waiter = state.waiter(slot);
    assert!(waiter.is_attached(), "only an attached waiter is granted");
    let namespace = &state.space(waiter.space).name;
    let view = View::plain(state, namespace, now);
    let Standing::Free(dead) = claims::judge(view, &waiter.acquire.targets, waiter.key()) else {
        return Seen::Waits;
    };
    let checked = check_fences(view, &waiter.fences).and_then(|()| life(view, &waiter.acquire));
    let life = match checked {
        Ok(life) => life,
        Err(refusal) => {
            drop_waiter(state, slot, &refusal, draft);
            return Seen::Gone;
        }
    };
    end_dead(view, &dead, draft);
    let token = Token(draft.take_revision().0);
    let asked = Asked { mark: waiter.mark, by: waiter.asked_by };
    let lease = granted(view, asked, &waiter.acquire, life, token);
    for attached in &waiter.calls {
        let grant = Grant {
            lease_id: lease.lease_id,
            token,
            remaining_ms: life.remaining_ms_of(&lease),
            waited_ms: now.since(attached.since),
            replayed: false,
        };
        draft.answer(attached.call, Ok(Reply::Acquired(grant)));
    }
    draft.change(Change::LeaseGranted(Arc::new(lease)));
    draft.motion(Motion::WaiterServed { waiter: slot });
    Seen::Gone
}

/// Would this waiter be served at once, if a call were attached to it?
pub(crate) fn is_next(view: View<'_>, slot: u32) -> bool {
    let waiter = view.state.waiter(slot);
    let standing = claims::judge(view, &waiter.acquire.targets, waiter.key());
    matches!(standing, Standing::Free(_))
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
    // One that may have its lease, and was not looked at yet, gets it.
    if look_at(state, now, slot, draft) == Seen::Gone {
        return;
    }
    let waiter = state.waiter(slot);
    let held = held_of(state, now, slot, 0);
    for attached in waiter.calls.iter().filter(|attached| attached.until <= now) {
        let held = Box::new(Held { waited_ms: now.since(attached.since), ..held.clone() });
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
