//! Random choices that a seed repeats. Owns the generator (splitmix64) and the seed's way in
//! and out; fit for tests only.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::Range,
};

/// A generator. The same seed makes the same choices.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

// === impl Random ===

impl Random {
    /// The seed that `SINGLETRACK_SEED` gives, or else a new one.
    pub(crate) fn seed() -> u64 {
        match std::env::var("SINGLETRACK_SEED") {
            Ok(text) => text.parse().expect("SINGLETRACK_SEED is a whole number below 2^64"),
            Err(_) => RandomState::new().hash_one(()),
        }
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another generator, whose choices have nothing to do with those of this one.
    pub(crate) fn split(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of a range that is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, cases: u64) -> bool {
        self.within(0..100) < cases
    }
}

#[test]
fn a_seed_repeats_its_choices() {
    let (mut one, mut other) = (Random::new(7), Random::new(7));
    assert!((0..100).all(|_| one.next() == other.next()));
    assert!((0..1_000).all(|_| (3..5).contains(&one.within(3..5))));
}
