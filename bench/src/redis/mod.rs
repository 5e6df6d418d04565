//! Lock cycles against Redis: `SET key value NX PX`, then compare-and-delete by a script.
//!
//! Owns the server. There are two clients of it:
//!
//! - `library`: the `redis` crate, one task a slot: what users have, of the same shape as ours
//! - `batching`: one made for this benchmark, of one task a connection: the least that a client can cost

mod batching;
mod library;

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Error,
    measure::{Load, Measured, Meter, Span},
    peer::{self, Peer},
};

/// Deletes the key if it still has the value of whoever asks.
const UNLOCK: &str = "if redis.call('get',KEYS[1])==ARGV[1] then \
                      return redis.call('del',KEYS[1]) else return 0 end";
const START_LIMIT: Duration = Duration::from_secs(20);

/// Which client carries the load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum With {
    Library,
    Batching,
}

pub(crate) async fn run(load: &Load, with: With) -> Result<Measured, Error> {
    let port = peer::free_port()?;
    let server = Peer::start("redis-server", &load.folder, |folder| {
        let options = [
            ("--port", port.to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--dir", folder.display().to_string()),
            ("--appendonly", "yes".to_owned()),
            ("--appendfsync", "always".to_owned()),
            ("--save", String::new()),
            // No rewrite of the log within the run, to its favour.
            ("--auto-aof-rewrite-percentage", "0".to_owned()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    })?;
    wait_until_ready(port).await?;
    let span = Span::start(load);
    let mut tasks = match with {
        With::Library => library::start(port, load, span).await?,
        With::Batching => batching::start(port, load, span).await?,
    };
    tokio::time::sleep_until(span.begin).await;
    let before = server.cpu();
    tokio::time::sleep_until(span.end).await;
    let used = server.cpu().zip(before).and_then(|(after, before)| after.checked_sub(before));
    let mut meters = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        meters.push(ended??);
    }
    server.end().await?;
    Ok(Meter::sum(meters, span, used))
}

async fn wait_until_ready(port: u16) -> Result<(), Error> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match library::ping(port).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The lock of a slot.
fn key(slot: usize) -> String {
    format!("bench/lock/{slot:020}")
}

/// Who holds it: another value for each cycle, as a client would make it.
fn value(slot: usize, cycle: u64) -> String {
    format!("{slot:08x}{cycle:024x}")
}
