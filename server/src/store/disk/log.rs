//! The log: entries in framed records of open-wal, read and audited by ourselves.
//!
//! Reading goes through the segment files before open-wal touches them, for two reasons: it
//! names file and offset of all damage, and it finds what open-wal would drop in silence (a
//! record that reads as zeros, with acknowledged ones behind it, looks like the end of the
//! log). open-wal then has to come to the same end, or the store is not opened.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use open_wal::{Lsn, TailState, Wal, WalConfig, WalError};
use singletrack_core::types::Revision;

use super::{
    Sizes, damaged,
    folder::{Hold, sync_folder},
    frame, io,
};
use crate::store::{
    Appender, Entry, StoreError,
    codec::{self, Flawed},
    recovery::{Point, Points},
};

/// Bytes of a segment's header.
const SEGMENT_HEAD: usize = 64;
/// Bytes of a record's header.
const RECORD_HEAD: usize = 20;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// What [`read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Place of the first entry; 1 in an empty log.
    first: u64,
    /// Place of the last one; one less than `first` when there is none.
    last: u64,
}

// === reading ===

/// Reads all entries, oldest first: place, commit revision of the entry before, entry, bytes.
pub(super) fn read(
    path: &Path,
    sizes: Sizes,
    mut entry: impl FnMut(u64, Revision, Entry, u64) -> Result<(), Flawed>,
) -> Result<Found, StoreError> {
    let segments = segments(path)?;
    let mut found: Option<Found> = None;
    let mut end = 0;
    for (index, (base, file)) in segments.iter().enumerate() {
        let newest = index + 1 == segments.len();
        let bytes = fs::read(file).map_err(|source| io("reading", file, source))?;
        let segment = Segment { file, bytes: &bytes, base: *base, newest, sizes };
        if !segment.check_head()? {
            continue;
        }
        if let (Some(found), Some((_, before))) =
            (&found, index.checked_sub(1).and_then(|index| segments.get(index)))
            && found.last + 1 != *base
        {
            let name = file.display();
            let what =
                format!("entry {} is not there, but {name} begins with {base}", found.last + 1);
            return Err(damaged(before, Some(end), &Flawed(what)));
        }
        let last;
        (last, end) = segment.entries(&mut entry)?;
        found = Some(Found { first: found.map_or(*base, |found| found.first), last });
    }
    Ok(found.unwrap_or(Found { first: 1, last: 0 }))
}

/// Segment files by the place of their first entry.
fn segments(path: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let items = match fs::read_dir(path) {
        Ok(items) => items,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io("listing", path, source)),
    };
    let mut segments = Vec::new();
    for item in items {
        let name = item.map_err(|source| io("listing", path, source))?.file_name();
        let base = name
            .to_str()
            .and_then(|name| name.strip_suffix(".wal"))
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok());
        if let Some(base) = base {
            segments.push((base, path.join(name)));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

struct Segment<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    base: u64,
    newest: bool,
    sizes: Sizes,
}

/// What lies where a record should begin.
enum Record {
    Entry {
        body: Vec<u8>,
        framed: usize,
    },
    /// open-wal would take it, but it is not ours.
    Foreign,
    Nothing,
}

