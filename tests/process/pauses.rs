//! Time that passes for one side only: a server that is stopped, a client that is killed.

use std::{io::Write as _, process::Stdio, time::Duration};

use singletrack::{Acquire, Client, Lease, Reason};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use crate::{command, server::Server};

const TTL: Duration = Duration::from_millis(1_500);
const HOLDERS: usize = 8;
/// Tells a process of this test binary that it is the holder to be killed.
const HOLDER_OF: &str = "SINGLETRACK_TEST_HOLDER_OF";

#[tokio::test]
async fn a_holder_that_goes_on_renewing_outlives_pauses_of_the_server() {
    let server = Server::start().await;
    let (stop, stopped) = watch::channel(false);
    let mut holders = JoinSet::new();
    for index in 0..HOLDERS {
        let (client, stopped) = (server.client(), stopped.clone());
        let wish = Acquire::new(format!("paused/{index}"), "holder").ttl(TTL);
        let lease = client.acquire(wish).await.unwrap();
        holders.spawn(renew_until(client, lease, stopped));
    }
    // Whoever waits must not get it while the holder goes on.
    let rival = server.client();
    let wish = Acquire::new("paused/0", "rival").wait(Duration::from_secs(40));
    let mut rival = tokio::spawn(async move { rival.acquire(wish).await });

    for tenths in [5, 10, 15, 20, 30] {
        let pause = TTL * tenths / 10;
        server.pause();
        tokio::time::sleep(pause).await;
        server.go_on();
        // Long enough to expire, had the pause been held against the holders.
        tokio::time::sleep(TTL).await;
        if let Some(ended) = holders.try_join_next() {
            panic!("a lease was lost in a pause of {pause:?}: {ended:?}\n{}", server.log());
        }
        assert!(!rival.is_finished(), "the rival got a lease that was renewed");
    }
    stop.send_replace(true);
    let mut tokens = Vec::new();
    while let Some(renewed) = holders.join_next().await {
        let (lease, renewals) = renewed.unwrap().unwrap();
        assert!(renewals >= 5, "{renewals} renewals only");
        tokens.push((lease.resource().to_owned(), lease.token));
    }
    // Nobody renews any more, so the rival's turn comes.
    let granted = tokio::time::timeout(TTL + Duration::from_secs(1), &mut rival).await;
    let granted = granted.expect("a waiter gets an expired lease in time").unwrap().unwrap();
    let (_, old) = tokens.iter().find(|(resource, _)| *resource == "paused/0").unwrap();
    assert!(granted.token > *old);
}

/// Renews at a third of the ttl, as a holder should, and tells how often it did.
async fn renew_until(
    client: Client,
    lease: Lease,
    mut stopped: watch::Receiver<bool>,
) -> Result<(Lease, u32), String> {
    let mut renewals = 0;
    while !*stopped.borrow() {
        let renewed = client.renew_one(&lease.lease_id, lease.token).await;
        renewed.map_err(|error| format!("{}: {error}", lease.resource()))?;
        renewals += 1;
        let _ = tokio::time::timeout(TTL / 3, stopped.changed()).await;
    }
    Ok((lease, renewals))
}

#[tokio::test]
async fn the_next_waiter_follows_a_killed_client_within_its_ttl_and_a_second() {
    let server = Server::start().await;
    let url = server.url();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pauses::holds_and_renews_until_it_is_killed"])
        .args(["--nocapture", "--quiet"])
        .env(HOLDER_OF, &url)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (lease_id, token) = printed_lease(&mut holder).await;

    let waiter = tokio::spawn(async move {
        let args = ["lease", "acquire", "handed/over", "--wait", "30s", "-o", "json"];
        let finished = command::client(&url, &args).await;
        (finished, Instant::now())
    });
    until_someone_waits(&server.client(), "handed/over").await;
    // It renews, so it would go on for ever.
    tokio::time::sleep(TTL * 2).await;
    assert!(!waiter.is_finished(), "the waiter got a lease that was renewed");

    let killed = Instant::now();
    holder.kill().await.unwrap();
    let (finished, granted) = waiter.await.unwrap();
    let grant = finished.ended_with(0).json();
    let took = granted - killed;
    assert!(took <= TTL + Duration::from_secs(1), "the hand-over took {took:?}");
    let next: u64 = grant["token"].as_str().unwrap().parse().unwrap();
    assert!(next > token, "expected a token above {token}, found {next}");

    let url = server.url();
    let token = token.to_string();
    let lost = command::client(&url, &["lease", "renew", &lease_id, &token]).await.ended_with(1);
    assert!(lost.stderr.contains("LEASE_LOST"), "{}", lost.stderr);
    let lost = command::client(&url, &["lease", "release", &lease_id, &token]).await.ended_with(1);
    assert!(lost.stderr.contains("LEASE_LOST"), "{}", lost.stderr);
    let stale = command::client(&url, &["lease", "check", "handed/over", &token]).await;
    assert!(stale.ended_with(1).stdout.contains("stale"));
}

/// What the holder prints of its lease, once it has it.
async fn printed_lease(holder: &mut tokio::process::Child) -> (String, u64) {
    let mut lines = BufReader::new(holder.stderr.take().unwrap()).lines();
    let lease = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((lease_id, token)) =
                line.strip_prefix("lease ").and_then(|rest| rest.split_once(' '))
            {
                return (lease_id.to_owned(), token.parse().unwrap());
            }
        }
        panic!("the holder ended without a lease");
    };
    tokio::time::timeout(Duration::from_secs(30), lease).await.unwrap()
}

async fn until_someone_waits(client: &Client, resource: &str) {
    let waiting = async {
        while client.get(resource).await.unwrap().waiter_count == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

/// Not a test of its own: the process that
/// `the_next_waiter_follows_a_killed_client_within_its_ttl_and_a_second` kills.
#[tokio::test]
async fn holds_and_renews_until_it_is_killed() {
    let Ok(url) = std::env::var(HOLDER_OF) else {
        return;
    };
    let client = Client::connect(url).unwrap();
    let lease = client.acquire(Acquire::new("handed/over", "doomed").ttl(TTL)).await.unwrap();
    writeln!(std::io::stderr(), "lease {} {}", lease.lease_id, lease.token).unwrap();
    loop {
        match client.renew_one(&lease.lease_id, lease.token).await {
            Err(error) if error.reason() == Some(Reason::LeaseLost) => return,
            Ok(_) | Err(_) => tokio::time::sleep(TTL / 3).await,
        }
    }
}
