//! The machine and the versions that the figures belong to. Owns finding them out.

use std::{io::Write as _, path::Path};

use tokio::{process::Command, time::Instant};

use crate::{Error, ours::Singletrack};

const SYNCS: usize = 300;

/// Lines of a list, each a name and what it is.
pub(crate) type Facts = Vec<(&'static str, String)>;

pub(crate) async fn describe(folder: &Path, ours: &Singletrack) -> Result<Facts, Error> {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(vec![
        ("date", first_line(Command::new("date").args(["-u", "+%F %H:%M UTC"])).await),
        ("processor", format!("{cores} × {}", info("/proc/cpuinfo", "model name"))),
        ("memory", info("/proc/meminfo", "MemTotal")),
        ("kernel", kernel.trim().to_owned()),
        ("disk", sync_latency(folder)?),
        ("Singletrack", version(ours).await),
        ("etcd", first_line(Command::new("etcd").arg("--version")).await),
        ("Redis", first_line(Command::new("redis-server").arg("--version")).await),
    ])
}

/// The value of the first line `key : value` of a file of /proc.
fn info(file: &str, key: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_owned());
    found.unwrap_or_else(|| "unknown".to_owned())
}

async fn version(ours: &Singletrack) -> String {
    let version = first_line(ours.command().arg("--version")).await;
    let commit =
        first_line(Command::new("git").args(["describe", "--always", "--dirty", "--tags"])).await;
    format!("{version}, commit {commit}")
}

async fn first_line(command: &mut Command) -> String {
    let unknown = || "unknown".to_owned();
    match command.kill_on_drop(true).output().await {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .map_or_else(unknown, |line| line.trim().to_owned()),
        Ok(_) | Err(_) => unknown(),
    }
}

/// How long it takes to append 4 KiB to a file and to have it on the disk.
fn sync_latency(folder: &Path) -> Result<String, Error> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut latencies = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        latencies.push(began.elapsed().as_micros());
    }
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(SYNCS * part / 100).copied().unwrap_or_default();
    Ok(format!("append 4 KiB + fdatasync: p50 {} us, p99 {} us ({SYNCS} in a row)", at(50), at(99)))
}
