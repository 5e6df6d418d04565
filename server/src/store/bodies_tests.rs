//! Young bodies and stored ones: whoever is led to a body finds it.

use std::{
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use singletrack_core::change::{Change, RowKey};
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Clock,
    store::{
        Opened, Snapshotter,
        committer::{CommitEvent, Committer, CommitterHandle, Meters, Options, Parts},
        disk,
        memory::Disk,
        samples::{data, deleted, entry, large, written},
    },
};

/// Far more than anything here takes, so that a defect fails the test rather than hangs it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of log that a large value takes at least.
const ONE: u64 = 4_100;

fn put(key: &str, version: u64, replaced: Option<u64>) -> Entry {
    entry(version, vec![written(key, version, data(large(version)), replaced)])
}

fn options(snapshot_after_bytes: u64) -> Options {
    Options { snapshot_after_bytes, ..Options::default() }
}

/// Starts a committer that hands each event to `told`.
fn start(
    parts: Parts,
    options: Options,
    told: impl FnMut(CommitEvent) + Send + 'static,
) -> CommitterHandle {
    let meters = Meters::default();
    Committer::spawn(parts, Clock::start(), options, meters, Box::new(told)).unwrap()
}

fn until(so: impl Fn() -> bool) {
    let clock = Clock::start();
    while !so() {
        assert!(clock.elapsed() < PATIENCE, "it doesn't come about");
        thread::yield_now();
    }
}

/// Waits for the gate before each slice and each marker.
struct Gated {
    inner: Box<dyn Snapshotter>,
    gate: Receiver<()>,
}

