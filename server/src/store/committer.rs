//! The committer: the thread that makes entries durable, one sync each, and beside it the
//! thread that writes snapshots.
//!
//! Owns the order *durable, young, told, coalesced, released*. Decides nothing about what an entry
//! holds. Fails once and for all: after [`CommitEvent::Failed`] nothing is written any more,
//! as only a restart can find out what is on the disk.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram};
use singletrack_core::{
    change::{Change, RowKey},
    limits,
    types::Revision,
};

use super::{
    Appender, Entry, SLICE_BYTES_MAX, Snapshotter, StoreError, bodies::Bodies, coalesce::Pending,
};
use crate::clock::Clock;

/// Entries that may be submitted and not yet durable; one more would wait.
pub const OUTSTANDING_MAX: usize = 8;

/// Bytes of what is written at once, by [`Change::weight`]: entries that gather while one is
/// synced go together, as far as they fit.
pub const WRITE_BYTES_MAX: usize = limits::TRANSACTION_BYTES_MAX;

/// A commit that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

/// What the committer says, from its own thread, in the order of the log.
#[derive(Debug)]
pub enum CommitEvent {
    /// Everything up to here is durable.
    Durable {
        /// Commit revision of the entry.
        through: Revision,
        /// How long its append took.
        took: Duration,
        /// Bytes of log written for it.
        bytes: u64,
    },
    /// The log up to and including this is no longer needed, unless there is something in it
    /// that is neither in the state nor forgotten: [`CommitterHandle::release`] when that has
    /// been written anew.
    Releasable(Revision),
    /// The store can't go on; nothing is durable that was not told before, and nothing more
    /// will be written. Told at most once, and last.
    Failed(StoreError),
}

/// When to write snapshots and to free log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A snapshot starts when this much log has been written since the last one.
    pub snapshot_after_bytes: u64,
    /// The most a slice of a snapshot weighs.
    pub slice_bytes: usize,
    /// How long log is kept for replay memory.
    pub retain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snapshot_after_bytes: 64 << 20,
            slice_bytes: SLICE_BYTES_MAX,
            retain: Duration::from_secs(60),
        }
    }
}

/// The parts of an opened store that the committer owns.
pub struct Parts {
    /// Writes the log.
    pub appender: Box<dyn Appender>,
    /// Writes the state.
    pub snapshotter: Box<dyn Snapshotter>,
    /// Where large values are read; those of `pending` are young.
    pub bodies: Arc<Bodies>,
    /// What the log has and the state does not.
    pub pending: Pending,
    /// Bytes of log that this is.
    pub pending_bytes: u64,
}

/// The committer has stopped; it has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub struct Stopped;

/// The way to a running committer. Dropping it finishes what was submitted and ends both
/// threads.
#[derive(Debug)]
pub struct CommitterHandle {
    orders: SyncSender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Write(Entry),
    /// Nothing up to here is needed any more.
    Release(Revision),
    /// The snapshot thread has something to say.
    Look,
    Close,
}

/// Entries, a look, a release and the closing: no sender ever waits for room.
const ORDERS: usize = OUTSTANDING_MAX + 3;

/// A snapshot that is so many times its due behind is waited for: what it has not written
/// yet is held in memory, and that must not grow without end.
const BEHIND_MAX: u64 = 8;

/// The committer itself; runs on its own thread.
pub struct Committer {
    appender: Box<dyn Appender>,
    clock: Clock,
    options: Options,
    events: Box<dyn FnMut(CommitEvent) + Send>,
    bodies: Arc<Bodies>,
    /// Bodies that became young since the last snapshot began, and those before the one under way.
    young: Vec<Revision>,
    leaving: Vec<Revision>,
    pending: Pending,
    /// Log written that no marker covers, and the part of it that the snapshot under way does.
    unmarked_bytes: u64,
    snapshot_bytes: u64,
    snapshot: Snapshot,
    marker: Revision,
    ages: Ages,
    /// A release that was offered and not yet ordered.
    offered: bool,
    meters: Meters,
}

/// What the committer counts.
pub struct Meters {
    /// How long an entry took to become durable.
    pub seconds: Histogram,
    /// How many bytes it had.
    pub bytes: Histogram,
    /// Snapshots completed.
    pub snapshots: Counter,
    /// Log written that no snapshot covers.
    pub log_bytes: Gauge,
    /// Large values that are held in memory until a snapshot has them.
    pub young_bytes: Gauge,
}

impl Default for Meters {
    /// Counts nothing.
    fn default() -> Self {
        Self {
            seconds: Histogram::noop(),
            bytes: Histogram::noop(),
            snapshots: Counter::noop(),
            log_bytes: Gauge::noop(),
            young_bytes: Gauge::noop(),
        }
    }
}

