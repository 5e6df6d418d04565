//! Whether claims may be granted: holders that clash, earlier waiters that clash, permits that fit.
//!
//! One claim costs as much as its resource is deep, however much is below it.

use alloc::vec::Vec;

use crate::{
    limits,
    overlay::View,
    refusal::Refusal,
    state::State,
    tree::{Class, Node, QueueKey, Waiting},
    types::{Claim, Mode, Reach, ResourceName, Targets},
};

/// What stands in the way of one claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Obstacles {
    /// Claims of leases that clash.
    pub(crate) clashes: u64,
    /// Permits in use.
    pub(crate) used: u64,
    /// Permits that earlier waiters ask for, counted until there are too many.
    pub(crate) wanted: u64,
    /// An earlier waiter clashes.
    pub(crate) is_behind: bool,
}

/// Whether all claims may be granted.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Yes, when these leases of dead sessions are ended with it.
    Free(Vec<u32>),
    No,
}

/// May they be granted, to one who stands at `key`?
pub(crate) fn judge(view: View<'_>, targets: &Targets, key: QueueKey) -> Standing {
    let mut dead = Vec::new();
    for claim in targets.claims() {
        if is_blocked(view, claim, key, &mut dead) {
            return Standing::No;
        }
    }
    // To end more would not be in proportion to one grant: that waits for the sweep.
    if dead.len() > limits::HOLDERS_SHOWN_MAX { Standing::No } else { Standing::Free(dead) }
}

/// All who ask for permits of a resource agree on how many there are.
pub(crate) fn check_limits(view: View<'_>, targets: &Targets) -> Result<(), Refusal> {
    for claim in targets.claims() {
        let Mode::Permits(asked) = claim.mode else { continue };
        let limit = limit_of(view, claim.resource);
        if limit.is_some_and(|limit| limit != asked.limit()) {
            let (resource, limit) = (claim.resource.clone(), limit.unwrap_or_default());
            return Err(Refusal::LimitMismatch { resource, limit, asked: asked.limit() });
        }
    }
    Ok(())
}

fn limit_of(view: View<'_>, resource: &ResourceName) -> Option<u32> {
    let fresh = view.fresh_claims().find_map(|claim| match claim.mode {
        Mode::Permits(permits) if claim.resource == resource => Some(permits.limit()),
        Mode::Permits(_) | Mode::Exclusive | Mode::Shared => None,
    });
    fresh.or_else(|| {
        let state = view.state;
        let slot = state.find_node(view.space?, resource)?;
        let limit = state.limit_of(slot)?;
        // It goes with the last who has some, even within a transaction, and with the dead.
        let queue = state.node(slot).queue();
        let is_wanted = queue.is_some_and(|queue| queue.wants_permits());
        let mut holders = state.node(slot).holders();
        (is_wanted || holders.any(|lease| is_there(view, lease))).then_some(limit)
    })
}

/// A lease of the state that is live, or keeps its resources closed.
fn is_there(view: View<'_>, lease: u32) -> bool {
    view.known(lease).is_some() || view.state.is_closing(lease)
}

/// Does anything stand in the way? Leases of dead sessions that would are added to `dead`.
fn is_blocked(view: View<'_>, claim: Claim<'_>, key: QueueKey, dead: &mut Vec<u32>) -> bool {
    let mut found = survey(view, claim, key);
    if found.is_behind {
        return true;
    }
    // What the transaction has taken counts before what it has given back, as that may be the same.
    for fresh in view.fresh_claims() {
        found.add(claim, fresh);
    }
    let state = view.state;
    if found.is_in_the_way(claim.mode) {
        for lease in view.ended_slots() {
            found.discount(state, claim, lease);
        }
        if !state.ending.is_empty() && found.is_in_the_way(claim.mode) {
            for lease in dead_in_the_way(view, claim) {
                if !dead.contains(&lease) {
                    dead.push(lease);
                }
                found.discount(state, claim, lease);
            }
        }
    }
    found.is_in_the_way(claim.mode)
}

/// What stands in the way of a claim in the state.
pub(crate) fn survey(view: View<'_>, claim: Claim<'_>, key: QueueKey) -> Obstacles {
    let mut found = Obstacles::default();
    let Some(space) = view.space else { return found };
    let state = view.state;
    for (slot, is_all) in state.walk(space, claim.resource.as_str()) {
        let node = state.node(slot);
        if node.holder_count() > 0 {
            let tally = state.tally(slot);
            let clashes = if is_all {
                found.used = tally.used;
                tally.clashes_here(claim.mode)
            } else {
                tally.clashes_above(claim.mode)
            };
            found.clashes += u64::from(clashes);
        }
        found.is_behind |= is_behind(node, claim, is_all, key);
        if is_all {
            // What is discounted later makes room for earlier waiters first.
            let used = if view.may_discount() { 0 } else { found.used };
            found.wanted = wanted(node, claim.mode, used, key);
        }
        if is_all && claim.reach == Reach::Subtree {
            let below = node.below();
            let clashes = if claim.mode == Mode::Shared { below.unshared } else { below.claims };
            found.clashes += u64::from(clashes);
            found.is_behind |=
                node.waiting().is_some_and(|waiting| waiting.clashes_before(claim.mode, key));
        }
    }
    found
}

