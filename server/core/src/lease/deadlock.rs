//! Deadlock: would an actor that is to wait, or to get a lease, ever finish?
//!
//! An actor finishes when all waits by it and by its descendants can be served, and a wait can be
//! served when all that stands in its way belongs to actors that finish. Of permits, those of
//! actors that don't finish are never given back. What is no solution of this stays for ever; the
//! refusal names a way back to where it began.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    vec::Vec,
};

use super::blockers::{Blocker, Stake, blockers};
use crate::{
    change::LeaseGranted,
    command::AcquireLease,
    limits,
    overlay::View,
    refusal::{Cap, Deadlock, DeadlockRelation, DeadlockStep, Refusal},
    tree::QueueKey,
    types::{Actor, Claim, Holder, Mode, Targets},
};

/// Leases of an actor, or its descendants, that are looked at before a search.
const PRELUDE_MAX: usize = 256;

/// What is supposed to be the case.
#[derive(Clone, Copy)]
pub(crate) enum Hypothesis<'a> {
    /// This one is queued behind all of its priority.
    Newcomer(&'a AcquireLease),
    /// This detached waiter is attached.
    Attached(u32),
    /// This lease is this actor's, and this holder's.
    Transferred(&'a LeaseGranted, &'a Actor, &'a Holder),
}

/// One wait: of a waiter, or the one supposed.
#[derive(Clone, Copy)]
pub(crate) struct Wait<'a> {
    pub(crate) targets: &'a Targets,
    pub(crate) key: QueueKey,
    pub(crate) actor: &'a Actor,
    pub(crate) holder: &'a Holder,
    /// It is the one supposed.
    pub(crate) is_supposed: bool,
}

/// The state as it would be.
#[derive(Clone, Copy)]
pub(crate) struct Supposed<'a> {
    pub(crate) view: View<'a>,
    pub(crate) wait: Option<Wait<'a>>,
    pub(crate) transferred: Option<(&'a LeaseGranted, &'a Actor, &'a Holder)>,
}

/// Refuses the grant of a free resource that would close a cycle: by its priority it may come
/// before others, for whom an actor with waits of its own, or of its descendants, is no end.
pub(crate) fn check_grant(view: View<'_>, acquire: &AcquireLease) -> Result<(), Refusal> {
    let actor = acquire.terms.as_deref().and_then(|terms| terms.actor.as_ref());
    let (Some(actor), Some(space)) = (actor, view.space) else { return Ok(()) };
    let (from, to) = actor.descendants();
    let own = view.state.actors.get(&(space, actor.clone()));
    let own = own.is_some_and(|acting| !acting.waiters.is_empty());
    let below = view.state.actors.range((space, from)..(space, to)).enumerate();
    let mut below = below.take(PRELUDE_MAX + 1);
    if own
        || view.is_within()
        || below.any(|(count, (_, acting))| count == PRELUDE_MAX || !acting.waiters.is_empty())
    {
        check(view, &Hypothesis::Newcomer(acquire))?;
    }
    Ok(())
}

/// Refuses what would close a cycle.
pub(crate) fn check(view: View<'_>, hypothesis: &Hypothesis<'_>) -> Result<(), Refusal> {
    let Some((supposed, start)) = suppose(view, hypothesis) else { return Ok(()) };
    if !may_close(supposed, start) {
        return Ok(());
    }
    let mut search = Search::new(supposed);
    search.explore(start)?;
    search.reduce();
    if search.finishes(0) { Ok(()) } else { Err(Refusal::Deadlock(Box::new(search.name()))) }
}

fn suppose<'a>(view: View<'a>, hypothesis: &Hypothesis<'a>) -> Option<(Supposed<'a>, &'a Actor)> {
    let (wait, transferred) = match *hypothesis {
        Hypothesis::Newcomer(acquire) => {
            let key = QueueKey::newcomer(acquire.priority.get());
            (Some(wait_of(acquire, key, true)?), None)
        }
        Hypothesis::Attached(slot) => {
            let waiter = view.state.waiter(slot);
            (Some(wait_of(&waiter.acquire, waiter.key(), true)?), None)
        }
        Hypothesis::Transferred(lease, actor, holder) => (None, Some((lease, actor, holder))),
    };
    let start = wait.map(|wait| wait.actor).or(transferred.map(|(_, actor, _)| actor))?;
    Some((Supposed { view, wait, transferred }, start))
}

