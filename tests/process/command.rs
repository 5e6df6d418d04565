//! One run of a command, bounded in time. Owns how it is started and what is kept of it.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary under test, with nothing of this environment that could steer it.
pub(crate) fn singletrack() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_singletrack"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SINGLETRACK_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary under test against a server.
pub(crate) async fn client(url: &str, args: &[&str]) -> Finished {
    run(singletrack().args(args).env("SINGLETRACK_SERVER", url)).await
}

/// Runs any command to its end.
pub(crate) async fn run(command: &mut Command) -> Finished {
    let program = command.as_std().get_program().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .unwrap_or_else(|_| panic!("{} did not end within {LIMIT:?}", name(&program)))
        .unwrap_or_else(|error| panic!("{} did not start: {error}", name(&program)));
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn name(program: &OsStr) -> String {
    program.to_string_lossy().into_owned()
}

// === impl Finished ===

impl Finished {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("expected JSON, found {error}: {}", self.stdout))
    }

    /// The one JSON object on standard error, below its key.
    #[track_caller]
    pub(crate) fn error_json(&self) -> serde_json::Value {
        let mut whole: serde_json::Value = serde_json::from_str(&self.stderr)
            .unwrap_or_else(|error| panic!("expected JSON, found {error}: {}", self.stderr));
        whole["error"].take()
    }
}
