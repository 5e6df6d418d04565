//! `singletrack bench`: what a server does in a second, and how long a cycle takes.
//!
//! - `load`: the cycles
//! - `history`: what was called and answered, for outside checkers
//!
//! The server is a process of its own, so that its processor time is told apart.

mod history;
mod load;

use std::{path::Path, process::ExitCode, time::Duration};

use serde_json::{Value, json};
use singletrack::{Bytes, Client, Transport};
use tokio::time::Instant;

use self::{
    history::History,
    load::{Cycle, Load},
};
use crate::{
    args::{BenchArgs, BenchTransport, RecordOp, Workload},
    end,
    exit::{Exit, Failure},
    output,
    own_server::{self, Keeps},
};

/// Measured, and not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What came of a run.
struct Outcome {
    seconds: f64,
    /// Of each cycle, microseconds, sorted.
    latencies: Vec<u32>,
    /// Processor time of the server, microseconds; `None`: its process is not ours to see.
    server_cpu_us: Option<u64>,
}

/// Runs a benchmark.
pub(crate) fn run(args: &BenchArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::no_runtime(&error)),
        Ok(runtime) => runtime.block_on(measure(args)),
    };
    end(result, args.output)
}

async fn measure(args: &BenchArgs) -> Result<(), Failure> {
    let cycle = cycle(args)?;
    let keeps = Keeps::OnDisk(args.data_dir.clone());
    let (url, own) = own_server::given_or_own(args.server.as_ref(), &keeps).await?;
    let history = args.history.as_ref().map(start_history).transpose()?;
    let mut clients = Vec::new();
    for connection in 0..args.connections {
        let transport = match args.transport {
            BenchTransport::Unary => Transport::Unary,
            BenchTransport::Session => Transport::Session,
        };
        let client = Client::builder(&url)
            .holder(format!("bench-{connection}"))
            .transport(transport)
            .retries(false)
            .build()
            .map_err(Failure::read)?;
        client.ping().await.map_err(Failure::read)?;
        clients.push(client);
    }
    let load =
        Load { cycle, inflight: args.inflight, history: history.as_ref().map(History::writer) };
    let pid = own.as_ref().and_then(own_server::OwnServer::pid);
    let outcome = run_load(&load, &clients, Duration::from_secs(args.seconds), pid).await?;
    drop(load);
    for client in &clients {
        client.close().await.map_err(Failure::read)?;
    }
    if let Some(history) = history {
        history.finish()?;
    }
    if let Some(own) = own {
        own.stop().await;
    }
    output::print(args.output, || to_json(args, &outcome), || to_table(args, &outcome))?;
    Ok(())
}

fn cycle(args: &BenchArgs) -> Result<Cycle, Failure> {
    match (args.workload, args.op) {
        (Workload::Ping, None) => Ok(Cycle::Ping),
        (Workload::Lock, None) => {
            Ok(Cycle::Lock { with_session: args.transport == BenchTransport::Session })
        }
        (Workload::Record, Some(op)) => {
            let bytes = usize::try_from(args.value_size).unwrap_or_default();
            Ok(Cycle::Record { op, value: Bytes::from(vec![7; bytes]) })
        }
        (Workload::Record, None) | (Workload::Ping | Workload::Lock, Some(_)) => {
            Err(Failure::Said {
                exit: Exit::Usage,
                message: "expected --op with `record`, and with nothing else".to_owned(),
                next_step: "say `bench record --op put`, or leave --op out".to_owned(),
            })
        }
    }
}

fn start_history(path: impl AsRef<Path>) -> Result<History, Failure> {
    Ok(History::start(path.as_ref())?)
}

async fn run_load(
    load: &Load,
    clients: &[Client],
    time: Duration,
    pid: Option<u32>,
) -> Result<Outcome, Failure> {
    let from = Instant::now() + WARM_UP;
    let until = from + time;
    let running = load.start(clients, from, until);
    tokio::time::sleep_until(from).await;
    let cpu_before = pid.and_then(processor_time_us);
    tokio::time::sleep_until(until).await;
    let cpu_after = pid.and_then(processor_time_us);
    let mut latencies = running.finish().await.map_err(Failure::write)?;
    latencies.sort_unstable();
    let server_cpu_us =
        cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    Ok(Outcome { seconds: time.as_secs_f64(), latencies, server_cpu_us })
}

/// The processor time that a process has used, microseconds.
fn processor_time_us(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks; user and system time are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    Some((user + system).saturating_mul(1_000_000) / ticks)
}

// === impl Outcome ===

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn cycles_per_s(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// The latency that `share` of a thousand cycles don't exceed, microseconds.
    fn percentile_us(&self, share: usize) -> u32 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * share / 1_000).copied().unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn server_cpu_us_per_cycle(&self) -> Option<f64> {
        let cycles = self.latencies.len().max(1) as f64;
        self.server_cpu_us.map(|us| us as f64 / cycles)
    }
}

fn to_json(args: &BenchArgs, outcome: &Outcome) -> Value {
    json!({
        "workload": workload_name(args.workload),
        "op": args.op.map(op_name),
        "value_bytes": args.op.map(|_| args.value_size),
        "transport": transport_name(args.transport),
        "inflight": args.inflight,
        "connections": args.connections,
        "seconds": args.seconds,
        "cycles": outcome.latencies.len(),
        "cycles_per_s": outcome.cycles_per_s().round(),
        "p50_us": outcome.percentile_us(500),
        "p99_us": outcome.percentile_us(990),
        "p999_us": outcome.percentile_us(999),
        "server_cpu_us_per_cycle":
            outcome.server_cpu_us_per_cycle().map(|us| (us * 100.0).round() / 100.0),
    })
}

fn to_table(args: &BenchArgs, outcome: &Outcome) -> String {
    let cpu = outcome.server_cpu_us_per_cycle();
    let workload = workload_name(args.workload);
    let row = [
        args.op.map_or_else(|| workload.to_owned(), |op| format!("{workload} {}", op_name(op))),
        transport_name(args.transport).to_owned(),
        args.inflight.to_string(),
        args.connections.to_string(),
        format!("{:.0}", outcome.cycles_per_s()),
        outcome.percentile_us(500).to_string(),
        outcome.percentile_us(990).to_string(),
        outcome.percentile_us(999).to_string(),
        cpu.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}")),
    ];
    let headers = [
        "WORKLOAD",
        "TRANSPORT",
        "INFLIGHT",
        "CONNECTIONS",
        "CYCLES/S",
        "P50 US",
        "P99 US",
        "P999 US",
        "SERVER US/CYCLE",
    ];
    output::table(headers, &[row])
}

const fn workload_name(workload: Workload) -> &'static str {
    match workload {
        Workload::Ping => "ping",
        Workload::Lock => "lock",
        Workload::Record => "record",
    }
}

const fn op_name(op: RecordOp) -> &'static str {
    match op {
        RecordOp::Put => "put",
        RecordOp::Get => "get",
        RecordOp::Increment => "increment",
        RecordOp::Transact => "transact",
    }
}

const fn transport_name(transport: BenchTransport) -> &'static str {
    match transport {
        BenchTransport::Unary => "unary",
        BenchTransport::Session => "session",
    }
}
