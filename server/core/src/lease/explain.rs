//! Who stands in the way: what a refused or waiting caller is told.
//!
//! Owns words for people, not decisions: it may look at much, but always at a bounded part of it.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};

use super::claims::{Obstacles, survey};
use crate::{
    limits,
    overlay::{Known, View},
    refusal::{Held, HeldWaiter},
    reply::{HolderInfo, LeaseInfo, WaiterInfo, YieldInfo},
    state::State,
    tree::{Class, QueueKey},
    types::{Claim, Mode, Ms, Reach, ResourceName, Targets},
};

/// Nodes looked at for examples of what is held below a subtree.
const STEPS_MAX: usize = 1_000;

/// What stands before one who wants these targets and stands at `key`.
pub(crate) fn held(view: View<'_>, targets: &Targets, key: QueueKey, waited_ms: u64) -> Held {
    let surveyed = |claim| {
        let mut found = survey(view, claim, key);
        for fresh in view.fresh_claims() {
            found.add(claim, fresh);
        }
        (claim, found)
    };
    let is_blocked = |(claim, found): &(Claim<'_>, Obstacles)| {
        found.is_behind || found.is_in_the_way(claim.mode)
    };
    let mut blocked = targets.claims().map(surveyed).filter(is_blocked);
    let first = blocked.next();
    let blocked_targets = usize::from(first.is_some()) + blocked.count();
    // Nothing is in the way any more: the first target is told.
    let (claim, found) = first.unwrap_or_else(|| surveyed(targets.first().claim()));
    let waiters = waiters_before(view, claim, key);
    let mut told = Told::new(view, claim);
    told.look();
    if told.holders.is_empty() && !waiters.is_empty() {
        // Only earlier waiters clash: what they wait for is told.
        told = Told { is_any: true, ..Told::new(view, claim) };
        told.look();
    }
    let many = u32::try_from(told.dead).unwrap_or(u32::MAX);
    let clashes = u32::try_from(found.clashes).unwrap_or(u32::MAX).saturating_sub(many);
    // Those that are in the way without clashing are on the node itself.
    let here = view.node(claim.resource).map_or(0, |node| node.holder_count());
    let here = u32::try_from(here).unwrap_or(u32::MAX).saturating_sub(many);
    let are_permits = matches!(claim.mode, Mode::Permits(_)) && found.clashes == 0;
    let holder_count = if are_permits || told.is_any { here } else { clashes }.max(told.seen);
    Held {
        resource: claim.resource.clone(),
        holders: told.holders,
        holder_count,
        queue_position: position(view, claim, key),
        waited_ms,
        waiters,
        closed_ms: told.closed_ms,
        permits_used: u32::try_from(found.used).unwrap_or(u32::MAX),
        permits_wanted: u32::try_from(found.wanted).unwrap_or(u32::MAX),
        blocked_targets: u32::try_from(blocked_targets).unwrap_or(u32::MAX),
    }
}

/// What stands before a waiter.
pub(crate) fn held_of(state: &State, now: Ms, slot: u32, waited_ms: u64) -> Held {
    let waiter = state.waiter(slot);
    let view = View::plain(state, &state.space(waiter.space).name, now);
    held(view, &waiter.acquire.targets, waiter.key(), waited_ms)
}

/// Holders that clash with one claim, as they are found.
struct Told<'a> {
    view: View<'a>,
    claim: Claim<'a>,
    holders: Vec<HolderInfo>,
    seen: u32,
    dead: usize,
    closed_ms: u64,
    steps: usize,
    /// Those that don't clash are told too.
    is_any: bool,
}

impl<'a> Told<'a> {
    fn new(view: View<'a>, claim: Claim<'a>) -> Self {
        Self {
            view,
            claim,
            holders: Vec::new(),
            seen: 0,
            dead: 0,
            closed_ms: 0,
            steps: STEPS_MAX,
            is_any: false,
        }
    }

    fn look(&mut self) {
        let state = self.view.state;
        let Some(space) = self.view.space else { return };
        let walked: Vec<_> = state.walk(space, self.claim.resource.as_str()).collect();
        for (slot, is_all) in walked {
            self.look_at(slot, !is_all);
            if is_all && self.claim.reach == Reach::Subtree {
                self.look_below(slot);
            }
        }
        for known in self.view.fresh() {
            if let Some(claim) = known.granted.claims().find(|other| self.is_told(*other)) {
                self.seen += 1;
                self.holders.push(holder_info(self.view, known, claim, self.claim.resource));
            }
        }
        let mut sorted = core::mem::take(&mut self.holders);
        sorted.sort_by_key(|holder| holder.token);
        sorted.truncate(limits::HOLDERS_TOLD_MAX);
        self.holders = sorted;
    }

