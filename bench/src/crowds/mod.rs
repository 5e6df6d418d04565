//! Crowds: many waiters on one lease, many leases due at once, many leases under one session that
//! ends. What is measured is what a crowd does to those beside it.
//!
//! - `handover`: how long it takes until the next waiter has the lease
//! - `endings`: what others feel while a hundred thousand leases end at once
//! - `paced`: calls at a steady pace, each timed from when it was due
//! - `server`: the server, in a process of its own

mod endings;
mod handover;
mod paced;
mod server;

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use serde_json::{Value, json};
use singletrack::{Client, Transport};
use tokio::time::Instant;

use crate::{Error, ours::Singletrack, report};

/// Hand-overs with few and with many waiters, and what a hundred thousand leases that end at once
/// do to everybody else
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// How often each scene is played
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Waiters on one lease, or below one subtree
    #[arg(long, default_value_t = 10_000)]
    waiters: usize,
    /// Leases that end at once
    #[arg(long, default_value_t = 100_000)]
    leases: usize,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
    /// Where the data folders are made [default: the folder for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The binary to measure [default: the one beside this one]
    #[arg(long)]
    singletrack: Option<PathBuf>,
}

/// Waiters that the many are compared with.
const FEW: usize = 10;
/// How much longer a hand-over may take with many waiters.
const HAND_OVER_RATIO_MAX: f64 = 2.0;
/// How late an answer may be beside leases that end.
const LATE_MAX: Duration = Duration::from_millis(100);
/// Connections of a crowd.
const CONNECTIONS: usize = 8;

/// One row of the table: latencies of one kind of call in one scene.
#[derive(Debug)]
struct Row {
    scene: &'static str,
    what: String,
    round: usize,
    /// Of each call, sorted.
    latencies: Vec<Duration>,
    /// Calls that were refused.
    refused: usize,
    /// Empty: there is none.
    bar: String,
    met: bool,
}

pub(crate) async fn run(args: &Args) -> Result<(), Error> {
    let ours = Singletrack::new(args.singletrack.clone())?;
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let mut rows = Vec::new();
    for round in 1..=args.rounds {
        let few = handover::play(&ours, &folder, FEW).await?;
        let many = handover::play(&ours, &folder, args.waiters).await?;
        let ratio = ratio(percentile(&many, 990), percentile(&few, 990));
        rows.push(Row::hand_over(round, FEW, few, String::new(), true));
        let bar = format!("p99 <= 2 x that with {FEW}: {ratio:.2}");
        rows.push(Row::hand_over(round, args.waiters, many, bar, ratio <= HAND_OVER_RATIO_MAX));
        rows.extend(endings::leases_due(&ours, &folder, args.leases, round).await?);
        rows.extend(endings::session_closed(&ours, &folder, args.leases, round).await?);
        rows.extend(endings::subtree_released(&ours, &folder, args.waiters, round).await?);
        for row in rows.iter().filter(|row| row.round == round) {
            report::say(&row.to_line());
        }
    }
    let text = if args.json { format!("{}\n", to_json(&rows)) } else { to_table(&rows) };
    report::print(&text);
    Ok(())
}

/// So many clients with a session each, whose connections are made.
async fn clients(url: &str, name: &str, count: usize) -> Result<Vec<Client>, Error> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = Client::builder(url)
            .holder(format!("{name}-{number}"))
            .transport(Transport::Session)
            .session_ttl(Duration::from_secs(60))
            .build()?;
        client.ping().await?;
        clients.push(client);
    }
    Ok(clients)
}

/// Fails when something doesn't come about within a minute.
async fn in_time<T>(
    what: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let limit = Duration::from_secs(60);
    match tokio::time::timeout_at(Instant::now() + limit, future).await {
        Ok(result) => result,
        Err(_) => Err(format!("expected {what} within {limit:?}").into()),
    }
}

/// The latency that `share` of a thousand calls don't exceed.
fn percentile(sorted: &[Duration], share: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * share / 1_000).copied().unwrap_or_default()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-9)
}

// === impl Row ===

impl Row {
    fn hand_over(
        round: usize,
        waiters: usize,
        latencies: Vec<Duration>,
        bar: String,
        met: bool,
    ) -> Self {
        let what = format!("hand-over with {waiters} waiters");
        Self { scene: "waiters", what, round, latencies, refused: 0, bar, met }
    }

    /// It is shown, and nothing was promised of it.
    fn unjudged(&mut self) {
        self.bar.clear();
        self.met = true;
    }

    fn cells(&self) -> [String; 9] {
        let ms = |share| format!("{:.2}", percentile(&self.latencies, share).as_secs_f64() * 1e3);
        let judged = match (self.bar.is_empty(), self.met) {
            (true, _) => String::new(),
            (false, true) => format!("met ({})", self.bar),
            (false, false) => format!("MISSED ({})", self.bar),
        };
        [
            self.scene.to_owned(),
            self.what.clone(),
            self.round.to_string(),
            self.latencies.len().to_string(),
            ms(500),
            ms(990),
            ms(1_000),
            self.refused.to_string(),
            judged,
        ]
    }

    fn to_line(&self) -> String {
        let [scene, what, round, calls, p50, p99, max, refused, judged] = self.cells();
        format!(
            "round {round}: {scene}: {what}: {calls} calls, p50 {p50} ms, p99 {p99} ms, max {max} ms, \
             {refused} refused {judged}"
        )
    }

    fn to_json(&self) -> Value {
        let us = |share| percentile(&self.latencies, share).as_micros();
        json!({
            "scene": self.scene,
            "what": self.what,
            "round": self.round,
            "calls": self.latencies.len(),
            "p50_us": us(500),
            "p99_us": us(990),
            "max_us": us(1_000),
            "refused": self.refused,
            "bar": self.bar,
            "met": self.met,
        })
    }
}

fn to_json(rows: &[Row]) -> Value {
    rows.iter().map(Row::to_json).collect()
}

fn to_table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| scene | what | round | calls | p50 ms | p99 ms | max ms | refused | bar |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        text.push_str(&format!("| {} |\n", row.cells().join(" | ")));
    }
    text
}
