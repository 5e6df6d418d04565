//! A server of somebody else in a process of its own. Owns starting it, reading what it used of
//! the processors, and ending it by its id; its folder goes with it.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Error;

/// A running server and its data folder.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    folder: TempDir,
}

// === impl Peer ===

impl Peer {
    /// Starts a program that keeps its data in a fresh folder below `parent`.
    pub(crate) fn start(
        program: &str,
        parent: &Path,
        args: impl FnOnce(&Path) -> Vec<String>,
    ) -> Result<Self, Error> {
        let folder = TempDir::with_prefix_in("compare-", parent)?;
        let child = Command::new(program)
            .args(args(folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                format!(
                    "could not start {program}: {error} \
                     (etcd and Redis come with the Debian packages etcd-server and redis-server)"
                )
            })?;
        Ok(Self { child, folder })
    }

    /// What it has used of the processors so far.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        cpu_of(self.child.id()?)
    }

    /// Ends it, and takes its folder away.
    pub(crate) async fn end(mut self) -> Result<(), Error> {
        self.child.kill().await?;
        Ok(self.folder.close()?)
    }
}

/// User and system time of a process.
fn cpu_of(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it are numbers. Fields are
    // counted from 1 in proc(5): the state is the third, utime the 14th, stime the 15th.
    let (_, numbers) = stat.rsplit_once(')')?;
    let mut times = numbers.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    let ticks_a_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1_000)? / ticks_a_second))
}

/// A port of the loopback interface that nobody uses at the moment.
pub(crate) fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
