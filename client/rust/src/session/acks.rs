//! Which operations are done for good: what the server need not remember any more.

use std::collections::BTreeMap;

/// Single acknowledgements of one frame; the server takes no more.
const SEEN_MAX: usize = 4_096;

/// Operations done, all below a floor and runs above it; and what of that was not said yet.
#[derive(Debug)]
pub(super) struct Acks {
    below: u64,
    /// First and end (exclusive) of runs above the floor.
    runs: BTreeMap<u64, u64>,
    unsaid: Vec<u64>,
    said_below: u64,
}

// === impl Acks ===

impl Acks {
    pub(super) const fn new() -> Self {
        Self { below: 1, runs: BTreeMap::new(), unsaid: Vec::new(), said_below: 1 }
    }

    /// An operation is done.
    pub(super) fn finish(&mut self, seq: u64) {
        if seq < self.below {
            return;
        }
        if seq > self.below {
            self.unsaid.push(seq);
            let before = self.runs.range_mut(..=seq).next_back().filter(|(_, end)| **end == seq);
            match before {
                Some((_, end)) => *end = seq + 1,
                None => {
                    self.runs.insert(seq, seq + 1);
                }
            }
            return;
        }
        self.below = seq + 1;
        while let Some(run) = self.runs.first_entry()
            && *run.key() <= self.below
        {
            self.below = self.below.max(run.remove());
        }
    }

    /// There is something to say.
    pub(super) fn is_dirty(&self) -> bool {
        self.below > self.said_below || !self.unsaid.is_empty()
    }

    /// The floor, and what is done above it and was not said.
    pub(super) fn take(&mut self) -> (u64, Vec<u64>) {
        self.said_below = self.below;
        let below = self.below;
        self.unsaid.retain(|seq| *seq >= below);
        let most = self.unsaid.len().min(SEEN_MAX);
        (below, self.unsaid.drain(..most).collect())
    }

    /// What was said may be lost: all of it is to be said again, as far as it fits.
    pub(super) fn unsay(&mut self) {
        let runs = self.runs.iter().flat_map(|(first, end)| *first..*end);
        self.unsaid = runs.take(SEEN_MAX * 16).collect();
        self.said_below = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_rises_over_what_is_done() {
        let mut acks = Acks::new();
        for seq in [2, 3, 5] {
            acks.finish(seq);
        }
        assert_eq!(acks.take(), (1, vec![2, 3, 5]));
        assert!(!acks.is_dirty());
        acks.finish(1);
        assert_eq!(acks.take(), (4, vec![]), "the floor has passed 2 and 3");
        acks.finish(4);
        assert_eq!(acks.take(), (6, vec![]));
    }

    #[test]
    fn after_a_broken_stream_all_is_said_again() {
        let mut acks = Acks::new();
        for seq in [1, 3, 4] {
            acks.finish(seq);
        }
        acks.take();
        acks.unsay();
        assert!(acks.is_dirty());
        assert_eq!(acks.take(), (2, vec![3, 4]));
    }

    #[test]
    fn one_that_is_long_in_coming_leaves_one_gap() {
        let mut acks = Acks::new();
        for seq in 2..100_000 {
            acks.finish(seq);
            if seq % 1_000 == 0 {
                acks.take();
            }
        }
        assert_eq!(acks.runs.len(), 1);
        acks.finish(1);
        acks.finish(100_000);
        assert_eq!(acks.take().0, 100_001);
    }
}
