//! Calls at a steady pace. Each is timed from the moment at which it was due, so that a call that is
//! held up by the one before it counts as late too.

use std::{sync::Arc, time::Duration};

use singletrack::{Acquire, Client, Error, Lease, Release};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Leases that are renewed, and slots that take and give back.
pub(super) const RENEWED: u32 = 1_000;
const CYCLING: u32 = 64;
const RENEW_EVERY: Duration = Duration::from_millis(500);
const CYCLE_EVERY: Duration = Duration::from_millis(50);
/// How long a renewed lease lasts.
const TTL: Duration = Duration::from_secs(3);

/// One call: when it was due, and how long after that it was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    due: Instant,
    late: Duration,
    refused: bool,
}

/// Calls of one kind, going on until they are told to end.
pub(super) struct Paced {
    slots: JoinSet<Vec<Sample>>,
    until: Arc<tokio::sync::watch::Sender<bool>>,
}

/// Samples of a span of time.
pub(super) struct Figures {
    pub(super) latencies: Vec<Duration>,
    pub(super) refused: usize,
}

// === impl Paced ===

impl Paced {
    /// Renews each of its leases every half second.
    pub(super) async fn renewals(client: &Client) -> Result<Self, Error> {
        let mut leases = Vec::new();
        for number in 0..RENEWED {
            let wish = Acquire::new(format!("renewed/{number}"), "beside").ttl(TTL);
            leases.push(client.acquire(wish).await?);
        }
        let mut paced = Self::new();
        for (lease, number) in leases.into_iter().zip(0..) {
            let client = client.clone();
            let first = RENEW_EVERY * number / RENEWED;
            paced.slot(first, RENEW_EVERY, move || renew(client.clone(), lease.clone()));
        }
        Ok(paced)
    }

    /// Takes and gives back leases of its own, a name for each cycle.
    pub(super) fn cycles(client: &Client) -> Self {
        let mut paced = Self::new();
        for number in 0..CYCLING {
            let (client, mut round) = (client.clone(), 0_u64);
            let first = CYCLE_EVERY * number / CYCLING;
            paced.slot(first, CYCLE_EVERY, move || {
                round += 1;
                cycle(client.clone(), format!("cycle/{number}/{round}"))
            });
        }
        paced
    }

    fn new() -> Self {
        let (until, _) = tokio::sync::watch::channel(false);
        Self { slots: JoinSet::new(), until: Arc::new(until) }
    }

    fn slot<F>(
        &mut self,
        first: Duration,
        every: Duration,
        mut call: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let ended = self.until.subscribe();
        let mut due = Instant::now() + first;
        self.slots.spawn(async move {
            let mut samples = Vec::new();
            while !*ended.borrow() {
                sleep_until(due).await;
                let refused = call().await.is_err();
                samples.push(Sample { due, late: due.elapsed(), refused });
                due += every;
            }
            samples
        });
    }

    /// Ends, and tells all that was seen.
    pub(super) async fn end(mut self) -> Result<Vec<Sample>, crate::Error> {
        self.until.send_replace(true);
        let mut samples = Vec::new();
        while let Some(ended) = self.slots.join_next().await {
            samples.extend(ended?);
        }
        Ok(samples)
    }
}

async fn renew(client: Client, lease: Lease) -> Result<(), Error> {
    client.renew_one(lease.lease_id.clone(), lease.token).await.map(drop)
}

async fn cycle(client: Client, name: String) -> Result<(), Error> {
    let lease = client.acquire(Acquire::new(name, "beside").with_session()).await?;
    client.release(Release::of(&lease)).await.map(drop)
}

// === impl Figures ===

impl Figures {
    /// Of the calls that were due in this span.
    pub(super) fn of(samples: &[Sample], from: Instant, until: Instant) -> Self {
        let within = samples.iter().filter(|sample| sample.due >= from && sample.due < until);
        let (mut latencies, mut refused) = (Vec::new(), 0);
        for sample in within {
            latencies.push(sample.late);
            refused += usize::from(sample.refused);
        }
        latencies.sort_unstable();
        Self { latencies, refused }
    }
}
