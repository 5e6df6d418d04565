//! The cycles of a benchmark: one task a slot, each with names of its own.

use std::time::Duration;

use singletrack::{Acquire, Bytes, Client, Error, Lease, Release, Value};
use tokio::{task::JoinHandle, time::Instant};

use super::history::{Asked, Told, Writer, short};
use crate::args::RecordOp;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 100;
/// How long a lease of a benchmark lasts that has its own ttl.
const TTL: Duration = Duration::from_secs(60);
/// Records of a slot, written and read in turn.
const RECORDS: u64 = 4;

/// What a cycle is.
#[derive(Clone)]
pub(super) enum Cycle {
    Ping,
    Lock {
        /// Leases live with their session.
        with_session: bool,
    },
    Record {
        op: RecordOp,
        value: Bytes,
    },
}

/// What to do.
pub(super) struct Load {
    pub(super) cycle: Cycle,
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
    cycle: Cycle,
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
                cycle: self.cycle.clone(),
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
        self.prepare().await?;
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok(latencies);
            }
            self.rounds += 1;
            match &self.cycle {
                Cycle::Ping => self.ping().await?,
                Cycle::Lock { with_session } => self.lock(*with_session).await?,
                Cycle::Record { op, value } => match op {
                    RecordOp::Put => self.put(value).await?,
                    RecordOp::Get => self.get().await?,
                    RecordOp::Increment => self.increment().await?,
                    RecordOp::Transact => self.transact(value).await?,
                },
            }
            if began >= from {
                let took = began.elapsed().as_micros();
                latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
    }

    /// What is to be read is written first.
    async fn prepare(&self) -> Result<(), Error> {
        if let Cycle::Record { op: RecordOp::Get, value } = &self.cycle {
            for number in 0..RECORDS {
                self.write(&self.key("record", number), value).await?;
            }
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), Error> {
        let call = self.invoke("ping", None, Asked::default);
        let result = self.client.ping_with(vec![7; PAYLOAD_BYTES]).await;
        self.returned(call, "ping", None, Told::default(), result.as_ref().err());
        result.map(drop)
    }

    async fn lock(&self, with_session: bool) -> Result<(), Error> {
        // A new name each time, as of jobs and files: 32 bytes.
        let resource = format!("bench/slot-{:05}/job-{:011}", self.number, self.rounds);
        let call = self.invoke("acquire", Some(&resource), Asked::default);
        let mut wish = Acquire::new(resource.as_str(), format!("slot-{}", self.number)).ttl(TTL);
        if with_session {
            wish = wish.with_session();
        }
        let lease = self.client.acquire(wish).await;
        let told = Told { token: lease.as_ref().ok().map(|lease| lease.token), ..Told::default() };
        self.returned(call, "acquire", Some(&resource), told, lease.as_ref().err());
        self.release(&lease?).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let call = self.invoke("release", Some(lease.resource()), Asked::default);
        let result = self.client.release(Release::of(lease)).await;
        let told = Told { token: Some(lease.token), ..Told::default() };
        self.returned(call, "release", Some(lease.resource()), told, result.as_ref().err());
        result.map(drop)
    }

    // === records ===

    /// A key of this slot alone: 29 bytes.
    fn key(&self, kind: &str, number: u64) -> String {
        format!("bench/slot-{:05}/{kind}-{:05}", self.number, number % RECORDS)
    }

    async fn put(&self, value: &Bytes) -> Result<(), Error> {
        self.write(&self.key("record", self.rounds), value).await
    }

    async fn write(&self, key: &str, value: &Bytes) -> Result<(), Error> {
        let asks = || Asked { value: Some(short(&Value::Data(value.clone()))), ..Asked::default() };
        let call = self.invoke("put", Some(key), asks);
        let result = self.client.record(key).put(value.clone()).await;
        let told = result.as_ref().map_or_else(
            |_| Told::default(),
            |written| Told {
                version: Some(written.version),
                created_at_version: Some(written.created_at_version),
                ..Told::default()
            },
        );
        self.returned(call, "put", Some(key), told, result.as_ref().err());
        result.map(drop)
    }

    async fn get(&self) -> Result<(), Error> {
        let key = self.key("record", self.rounds);
        let call = self.invoke("get", Some(&key), Asked::default);
        let result = self.client.record(key.as_str()).get().await;
        let record = result.as_ref().ok().and_then(Option::as_ref);
        let told =
            record.filter(|_| self.history.is_some()).map_or_else(Told::default, |record| Told {
                version: Some(record.version),
                created_at_version: Some(record.created_at_version),
                value: record.value.as_ref().map(short),
                ..Told::default()
            });
        self.returned(call, "get", Some(&key), told, result.as_ref().err());
        result.map(drop)
    }

    async fn increment(&self) -> Result<(), Error> {
        let key = self.key("counter", self.rounds);
        let asks = || Asked { delta: Some(1), ..Asked::default() };
        let call = self.invoke("increment", Some(&key), asks);
        let result = self.client.record(key.as_str()).increment(1).await;
        let told = result.as_ref().map_or_else(
            |_| Told::default(),
            |added| Told {
                version: Some(added.version),
                created_at_version: Some(added.created_at_version),
                value: Some(short(&Value::Counter(added.value))),
                ..Told::default()
            },
        );
        self.returned(call, "increment", Some(&key), told, result.as_ref().err());
        result.map(drop)
    }

    async fn transact(&self, value: &Bytes) -> Result<(), Error> {
        let call = self.invoke("transact", None, Asked::default);
        let result = self
            .client
            .transact()
            .put(self.key("record", self.rounds), value.clone())
            .put(self.key("record", self.rounds + 1), value.clone())
            .increment(self.key("counter", self.rounds), 1)
            .increment(self.key("counter", self.rounds + 1), 1)
            .await;
        let version = result.as_ref().ok().map(|done| done.commit_revision);
        let told = Told { version, ..Told::default() };
        self.returned(call, "transact", None, told, result.as_ref().err());
        result.map(drop)
    }

    // === history ===

    fn invoke(
        &self,
        op: &'static str,
        resource: Option<&str>,
        asks: impl FnOnce() -> Asked,
    ) -> u64 {
        self.history.as_ref().map_or(0, |history| history.invoke(self.number, op, resource, asks()))
    }

    fn returned(
        &self,
        call: u64,
        op: &'static str,
        resource: Option<&str>,
        told: Told,
        error: Option<&Error>,
    ) {
        if let Some(history) = &self.history {
            history.returned(self.number, call, op, resource, told, error);
        }
    }
}