impl Snapshotter for Gated {
    fn slice(
        &mut self,
        rows: &[(RowKey, Option<Change>)],
        bodies: &[(Revision, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        // Left open when the test is over.
        let _ = self.gate.recv();
        self.inner.slice(rows, bodies)
    }

    fn marker(&mut self, through: Revision) -> Result<(), StoreError> {
        let _ = self.gate.recv();
        self.inner.marker(through)
    }
}

/// A committer whose snapshots wait to be let go on.
struct Rig {
    /// Dropped first: then nothing waits any more.
    go: SyncSender<()>,
    handle: CommitterHandle,
    bodies: Arc<Bodies>,
    durable: Receiver<Revision>,
}

impl Rig {
    fn start(opened: Opened, snapshot_after_bytes: u64) -> Self {
        let (_, bodies, parts) = opened.into_parts();
        let (go, gate) = sync_channel(16);
        let snapshotter = Box::new(Gated { inner: parts.snapshotter, gate });
        let (tell, durable) = sync_channel(16);
        let told = move |event| {
            if let CommitEvent::Durable { through, .. } = event {
                tell.send(through).unwrap();
            }
        };
        let parts = Parts { snapshotter, ..parts };
        let handle = start(parts, options(snapshot_after_bytes), told);
        Self { go, handle, bodies, durable }
    }

    fn write(&self, entry: Entry) {
        let through = entry.last().unwrap();
        self.handle.submit(entry).unwrap();
        assert_eq!(self.durable.recv_timeout(PATIENCE).unwrap(), through);
    }

    /// Lets so many slices and markers go on.
    fn go(&self, count: usize) {
        (0..count).for_each(|_| self.go.send(()).unwrap());
    }

    fn is_young(&self, version: u64) -> bool {
        self.bodies.young(Revision(version)).is_some()
    }

    fn fetch(&self, version: u64) -> Option<Bytes> {
        self.bodies.fetch(Revision(version)).unwrap()
    }
}

#[test]
fn a_body_is_young_when_its_entry_is_told_and_not_before_it_is_durable() {
    let disk = Disk::new();
    let (_, bodies, parts) = disk.open(10).unwrap().into_parts();
    let (tell, told) = sync_channel(16);
    let seen = Arc::clone(&bodies);
    let handle = start(parts, options(u64::MAX), move |event| {
        let CommitEvent::Durable { through, .. } = event else { panic!("{event:?}") };
        tell.send(seen.young(through)).unwrap();
    });
    disk.stall();
    handle.submit(put("a", 11, None)).unwrap();
    disk.await_stalled();
    assert_eq!(bodies.fetch(Revision(11)).unwrap(), None);
    disk.resume();
    assert!(told.recv_timeout(PATIENCE).unwrap() == Some(large(11)));
    assert_eq!(bodies.young_bytes(), 4_097);
}

#[test]
fn a_body_is_young_until_the_snapshot_that_has_it_is_complete() {
    let disk = Disk::new();
    let rig = Rig::start(disk.open(10).unwrap(), ONE);
    // The first has a snapshot begin, so the second is for the next one.
    rig.write(put("a", 11, None));
    rig.go(1);
    until(|| disk.bodies() == [Revision(11)]);
    rig.write(put("a", 12, Some(11)));
    rig.write(put("a", 13, Some(12)));
    assert_eq!([11, 12, 13].map(|version| rig.is_young(version)), [true; 3]);
    rig.go(1);
    until(|| !rig.is_young(11));
    assert!(rig.fetch(11) == Some(large(11)), "the next snapshot has not removed it yet");
    assert!(rig.is_young(12), "whoever was led to it finds it still, though it never gets there");
    rig.go(2);
    until(|| !rig.is_young(12));
    assert_eq!(disk.bodies(), [Revision(13)]);
    assert!(!rig.is_young(13));
    let found = [11, 12, 13].map(|version| rig.fetch(version));
    assert!(found == [None, None, Some(large(13))]);
    assert_eq!(rig.bodies.young_bytes(), 0);
}

#[test]
fn what_was_found_in_the_log_is_young_until_the_first_snapshot() {
    let disk = Disk::new();
    let rig = Rig::start(disk.open(10).unwrap(), u64::MAX);
    let mut changes = put("a", 11, None).transactions.remove(0).changes;
    changes.extend(put("a", 12, Some(11)).transactions.remove(0).changes);
    changes.push(deleted("b", 9, 13, true));
    rig.write(entry(13, changes));
    rig.handle.close();
    drop(rig.go);
    let rig = Rig::start(disk.open(10).unwrap(), 1);
    assert_eq!([9, 11, 12].map(|version| rig.is_young(version)), [false, false, true]);
    assert_eq!(rig.bodies.young_bytes(), 4_097);
    rig.go(2);
    until(|| !rig.is_young(12));
    assert_eq!(rig.bodies.young_bytes(), 0);
    assert_eq!(disk.bodies(), [Revision(12)]);
    assert!(rig.fetch(12) == Some(large(12)));
}

#[test]
fn after_closing_the_folder_is_free_and_nothing_is_read_from_it() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("data");
    let sizes = disk::Sizes { segment_bytes: 20_480, record_bytes_max: 16_384 };
    let open = || disk::open_sized(&path, 10, sizes).unwrap();
    let rig = Rig::start(open(), 1);
    rig.go(2);
    rig.write(put("a", 11, None));
    until(|| !rig.is_young(11));
    assert!(rig.fetch(11) == Some(large(11)));
    let Rig { handle, bodies, go, .. } = rig;
    drop(go);
    handle.close();
    assert!(matches!(bodies.fetch(Revision(11)), Err(StoreError::Closed)));
    assert_eq!(open().recovered.rows.len(), 1);
}

/// Ends the readers also when the test fails.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Reads the live versions again and again; counts how often one was found in the state.
fn read(bodies: &Bodies, live: &[AtomicU64], is_over: &AtomicBool, stored: &AtomicU64) {
    while !is_over.load(Ordering::SeqCst) {
        for live in live {
            let version = live.load(Ordering::SeqCst);
            if version == 0 {
                continue;
            }
            let was_young = bodies.young(Revision(version)).is_some();
            match bodies.fetch(Revision(version)).unwrap() {
                Some(found) => {
                    assert!(found == large(version), "version {version}");
                    stored.fetch_add(u64::from(!was_young), Ordering::SeqCst);
                }
                None => assert_ne!(live.load(Ordering::SeqCst), version, "it was there to find"),
            }
        }
    }
}

#[test]
fn the_body_of_a_live_record_is_found_at_any_moment() {
    const KEYS: u64 = 3;
    let disk = Disk::new();
    let (_, bodies, parts) = disk.open(1).unwrap().into_parts();
    let live: Arc<[AtomicU64; KEYS as usize]> = Arc::default();
    let (tell, told) = sync_channel(16);
    let published = Arc::clone(&live);
    // As an answer would, when its entry is durable and before anything else is done.
    let durable = move |event| {
        if let CommitEvent::Durable { through: Revision(version), .. } = event {
            published[(version % KEYS) as usize].store(version, Ordering::SeqCst);
            tell.send(version).unwrap();
        }
    };
    let slices = Options { slice_bytes: 5_000, ..options(2 * ONE) };
    let handle = start(parts, slices, durable);
    let (is_over, stored) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _ending = Ending(&is_over);
        for _ in 0..2 {
            scope.spawn(|| read(&bodies, live.as_slice(), &is_over, &stored));
        }
        for version in 10..400 {
            let replaced = (version >= 10 + KEYS).then(|| version - KEYS);
            handle.submit(put(&format!("k{}", version % KEYS), version, replaced)).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), version);
        }
        // The last ones stay: at the latest now they are read from the state.
        until(|| bodies.young_bytes() <= 2 * 4_097 && stored.load(Ordering::SeqCst) > 0);
    });
    handle.close();
}
