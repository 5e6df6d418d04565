//! The state: rows in one keyspace of fjall, written by snapshots only.
//!
//! fjall drops the end of its journal in silence when a tag in it is damaged. That is found
//! by three things of our own: each row carries a checksum; a digest of all rows goes with
//! every batch; and the marker goes back with what was dropped, so that the log no longer
//! begins where it should, or still has what is missing.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use singletrack_core::{
    change::{Change, RowKey},
    types::Revision,
};
use xxhash_rust::xxh3::xxh3_128;

use super::{damaged, folder::Hold, io};
use crate::store::{
    Reader, Snapshotter, StoreError,
    codec::{self, Digest, Flawed, Marker},
};

/// Rows are read back only at start and for bodies: a small cache does.
const CACHE_BYTES: u64 = 16 << 20;
/// The least that fjall accepts: its journal is read whole at every start.
const JOURNAL_BYTES: u64 = 64 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;

/// The open state. Clones share it.
#[derive(Clone)]
pub(super) struct State {
    database: Database,
    rows: Keyspace,
    path: PathBuf,
    _hold: Hold,
}

impl State {
    pub(super) fn open(path: &Path, hold: Hold) -> Result<Self, StoreError> {
        check_lists_of_tables(path)?;
        let open = || {
            let database = Database::builder(path)
                .worker_threads(1)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let rows = database.keyspace("state", options)?;
            Ok((database, rows))
        };
        // fjall asserts some of what it reads; that too is damage, and has to be named.
        let (database, rows) = catch_unwind(open)
            .map_err(|_| damaged(path, None, &Flawed(String::from("fjall could not read it"))))?
            .map_err(|error| refused(path, error))?;
        Ok(Self { database, rows, path: path.to_owned(), _hold: hold })
    }

    /// Everything up to where the state holds.
    pub(super) fn marker(&self) -> Result<Marker, StoreError> {
        match self.get(codec::MARKER_KEY)? {
            Some(value) => codec::decode_marker(&value).map_err(|flawed| self.damaged(&flawed)),
            None => Ok(Marker::default()),
        }
    }

    fn digest(&self) -> Result<Digest, StoreError> {
        match self.get(codec::DIGEST_KEY)? {
            Some(value) => codec::decode_digest(&value).map_err(|flawed| self.damaged(&flawed)),
            None => Ok(Digest::default()),
        }
    }

    /// All rows, each checked, and all of them checked to be there.
    pub(super) fn rows(&self) -> Result<BTreeMap<RowKey, Change>, StoreError> {
        let mut rows = BTreeMap::new();
        let mut found = Digest::default();
        for item in self.rows.range(codec::ROW_KEYS) {
            let (key, value) = item.into_inner().map_err(|error| refused(&self.path, error))?;
            let (row_key, row, sum) =
                codec::decode_row(&key, &value).map_err(|flawed| self.damaged(&flawed))?;
            found.rows += 1;
            found.sum = found.sum.wrapping_add(sum);
            rows.insert(row_key, row);
        }
        let digest = self.digest()?;
        if found != digest {
            let what =
                format!("it holds {} rows, and should hold {} others", found.rows, digest.rows);
            return Err(self.damaged(&Flawed(what)));
        }
        Ok(rows)
    }

    /// Writes the marker and makes everything before it durable.
    pub(super) fn write_marker(&self, marker: Marker) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.rows, codec::MARKER_KEY, codec::encode_marker(marker));
        batch.commit().map_err(|error| self.failed(&error))
    }

    pub(super) fn snapshotter(&self, reached: Revision) -> Result<StateSnapshotter, StoreError> {
        Ok(StateSnapshotter { digest: self.digest()?, state: self.clone(), reached })
    }

    fn get(&self, key: &[u8]) -> Result<Option<fjall::Slice>, StoreError> {
        self.rows.get(key).map_err(|error| refused(&self.path, error))
    }

    fn damaged(&self, flawed: &Flawed) -> StoreError {
        damaged(&self.path, None, flawed)
    }

    fn failed(&self, error: &fjall::Error) -> StoreError {
        StoreError::OutcomeUnknown(format!("{error}, writing the state {}", self.path.display()))
    }
}

