//! Which replies of a session have arrived: all below a floor, and runs above it.
//!
//! As large as there are gaps, not as there are operations: one reply that is long in coming
//! leaves one gap, however many come after it.

use alloc::collections::BTreeMap;

use crate::limits;

/// Acknowledged operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    below: u64,
    /// First and end (exclusive) of runs above the floor, none touching another or the floor.
    runs: BTreeMap<u64, u64>,
}

// === impl Seen ===

impl Seen {
    /// The first that is not known to be acknowledged.
    pub(crate) fn below(&self) -> u64 {
        self.below.max(1)
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        seq < self.below || self.runs.range(..=seq).next_back().is_some_and(|(_, end)| seq < *end)
    }

    /// Raises the floor.
    pub(crate) fn add_below(&mut self, below: u64) {
        let below = below.min(limits::SEQ_MAX + 1);
        if below <= self.below {
            return;
        }
        self.below = below;
        while let Some(run) = self.runs.first_entry() {
            if *run.key() > self.below {
                return;
            }
            self.below = self.below.max(run.remove());
        }
    }

    /// Adds one; false: there are too many gaps, and it is not taken note of.
    pub(crate) fn add(&mut self, seq: u64) -> bool {
        if self.contains(seq) || !(1..=limits::SEQ_MAX).contains(&seq) {
            return true;
        }
        if seq == self.below() {
            self.add_below(seq + 1);
            return true;
        }
        let before = self.runs.range(..seq).next_back().map(|(first, end)| (*first, *end));
        let first = match before {
            Some((first, end)) if end == seq => first,
            Some(_) | None if self.runs.len() >= limits::SEEN_RUNS_MAX => return false,
            Some(_) | None => seq,
        };
        let end = self.runs.remove(&(seq + 1)).unwrap_or(seq + 1);
        self.runs.insert(first, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeSet, vec::Vec};

    use super::*;

    #[test]
    fn runs_grow_together_and_into_the_floor() {
        let mut seen = Seen::default();
        for seq in [5, 3, 4, 9, 1] {
            assert!(seen.add(seq));
        }
        assert_eq!(seen.below(), 2);
        assert_eq!(seen.runs.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>(), [(3, 6), (9, 10)]);
        assert!(seen.add(2));
        assert_eq!((seen.below(), seen.runs.len()), (6, 1));
        seen.add_below(9);
        assert_eq!((seen.below(), seen.runs.len()), (10, 0));
    }

    #[test]
    fn it_is_the_set_of_what_was_added() {
        // A fixed walk over a small range meets every order of neighbours.
        let (mut seen, mut set, mut at) = (Seen::default(), BTreeSet::new(), 1_u64);
        for step in 0..400_u64 {
            at = (at * 37 + step * 11 + 5) % 101;
            let seq = at + 1;
            assert!(seen.add(seq));
            set.insert(seq);
            if step % 97 == 96 {
                let below = 1 + step % 13;
                seen.add_below(below);
                set.extend(1..below);
            }
            for probe in 1..=104 {
                assert_eq!(seen.contains(probe), set.contains(&probe), "step {step}, {probe}");
            }
        }
    }

    #[test]
    fn more_gaps_than_the_bound_are_not_taken_note_of() {
        let mut seen = Seen::default();
        for run in 0..limits::SEEN_RUNS_MAX as u64 {
            assert!(seen.add(10 + run * 2));
        }
        assert!(!seen.add(1_000_000));
        assert!(!seen.contains(1_000_000));
        assert!(seen.add(11), "what closes a gap is");
    }
}
