//! How elapsed time becomes volatile machine time.
//!
//! A step charges at most [`limits::CHARGE_MS_MAX`]: more means that the loop stood still
//! (SIGSTOP, a paused VM), and holders, who could not renew meanwhile, are not charged.

use singletrack_core::{
    limits,
    types::{Ms, Now},
};

/// The charge account of one track.
#[derive(Debug)]
pub(super) struct Time {
    seen_ms: u64,
    charged: Ms,
}

/// What a step has to know about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    pub(super) now: Now,
    /// Some of the elapsed time was not charged.
    pub(super) stalled: bool,
}

impl Time {
    /// An account that begins when the monotonic clock shows `elapsed_ms`.
    pub(super) const fn new(elapsed_ms: u64) -> Self {
        Self { seen_ms: elapsed_ms, charged: Ms(0) }
    }

    /// Charges what has passed since the last step. While nothing has a deadline the loop
    /// sleeps as long as it likes, and that is no stall.
    pub(super) fn charge(&mut self, elapsed_ms: u64, has_deadlines: bool) -> Charged {
        let passed = elapsed_ms.saturating_sub(self.seen_ms);
        self.seen_ms = self.seen_ms.max(elapsed_ms);
        let stalled = has_deadlines && passed > limits::CHARGE_MS_MAX;
        let charge = if stalled { limits::CHARGE_MS_MAX } else { passed };
        self.charged = self.charged.plus(charge);
        Charged { now: Now { ms: self.charged }, stalled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_charged_up_to_the_bound_and_reported() {
        let mut time = Time::new(1_000);
        assert_eq!(time.charge(1_100, true), Charged { now: Now { ms: Ms(100) }, stalled: false });
        assert_eq!(time.charge(9_100, true), Charged { now: Now { ms: Ms(700) }, stalled: true });
        assert_eq!(
            time.charge(9_700, true),
            Charged { now: Now { ms: Ms(1_300) }, stalled: false }
        );
    }

    #[test]
    fn sleeping_without_deadlines_is_no_stall() {
        let mut time = Time::new(0);
        assert_eq!(
            time.charge(60_000, false),
            Charged { now: Now { ms: Ms(60_000) }, stalled: false }
        );
    }

    #[test]
    fn time_never_goes_backwards() {
        let mut time = Time::new(500);
        assert_eq!(time.charge(100, true).now.ms, Ms(0));
        assert_eq!(time.charge(600, true).now.ms, Ms(100));
    }
}
