//! What the track counts. Handles are made once, elsewhere; a step only adds.

use metrics::{Counter, Gauge, Histogram};

use super::step::{Tally, Track};

/// The track's metrics.
pub struct TrackMeters {
    /// Commands of a batch.
    pub batch_commands: Histogram,
    /// Calls that wait for their turn.
    pub queue_depth: Gauge,
    /// Live leases.
    pub leases: Gauge,
    /// Waiters.
    pub waiters: Gauge,
    /// Sessions, ended ones that are remembered included.
    pub sessions: Gauge,
    /// Records, those included that are gone and not yet deleted.
    pub records: Gauge,
    /// Bytes of replay memory.
    pub replay_memory_bytes: Gauge,
    /// Leases that ran out.
    pub expiries: Counter,
    /// Times the loop stood still.
    pub stalls: Counter,
    /// Decisions that panicked: bugs.
    pub panics: Counter,
}

impl Default for TrackMeters {
    /// Counts nothing.
    fn default() -> Self {
        Self {
            batch_commands: Histogram::noop(),
            queue_depth: Gauge::noop(),
            leases: Gauge::noop(),
            waiters: Gauge::noop(),
            sessions: Gauge::noop(),
            records: Gauge::noop(),
            replay_memory_bytes: Gauge::noop(),
            expiries: Counter::noop(),
            stalls: Counter::noop(),
            panics: Counter::noop(),
        }
    }
}

impl TrackMeters {
    pub(super) fn record(&self, tally: Tally, queued: usize, track: &Track) {
        if tally.commands > 0 {
            self.batch_commands.record(float(tally.commands));
        }
        self.expiries.increment(tally.expiries as u64);
        self.stalls.increment(u64::from(tally.stalled));
        self.panics.increment(tally.panics as u64);
        let state = track.machine().state();
        self.queue_depth.set(float(queued));
        self.leases.set(float(state.lease_count()));
        self.waiters.set(float(state.waiter_count()));
        self.sessions.set(float(state.session_count()));
        self.records.set(float(state.record_count()));
        self.replay_memory_bytes.set(float(usize::try_from(state.memory().bytes()).unwrap_or(0)));
    }
}

/// Counts are far below 2^52, where floats are exact.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
const fn float(count: usize) -> f64 {
    count as f64
}
