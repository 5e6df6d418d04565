//! What a snapshot has to write: the last image of each row that changed since the last one.
//!
//! Fed with durable entries only. A row that came and went in between leaves nothing behind,
//! so a lock that is taken and released never reaches the state.

use std::collections::BTreeMap;

use singletrack_core::{
    change::{Change, RowKey, Trace},
    types::Revision,
};

use super::Entry;

/// The last image of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// It is there, and never was in the state: when it goes, nothing remains to be written.
    New(Change),
    /// It is there; the state may hold an older image.
    Changed(Change),
    /// It is gone; the state may still hold it.
    Gone,
}

/// Rows that changed since the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// By key.
    pub rows: BTreeMap<RowKey, Image>,
    /// Commit revision of the last entry absorbed.
    pub through: Revision,
}

impl Pending {
    /// Takes one durable entry in.
    pub fn absorb(&mut self, entry: &Entry) {
        self.fold(entry, true);
    }

    /// Takes in an entry found in the log. The state may hold any of its rows already, as a
    /// snapshot may have been cut short; so one that came and went is still to be removed.
    pub fn absorb_found(&mut self, entry: &Entry) {
        self.fold(entry, false);
    }

    fn fold(&mut self, entry: &Entry, vanish: bool) {
        for transaction in &entry.transactions {
            for change in &transaction.changes {
                match change.trace() {
                    Trace::Created(key) if vanish => {
                        self.rows.insert(key, Image::New(change.to_row()));
                    }
                    Trace::Created(key) => {
                        self.rows.insert(key, Image::Changed(change.to_row()));
                    }
                    Trace::Written(key) => self.write(key, change),
                    Trace::Removed(key) => self.remove(key),
                    Trace::None => {}
                }
            }
            self.through = transaction.commit;
        }
    }

    fn write(&mut self, key: RowKey, change: &Change) {
        let image = match self.rows.get(&key) {
            Some(Image::New(_)) => Image::New(change.to_row()),
            Some(Image::Changed(_) | Image::Gone) | None => Image::Changed(change.to_row()),
        };
        self.rows.insert(key, image);
    }

    fn remove(&mut self, key: RowKey) {
        match self.rows.get(&key) {
            Some(Image::New(_)) => {
                self.rows.remove(&key);
            }
            Some(Image::Changed(_) | Image::Gone) | None => {
                self.rows.insert(key, Image::Gone);
            }
        }
    }
}

impl Image {
    /// As a snapshotter takes it.
    #[must_use]
    pub fn row(self) -> Option<Change> {
        match self {
            Self::New(change) | Self::Changed(change) => Some(change),
            Self::Gone => None,
        }
    }
}
