//! The engine of tests: everything in memory, with faults on demand. Not for service, as
//! nothing outlives the process.
//!
//! A [`Disk`] outlives the engines opened on it. An engine that is fenced, crashed or failed
//! is dead; opening the disk again reads what had become durable, and of what had not, as much
//! as the test chose.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use singletrack_core::{
    change::{Change, RowKey},
    types::Revision,
};

use super::{
    Appender, Entry, Opened, Reader, Snapshotter, StoreError,
    codec::{self, Flawed, Marker},
    recovery::{Fold, Point, Points},
};

/// What a crash leaves of the record that was not yet synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    #[default]
    Lost,
    /// All of it: it was never acknowledged, and is there all the same.
    Kept,
    /// Its first half.
    Torn,
}

/// A fault that an append meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It fails, and nothing was written.
    Failing,
    /// It fails; whether the record is there is decided by the next crash.
    Ambiguous,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whoever opened last; engines of older openings are fenced.
    opening: u64,
    log: VecDeque<Vec<u8>>,
    /// Records ever released: the place of the first one in `log`, less one.
    released: u64,
    /// Written, not synced.
    unsynced: Option<Vec<u8>>,
    state: State,
    marker: Marker,
    /// Slices that no marker has confirmed.
    slices: Vec<State>,
    /// What a crash leaves of the unsynced record.
    tail: Tail,
    /// How many unconfirmed slices a crash leaves.
    slices_kept: usize,
    /// Appends to come until the fault strikes.
    append_fault: Option<(u64, Fault)>,
    /// Slices and markers to come until one fails.
    snapshot_fault: Option<u64>,
    release_fault: bool,
    stalling: bool,
    /// Appends that are held up now.
    stalled: usize,
}

/// What slices wrote; `None` is a removal.
#[derive(Clone, Debug, Default)]
struct State {
    rows: BTreeMap<RowKey, Option<Vec<u8>>>,
    bodies: BTreeMap<Revision, Option<Vec<u8>>>,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked elsewhere has already failed.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the disk, fencing whoever has it open. `unix_us` is the wall clock, in µs.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn open(&self, unix_us: u64) -> Result<Opened, StoreError> {
        let mut inner = self.lock();
        inner.opening += 1;
        self.shared.moved.notify_all();
        inner.settle();
        let mut fold = Fold::new(inner.marker, 0);
        for (place, record) in (inner.released + 1..).zip(&inner.log) {
            let (after, entry) = codec::decode_entry(record).map_err(damaged)?;
            fold.entry(place, after, &entry, length(record)).map_err(damaged)?;
        }
        let mut rows = BTreeMap::new();
        for (key, value) in &inner.state.rows {
            if let Some(value) = value {
                let (_, change, _) =
                    codec::decode_row(&codec::encode_key(key), value).map_err(damaged)?;
                rows.insert(key.clone(), change);
            }
        }
        let folded = fold.finish(rows, unix_us).map_err(damaged)?;
        let mut record = Vec::new();
        codec::encode_entry(folded.last, &folded.start, &mut record);
        inner.log.push_back(record);
        inner.marker.reached = folded.recovered.revision;
        let opening = inner.opening;
        drop(inner);
        let side = Side { disk: self.clone(), opening };
        Ok(Opened {
            appender: Box::new(MemoryAppender {
                side: side.clone(),
                last: folded.recovered.revision,
                written: 0,
                points: folded.points,
                dead: false,
            }),
            snapshotter: Box::new(MemorySnapshotter { side: side.clone() }),
            reader: Box::new(MemoryReader { disk: self.clone() }),
            recovered: folded.recovered,
            pending: folded.pending,
            pending_bytes: folded.pending_bytes,
        })
    }

    // === faults ===

    /// The machine stops: open engines are dead. Of an unsynced record and of the slices that
    /// no marker has confirmed yet, the next opening finds this much.
    pub fn crash(&self, tail: Tail, slices_kept: usize) {
        let mut inner = self.lock();
        inner.opening += 1;
        inner.tail = tail;
        inner.slices_kept = slices_kept;
        inner.settle();
        self.shared.moved.notify_all();
    }

    /// Everything on the disk is gone.
    pub fn wipe(&self) {
        let mut inner = self.lock();
        let opening = inner.opening + 1;
        *inner = Inner { opening, ..Inner::default() };
        self.shared.moved.notify_all();
    }

