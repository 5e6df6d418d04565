//! One suite of laws for every engine. An engine joins by a [`Harness`] and a line at the end.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use proptest::{collection, prelude::*, test_runner::TestRunner};
use singletrack_core::{
    change::{Change, RowKey, Trace},
    types::{DurableMs, Revision, Token},
};
use tempfile::TempDir;

use super::{
    Opened, StoreError,
    coalesce::Pending,
    disk::{self, Sizes},
    memory::{Disk, Tail},
    samples::{
        closed, end, ended, entry, grant, granted, key, opened, remembered, reopened,
        session_ended, swept,
    },
};

/// A store that can be opened again and again.
trait Harness {
    fn new() -> Self;
    fn open(&self, unix_us: u64) -> Result<Opened, StoreError>;
    /// The machine stops after everything opened is gone; of slices without a marker the first
    /// `slices_kept` survive, where the engine lets a test choose.
    fn crash(&self, slices_kept: usize);
    /// All that was stored is gone.
    fn wipe(&self);
    /// Cases of a law on random histories: what the engine's speed allows.
    const CASES: u32;
}

struct InMemory(Disk);

impl Harness for InMemory {
    const CASES: u32 = 256;

    fn new() -> Self {
        Self(Disk::new())
    }

    fn open(&self, unix_us: u64) -> Result<Opened, StoreError> {
        self.0.open(unix_us)
    }

    fn crash(&self, slices_kept: usize) {
        self.0.crash(Tail::Lost, slices_kept);
    }

    fn wipe(&self) {
        self.0.wipe();
    }
}

struct OnDisk {
    _home: TempDir,
    path: PathBuf,
}

impl Harness for OnDisk {
    const CASES: u32 = 16;

    fn new() -> Self {
        let home = TempDir::new().unwrap();
        let path = home.path().join("data");
        Self { _home: home, path }
    }

    fn open(&self, unix_us: u64) -> Result<Opened, StoreError> {
        // Small segments: a few entries fill one.
        let sizes = Sizes { segment_bytes: 2_048, record_bytes_max: 1_024 };
        disk::open_sized(&self.path, unix_us, sizes)
    }

    fn crash(&self, _: usize) {}

    fn wipe(&self) {
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

// === the laws ===

fn an_acknowledged_entry_is_recovered_whole_and_in_order<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(100).unwrap();
    assert_eq!(opened.recovered.revision, Revision(100));
    assert_eq!(opened.recovered.rows, []);
    opened.appender.append(&entry(103, vec![granted(101), granted(102), remembered(103)])).unwrap();
    opened.appender.append(&end(101, 104)).unwrap();
    drop(opened);
    store.crash(0);
    let recovered = store.open(100).unwrap().recovered;
    assert_eq!(recovered.rows, [granted(102)]);
    assert_eq!(recovered.memory, [remembered(103), ended(101, 104)]);
    assert_eq!(recovered.revision, Revision(105));
}

fn revisions_never_go_backwards<H: Harness>() {
    let store = H::new();
    let revision = |unix_us| store.open(unix_us).unwrap().recovered.revision.0;
    assert_eq!(revision(1_000), 1_000);
    assert_eq!(revision(5), 1_001, "the wall clock went back");
    assert_eq!(revision(0), 1_002, "the wall clock reads 1970");
    assert_eq!(revision(1_002), 1_003, "the wall clock stood still");
    assert_eq!(revision(u64::MAX), 1_004, "the wall clock is beyond all revisions");
    assert_eq!(revision(2_000), 2_000);
    store.wipe();
    assert_eq!(revision(3_000), 3_000, "a wiped store goes on from the wall clock");
}

fn the_counter_goes_on_after_the_last_commit<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    opened.appender.append(&grant(500)).unwrap();
    drop(opened);
    assert_eq!(store.open(20).unwrap().recovered.revision, Revision(501));
}

