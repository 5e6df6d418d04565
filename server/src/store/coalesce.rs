//! What a snapshot has to write: the last image of each row and body that changed since the last
//! one.
//!
//! Fed with durable entries only. What came and went in between leaves nothing behind, so a lock
//! that is taken and released never reaches the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use singletrack_core::{
    change::{Change, RowKey, Trace},
    types::Revision,
};

use super::Entry;

/// The last image of a row or a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image<T> {
    /// It is there, and never was in the state: when it goes, nothing remains to be written.
    New(T),
    /// It is there; the state may hold an older image.
    Changed(T),
    /// It is gone; the state may still hold it.
    Gone,
}

/// What changed since the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Rows by key. A large value is only named in them.
    pub rows: BTreeMap<RowKey, Image<Change>>,
    /// Large values by the revision that wrote them.
    pub bodies: BTreeMap<Revision, Image<Bytes>>,
    /// Commit revision of the last entry absorbed.
    pub through: Revision,
}

impl Pending {
    /// Takes one durable entry in.
    pub fn absorb(&mut self, entry: &Entry) {
        self.fold(entry, true);
    }

    /// Takes in an entry found in the log. The state may hold any of its rows and bodies already,
    /// as a snapshot may have been cut short; so what came and went is still to be removed.
    pub fn absorb_found(&mut self, entry: &Entry) {
        self.fold(entry, false);
    }

    fn fold(&mut self, entry: &Entry, vanish: bool) {
        for transaction in &entry.transactions {
            for change in &transaction.changes {
                match change.trace() {
                    Trace::Created(key) => create(&mut self.rows, key, change.to_row(), vanish),
                    Trace::Written(key) => write(&mut self.rows, key, change.to_row()),
                    Trace::Removed(key) => remove(&mut self.rows, key),
                    Trace::None => {}
                }
                if let Some((revision, bytes)) = change.carried() {
                    create(&mut self.bodies, revision, bytes.clone(), vanish);
                }
                if let Some(revision) = change.replaced() {
                    remove(&mut self.bodies, revision);
                }
            }
            self.through = transaction.commit;
        }
    }
}

/// It never was before; `vanish`: so it can't be in the state.
fn create<K: Ord, T>(images: &mut BTreeMap<K, Image<T>>, key: K, image: T, vanish: bool) {
    images.insert(key, if vanish { Image::New(image) } else { Image::Changed(image) });
}

fn write<K: Ord, T>(images: &mut BTreeMap<K, Image<T>>, key: K, image: T) {
    let image = match images.get(&key) {
        Some(Image::New(_)) => Image::New(image),
        Some(Image::Changed(_) | Image::Gone) | None => Image::Changed(image),
    };
    images.insert(key, image);
}

fn remove<K: Ord, T>(images: &mut BTreeMap<K, Image<T>>, key: K) {
    match images.get(&key) {
        Some(Image::New(_)) => {
            images.remove(&key);
        }
        Some(Image::Changed(_) | Image::Gone) | None => {
            images.insert(key, Image::Gone);
        }
    }
}

impl<T> Image<T> {
    /// What is there.
    #[must_use]
    pub const fn get(&self) -> Option<&T> {
        match self {
            Self::New(image) | Self::Changed(image) => Some(image),
            Self::Gone => None,
        }
    }

    /// As a snapshotter takes it.
    #[must_use]
    pub fn into_written(self) -> Option<T> {
        match self {
            Self::New(image) | Self::Changed(image) => Some(image),
            Self::Gone => None,
        }
    }
}
