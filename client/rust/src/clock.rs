//! A clock that runs through suspend: what a holder may believe must not stand still while the
//! server's time goes on.

use std::time::Duration;

/// A moment on that clock, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

// === impl Moment ===

impl Moment {
    /// Now.
    #[cfg(target_os = "linux")]
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
        Self(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }

    /// Now, on a clock that may stand still while the machine sleeps.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn now() -> Self {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let started = START.get_or_init(std::time::Instant::now).elapsed();
        Self(u64::try_from(started.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) const fn micros(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it is until this moment; zero when it has passed.
    pub(crate) fn left(self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(Self::now().0))
    }

    /// How long ago this moment was.
    pub(crate) fn ago(self) -> Duration {
        Duration::from_micros(Self::now().0.saturating_sub(self.0))
    }
}

/// How much earlier than the server a holder stops believing: 1 % of the ttl and 20 ms.
pub(crate) fn margin(ttl: Duration) -> Duration {
    ttl / 100 + Duration::from_millis(20)
}
