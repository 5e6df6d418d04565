//! A barrier: `cargo run -p singletrack --example barrier [URL]`.
//!
//! A round has a slot for each participant, a lease below its name. Who arrives gives its slot back
//! and waits for the whole round, shared: all go on together when the last slot is free. A participant
//! that is lost has not arrived: the lock delay keeps its slot closed.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use singletrack::{Client, DEFAULT_URL, Error, Transferred};

const ROUND: &str = "examples/barrier/round-1";
const PARTICIPANTS: usize = 5;

/// Takes the slots before anybody may arrive, and gives each to its participant.
async fn open_round(client: &Client) -> Result<Vec<(String, Transferred)>, Error> {
    let mut slots = Vec::new();
    for number in 1..=PARTICIPANTS {
        let name = format!("participant-{number}");
        let slot = client
            .lease(format!("{ROUND}/{name}"))
            .ttl(Duration::from_secs(10))
            .lock_delay(Duration::from_secs(3_600))
            .acquire()
            .await?;
        let given = slot.transfer(name.as_str()).await?;
        slots.push((name, given));
    }
    Ok(slots)
}

/// Arrives, and comes back when all have. How many had arrived when it went on.
async fn arrive(
    url: &str,
    name: &str,
    slot: Transferred,
    arrived: &AtomicUsize,
) -> Result<usize, Error> {
    let client = Client::builder(url).holder(name).build()?;
    let slot = client.adopt(slot.lease_id, slot.token).await?;
    // Its part of the work, while the slot is kept.
    let pause = slot.token() % 5 * 10;
    tokio::time::sleep(Duration::from_millis(pause)).await;
    arrived.fetch_add(1, Ordering::SeqCst);
    slot.release().await?;
    let pass =
        client.lease(ROUND).subtree().shared().wait(Duration::from_secs(60)).acquire().await?;
    let seen = arrived.load(Ordering::SeqCst);
    pass.release().await?;
    Ok(seen)
}

/// Runs a round; for each participant how many had arrived when it went on.
///
/// # Errors
/// What any call may meet.
pub(crate) async fn run(
    url: &str,
    out: &mut impl Write,
) -> Result<Vec<usize>, Box<dyn std::error::Error>> {
    let coordinator = Client::builder(url).holder("coordinator").build()?;
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut participants = Vec::new();
    for (name, slot) in open_round(&coordinator).await? {
        let (url, arrived) = (url.to_owned(), Arc::clone(&arrived));
        participants.push(tokio::spawn(async move {
            let seen = arrive(&url, &name, slot, &arrived).await?;
            Ok::<_, Error>((name, seen))
        }));
    }
    let mut all = Vec::new();
    for participant in participants {
        let (name, seen) = participant.await??;
        writeln!(out, "{name} went on when {seen} of {PARTICIPANTS} had arrived")?;
        all.push(seen);
    }
    Ok(all)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    run(&url, &mut io::stdout()).await.map(drop)
}
