//! The gate for open-wal: torn tails are cut, damage before them is refused and named. Runs
//! on the log alone, so that every byte can be tried.

use std::ops::Range;

use tempfile::TempDir;

use super::*;
use crate::store::{
    disk::folder::Folder,
    samples::{entry, grant, granted},
};

const SIZES: Sizes = Sizes { segment_bytes: 6_144, record_bytes_max: 4_096 };

/// A log folder, and what is in it when whole.
struct Home {
    dir: TempDir,
    entries: Vec<Entry>,
    /// Files by name, as they were when the log was written.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Where each record lies: index of the file, and bytes.
    records: Vec<(usize, Range<usize>)>,
}

impl Home {
    /// A log of these entries, each following the one before.
    fn new(entries: Vec<Entry>) -> Self {
        let dir = TempDir::new().unwrap();
        let folder = Folder::open(&dir.path().join("data")).unwrap();
        let path = folder_of(&dir);
        let found = Found { first: 1, last: 0 };
        let wal = self::open(&path, SIZES, found).unwrap();
        let points = Points::new(0);
        let mut appender = LogAppender::new(wal, path.clone(), Revision(0), points, folder.hold());
        let (mut records, mut at) = (Vec::new(), SEGMENT_HEAD);
        for entry in &entries {
            let (files, written) = (segments(&path).unwrap().len(), appender.written_bytes());
            appender.append(entry).unwrap();
            let file = segments(&path).unwrap().len() - 1;
            if file == files {
                at = SEGMENT_HEAD;
            }
            let end = at + usize::try_from(appender.written_bytes() - written).unwrap();
            records.push((file, at..end));
            at = end;
        }
        drop(appender);
        let files = segments(&path).unwrap().into_iter();
        let files = files.map(|(_, file)| (file.clone(), fs::read(file).unwrap())).collect();
        Self { dir, entries, files, records }
    }

    fn path(&self) -> PathBuf {
        folder_of(&self.dir)
    }

    /// Opens the log with one file replaced, and gives back what is in it.
    fn with(&self, file: usize, bytes: &[u8]) -> Result<Vec<Entry>, StoreError> {
        for (path, whole) in &self.files {
            fs::write(path, whole).unwrap();
        }
        fs::write(&self.files[file].0, bytes).unwrap();
        self.recover()
    }

    fn recover(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let found = read(&self.path(), SIZES, |_, _, entry, _| {
            entries.push(entry);
            Ok(())
        })?;
        open(&self.path(), SIZES, found)?;
        Ok(entries)
    }

    fn last_record(&self) -> (usize, Range<usize>) {
        self.records.last().unwrap().clone()
    }

    fn all_but_the_last(&self) -> &[Entry] {
        &self.entries[..self.entries.len() - 1]
    }
}

fn folder_of(dir: &TempDir) -> PathBuf {
    dir.path().join("data").join("log")
}

/// Three segments of several records; the last record spans several sectors.
fn three_segments() -> Home {
    let tokens = |range: Range<u64>| entry(range.end - 1, range.map(granted).collect());
    let home = Home::new(vec![
        grant(1),
        tokens(2..30),
        tokens(30..60),
        grant(60),
        tokens(61..90),
        tokens(90..120),
        tokens(120..150),
        grant(150),
        tokens(151..180),
        tokens(180..210),
        tokens(210..250),
    ]);
    assert!(home.files.len() >= 3, "{:?}", home.records);
    let (_, last) = home.last_record();
    assert!(last.len() > 4 * 512, "{last:?}");
    home
}

