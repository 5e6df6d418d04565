//! The store: what must survive.
//!
//! Laws, the same for every engine and proved by one suite (`laws`):
//! - `Ok` from [`Appender::append`] means: the entry is durable, and so is every one before it.
//! - An entry is recovered whole or not at all; entries are recovered in order, without a gap.
//! - Any error from `append` means *outcome unknown*: the engine is not used again, and a
//!   restart reads the truth.
//! - `open` fences older writers, and ends with one synced start entry, so that whatever was
//!   unclear before is decided before anything is answered.
//! - The counter of revisions never goes backwards, not even over a wiped store: it starts at
//!   `max(last + 1, unix time in µs)`.
//! - A torn tail is cut; damage before it refuses to open, naming file, offset and remedy.

pub mod bodies;
pub mod coalesce;
mod codec;
pub mod committer;
pub mod disk;
pub mod memory;
mod recovery;
mod wire;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod samples;

use std::path::PathBuf;

use singletrack_core::{
    change::{Change, RowKey, Transaction},
    types::Revision,
};

use coalesce::Pending;

/// One batch of the track: one record of the log, one sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// In the order decided, revisions rising; never empty once handed to an appender.
    pub transactions: Vec<Transaction>,
}

impl Entry {
    /// Its commit revision: that of its last transaction.
    #[must_use]
    pub fn last(&self) -> Option<Revision> {
        self.transactions.last().map(|transaction| transaction.commit)
    }

    /// What it weighs, by [`Change::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        self.transactions.iter().flat_map(|it| &it.changes).map(Change::weight).sum()
    }
}

/// What `open` found.
#[derive(Debug)]
pub struct Recovered {
    /// The revision of the start entry just written: the counter stands here.
    pub revision: Revision,
    /// The durable rows, one post-image each, in the order of their keys.
    pub rows: Vec<Change>,
    /// What replay memory is rebuilt from, in the order of the log.
    pub memory: Vec<Change>,
}

/// An opened engine.
pub struct Opened {
    /// What was found.
    pub recovered: Recovered,
    /// Writes the log.
    pub appender: Box<dyn Appender>,
    /// Writes the state.
    pub snapshotter: Box<dyn Snapshotter>,
    /// Reads both.
    pub reader: Box<dyn Reader>,
    /// What the log has and the state does not: the committer goes on from here.
    pub pending: Pending,
    /// Bytes of log that this is.
    pub pending_bytes: u64,
}

impl Opened {
    /// What was found, what reads, and what the committer owns.
    #[must_use]
    pub fn into_parts(self) -> (Recovered, Box<dyn Reader>, committer::Parts) {
        let parts = committer::Parts {
            appender: self.appender,
            snapshotter: self.snapshotter,
            pending: self.pending,
            pending_bytes: self.pending_bytes,
        };
        (self.recovered, self.reader, parts)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

/// Writes the log. One owner; blocking.
pub trait Appender: Send {
    /// Makes one entry durable.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] or [`StoreError::Fenced`]; after any error the appender
    /// is dead.
    fn append(&mut self, entry: &Entry) -> Result<(), StoreError>;

    /// Bytes of log written since the store was opened; says when a snapshot is due.
    fn written_bytes(&self) -> u64;

    /// Allows everything up to and including `through` to go: it is behind the marker and
    /// no longer needed for replay memory. Frees space at the engine's convenience.
    ///
    /// # Errors
    /// As [`Self::append`].
    fn release(&mut self, through: Revision) -> Result<(), StoreError>;
}

/// Writes the state, lazily and off the hot path. Not durable until its marker is.
pub trait Snapshotter: Send {
    /// Writes rows; `None` removes. At most [`SLICE_BYTES_MAX`] a call.
    ///
    /// # Errors
    /// Any; the store is then not used again.
    fn slice(&mut self, rows: &[(RowKey, Option<Change>)]) -> Result<(), StoreError>;

    /// Makes all slices durable, together with the statement that the state now holds
    /// everything up to and including `through`.
    ///
    /// # Errors
    /// As [`Self::slice`].
    fn marker(&mut self, through: Revision) -> Result<(), StoreError>;
}

/// Reads what is durable; usable from any thread.
pub trait Reader: Send + Sync {
    /// The row as of the last slice written; the newest part of a row is in the log.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Io`].
    fn row(&self, key: &RowKey) -> Result<Option<Change>, StoreError>;
}

/// The most a slice may weigh, by [`Change::weight`].
pub const SLICE_BYTES_MAX: usize = 4 << 20;

/// Why a store can't go on. The world's fault, or an operator's; never a caller's.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another server writes to this store.
    #[error("the store is in use: {0}")]
    Fenced(String),
    /// A write or sync failed; what was being written may or may not be durable.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(String),
    /// The store's bytes are not what was written.
    #[error("{file} is damaged{}: {what}; {remedy}", .offset.map(|at| format!(" at offset {at}")).unwrap_or_default())]
    Damaged {
        /// Which file, or the folder when it is not known.
        file: PathBuf,
        /// Where in it, if known.
        offset: Option<u64>,
        /// What was found.
        what: String,
        /// What an operator can do.
        remedy: String,
    },
    /// The data was written by a newer version.
    #[error(
        "{path} has format {found}, this version reads up to {newest}: use a newer singletrack"
    )]
    NewerFormat {
        /// The data folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this version reads.
        newest: u32,
    },
    /// The folder holds something else.
    #[error(
        "{path} is no data folder, it holds `{found}`: give an empty folder, or the right one, with --data-dir"
    )]
    NoDataFolder {
        /// Which.
        path: PathBuf,
        /// Something that is in it.
        found: String,
    },
    /// The world said no before anything was at stake.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the path.
        what: String,
        /// What came of it.
        source: std::io::Error,
    },
}
