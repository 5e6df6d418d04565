//! Hand-overs of one lease: from the moment at which its holder gives it back until the next waiter
//! has it. Whoever had it queues up again, so that there are always as many waiters.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use singletrack::{Client, Error as CallError};
use tokio::{sync::Notify, task::JoinSet, time::Instant};

use super::{CONNECTIONS, clients, in_time, server::Server};
use crate::{Error, ours::Singletrack};

const NAME: &str = "crowd/one";
const COUNTED: usize = 5_000;
const WARM_UP: usize = 500;
/// Longer than a scene lasts.
const WAIT: Duration = Duration::from_secs(600);

/// What all waiters share.
#[derive(Default)]
struct Relay {
    /// When the lease was last given back.
    given_back: Mutex<Option<Instant>>,
    latencies: Mutex<Vec<Duration>>,
    done: Notify,
}

/// Latencies of hand-overs with so many waiters, sorted.
pub(super) async fn play(
    ours: &Singletrack,
    folder: &Path,
    waiters: usize,
) -> Result<Vec<Duration>, Error> {
    let server = Server::start(ours, folder).await?;
    let watcher = server.client()?;
    let clients = clients(server.url(), "waiter", CONNECTIONS).await?;
    let first = watcher.lease(NAME).acquire().await?;
    let relay = Arc::new(Relay::default());
    let mut runners = JoinSet::new();
    for (_, client) in (0..waiters).zip(clients.iter().cycle()) {
        runners.spawn(run(client.clone(), Arc::clone(&relay)));
    }
    in_time("all waiters in the queue", async {
        while watcher.get(NAME).await?.waiter_count as usize != waiters {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await?;
    relay.gives_back();
    first.release().await?;
    let ended = in_time("all hand-overs", async {
        tokio::select! {
            () = relay.done.notified() => Ok(()),
            Some(failed) = runners.join_next() => Err(match failed {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => "a waiter ended".into(),
                Err(error) => error.into(),
            }),
        }
    });
    ended.await?;
    runners.abort_all();
    server.end().await?;
    let mut latencies = relay.latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counted = latencies.split_off(WARM_UP);
    counted.truncate(COUNTED);
    counted.sort_unstable();
    Ok(counted)
}

async fn run(client: Client, relay: Arc<Relay>) -> Result<(), CallError> {
    loop {
        let lease = client.lease(NAME).wait(WAIT).acquire().await?;
        relay.took();
        relay.gives_back();
        lease.release().await?;
    }
}

// === impl Relay ===

impl Relay {
    fn gives_back(&self) {
        *self.given_back.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn took(&self) {
        let now = Instant::now();
        let before = self.given_back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(before) = before else { return };
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.push(now.duration_since(before));
        if latencies.len() == WARM_UP + COUNTED {
            self.done.notify_one();
        }
    }
}
