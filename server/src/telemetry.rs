//! Logs and metrics: what an operator sees.
//!
//! Owns every metric's name and the registry behind `/metrics`. Each server has a registry of
//! its own, so several can live in one process. Handles are made once, here: a request never
//! builds a label.

use std::{fmt, io::IsTerminal, sync::Arc};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use singletrack_proto::{Reason, v1::Operation};
use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

use crate::config::LogFormat;

/// Names of metrics. `docs/operations.md` explains each.
pub mod name {
    /// How long an entry took to become durable, seconds.
    pub const COMMIT_SECONDS: &str = "singletrack_commit_seconds";
    /// How many bytes an entry had.
    pub const COMMIT_BYTES: &str = "singletrack_commit_bytes";
    /// How many commands a batch had.
    pub const BATCH_COMMANDS: &str = "singletrack_batch_commands";
    /// How many calls wait for the track.
    pub const QUEUE_DEPTH: &str = "singletrack_queue_depth";
    /// How many leases live.
    pub const LEASES: &str = "singletrack_leases";
    /// How many calls and kept places wait for a lease.
    pub const WAITERS: &str = "singletrack_waiters";
    /// How many leases expired.
    pub const EXPIRIES: &str = "singletrack_expiries_total";
    /// How many calls and items were refused, by reason.
    pub const REFUSALS: &str = "singletrack_refusals_total";
    /// How many calls came, by method.
    pub const REQUESTS: &str = "singletrack_requests_total";
    /// How many calls are being answered.
    pub const IN_FLIGHT: &str = "singletrack_requests_in_flight";
    /// How many streams of sessions are open.
    pub const STREAMS: &str = "singletrack_streams";
    /// How many sessions there are, ended ones that are remembered included.
    pub const SESSIONS: &str = "singletrack_sessions";
    /// How many records there are, those included that are gone and not yet deleted.
    pub const RECORDS: &str = "singletrack_records";
    /// How many connections are open.
    pub const CONNECTIONS: &str = "singletrack_connections";
    /// How many connections were closed at once, as there were too many.
    pub const CONNECTIONS_REFUSED: &str = "singletrack_connections_refused_total";
    /// How many bytes replay memory has.
    pub const REPLAY_MEMORY_BYTES: &str = "singletrack_replay_memory_bytes";
    /// How many bytes of log no snapshot covers yet.
    pub const LOG_BYTES: &str = "singletrack_log_bytes";
    /// How many snapshots were completed.
    pub const SNAPSHOTS: &str = "singletrack_snapshots_total";
    /// How many times the loop stood still for longer than it charges to holders.
    pub const STALLS: &str = "singletrack_stalls_total";
    /// How many decisions panicked; each is a bug.
    pub const PANICS: &str = "singletrack_panics_total";
}

/// Seconds: from a fast disk's sync to a disk in trouble.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// Bytes of an entry: up to a full batch.
const BYTES: [f64; 8] =
    [256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 2_097_152.0];
/// Commands of a batch: up to a full one.
const COMMANDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The methods of our services, for the counter of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// LeaseService.
    AcquireLease,
    /// LeaseService.
    AbandonLease,
    /// LeaseService.
    RenewLeases,
    /// LeaseService.
    ReleaseLease,
    /// LeaseService.
    GetLease,
    /// LeaseService.
    ListLeases,
    /// LeaseService.
    CheckLease,
    /// LeaseService.
    ForceReleaseLease,
    /// LeaseService.
    TransferLease,
    /// LeaseService.
    RequestLeaseYield,
    /// LeaseService.
    AnswerLeaseYield,
    /// LeaseService.
    ListLeaseWaiters,
    /// LeaseService.
    GetLeaseStats,
    /// RecordService.
    GetRecord,
    /// RecordService.
    BatchGetRecords,
    /// RecordService.
    ListRecords,
    /// RecordService.
    PutRecord,
    /// RecordService.
    IncrementRecord,
    /// RecordService.
    DeleteRecord,
    /// RecordService.
    ProtectPrefix,
    /// RecordService.
    UnprotectPrefix,
    /// RecordService.
    ListProtections,
    /// TransactService.
    Transact,
    /// SessionService.
    OpenSession,
    /// SessionService.
    KeepSessionAlive,
    /// SessionService.
    CloseSession,
    /// SessionService.
    ListSessionLeases,
    /// SessionService: a stream; its operations count by themselves.
    Exchange,
    /// SessionService.
    Ping,
    /// Health, reflection and whatever is unknown.
    Other,
}

