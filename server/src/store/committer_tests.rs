//! The committer on a memory disk with faults. Every wait is for an event.

use std::{
    sync::{OnceLock, mpsc::RecvTimeoutError},
    time::Duration,
};

use super::*;
use crate::store::{
    Opened,
    memory::{Disk, Tail},
    samples::{data, end, entry, grant, granted, key, large, remembered, written},
};

/// What went through to the engine.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Slice(Vec<(RowKey, Option<Change>)>, Vec<(Revision, Option<Bytes>)>),
    Marker(Revision),
    Release(Revision),
}

struct Recorded<T> {
    inner: T,
    acts: SyncSender<Act>,
}

impl Appender for Recorded<Box<dyn Appender>> {
    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.inner.append(entry)
    }

    fn written_bytes(&self) -> u64 {
        self.inner.written_bytes()
    }

    fn release(&mut self, through: Revision) -> Result<(), StoreError> {
        self.inner.release(through)?;
        self.acts.send(Act::Release(through)).unwrap();
        Ok(())
    }
}

impl Snapshotter for Recorded<Box<dyn Snapshotter>> {
    fn slice(
        &mut self,
        rows: &[(RowKey, Option<Change>)],
        bodies: &[(Revision, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        self.inner.slice(rows, bodies)?;
        self.acts.send(Act::Slice(rows.to_vec(), bodies.to_vec())).unwrap();
        Ok(())
    }

    fn marker(&mut self, through: Revision) -> Result<(), StoreError> {
        self.inner.marker(through)?;
        self.acts.send(Act::Marker(through)).unwrap();
        Ok(())
    }
}

/// A running committer and all that it says and does.
struct Running {
    handle: CommitterHandle,
    events: Receiver<CommitEvent>,
    acts: Receiver<Act>,
}

/// No snapshot, nothing released.
const QUIET: Options = Options {
    snapshot_after_bytes: u64::MAX,
    slice_bytes: 4 << 20,
    retain: Duration::from_secs(60),
};

fn start(opened: Opened, clock: Clock, options: Options) -> Running {
    let (acts_in, acts) = sync_channel(64);
    let (events_in, events) = sync_channel(64);
    let (_, _, parts) = opened.into_parts();
    let parts = Parts {
        appender: Box::new(Recorded { inner: parts.appender, acts: acts_in.clone() }),
        snapshotter: Box::new(Recorded { inner: parts.snapshotter, acts: acts_in }),
        ..parts
    };
    let orders = Arc::new(OnceLock::<SyncSender<Order>>::new());
    let back = Arc::clone(&orders);
    let told = Box::new(move |event| match event {
        // What the track does when it has nothing to write anew.
        CommitEvent::Releasable(through) => back.wait().send(Order::Release(through)).unwrap(),
        CommitEvent::Durable { .. } | CommitEvent::Failed(_) => events_in.send(event).unwrap(),
    });
    let handle = Committer::spawn(parts, clock, options, Meters::default(), told).unwrap();
    orders.set(handle.orders.clone()).unwrap();
    Running { handle, events, acts }
}

fn start_on(disk: &Disk, options: Options) -> Running {
    start(disk.open(10).unwrap(), Clock::start(), options)
}

/// Far more than anything here takes, so that a defect fails the test rather than hangs it.
const PATIENCE: Duration = Duration::from_secs(30);

impl Running {
    fn event(&self) -> String {
        match self.events.recv_timeout(PATIENCE).unwrap() {
            CommitEvent::Durable { through, .. } => format!("durable {through}"),
            CommitEvent::Releasable(_) => unreachable!("answered at once"),
            CommitEvent::Failed(error) => format!("failed: {error}"),
        }
    }

    fn act(&self) -> Act {
        self.acts.recv_timeout(PATIENCE).unwrap()
    }

    fn write(&self, entry: Entry) {
        let through = entry.last().unwrap();
        self.handle.submit(entry).unwrap();
        assert_eq!(self.event(), format!("durable {through}"));
    }
}

/// What these entries take in the log.
fn log_bytes(entries: &[Entry]) -> u64 {
    let mut opened = Disk::new().open(10).unwrap();
    entries.iter().for_each(|entry| opened.appender.append(entry).unwrap());
    opened.appender.written_bytes()
}

fn rows_after(disk: &Disk) -> Vec<Change> {
    disk.open(0).unwrap().recovered.rows
}

#[test]
fn a_second_entry_is_taken_while_the_first_is_being_synced() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    disk.stall();
    running.handle.submit(grant(11)).unwrap();
    disk.await_stalled();
    running.handle.submit(grant(12)).unwrap();
    assert!(running.events.try_recv().is_err(), "nothing is durable yet");
    disk.resume();
    assert_eq!(running.event(), "durable 11");
    assert_eq!(running.event(), "durable 12");
}

#[test]
fn closing_finishes_what_was_submitted() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    running.handle.submit(grant(11)).unwrap();
    running.handle.submit(grant(12)).unwrap();
    running.handle.close();
    assert_eq!(rows_after(&disk), [granted(11), granted(12)]);
}