// === impl Committer ===

impl Committer {
    /// Starts both threads.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a thread can't be started.
    pub fn spawn(
        parts: Parts,
        clock: Clock,
        options: Options,
        meters: Meters,
        events: Box<dyn FnMut(CommitEvent) + Send>,
    ) -> Result<CommitterHandle, StoreError> {
        let (orders, inbox) = sync_channel(ORDERS);
        let snapshot = Snapshot::spawn(parts.snapshotter, options.slice_bytes, orders.clone())?;
        let mut ages = Ages::new(options.retain);
        // Nothing says when what was found had been written: it counts as written now.
        ages.note(parts.pending.through, clock.elapsed());
        let mut committer = Self {
            appender: parts.appender,
            clock,
            options,
            events,
            bodies: parts.bodies,
            young: parts.pending.bodies.keys().copied().collect(),
            leaving: Vec::new(),
            pending: parts.pending,
            unmarked_bytes: parts.pending_bytes,
            snapshot_bytes: 0,
            snapshot,
            marker: Revision::default(),
            ages,
            offered: false,
            meters,
        };
        let thread = thread::Builder::new()
            .name(String::from("committer"))
            .spawn(move || committer.supervise(&inbox))
            .map_err(thread_refused)?;
        Ok(CommitterHandle { orders, thread: Some(thread) })
    }

    /// Whatever goes wrong, a panic of ours included, is told.
    fn supervise(&mut self, inbox: &Receiver<Order>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(inbox)))
            .unwrap_or_else(|panic| Err(panicked("the committer", panic.as_ref())));
        if let Err(error) = outcome {
            tracing::error!(%error, "the store has failed, nothing more is written");
            (self.events)(CommitEvent::Failed(error));
        }
        self.snapshot.stop();
        self.bodies.close();
    }

    fn run(&mut self, inbox: &Receiver<Order>) -> Result<(), StoreError> {
        self.meter_young();
        let mut left = None;
        loop {
            self.finish_snapshot_if_done()?;
            self.start_snapshot_if_due();
            self.offer_release_if_due();
            match left.take().or_else(|| self.next(inbox)) {
                Some(Order::Write(mut entry)) => {
                    left = gather(&mut entry, inbox);
                    self.write(&entry)?;
                }
                Some(Order::Release(through)) => {
                    self.offered = false;
                    self.appender.release(through)?;
                }
                Some(Order::Look) | None => {}
                Some(Order::Close) => return Ok(()),
            }
        }
    }

    /// The next order; `None` when something else is due.
    fn next(&self, inbox: &Receiver<Order>) -> Option<Order> {
        let due = self.ages.due(self.marker, self.clock.elapsed());
        match due.filter(|_| !self.offered) {
            // The snapshot thread has a sender too, so only a `Close` ends the orders.
            None => Some(inbox.recv().unwrap_or(Order::Close)),
            Some(wait) => match inbox.recv_timeout(wait) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::Close),
            },
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let through = entry.last().ok_or_else(|| {
            StoreError::OutcomeUnknown(String::from("an entry without transactions was submitted"))
        })?;
        let before = self.appender.written_bytes();
        let began = self.clock.elapsed();
        self.appender.append(entry)?;
        let ended = self.clock.elapsed();
        let took = ended.saturating_sub(began);
        let bytes = self.appender.written_bytes().saturating_sub(before);
        // Before anybody is told of them.
        self.bodies.enter(entry, &mut self.young);
        (self.events)(CommitEvent::Durable { through, took, bytes });

        if took > SLOW {
            tracing::warn!(?took, bytes, "the disk was slow to make an entry durable");
        }
        self.meters.seconds.record(took);
        self.meters.bytes.record(as_metric(bytes));
        self.unmarked_bytes += bytes;
        self.meters.log_bytes.set(as_metric(self.unmarked_bytes));
        self.meter_young();
        self.pending.absorb(entry);
        self.ages.note(through, ended);
        Ok(())
    }

    fn start_snapshot_if_due(&mut self) {
        let due = self.unmarked_bytes >= self.options.snapshot_after_bytes;
        if !due || self.snapshot.running || self.pending.through <= self.marker {
            return;
        }
        let through = self.pending.through;
        let next = Pending { through, ..Pending::default() };
        self.snapshot_bytes = self.unmarked_bytes;
        self.leaving = std::mem::take(&mut self.young);
        self.snapshot.start(std::mem::replace(&mut self.pending, next));
    }

    /// Waits for the snapshot only when it is too far behind.
    fn finish_snapshot_if_done(&mut self) -> Result<(), StoreError> {
        if !self.snapshot.running {
            return Ok(());
        }
        let most = self.options.snapshot_after_bytes.saturating_mul(BEHIND_MAX);
        let behind = self.unmarked_bytes >= most;
        if behind {
            tracing::warn!(self.unmarked_bytes, "the state is slow; waiting for its snapshot");
        }
        let Some(outcome) = self.snapshot.outcome(behind) else { return Ok(()) };
        let through = outcome?;
        self.snapshot.running = false;
        self.marker = through;
        self.bodies.forget(std::mem::take(&mut self.leaving));
        self.meter_young();
        self.unmarked_bytes = self.unmarked_bytes.saturating_sub(self.snapshot_bytes);
        self.meters.log_bytes.set(as_metric(self.unmarked_bytes));
        self.meters.snapshots.increment(1);
        tracing::debug!(through = through.0, "a snapshot is complete");
        Ok(())
    }

    fn meter_young(&self) {
        self.meters.young_bytes.set(as_metric(self.bodies.young_bytes()));
    }

    fn offer_release_if_due(&mut self) {
        if self.offered {
            return;
        }
        if let Some(through) = self.ages.take(self.marker, self.clock.elapsed()) {
            self.offered = true;
            (self.events)(CommitEvent::Releasable(through));
        }
    }
}