fn cuts(record: &Range<usize>) -> impl Iterator<Item = usize> {
    let record = record.clone();
    let sectors = record.clone().filter(|at| at % 512 == 0);
    sectors.chain(record.clone().step_by(61)).chain(record.clone().take(80)).chain([record.end - 1])
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_recovered() {
    let home = three_segments();
    let (file, last) = home.last_record();
    let whole = &home.files[file].1;
    for cut in cuts(&last) {
        // Everything from here on was never written.
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        let entries = home.with(file, &torn).unwrap_or_else(|error| panic!("{cut}: {error}"));
        let zeros = whole[cut..last.end].iter().all(|byte| *byte == 0);
        assert_eq!(entries, if zeros { &home.entries } else { home.all_but_the_last() }, "{cut}");
        // And the file is no longer than that.
        torn.truncate(cut);
        let entries = home.with(file, &torn).unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert_eq!(entries, home.all_but_the_last(), "{cut}");
    }
}

#[test]
fn sectors_of_the_last_record_that_came_out_of_order_are_a_torn_tail() {
    let home = three_segments();
    let (file, last) = home.last_record();
    let whole = &home.files[file].1;
    let sector = |at: usize| (at / 512 * 512).max(last.start)..(at / 512 * 512 + 512).min(last.end);
    for at in last.clone().step_by(512).chain([last.end - 8]) {
        // All but this sector were written; then: only this one was.
        let mut one_missing = whole.clone();
        one_missing[sector(at)].fill(0);
        let mut one_there = whole.clone();
        one_there[last.clone()].fill(0);
        one_there[sector(at)].copy_from_slice(&whole[sector(at)]);
        for torn in [one_missing, one_there] {
            let entries = home.with(file, &torn).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert_eq!(entries, home.all_but_the_last(), "{at}");
        }
    }
}

#[test]
fn what_follows_a_torn_tail_is_written_over_it() {
    let home = three_segments();
    let (file, last) = home.last_record();
    for cut in cuts(&last) {
        // The first sector is missing, so open-wal sees a clean end and zeroes nothing.
        let mut torn = home.files[file].1.clone();
        torn[last.start..cut].fill(0);
        // Nothing of it is missing: it may begin with zeros, as any checksum.
        if torn == home.files[file].1 {
            continue;
        }
        home.with(file, &torn).unwrap_or_else(|error| panic!("{cut}: {error}"));
        let found = read(&home.path(), SIZES, |_, _, _, _| Ok(())).unwrap();
        let wal = open(&home.path(), SIZES, found).unwrap();
        let hold = Folder::open(&home.dir.path().join("data")).unwrap().hold();
        let after = home.all_but_the_last().last().unwrap().last().unwrap();
        let mut appender = LogAppender::new(wal, home.path(), after, Points::new(0), hold);
        appender.append(&grant(1_000)).unwrap();
        drop(appender);
        let mut expected = home.all_but_the_last().to_vec();
        expected.push(grant(1_000));
        assert_eq!(home.recover().unwrap(), expected, "{cut}");
    }
}

/// Asserts that this change of a record before the last is refused, with file and offset.
fn assert_refused(home: &Home, file: usize, record: &Range<usize>, bytes: &[u8], what: &str) {
    match home.with(file, bytes) {
        Err(StoreError::Damaged { file: named, offset, .. }) => {
            assert_eq!(named, home.files[file].0, "{what}");
            assert_eq!(offset, u64::try_from(record.start).ok(), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_flipped_bit_before_the_last_record_is_refused_with_file_and_offset() {
    let home = three_segments();
    let (_, earlier) = home.records.split_last().unwrap();
    for (file, record) in earlier {
        let whole = &home.files[*file].1;
        // Both headers bit by bit; the entry by one bit every few bytes.
        let headers = (record.start..record.start + 52).flat_map(|at| (0..8).map(move |b| (at, b)));
        let body = (record.start + 52..record.end).step_by(7).map(|at| (at, at % 8));
        for (at, bit) in headers.chain(body) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert_refused(&home, *file, record, &flipped, &format!("bit {bit} of {at}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_the_header_of_a_segment_is_refused_with_its_file() {
    let home = three_segments();
    for (file, (path, whole)) in home.files.iter().enumerate() {
        for at in 0..SEGMENT_HEAD * 8 {
            let mut flipped = whole.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            match home.with(file, &flipped) {
                Err(StoreError::Damaged { file: named, offset, .. }) => {
                    assert_eq!((&named, offset), (path, Some(0)), "bit {at}");
                }
                other => panic!("bit {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_behind_the_last_record_of_a_segment_loses_nothing() {
    let home = three_segments();
    for (file, (_, whole)) in home.files.iter().enumerate() {
        let end = home.records.iter().filter(|(at, _)| *at == file).map(|(_, r)| r.end).max();
        for at in (end.unwrap()..whole.len()).step_by(41).chain(end.unwrap()..end.unwrap() + 20) {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            match home.with(file, &flipped) {
                Ok(entries) => assert_eq!(entries, home.entries, "{at}"),
                Err(StoreError::Damaged { .. }) => {}
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }
}

#[test]
fn zeros_over_acknowledged_records_are_refused() {
    let home = three_segments();
    let (_, earlier) = home.records.split_last().unwrap();
    for (file, record) in earlier {
        let whole = &home.files[*file].1;
        for end in [record.start + RECORD_HEAD, record.start + 512, record.end] {
            let mut zeroed = whole.clone();
            zeroed[record.start..end.min(record.end)].fill(0);
            assert_refused(&home, *file, record, &zeroed, &format!("{record:?} to {end}"));
        }
    }
}

/// Why the log is audited before open-wal sees it. When this fails, open-wal has got better.
#[test]
fn open_wal_alone_drops_what_lies_behind_zeros() {
    let home = three_segments();
    let (file, last) = home.last_record();
    let (_, record) = &home.records[home.records.len() - 2];
    assert_eq!(record.end, last.start, "both are in the newest segment");
    let mut zeroed = home.files[file].1.clone();
    zeroed[record.clone()].fill(0);
    fs::write(&home.files[file].0, zeroed).unwrap();
    let config =
        WalConfig { segment_size: SIZES.segment_bytes, max_record_size: SIZES.record_bytes_max };
    let (_, report) = Wal::open(&home.path(), config).unwrap();
    assert_eq!(report.tail_state, TailState::Clean);
    assert_eq!(usize::try_from(report.durable_lsn.0).unwrap(), home.entries.len() - 2);
}

#[test]
fn a_missing_segment_is_refused() {
    let home = three_segments();
    fs::remove_file(&home.files[1].0).unwrap();
    let Err(StoreError::Damaged { file, what, .. }) = home.recover() else { panic!() };
    assert_eq!(file, home.files[0].0);
    assert!(what.contains("is not there"), "{what}");
}

#[test]
fn a_segment_that_was_being_created_is_no_damage() {
    let home = three_segments();
    let next = home.path().join(format!("{:020}.wal", home.entries.len() + 1));
    for bytes in [Vec::new(), vec![0; 6_144]] {
        fs::write(&next, bytes).unwrap();
        assert_eq!(home.recover().unwrap(), home.entries);
        assert!(!next.exists());
    }
}

/// A piece of a log, stored by a caller, in a record that is then torn.
#[test]
fn a_stored_piece_of_a_log_is_not_taken_for_a_record() {
    let donor = Home::new((1..9).map(grant).collect());
    let (_, piece) = donor.records.last().unwrap();
    let piece = &donor.files[0].1[piece.clone()];
    for sealed in [false, true] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        let config = WalConfig {
            segment_size: SIZES.segment_bytes,
            max_record_size: SIZES.record_bytes_max,
        };
        let (mut wal, _) = Wal::open(&path, config).unwrap();
        // Aligned as a record would be: 20 bytes of header, 32 of frame, 4 more.
        let mut payload = vec![0; frame::HEAD + 4];
        payload.extend_from_slice(piece);
        if sealed {
            frame::seal(&mut payload, 1, 42);
        }
        wal.append(&payload).unwrap();
        wal.commit().unwrap();
        drop(wal);
        let file = segment(&path, Lsn(1));
        let mut torn = fs::read(&file).unwrap();
        torn[SEGMENT_HEAD] ^= 1;
        fs::write(&file, torn).unwrap();
        let reopened = Wal::open(&path, config);
        assert_eq!(reopened.is_ok(), sealed, "{:?}", reopened.err());
    }
}