impl Reader for State {
    fn row(&self, key: &RowKey) -> Result<Option<Change>, StoreError> {
        let key = codec::encode_key(key);
        let Some(value) = self.get(&key)? else { return Ok(None) };
        let (_, row, _) =
            codec::decode_row(&key, &value).map_err(|flawed| self.damaged(&flawed))?;
        Ok(Some(row))
    }
}

/// Writes slices and markers.
pub(super) struct StateSnapshotter {
    state: State,
    digest: Digest,
    reached: Revision,
}

impl Snapshotter for StateSnapshotter {
    fn slice(&mut self, rows: &[(RowKey, Option<Change>)]) -> Result<(), StoreError> {
        let State { database, rows: keyspace, .. } = &self.state;
        let flawed = |flawed: Flawed| self.state.damaged(&flawed);
        // Not synced: what a crash takes of it, the log still has until the marker stands.
        let mut batch = database.batch();
        let mut digest = self.digest;
        for (row_key, row) in rows {
            let key = codec::encode_key(row_key);
            if let Some(old) = self.state.get(&key)? {
                digest.rows = digest.rows.wrapping_sub(1);
                digest.sum = digest.sum.wrapping_sub(codec::row_sum(&old).map_err(flawed)?);
            }
            match row {
                Some(row) => {
                    let value = codec::encode_row(&key, row);
                    digest.rows = digest.rows.wrapping_add(1);
                    digest.sum = digest.sum.wrapping_add(codec::row_sum(&value).map_err(flawed)?);
                    batch.insert(keyspace, key, value);
                }
                None => batch.remove(keyspace, key),
            }
        }
        batch.insert(keyspace, codec::DIGEST_KEY, codec::encode_digest(digest));
        batch.commit().map_err(|error| self.state.failed(&error))?;
        self.digest = digest;
        Ok(())
    }

    fn marker(&mut self, through: Revision) -> Result<(), StoreError> {
        self.reached = self.reached.max(through);
        self.state.write_marker(Marker { through, reached: self.reached })
    }
}

/// Checks fjall's lists of tables against the checksums that fjall keeps beside them but does
/// not look at: a damaged list makes it panic twice, which ends the process without a word.
fn check_lists_of_tables(path: &Path) -> Result<(), StoreError> {
    let keyspaces = path.join("keyspaces");
    let items = match fs::read_dir(&keyspaces) {
        Ok(items) => items,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io("listing", &keyspaces, source)),
    };
    for item in items {
        let keyspace = item.map_err(|source| io("listing", &keyspaces, source))?.path();
        let current = keyspace.join("current");
        let named = match fs::read(&current) {
            Ok(named) => named,
            // It was being created when the machine stopped.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(io("reading", &current, source)),
        };
        let Some((number, sum)) = number_and_sum(&named) else {
            return Err(damaged(&current, None, &Flawed(String::from("it is too short"))));
        };
        let list = keyspace.join(format!("v{number}"));
        let bytes = match fs::read(&list) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let what = format!("it names `v{number}`, which isn't there");
                return Err(damaged(&current, None, &Flawed(what)));
            }
            Err(source) => return Err(io("reading", &list, source)),
        };
        if xxh3_128(&bytes) != sum {
            let what = String::from("a checksum that doesn't match");
            return Err(damaged(&list, None, &Flawed(what)));
        }
    }
    Ok(())
}

/// What a `current` file of lsm-tree 3.1 holds: number and XXH3-128 of the list it names.
fn number_and_sum(current: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = current.split_first_chunk()?;
    let (sum, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), u128::from_le_bytes(*sum)))
}

/// Why the state could not be read.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it is non-exhaustive")]
fn refused(path: &Path, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::Fenced(format!(
            "another process has locked {}: stop it first",
            path.display()
        )),
        fjall::Error::Io(source) if !speaks_of_content(&source) => {
            io("opening the state", path, source)
        }
        // All else says that bytes are not what they should be; fjall names no file.
        error => damaged(path, None, &Flawed(error.to_string())),
    }
}

fn speaks_of_content(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::Other
    )
}
