//! A server in a process of its own, for commands that need one: on a free port, with a data
//! folder that goes when it goes. Kills only what it started.

use std::{
    env,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use singletrack::Client;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

use crate::exit::{self, Exit, Failure};

const START_TIME: Duration = Duration::from_secs(30);
const STOP_TIME: Duration = Duration::from_secs(10);
/// Lines of a server that didn't start which are told.
const LINES_TOLD: usize = 20;

/// Where a server keeps what it knows.
#[derive(Clone, Debug)]
pub(crate) enum Keeps {
    InMemory,
    /// In a new folder within this one.
    OnDisk(Option<PathBuf>),
}

/// A running server of one's own. Dropping it kills it.
pub(crate) struct OwnServer {
    child: Child,
    url: String,
    _folder: Folder,
}

/// A folder that goes with this.
struct Folder(PathBuf);

// === impl OwnServer ===

impl OwnServer {
    /// Starts one and waits until it serves.
    pub(crate) async fn start(keeps: &Keeps) -> Result<Self, Failure> {
        let (store, parent) = match keeps {
            Keeps::InMemory => ("memory", None),
            Keeps::OnDisk(parent) => ("disk", parent.clone()),
        };
        let folder = Folder::make(parent).map_err(|error| failed("make a data folder", &error))?;
        let program = env::current_exe().map_err(|error| failed("find this program", &error))?;
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"])
            .args(["--store", store, "--data-dir"])
            .arg(folder.path())
            .env_remove("SINGLETRACK_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("start a server", &error))?;
        let stderr = child.stderr.take().ok_or_else(|| silent(&[]))?;
        let mut lines = BufReader::new(stderr).lines();
        let url = address(&mut lines).await?;
        // Nobody may stop reading, or the server would stand still at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, url, _folder: folder })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops it in an orderly way, or else kills it.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            // One that has ended by itself needs no telling.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _late = timeout(STOP_TIME, self.child.wait()).await;
        }
    }
}

/// Reads until the server says where it serves.
async fn address(lines: &mut Lines<BufReader<ChildStderr>>) -> Result<String, Failure> {
    let mut said = Vec::new();
    let found = timeout(START_TIME, async {
        while let Ok(Some(line)) = lines.next_line().await {
            let at = line.split("serving address=").nth(1).and_then(|rest| rest.split(' ').next());
            if let Some(at) = at {
                return Some(format!("http://{}", at.trim()));
            }
            said.push(line);
        }
        None
    })
    .await;
    found.ok().flatten().ok_or_else(|| silent(&said))
}

fn silent(said: &[String]) -> Failure {
    let from = said.len().saturating_sub(LINES_TOLD);
    let said: Vec<&str> = said.iter().skip(from).map(String::as_str).collect();
    Failure::Said {
        exit: Exit::Internal,
        message: format!("expected a server to start, found: {}", said.join(" | ")),
        next_step: "run `singletrack serve` to see more, or name a server with --server".into(),
    }
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::Said {
        exit: Exit::Internal,
        message: format!("could not {what}: {error}"),
        next_step: "name a server with --server, or free what is missing".into(),
    }
}

/// The server that was named, or one of one's own.
pub(crate) async fn given_or_own(
    given: Option<&String>,
    keeps: &Keeps,
) -> Result<(String, Option<OwnServer>), Failure> {
    match given {
        Some(url) => {
            // A typing error is found before anything is measured.
            Client::connect(url.clone()).map_err(Failure::read)?;
            Ok((url.clone(), None))
        }
        None => {
            let own = OwnServer::start(keeps).await?;
            Ok((own.url().to_owned(), Some(own)))
        }
    }
}

// === impl Folder ===

impl Folder {
    fn make(parent: Option<PathBuf>) -> io::Result<Self> {
        let parent = parent.unwrap_or_else(env::temp_dir);
        std::fs::create_dir_all(&parent)?;
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(|error| io::Error::other(error.to_string()))?;
        let path = parent.join(format!("singletrack-{}", hex::encode(bits)));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => exit::warn(&format!("{} is left behind: {error}", self.0.display())),
        }
    }
}
