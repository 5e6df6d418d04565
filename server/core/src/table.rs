//! Lookup-only hash tables: find, insert, remove, and no way to iterate.
//!
//! Owns the one use of unordered tables in the machine. Iterating would let the order of a
//! hash leak into outcomes; without iteration it can't. A table is cut into shards so that
//! growing one never stops the machine for long.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};

#[expect(clippy::disallowed_types, reason = "the wrapper that makes it safe to use")]
use hashbrown::HashTable;

/// Shards of one table; a power of two.
const SHARDS: usize = 64;

/// A hash of a key, seeded per process so that callers can't choose collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64);

/// Makes [`KeyHash`]es.
#[derive(Clone, Debug)]
pub struct Hasher(foldhash::fast::FixedState);

/// A table of small values, each found by its hash and a test of the caller's.
#[expect(clippy::disallowed_types, reason = "the wrapper that makes it safe to use")]
pub struct Table<T> {
    shards: Vec<HashTable<T>>,
    len: usize,
}

impl Hasher {
    /// A hasher with a seed drawn outside the machine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(foldhash::fast::FixedState::with_seed(seed))
    }

    /// The hash of a key.
    pub fn hash<K: Hash + ?Sized>(&self, key: &K) -> KeyHash {
        KeyHash(self.0.hash_one(key))
    }
}

impl KeyHash {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<T> Table<T> {
    /// An empty table; allocates next to nothing.
    #[must_use]
    #[expect(clippy::disallowed_types, reason = "the wrapper that makes it safe to use")]
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), len: 0 }
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value with this hash for which `is` holds.
    pub fn find(&self, hash: KeyHash, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards.get(shard_of(hash)).and_then(|shard| shard.find(hash.0, is))
    }

    /// The same, to be changed; its key must stay.
    pub fn find_mut(&mut self, hash: KeyHash, is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.shards.get_mut(shard_of(hash)).and_then(|shard| shard.find_mut(hash.0, is))
    }

    /// Adds a value that is not there yet. `rehash` tells the hash of values already there.
    pub fn insert(&mut self, hash: KeyHash, value: T, rehash: impl Fn(&T) -> KeyHash) {
        let shard = self.shards.get_mut(shard_of(hash)).expect("a shard for every hash");
        shard.insert_unique(hash.0, value, |other| rehash(other).0);
        self.len += 1;
    }

    /// Takes out the value with this hash for which `is` holds.
    pub fn remove(&mut self, hash: KeyHash, is: impl FnMut(&T) -> bool) -> Option<T> {
        let shard = self.shards.get_mut(shard_of(hash)).expect("a shard for every hash");
        let entry = shard.find_entry(hash.0, is).ok()?;
        self.len -= 1;
        let (value, _) = entry.remove();
        if shard.is_empty() {
            shard.shrink_to(0, |_| 0);
        }
        Some(value)
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// hashbrown uses the low bits for the bucket and the top seven for its tags; the bits
/// between choose the shard.
const fn shard_of(hash: KeyHash) -> usize {
    ((hash.0 >> 40) as usize) & (SHARDS - 1)
}

const _: () = assert!(SHARDS.is_power_of_two());
