//! A hundred thousand leases end at once: as their time is up in the same tick, or as their session
//! is closed; or one ends that ten thousand waited for. Beside them others renew, take and give back,
//! and must not feel it.

use std::{path::Path, time::Duration};

use singletrack::{Acquire, Client};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    CONNECTIONS, LATE_MAX, Row, clients, in_time,
    paced::{Figures, Paced, RENEWED, Sample},
    percentile,
    server::Server,
};
use crate::{Error, ours::Singletrack};

/// Leases of a crowd that are taken at the same time, of one connection.
const AT_ONCE: usize = 64;
/// How long a crowd may take to take its leases; then a quiet time; then they are due.
const GATHERING: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_secs(4);
/// Longer than a scene lasts.
const LONG: Duration = Duration::from_secs(600);
/// How long those beside are watched from then on.
const WATCHED: Duration = Duration::from_secs(4);

/// How long the leases of a crowd last.
#[derive(Clone, Copy)]
enum Lasting {
    Until(Instant),
    WithSession,
}

/// Leases whose time is up at the same moment.
pub(super) async fn leases_due(
    ours: &Singletrack,
    folder: &Path,
    leases: usize,
    round: usize,
) -> Result<Vec<Row>, Error> {
    let server = Server::start(ours, folder).await?;
    let crowd = clients(server.url(), "crowd", CONNECTIONS).await?;
    let due = Instant::now() + GATHERING + QUIET;
    gather(&crowd, leases, Lasting::Until(due)).await?;
    if Instant::now() > due - QUIET {
        return Err("the crowd took too long to take its leases".into());
    }
    let beside = Beside::start(&server).await?;
    sleep_until(due + WATCHED).await;
    let mut rows = beside.end("leases due", due - QUIET / 2, due, leases, round).await?;
    // What was promised of leases that run out is that nobody's renewal is late.
    rows.iter_mut().filter(|row| !row.what.starts_with("renewals")).for_each(Row::unjudged);
    only_the_renewed_are_left(&server).await?;
    server.end().await?;
    Ok(rows)
}

/// Leases whose session is closed.
pub(super) async fn session_closed(
    ours: &Singletrack,
    folder: &Path,
    leases: usize,
    round: usize,
) -> Result<Vec<Row>, Error> {
    let server = Server::start(ours, folder).await?;
    let crowd = clients(server.url(), "crowd", 1).await?;
    gather(&crowd, leases, Lasting::WithSession).await?;
    let beside = Beside::start(&server).await?;
    let due = Instant::now() + QUIET;
    sleep_until(due).await;
    for client in &crowd {
        client.close().await?;
    }
    sleep_until(due + WATCHED).await;
    let rows = beside.end("session closed", due - QUIET / 2, due, leases, round).await?;
    only_the_renewed_are_left(&server).await?;
    server.end().await?;
    Ok(rows)
}