fn a_second_opener_never_leaves_two_writers<H: Harness>() {
    let store = H::new();
    let mut first = store.open(10).unwrap();
    match store.open(20) {
        // Refused: the first goes on.
        Err(StoreError::Fenced(_)) => first.appender.append(&grant(30)).unwrap(),
        // Accepted: the first is dead, in all its parts.
        Ok(mut second) => {
            let dead = first.appender.append(&grant(30));
            assert!(matches!(dead, Err(StoreError::Fenced(_))), "{dead:?}");
            let dead = first.snapshotter.marker(Revision(10));
            assert!(matches!(dead, Err(StoreError::Fenced(_))), "{dead:?}");
            second.appender.append(&grant(30)).unwrap();
        }
        Err(other) => panic!("{other}"),
    }
}

fn a_reader_sees_the_last_slice<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    opened.appender.append(&entry(12, vec![granted(11), granted(12)])).unwrap();
    assert_eq!(opened.reader.row(&key(11)).unwrap(), None, "rows are written by slices only");
    opened.snapshotter.slice(&[(key(11), Some(granted(11)))]).unwrap();
    assert_eq!(opened.reader.row(&key(11)).unwrap(), Some(granted(11)));
    opened.snapshotter.slice(&[(key(12), Some(granted(12))), (key(11), None)]).unwrap();
    assert_eq!(opened.reader.row(&key(11)).unwrap(), None);
    assert_eq!(opened.reader.row(&key(12)).unwrap(), Some(granted(12)));
}

fn released_log_takes_replay_memory_with_it_but_no_row<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    opened.appender.append(&grant(11)).unwrap();
    opened.appender.append(&entry(12, vec![remembered(12)])).unwrap();
    for revision in 13..100 {
        opened.appender.append(&grant(revision)).unwrap();
    }
    let rows: Vec<_> =
        (13..100).chain([11]).map(|token| (key(token), Some(granted(token)))).collect();
    opened.snapshotter.slice(&rows).unwrap();
    opened.snapshotter.marker(Revision(99)).unwrap();
    drop(opened);
    let mut opened = store.open(10).unwrap();
    assert_eq!(opened.recovered.memory, [remembered(12)], "not released yet");
    opened.appender.release(Revision(99)).unwrap();
    drop(opened);
    store.crash(0);
    let opened = store.open(10).unwrap();
    assert_eq!(opened.recovered.memory, []);
    assert_eq!(opened.recovered.rows.len(), 88);
    assert_eq!(opened.recovered.rows.first(), Some(&granted(11)));
    assert_eq!(opened.recovered.revision, Revision(101));
}

fn a_lock_taken_and_released_between_snapshots_is_not_pending<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    for token in (11..100).step_by(2) {
        opened.appender.append(&grant(token)).unwrap();
        opened.appender.append(&end(token, token + 1)).unwrap();
    }
    drop(opened);
    let opened = store.open(10).unwrap();
    assert!(opened.pending.rows.is_empty(), "{:?}", opened.pending.rows);
    assert!(opened.pending_bytes > 0);
    assert_eq!(opened.recovered.memory.len(), 45, "how each ended is known");
}

// === random histories ===

#[derive(Clone, Debug)]
enum Step {
    /// Grants of so many leases, in one entry.
    Grant(u64),
    /// One live lease ends.
    End(usize),
    /// One live lease ends and is closed, or one that is closed is reopened.
    Close(usize),
    /// A session opens, or one that is there ends, or one that has ended goes.
    Session(usize),
    /// Durable time goes on.
    Clock,
    Remember,
    /// A snapshot with a row a slice; `crash_after`: the machine stops after so many slices,
    /// if there are as many. Otherwise the marker is written, and the log released if asked
    /// for, and then it stops, if asked for.
    Snapshot {
        crash_after: Option<usize>,
        slices_kept: usize,
        release: bool,
        crash: bool,
    },
    Crash,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let snapshot = (prop::option::of(0..6_usize), 0..6_usize, any::<bool>(), any::<bool>())
        .prop_map(|(crash_after, slices_kept, release, crash)| Step::Snapshot {
            crash_after,
            slices_kept,
            release,
            crash,
        });
    let step = prop_oneof![
        6 => (1..4_u64).prop_map(Step::Grant),
        6 => any::<usize>().prop_map(Step::End),
        3 => any::<usize>().prop_map(Step::Close),
        3 => any::<usize>().prop_map(Step::Session),
        1 => Just(Step::Clock),
        1 => Just(Step::Remember),
        3 => snapshot,
        1 => Just(Step::Crash),
    ];
    collection::vec(step, 1..40)
}