fn wait_of(acquire: &AcquireLease, key: QueueKey, is_supposed: bool) -> Option<Wait<'_>> {
    let actor = acquire.terms.as_deref()?.actor.as_ref()?;
    let (targets, holder) = (&acquire.targets, &acquire.holder);
    Some(Wait { targets, key, actor, holder, is_supposed })
}

/// Whether anybody could wait for it: a quick no for one who holds nothing that anybody waits for,
/// waits for nothing else, and is put in front of nobody.
fn may_close(supposed: Supposed<'_>, start: &Actor) -> bool {
    let Some(wait) = supposed.wait else { return true };
    let view = supposed.view;
    if view.is_within() {
        return true;
    }
    let Some(space) = view.space else { return false };
    let is_in_front = wait.targets.claims().any(|claim| has_behind(view, claim, wait.key));
    is_in_front
        || start.ancestry().any(|actor| {
            let Some(acting) = view.state.actors.get(&(space, actor)) else { return false };
            let others = acting.waiters.iter();
            others.copied().any(|waiter| view.state.waiter(waiter).is_attached())
                // Of many it is not asked: the search itself counts its steps.
                || acting.leases.len() > PRELUDE_MAX
                || acting.leases.iter().any(|(_, lease)| is_wanted(view, *lease, wait))
        })
}

/// Somebody may wait for a lease, or `wait` does.
fn is_wanted(view: View<'_>, lease: u32, wait: Wait<'_>) -> bool {
    view.state.lease(lease).granted.claims().any(|claim| {
        wait.targets.claims().any(|wanted| wanted.touches(claim))
            || has_behind(view, claim, QueueKey::FIRST)
    })
}

/// An attached waiter that may touch a claim stands at `key` or behind it.
fn has_behind(view: View<'_>, claim: Claim<'_>, key: QueueKey) -> bool {
    let Some(space) = view.space else { return false };
    let state = view.state;
    state.walk(space, claim.resource.as_str()).any(|(slot, is_all)| {
        let node = state.node(slot);
        node.queue().is_some_and(|queue| queue.has_from(key, !is_all))
            || (is_all && node.waiting().is_some_and(|waiting| waiting.has_from(key)))
    })
}

impl<'a> Supposed<'a> {
    /// Attached waits of one actor.
    fn waits_of(self, actor: &Actor) -> Vec<Wait<'a>> {
        let state = self.view.state;
        let acting = self.view.space.and_then(|space| state.actors.get(&(space, actor.clone())));
        let slots = acting.into_iter().flat_map(|acting| acting.waiters.iter().copied());
        let attached = slots.filter(|slot| state.waiter(*slot).is_attached());
        let own = attached.filter_map(|slot| {
            let waiter = state.waiter(slot);
            wait_of(&waiter.acquire, waiter.key(), false)
        });
        own.chain(self.wait.filter(|wait| wait.actor == actor)).collect()
    }

    /// Descendants of an actor that may wait.
    fn descendants(self, actor: &Actor) -> Vec<Actor> {
        let state = self.view.state;
        let mut found: Vec<Actor> = match self.view.space {
            None => Vec::new(),
            Some(space) => {
                let (from, to) = actor.descendants();
                let range = state.actors.range((space, from)..(space, to));
                let range = range.take(limits::DEADLOCK_STEPS_MAX);
                let waiting = range.filter(|(_, acting)| !acting.waiters.is_empty());
                waiting.map(|((_, actor), _)| actor.clone()).collect()
            }
        };
        if let Some(wait) = self.wait
            && wait.actor != actor
            && wait.actor.is_within(actor)
            && !found.contains(wait.actor)
        {
            found.push(wait.actor.clone());
        }
        found
    }
}

/// What is known of the actors on which the first one depends.
struct Search<'a> {
    supposed: Supposed<'a>,
    actors: Vec<Known>,
    places: BTreeMap<Actor, usize>,
    steps: usize,
}

/// One actor.
struct Known {
    actor: Actor,
    holder: Option<Holder>,
    finishes: bool,
    /// All of these must finish.
    needs: Vec<(usize, DeadlockRelation)>,
    pools: Vec<Pool>,
}

/// Permits that must come back: `wanted` and those of actors that don't finish fit into `limit`.
struct Pool {
    limit: u64,
    wanted: u64,
    stakes: Vec<(usize, u64, DeadlockRelation)>,
}

impl<'a> Search<'a> {
    const fn new(supposed: Supposed<'a>) -> Self {
        Self { supposed, actors: Vec::new(), places: BTreeMap::new(), steps: 0 }
    }

