//! The counter is a file: with and without a lease around each turn.

use std::{path::PathBuf, sync::Arc};

use singletrack::{Acquire, Client, Release};
use tokio::sync::Barrier;

use super::{Played, THOUGHT, WAIT, client, finished, new_name};
use crate::{
    args::{Cure, RaceArgs},
    exit::{self, Exit, Failure},
};

/// The shared file. It goes with this.
struct Counter(PathBuf);

/// Plays it once.
pub(super) async fn play(args: &RaceArgs, cure: Cure, url: &str) -> Result<Played, Failure> {
    let counter = Arc::new(Counter::new().map_err(|error| unusable(&error))?);
    let resource = new_name()?;
    let all_ready = Arc::new(Barrier::new(args.agents as usize));
    let mut agents = Vec::new();
    for number in 0..args.agents {
        let agent = Agent {
            counter: Arc::clone(&counter),
            holder: format!("agent-{number}"),
            resource: resource.clone(),
            client: if cure == Cure::None { None } else { Some(client(url)?) },
            times: args.times,
        };
        let all_ready = Arc::clone(&all_ready);
        agents.push(tokio::spawn(async move {
            all_ready.wait().await;
            agent.run().await
        }));
    }
    let refused = finished(agents).await?;
    let counter = counter.read().map_err(|error| unusable(&error))?;
    Ok(Played { counter, refused })
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
    /// Nobody refuses it anything.
    async fn run(self) -> Result<u64, Failure> {
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
        if let Some(client) = &self.client {
            client.close().await.map_err(Failure::write)?;
        }
        Ok(0)
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
