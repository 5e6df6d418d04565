//! A server in a process of its own. Owns starting, killing, stopping and going on again; the
//! data folder outlives the process, so a restart finds what the last one left.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use singletrack::{Client, Transport};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Child,
    sync::mpsc,
};

use crate::command;

const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(30);
const KEPT_LINES: usize = 500;

/// A server and its data folder.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    options: Vec<String>,
    log: Log,
}

/// The last lines that were printed, over all restarts.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

// === impl Server ===

impl Server {
    /// Starts one on a free port with an empty data folder.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`Server::start`], with further options.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let log = Log::default();
        let (child, address) = spawn(folder.path(), &options, &log).await;
        Self { child, address, folder, options, log }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port alone, as grpcurl wants it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::builder(self.url()).transport(Transport::Unary).retries(false).build().unwrap()
    }

    /// The last lines it printed.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_end().await;
    }

    /// Asks it to stop, waits until it has, and tells its exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_for_end().await
    }

    /// Starts it again on the same folder, on another port.
    pub(crate) async fn restart(&mut self) {
        assert!(self.child.id().is_none(), "expected a server that has ended");
        (self.child, self.address) = spawn(self.folder.path(), &self.options, &self.log).await;
    }

    /// Stops its threads where they are.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets them go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the server is running");
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn wait_for_end(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(END_LIMIT, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("the server did not end:\n{}", self.log.text()));
        status.unwrap().code()
    }
}

async fn spawn(folder: &Path, options: &[String], log: &Log) -> (Child, SocketAddr) {
    let mut child = command::singletrack()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--data-dir"])
        .arg(folder)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (found, mut address) = mpsc::channel(1);
    tokio::spawn(read(child.stdout.take().unwrap(), log.clone(), found.clone()));
    tokio::spawn(read(child.stderr.take().unwrap(), log.clone(), found));
    match tokio::time::timeout(START_LIMIT, address.recv()).await {
        Ok(Some(address)) => (child, address),
        Ok(None) => {
            let status = child.wait().await.unwrap();
            panic!("the server ended at once, with {status}:\n{}", log.text());
        }
        Err(_) => panic!("the server did not listen in time:\n{}", log.text()),
    }
}

/// Keeps what is printed and watches for the address.
async fn read(stream: impl AsyncRead + Unpin, log: Log, found: mpsc::Sender<SocketAddr>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = listening_address(&line) {
            // Nobody waits any more once the first was found.
            let _ = found.try_send(address);
        }
        log.push(line);
    }
}

/// The address in a line such as `serving address=127.0.0.1:7420` or `listening on [::1]:7420`,
/// coloured or not, as text or as JSON.
fn listening_address(line: &str) -> Option<SocketAddr> {
    if !(line.contains("serving") || line.contains("listening")) || line.contains("admin") {
        return None;
    }
    plain(line)
        .split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']')))
        .find_map(|word| word.trim_end_matches('.').parse().ok())
}

/// The text without the escape sequences of colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut in_escape = false;
    for c in line.chars() {
        match (in_escape, c) {
            (false, '\u{1b}') => in_escape = true,
            (false, c) => text.push(c),
            (true, c) => in_escape = !c.is_ascii_alphabetic(),
        }
    }
    text
}

// === impl Log ===

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| format!("| {line}\n")).collect()
    }
}

#[test]
fn the_address_is_found_in_any_form_of_the_line() {
    for line in [
        "listening on 127.0.0.1:4711",
        "2026-01-02T03:04:05Z  INFO singletrack: serving address=127.0.0.1:4711 store=disk",
        "\u{1b}[32m INFO\u{1b}[0m listening \u{1b}[3maddr\u{1b}[0m\u{1b}[2m=\u{1b}[0m127.0.0.1:4711",
        r#"{"level":"INFO","message":"listening","addr":"127.0.0.1:4711"}"#,
    ] {
        assert_eq!(listening_address(line), "127.0.0.1:4711".parse().ok(), "{line}");
    }
    assert_eq!(listening_address("admin pages listening on 127.0.0.1:4711"), None);
    assert_eq!(listening_address("recovered 127 entries"), None);
}