#[test]
fn after_a_failed_append_nothing_is_written() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    disk.fail_append(1);
    running.write(grant(11));
    running.handle.submit(grant(12)).unwrap();
    // The committer may have stopped by now, or not yet.
    let _ = running.handle.submit(grant(13));
    assert_eq!(running.event(), "failed: outcome unknown: this append was to fail");
    running.handle.close();
    let silent = running.events.recv_timeout(PATIENCE);
    assert_eq!(silent.err(), Some(RecvTimeoutError::Disconnected), "failure is told last");
    assert_eq!(rows_after(&disk), [granted(11)]);
}

#[test]
fn an_entry_whose_append_failed_may_be_there_after_all() {
    for (tail, found) in [(Tail::Kept, 2), (Tail::Lost, 1), (Tail::Torn, 1)] {
        let disk = Disk::new();
        let running = start_on(&disk, QUIET);
        running.write(grant(11));
        disk.fail_append_ambiguously(0, tail);
        running.handle.submit(grant(12)).unwrap();
        assert_eq!(running.event(), "failed: outcome unknown: this append was to fail, or not");
        running.handle.close();
        assert_eq!(rows_after(&disk).len(), found, "{tail:?}");
    }
}

#[test]
fn a_committer_whose_store_was_opened_elsewhere_says_so() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    let _second = disk.open(20).unwrap();
    running.handle.submit(grant(30)).unwrap();
    assert!(running.event().starts_with("failed: the store is in use"));
}

#[test]
fn a_crash_during_a_stalled_append_ends_it() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    disk.stall();
    running.handle.submit(grant(11)).unwrap();
    disk.await_stalled();
    disk.crash(Tail::Lost, 0);
    assert!(running.event().starts_with("failed: the store is in use"));
    assert_eq!(rows_after(&disk), []);
}

#[test]
fn a_panic_of_the_engine_is_told_as_a_failure() {
    struct Panicking;
    impl Appender for Panicking {
        fn append(&mut self, _: &Entry) -> Result<(), StoreError> {
            panic!("as the test wants")
        }
        fn written_bytes(&self) -> u64 {
            0
        }
        fn release(&mut self, _: Revision) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let mut opened = Disk::new().open(10).unwrap();
    opened.appender = Box::new(Panicking);
    let running = start(opened, Clock::start(), QUIET);
    running.handle.submit(grant(11)).unwrap();
    let told = running.event();
    assert_eq!(told, "failed: outcome unknown: the committer panicked: as the test wants");
}

#[test]
fn what_came_and_went_between_two_snapshots_is_in_neither() {
    let disk = Disk::new();
    let first = [grant(11), end(11, 12), grant(13)];
    let second = [end(13, 14), grant(15), end(15, 16), grant(17)];
    let options = Options { snapshot_after_bytes: log_bytes(&first), ..QUIET };
    let running = start_on(&disk, options);
    first.into_iter().for_each(|entry| running.write(entry));
    assert_eq!(running.act(), Act::Slice(vec![(key(13), Some(granted(13)))], vec![]));
    assert_eq!(running.act(), Act::Marker(Revision(13)));
    second.into_iter().for_each(|entry| running.write(entry));
    let rows = vec![(key(13), None), (key(17), Some(granted(17)))];
    assert_eq!(running.act(), Act::Slice(rows, vec![]));
    assert_eq!(running.act(), Act::Marker(Revision(17)));
    assert_eq!(disk.rows(), 1);
}

#[test]
fn a_snapshot_is_cut_into_slices_by_weight() {
    let disk = Disk::new();
    let weight = granted(11).weight();
    let entry = entry(15, (11..=15).map(granted).collect());
    let options = Options {
        snapshot_after_bytes: log_bytes(std::slice::from_ref(&entry)),
        slice_bytes: 2 * weight,
        ..QUIET
    };
    let running = start_on(&disk, options);
    running.write(entry);
    let rows = |tokens: std::ops::RangeInclusive<u64>| {
        Act::Slice(tokens.map(|token| (key(token), Some(granted(token)))).collect(), vec![])
    };
    assert_eq!(running.act(), rows(11..=12));
    assert_eq!(running.act(), rows(13..=14));
    assert_eq!(running.act(), rows(15..=15));
    assert_eq!(running.act(), Act::Marker(Revision(15)));
}

#[test]
fn large_values_go_behind_the_rows_and_count_in_slices() {
    let disk = Disk::new();
    let record =
        |version: u64| written(&format!("k{version}"), version, data(large(version)), None);
    let entry = entry(14, vec![record(11), record(12), granted(13), record(14)]);
    let options = Options {
        snapshot_after_bytes: log_bytes(std::slice::from_ref(&entry)),
        slice_bytes: 8_400,
        ..QUIET
    };
    let running = start_on(&disk, options);
    running.write(entry);
    let row = |change: Change| (change.trace().key().unwrap().clone(), Some(change.to_row()));
    let body = |version| (Revision(version), Some(large(version)));
    let rows = vec![row(granted(13)), row(record(11)), row(record(12)), row(record(14))];
    assert_eq!(running.act(), Act::Slice(rows, vec![body(11)]));
    assert_eq!(running.act(), Act::Slice(vec![], vec![body(12), body(14)]));
    assert_eq!(running.act(), Act::Marker(Revision(14)));
    assert_eq!(disk.bodies(), [11, 12, 14].map(Revision));
}

#[test]
fn what_was_found_in_the_log_is_in_the_first_snapshot() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    running.write(grant(11));
    running.handle.close();
    let running = start_on(&disk, Options { snapshot_after_bytes: 1, ..QUIET });
    assert_eq!(running.act(), Act::Slice(vec![(key(11), Some(granted(11)))], vec![]));
    assert_eq!(running.act(), Act::Marker(Revision(12)), "the start entry included");
}

