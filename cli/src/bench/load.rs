//! The cycles of a benchmark: one task a slot, each with names of its own.

use std::time::Duration;

use singletrack::{Acquire, Client, Error, Lease, Release};
use tokio::{task::JoinHandle, time::Instant};

use super::history::Writer;
use crate::args::Workload;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 100;
/// How long a lease of a benchmark lasts that has its own ttl.
const TTL: Duration = Duration::from_secs(60);

/// What to do.
pub(super) struct Load {
    pub(super) workload: Workload,
    /// Leases live with their session.
    pub(super) with_session: bool,
    pub(super) inflight: u32,
    pub(super) history: Option<Writer>,
}

/// It is being done.
pub(super) struct Running {
    slots: Vec<JoinHandle<Result<Vec<u32>, Error>>>,
}

/// One of those that go round and round.
struct Slot {
    number: u32,
    client: Client,
    workload: Workload,
    with_session: bool,
    history: Option<Writer>,
    rounds: u64,
}

// === impl Load ===

impl Load {
    /// Starts to go round; what begins between `from` and `until` counts.
    pub(super) fn start(&self, clients: &[Client], from: Instant, until: Instant) -> Running {
        let clients = clients.iter().cycle();
        let slots = (0..self.inflight).zip(clients).map(|(number, client)| {
            let slot = Slot {
                number,
                client: client.clone(),
                workload: self.workload,
                with_session: self.with_session,
                history: self.history.clone(),
                rounds: 0,
            };
            tokio::spawn(slot.run(from, until))
        });
        Running { slots: slots.collect() }
    }
}

// === impl Running ===

impl Running {
    /// Latencies of all cycles, microseconds; or the first error.
    pub(super) async fn finish(self) -> Result<Vec<u32>, Error> {
        let mut latencies = Vec::new();
        let mut failed = None;
        for slot in self.slots {
            match slot.await.expect("a slot neither panics nor is aborted") {
                Ok(more) => latencies.extend(more),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(latencies), Err)
    }
}

// === impl Slot ===

impl Slot {
    async fn run(mut self, from: Instant, until: Instant) -> Result<Vec<u32>, Error> {
        let mut latencies = Vec::new();
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok(latencies);
            }
            match self.workload {
                Workload::Ping => self.ping().await?,
                Workload::Lock => self.lock().await?,
            }
            if began >= from {
                let took = began.elapsed().as_micros();
                latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let call = self.invoke("ping", None);
        let result = self.client.ping_with(vec![7; PAYLOAD_BYTES]).await;
        self.returned(call, "ping", None, None, result.as_ref().err());
        result.map(drop)
    }

    async fn lock(&mut self) -> Result<(), Error> {
        // A new name each time, as of jobs and files: 32 bytes.
        self.rounds += 1;
        let resource = format!("bench/slot-{:05}/job-{:011}", self.number, self.rounds);
        let call = self.invoke("acquire", Some(&resource));
        let mut wish = Acquire::new(resource.as_str(), format!("slot-{}", self.number)).ttl(TTL);
        if self.with_session {
            wish = wish.with_session();
        }
        let lease = self.client.acquire(wish).await;
        let token = lease.as_ref().ok().map(|lease| lease.token);
        self.returned(call, "acquire", Some(&resource), token, lease.as_ref().err());
        self.release(&lease?).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let call = self.invoke("release", Some(lease.resource()));
        let result = self.client.release(Release::of(lease)).await;
        let token = Some(lease.token);
        self.returned(call, "release", Some(lease.resource()), token, result.as_ref().err());
        result.map(drop)
    }

    fn invoke(&self, op: &'static str, resource: Option<&str>) -> u64 {
        self.history.as_ref().map_or(0, |history| history.invoke(self.number, op, resource))
    }

    fn returned(
        &self,
        call: u64,
        op: &'static str,
        resource: Option<&str>,
        token: Option<u64>,
        error: Option<&Error>,
    ) {
        if let Some(history) = &self.history {
            history.returned(self.number, call, op, resource, token, error);
        }
    }
}