    /// The oldest that clash, as many as are told; the others are counted elsewhere.
    fn look_at(&mut self, slot: u32, only_subtrees: bool) {
        let enough = self.holders.len() + limits::HOLDERS_TOLD_MAX;
        for lease in self.view.state.holders_at(slot, only_subtrees) {
            if self.steps == 0 || self.holders.len() == enough {
                return;
            }
            self.steps -= 1;
            self.add(lease);
        }
    }

    /// Examples from below, the nearest first.
    fn look_below(&mut self, slot: u32) {
        let state = self.view.state;
        let mut level: Vec<u32> = state.children(slot).take(self.steps).collect();
        while !level.is_empty() && self.steps > 0 && self.holders.len() < limits::HOLDERS_TOLD_MAX {
            let mut next = Vec::new();
            for child in level {
                self.look_at(child, false);
                if state.node(child).below().claims > 0 {
                    let room = self.steps.saturating_sub(next.len());
                    next.extend(state.children(child).take(room));
                }
                self.steps = self.steps.saturating_sub(1);
            }
            level = next;
        }
    }

    fn add(&mut self, lease: u32) {
        let state = self.view.state;
        let granted = &state.lease(lease).granted;
        // A lease with several claims in the way is told once.
        if self.holders.iter().any(|told| told.token == granted.token) {
            return;
        }
        let mut claims = granted.claims();
        let clashing = claims.find(|other| self.is_told(*other));
        let Some(clashing) = clashing else { return };
        if let Some(left) = closed_ms(self.view, lease) {
            self.closed_ms = self.closed_ms.max(left);
            self.dead += 1;
            return;
        }
        match self.view.known(lease) {
            None => self.dead += 1,
            Some(known) => {
                self.seen += 1;
                self.holders.push(holder_info(self.view, known, clashing, self.claim.resource));
            }
        }
    }

    fn is_told(&self, other: Claim<'_>) -> bool {
        self.claim.clashes(other)
            || self.shares_permits(other)
            || (self.is_any && self.claim.touches(other))
    }

    fn shares_permits(&self, other: Claim<'_>) -> bool {
        matches!((self.claim.mode, other.mode), (Mode::Permits(_), Mode::Permits(_)))
            && self.claim.resource == other.resource
    }
}

/// One holder, as told to others who ask about `asked`.
pub(crate) fn holder_info(
    view: View<'_>,
    known: Known<'_>,
    claim: Claim<'_>,
    asked: &ResourceName,
) -> HolderInfo {
    let state = view.state;
    let granted = known.granted;
    let yields = state.yields.get(&granted.token);
    HolderInfo {
        holder: granted.holder.clone(),
        token: granted.token,
        remaining_ms: known.remaining_ms,
        mode: claim.mode,
        reach: claim.reach,
        resource: (claim.resource != asked).then(|| claim.resource.clone()),
        held_ms: state.durable_now(view.now).since(granted.granted_at),
        hold_remaining_ms: state.hold_remaining_ms(granted, view.now),
        actor: granted.actor().cloned(),
        yield_answer: yields.and_then(|yields| yields.last_answer()).cloned(),
    }
}

/// A live lease, as anybody may see it.
pub(crate) fn lease_info(view: View<'_>, known: Known<'_>) -> LeaseInfo {
    let state = view.state;
    let granted = known.granted;
    let terms = granted.terms();
    let yields = state.yields.get(&granted.token);
    LeaseInfo {
        targets: granted.targets(),
        holder: granted.holder.clone(),
        token: granted.token,
        ttl_ms: granted.ttl.ms(),
        remaining_ms: known.remaining_ms,
        actor: granted.actor().cloned(),
        labels: terms.map(|terms| terms.labels.clone()).unwrap_or_default(),
        held_ms: state.durable_now(view.now).since(granted.granted_at),
        hold_remaining_ms: state.hold_remaining_ms(granted, view.now),
        lock_delay_ms: terms.and_then(|terms| terms.lock_delay).map_or(0, |delay| delay.ms()),
        yield_requests: yields
            .map(|yields| yields.iter().map(|request| yield_info(request, view.now)).collect())
            .unwrap_or_default(),
    }
}

/// A request to yield, as told to the holder.
pub(crate) fn yield_info(request: &super::yields::YieldRequest, now: Ms) -> YieldInfo {
    YieldInfo {
        number: request.number,
        from: request.from.clone(),
        reason: request.reason.clone(),
        asked_ms: now.since(request.at),
        answer: request.answer.clone(),
    }
}

