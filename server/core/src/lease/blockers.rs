//! Which actors stand in the way of one claim of a wait: what the search for deadlocks follows.

use alloc::vec::Vec;
use core::ops::Bound;

use super::deadlock::{Supposed, Wait};
use crate::{
    limits,
    refusal::DeadlockRelation,
    state::Waiter,
    tree::{Class, Node, QueueKey},
    types::{Actor, Claim, Holder, Mode, Reach, ResourceName, Token},
};

/// One actor in the way.
pub(crate) struct Blocker {
    pub(crate) actor: Actor,
    pub(crate) holder: Holder,
    pub(crate) relation: DeadlockRelation,
    pub(crate) stake: Stake,
}

/// What of it is in the way.
pub(crate) enum Stake {
    /// It clashes: it must finish.
    All,
    /// It has, or is before one for, so many permits of the same resource.
    Permits(u64),
}

/// Actors in the way of one claim. Of earlier waiters at one node only those that others don't
/// stand for: an exclusive one waits itself for all before it.
pub(crate) fn blockers(
    supposed: Supposed<'_>,
    wait: Wait<'_>,
    claim: Claim<'_>,
    steps: &mut usize,
) -> Vec<Blocker> {
    let mut found = Vec::new();
    let view = supposed.view;
    let state = view.state;
    let Some(space) = view.space else { return found };
    let walked: Vec<_> = state.walk(space, claim.resource.as_str()).collect();
    for (slot, is_all) in walked {
        let node = state.node(slot);
        let path = ResourceName::of(node.path());
        let here = (space, path.clone(), Token(0), 0)..=(space, path, Token(u64::MAX), u32::MAX);
        for (_, name, _, lease) in state.actor_claims.range(here) {
            if is_enough(steps, 1) {
                return found;
            }
            holds(supposed, *lease, name, claim, &mut found);
        }
        waits_at(supposed, node, wait, claim, !is_all, steps, &mut found);
        if is_all && claim.reach == Reach::Subtree {
            below(supposed, node, wait, claim, steps, &mut found);
        }
    }
    if let Some((lease, actor, holder)) = supposed.transferred {
        is_enough(steps, lease.claims().len());
        for other in lease.claims() {
            add(claim, other, actor, holder, DeadlockRelation::Holds, &mut found);
        }
    }
    // What earlier operations of the same transaction took or gave on.
    for known in view.fresh().filter(|known| !is_transferred(supposed, known.granted.token)) {
        let Some(actor) = known.granted.actor() else { continue };
        is_enough(steps, known.granted.claims().len());
        for other in known.granted.claims() {
            add(claim, other, actor, &known.granted.holder, DeadlockRelation::Holds, &mut found);
        }
    }
    // One that is put in front of others by its priority.
    if let Some(other) = supposed.wait.filter(|other| !wait.is_supposed && other.key < wait.key) {
        is_enough(steps, other.targets.as_slice().len());
        for wanted in other.targets.claims() {
            add(
                claim,
                wanted,
                other.actor,
                other.holder,
                DeadlockRelation::WaitsBefore,
                &mut found,
            );
        }
    }
    found
}

/// Takes note of so many more steps; true: the search must end.
const fn is_enough(steps: &mut usize, more: usize) -> bool {
    *steps += more;
    *steps > limits::DEADLOCK_STEPS_MAX
}

fn is_transferred(supposed: Supposed<'_>, token: Token) -> bool {
    supposed.transferred.is_some_and(|(lease, ..)| lease.token == token)
}

/// Adds an actor if a claim of its is in the way.
fn add(
    claim: Claim<'_>,
    other: Claim<'_>,
    actor: &Actor,
    holder: &Holder,
    relation: fn(ResourceName) -> DeadlockRelation,
    found: &mut Vec<Blocker>,
) {
    let stake = match (claim.mode, other.mode) {
        (Mode::Permits(_), Mode::Permits(_)) if claim.resource == other.resource => {
            Stake::Permits(other.permits())
        }
        (Mode::Exclusive | Mode::Shared | Mode::Permits(_), _) if claim.clashes(other) => {
            Stake::All
        }
        (Mode::Exclusive | Mode::Shared | Mode::Permits(_), _) => return,
    };
    found.push(Blocker {
        actor: actor.clone(),
        holder: holder.clone(),
        relation: relation(other.resource.clone()),
        stake,
    });
}

/// A live lease with an actor, as far as its claim of one resource is in the way.
fn holds(
    supposed: Supposed<'_>,
    lease: u32,
    name: &ResourceName,
    claim: Claim<'_>,
    found: &mut Vec<Blocker>,
) {
    let Some(known) = supposed.view.known(lease) else { return };
    if is_transferred(supposed, known.granted.token) {
        return;
    }
    let Some(actor) = known.granted.actor() else { return };
    let other = known.granted.claims().find(|other| other.resource == name);
    let other = other.expect("what is indexed is claimed");
    add(claim, other, actor, &known.granted.holder, DeadlockRelation::Holds, found);
}