/// An attached waiter of this node stands before `key` and clashes.
fn is_behind(node: &Node, claim: Claim<'_>, is_all: bool, key: QueueKey) -> bool {
    let Some(queue) = node.queue() else { return false };
    let class = Class::of(claim.mode, claim.reach);
    let mut others = Class::ALL.into_iter().filter(|other| is_all || other.is_subtree());
    others.any(|other| other.clashes(class) && queue.first_before(other, key).is_some())
}

/// Permits that waiters before `key` ask for; no further than it matters.
fn wanted(node: &Node, mode: Mode, used: u64, key: QueueKey) -> u64 {
    let (Mode::Permits(permits), Some(queue)) = (mode, node.queue()) else { return 0 };
    let room = u64::from(permits.limit()).saturating_sub(used);
    let mut wanted = 0;
    for (count, (_, queued)) in queue.before(Class::Permits, key).enumerate() {
        wanted += u64::from(queued.permits);
        if wanted > room || count == limits::PERMIT_WAITERS_MAX {
            // So many before it: it is not looked whether they leave any.
            return wanted.max(room + 1);
        }
    }
    wanted
}

/// Leases of dead sessions that clash with a claim, or hold permits of it: those at the nodes of
/// its path, and, for a subtree, those below among the next that will be swept.
fn dead_in_the_way(view: View<'_>, claim: Claim<'_>) -> Vec<u32> {
    let state = view.state;
    // A closed lease is asked first: the session it lived with may be forgotten.
    let is_dead = |lease: u32| {
        !state.is_closing(lease)
            && state.session_of(lease).is_some_and(|slot| !state.session(slot).is_live())
            && !view.has_ended(state.lease(lease).granted.token)
    };
    let matters = |lease: u32| {
        let mut claims = state.lease(lease).granted.claims();
        claims.any(|other| claim.clashes(other) || is_of_same_permits(claim, other))
    };
    let mut found = Vec::new();
    let walked = view.space.map(|space| state.walk(space, claim.resource.as_str()));
    for (slot, is_all) in walked.into_iter().flatten() {
        let holders = state.holders_at(slot, !is_all).take(limits::HOLDERS_SHOWN_MAX + 1);
        found.extend(holders.filter(|lease| is_dead(*lease) && matters(*lease)));
    }
    if claim.reach == Reach::Subtree {
        let ending = state.ending.iter().flat_map(|slot| state.session(*slot).leases.values());
        let next = ending.copied().take(limits::SLICE_MAX);
        found.extend(next.filter(|lease| {
            view.space == Some(state.lease(*lease).space) && is_dead(*lease) && matters(*lease)
        }));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn is_of_same_permits(claim: Claim<'_>, other: Claim<'_>) -> bool {
    matches!((claim.mode, other.mode), (Mode::Permits(_), Mode::Permits(_)))
        && claim.resource == other.resource
}

// === impl Obstacles ===

impl Obstacles {
    /// Leases, or permits in use or wanted before, don't let a claim of this mode be granted.
    pub(crate) const fn is_in_the_way(&self, mode: Mode) -> bool {
        let over = match mode {
            Mode::Permits(permits) => {
                self.used + self.wanted + permits.count() as u64 > permits.limit() as u64
            }
            Mode::Exclusive | Mode::Shared => false,
        };
        self.clashes > 0 || over
    }

    /// A lease of the state doesn't count.
    fn discount(&mut self, state: &State, claim: Claim<'_>, lease: u32) {
        for other in state.lease(lease).granted.claims() {
            if claim.clashes(other) {
                self.clashes -= 1;
            } else if is_of_same_permits(claim, other) {
                self.used -= other.permits();
            }
        }
    }

    /// Another claim counts too.
    pub(crate) fn add(&mut self, claim: Claim<'_>, other: Claim<'_>) {
        if claim.clashes(other) {
            self.clashes += 1;
        } else if is_of_same_permits(claim, other) {
            self.used += other.permits();
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// An attached waiter below stands before `key` and clashes with a subtree of this mode.
    fn clashes_before(&self, mode: Mode, key: QueueKey) -> bool {
        let is_before = |first: Option<(&(QueueKey, u8), &u32)>| {
            first.is_some_and(|((first, _), _)| *first < key)
        };
        is_before(self.unshared.first_key_value())
            || (mode != Mode::Shared && is_before(self.shared.first_key_value()))
    }
}
