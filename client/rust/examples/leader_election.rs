//! Leader election: `cargo run -p singletrack --example leader_election [URL]`.
//!
//! Three nodes want to lead. One does; the others wait in a queue and cost nothing. The first
//! resigns, the second is deposed by an operator and stops, the third leads to the end.

use std::{
    io::{self, Write},
    time::Duration,
};

use singletrack::{Client, DEFAULT_URL, Error, ForceRelease, HoldState, LeaseHandle};

const LEADER: &str = "examples/election/leader";
const PATIENCE: Duration = Duration::from_secs(60);

/// A term that was led: by whom, and with which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The node.
    pub(crate) node: String,
    /// Its fencing token: greater than that of every term before.
    pub(crate) token: u64,
    /// Steps of work that it did.
    pub(crate) steps: u32,
}

/// Takes part in elections until this node has led for a term.
async fn lead_once(url: &str, node: &str, term: u32) -> Result<Term, Error> {
    let client = Client::builder(url).holder(node).build()?;
    let lease = client
        .lease(LEADER)
        .label("role", "leader")
        // A leader that is lost without a word has so long to notice before the next one begins.
        .lock_delay(Duration::from_millis(200))
        .wait(PATIENCE)
        .acquire()
        .await?;
    let steps = work_as_leader(&lease, term).await;
    let led = Term { node: node.to_owned(), token: lease.token(), steps };
    // A leader that was deposed has nothing to give back.
    if lease.state() != HoldState::Lost {
        lease.release().await?;
    }
    Ok(led)
}

/// Works until the term is over, or until this node leads no longer.
async fn work_as_leader(lease: &LeaseHandle, term: u32) -> u32 {
    let mut steps = 0;
    while steps < term {
        // Whatever a step writes carries `lease.token()`, so that a stale leader is refused there.
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => steps += 1,
            _ = lease.not_held() => break,
        }
    }
    steps
}

/// Who leads, as anybody can see it.
async fn leader(client: &Client) -> Result<Option<(String, u64)>, Error> {
    let holders = client.get(LEADER).await?;
    Ok(holders.leases.first().map(|lease| (lease.holder.clone(), lease.token)))
}

/// Runs three nodes to the end of their terms.
///
/// # Errors
/// What any call may meet.
pub(crate) async fn run(
    url: &str,
    out: &mut impl Write,
) -> Result<Vec<Term>, Box<dyn std::error::Error>> {
    const FOR_EVER: u32 = u32::MAX;
    let watcher = Client::connect(url)?;
    let mut terms = Vec::new();
    // The second would lead for ever.
    for (node, term) in [("node-1", 3), ("node-2", FOR_EVER), ("node-3", 5)] {
        let url = url.to_owned();
        terms.push(tokio::spawn(async move { lead_once(&url, node, term).await }));
        // They come one after the other, so that the queue has this order.
        while watcher.get(LEADER).await?.waiter_count + 1 < u32::try_from(terms.len())? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while terms.len() == 1 && leader(&watcher).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut deposed = false;
    let mut led = Vec::new();
    for term in terms {
        while !term.is_finished() {
            let now = leader(&watcher).await?;
            if let Some((node, token)) = now.filter(|(node, _)| node == "node-2" && !deposed) {
                tokio::time::sleep(Duration::from_millis(70)).await;
                writeln!(out, "{node} leads with token {token}, and is deposed")?;
                watcher.force_release(ForceRelease::new(LEADER, token)).await?;
                deposed = true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let term = term.await??;
        writeln!(out, "{} led with token {}, {} steps", term.node, term.token, term.steps)?;
        led.push(term);
    }
    Ok(led)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    run(&url, &mut io::stdout()).await.map(drop)
}
