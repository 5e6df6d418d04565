//! `singletrack bench` as a child: which binary, which options, and what it printed.
//!
//! It starts its own server in a process of its own, with the disk store in a fresh folder.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    Error,
    measure::{Load, Measured},
};

/// The binary that is measured.
#[derive(Debug)]
pub(crate) struct Singletrack {
    binary: PathBuf,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Workload {
    Ping,
    Lock,
    Get,
    Put,
    Transact,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Unary,
    Session,
}

// === impl Singletrack ===

impl Singletrack {
    /// The given one, or the one beside this program.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self, Error> {
        let binary = match given {
            Some(binary) => binary,
            None => std::env::current_exe()?.with_file_name("singletrack"),
        };
        if !binary.is_file() {
            let shown = binary.display();
            return Err(format!(
                "expected the binary {shown}, found none: \
                 run `cargo build --release -p singletrack-cli`, or use `bench/compare`"
            )
            .into());
        }
        Ok(Self { binary })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.binary
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.kill_on_drop(true);
        command
    }

    pub(crate) async fn run(
        &self,
        workload: Workload,
        transport: Transport,
        load: &Load,
    ) -> Result<Measured, Error> {
        let workload: &[&str] = match workload {
            Workload::Ping => &["ping"],
            Workload::Lock => &["lock"],
            Workload::Get => &["record", "--op", "get", "--value-size", "100"],
            Workload::Put => &["record", "--op", "put", "--value-size", "100"],
            Workload::Transact => &["record", "--op", "transact", "--value-size", "100"],
        };
        let transport = match transport {
            Transport::Unary => "unary",
            Transport::Session => "session",
        };
        let output = self
            .command()
            .arg("bench")
            .args(workload)
            .args(["--transport", transport, "-o", "json"])
            .args(["--inflight", &load.inflight.to_string()])
            .args(["--connections", &load.connections.to_string()])
            .args(["--seconds", &load.duration.as_secs().to_string()])
            // Its data folder is made on the same disk as those of the peers.
            .env("TMPDIR", &load.folder)
            .env_remove("SINGLETRACK_SERVER")
            .output()
            .await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let printed: Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| {
            let value = printed.get(key).and_then(Value::as_f64);
            value.ok_or_else(|| Error::from(format!("expected the number {key} in {printed}")))
        };
        Ok(Measured {
            cycles_per_s: number("cycles_per_s")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            p999_us: number("p999_us")?,
            server_cpu_us_per_cycle: number("server_cpu_us_per_cycle").ok(),
        })
    }
}
