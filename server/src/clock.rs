//! The only reader of time in the server.
//!
//! Elapsed time is monotonic and starts at 0 with the process; wall time is read once, at
//! start, and goes on with the monotonic clock, so that it never steps backwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes backwards. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
    /// µs since the start, as the test says; the real clock then counts no more.
    #[cfg(test)]
    steered_us: Option<&'static std::sync::atomic::AtomicU64>,
}

impl Clock {
    /// Starts a clock at 0.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one reader of time")]
    pub fn start() -> Self {
        // A wall clock before 1970 reads as 1970: revisions then go on from the log alone.
        let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_unix,
            #[cfg(test)]
            steered_us: None,
        }
    }

    /// A clock that stands at 0 until the test moves the number beside it: µs since the start.
    #[cfg(test)]
    pub(crate) fn steered() -> (Self, &'static std::sync::atomic::AtomicU64) {
        // Leaked so that clocks stay cheap to copy: a few bytes a test.
        let steered_us = &*Box::leak(Box::default());
        (Self { steered_us: Some(steered_us), ..Self::start() }, steered_us)
    }

    /// Time since the start, monotonic.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one reader of time")]
    pub fn elapsed(&self) -> Duration {
        #[cfg(test)]
        if let Some(steered_us) = self.steered_us {
            return Duration::from_micros(steered_us.load(std::sync::atomic::Ordering::SeqCst));
        }
        Instant::now().saturating_duration_since(self.started)
    }

    /// Whole milliseconds since the start, monotonic.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds since 1970, never backwards within a process.
    #[must_use]
    pub fn unix_us(&self) -> u64 {
        let unix = self.started_unix.saturating_add(self.elapsed());
        u64::try_from(unix.as_micros()).unwrap_or(u64::MAX)
    }
}
