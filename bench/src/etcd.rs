//! Cycles against etcd, whose log is synced to disk by default. Locks: Lock and Unlock of its lock
//! service; each slot has a lease of its own, granted once, and a name of its own. Records: a Put, or
//! a Txn of four, each slot on keys of its own.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::{
    Error,
    measure::{LOCK_SECONDS, Load, Measured, Meter, Span},
    peer::{self, Peer},
};
use etcdserverpb::{PutRequest, RequestOp, TxnRequest, kv_client::KvClient, request_op::Request};
use v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient};

const START_LIMIT: Duration = Duration::from_secs(30);

#[expect(unreachable_pub, reason = "generated for libraries")]
mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

#[expect(unreachable_pub, reason = "generated for libraries")]
mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// What a cycle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cycle {
    /// Lock and Unlock.
    Lock,
    /// One Put.
    Put,
    /// One Txn of four Puts.
    Txn,
}

/// Bytes of a value, as `singletrack bench record` writes.
const VALUE_BYTES: usize = 100;
/// Keys of a slot, written in turn, as `singletrack bench record` does.
const KEYS: u64 = 4;

pub(crate) async fn run(cycle: Cycle, load: &Load) -> Result<Measured, Error> {
    let (client, peers) = (peer::free_port()?, peer::free_port()?);
    let (client, peers) =
        (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peers}"));
    let server = Peer::start("etcd", &load.folder, |folder| {
        let options = [
            ("--name", "compare".to_owned()),
            ("--data-dir", folder.display().to_string()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client.clone()),
            ("--listen-peer-urls", peers.clone()),
            ("--initial-advertise-peer-urls", peers.clone()),
            ("--initial-cluster", format!("compare={peers}")),
            ("--log-level", "error".to_owned()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    })?;
    wait_until_ready(&client).await?;
    let mut slots = Vec::new();
    for connection in 0..load.connections {
        let channel = connect(&client).await?;
        for number in load.slots(connection) {
            slots.push(match cycle {
                Cycle::Lock => Slot::Lock(Locking {
                    client: LockClient::new(channel.clone()),
                    name: format!("bench/lock/{number:020}").into_bytes(),
                    lease: grant(channel.clone()).await?,
                }),
                Cycle::Put | Cycle::Txn => Slot::Write(Writing {
                    client: KvClient::new(channel.clone()),
                    number: u64::try_from(number)?,
                    is_txn: cycle == Cycle::Txn,
                    rounds: 0,
                }),
            });
        }
    }
    let span = Span::start(load);
    let mut tasks = tokio::task::JoinSet::new();
    for slot in slots {
        tasks.spawn(slot.run(Meter::new(span)));
    }
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

async fn connect(url: &str) -> Result<Channel, Error> {
    Ok(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?)
}

async fn wait_until_ready(url: &str) -> Result<(), Error> {
    let ready = async {
        // Refused until there is a leader.
        while grant_one(url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    Ok(tokio::time::timeout(START_LIMIT, ready).await?)
}

async fn grant_one(url: &str) -> Result<i64, Error> {
    grant(connect(url).await?).await
}

async fn grant(channel: Channel) -> Result<i64, Error> {
    let request = etcdserverpb::LeaseGrantRequest { ttl: i64::from(LOCK_SECONDS) };
    let mut client = etcdserverpb::lease_client::LeaseClient::new(channel);
    Ok(client.lease_grant(request).await?.into_inner().id)
}

enum Slot {
    Lock(Locking),
    Write(Writing),
}

struct Locking {
    client: LockClient<Channel>,
    name: Vec<u8>,
    lease: i64,
}

struct Writing {
    client: KvClient<Channel>,
    number: u64,
    is_txn: bool,
    rounds: u64,
}

impl Slot {
    async fn run(mut self, mut meter: Meter) -> Result<Meter, Error> {
        loop {
            let began = tokio::time::Instant::now();
            match &mut self {
                Self::Lock(slot) => slot.cycle().await?,
                Self::Write(slot) => slot.cycle().await?,
            }
            if !meter.count(began, tokio::time::Instant::now()) {
                return Ok(meter);
            }
        }
    }
}

impl Locking {
    async fn cycle(&mut self) -> Result<(), Error> {
        let request = LockRequest { name: self.name.clone(), lease: self.lease };
        let key = self.client.lock(request).await?.into_inner().key;
        self.client.unlock(UnlockRequest { key }).await?;
        Ok(())
    }
}

impl Writing {
    fn put(&self, key: u64) -> PutRequest {
        let key = format!("bench/slot-{:05}/record-{:05}", self.number, key % KEYS);
        PutRequest { key: key.into_bytes(), value: vec![7; VALUE_BYTES] }
    }

    async fn cycle(&mut self) -> Result<(), Error> {
        self.rounds += 1;
        if !self.is_txn {
            self.client.put(self.put(self.rounds)).await?;
            return Ok(());
        }
        let success = (0..4)
            .map(|at| RequestOp { request: Some(Request::RequestPut(self.put(self.rounds + at))) })
            .collect();
        let done = self.client.txn(TxnRequest { success }).await?.into_inner();
        if done.succeeded { Ok(()) } else { Err("a Txn without comparisons failed".into()) }
    }
}
