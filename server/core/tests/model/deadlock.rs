//! Who can still be served: the least solution, by trying everybody until nothing changes.

use std::collections::BTreeSet;

use singletrack_core::{
    refusal::{Deadlock, DeadlockRelation},
    types::Target,
};

use super::claims::{clash, is_below_or_same, limit_of, permits_of};

/// What is held, by whom.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) actor: Option<String>,
    pub(crate) holder: String,
    pub(crate) targets: Vec<Target>,
    /// A newcomer that would be granted at once: told as one that waits before.
    pub(crate) is_supposed: bool,
}

/// Somebody without an end in sight that a waiter waits for.
struct Blocker<'a> {
    actor: &'a str,
    /// It waits before; else it holds.
    waits: bool,
    /// The two claims.
    names: [&'a str; 2],
}

/// Who waits, attached; in the order in which they are served.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) actor: Option<String>,
    pub(crate) holder: String,
    pub(crate) targets: Vec<Target>,
    /// To tell it from others.
    pub(crate) seq: u64,
}

/// All leases and attached waiters of a namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) leases: Vec<Held>,
    pub(crate) waits: Vec<Wait>,
}

impl Scene {
    /// The waits, by seq, of actors that can never be served.
    pub(crate) fn stuck(&self) -> BTreeSet<u64> {
        let mut stuck: BTreeSet<u64> =
            self.waits.iter().filter(|it| it.actor.is_some()).map(|it| it.seq).collect();
        while let Some(served) =
            (0..self.waits.len()).find(|at| self.is_stuck(*at, &stuck) && self.serves(*at, &stuck))
        {
            stuck.remove(&self.waits[served].seq);
        }
        stuck
    }

    /// A plain search for cycles, which takes every holder of permits for an obstacle, would find
    /// one.
    pub(crate) fn seems_stuck(&self) -> bool {
        let mut stuck: BTreeSet<u64> =
            self.waits.iter().filter(|it| it.actor.is_some()).map(|it| it.seq).collect();
        let meets = |at: usize, stuck: &BTreeSet<u64>| {
            let wait = &self.waits[at];
            let leases = self.leases.iter().map(|it| (&it.actor, &it.targets));
            let before = self.waits[..at].iter().map(|it| (&it.actor, &it.targets));
            leases.chain(before).any(|(actor, targets)| {
                !self.finishes(actor.as_deref(), stuck)
                    && wait.targets.iter().any(|own| {
                        targets.iter().any(|it| {
                            clash(own, it)
                                || permits_of(std::slice::from_ref(it), own.resource.as_str()) > 0
                        })
                    })
            })
        };
        while let Some(free) =
            (0..self.waits.len()).find(|at| self.is_stuck(*at, &stuck) && !meets(*at, &stuck))
        {
            stuck.remove(&self.waits[free].seq);
        }
        !stuck.is_empty()
    }

    fn is_stuck(&self, at: usize, stuck: &BTreeSet<u64>) -> bool {
        stuck.contains(&self.waits[at].seq)
    }

    /// All waits by it and by its descendants are served.
    fn finishes(&self, actor: Option<&str>, stuck: &BTreeSet<u64>) -> bool {
        let Some(actor) = actor else { return true };
        self.waits.iter().all(|wait| {
            let own = wait.actor.as_deref().is_some_and(|it| is_below_or_same(it, actor));
            !own || !stuck.contains(&wait.seq)
        })
    }

    fn serves(&self, at: usize, stuck: &BTreeSet<u64>) -> bool {
        self.blockers(at, stuck).is_empty()
    }

    /// What keeps a waiter from ever being served.
    fn blockers(&self, at: usize, stuck: &BTreeSet<u64>) -> Vec<Blocker<'_>> {
        let wait = &self.waits[at];
        let leases = self.leases.iter().map(|it| (&it.actor, &it.targets, it.is_supposed));
        let before = self.waits[..at].iter().map(|it| (&it.actor, &it.targets, true));
        let lasting: Vec<(&str, &Vec<Target>, bool)> = leases
            .chain(before)
            .filter(|it| !self.finishes(it.0.as_deref(), stuck))
            .filter_map(|(actor, targets, waits)| Some((actor.as_deref()?, targets, waits)))
            .collect();
        let mut found = Vec::new();
        for own in &wait.targets {
            let name = own.resource.as_str();
            let kept: u64 = lasting.iter().map(|it| permits_of(it.1, name)).sum();
            let limit = limit_of(std::slice::from_ref(own), name).map_or(u64::MAX, u64::from);
            let is_short = kept.saturating_add(permits_of(&wait.targets, name)) > limit;
            for (actor, targets, waits) in &lasting {
                for other in *targets {
                    let takes = is_short && permits_of(std::slice::from_ref(other), name) > 0;
                    if clash(own, other) || takes {
                        found.push(Blocker {
                            actor,
                            waits: *waits,
                            names: [name, other.resource.as_str()],
                        });
                    }
                }
            }
        }
        found
    }

    /// Every step of a cycle is true here, and it closes.
    pub(crate) fn check_cycle(&self, told: &Deadlock) {
        let steps = &told.cycle;
        assert!(!steps.is_empty(), "a cycle has a step");
        assert_eq!(steps.len(), told.step_count as usize, "a short cycle is told whole");
        let stuck = self.stuck();
        for (at, step) in steps.iter().enumerate() {
            let next = &steps[(at + 1) % steps.len()];
            let (from, to) = (step.actor.as_str(), next.actor.as_str());
            assert!(
                self.is_true(from, to, &step.relation, &stuck),
                "{from} depends on {to} by {:?}, in {told:?}\nof {self:#?}",
                step.relation
            );
            if let Some(holder) = &step.holder {
                assert!(self.is_of(holder.as_str(), from), "{holder} acts for {from} in {told:?}");
            }
        }
        let actors: BTreeSet<&str> = steps.iter().map(|it| it.actor.as_str()).collect();
        assert_eq!(actors.len(), steps.len(), "a short cycle meets nobody twice: {told:?}");
    }

    fn is_of(&self, holder: &str, actor: &str) -> bool {
        let same = |it: &Option<String>| it.as_deref() == Some(actor);
        self.leases.iter().any(|it| same(&it.actor) && it.holder == holder)
            || self.waits.iter().any(|it| same(&it.actor) && it.holder == holder)
    }

    fn is_true(
        &self,
        from: &str,
        to: &str,
        relation: &DeadlockRelation,
        stuck: &BTreeSet<u64>,
    ) -> bool {
        if self.finishes(Some(to), stuck) {
            return false;
        }
        let (waits, name) = match relation {
            DeadlockRelation::Child => return from != to && is_below_or_same(to, from),
            DeadlockRelation::Holds(name) => (false, name.as_str()),
            DeadlockRelation::WaitsBefore(name) => (true, name.as_str()),
        };
        (0..self.waits.len())
            .filter(|at| {
                self.waits[*at].actor.as_deref() == Some(from) && self.is_stuck(*at, stuck)
            })
            .flat_map(|at| self.blockers(at, stuck))
            .any(|it| it.actor == to && it.waits == waits && it.names.contains(&name))
    }
}
