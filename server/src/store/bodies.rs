//! Where large values are found: the young ones in memory, the others in the state.
//!
//! A body is young from the moment at which its entry is durable until a snapshot that has it is
//! complete; so whoever was led to a body by an answer finds it, unless it was replaced meanwhile.
//! Owns no order: the committer says when a body is young, and when no longer.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use dashmap::DashMap;
use singletrack_core::types::Revision;

use super::{Entry, Reader, StoreError, coalesce::Pending};

/// All bodies that can be read, by the revision that wrote them.
pub struct Bodies {
    young: DashMap<Revision, Bytes>,
    young_bytes: AtomicU64,
    /// `None`: closed. Whoever still holds this must not keep the store open.
    reader: RwLock<Option<Box<dyn Reader>>>,
}

impl Bodies {
    /// Those that the state has, and those that are to be written to it.
    #[must_use]
    pub fn new(reader: Box<dyn Reader>, pending: &Pending) -> Self {
        let bodies = Self {
            young: DashMap::new(),
            young_bytes: AtomicU64::new(0),
            reader: RwLock::new(Some(reader)),
        };
        for (revision, image) in &pending.bodies {
            if let Some(bytes) = image.get() {
                bodies.insert(*revision, bytes.clone());
            }
        }
        bodies
    }

    /// The body that this revision wrote, if it is at hand. Reads no disk.
    #[must_use]
    pub fn young(&self, revision: Revision) -> Option<Bytes> {
        self.young.get(&revision).map(|bytes| bytes.clone())
    }

    /// The body that this revision wrote; `None`: there is none any more, as its record was
    /// written anew or deleted. Blocks for a read of the disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Io`], or [`StoreError::Closed`] when the store is.
    pub fn fetch(&self, revision: Revision) -> Result<Option<Bytes>, StoreError> {
        // First the young: one that is not young any more is in the state already.
        if let Some(bytes) = self.young(revision) {
            return Ok(Some(bytes));
        }
        let reader = self.reader.read().unwrap_or_else(PoisonError::into_inner);
        reader.as_ref().ok_or(StoreError::Closed)?.body(revision)
    }

    /// What the young ones weigh, bytes.
    #[must_use]
    pub fn young_bytes(&self) -> u64 {
        self.young_bytes.load(Ordering::Relaxed)
    }

    /// The entry is durable: what it carries is young. Adds the revisions to `entered`.
    pub(crate) fn enter(&self, entry: &Entry, entered: &mut Vec<Revision>) {
        for change in entry.transactions.iter().flat_map(|transaction| &transaction.changes) {
            if let Some((revision, bytes)) = change.carried() {
                self.insert(revision, bytes.clone());
                entered.push(revision);
            }
        }
    }

    /// These are in the state, or nobody needs them.
    pub(crate) fn forget(&self, revisions: Vec<Revision>) {
        for revision in revisions {
            if let Some((_, bytes)) = self.young.remove(&revision) {
                self.young_bytes.fetch_sub(weight(&bytes), Ordering::Relaxed);
            }
        }
    }

    /// Lets go of the store.
    pub(crate) fn close(&self) {
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn insert(&self, revision: Revision, bytes: Bytes) {
        self.young_bytes.fetch_add(weight(&bytes), Ordering::Relaxed);
        self.young.insert(revision, bytes);
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bodies").field("young_bytes", &self.young_bytes()).finish_non_exhaustive()
    }
}

fn weight(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
