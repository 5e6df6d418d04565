//! What is measured and how: the load, the clock of a run, and the latencies of its cycles.
//!
//! The peers are measured here in the same way as `singletrack bench` measures: a cycle counts
//! when it begins after the warm-up and ends before the end.

use std::{fmt, path::PathBuf, time::Duration};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::Error;

const WARM_UP: Duration = Duration::from_secs(1);

/// The longest latency that is told apart from longer ones, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// How long a lock or a lease of a peer would last: far longer than a run, as nobody renews it.
pub(crate) const LOCK_SECONDS: u32 = 600;

/// What every contender carries.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) inflight: usize,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    pub(crate) folder: PathBuf,
}

/// One run of one contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) cycles_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) server_cpu_us_per_cycle: Option<f64>,
}

/// When the counted part of a run begins and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// The latencies of one connection or slot, in microseconds.
#[derive(Debug)]
pub(crate) struct Meter {
    span: Span,
    latencies: Histogram<u64>,
}

// === impl Load ===

impl Load {
    pub(crate) fn new(
        inflight: usize,
        connections: usize,
        duration: Duration,
        folder: PathBuf,
    ) -> Result<Self, Error> {
        if connections == 0 || inflight < connections || duration.is_zero() {
            return Err("expected at least one connection, one cycle in flight for each, and \
                        one second"
                .into());
        }
        Ok(Self { inflight, connections, duration, folder })
    }

    /// The slots of one connection, as numbers that no other connection has.
    pub(crate) fn slots(&self, connection: usize) -> impl Iterator<Item = usize> {
        (connection..self.inflight).step_by(self.connections)
    }
}

// === impl Span ===

impl Span {
    /// Begins after the warm-up.
    pub(crate) fn start(load: &Load) -> Self {
        let begin = Instant::now() + WARM_UP;
        Self { begin, end: begin + load.duration }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.end.duration_since(self.begin).as_secs_f64()
    }
}

// === impl Meter ===

impl Meter {
    pub(crate) fn new(span: Span) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
            .expect("three digits and these bounds are legal");
        Self { span, latencies }
    }

    /// Counts a cycle if it lies within the span; false: the run is over.
    pub(crate) fn count(&mut self, began: Instant, ended: Instant) -> bool {
        if ended >= self.span.end {
            return false;
        }
        if began >= self.span.begin {
            let latency = ended.duration_since(began).as_micros();
            self.latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
        }
        true
    }

    /// What all of them saw, and what the server used of its processors meanwhile.
    pub(crate) fn sum(meters: Vec<Self>, span: Span, server_cpu: Option<Duration>) -> Measured {
        let mut all = Self::new(span).latencies;
        for meter in &meters {
            all.add(&meter.latencies).expect("a histogram that grows takes every value");
        }
        let cycles = as_float(all.len());
        let percentile = |quantile| as_float(all.value_at_quantile(quantile));
        Measured {
            cycles_per_s: cycles / span.seconds(),
            p50_us: percentile(0.5),
            p99_us: percentile(0.99),
            p999_us: percentile(0.999),
            server_cpu_us_per_cycle: server_cpu
                .filter(|_| cycles > 0.0)
                .map(|used| used.as_secs_f64() * 1e6 / cycles),
        }
    }
}

fn as_float(number: u64) -> f64 {
    // Counts and microseconds of a run are far below 2^32.
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

// === impl Measured ===

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} cycles/s, p50 {:.0} us", self.cycles_per_s, self.p50_us)?;
        write!(f, ", p99 {:.0} us, p99.9 {:.0} us", self.p99_us, self.p999_us)?;
        match self.server_cpu_us_per_cycle {
            Some(used) => write!(f, ", server CPU {used:.1} us a cycle"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Load, Meter, Span};

    #[tokio::test(start_paused = true)]
    async fn only_cycles_within_the_span_are_counted() {
        let load = Load::new(3, 2, Duration::from_secs(2), "/".into()).unwrap();
        let span = Span::start(&load);
        let mut meter = Meter::new(span);
        let ms = Duration::from_millis(5);
        assert!(meter.count(span.begin - ms, span.begin + ms));
        assert!(meter.count(span.begin, span.begin + ms));
        assert!(!meter.count(span.begin, span.end));
        let sum = Meter::sum(vec![meter], span, Some(ms));
        assert_eq!((sum.cycles_per_s, sum.server_cpu_us_per_cycle), (0.5, Some(5_000.0)));
        assert!((sum.p50_us - 5_000.0).abs() < 10.0, "{sum}");
    }

    #[test]
    fn every_slot_belongs_to_one_connection() {
        let load = Load::new(7, 3, Duration::from_secs(1), "/".into()).unwrap();
        let mut slots: Vec<_> = (0..3).flat_map(|connection| load.slots(connection)).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3, 4, 5, 6]);
    }
}
