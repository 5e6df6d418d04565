//! Folds what an engine found into what the machine is rebuilt from. The same for every
//! engine; touches no file.

use std::collections::{BTreeMap, VecDeque};

use singletrack_core::{
    change::{Change, RowKey, Transaction},
    limits::REVISION_END,
    types::Revision,
};

use super::{
    Entry, Recovered,
    coalesce::{Image, Pending},
    codec::{Flawed, Marker},
};

/// A place in the log: everything up to `revision` lies at or before `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Commit revision of an entry.
    pub(super) revision: Revision,
    /// Where the engine keeps it: a sequence number, dense from 1.
    pub(super) place: u64,
}

/// Points of the log, oldest first; sparse, as space is freed by whole segments.
#[derive(Debug)]
pub(super) struct Points {
    points: VecDeque<Point>,
    grain: u64,
    since: u64,
}

impl Points {
    /// With about `grain` bytes of log from point to point.
    #[must_use]
    pub(super) fn new(grain: u64) -> Self {
        Self { points: VecDeque::new(), grain, since: 0 }
    }

    /// Notes an entry of so many bytes.
    pub(super) fn note(&mut self, point: Point, bytes: u64) {
        self.since += bytes;
        if self.since >= self.grain || self.points.is_empty() {
            self.since = 0;
            self.points.push_back(point);
        }
    }

    /// The last place that `through` covers; forgets everything up to it.
    pub(super) fn release(&mut self, through: Revision) -> Option<u64> {
        let mut last = None;
        while let Some(point) = self.points.pop_front_if(|point| point.revision <= through) {
            last = Some(point.place);
        }
        last
    }
}

/// The fold over the entries of the log, oldest first.
#[derive(Debug)]
pub(super) struct Fold {
    marker: Marker,
    last: Option<Revision>,
    memory: Vec<Change>,
    pending: Pending,
    pending_bytes: u64,
    points: Points,
}

/// What a fold ends in.
#[derive(Debug)]
pub(super) struct Folded {
    /// For the machine.
    pub(super) recovered: Recovered,
    /// The start entry, to be made durable before anything is answered.
    pub(super) start: Entry,
    /// Commit revision of the last entry before the start entry.
    pub(super) last: Revision,
    /// What the next snapshot has to write, the start entry included.
    pub(super) pending: Pending,
    /// Bytes of log behind the marker.
    pub(super) pending_bytes: u64,
    /// Where the log can be cut.
    pub(super) points: Points,
}

impl Fold {
    /// Begins at the state's marker; the log can be cut about every `grain` bytes.
    #[must_use]
    pub(super) fn new(marker: Marker, grain: u64) -> Self {
        Self {
            marker,
            last: None,
            memory: Vec::new(),
            pending: Pending::default(),
            pending_bytes: 0,
            points: Points::new(grain),
        }
    }

    /// Takes the next entry, which says that it follows `after`.
    ///
    /// # Errors
    /// When entries are missing before it.
    pub(super) fn entry(
        &mut self,
        place: u64,
        after: Revision,
        entry: &Entry,
        bytes: u64,
    ) -> Result<(), Flawed> {
        match self.last {
            Some(last) if last != after => {
                return Err(Flawed(format!("an entry that follows {after} comes after {last}")));
            }
            None if after > self.marker.through => {
                let through = self.marker.through;
                return Err(Flawed(format!(
                    "the log begins after {after}, but the state holds only what came up to \
                     {through}"
                )));
            }
            Some(_) | None => {}
        }
        let Some(commit) = entry.last() else {
            return Err(Flawed(String::from("an entry without transactions")));
        };
        self.last = Some(commit);
        self.points.note(Point { revision: commit, place }, bytes);
        self.remember(entry);
        if commit > self.marker.through {
            self.pending.absorb_found(entry);
            self.pending_bytes += bytes;
        }
        Ok(())
    }

    /// Replay memory is fed by all that is retained, also by what is behind the marker.
    fn remember(&mut self, entry: &Entry) {
        for change in entry.transactions.iter().flat_map(|transaction| &transaction.changes) {
            match change {
                Change::RequestRemembered(_)
                | Change::RequestAbandoned { .. }
                | Change::SessionEnded(_)
                | Change::SessionFloored { .. }
                | Change::LeaseEnded(_)
                | Change::LeaseClosed(_) => self.memory.push(change.clone()),
                Change::Started { .. }
                | Change::SessionOpened(_)
                | Change::SessionSwept { .. }
                | Change::TimePassed { .. }
                | Change::LeaseGranted(_)
                | Change::LeaseReopened { .. }
                | Change::RecordWritten(_)
                | Change::RecordDeleted(_)
                | Change::PrefixProtected(_)
                | Change::PrefixUnprotected(_) => {}
            }
        }
    }

    /// Lays the entries behind the marker over the rows of the state, and begins anew.
    ///
    /// # Errors
    /// When the log ends before a revision that it is known to have reached.
    pub(super) fn finish(
        mut self,
        mut rows: BTreeMap<RowKey, Change>,
        unix_us: u64,
    ) -> Result<Folded, Flawed> {
        let last = self.last.unwrap_or_default();
        let reached = self.marker.reached.max(self.marker.through);
        if last < reached {
            return Err(Flawed(format!("the log ends at {last}, but had reached {reached}")));
        }
        // A row that came and went since the last snapshot, and of which the state knows
        // nothing, needs no removal.
        self.pending.rows.retain(|key, image| match image {
            Image::New(_) | Image::Changed(_) => true,
            Image::Gone => rows.contains_key(key),
        });
        for (key, image) in &self.pending.rows {
            match image {
                Image::New(change) | Image::Changed(change) => {
                    rows.insert(key.clone(), change.clone());
                }
                Image::Gone => {
                    rows.remove(key);
                }
            }
        }
        // A wall clock beyond the year 2112 is wrong, and would leave no revisions to go on with;
        // the log alone then leads on.
        let unix_us = if unix_us < REVISION_END / 2 { unix_us } else { 0 };
        let revision = Revision(unix_us.max(last.0 + 1));
        let start = Entry {
            transactions: vec![Transaction {
                commit: revision,
                changes: vec![Change::Started { revision }],
            }],
        };
        self.pending.through = revision;
        Ok(Folded {
            recovered: Recovered {
                revision,
                rows: rows.into_values().collect(),
                memory: self.memory,
            },
            start,
            last,
            pending: self.pending,
            pending_bytes: self.pending_bytes,
            points: self.points,
        })
    }
}
