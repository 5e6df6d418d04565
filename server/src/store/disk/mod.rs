//! The engine of service: one data folder on a local disk.
//!
//! `log/` is the truth, `state/` the part of it that is no longer in the log. Owns the order
//! of opening; the parts are in [`folder`], [`log`] and [`state`]. docs/storage-format.md
//! describes every byte, docs/decisions/0002-log-and-state-engines.md says why it is so.

mod folder;
mod frame;
mod log;
mod state;
#[cfg(test)]
mod tests;

use std::path::Path;

use self::{folder::Folder, log::LogAppender, state::State};
use super::{
    Appender, Opened, StoreError,
    codec::{Flawed, Marker},
    committer::WRITE_BYTES_MAX,
    recovery::Fold,
};

/// The newest format that this version reads, and the one it writes.
pub const FORMAT: u32 = 4;

/// The most a record of the log may weigh, bytes.
const RECORD_BYTES_MAX: u32 = 2 << 20;

const _: () = assert!(
    WRITE_BYTES_MAX + WRITE_BYTES_MAX / 4 + frame::HEAD <= RECORD_BYTES_MAX as usize,
    "whatever is written at once fits, with all that is around it"
);

/// Sizes that are part of the format: a log written with others is not opened, but a test may
/// use smaller ones for a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a log segment, allocated at once; space is freed by whole segments.
    pub segment_bytes: u64,
    /// The most a record of the log may weigh, bytes.
    pub record_bytes_max: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { segment_bytes: 32 << 20, record_bytes_max: RECORD_BYTES_MAX }
    }
}

/// Opens the data folder, creating it when it isn't there. `unix_us` is the wall clock in µs
/// since 1970, where revisions go on from when the log doesn't lead further.
///
/// # Errors
/// [`StoreError::Fenced`] when it is open elsewhere, [`StoreError::NewerFormat`],
/// [`StoreError::Damaged`], or [`StoreError::Io`] when it can't be reached.
pub fn open(path: &Path, unix_us: u64) -> Result<Opened, StoreError> {
    open_sized(path, unix_us, Sizes::default())
}

/// [`open`], with sizes.
///
/// # Errors
/// As [`open`].
pub fn open_sized(path: &Path, unix_us: u64, sizes: Sizes) -> Result<Opened, StoreError> {
    let folder = Folder::open(path)?;
    let log_path = path.join("log");
    let state = State::open(&path.join("state"), folder.hold())?;
    let marker = state.marker()?;
    let mut fold = Fold::new(marker, sizes.segment_bytes / 128);
    let found = log::read(&log_path, sizes, |place, after, entry, bytes| {
        fold.entry(place, after, &entry, bytes)
    })?;
    let wal = log::open(&log_path, sizes, found)?;
    // The names `log` and `state`; what is in them their engines sync.
    folder.sync()?;
    let folded =
        fold.finish(state.rows()?, unix_us).map_err(|flawed| damaged(&log_path, None, &flawed))?;
    let mut appender = LogAppender::new(wal, log_path, folded.last, folded.points, folder.hold());
    appender.append(&folded.start)?;
    let revision = folded.recovered.revision;
    state.write_marker(Marker { through: marker.through, reached: revision })?;
    tracing::info!(
        folder = %path.display(),
        revision = revision.0,
        rows = folded.recovered.rows.len(),
        remembered = folded.recovered.memory.len(),
        log_bytes = folded.pending_bytes,
        "the store is open",
    );
    appender.opened();
    Ok(Opened {
        recovered: folded.recovered,
        appender: Box::new(appender),
        snapshotter: Box::new(state.snapshotter(revision)?),
        reader: Box::new(state),
        pending: folded.pending,
        pending_bytes: folded.pending_bytes,
    })
}

const REMEDY: &str = "restore the data folder from a backup; or begin with an empty one: what \
                      was stored is then gone, but tokens still rise";

fn damaged(file: &Path, offset: Option<u64>, flawed: &Flawed) -> StoreError {
    StoreError::Damaged {
        file: file.to_owned(),
        offset,
        what: flawed.0.clone(),
        remedy: String::from(REMEDY),
    }
}

fn io(what: &str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { what: format!("{what} {}", path.display()), source }
}
