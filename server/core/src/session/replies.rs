//! What a session's operations came to, until their replies are acknowledged.

use alloc::{collections::BTreeMap, vec::Vec};

use super::seen::Seen;
use crate::{
    limits,
    memory::Past,
    types::{LeaseId, Revision},
};

/// Replies that were not acknowledged, and which were.
#[derive(Default)]
pub(crate) struct Replies {
    kept: BTreeMap<u64, Kept>,
    seen: Seen,
    /// The floor as the log has it, and when it last said so.
    pub(crate) floored: (u64, Revision),
}

/// One operation's.
pub(crate) struct Kept {
    pub(crate) past: Past,
    /// The lease that it released, whose end is remembered as long.
    pub(crate) lease: Option<LeaseId>,
    /// When the log last said so.
    pub(crate) logged: Revision,
}

// === impl Replies ===

impl Replies {
    pub(crate) fn get(&self, seq: u64) -> Option<&Past> {
        self.kept.get(&seq).map(|kept| &kept.past)
    }

    /// An acknowledged operation is never executed.
    pub(crate) fn is_seen(&self, seq: u64) -> bool {
        self.seen.contains(seq)
    }

    pub(crate) fn below(&self) -> u64 {
        self.seen.below()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Keeps a reply; what was kept under that number before.
    pub(crate) fn keep(&mut self, seq: u64, kept: Kept) -> Option<Kept> {
        self.kept.insert(seq, kept)
    }

    /// Takes note of acknowledgements; what need not be kept any more, at most a slice of what
    /// the floor has passed: the rest goes with later ones.
    pub(crate) fn acknowledge(&mut self, below: u64, seen: &[u64]) -> Vec<Kept> {
        self.seen.add_below(below);
        let mut gone = self.take_below(self.seen.below());
        for seq in seen {
            // One that can't be taken note of stays known by its reply.
            if self.seen.add(*seq) {
                gone.extend(self.kept.remove(seq));
            }
        }
        gone
    }

    /// The first `count` replies, out of memory.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Kept> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((_, kept)) = self.kept.pop_first()
        {
            taken.push(kept);
        }
        taken
    }

    /// What they count against replay memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.values().map(|kept| kept.past.bytes()).sum()
    }

    /// Replies from `seq` on that are not acknowledged, in order.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = (u64, &Kept)> {
        self.kept.range(seq.max(self.seen.below())..).map(|(seq, kept)| (*seq, kept))
    }

    fn take_below(&mut self, below: u64) -> Vec<Kept> {
        let mut taken = Vec::new();
        while taken.len() < limits::SLICE_MAX
            && let Some(first) = self.kept.first_entry()
            && *first.key() < below
        {
            taken.push(first.remove());
        }
        taken
    }
}