    /// Where an actor is known; new ones are looked at later.
    fn place(&mut self, actor: &Actor, holder: Option<&Holder>) -> usize {
        if let Some(place) = self.places.get(actor) {
            if let Some(known) = self.actors.get_mut(*place) {
                known.holder = known.holder.take().or_else(|| holder.cloned());
            }
            return *place;
        }
        let place = self.actors.len();
        self.places.insert(actor.clone(), place);
        self.actors.push(Known {
            actor: actor.clone(),
            holder: holder.cloned(),
            finishes: false,
            needs: Vec::new(),
            pools: Vec::new(),
        });
        place
    }

    fn explore(&mut self, start: &Actor) -> Result<(), Refusal> {
        let holder = self.supposed.wait.map(|wait| wait.holder);
        let holder = holder.or(self.supposed.transferred.map(|(_, _, holder)| holder));
        self.place(start, holder);
        let mut next = 0;
        while let Some(actor) = self.actors.get(next).map(|known| known.actor.clone()) {
            for child in self.supposed.descendants(&actor) {
                let place = self.place(&child, None);
                self.need(next, place, DeadlockRelation::Child)?;
            }
            for wait in self.supposed.waits_of(&actor) {
                self.explore_wait(next, wait)?;
            }
            next += 1;
        }
        Ok(())
    }

    fn explore_wait(&mut self, of: usize, wait: Wait<'a>) -> Result<(), Refusal> {
        if let Some(known) = self.actors.get_mut(of) {
            known.holder.get_or_insert_with(|| wait.holder.clone());
        }
        for claim in wait.targets.claims() {
            let found = blockers(self.supposed, wait, claim, &mut self.steps);
            self.bound()?;
            let mut stakes = Vec::new();
            for Blocker { actor, holder, relation, stake } in found {
                let place = self.place(&actor, Some(&holder));
                match stake {
                    Stake::All => self.need(of, place, relation)?,
                    Stake::Permits(count) => stakes.push((place, count, relation)),
                }
            }
            if let Mode::Permits(permits) = claim.mode
                && let Some(known) = self.actors.get_mut(of)
            {
                let (limit, wanted) = (u64::from(permits.limit()), u64::from(permits.count()));
                known.pools.push(Pool { limit, wanted, stakes });
            }
        }
        Ok(())
    }

    fn need(&mut self, of: usize, on: usize, relation: DeadlockRelation) -> Result<(), Refusal> {
        self.steps += 1;
        self.bound()?;
        if let Some(known) = self.actors.get_mut(of) {
            known.needs.push((on, relation));
        }
        Ok(())
    }

    /// So much is looked at and no more: to go on would hold up everybody else.
    const fn bound(&self) -> Result<(), Refusal> {
        if self.steps > limits::DEADLOCK_STEPS_MAX {
            let maximum = limits::DEADLOCK_STEPS_MAX as u64;
            return Err(Refusal::Quota { cap: Cap::DeadlockSearch, maximum });
        }
        Ok(())
    }

    fn finishes(&self, place: usize) -> bool {
        self.actors.get(place).is_some_and(|known| known.finishes)
    }

    /// Finds all that finish: those that need nobody, then whoever needs only those, and so on.
    fn reduce(&mut self) {
        let mut counts: Vec<Count> = self.actors.iter().map(Count::of).collect();
        let mut dependents: Vec<Vec<Dependent>> = self.actors.iter().map(|_| Vec::new()).collect();
        for (place, known) in self.actors.iter().enumerate() {
            let needs = known.needs.iter().map(|(on, _)| (*on, None));
            let pools = known.pools.iter().enumerate();
            let stakes = pools.flat_map(|(number, pool)| {
                pool.stakes.iter().map(move |(on, count, _)| (*on, Some((number, *count))))
            });
            for (on, stake) in needs.chain(stakes) {
                if let Some(of) = dependents.get_mut(on) {
                    of.push((place, stake));
                }
            }
        }
        let free = counts.iter().enumerate().filter(|(_, count)| count.unmet == 0);
        let mut done: Vec<usize> = free.map(|(place, _)| place).collect();
        while let Some(place) = done.pop() {
            if let Some(known) = self.actors.get_mut(place) {
                known.finishes = true;
            }
            for (of, stake) in dependents.get(place).into_iter().flatten() {
                let (Some(count), Some(known)) = (counts.get_mut(*of), self.actors.get(*of)) else {
                    continue;
                };
                if count.meet(known, *stake) {
                    done.push(*of);
                }
            }
        }
    }

