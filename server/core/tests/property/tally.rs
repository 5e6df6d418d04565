//! What the histories met. A full run must have met all of it, else it proves less than it says.

use std::collections::BTreeMap;

use singletrack_core::refusal::{Deadlock, DeadlockRelation};

use crate::model::{
    Met,
    claims::{limit_of, permits_of},
    deadlock::Scene,
};

/// How often each situation was met.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<Met, u64>);

impl Tally {
    pub(super) fn add(&mut self, met: impl IntoIterator<Item = Met>) {
        for it in met {
            *self.0.entry(it).or_default() += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (met, count) in &other.0 {
            *self.0.entry(*met).or_default() += count;
        }
    }

    pub(super) fn add_cycle(&mut self, cycle: &Deadlock, scene: &Scene) {
        self.add([match cycle.step_count {
            1 => Met::DeadlockOfOne,
            2 => Met::DeadlockOfTwo,
            _ => Met::DeadlockOfMany,
        }]);
        for step in &cycle.cycle {
            match &step.relation {
                DeadlockRelation::Child => self.add([Met::DeadlockWithChild]),
                DeadlockRelation::WaitsBefore(_) => self.add([Met::DeadlockByWaiter]),
                DeadlockRelation::Holds(name) => {
                    let of = scene.waits.iter().filter(|it| {
                        it.actor.as_deref() == Some(step.actor.as_str())
                            && limit_of(&it.targets, name.as_str()).is_some()
                    });
                    let held = scene.leases.iter();
                    let shared =
                        held.clone().filter(|it| permits_of(&it.targets, name.as_str()) > 0);
                    if of.count() > 0 && shared.count() > 0 {
                        self.add([Met::DeadlockByPermits]);
                    }
                }
            }
        }
    }

    /// Shows what was met, if that is asked for.
    #[expect(clippy::print_stdout, reason = "shown with --nocapture")]
    pub(super) fn show(&self) {
        if std::env::var_os("TALLY").is_some() {
            println!("{:#?}", self.0);
        }
    }

    /// All of these were met.
    pub(super) fn check(&self, all: &[Met]) {
        let missing: Vec<Met> =
            all.iter().copied().filter(|met| !self.0.contains_key(met)).collect();
        assert!(missing.is_empty(), "no history met {missing:?}, of {:#?}", self.0);
    }
}