impl Segment<'_> {
    /// False: the segment was being created when the machine stopped, and holds nothing.
    fn check_head(&self) -> Result<bool, StoreError> {
        let sound = self.bytes.first_chunk::<SEGMENT_HEAD>().is_some_and(|head| {
            let (covered, sum) = head.split_at(60);
            covered.starts_with(b"WAL\0SEG1")
                && covered.get(12..20) == Some(&self.base.to_le_bytes())
                && sum == crc32c::crc32c(covered).to_le_bytes()
        });
        if sound {
            return Ok(true);
        }
        // open-wal removes such a segment when it is the newest and its first record is not
        // sound; that is right only when it holds no entry at all.
        if self.newest && self.later_entry(SEGMENT_HEAD, self.base.saturating_sub(1)).is_none() {
            return Ok(false);
        }
        Err(self.damage(0, "the header of the segment is not what was written"))
    }

    /// Place of the last entry, and where it ends.
    fn entries(
        &self,
        sink: &mut impl FnMut(u64, Revision, Entry, u64) -> Result<(), Flawed>,
    ) -> Result<(u64, u64), StoreError> {
        let mut at = SEGMENT_HEAD;
        let mut place = self.base;
        loop {
            match self.record(at, place) {
                Record::Entry { body, framed } => {
                    let weight = u64::try_from(framed).unwrap_or(u64::MAX);
                    codec::decode_entry(&body)
                        .and_then(|(after, entry)| sink(place, after, entry, weight))
                        .map_err(|flawed| self.damage(at, &flawed.0))?;
                    at += framed;
                    place += 1;
                }
                Record::Foreign => return Err(self.damage(at, "a record that is not ours")),
                Record::Nothing => break,
            }
        }
        if let Some((later, found)) = self.later_entry(at, place) {
            let what =
                format!("entry {place} is not what was written, but entry {found} at {later} is");
            return Err(self.damage(at, &what));
        }
        Ok((place - 1, u64::try_from(at).unwrap_or(u64::MAX)))
    }

    fn record(&self, at: usize, place: u64) -> Record {
        let Some(framed) = self.sound_record(at) else { return Record::Nothing };
        match self.frame(at) {
            Some((found, body)) if found == place => Record::Entry { body, framed },
            Some(_) | None => Record::Foreign,
        }
    }

    /// Bytes of the record that open-wal would accept here.
    fn sound_record(&self, at: usize) -> Option<usize> {
        let record = self.bytes.get(at..)?;
        let (sum, covered) = record.split_first_chunk()?;
        let (length, rest) = covered.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        // A record of zeros has a checksum other than zero, so zeros are never a record; the
        // type is 1 in every record that there is.
        let full = rest.get(8) == Some(&1);
        if !full || length > self.sizes.record_bytes_max {
            return None;
        }
        let framed = (RECORD_HEAD + usize::try_from(length).ok()?).next_multiple_of(ALIGNMENT);
        let covered = record.get(4..framed)?;
        (crc32c::crc32c(covered) == u32::from_le_bytes(*sum)).then_some(framed)
    }

    fn frame(&self, at: usize) -> Option<(u64, Vec<u8>)> {
        frame::open(self.bytes.get(at + RECORD_HEAD..)?)
    }

    /// The first entry from `at` on whose place is above `place`, and where it lies. One that
    /// is there proves that all before it had been acknowledged.
    fn later_entry(&self, at: usize, place: u64) -> Option<(usize, u64)> {
        (at..self.bytes.len()).step_by(ALIGNMENT).find_map(|at| {
            let (found, _) = self.frame(at)?;
            (found > place).then_some((at, found))
        })
    }

    fn damage(&self, at: usize, what: &str) -> StoreError {
        damaged(self.file, u64::try_from(at).ok(), &Flawed(what.to_owned()))
    }
}

// === writing ===

/// Opens the log for writing: cuts a torn tail and syncs every segment.
pub(super) fn open(path: &Path, sizes: Sizes, found: Found) -> Result<Wal, StoreError> {
    let config =
        WalConfig { segment_size: sizes.segment_bytes, max_record_size: sizes.record_bytes_max };
    let (wal, report) = Wal::open(path, config).map_err(|error| refused(path, error))?;
    match report.tail_state {
        TailState::Clean => {}
        TailState::TruncatedAt { segment_base, offset } => tracing::warn!(
            file = %segment(path, segment_base).display(),
            offset,
            "the last record of the log was torn; it was never acknowledged and has been cut",
        ),
    }
    if report.durable_lsn.0 != found.last || report.oldest_lsn.0 != found.first {
        let what = format!(
            "entries {}..={} were found, the log itself knows {}..={}",
            found.first, found.last, report.oldest_lsn, report.durable_lsn
        );
        return Err(damaged(path, None, &Flawed(what)));
    }
    // What was read may have been written by a process that died before its sync.
    for (_, file) in segments(path)? {
        File::open(&file)
            .and_then(|opened| opened.sync_all())
            .map_err(|source| io("syncing", &file, source))?;
    }
    sync_folder(path)?;
    Ok(wal)
}

