//! A semaphore: `cargo run -p singletrack --example semaphore [URL]`.
//!
//! Eight workers share three licences. Most need one, one of them needs two at once, and is not
//! passed by those that need less.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use singletrack::{Client, DEFAULT_URL, Error};

const LICENCES: &str = "examples/semaphore/licences";
/// How many there are. Everybody says the same number: the first one sets it.
pub(crate) const LIMIT: u32 = 3;
const WORKERS: u32 = 8;

/// How many licences are in use, and how many were at most.
#[derive(Debug, Default)]
struct Meter {
    used: AtomicU32,
    peak: AtomicU32,
}

/// Does a piece of work with `count` licences.
async fn work(url: &str, name: &str, count: u32, meter: &Meter) -> Result<u64, Error> {
    let client = Client::builder(url).holder(name).build()?;
    let licences = client
        .lease(LICENCES)
        .permits(count, LIMIT)
        .wait(Duration::from_secs(60))
        .acquire()
        .await?;
    let used = meter.used.fetch_add(count, Ordering::SeqCst) + count;
    meter.peak.fetch_max(used, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(30)).await;
    meter.used.fetch_sub(count, Ordering::SeqCst);
    let token = licences.token();
    // Dropping it would do; this waits until they are given back.
    licences.release().await?;
    Ok(token)
}

/// Runs the workers; how many licences were in use at most.
///
/// # Errors
/// What any call may meet.
pub(crate) async fn run(
    url: &str,
    out: &mut impl Write,
) -> Result<u32, Box<dyn std::error::Error>> {
    let meter = Arc::new(Meter::default());
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        let (url, meter) = (url.to_owned(), Arc::clone(&meter));
        let count = if number == 4 { 2 } else { 1 };
        workers.push(tokio::spawn(async move {
            let name = format!("worker-{number}");
            let token = work(&url, &name, count, &meter).await?;
            Ok::<_, Error>((name, count, token))
        }));
    }
    for worker in workers {
        let (name, count, token) = worker.await??;
        writeln!(out, "{name} had {count} of {LIMIT} with token {token}")?;
    }
    let peak = meter.peak.load(Ordering::SeqCst);
    writeln!(out, "never more than {peak} in use")?;
    Ok(peak)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    run(&url, &mut io::stdout()).await.map(drop)
}