/// The token of the lease that a row is of.
fn token_of(key: &RowKey) -> Option<Token> {
    match key {
        RowKey::Lease(_, token) => Some(*token),
        RowKey::Clock | RowKey::Session(..) | RowKey::Record(..) | RowKey::Protection(..) => None,
    }
}

/// A store and the naive model of it.
struct Run<H> {
    store: H,
    opened: Option<Opened>,
    pending: Pending,
    rows: BTreeMap<RowKey, Change>,
    /// All that replay memory was ever fed, and how much of it must still be there.
    memory: Vec<Change>,
    released: usize,
    revision: u64,
}

impl<H: Harness> Run<H> {
    fn new() -> Self {
        let mut run = Self {
            store: H::new(),
            opened: None,
            pending: Pending::default(),
            rows: BTreeMap::new(),
            memory: Vec::new(),
            released: 0,
            revision: 0,
        };
        run.reopen(0);
        run
    }

    fn append(&mut self, changes: Vec<Change>) {
        let entry = entry(self.revision, changes);
        self.opened.as_mut().unwrap().appender.append(&entry).unwrap();
        self.pending.absorb(&entry);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant(count) => {
                let tokens = self.revision + 1..=self.revision + count;
                self.revision += count;
                self.rows.extend(tokens.clone().map(|token| (key(token), granted(token))));
                self.append(tokens.map(granted).collect());
            }
            Step::End(index) => {
                let leases: Vec<Token> = self.rows.keys().filter_map(token_of).collect();
                if leases.is_empty() {
                    return;
                }
                let token = leases[index % leases.len()];
                self.revision += 1;
                self.rows.remove(&key(token.0));
                self.memory.push(ended(token.0, self.revision));
                self.append(vec![ended(token.0, self.revision)]);
            }
            Step::Close(index) => {
                let leases: Vec<Token> = self.rows.keys().filter_map(token_of).collect();
                if leases.is_empty() {
                    return;
                }
                let token = leases[index % leases.len()].0;
                self.revision += 1;
                let is_closed = matches!(self.rows[&key(token)], Change::LeaseClosed(_));
                let change = if is_closed { reopened } else { closed };
                self.change(change(token, self.revision));
            }
            Step::Session(index) => self.session(index),
            Step::Clock => {
                self.revision += 1;
                let (at, revision) = (DurableMs(self.revision), Revision(self.revision));
                self.change(Change::TimePassed { at, revision });
            }
            Step::Remember => {
                self.revision += 1;
                self.memory.push(remembered(self.revision));
                self.append(vec![remembered(self.revision)]);
            }
            Step::Snapshot { crash_after, slices_kept, release, crash } => {
                self.snapshot(crash_after, slices_kept, release, crash);
            }
            Step::Crash => self.reopen(0),
        }
    }

    /// Opens a session, or ends one, or removes one that has ended.
    fn session(&mut self, index: usize) {
        let sessions: Vec<_> =
            self.rows.keys().filter(|key| matches!(key, RowKey::Session(..))).cloned().collect();
        self.revision += 1;
        let at = index % (sessions.len() + 1);
        let change = match sessions.get(at).map(|key| &self.rows[key]) {
            None => opened(self.revision),
            Some(Change::SessionOpened(it)) => session_ended(Arc::clone(it), self.revision),
            Some(Change::SessionEnded(it)) => swept(&it.opened, self.revision),
            Some(other) => panic!("no row of a session: {other:?}"),
        };
        self.change(change);
    }

    fn change(&mut self, change: Change) {
        match change.trace() {
            Trace::Created(key) | Trace::Written(key) => {
                self.rows.insert(key, change.clone());
            }
            Trace::Removed(key) => {
                self.rows.remove(&key);
            }
            Trace::None => {}
        }
        if matches!(change, Change::SessionEnded(_) | Change::LeaseClosed(_)) {
            self.memory.push(change.clone());
        }
        self.append(vec![change]);
    }

    fn snapshot(&mut self, after: Option<usize>, kept: usize, release: bool, crash: bool) {
        let through = self.pending.through;
        let pending = std::mem::take(&mut self.pending);
        self.pending.through = through;
        let opened = self.opened.as_mut().unwrap();
        for (index, (key, image)) in pending.rows.into_iter().enumerate() {
            if after == Some(index) {
                return self.reopen(kept);
            }
            opened.snapshotter.slice(&[(key, image.row())]).unwrap();
        }
        if after.is_some() {
            return self.reopen(kept);
        }
        opened.snapshotter.marker(through).unwrap();
        if release {
            opened.appender.release(through).unwrap();
            self.released = self.memory.len();
        }
        if crash {
            self.reopen(kept);
        }
    }

    fn reopen(&mut self, slices_kept: usize) {
        self.opened = None;
        self.store.crash(slices_kept);
        let opened = self.store.open(0).unwrap();
        assert!(opened.recovered.rows.iter().eq(self.rows.values()), "{:?}", opened.recovered);
        let memory = &opened.recovered.memory;
        assert!(self.memory.ends_with(memory), "{memory:?} is no end of {:?}", self.memory);
        assert!(memory.len() >= self.memory.len() - self.released, "{memory:?} is too short");
        assert_eq!(opened.recovered.revision.0, self.revision + 1);
        self.revision += 1;
        self.pending = opened.pending.clone();
        self.opened = Some(opened);
    }
}

