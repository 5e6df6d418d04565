//! What is durable and what the log says are one: restarts, rows, snapshots of any moment.

use std::collections::BTreeMap;

use singletrack_core::{
    change::{Change, RecordLife, RowKey, Trace},
    decision::Decision,
    limits::{self, Quotas},
    machine::Machine,
    types::{DurableMs, Ms, Now, Revision},
};

use super::Pair;

impl Pair {
    /// The rows and the youngest minute of the log are all that is left.
    pub(super) fn restart(&mut self) {
        let revision = self.machine.state().revision().next();
        let rows = self.check_rows();
        let now = self.now.ms;
        self.log.retain(|(at, _)| at.plus(limits::MEMORY_MS) > now);
        let memory = self.log.iter().map(|(_, change)| change);
        self.machine = Machine::recover(2, Quotas::default(), revision, &rows, memory);
        assert_eq!(self.machine.rows(), rows, "what was durable is there");
        self.log.iter_mut().for_each(|(at, _)| *at = Ms(0));
        self.now = Now { ms: Ms(0) };
        self.base = durable_of(&rows);
        if self.slices.is_none() {
            self.model.restart(self.base);
        }
    }

    /// The log alone makes the same rows, and they make the same machine.
    pub(in super::super) fn check_rows(&self) -> Vec<Change> {
        let rows: Vec<Change> = self.rows.values().cloned().collect();
        assert_eq!(self.machine.rows(), rows, "the log makes the same rows");
        let revision = self.machine.state().revision();
        let twice = rows.iter().flat_map(|it| [it, it]);
        let second = Machine::recover(99, Quotas::default(), revision, twice, []);
        second.check();
        assert_eq!(second.rows(), rows, "rows survive recovery, whatever the seed");
        let stored = rows.iter().filter_map(|row| match row {
            Change::RecordWritten(it) => it.stored(),
            _ => None,
        });
        let (mut stored, bodies) = (stored.collect::<Vec<_>>(), self.bodies.keys().copied());
        stored.sort();
        assert_eq!(stored, bodies.collect::<Vec<_>>(), "bodies are stored that records need");
        rows
    }

    /// A snapshot of any moment and the rest of the log make the same.
    pub(in super::super) fn check_cuts(&self) {
        let rows = self.machine.rows();
        let count = self.history.len();
        for cut in [count / 4, count / 2, count.saturating_sub(2)] {
            let (before, after) = self.history.split_at(cut);
            let before = || before.iter().flat_map(|(_, changes)| changes);
            let mut early = BTreeMap::new();
            before().for_each(|change| lay(&mut early, change));
            let early: Vec<Change> = early.into_values().collect();
            let revision = before().map(Change::revision).max().unwrap_or(Revision(1));
            let mut machine = Machine::recover(5, Quotas::default(), revision, &early, []);
            machine.check();
            assert_eq!(machine.rows(), early, "what was durable then is there");
            let base = durable_of(&early);
            let mut now = Now { ms: Ms(0) };
            for (at, changes) in after {
                now.ms = now.ms.max(Ms(at.saturating_sub(base)));
                let decision = Decision { changes: changes.clone(), ..Decision::default() };
                machine.take(now, &decision);
            }
            machine.check();
            assert_eq!(machine.rows(), rows, "a snapshot and the rest of the log make the same");
        }
    }
}

/// What a change does to the rows.
pub(super) fn lay(rows: &mut BTreeMap<RowKey, Change>, change: &Change) {
    match change.trace() {
        Trace::Created(key) | Trace::Written(key) => {
            rows.insert(key, change.to_row());
        }
        Trace::Removed(key) => {
            rows.remove(&key);
        }
        Trace::None => {}
    }
}

/// How far durable time had come when all of this was written.
fn durable_of(rows: &[Change]) -> u64 {
    let each = rows.iter().map(|row| match row {
        Change::TimePassed { at, .. } => *at,
        Change::LeaseGranted(granted) => granted.granted_at,
        Change::LeaseClosed(closed) => closed.closed_at(),
        Change::RecordWritten(written) => match written.life {
            Some(RecordLife::Until { at, ttl }) => DurableMs(at.0 - ttl.ms()),
            Some(RecordLife::Bound(_)) | None => DurableMs(0),
        },
        _ => DurableMs(0),
    });
    each.max().unwrap_or_default().0
}
