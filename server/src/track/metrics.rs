//! What the track counts. Handles are made once; a step only adds.

use metrics::{Counter, Gauge, Histogram};

use super::step::{Tally, Track};

pub(super) struct TrackMetrics {
    batch_commands: Histogram,
    queue_depth: Gauge,
    leases: Gauge,
    waiters: Gauge,
    replay_memory_bytes: Gauge,
    expiries: Counter,
    stalls: Counter,
    panics: Counter,
}

impl TrackMetrics {
    pub(super) fn new() -> Self {
        Self {
            batch_commands: metrics::histogram!("singletrack_batch_commands"),
            queue_depth: metrics::gauge!("singletrack_queue_depth"),
            leases: metrics::gauge!("singletrack_leases"),
            waiters: metrics::gauge!("singletrack_waiters"),
            replay_memory_bytes: metrics::gauge!("singletrack_replay_memory_bytes"),
            expiries: metrics::counter!("singletrack_expiries_total"),
            stalls: metrics::counter!("singletrack_stalls_total"),
            panics: metrics::counter!("singletrack_panics_total"),
        }
    }

    pub(super) fn record(&self, tally: Tally, queued: usize, track: &Track) {
        if tally.commands > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
            self.batch_commands.record(tally.commands as f64);
        }
        self.expiries.increment(tally.expiries as u64);
        self.stalls.increment(u64::from(tally.stalled));
        self.panics.increment(tally.panics as u64);
        let state = track.machine().state();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        {
            self.queue_depth.set(queued as f64);
            self.leases.set(state.lease_count() as f64);
            self.waiters.set(state.waiter_count() as f64);
            self.replay_memory_bytes.set(state.memory().bytes() as f64);
        }
    }
}