    fn is_stuck(&self, pool: &Pool) -> bool {
        let stuck = pool.stakes.iter().filter(|(on, ..)| !self.finishes(*on));
        let kept: u64 = stuck.map(|(_, count, _)| *count).sum();
        pool.wanted + kept > pool.limit
    }

    /// What an actor that doesn't finish waits for in vain.
    fn in_vain(&self, place: usize) -> Vec<(usize, &DeadlockRelation)> {
        let Some(known) = self.actors.get(place) else { return Vec::new() };
        let needs = known.needs.iter().map(|(on, relation)| (*on, relation));
        let pools = known.pools.iter().filter(|pool| self.is_stuck(pool));
        let stakes = pools.flat_map(|pool| &pool.stakes).map(|(on, _, relation)| (*on, relation));
        needs.chain(stakes).filter(|(on, _)| !self.finishes(*on)).collect()
    }

    /// A short way from the first actor back to it, among those that don't finish.
    fn name(&self) -> Deadlock {
        let mut from: BTreeMap<usize, (usize, &DeadlockRelation)> = BTreeMap::new();
        let mut queue = VecDeque::from([0]);
        'search: while let Some(place) = queue.pop_front() {
            for (on, relation) in self.in_vain(place) {
                if let Entry::Vacant(unknown) = from.entry(on) {
                    unknown.insert((place, relation));
                    if on == 0 {
                        break 'search;
                    }
                    queue.push_back(on);
                }
            }
        }
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some((before, relation)) = from.get(&at) {
            if let Some(known) = self.actors.get(*before) {
                steps.push(DeadlockStep {
                    actor: known.actor.clone(),
                    holder: known.holder.clone(),
                    relation: (*relation).clone(),
                });
            }
            at = *before;
            if at == 0 {
                break;
            }
        }
        if at != 0 || steps.is_empty() {
            steps = self.loop_apart();
        }
        steps.reverse();
        let step_count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        steps.truncate(limits::CYCLE_TOLD_MAX);
        Deadlock { cycle: steps, step_count }
    }

    /// A cycle that the first actor is not part of, last step first: it was there before.
    fn loop_apart(&self) -> Vec<DeadlockStep> {
        let mut way: Vec<(usize, &DeadlockRelation)> = Vec::new();
        let mut at = 0;
        while let Some((on, relation)) = self.in_vain(at).first().copied() {
            way.push((at, relation));
            at = on;
            if let Some(begin) = way.iter().position(|(place, _)| *place == on) {
                way.drain(..begin);
                break;
            }
        }
        let step = |(place, relation): &(usize, &DeadlockRelation)| {
            let known = self.actors.get(*place)?;
            let (actor, holder) = (known.actor.clone(), known.holder.clone());
            Some(DeadlockStep { actor, holder, relation: (*relation).clone() })
        };
        way.iter().rev().filter_map(step).collect()
    }
}

/// One that depends on an actor, and with how many permits of which of its pools, if not with all.
type Dependent = (usize, Option<(usize, u64)>);

/// What one actor still needs.
struct Count {
    /// Needs and pools that are not met.
    unmet: usize,
    /// For each pool: permits of those that are not known to finish.
    kept: Vec<u64>,
}

impl Count {
    fn of(known: &Known) -> Self {
        let kept: Vec<u64> = known
            .pools
            .iter()
            .map(|pool| pool.stakes.iter().map(|(_, count, _)| *count).sum())
            .collect();
        let pools = known.pools.iter().zip(&kept);
        let stuck = pools.filter(|(pool, kept)| pool.wanted + **kept > pool.limit).count();
        Self { unmet: known.needs.len() + stuck, kept }
    }

    /// One more of those it depends on finishes; true: that was the last it needed.
    fn meet(&mut self, known: &Known, stake: Option<(usize, u64)>) -> bool {
        let Some((number, count)) = stake else {
            self.unmet -= 1;
            return self.unmet == 0;
        };
        let (Some(kept), Some(pool)) = (self.kept.get_mut(number), known.pools.get(number)) else {
            return false;
        };
        let was_stuck = pool.wanted + *kept > pool.limit;
        *kept -= count;
        let is_met = was_stuck && pool.wanted + *kept <= pool.limit;
        self.unmet -= usize::from(is_met);
        is_met && self.unmet == 0
    }
}