/// A waiter with an actor, as far as it is in the way; false: it has none, or is about to go.
fn waits(
    supposed: Supposed<'_>,
    slot: u32,
    claim: Claim<'_>,
    steps: &mut usize,
    found: &mut Vec<Blocker>,
) -> bool {
    let state = supposed.view.state;
    let waiter: &Waiter = state.waiter(slot);
    let session = state.waiters_session(slot);
    if session.is_some_and(|session| !state.session(session).is_live()) {
        return false;
    }
    let Some(actor) = waiter.actor() else {
        is_enough(steps, 1);
        return false;
    };
    is_enough(steps, waiter.nodes.len());
    for other in waiter.acquire.targets.claims() {
        add(claim, other, actor, &waiter.acquire.holder, DeadlockRelation::WaitsBefore, found);
    }
    true
}

/// Earlier waiters of one node.
fn waits_at(
    supposed: Supposed<'_>,
    node: &Node,
    wait: Wait<'_>,
    claim: Claim<'_>,
    only_subtrees: bool,
    steps: &mut usize,
    found: &mut Vec<Blocker>,
) {
    let Some(queue) = node.queue() else { return };
    let class = Class::of(claim.mode, claim.reach);
    let is_here = |other: &Class| !only_subtrees || other.is_subtree();
    let exclusive = [Class::Exclusive, Class::ExclusiveSubtree].into_iter().filter(is_here);
    let nearest = exclusive
        .filter_map(|other| queue.before(other, wait.key).next_back())
        .max_by_key(|((_, key), _)| *key);
    let from = nearest.map_or(QueueKey::FIRST, |((_, key), _)| *key);
    if let Some((_, queued)) = nearest {
        // One without an actor doesn't wait in the sense of this search, those before it do.
        if !waits(supposed, queued.waiter, claim, steps, found) {
            all_before(supposed, node, wait, claim, only_subtrees, steps, found);
            return;
        }
    }
    for other in Class::ALL.into_iter().filter(is_here) {
        let matters = match (class, other) {
            (Class::Permits, Class::Permits) => true,
            (_, Class::Exclusive | Class::ExclusiveSubtree) => false,
            (_, Class::Shared | Class::SharedSubtree | Class::Permits) => other.clashes(class),
        };
        // Permits are counted, so all of them matter, however far ahead.
        let from =
            if other == Class::Permits && class == Class::Permits { QueueKey::FIRST } else { from };
        if matters && from < wait.key {
            for (_, queued) in queue.attached.range((other, from)..(other, wait.key)) {
                waits(supposed, queued.waiter, claim, steps, found);
                if is_enough(steps, 0) {
                    return;
                }
            }
        }
    }
}

/// All earlier waiters of one node.
fn all_before(
    supposed: Supposed<'_>,
    node: &Node,
    wait: Wait<'_>,
    claim: Claim<'_>,
    only_subtrees: bool,
    steps: &mut usize,
    found: &mut Vec<Blocker>,
) {
    let Some(queue) = node.queue() else { return };
    for other in Class::ALL.into_iter().filter(|other| !only_subtrees || other.is_subtree()) {
        for (_, queued) in queue.before(other, wait.key) {
            waits(supposed, queued.waiter, claim, steps, found);
            if is_enough(steps, 0) {
                return;
            }
        }
    }
}

/// Leases and earlier waiters below a subtree.
fn below(
    supposed: Supposed<'_>,
    node: &Node,
    wait: Wait<'_>,
    claim: Claim<'_>,
    steps: &mut usize,
    found: &mut Vec<Blocker>,
) {
    let state = supposed.view.state;
    let Some(space) = supposed.view.space else { return };
    let (from, to) = claim.resource.below();
    let range =
        (Bound::Included((space, from, Token(0), 0)), Bound::Excluded((space, to, Token(0), 0)));
    for (_, name, _, lease) in state.actor_claims.range(range) {
        if is_enough(steps, 1) {
            return;
        }
        holds(supposed, *lease, name, claim, found);
    }
    let Some(waiting) = node.waiting() else { return };
    for waiters in [&waiting.shared, &waiting.unshared] {
        let mut last = None;
        for (_, waiter) in waiters.range(..(wait.key, 0)) {
            // It stands there once for each of its claims, side by side.
            if last.replace(*waiter) == Some(*waiter) {
                continue;
            }
            waits(supposed, *waiter, claim, steps, found);
            if is_enough(steps, 0) {
                return;
            }
        }
    }
}