/// Every metric of one server.
pub struct Metrics {
    handle: PrometheusHandle,
    /// [`name::COMMIT_SECONDS`].
    pub commit_seconds: Histogram,
    /// [`name::COMMIT_BYTES`].
    pub commit_bytes: Histogram,
    /// [`name::BATCH_COMMANDS`].
    pub batch_commands: Histogram,
    /// [`name::QUEUE_DEPTH`].
    pub queue_depth: Gauge,
    /// [`name::LEASES`].
    pub leases: Gauge,
    /// [`name::WAITERS`].
    pub waiters: Gauge,
    /// [`name::EXPIRIES`].
    pub expiries: Counter,
    /// [`name::IN_FLIGHT`].
    pub in_flight: Gauge,
    /// [`name::STREAMS`].
    pub streams: Gauge,
    /// [`name::SESSIONS`].
    pub sessions: Gauge,
    /// [`name::CONNECTIONS`].
    pub connections: Gauge,
    /// [`name::CONNECTIONS_REFUSED`].
    pub connections_refused: Counter,
    /// [`name::RECORDS`].
    pub records: Gauge,
    /// [`name::REPLAY_MEMORY_BYTES`].
    pub replay_memory_bytes: Gauge,
    /// [`name::LOG_BYTES`].
    pub log_bytes: Gauge,
    /// [`name::SNAPSHOTS`].
    pub snapshots: Counter,
    /// [`name::STALLS`].
    pub stalls: Counter,
    /// [`name::PANICS`].
    pub panics: Counter,
    refusals: Vec<Counter>,
    requests: Vec<Counter>,
}

/// Why logs can't be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error(
        "log filter `{filter}`: {source}; expected something like `info` or `singletrack_server=debug,info`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Somebody else in this process writes logs already.
    #[error("logging is set up already: {0}")]
    Taken(#[from] TryInitError),
}

/// Begins to write logs to standard error. Once a process.
///
/// # Errors
/// When the filter is not one, or logging is set up already.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = check_filter(filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            subscriber.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?;
        }
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).finish().try_init()?;
        }
    }
    Ok(())
}

/// Parses a log filter.
///
/// # Errors
/// When it is not one.
pub fn check_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.into(), source })
}

// === impl Method ===

impl Method {
    /// All methods, `Other` last.
    pub const ALL: [Self; 30] = [
        Self::AcquireLease,
        Self::AbandonLease,
        Self::RenewLeases,
        Self::ReleaseLease,
        Self::GetLease,
        Self::ListLeases,
        Self::CheckLease,
        Self::ForceReleaseLease,
        Self::TransferLease,
        Self::RequestLeaseYield,
        Self::AnswerLeaseYield,
        Self::ListLeaseWaiters,
        Self::GetLeaseStats,
        Self::GetRecord,
        Self::BatchGetRecords,
        Self::ListRecords,
        Self::PutRecord,
        Self::IncrementRecord,
        Self::DeleteRecord,
        Self::ProtectPrefix,
        Self::UnprotectPrefix,
        Self::ListProtections,
        Self::Transact,
        Self::OpenSession,
        Self::KeepSessionAlive,
        Self::CloseSession,
        Self::ListSessionLeases,
        Self::Exchange,
        Self::Ping,
        Self::Other,
    ];

