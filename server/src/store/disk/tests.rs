//! What a data folder survives, and what it refuses, as a whole.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use singletrack_core::{
    change::{Change, RecordLife, RecordWritten},
    types::{ContentType, DurableMs, Holder, Namespace, RecordKey, RecordTtl, Revision},
};
use tempfile::TempDir;

use super::*;
use crate::store::{
    Entry,
    coalesce::Pending,
    samples::{data, end, entry, grant, granted, key, large, remembered, written},
};

const SIZES: Sizes = Sizes { segment_bytes: 4_096, record_bytes_max: 2_048 };

fn folder() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let path = home.path().join("data");
    (home, path)
}

fn open_small(path: &Path) -> Result<Opened, StoreError> {
    open_sized(path, 10, SIZES)
}

/// Writes entries to a folder.
fn write(path: &Path, entries: impl IntoIterator<Item = Entry>) -> Opened {
    let mut opened = open_small(path).unwrap();
    entries.into_iter().for_each(|entry| opened.appender.append(&entry).unwrap());
    opened
}

fn message(outcome: Result<Opened, StoreError>) -> String {
    outcome.unwrap_err().to_string()
}

// === the folder ===

#[test]
fn a_new_folder_is_for_its_owner_alone() {
    let (_home, path) = folder();
    open_small(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), "singletrack 4\n");
}

#[test]
fn a_newer_format_is_refused_before_anything_else_is_read() {
    let (_home, path) = folder();
    drop(write(&path, [grant(11)]));
    fs::write(path.join("FORMAT"), "singletrack 5\n").unwrap();
    fs::write(path.join("log").join(format!("{:020}.wal", 1)), "of the future").unwrap();
    let said = message(open_small(&path));
    let expected = "has format 5, this version reads up to 4: use a newer singletrack";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let (_home, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("thesis.txt"), "").unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("is no data folder, it holds `thesis.txt`"), "{said}");
    assert!(!path.join("log").exists());
    fs::create_dir(path.join("state")).unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("FORMAT is damaged: it is missing"), "{said}");
}

#[test]
fn a_new_volume_is_an_empty_folder() {
    let (_home, path) = folder();
    fs::create_dir_all(path.join("lost+found")).unwrap();
    drop(open_small(&path).unwrap());
}

#[test]
fn a_format_that_can_not_be_read_is_refused() {
    for text in ["", "singletrack 1", "singletrack 0\n", "singletrack one\n", "\u{1}"] {
        let (_home, path) = folder();
        drop(write(&path, []));
        fs::write(path.join("FORMAT"), text).unwrap();
        let said = message(open_small(&path));
        assert!(said.contains("FORMAT is damaged at offset 0"), "{text:?}: {said}");
    }
}

#[test]
fn a_crash_while_the_folder_was_being_made_is_no_damage() {
    let (_home, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("LOCK"), "").unwrap();
    fs::write(path.join("FORMAT.new"), "singlet").unwrap();
    open_small(&path).unwrap();
    // And the same a step later.
    let (_home, path) = folder();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("FORMAT"), "singletrack 1\n").unwrap();
    fs::create_dir(path.join("log")).unwrap();
    fs::write(path.join("log").join(format!("{:020}.wal", 1)), vec![0; 4_096]).unwrap();
    open_small(&path).unwrap();
}

#[test]
fn a_second_opener_is_told_what_to_do() {
    let (_home, path) = folder();
    let first = open_small(&path).unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("stop it first, or give this one a folder of its own"), "{said}");
    drop(first);
    open_small(&path).unwrap();
}

#[test]
fn a_folder_stays_locked_while_any_part_of_it_lives() {
    let (_home, path) = folder();
    let reader = open_small(&path).unwrap().reader;
    assert!(matches!(open_small(&path), Err(StoreError::Fenced(_))));
    drop(reader);
    open_small(&path).unwrap();
}

// === log and state together ===

/// Rows 11..=99 in the state, their log released, and a tail in the log.
fn snapshotted(path: &Path) {
    let mut opened = write(path, (11..100).map(grant));
    let rows: Vec<_> = (11..100).map(|token| (key(token), Some(granted(token)))).collect();
    opened.snapshotter.slice(&rows, &[]).unwrap();
    opened.snapshotter.marker(Revision(99)).unwrap();
    opened.appender.release(Revision(99)).unwrap();
    opened.appender.append(&end(50, 100)).unwrap();
    opened.appender.append(&grant(101)).unwrap();
}

/// What is to be recovered from [`snapshotted`].
fn expected() -> Vec<Change> {
    (11..50).chain(51..100).chain([101]).map(granted).collect()
}

#[test]
fn a_log_that_begins_behind_the_marker_is_refused() {
    let (_home, path) = folder();
    snapshotted(&path);
    // A state from before the snapshot.
    fs::remove_dir_all(path.join("state")).unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("but the state holds only what came up to 0"), "{said}");
}

#[test]
fn a_lost_log_is_refused() {
    let (_home, path) = folder();
    snapshotted(&path);
    fs::remove_dir_all(path.join("log")).unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("the log ends at 0, but had reached 99"), "{said}");
    assert!(said.contains("restore the data folder from a backup"), "{said}");
}

