//! Compares lock cycles, writes and transactions of Singletrack, Redis and etcd, side by side on one machine; or, with
//! `crowds`, shows what many waiters and many endings do to others.
//!
//! Owns the order of the rounds. Every server is started here, with a fresh folder, once for each
//! figure, and no two of them run at the same time.

mod crowds;
mod etcd;
mod machine;
mod measure;
mod ours;
mod peer;
mod redis;
mod report;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    measure::{Load, Measured},
    ours::{Singletrack, Transport, Workload},
};

/// Anything that keeps the comparison from its end is told and ends it.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Lock cycles of Singletrack, Redis and etcd, side by side.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Without one, the comparison
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement lasts, after the warm-up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Cycles under way at any time, over all connections
    #[arg(long, default_value_t = 256)]
    inflight: usize,
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Where the data folders are made [default: the folder for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The binary to measure [default: the one beside this one]
    #[arg(long)]
    singletrack: Option<PathBuf>,
    /// Only these; may be repeated [default: all]
    #[arg(long = "only", value_enum)]
    only: Vec<Contender>,
    /// Where the page is written; `-`: to standard output
    #[arg(long, default_value = "bench/RESULTS.md")]
    page: PathBuf,
}

/// Other benchmarks than the comparison.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Crowds(crowds::Args),
}

/// One row of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    /// `SET NX PX` and compare-and-delete, `appendfsync always`, by the `redis` crate
    Redis,
    /// The same by a client made for this benchmark, which costs next to nothing
    RedisBatching,
    /// Lock and Unlock of v3lock
    Etcd,
    /// Lock cycles on the session stream
    SessionLock,
    /// Lock cycles by unary calls
    UnaryLock,
    /// Put of its key-value service
    EtcdPut,
    /// Txn of four Puts
    EtcdTxn,
    /// Reads of records on the session stream
    SessionGet,
    /// Writes of records on the session stream
    SessionPut,
    /// Transactions of four operations on the session stream
    SessionTransact,
    /// Reads of records by unary calls
    UnaryGet,
    /// Writes of records by unary calls
    UnaryPut,
    /// Transactions of four operations by unary calls
    UnaryTransact,
    /// The ceiling of the session stream
    SessionPing,
    /// The ceiling of unary calls
    UnaryPing,
}

// === impl Contender ===

impl Contender {
    const ALL: [Self; 15] = [
        Self::RedisBatching,
        Self::Redis,
        Self::SessionLock,
        Self::Etcd,
        Self::UnaryLock,
        Self::SessionPut,
        Self::EtcdPut,
        Self::UnaryPut,
        Self::SessionTransact,
        Self::EtcdTxn,
        Self::UnaryTransact,
        Self::SessionGet,
        Self::SessionPing,
        Self::UnaryGet,
        Self::UnaryPing,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis, `redis` crate, lock",
            Self::RedisBatching => "Redis, batching client, lock",
            Self::Etcd => "etcd, lock",
            Self::SessionLock => "Singletrack session, lock",
            Self::UnaryLock => "Singletrack unary, lock",
            Self::EtcdPut => "etcd, put",
            Self::EtcdTxn => "etcd, txn of 4",
            Self::SessionGet => "Singletrack session, record get",
            Self::SessionPut => "Singletrack session, record put",
            Self::SessionTransact => "Singletrack session, transact of 4",
            Self::UnaryGet => "Singletrack unary, record get",
            Self::UnaryPut => "Singletrack unary, record put",
            Self::UnaryTransact => "Singletrack unary, transact of 4",
            Self::SessionPing => "Singletrack session, ping",
            Self::UnaryPing => "Singletrack unary, ping",
        }
    }

    async fn run(self, ours: &Singletrack, load: &Load) -> Result<Measured, Error> {
        let (workload, transport) = match self {
            Self::Redis => return redis::run(load, redis::With::Library).await,
            Self::RedisBatching => return redis::run(load, redis::With::Batching).await,
            Self::Etcd => return etcd::run(etcd::Cycle::Lock, load).await,
            Self::EtcdPut => return etcd::run(etcd::Cycle::Put, load).await,
            Self::EtcdTxn => return etcd::run(etcd::Cycle::Txn, load).await,
            Self::SessionLock => (Workload::Lock, Transport::Session),
            Self::SessionGet => (Workload::Get, Transport::Session),
            Self::SessionPut => (Workload::Put, Transport::Session),
            Self::SessionTransact => (Workload::Transact, Transport::Session),
            Self::SessionPing => (Workload::Ping, Transport::Session),
            Self::UnaryLock => (Workload::Lock, Transport::Unary),
            Self::UnaryGet => (Workload::Get, Transport::Unary),
            Self::UnaryPut => (Workload::Put, Transport::Unary),
            Self::UnaryTransact => (Workload::Transact, Transport::Unary),
            Self::UnaryPing => (Workload::Ping, Transport::Unary),
        };
        ours.run(workload, transport, load).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        None => compare(&args).await,
        Some(Command::Crowds(crowds)) => crowds::run(crowds).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn compare(args: &Args) -> Result<(), Error> {
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let load = Load::new(
        args.inflight,
        args.connections,
        Duration::from_secs(args.seconds),
        folder.clone(),
    )?;
    let chosen: Vec<_> = Contender::ALL
        .into_iter()
        .filter(|contender| args.only.is_empty() || args.only.contains(contender))
        .collect();
    let ours = Singletrack::new(args.singletrack.clone())?;
    let machine = machine::describe(&folder, &ours).await?;
    let mut results: Vec<(Contender, Vec<Measured>)> =
        chosen.iter().map(|&contender| (contender, Vec::new())).collect();
    // In alternating rounds, so that a slow minute of the machine meets all of them.
    for round in 1..=args.rounds {
        for (contender, measured) in &mut results {
            let one = contender
                .run(&ours, &load)
                .await
                .map_err(|error| format!("{}: {error}", contender.name()))?;
            report::say(&format!("round {round}: {}: {one}", contender.name()));
            measured.push(one);
        }
    }
    let page = report::page(&machine, &load, &results);
    if args.page.as_os_str() == "-" {
        report::print(&page);
    } else {
        std::fs::write(&args.page, page)
            .map_err(|error| format!("can't write {}: {error}", args.page.display()))?;
    }
    Ok(())
}