    /// Its name as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcquireLease => "AcquireLease",
            Self::AbandonLease => "AbandonLease",
            Self::RenewLeases => "RenewLeases",
            Self::ReleaseLease => "ReleaseLease",
            Self::GetLease => "GetLease",
            Self::ListLeases => "ListLeases",
            Self::CheckLease => "CheckLease",
            Self::ForceReleaseLease => "ForceReleaseLease",
            Self::TransferLease => "TransferLease",
            Self::RequestLeaseYield => "RequestLeaseYield",
            Self::AnswerLeaseYield => "AnswerLeaseYield",
            Self::ListLeaseWaiters => "ListLeaseWaiters",
            Self::GetLeaseStats => "GetLeaseStats",
            Self::GetRecord => "GetRecord",
            Self::BatchGetRecords => "BatchGetRecords",
            Self::ListRecords => "ListRecords",
            Self::PutRecord => "PutRecord",
            Self::IncrementRecord => "IncrementRecord",
            Self::DeleteRecord => "DeleteRecord",
            Self::ProtectPrefix => "ProtectPrefix",
            Self::UnprotectPrefix => "UnprotectPrefix",
            Self::ListProtections => "ListProtections",
            Self::Transact => "Transact",
            Self::OpenSession => "OpenSession",
            Self::KeepSessionAlive => "KeepSessionAlive",
            Self::CloseSession => "CloseSession",
            Self::ListSessionLeases => "ListSessionLeases",
            Self::Exchange => "Exchange",
            Self::Ping => "Ping",
            Self::Other => "other",
        }
    }

    /// The method that does the same as an operation of a stream.
    #[must_use]
    pub const fn of(operation: &Operation) -> Self {
        use singletrack_proto::v1::operation::Operation as Op;
        match &operation.operation {
            None => Self::Other,
            Some(Op::Ping(_)) => Self::Ping,
            Some(Op::KeepSessionAlive(_)) => Self::KeepSessionAlive,
            Some(Op::CloseSession(_)) => Self::CloseSession,
            Some(Op::ListSessionLeases(_)) => Self::ListSessionLeases,
            Some(Op::AcquireLease(_)) => Self::AcquireLease,
            Some(Op::AbandonLease(_)) => Self::AbandonLease,
            Some(Op::RenewLeases(_)) => Self::RenewLeases,
            Some(Op::ReleaseLease(_)) => Self::ReleaseLease,
            Some(Op::GetLease(_)) => Self::GetLease,
            Some(Op::ListLeases(_)) => Self::ListLeases,
            Some(Op::CheckLease(_)) => Self::CheckLease,
            Some(Op::ForceReleaseLease(_)) => Self::ForceReleaseLease,
            Some(Op::TransferLease(_)) => Self::TransferLease,
            Some(Op::RequestLeaseYield(_)) => Self::RequestLeaseYield,
            Some(Op::AnswerLeaseYield(_)) => Self::AnswerLeaseYield,
            Some(Op::ListLeaseWaiters(_)) => Self::ListLeaseWaiters,
            Some(Op::GetLeaseStats(_)) => Self::GetLeaseStats,
            Some(Op::GetRecord(_)) => Self::GetRecord,
            Some(Op::BatchGetRecords(_)) => Self::BatchGetRecords,
            Some(Op::ListRecords(_)) => Self::ListRecords,
            Some(Op::PutRecord(_)) => Self::PutRecord,
            Some(Op::IncrementRecord(_)) => Self::IncrementRecord,
            Some(Op::DeleteRecord(_)) => Self::DeleteRecord,
            Some(Op::ProtectPrefix(_)) => Self::ProtectPrefix,
            Some(Op::UnprotectPrefix(_)) => Self::UnprotectPrefix,
            Some(Op::ListProtections(_)) => Self::ListProtections,
            Some(Op::Transact(_)) => Self::Transact,
        }
    }

    /// The method with this name, `Other` for any other.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|method| method.name() == name).unwrap_or(Self::Other)
    }
}

// === impl Metrics ===

impl Metrics {
    /// A registry with every metric in it, each at 0.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let recorder = builder().expect("the lists of buckets are not empty").build_recorder();
        describe(&recorder);
        let counter = |name: &'static str| recorder.register_counter(&name.into(), &METADATA);
        let gauge = |name: &'static str| recorder.register_gauge(&name.into(), &METADATA);
        let histogram = |name: &'static str| recorder.register_histogram(&name.into(), &METADATA);
        let labelled = |name: &'static str, key: &'static str, value: &'static str| {
            let key = Key::from_parts(name, vec![Label::from_static_parts(key, value)]);
            recorder.register_counter(&key, &METADATA)
        };
        let refusals = Reason::ALL.map(|reason| labelled(name::REFUSALS, "reason", reason.name()));
        let requests = Method::ALL.map(|method| labelled(name::REQUESTS, "method", method.name()));
        Arc::new(Self {
            handle: recorder.handle(),
            commit_seconds: histogram(name::COMMIT_SECONDS),
            commit_bytes: histogram(name::COMMIT_BYTES),
            batch_commands: histogram(name::BATCH_COMMANDS),
            queue_depth: gauge(name::QUEUE_DEPTH),
            leases: gauge(name::LEASES),
            waiters: gauge(name::WAITERS),
            expiries: counter(name::EXPIRIES),
            in_flight: gauge(name::IN_FLIGHT),
            streams: gauge(name::STREAMS),
            sessions: gauge(name::SESSIONS),
            connections: gauge(name::CONNECTIONS),
            connections_refused: counter(name::CONNECTIONS_REFUSED),
            records: gauge(name::RECORDS),
            replay_memory_bytes: gauge(name::REPLAY_MEMORY_BYTES),
            log_bytes: gauge(name::LOG_BYTES),
            snapshots: counter(name::SNAPSHOTS),
            stalls: counter(name::STALLS),
            panics: counter(name::PANICS),
            refusals: refusals.into(),
            requests: requests.into(),
        })
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.increment(1);
        }
    }

    /// Counts a call.
    pub fn requested(&self, method: Method) {
        if let Some(counter) = self.requests.get(method as usize) {
            counter.increment(1);
        }
    }

    /// All of it, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds observed values into their buckets; to be called every few seconds, as nobody
    /// may ever ask for them.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const METADATA: Metadata<'static> = Metadata::new("singletrack", Level::INFO, None);

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let full = |name: &str| Matcher::Full(name.into());
    PrometheusBuilder::new()
        .set_buckets_for_metric(full(name::COMMIT_SECONDS), &SECONDS)?
        .set_buckets_for_metric(full(name::COMMIT_BYTES), &BYTES)?
        .set_buckets_for_metric(full(name::BATCH_COMMANDS), &COMMANDS)
}