fn what_is_recovered_is_the_fold_of_all_changes<H: Harness>() {
    let config = ProptestConfig { cases: H::CASES, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&any_steps(), |steps| {
            let mut run = Run::<H>::new();
            for step in steps {
                run.step(step);
            }
            run.reopen(0);
            Ok(())
        })
        .unwrap();
}

/// Every place at which one snapshot can be cut short, marker and release included.
fn a_crash_at_any_point_of_a_snapshot_loses_nothing<H: Harness>() {
    for crash_after in 0..8 {
        let mut run = Run::<H>::new();
        let steps = [Step::Grant(3), Step::Grant(3)];
        steps.into_iter().for_each(|step| run.step(step));
        // In the state before: some of these rows, and one that will be gone.
        run.snapshot(None, 0, false, true);
        run.step(Step::Grant(3));
        run.step(Step::End(0));
        run.step(Step::End(0));
        run.snapshot(Some(crash_after), crash_after, false, true);
        // What the cut-short snapshot wrote ends while no marker knows of it.
        while !run.rows.is_empty() {
            run.step(Step::End(0));
        }
        run.reopen(usize::MAX);
        run.snapshot(None, 0, true, true);
        run.reopen(0);
        assert_eq!(run.opened.unwrap().recovered.rows, []);
    }
}

macro_rules! laws_hold {
    ($engine:ident, $harness:ty: $($law:ident),* $(,)?) => {
        mod $engine {
            $(
                #[test]
                fn $law() {
                    super::$law::<$harness>();
                }
            )*
        }
    };
    ($($engine:ident: $harness:ty),*) => {
        $(laws_hold! { $engine, $harness:
            an_acknowledged_entry_is_recovered_whole_and_in_order,
            revisions_never_go_backwards,
            the_counter_goes_on_after_the_last_commit,
            a_second_opener_never_leaves_two_writers,
            a_reader_sees_the_last_slice,
            released_log_takes_replay_memory_with_it_but_no_row,
            a_lock_taken_and_released_between_snapshots_is_not_pending,
            what_is_recovered_is_the_fold_of_all_changes,
            a_crash_at_any_point_of_a_snapshot_loses_nothing,
        })*
    };
}

laws_hold! { in_memory: super::InMemory, on_disk: super::OnDisk }