/// A waiter, as anybody may see it; `blocked_by` costs more.
pub(crate) fn waiter_info(state: &State, now: Ms, slot: u32, with_blockers: bool) -> WaiterInfo {
    let waiter = state.waiter(slot);
    let waited_ms = now.since(waiter.since);
    WaiterInfo {
        holder: waiter.acquire.holder.clone(),
        actor: waiter.actor().cloned(),
        targets: waiter.acquire.targets.clone(),
        priority: waiter.acquire.priority.get(),
        waited_ms,
        is_attached: waiter.is_attached(),
        blocked_by: with_blockers.then(|| Box::new(held_of(state, now, slot, waited_ms))),
    }
}

/// Earlier attached waiters that clash with a claim, or are before it for permits.
fn waiters_before(view: View<'_>, claim: Claim<'_>, key: QueueKey) -> Vec<HeldWaiter> {
    let state = view.state;
    let Some(space) = view.space else { return Vec::new() };
    let class = Class::of(claim.mode, claim.reach);
    let most = limits::WAITERS_TOLD_MAX;
    let mut found: Vec<(QueueKey, u32)> = Vec::new();
    for (slot, is_all) in state.walk(space, claim.resource.as_str()) {
        let node = state.node(slot);
        for other in Class::ALL.into_iter().filter(|other| is_all || other.is_subtree()) {
            let are_permits = class == Class::Permits && other == Class::Permits;
            if let Some(queue) = node.queue()
                && (other.clashes(class) || are_permits)
            {
                let before = queue.before(other, key).take(most);
                found.extend(before.map(|((_, key), queued)| (*key, queued.waiter)));
            }
        }
        if is_all
            && claim.reach == Reach::Subtree
            && let Some(waiting) = node.waiting()
        {
            let shared = (claim.mode != Mode::Shared).then_some(&waiting.shared);
            for below in [Some(&waiting.unshared), shared].into_iter().flatten() {
                // One that has several claims there is told once.
                let mut last = None;
                let mut count = 0;
                for ((key, _), waiter) in below.range(..(key, 0)) {
                    if last != Some(*waiter) {
                        found.push((*key, *waiter));
                        last = Some(*waiter);
                        count += 1;
                    }
                    if count == most {
                        break;
                    }
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(most);
    let told = |(_, slot): (QueueKey, u32)| {
        let waiter = state.waiter(slot);
        let mut claims = waiter.acquire.targets.claims();
        let resource = claims.find(|other| claim.touches(*other)).map(|other| other.resource);
        HeldWaiter {
            holder: waiter.acquire.holder.clone(),
            actor: waiter.actor().cloned(),
            priority: waiter.acquire.priority.get(),
            waited_ms: view.now.since(waiter.since),
            resource: resource.filter(|name| *name != claim.resource).cloned(),
        }
    };
    found.into_iter().map(told).collect()
}

/// For how long a lease keeps its resources closed, or will; `None`: it doesn't.
pub(crate) fn closed_ms(view: View<'_>, lease: u32) -> Option<u64> {
    let state = view.state;
    if !state.is_closing(lease) {
        return None;
    }
    let granted = &state.lease(lease).granted;
    let delay = granted.terms().and_then(|terms| terms.lock_delay);
    Some(match state.closed.get(&granted.token) {
        Some(known) => known.closed.until.since(state.durable_now(view.now)),
        None => delay.map_or(0, |delay| delay.ms()),
    })
}

/// How many attached waiters that may touch a claim stand before `key`, counted up to a bound.
fn position(view: View<'_>, claim: Claim<'_>, key: QueueKey) -> u32 {
    let state = view.state;
    let Some(space) = view.space else { return 0 };
    let most = limits::POSITION_MAX;
    let mut count = 0;
    // Of a subtree one waiter may have several claims, and counts once.
    let mut keys = BTreeSet::new();
    for (slot, is_all) in state.walk(space, claim.resource.as_str()) {
        let node = state.node(slot);
        for class in Class::ALL.into_iter().filter(|class| is_all || class.is_subtree()) {
            let before = node.queue().into_iter().flat_map(|queue| queue.before(class, key));
            let before = before.take(most);
            match claim.reach {
                Reach::Exact => count += before.count(),
                Reach::Subtree => keys.extend(before.map(|((_, key), _)| *key)),
            }
        }
        if is_all
            && claim.reach == Reach::Subtree
            && let Some(waiting) = node.waiting()
        {
            let below = [&waiting.shared, &waiting.unshared].into_iter();
            let before = below.flat_map(|waiters| waiters.range(..(key, 0)));
            for ((key, _), _) in before {
                keys.insert(*key);
                if keys.len() >= most {
                    break;
                }
            }
        }
    }
    u32::try_from((count + keys.len()).min(most)).expect("bounded")
}