/// Adds the entries that wait, as far as they fit; the order that is next after them, if one was
/// found. One sync for all of them costs as much as one for each.
fn gather(entry: &mut Entry, inbox: &Receiver<Order>) -> Option<Order> {
    let mut bytes = None;
    loop {
        let next = inbox.try_recv().ok()?;
        let Order::Write(more) = next else { return Some(next) };
        let both = *bytes.get_or_insert_with(|| entry.weight()) + more.weight();
        if both > WRITE_BYTES_MAX {
            return Some(Order::Write(more));
        }
        bytes = Some(both);
        entry.transactions.extend(more.transactions);
    }
}

// === impl CommitterHandle ===

impl CommitterHandle {
    /// Hands an entry over; an event tells when it is durable. Waits only when more than
    /// [`OUTSTANDING_MAX`] are outstanding.
    ///
    /// # Errors
    /// [`Stopped`] after a failure: the entry was not written.
    pub fn submit(&self, entry: Entry) -> Result<(), Stopped> {
        self.orders.send(Order::Write(entry)).map_err(|_| Stopped)
    }

    /// Nothing in the log up to and including `through`, which was offered, is needed any more.
    ///
    /// # Errors
    /// [`Stopped`] after a failure.
    pub fn release(&self, through: Revision) -> Result<(), Stopped> {
        self.orders.send(Order::Release(through)).map_err(|_| Stopped)
    }

    /// Finishes what was submitted and ends both threads. A snapshot under way is left
    /// undone; the log still has all that was to be in it.
    pub fn close(mut self) {
        self.join();
    }

    fn join(&mut self) {
        // A committer that failed no longer listens.
        let _ = self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take() {
            // A panic there was caught and told.
            let _ = thread.join();
        }
    }
}

impl Drop for CommitterHandle {
    fn drop(&mut self) {
        self.join();
    }
}

// === the snapshot thread ===

