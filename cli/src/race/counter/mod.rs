//! The lost update: agents read a counter, think, and write back what they read plus one.
//!
//! - `file`: the counter is a file that nothing protects
//! - `record`: the counter is a record of the server
//!
//! Between reading and writing each agent thinks for a moment, as an agent does; that is all the help
//! the race gets. Where one is paused, it stops for longer than its lease lasts.

mod file;
mod record;

use std::time::Duration;

use singletrack::{Client, Transport};
use tokio::{task::JoinHandle, time::Instant};

use super::Outcome;
use crate::{
    args::{Cure, RaceArgs, Scenario},
    exit::Failure,
};

/// How long an agent thinks between reading and writing.
const THOUGHT: Duration = Duration::from_millis(1);
/// How long an agent waits for its turn; far longer than all others together need.
const WAIT: Duration = Duration::from_secs(50);

/// What came of all agents together.
struct Played {
    counter: u64,
    /// Stale writes that the server refused.
    refused: u64,
}

/// Plays it once.
pub(super) async fn play(args: &RaceArgs, cure: Cure, url: &str) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let played = match cure {
        Cure::None | Cure::Lease => file::play(args, cure, url).await?,
        Cure::PausedLease | Cure::Fence | Cure::Version | Cure::Increment => {
            record::play(args, cure, url).await?
        }
    };
    let expected = u64::from(args.agents) * u64::from(args.times);
    let actual = played.counter;
    Ok(Outcome {
        scenario: Scenario::Counter,
        cure,
        expected,
        actual,
        lost: expected.saturating_sub(actual),
        duplicated: actual.saturating_sub(expected),
        refused: played.refused,
        took: started.elapsed(),
    })
}

/// Waits for all agents, and adds up the stale writes that were refused them.
async fn finished(agents: Vec<JoinHandle<Result<u64, Failure>>>) -> Result<u64, Failure> {
    let mut refused = 0;
    for agent in agents {
        refused += agent.await.expect("an agent neither panics nor is aborted")?;
    }
    Ok(refused)
}

fn client(url: &str) -> Result<Client, Failure> {
    Client::builder(url).transport(Transport::Session).build().map_err(Failure::read)
}

/// A name of this run alone: another race on the same server is another race.
fn new_name() -> Result<String, Failure> {
    singletrack::new_request_id().map(|id| format!("race/counter/{id}")).map_err(Failure::read)
}