#[test]
fn a_log_that_lost_its_newest_segment_is_refused() {
    let (_home, path) = folder();
    drop(write(&path, (11..100).map(grant)));
    drop(open_small(&path).unwrap());
    let names = fs::read_dir(path.join("log")).unwrap().map(|item| item.unwrap().path());
    let newest = names.filter(|name| name.extension().is_some()).max();
    fs::remove_file(newest.unwrap()).unwrap();
    let said = message(open_small(&path));
    assert!(said.contains("but had reached 100"), "{said}");
}

#[test]
fn segments_are_freed_when_released() {
    let (_home, path) = folder();
    let mut opened = write(&path, (11..100).map(grant));
    let segments = || fs::read_dir(path.join("log")).unwrap().count();
    let before = segments();
    let rows: Vec<_> = (11..100).map(|token| (key(token), Some(granted(token)))).collect();
    opened.snapshotter.slice(&rows, &[]).unwrap();
    opened.snapshotter.marker(Revision(99)).unwrap();
    opened.appender.release(Revision(50)).unwrap();
    let between = segments();
    opened.appender.release(Revision(99)).unwrap();
    assert!(before > between && between > segments());
    // The newest segment, and the log's own lock.
    assert_eq!(segments(), 2);
}

#[test]
fn an_entry_too_large_for_the_log_is_an_unknown_outcome_and_the_end() {
    let (_home, path) = folder();
    let mut opened = write(&path, [grant(11)]);
    let large = entry(200, (12..=200).map(granted).collect());
    for entry in [large, grant(201)] {
        let outcome = opened.appender.append(&entry);
        assert!(matches!(outcome, Err(StoreError::OutcomeUnknown(_))), "{outcome:?}");
    }
    drop(opened);
    assert_eq!(open_small(&path).unwrap().recovered.rows, [granted(11)]);
}

#[test]
fn the_largest_write_of_a_record_fits_into_one_record_of_the_log() {
    let (_home, path) = folder();
    let mut opened = open(&path, 10).unwrap();
    let before = (1 << 53) - 3;
    let largest = RecordWritten {
        namespace: Namespace::parse(&"n".repeat(128)).unwrap(),
        key: RecordKey::parse(&"k".repeat(512)).unwrap(),
        value: data(vec![7; 1 << 20].into()),
        content_type: ContentType::parse(&"t".repeat(128)).unwrap(),
        version: Revision(before + 1),
        created_at: Revision(before),
        written_by: Some(Holder::parse(&"\u{10ffff}".repeat(256)).unwrap()),
        life: Some(RecordLife::Until {
            at: DurableMs(u64::MAX),
            ttl: RecordTtl::parse(31_536_000_000).unwrap(),
        }),
        replaced: Some(Revision(before)),
    };
    let written = Change::RecordWritten(Arc::new(largest));
    let changes = vec![written.clone(), remembered(before + 1)];
    let entry = entry(before + 1, changes);
    assert!(entry.weight() <= WRITE_BYTES_MAX);
    opened.appender.append(&entry).unwrap();
    assert!(opened.appender.written_bytes() < u64::try_from(entry.weight()).unwrap());
    drop(opened);
    let opened = open(&path, 10).unwrap();
    assert_eq!(opened.recovered.rows, [written.to_row()]);
    let (revision, bytes) = written.carried().unwrap();
    let (_, bodies, _) = opened.into_parts();
    assert_eq!(bodies.young(revision).as_ref(), Some(bytes));
}

/// A file as it was, without the zeros at its end: fjall and the log allocate in advance.
#[derive(Clone)]
struct Kept {
    file: PathBuf,
    bytes: Vec<u8>,
    length: u64,
}

fn kept(path: &Path) -> Vec<Kept> {
    let mut files = Vec::new();
    for item in fs::read_dir(path).unwrap() {
        let file = item.unwrap().path();
        if file.is_dir() {
            files.extend(kept(&file));
            continue;
        }
        let mut bytes = fs::read(&file).unwrap();
        let length = bytes.len().try_into().unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        files.push(Kept { file, bytes, length });
    }
    files
}

fn restore(path: &Path, files: &[Kept]) {
    fs::remove_dir_all(path).unwrap();
    for Kept { file, bytes, length } in files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(*length).unwrap();
    }
}

#[test]
fn a_release_cut_short_loses_nothing() {
    let (_home, path) = folder();
    let mut opened = write(&path, (11..100).map(grant));
    let rows: Vec<_> = (11..100).map(|token| (key(token), Some(granted(token)))).collect();
    opened.snapshotter.slice(&rows, &[]).unwrap();
    opened.snapshotter.marker(Revision(99)).unwrap();
    drop(opened);
    // The log frees the oldest segment first.
    for freed in 0..2 {
        let names = fs::read_dir(path.join("log")).unwrap().map(|item| item.unwrap().path());
        let oldest = names.filter(|name| name.extension().is_some()).min();
        fs::remove_file(oldest.unwrap()).unwrap();
        let recovered = open_small(&path).unwrap().recovered;
        assert_eq!(recovered.rows, (11..100).map(granted).collect::<Vec<_>>(), "{freed}");
    }
}