struct Snapshot {
    work: Option<SyncSender<Pending>>,
    outcomes: Receiver<Result<Revision, StoreError>>,
    running: bool,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshot {
    fn spawn(
        mut snapshotter: Box<dyn Snapshotter>,
        slice_bytes: usize,
        orders: SyncSender<Order>,
    ) -> Result<Self, StoreError> {
        let (work, inbox) = sync_channel::<Pending>(1);
        let (done, outcomes) = sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name(String::from("snapshot"))
            .spawn(move || {
                while let Ok(pending) = inbox.recv() {
                    let outcome = catch_unwind(AssertUnwindSafe(|| {
                        write_snapshot(snapshotter.as_mut(), slice_bytes, pending, &stop)
                    }))
                    .unwrap_or_else(|panic| Err(panicked("the snapshot", panic.as_ref())));
                    let Some(outcome) = outcome.transpose() else { return };
                    if done.send(outcome).is_err() {
                        return;
                    }
                    // When there is no room, the committer is about to look anyway.
                    let _ = orders.try_send(Order::Look);
                }
            })
            .map_err(thread_refused)?;
        let work = Some(work);
        Ok(Self { work, outcomes, running: false, stopping, thread: Some(thread) })
    }

    /// What came of the snapshot under way, if it has ended; or else when it does.
    fn outcome(&self, wait: bool) -> Option<Result<Revision, StoreError>> {
        let gone = || StoreError::OutcomeUnknown(String::from("the snapshot thread is gone"));
        if wait {
            return Some(self.outcomes.recv().unwrap_or_else(|_| Err(gone())));
        }
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    fn start(&mut self, pending: Pending) {
        // Room for one, and only one is ever under way. A thread that is gone has no outcome,
        // which the next look finds.
        if let Some(work) = &self.work {
            let _ = work.send(pending);
        }
        self.running = true;
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes all rows and bodies in slices, then the marker. `None`: it was told to stop before the
/// end.
fn write_snapshot(
    snapshotter: &mut dyn Snapshotter,
    slice_bytes: usize,
    pending: Pending,
    stop: &AtomicBool,
) -> Result<Option<Revision>, StoreError> {
    let mut slice = Slice { most: slice_bytes, ..Slice::default() };
    for (key, image) in pending.rows {
        let row = image.into_written();
        let bytes = row.as_ref().map_or(GONE_BYTES, Change::weight);
        if slice.is_full(bytes) && !slice.write(snapshotter, stop)? {
            return Ok(None);
        }
        slice.weight += bytes;
        slice.rows.push((key, row));
    }
    for (revision, image) in pending.bodies {
        let body = image.into_written();
        let bytes = BODY_BYTES + body.as_ref().map_or(0, Bytes::len);
        if slice.is_full(bytes) && !slice.write(snapshotter, stop)? {
            return Ok(None);
        }
        slice.weight += bytes;
        slice.bodies.push((revision, body));
    }
    if slice.weight > 0 && !slice.write(snapshotter, stop)? {
        return Ok(None);
    }
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    snapshotter.marker(pending.through)?;
    Ok(Some(pending.through))
}

/// What the removal of a row weighs: its key.
const GONE_BYTES: usize = 1_280;
/// What a body weighs beside its bytes.
const BODY_BYTES: usize = 32;

const _: () = assert!(
    GONE_BYTES >= limits::NAMESPACE_CHARS_MAX + 2 * limits::RESOURCE_BYTES_MAX + 3,
    "the longest key is that of a protection"
);
const _: () = assert!(BODY_BYTES + limits::VALUE_BYTES_MAX <= SLICE_BYTES_MAX);

/// What is written to the state at once.
#[derive(Default)]
struct Slice {
    rows: Vec<(RowKey, Option<Change>)>,
    bodies: Vec<(Revision, Option<Bytes>)>,
    weight: usize,
    most: usize,
}

impl Slice {
    /// So much more doesn't fit.
    const fn is_full(&self, more: usize) -> bool {
        self.weight > 0 && self.weight + more > self.most
    }

    /// Writes it and begins anew. False: it was told to stop.
    fn write(
        &mut self,
        snapshotter: &mut dyn Snapshotter,
        stop: &AtomicBool,
    ) -> Result<bool, StoreError> {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        snapshotter.slice(&self.rows, &self.bodies)?;
        self.rows.clear();
        self.bodies.clear();
        self.weight = 0;
        Ok(true)
    }
}

// === ages ===

/// When entries were written, to about a hundredth of the time that they are retained.
struct Ages {
    retain: Duration,
    spans: VecDeque<Span>,
}

struct Span {
    began: Duration,
    ended: Duration,
    through: Revision,
}

impl Ages {
    fn new(retain: Duration) -> Self {
        Self { retain, spans: VecDeque::new() }
    }

    fn note(&mut self, through: Revision, now: Duration) {
        let grain = self.retain / 100;
        match self.spans.back_mut() {
            Some(span) if now.saturating_sub(span.began) < grain => {
                span.ended = now;
                span.through = through;
            }
            Some(_) | None => self.spans.push_back(Span { began: now, ended: now, through }),
        }
    }

    /// The revision through which all is both behind the marker and old enough; forgets it.
    fn take(&mut self, marker: Revision, now: Duration) -> Option<Revision> {
        let retain = self.retain;
        let old = |span: &mut Span| span.through <= marker && span.ended + retain <= now;
        let mut through = None;
        while let Some(span) = self.spans.pop_front_if(old) {
            through = Some(span.through);
        }
        through
    }

    /// How long until [`Self::take`] has something; `None`: not before the marker moves.
    fn due(&self, marker: Revision, now: Duration) -> Option<Duration> {
        let span = self.spans.front().filter(|span| span.through <= marker)?;
        Some((span.ended + self.retain).saturating_sub(now))
    }
}

// === leaves ===

#[expect(clippy::cast_precision_loss, reason = "a metric; bytes below 2^53 are exact")]
fn as_metric(bytes: u64) -> f64 {
    bytes as f64
}

fn thread_refused(source: std::io::Error) -> StoreError {
    StoreError::Io { what: String::from("starting a thread"), source }
}

fn panicked(who: &str, panic: &(dyn Any + Send)) -> StoreError {
    let what = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    StoreError::OutcomeUnknown(format!("{who} panicked: {what}"))
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