    /// The append after the next `skip` ones fails, and nothing of it is written.
    pub fn fail_append(&self, skip: u64) {
        self.lock().append_fault = Some((skip, Fault::Failing));
    }

    /// The append after the next `skip` ones fails, and the next opening finds `tail` of it.
    pub fn fail_append_ambiguously(&self, skip: u64, tail: Tail) {
        let mut inner = self.lock();
        inner.append_fault = Some((skip, Fault::Ambiguous));
        inner.tail = tail;
    }

    /// The slice or marker after the next `skip` ones fails.
    pub fn fail_snapshot(&self, skip: u64) {
        self.lock().snapshot_fault = Some(skip);
    }

    /// The next release fails.
    pub fn fail_release(&self) {
        self.lock().release_fault = true;
    }

    /// From now on appends are held up between write and sync, until [`Self::resume`].
    pub fn stall(&self) {
        self.lock().stalling = true;
    }

    /// Waits until an append is held up.
    pub fn await_stalled(&self) {
        let waits = |inner: &mut Inner| inner.stalled == 0;
        drop(
            self.shared
                .moved
                .wait_while(self.lock(), waits)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Lets held-up appends go on.
    pub fn resume(&self) {
        self.lock().stalling = false;
        self.shared.moved.notify_all();
    }

    /// Records that are durable and not released.
    #[must_use]
    pub fn records(&self) -> usize {
        self.lock().log.len()
    }

    /// Rows that the state holds, confirmed by a marker or not.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lock().whole().rows.into_values().flatten().count()
    }

    /// Bodies that the state holds, confirmed by a marker or not.
    #[must_use]
    pub fn bodies(&self) -> Vec<Revision> {
        let bodies = self.lock().whole().bodies.into_iter();
        bodies.filter_map(|(revision, value)| value.map(|_| revision)).collect()
    }

    /// Flips a bit of a body in the state.
    pub fn spoil_body(&self, revision: Revision) {
        let mut inner = self.lock();
        let value = inner.state.bodies.get_mut(&revision).and_then(Option::as_mut);
        if let Some(last) = value.and_then(|value| value.last_mut()) {
            *last ^= 1;
        }
    }
}

impl Inner {
    /// What was unclear becomes what the test chose.
    fn settle(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if let (Some(record), Tail::Kept) = (self.unsynced.take(), tail) {
            self.log.push_back(record);
        }
        let kept = std::mem::take(&mut self.slices_kept);
        let slices = std::mem::take(&mut self.slices);
        slices.into_iter().take(kept).for_each(|slice| self.state.lay(slice));
        self.append_fault = None;
        self.snapshot_fault = None;
        self.release_fault = false;
    }
}

impl Inner {
    /// The state with all slices.
    fn whole(&self) -> State {
        let mut state = self.state.clone();
        self.slices.iter().for_each(|slice| state.lay(slice.clone()));
        state
    }
}

impl State {
    fn lay(&mut self, slice: Self) {
        self.rows.extend(slice.rows);
        self.bodies.extend(slice.bodies);
    }
}

/// An engine's way to the disk it was opened on.
#[derive(Clone, Debug)]
struct Side {
    disk: Disk,
    opening: u64,
}

impl Side {
    fn lock(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.disk.lock();
        self.check(&inner)?;
        Ok(inner)
    }

    fn check(&self, inner: &Inner) -> Result<(), StoreError> {
        if inner.opening == self.opening {
            return Ok(());
        }
        Err(StoreError::Fenced(String::from("this memory was opened again, or crashed")))
    }
}

struct MemoryAppender {
    side: Side,
    last: Revision,
    written: u64,
    points: Points,
    dead: bool,
}

impl MemoryAppender {
    fn write(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let Some(commit) = entry.last() else {
            return Err(unknown("an entry without transactions"));
        };
        let mut record = Vec::new();
        codec::encode_entry(self.last, entry, &mut record);
        let mut inner = self.side.lock()?;
        let fault = match &mut inner.append_fault {
            Some((0, fault)) => Some(*fault),
            Some((skip, _)) => {
                *skip -= 1;
                None
            }
            None => None,
        };
        if fault == Some(Fault::Failing) {
            return Err(unknown("this append was to fail"));
        }
        let bytes = length(&record);
        inner.unsynced = Some(record);
        if fault == Some(Fault::Ambiguous) {
            return Err(unknown("this append was to fail, or not"));
        }
        let opening = self.side.opening;
        inner.stalled += 1;
        self.side.disk.shared.moved.notify_all();
        inner = self
            .side
            .disk
            .shared
            .moved
            .wait_while(inner, |inner| inner.stalling && inner.opening == opening)
            .unwrap_or_else(PoisonError::into_inner);
        inner.stalled = inner.stalled.saturating_sub(1);
        self.side.check(&inner)?;
        let record = inner.unsynced.take().expect("one appender writes one record at a time");
        inner.log.push_back(record);
        let place = inner.released + u64::try_from(inner.log.len()).unwrap_or(u64::MAX);
        self.points.note(Point { revision: commit, place }, bytes);
        self.written += bytes;
        self.last = commit;
        Ok(())
    }
}

impl Appender for MemoryAppender {
    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if self.dead {
            return Err(unknown("an earlier append failed"));
        }
        let outcome = self.write(entry);
        self.dead = outcome.is_err();
        outcome
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }

