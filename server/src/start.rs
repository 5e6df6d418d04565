//! Opens the store and starts the track, as configured.
//!
//! The one place where edge, track and store meet.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    config::{Config, StoreKind},
    server::Running,
    store::{Opened, StoreError, committer, disk, memory},
    telemetry::Metrics,
    track::{Fatal, Handle, LaneLimits, Track, TrackConfig, meters::TrackMeters},
};

/// A track that took no step for so long is stuck: it takes one at least every second.
const HEARTBEAT_MS_MAX: u64 = 5_000;

/// Opens the store and starts the track.
///
/// # Errors
/// When the store can't be opened.
pub fn start_track(config: &Config, metrics: &Arc<Metrics>) -> Result<Running<Handle>, StoreError> {
    let clock = Clock::start();
    let opened = match config.store {
        StoreKind::Disk => disk::open(&config.data_dir, clock.unix_us())?,
        StoreKind::Memory => memory::Disk::new().open(clock.unix_us())?,
    };
    tracing::info!(
        store = ?config.store,
        leases = opened.recovered.rows.len(),
        revision = opened.recovered.revision.0,
        took_ms = clock.elapsed_ms(),
        "recovered"
    );
    start_with(config, metrics, opened, clock)
}

/// Starts the track over an opened store.
///
/// # Errors
/// When a thread can't be started, or the system has no random numbers.
pub fn start_with(
    config: &Config,
    metrics: &Arc<Metrics>,
    opened: Opened,
    clock: Clock,
) -> Result<Running<Handle>, StoreError> {
    let (tell, fatal) = oneshot::channel();
    let on_fatal = Box::new(move |fatal| match fatal {
        // Nobody listens any more only when the server is gone itself.
        Fatal::Store(error) => drop(tell.send(error)),
        // The dropped sender says that it was not the store.
        Fatal::Machine => drop(tell),
    });
    let track_config = TrackConfig {
        quotas: config.quotas,
        lanes: LaneLimits { namespace: config.max_queued_per_namespace, total: config.max_queued },
    };
    let options = committer::Options {
        snapshot_after_bytes: config.snapshot_after_bytes,
        ..committer::Options::default()
    };
    let meters = (track_meters(metrics), committer_meters(metrics));
    let track = Track::start(&track_config, opened, options, clock, seed()?, meters, on_fatal)?;
    let handle = track.handle();
    let (beating, draining) = (handle.clone(), handle.clone());
    Ok(Running {
        track: handle,
        fatal,
        alive: Arc::new(move || {
            clock.elapsed_ms().saturating_sub(beating.stepped_ms()) < HEARTBEAT_MS_MAX
        }),
        drain: Box::new(move || draining.close()),
        close: Box::new(move || track.stop()),
    })
}

/// Keeps callers from choosing names that collide in hash tables.
fn seed() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|error| StoreError::Io {
        what: String::from("ask the system for a random number"),
        source: std::io::Error::other(error.to_string()),
    })
}

fn track_meters(metrics: &Metrics) -> TrackMeters {
    TrackMeters {
        batch_commands: metrics.batch_commands.clone(),
        queue_depth: metrics.queue_depth.clone(),
        leases: metrics.leases.clone(),
        waiters: metrics.waiters.clone(),
        sessions: metrics.sessions.clone(),
        records: metrics.records.clone(),
        replay_memory_bytes: metrics.replay_memory_bytes.clone(),
        expiries: metrics.expiries.clone(),
        stalls: metrics.stalls.clone(),
        panics: metrics.panics.clone(),
    }
}

fn committer_meters(metrics: &Metrics) -> committer::Meters {
    committer::Meters {
        seconds: metrics.commit_seconds.clone(),
        bytes: metrics.commit_bytes.clone(),
        snapshots: metrics.snapshots.clone(),
        log_bytes: metrics.log_bytes.clone(),
    }
}