/// Writes entries, one record and one fdatasync each.
pub(super) struct LogAppender {
    wal: Wal,
    path: PathBuf,
    last: Revision,
    points: Points,
    seed: u64,
    buffer: Vec<u8>,
    written: u64,
    dead: bool,
    _hold: Hold,
}

impl LogAppender {
    pub(super) fn new(wal: Wal, path: PathBuf, last: Revision, points: Points, hold: Hold) -> Self {
        // Without randomness the salt is merely foreseeable, which a caller could use only to
        // delay a restart after a torn write; no reason not to serve.
        let seed = getrandom::u64().unwrap_or_default();
        let buffer = Vec::new();
        Self { wal, path, last, points, seed, buffer, written: 0, dead: false, _hold: hold }
    }

    /// The start entry is written: counting begins.
    pub(super) fn opened(&mut self) {
        self.written = 0;
    }

    fn write(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let commit =
            entry.last().ok_or_else(|| unknown("an entry without transactions", &self.path))?;
        self.buffer.clear();
        self.buffer.resize(frame::HEAD, 0);
        codec::encode_entry(self.last, entry, &mut self.buffer);
        let place = self.wal.last_lsn().next().0;
        frame::seal(&mut self.buffer, place, frame::salt(self.seed, place));
        self.wal.append(&self.buffer).map_err(|error| failed(&self.path, &error))?;
        self.wal.commit().map_err(|error| failed(&self.path, &error))?;
        let framed = (RECORD_HEAD + self.buffer.len()).next_multiple_of(ALIGNMENT);
        let bytes = u64::try_from(framed).unwrap_or(u64::MAX);
        self.points.note(Point { revision: commit, place }, bytes);
        self.written += bytes;
        self.last = commit;
        Ok(())
    }
}

impl Appender for LogAppender {
    fn append(&mut self, entry: &Entry) -> Result<(), StoreError> {
        if self.dead {
            return Err(unknown("an earlier write failed", &self.path));
        }
        let outcome = self.write(entry);
        self.dead = outcome.is_err();
        outcome
    }

    fn written_bytes(&self) -> u64 {
        self.written
    }

    fn release(&mut self, through: Revision) -> Result<(), StoreError> {
        if self.dead {
            return Err(unknown("an earlier write failed", &self.path));
        }
        let Some(place) = self.points.release(through) else { return Ok(()) };
        self.wal.checkpoint(Lsn(place)).map_err(|error| {
            self.dead = true;
            failed(&self.path, &error)
        })
    }
}

// === errors ===

fn segment(path: &Path, base: Lsn) -> PathBuf {
    path.join(format!("{:020}.wal", base.0))
}

/// Why the log could not be opened.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it is non-exhaustive")]
fn refused(path: &Path, error: WalError) -> StoreError {
    let what = Flawed(error.to_string());
    match error {
        WalError::Io(source) => io("opening the log", path, source),
        WalError::Corruption { segment: base, offset, .. }
        | WalError::TornMidLog { segment: base, offset } => {
            damaged(&segment(path, base), Some(offset), &what)
        }
        WalError::Locked => StoreError::Fenced(format!(
            "another process has locked {}: stop it first",
            path.display()
        )),
        // The variants left say something about the whole; open-wal may also add some.
        _ => damaged(path, None, &what),
    }
}

/// A write, sync, roll or release that failed.
fn failed(path: &Path, error: &WalError) -> StoreError {
    unknown(&error.to_string(), path)
}

fn unknown(what: &str, path: &Path) -> StoreError {
    StoreError::OutcomeUnknown(format!("{what}, writing the log {}", path.display()))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
