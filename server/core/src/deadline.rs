//! Deadlines: one enum, one ordered table, one [`Deadlines::next`].
//!
//! Owns *when* something is due, not what then happens. An early or repeated look finds
//! nothing to do.

use alloc::collections::{BTreeSet, VecDeque};

use crate::{limits, types::Ms};

/// What can be due. The numbers are slots in the state's slabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A lease may have run out; its own clock says for certain.
    Lease(u32),
    /// A waiter's earliest attached call has waited long enough.
    Wait(u32),
    /// A detached waiter's place is not kept any longer.
    Keep(u32),
    /// A session may have run out, or an ended one is to be forgotten.
    Session(u32),
    /// A record has run out.
    Record(u32),
}

/// The table. Order among equal deadlines is that of [`Due`], so it is the same every time.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    due: BTreeSet<Armed>,
}

/// A deadline in 12 bytes, as every lease has one. Sorts by time, then by what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Armed {
    high: u32,
    low: u32,
    /// Kind in the top three bits, slot below.
    due: u32,
}

const KIND_SHIFT: u32 = 29;
const SLOT_MASK: u32 = (1 << KIND_SHIFT) - 1;

/// When machine time stood still: the moments from which holders get a full ttl again.
///
/// A lease that was last renewed before a floor counts from the *first* floor after that, so
/// it lives at most one ttl longer than charged, however many stalls there are.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    rising: VecDeque<Ms>,
}

impl Armed {
    fn new(at: Ms, due: Due) -> Self {
        let (kind, slot) = match due {
            Due::Lease(slot) => (0, slot),
            Due::Wait(slot) => (1, slot),
            Due::Keep(slot) => (2, slot),
            Due::Session(slot) => (3, slot),
            Due::Record(slot) => (4, slot),
        };
        assert!(slot <= SLOT_MASK, "quotas keep every slab below 2^29");
        let (high, low) = ((at.0 >> 32) as u32, (at.0 & u64::from(u32::MAX)) as u32);
        Self { high, low, due: kind << KIND_SHIFT | slot }
    }

    const fn at(self) -> Ms {
        Ms((self.high as u64) << 32 | self.low as u64)
    }

    fn due(self) -> Due {
        let slot = self.due & SLOT_MASK;
        match self.due >> KIND_SHIFT {
            0 => Due::Lease(slot),
            1 => Due::Wait(slot),
            2 => Due::Keep(slot),
            3 => Due::Session(slot),
            _ => Due::Record(slot),
        }
    }
}

impl Deadlines {
    /// Adds a deadline.
    pub(crate) fn arm(&mut self, at: Ms, due: Due) {
        let fresh = self.due.insert(Armed::new(at, due));
        assert!(fresh, "a deadline is armed once: {at} {due:?}");
    }

    /// Takes a deadline back.
    pub(crate) fn disarm(&mut self, at: Ms, due: Due) {
        let known = self.due.remove(&Armed::new(at, due));
        assert!(known, "only an armed deadline is disarmed: {at} {due:?}");
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Ms> {
        self.due.first().map(|armed| armed.at())
    }

    /// What is due by `now`, earliest first.
    pub(crate) fn due(&self, now: Ms) -> impl Iterator<Item = (Ms, Due)> + '_ {
        self.due.iter().map(|armed| (armed.at(), armed.due())).take_while(move |(at, _)| *at <= now)
    }

    /// How many deadlines there are.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }

    /// Is this deadline armed?
    pub(crate) fn is_armed(&self, at: Ms, due: Due) -> bool {
        self.due.contains(&Armed::new(at, due))
    }
}

impl Floors {
    /// Records a floor. One older than the longest ttl can matter to no lease any more.
    pub(crate) fn record(&mut self, at: Ms) {
        assert!(self.rising.back().is_none_or(|last| *last <= at), "floors rise");
        if self.rising.back() != Some(&at) {
            self.rising.push_back(at);
        }
        while self.rising.front().is_some_and(|first| first.plus(limits::TTL_MS_MAX) < at) {
            self.rising.pop_front();
        }
    }

    /// When a lease runs out that was last renewed at `renewed` for `ttl_ms`.
    pub(crate) fn deadline(&self, renewed: Ms, ttl_ms: u64) -> Ms {
        let first_after = self.rising.partition_point(|floor| *floor < renewed);
        let from = self.rising.get(first_after).copied().unwrap_or(renewed);
        from.plus(ttl_ms).max(renewed.plus(ttl_ms))
    }
}
