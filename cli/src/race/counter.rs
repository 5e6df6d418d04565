//! The lost update: agents read a counter, think, and write back what they read plus one.
//!
//! The counter is a file that nothing protects. Between reading and writing each agent thinks for
//! a moment, as an agent does; that is all the help the race gets.

use std::{path::PathBuf, sync::Arc, time::Duration};

use singletrack::{Acquire, Client, Release, Transport};
use tokio::{sync::Barrier, time::Instant};

use super::Outcome;
use crate::{
    args::{Cure, RaceArgs, Scenario},
    exit::{self, Exit, Failure},
};

/// How long an agent thinks between reading and writing.
const THOUGHT: Duration = Duration::from_millis(1);
/// How long an agent waits for its turn; far longer than all others together need.
const WAIT: Duration = Duration::from_secs(50);

/// The shared file. It goes with this.
struct Counter(PathBuf);

/// Plays it once.
pub(super) async fn play(args: &RaceArgs, cure: Cure, url: &str) -> Result<Outcome, Failure> {
    let counter = Arc::new(Counter::new().map_err(|error| unusable(&error))?);
    // A name of this run alone: another race on the same server is another race.
    let resource = format!("race/counter/{}", counter.name());
    let started = Instant::now();
    let all_ready = Arc::new(Barrier::new(args.agents as usize));
    let mut agents = Vec::new();
    for number in 0..args.agents {
        let agent = Agent {
            counter: Arc::clone(&counter),
            holder: format!("agent-{number}"),
            resource: resource.clone(),
            client: client(cure, url)?,
            times: args.times,
        };
        let all_ready = Arc::clone(&all_ready);
        agents.push(tokio::spawn(async move {
            all_ready.wait().await;
            agent.run().await
        }));
    }
    for agent in agents {
        agent.await.expect("an agent neither panics nor is aborted")?;
    }
    let expected = u64::from(args.agents) * u64::from(args.times);
    let actual = counter.read().map_err(|error| unusable(&error))?;
    Ok(Outcome {
        scenario: Scenario::Counter,
        cure,
        expected,
        actual,
        lost: expected.saturating_sub(actual),
        duplicated: actual.saturating_sub(expected),
        took: started.elapsed(),
    })
}

fn client(cure: Cure, url: &str) -> Result<Option<Client>, Failure> {
    match cure {
        Cure::None => Ok(None),
        Cure::Lease => {
            let client = Client::builder(url).transport(Transport::Session).build();
            client.map(Some).map_err(Failure::read)
        }
    }
}

fn unusable(error: &std::io::Error) -> Failure {
    Failure::Said {
        exit: Exit::Io,
        message: format!("the shared file can't be used: {error}"),
        next_step: "check the folder for temporary files".into(),
    }
}

/// One of those that race.
struct Agent {
    counter: Arc<Counter>,
    holder: String,
    resource: String,
    /// With it, each increment is made under a lease.
    client: Option<Client>,
    times: u32,
}

// === impl Agent ===

impl Agent {
    async fn run(self) -> Result<(), Failure> {
        for _ in 0..self.times {
            let lease = match &self.client {
                None => None,
                Some(client) => {
                    let wish = Acquire::new(&self.resource, &self.holder).with_session().wait(WAIT);
                    Some((client, client.acquire(wish).await.map_err(Failure::write)?))
                }
            };
            self.increment().await.map_err(|error| unusable(&error))?;
            if let Some((client, lease)) = lease {
                client.release(Release::of(&lease)).await.map_err(Failure::write)?;
            }
        }
        match &self.client {
            None => Ok(()),
            Some(client) => client.close().await.map_err(Failure::write),
        }
    }

    async fn increment(&self) -> std::io::Result<()> {
        let read = self.counter.read()?;
        tokio::time::sleep(THOUGHT).await;
        self.counter.write(read + 1)
    }
}

// === impl Counter ===

impl Counter {
    fn new() -> std::io::Result<Self> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
        let name = format!("singletrack-counter-{}", hex::encode(bits));
        let counter = Self(std::env::temp_dir().join(name));
        counter.write(0)?;
        Ok(counter)
    }

    fn name(&self) -> String {
        self.0.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A file of 8 bytes, read whole.
    fn read(&self) -> std::io::Result<u64> {
        let bytes = std::fs::read(&self.0)?;
        let bytes: [u8; 8] =
            bytes.try_into().map_err(|_| std::io::Error::other("expected a file of 8 bytes"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Written beside it and renamed, so that no reader meets half a number: what is lost here is
    /// lost by the race.
    fn write(&self, value: u64) -> std::io::Result<()> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).map_err(|error| std::io::Error::other(error.to_string()))?;
        let new = self.0.with_extension(hex::encode(bits));
        std::fs::write(&new, value.to_le_bytes())?;
        std::fs::rename(&new, &self.0)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            exit::warn(&format!("{} is left behind: {error}", self.0.display()));
        }
    }
}
