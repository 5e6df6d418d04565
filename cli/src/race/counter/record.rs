//! The counter is a record of the server: writes that say which version they saw, that carry the token
//! of a lease, or that leave the adding to the server. And what a lease alone can't prevent: that
//! somebody who was paused writes when it is another's turn.

use std::{sync::Arc, time::Duration};

use singletrack::{Acquire, Client, Error, Lease, Reason, Release};
use tokio::{sync::Barrier, time::sleep};

use super::{Played, THOUGHT, WAIT, client, finished, new_name};
use crate::{
    args::{Cure, RaceArgs},
    exit::Failure,
};

/// How long the lease of the one lasts that is paused: nobody renews it.
const PAUSED_TTL: Duration = Duration::from_secs(1);
/// How often the one that is paused looks whether it was overtaken.
const LOOK: Duration = Duration::from_millis(20);

/// One of those that race.
struct Agent {
    client: Client,
    cure: Cure,
    holder: String,
    /// Of the record, and of the lease.
    name: String,
    times: u32,
    /// It is paused in its first turn.
    is_paused: bool,
    all_ready: Arc<Barrier>,
}

/// What an agent has read.
#[derive(Clone, Copy)]
struct Seen {
    count: i64,
    /// `None`: there was no record.
    version: Option<u64>,
}

/// Plays it once.
pub(super) async fn play(args: &RaceArgs, cure: Cure, url: &str) -> Result<Played, Failure> {
    let name = new_name()?;
    let all_ready = Arc::new(Barrier::new(args.agents as usize));
    let mut agents = Vec::new();
    for number in 0..args.agents {
        let agent = Agent {
            client: client(url)?,
            cure,
            holder: format!("agent-{number}"),
            name: name.clone(),
            times: args.times,
            is_paused: number == 0 && matches!(cure, Cure::PausedLease | Cure::Fence),
            all_ready: Arc::clone(&all_ready),
        };
        agents.push(tokio::spawn(agent.run()));
    }
    let refused = finished(agents).await?;
    let client = client(url)?;
    let record = client.record(name);
    let count = record.get().await.map_err(Failure::read)?.and_then(|it| it.counter());
    record.delete().await.map_err(Failure::write)?;
    client.close().await.map_err(Failure::write)?;
    Ok(Played { counter: u64::try_from(count.unwrap_or_default()).unwrap_or_default(), refused })
}

// === impl Agent ===

impl Agent {
    /// Does it so many times; how often the server refused a stale write.
    async fn run(self) -> Result<u64, Failure> {
        let (mut refused, mut times) = (0, self.times);
        if self.is_paused {
            refused += self.paused_turn().await.map_err(Failure::write)?;
            times -= 1;
        } else {
            self.all_ready.wait().await;
        }
        for _ in 0..times {
            refused += match self.cure {
                Cure::Version => self.turn_by_version().await.map_err(Failure::write)?,
                Cure::Increment => {
                    let counter = self.client.record(&self.name).increment(1);
                    counter.await.map_err(Failure::write)?;
                    0
                }
                Cure::None | Cure::Lease | Cure::PausedLease | Cure::Fence => {
                    self.turn().await.map_err(Failure::write)?
                }
            };
        }
        self.client.close().await.map_err(Failure::write)?;
        Ok(refused)
    }

    async fn read(&self) -> Result<Seen, Error> {
        let record = self.client.record(&self.name).get().await?;
        let count = record.as_ref().and_then(|it| it.counter()).unwrap_or_default();
        Ok(Seen { count, version: record.map(|it| it.version) })
    }

    // === by version ===

    async fn turn_by_version(&self) -> Result<u64, Error> {
        let record = self.client.record(&self.name);
        let (mut seen, mut refused) = (self.read().await?, 0);
        loop {
            sleep(THOUGHT).await;
            let put = record.put(seen.count + 1);
            let put = match seen.version {
                Some(version) => put.expect_version(version),
                None => put.expect_absent(),
            };
            let error = match put.await {
                Ok(_) => return Ok(refused),
                Err(error) => error,
            };
            let Some(found) = error.version_mismatch() else { return Err(error) };
            refused += 1;
            // A counter is always told.
            let count = found.value.as_ref().and_then(|it| it.counter()).unwrap_or_default();
            seen = Seen { count, version: found.current_version };
        }
    }

    // === under a lease ===

    async fn acquire(&self) -> Result<Lease, Error> {
        let wish = Acquire::new(&self.name, &self.holder).with_session().wait(WAIT);
        self.client.acquire(wish).await
    }

    /// A turn under a lease; one that was lost meanwhile is begun anew.
    async fn turn(&self) -> Result<u64, Error> {
        let mut refused = 0;
        loop {
            let lease = self.acquire().await?;
            let seen = self.read().await?;
            sleep(THOUGHT).await;
            if self.write(&lease, seen).await? {
                self.client.release(Release::of(&lease)).await?;
                return Ok(refused);
            }
            refused += 1;
        }
    }

    /// Takes the lease before all others, reads, and stops: no renewal, nothing. When it goes on, the
    /// lease has long been another's, but it doesn't know, and writes what it had in mind.
    async fn paused_turn(&self) -> Result<u64, Error> {
        let wish = Acquire::new(&self.name, &self.holder).ttl(PAUSED_TTL);
        let lease = self.client.acquire(wish).await?;
        let seen = self.read().await?;
        self.all_ready.wait().await;
        // Not for ever: it may be the only one that has anything to do.
        if let Ok(overtaken) = tokio::time::timeout(WAIT, self.overtaken(seen)).await {
            overtaken?;
        }
        if self.write(&lease, seen).await? {
            return Ok(0);
        }
        Ok(1 + self.turn().await?)
    }

    /// Resolves when another has written.
    async fn overtaken(&self, seen: Seen) -> Result<(), Error> {
        while self.read().await?.version == seen.version {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// False: the server has refused it, as the lease is lost.
    async fn write(&self, lease: &Lease, seen: Seen) -> Result<bool, Error> {
        let put = self.client.record(&self.name).put(seen.count + 1);
        let put = if self.cure == Cure::Fence { put.fence(lease) } else { put };
        match put.await {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == Some(Reason::StaleFence) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