#[test]
fn a_state_that_lost_a_snapshot_is_harmless_while_the_log_has_it() {
    let (_home, path) = folder();
    drop(write(&path, (11..100).map(grant)));
    let before = kept(&path.join("state"));
    let mut opened = open_small(&path).unwrap();
    let rows: Vec<_> = (11..100).map(|token| (key(token), Some(granted(token)))).collect();
    opened.snapshotter.slice(&rows, &[]).unwrap();
    opened.snapshotter.marker(Revision(99)).unwrap();
    drop(opened);
    restore(&path.join("state"), &before);
    let recovered = open_small(&path).unwrap().recovered;
    assert_eq!(recovered.rows, (11..100).map(granted).collect::<Vec<_>>());
}

#[test]
fn a_row_that_is_missing_from_the_state_is_found() {
    let (_home, path) = folder();
    snapshotted(&path);
    let database = fjall::Database::builder(path.join("state")).open().unwrap();
    let rows = database.keyspace("state", fjall::KeyspaceCreateOptions::default).unwrap();
    rows.remove(crate::store::codec::encode_key(&key(20))).unwrap();
    drop((rows, database));
    let said = message(open_small(&path));
    assert!(said.contains("it holds 88 rows, and should hold 89 others"), "{said}");
}

/// Flips bits in every file of the state; what is recovered is right, or it is refused.
fn flips_in_the_state_are_found(
    path: &Path,
    per_file: usize,
    open: impl Fn() -> Result<Opened, StoreError>,
    check: impl Fn(Opened, &str),
) {
    let files = kept(path);
    for (index, Kept { file, bytes, .. }) in files.iter().enumerate() {
        if !file.starts_with(path.join("state")) {
            continue;
        }
        // An odd step, so that no period of the format is met always at the same place.
        for at in (0..bytes.len()).step_by((bytes.len() / per_file) | 1) {
            let mut flipped = files.clone();
            flipped[index].bytes[at] ^= 1 << (at % 8);
            restore(path, &flipped);
            let place = format!("{} at {at} of {}", file.display(), bytes.len());
            match open() {
                Ok(opened) => check(opened, &place),
                Err(StoreError::Damaged { file, .. }) => {
                    assert!(file.starts_with(path), "{place}");
                }
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_journal_of_the_state_is_found_or_harmless() {
    let (_home, path) = folder();
    snapshotted(&path);
    small_flips_are_found(&path, 60);
}

#[test]
fn a_flipped_bit_in_the_tables_of_the_state_is_found_or_harmless() {
    let (_home, path) = folder();
    snapshotted(&path);
    // fjall moves the journal into tables when it is opened.
    drop(open_small(&path).unwrap());
    small_flips_are_found(&path, 40);
}

fn small_flips_are_found(path: &Path, per_file: usize) {
    let expected = expected();
    flips_in_the_state_are_found(
        path,
        per_file,
        || open_small(path),
        |opened, place| {
            assert_eq!(opened.recovered.rows, expected, "{place}");
        },
    );
}

const LARGER: Sizes = Sizes { segment_bytes: 8_192, record_bytes_max: 6_144 };

fn put(version: u64) -> Change {
    written(&format!("k{version}"), version, data(large(version)), None)
}

/// Two large values in the state, their log released.
fn snapshotted_values(path: &Path) {
    let mut opened = open_sized(path, 10, LARGER).unwrap();
    let mut pending = Pending::default();
    for version in [11, 12] {
        let entry = entry(version, vec![put(version)]);
        opened.appender.append(&entry).unwrap();
        pending.absorb(&entry);
    }
    let Pending { rows, bodies, .. } = pending;
    let rows: Vec<_> = rows.into_iter().map(|(key, it)| (key, it.into_written())).collect();
    let bodies: Vec<_> = bodies.into_iter().map(|(key, it)| (key, it.into_written())).collect();
    opened.snapshotter.slice(&rows, &bodies).unwrap();
    opened.snapshotter.marker(Revision(12)).unwrap();
    opened.appender.append(&grant(101)).unwrap();
    opened.appender.release(Revision(12)).unwrap();
}

#[test]
fn a_flipped_bit_in_a_stored_value_is_found_or_harmless() {
    let check = |opened: Opened, place: &str| {
        let rows = [granted(101), put(11).to_row(), put(12).to_row()];
        assert_eq!(opened.recovered.rows, rows, "{place}");
        for version in [11, 12] {
            match opened.reader.body(Revision(version)) {
                Ok(found) => assert!(found == Some(large(version)), "{place}"),
                Err(StoreError::Damaged { .. }) => {}
                Err(other) => panic!("{place}: {other}"),
            }
        }
    };
    for in_tables in [false, true] {
        let (_home, path) = folder();
        snapshotted_values(&path);
        if in_tables {
            drop(open_sized(&path, 10, LARGER).unwrap());
        }
        flips_in_the_state_are_found(&path, 40, || open_sized(&path, 10, LARGER), check);
    }
}

#[path = "fixture_tests.rs"]
mod fixture;