/// A subtree that a crowd waits below is given back: all of the crowd have their leases at once.
pub(super) async fn subtree_released(
    ours: &Singletrack,
    folder: &Path,
    waiters: usize,
    round: usize,
) -> Result<Vec<Row>, Error> {
    let server = Server::start(ours, folder).await?;
    let watcher = server.client()?;
    let root = watcher.lease("crowd").subtree().acquire().await?;
    let crowd = clients(server.url(), "crowd", CONNECTIONS).await?;
    let mut below = JoinSet::new();
    for (number, client) in (0..waiters).zip(crowd.iter().cycle()) {
        let client = client.clone();
        below.spawn(async move {
            let lease = client.lease(format!("crowd/{number}")).wait(LONG).acquire().await?;
            Ok::<_, singletrack::Error>((Instant::now(), lease))
        });
    }
    in_time("the whole crowd in the queue", async {
        while usize::try_from(watcher.stats().await?.waiters).unwrap_or_default() != waiters {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
    .await?;
    let beside = Beside::start(&server).await?;
    let due = Instant::now() + QUIET;
    sleep_until(due).await;
    root.release().await?;
    let mut waited = Vec::with_capacity(waiters);
    let mut held = Vec::with_capacity(waiters);
    in_time("a lease for everybody of the crowd", async {
        while let Some(granted) = below.join_next().await {
            let (at, lease) = granted??;
            waited.push(at.duration_since(due));
            held.push(lease);
        }
        Ok(())
    })
    .await?;
    sleep_until(due + WATCHED).await;
    let scene = "subtree released";
    let mut rows = beside.end(scene, due - QUIET / 2, due, waiters, round).await?;
    waited.sort_unstable();
    rows.push(Row {
        scene,
        what: format!("{waiters} waiters below have their leases"),
        round,
        latencies: waited,
        refused: 0,
        bar: String::new(),
        met: true,
    });
    for lease in held {
        lease.release().await?;
    }
    only_the_renewed_are_left(&server).await?;
    server.end().await?;
    Ok(rows)
}

async fn gather(crowd: &[Client], leases: usize, lasting: Lasting) -> Result<(), Error> {
    let mut takers = JoinSet::new();
    let slots = crowd.len() * AT_ONCE;
    for (slot, client) in (0..slots).zip(crowd.iter().cycle()) {
        let client = client.clone();
        takers.spawn(async move {
            for number in (slot..leases).step_by(slots) {
                let wish = Acquire::new(format!("crowd/{number}"), "crowd");
                let wish = match lasting {
                    Lasting::Until(due) => wish.ttl(due - Instant::now()),
                    Lasting::WithSession => wish.with_session(),
                };
                client.acquire(wish).await?;
            }
            Ok::<_, singletrack::Error>(())
        });
    }
    while let Some(taken) = takers.join_next().await {
        taken??;
    }
    Ok(())
}

async fn only_the_renewed_are_left(server: &Server) -> Result<(), Error> {
    let watcher = server.client()?;
    in_time("all leases of the crowd gone, and no other", async {
        loop {
            match watcher.list_all().await?.len() {
                left if left == RENEWED as usize => return Ok(()),
                left if left < RENEWED as usize => {
                    return Err(format!("{left} of {RENEWED} renewed leases are left").into());
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await
}

/// Who is beside the crowd.
struct Beside {
    renewals: Paced,
    cycles: Paced,
}

// === impl Beside ===

impl Beside {
    async fn start(server: &Server) -> Result<Self, Error> {
        let clients = clients(server.url(), "beside", 2).await?;
        let [renewing, cycling] = clients.as_slice() else {
            return Err("expected two clients".into());
        };
        Ok(Self { renewals: Paced::renewals(renewing).await?, cycles: Paced::cycles(cycling) })
    }

    /// What they felt from `quiet` until the leases were `due`, and from then on.
    async fn end(
        self,
        scene: &'static str,
        quiet: Instant,
        due: Instant,
        leases: usize,
        round: usize,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let samples = [
            ("renewals", self.renewals.end().await?),
            ("acquire and release", self.cycles.end().await?),
        ];
        for (what, samples) in &samples {
            rows.push(row(scene, format!("{what}, before"), round, samples, quiet, due, None));
            let during = format!("{what}, while {leases} leases end");
            let until = due + WATCHED;
            rows.push(row(scene, during, round, samples, due, until, Some(LATE_MAX)));
        }
        Ok(rows)
    }
}

fn row(
    scene: &'static str,
    what: String,
    round: usize,
    samples: &[Sample],
    from: Instant,
    until: Instant,
    late_max: Option<Duration>,
) -> Row {
    let Figures { latencies, refused } = Figures::of(samples, from, until);
    let met = late_max.is_none_or(|most| refused == 0 && percentile(&latencies, 1_000) <= most);
    let bar = late_max.map(|most| format!("none later than {} ms, none lost", most.as_millis()));
    Row { scene, what, round, latencies, refused, bar: bar.unwrap_or_default(), met }
}