fn describe(recorder: &PrometheusRecorder) {
    let counter = |name: &'static str, text: &'static str| {
        recorder.describe_counter(KeyName::from(name), Some(Unit::Count), text.into());
    };
    let gauge = |name: &'static str, unit, text: &'static str| {
        recorder.describe_gauge(KeyName::from(name), Some(unit), text.into());
    };
    let histogram = |name: &'static str, unit, text: &'static str| {
        recorder.describe_histogram(KeyName::from(name), Some(unit), text.into());
    };
    histogram(name::COMMIT_SECONDS, Unit::Seconds, "Time until an entry was durable");
    histogram(name::COMMIT_BYTES, Unit::Bytes, "Size of an entry");
    histogram(name::BATCH_COMMANDS, Unit::Count, "Commands in a batch");
    gauge(name::QUEUE_DEPTH, Unit::Count, "Calls that wait for the track");
    gauge(name::LEASES, Unit::Count, "Live leases");
    gauge(name::WAITERS, Unit::Count, "Waiters, detached ones included");
    gauge(name::IN_FLIGHT, Unit::Count, "Calls being answered");
    gauge(name::STREAMS, Unit::Count, "Open streams of sessions");
    gauge(name::SESSIONS, Unit::Count, "Sessions, ended ones that are remembered included");
    gauge(name::RECORDS, Unit::Count, "Records, those included that are gone and not yet deleted");
    gauge(name::CONNECTIONS, Unit::Count, "Open connections");
    gauge(name::REPLAY_MEMORY_BYTES, Unit::Bytes, "Replay memory");
    gauge(name::LOG_BYTES, Unit::Bytes, "Log that no snapshot covers yet");
    counter(name::EXPIRIES, "Leases that expired");
    counter(name::REFUSALS, "Refused calls and items, by reason");
    counter(name::REQUESTS, "Calls, by method");
    counter(name::CONNECTIONS_REFUSED, "Connections closed at once, above the cap");
    counter(name::SNAPSHOTS, "Completed snapshots");
    counter(name::STALLS, "Pauses of the track that were not charged to holders");
    counter(name::PANICS, "Decisions that panicked; each is a bug to report");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 19] = [
        name::COMMIT_SECONDS,
        name::COMMIT_BYTES,
        name::BATCH_COMMANDS,
        name::QUEUE_DEPTH,
        name::LEASES,
        name::WAITERS,
        name::EXPIRIES,
        name::REFUSALS,
        name::REQUESTS,
        name::IN_FLIGHT,
        name::STREAMS,
        name::SESSIONS,
        name::RECORDS,
        name::CONNECTIONS,
        name::CONNECTIONS_REFUSED,
        name::REPLAY_MEMORY_BYTES,
        name::LOG_BYTES,
        name::SNAPSHOTS,
        name::STALLS,
    ];

    #[test]
    fn every_metric_is_shown_before_anything_happened() {
        let text = Metrics::new().render();
        for name in NAMES {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
    }

    #[test]
    fn the_manual_explains_every_metric() {
        let manual = include_str!("../../docs/operations.md");
        for name in NAMES {
            assert!(manual.lines().any(|line| line.starts_with(&format!("| `{name}"))), "{name}");
        }
    }

    #[test]
    fn reasons_and_methods_have_a_counter_of_their_own() {
        let metrics = Metrics::new();
        for reason in Reason::ALL {
            metrics.refused(reason);
        }
        metrics.requested(Method::Ping);
        metrics.requested(Method::Ping);
        let text = metrics.render();
        for reason in Reason::ALL {
            let line = format!("singletrack_refusals_total{{reason=\"{}\"}} 1", reason.name());
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
        assert!(text.contains("singletrack_requests_total{method=\"Ping\"} 2"), "{text}");
    }

    #[test]
    fn two_servers_in_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.expiries.increment(3);
        assert!(one.render().contains("singletrack_expiries_total 3"));
        assert!(other.render().contains("singletrack_expiries_total 0"));
    }

    #[test]
    fn commit_latency_is_a_histogram() {
        let metrics = Metrics::new();
        metrics.commit_seconds.record(0.003);
        let text = metrics.render();
        assert!(text.contains("singletrack_commit_seconds_bucket{le=\"0.005\"} 1"), "{text}");
    }
}