/// A snapshotter that says what it does on the channel that events go to, and waits to be let
/// go on.
struct Gated {
    said: SyncSender<String>,
    gate: Receiver<()>,
}

impl Snapshotter for Gated {
    fn slice(
        &mut self,
        _: &[(RowKey, Option<Change>)],
        _: &[(Revision, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn marker(&mut self, through: Revision) -> Result<(), StoreError> {
        self.gate.recv().unwrap();
        self.said.send(format!("marker {through}")).unwrap();
        Ok(())
    }
}

#[test]
fn writing_goes_on_beside_a_snapshot_until_it_is_far_behind() {
    let (said_in, said) = sync_channel(64);
    let (go, gate) = sync_channel(64);
    let (_, _, parts) = Disk::new().open(10).unwrap().into_parts();
    let snapshotter = Box::new(Gated { said: said_in.clone(), gate });
    let told = Box::new(move |event| {
        let CommitEvent::Durable { through, .. } = event else { panic!("{event:?}") };
        said_in.send(format!("durable {through}")).unwrap();
    });
    let options = Options { snapshot_after_bytes: log_bytes(&[grant(11)]), ..QUIET };
    let parts = Parts { snapshotter, ..parts };
    let handle = Committer::spawn(parts, Clock::start(), options, Meters::default(), told).unwrap();
    let said = || said.recv_timeout(PATIENCE).unwrap();
    // The first starts a snapshot that stands still; with the eighth it is too far behind.
    for token in 11..19 {
        handle.submit(grant(token)).unwrap();
        assert_eq!(said(), format!("durable {token}"));
    }
    handle.submit(grant(19)).unwrap();
    go.send(()).unwrap();
    assert_eq!(said(), "marker 11", "the ninth had to wait");
    assert_eq!(said(), "durable 19");
    go.send(()).unwrap();
    assert_eq!(said(), "marker 18");
    go.send(()).unwrap();
    drop(handle);
}

#[test]
fn log_is_released_when_it_is_behind_the_marker_and_old_enough() {
    let disk = Disk::new();
    let (clock, now_us) = Clock::steered();
    let options = Options { snapshot_after_bytes: 1, ..QUIET };
    let running = start(disk.open(10).unwrap(), clock, options);
    running.write(grant(11));
    assert!(matches!(running.act(), Act::Slice(..)));
    assert_eq!(running.act(), Act::Marker(Revision(11)));
    now_us.store(59_000_000, Ordering::SeqCst);
    running.write(entry(12, vec![remembered(12)]));
    // An effect leaves no row, so there is no slice.
    assert_eq!(running.act(), Act::Marker(Revision(12)), "too young: nothing was released");
    now_us.store(60_000_000, Ordering::SeqCst);
    running.write(grant(13));
    let mut acts = Vec::new();
    // The release of what is 60 s old, and the third snapshot, whichever is first.
    while acts.len() < 3 {
        acts.push(running.act());
    }
    assert!(acts.contains(&Act::Release(Revision(11))), "{acts:?}");
    drop(running);
    let recovered = disk.open(0).unwrap().recovered;
    assert_eq!(recovered.memory, [remembered(12)], "the younger entry is still there");
    assert_eq!(recovered.rows, [granted(11), granted(13)]);
}

#[test]
fn an_idle_committer_releases_when_it_is_due() {
    let disk = Disk::new();
    let retain = Duration::from_millis(20);
    let running = start_on(&disk, Options { snapshot_after_bytes: 1, retain, ..QUIET });
    running.write(grant(11));
    assert!(matches!(running.act(), Act::Slice(..)));
    assert_eq!(running.act(), Act::Marker(Revision(11)));
    // The start entry may be old enough before the grant is.
    while running.act() != Act::Release(Revision(11)) {}
}

#[test]
fn log_that_is_not_let_go_stays_and_is_offered_once() {
    let disk = Disk::new();
    let opened = disk.open(10).unwrap();
    let options = Options { snapshot_after_bytes: 1, retain: Duration::ZERO, ..QUIET };
    let (events_in, events) = sync_channel(64);
    let told = Box::new(move |event| events_in.send(event).unwrap());
    let (_, _, parts) = opened.into_parts();
    let handle = Committer::spawn(parts, Clock::start(), options, Meters::default(), told).unwrap();
    let next = || events.recv_timeout(PATIENCE).unwrap();
    handle.submit(entry(11, vec![remembered(11)])).unwrap();
    assert!(matches!(next(), CommitEvent::Durable { .. }));
    let CommitEvent::Releasable(through) = next() else { panic!("log is offered") };
    for token in 12..20 {
        handle.submit(grant(token)).unwrap();
        assert!(matches!(next(), CommitEvent::Durable { .. }), "offered once until answered");
    }
    assert!(through >= Revision(10));
    handle.close();
    let recovered = disk.open(0).unwrap().recovered;
    assert_eq!(recovered.memory, [remembered(11)], "nothing was let go");
}

#[test]
fn a_failed_snapshot_stops_everything() {
    // The slice, and the marker.
    for skip in [0, 1] {
        let disk = Disk::new();
        let running = start_on(&disk, Options { snapshot_after_bytes: 1, ..QUIET });
        disk.fail_snapshot(skip);
        running.handle.submit(grant(11)).unwrap();
        assert_eq!(running.event(), "durable 11");
        let told = running.event();
        assert_eq!(told, "failed: outcome unknown: this part of a snapshot was to fail");
        drop(running);
        disk.crash(Tail::Lost, skip as usize);
        assert_eq!(rows_after(&disk), [granted(11)]);
    }
}

#[test]
fn entries_that_gather_during_a_sync_are_written_together() {
    let disk = Disk::new();
    let running = start_on(&disk, QUIET);
    let before = disk.records();
    disk.stall();
    running.handle.submit(grant(11)).unwrap();
    disk.await_stalled();
    for revision in 12..=15 {
        running.handle.submit(grant(revision)).unwrap();
    }
    disk.resume();
    assert_eq!(running.event(), "durable 11");
    assert_eq!(running.event(), "durable 15");
    assert_eq!(disk.records() - before, 2);
    drop(running);
    disk.crash(Tail::Lost, 0);
    assert_eq!(rows_after(&disk), (11..=15).map(granted).collect::<Vec<_>>());
}

#[test]
fn entries_that_gather_are_written_together_only_as_far_as_they_fit() {
    let mut first = grant(11);
    let (orders, inbox) = sync_channel(4);
    let heavy = |revision| {
        let mut entry = grant(revision);
        let one = entry.transactions.remove(0);
        let count = WRITE_BYTES_MAX / Entry { transactions: vec![one.clone()] }.weight();
        entry.transactions = vec![one; count];
        entry
    };
    orders.send(Order::Write(grant(12))).unwrap();
    orders.send(Order::Write(heavy(13))).unwrap();
    orders.send(Order::Write(grant(14))).unwrap();
    let left = gather(&mut first, &inbox);
    assert_eq!(first.transactions.len(), 2);
    let Some(Order::Write(mut left)) = left else { panic!("{left:?}") };
    assert_eq!(left, heavy(13));
    orders.send(Order::Look).unwrap();
    left.transactions.truncate(1);
    assert!(matches!(gather(&mut left, &inbox), Some(Order::Look)));
    assert_eq!(left.transactions.len(), 2);
}

#[test]
fn a_failed_release_stops_everything() {
    let disk = Disk::new();
    let opened = disk.open(10).unwrap();
    disk.fail_release();
    let options = Options { snapshot_after_bytes: 1, retain: Duration::ZERO, ..QUIET };
    let running = start(opened, Clock::start(), options);
    running.handle.submit(grant(11)).unwrap();
    assert_eq!(running.event(), "durable 11");
    assert_eq!(running.event(), "failed: outcome unknown: this release was to fail");
}
