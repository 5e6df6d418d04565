//! A PostgreSQL of its own for a test, and `psql` sessions of it. Owns finding its programs, the
//! user it runs as (it refuses to be root), and its end.
//!
//! It listens on a socket in its folder alone, so there is no port to be taken.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::{
    command::{self, Finished},
    tools,
};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Where Debian has them, in a folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];
const USER: &str = "postgres";
/// Begins the line that tells how a statement ended.
const ENDED: &str = "ended:";

/// A database server and its data.
pub(crate) struct Postgres {
    process: Child,
    programs: PathBuf,
    folder: TempDir,
}

/// One connection, in a `psql` of its own.
pub(crate) struct Session {
    _process: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

/// How statements ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What was printed: a line for each row.
    pub(crate) rows: Vec<String>,
    /// How many rows the last statement affected.
    pub(crate) affected: u64,
    /// `00000`: all is well.
    pub(crate) state: String,
}

// === impl Postgres ===

impl Postgres {
    /// Starts one, or says why not: there is none, or nobody may start it here.
    pub(crate) async fn start() -> Option<Self> {
        let programs = find()?;
        let folder = TempDir::new().unwrap();
        if let Err(reason) = hand_over(folder.path()).await {
            tools::skip_unpermitted(&reason);
            return None;
        }
        let data = folder.path().join("data");
        let mut initdb = as_owner(&programs.join("initdb"));
        initdb.args(["--username", USER, "--auth", "trust", "--no-sync", "--encoding", "UTF8"]);
        let made = command::run(initdb.args(["--locale", "C", "--pgdata"]).arg(&data)).await;
        if made.code != 0 && is_unpermitted(&made) {
            tools::skip_unpermitted(&format!("initdb: {}", made.stderr));
            return None;
        }
        made.ended_with(0);
        let mut postgres = as_owner(&programs.join("postgres"));
        let sockets = format!("unix_socket_directories={}", folder.path().display());
        postgres.arg("-D").arg(data).args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"]);
        postgres.arg(sockets).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = postgres.spawn().unwrap();
        until_ready(process.stderr.take().unwrap()).await;
        Some(Self { process, programs, folder })
    }

    /// A connection.
    pub(crate) fn session(&self) -> Session {
        let mut psql = as_owner(&self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--username", USER]);
        psql.args(["--dbname", "postgres", "--host"]).arg(self.folder.path());
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = psql.kill_on_drop(true).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        Session { _process: process, stdin, stdout }
    }

    /// Resolves when so many sessions wait for a lock.
    pub(crate) async fn until_waiting(&self, sessions: usize) {
        let (mut session, expected) = (self.session(), [sessions.to_string()]);
        let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock';";
        let all = async { while session.run(count).await.rows != expected {} };
        tokio::time::timeout(SOON, all).await.expect("they come to wait soon");
    }

    /// Stops it, with all its sessions.
    pub(crate) async fn stop(mut self) {
        self.signal();
        let ended = tokio::time::timeout(SOON, self.process.wait()).await;
        let ended = ended.expect("it stops soon").unwrap();
        assert_eq!(ended.code(), Some(0), "a fast shutdown went well");
    }

    /// Asks it to cut all sessions and to stop.
    fn signal(&self) {
        let Some(id) = self.process.id() else { return };
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::INT);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal();
    }
}

/// The folder with its programs, the newest that has all.
fn find() -> Option<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(DEBIAN).into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse();
        folders.extend(version.ok().map(|version| (version, entry.path().join("bin"))));
    }
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let newest_first = folders.into_iter().rev().map(|(_, folder)| folder);
    let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|name| folder.join(name).is_file());
    let found = newest_first.chain(std::env::split_paths(&path)).find(has_all);
    if found.is_none() {
        tools::skip(&format!("expected PostgreSQL in {DEBIAN} or PATH, found none"));
    }
    found
}

/// A program as a user that it accepts. Settings of this environment don't reach it.
fn as_owner(program: &Path) -> Command {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--init-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").current_dir("/");
    command
}

/// Gives the folder to the user that PostgreSQL runs as, or tells why that can't be.
async fn hand_over(folder: &Path) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let own = format!("{USER}:{USER}");
    let given = command::run(Command::new("chown").arg(own).arg(folder)).await;
    if given.code != 0 {
        return Err(format!("expected to run PostgreSQL as {USER}: {}", given.stderr));
    }
    let touched = folder.join("touched");
    let tried = command::run(as_owner(Path::new("touch")).arg(touched)).await;
    if tried.code != 0 {
        return Err(format!("expected {USER} to write {}: {}", folder.display(), tried.stderr));
    }
    Ok(())
}

fn is_unpermitted(ended: &Finished) -> bool {
    ["Permission denied", "Operation not permitted"].iter().any(|it| ended.stderr.contains(it))
}

/// Reads the log until connections are accepted, and what follows to nowhere.
async fn until_ready(log: ChildStderr) {
    let (mut lines, mut seen) = (BufReader::new(log).lines(), String::new());
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            seen = seen.clone() + &line + "\n";
            if line.contains("ready to accept connections") {
                return;
            }
        }
        panic!("PostgreSQL ended at once:\n{seen}");
    };
    tokio::time::timeout(SOON, ready).await.expect("PostgreSQL is ready soon");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

// === impl Session ===

impl Session {
    /// Gives a variable a value, which statements then name as `:name`.
    pub(crate) async fn set(&mut self, name: &str, value: &str) {
        self.write(&format!("\\set {name} {value}\n")).await;
    }

    /// The same, with the value as an SQL string.
    pub(crate) async fn set_text(&mut self, name: &str, value: &str) {
        assert!(value.chars().all(|c| c.is_alphanumeric() || " /-".contains(c)), "{value}");
        self.set(name, &format!("'\\'{value}\\''")).await;
    }

    /// Runs statements and tells how they ended.
    pub(crate) async fn run(&mut self, statements: &str) -> Answer {
        self.send(statements).await;
        self.answer().await
    }

    /// Runs statements that may have to wait.
    pub(crate) async fn send(&mut self, statements: &str) {
        self.write(&format!("{statements}\n\\echo {ENDED} :ROW_COUNT :SQLSTATE\n")).await;
    }

    /// How the ones that were sent ended.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut rows = Vec::new();
        loop {
            let line = tokio::time::timeout(SOON, self.stdout.next_line()).await;
            let line = line.expect("it is answered soon").unwrap().expect("psql goes on");
            if let Some(ended) = line.strip_prefix(ENDED) {
                let words: Vec<&str> = ended.split_whitespace().collect();
                let [affected, state] = words[..] else { panic!("{line}") };
                return Answer { rows, affected: affected.parse().unwrap(), state: state.into() };
            }
            rows.push(line);
        }
    }

    async fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).await.unwrap();
        self.stdin.flush().await.unwrap();
    }
}