    fn release(&mut self, through: Revision) -> Result<(), StoreError> {
        let mut inner = self.side.lock()?;
        if inner.release_fault {
            self.dead = true;
            return Err(unknown("this release was to fail"));
        }
        if let Some(place) = self.points.release(through) {
            while inner.released < place && inner.log.len() > 1 {
                inner.log.pop_front();
                inner.released += 1;
            }
        }
        Ok(())
    }
}

struct MemorySnapshotter {
    side: Side,
}

impl MemorySnapshotter {
    fn lock(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let mut inner = self.side.lock()?;
        match &mut inner.snapshot_fault {
            Some(0) => return Err(unknown("this part of a snapshot was to fail")),
            Some(skip) => *skip -= 1,
            None => {}
        }
        Ok(inner)
    }
}

impl Snapshotter for MemorySnapshotter {
    fn slice(
        &mut self,
        rows: &[(RowKey, Option<Change>)],
        bodies: &[(Revision, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        let rows = rows.iter().map(|(key, row)| {
            let value = row.as_ref().map(|row| codec::encode_row(&codec::encode_key(key), row));
            (key.clone(), value)
        });
        let bodies = bodies.iter().map(|(revision, body)| {
            let key = codec::encode_body_key(*revision);
            (*revision, body.as_ref().map(|bytes| codec::encode_body(&key, bytes)))
        });
        let slice = State { rows: rows.collect(), bodies: bodies.collect() };
        self.lock()?.slices.push(slice);
        Ok(())
    }

    fn marker(&mut self, through: Revision) -> Result<(), StoreError> {
        let mut inner = self.lock()?;
        let slices = std::mem::take(&mut inner.slices);
        slices.into_iter().for_each(|slice| inner.state.lay(slice));
        inner.state.rows.retain(|_, value| value.is_some());
        inner.state.bodies.retain(|_, value| value.is_some());
        inner.marker = Marker { through, reached: inner.marker.reached.max(through) };
        Ok(())
    }
}

struct MemoryReader {
    disk: Disk,
}

impl Reader for MemoryReader {
    fn row(&self, key: &RowKey) -> Result<Option<Change>, StoreError> {
        let inner = self.disk.lock();
        let newest = inner.slices.iter().rev().find_map(|slice| slice.rows.get(key));
        let Some(Some(value)) = newest.or_else(|| inner.state.rows.get(key)) else {
            return Ok(None);
        };
        let (_, change, _) = codec::decode_row(&codec::encode_key(key), value).map_err(damaged)?;
        Ok(Some(change))
    }

    fn body(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        let inner = self.disk.lock();
        let newest = inner.slices.iter().rev().find_map(|slice| slice.bodies.get(&revision));
        let Some(Some(value)) = newest.or_else(|| inner.state.bodies.get(&revision)) else {
            return Ok(None);
        };
        let key = codec::encode_body_key(revision);
        codec::decode_body(&key, value).map(Some).map_err(damaged)
    }
}

fn length(record: &[u8]) -> u64 {
    u64::try_from(record.len()).unwrap_or(u64::MAX)
}

fn unknown(what: &str) -> StoreError {
    StoreError::OutcomeUnknown(what.to_owned())
}

fn damaged(flawed: Flawed) -> StoreError {
    StoreError::Damaged {
        file: "memory".into(),
        offset: None,
        what: flawed.0,
        remedy: String::from("there is none for memory"),
    }
}
