//! `kill -9` under a load of records and transactions: no acknowledged write is lost, none is
//! applied twice, sums are exact, and nobody sees half of a transaction.
//!
//! Owns the load and the kills. What is right and what is wrong is the oracle's alone.

use std::{future::Future, time::Duration};

use singletrack::{Acquire, Client, Error, Lease, List, Reason, Release, Value, new_request_id};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    oracle::{Claim, Event, History, judge, records::RecordEvent},
    random::Random,
    server::Server,
};

const WORKERS: u64 = 12;
const ACCOUNTS: u64 = 4;
const COUNTERS: u64 = 3;
const ROUNDS: u64 = 25;
/// So long that no lease runs out during the test: the oracle counts on that.
const TTL: Duration = Duration::from_secs(600);
const WHOLE_TEST: Duration = Duration::from_secs(180);
/// After so long without an answer a worker has met a server that hangs.
const SETTLE_LIMIT: Duration = Duration::from_secs(25);

/// Which server runs now. `running` turns false when the load ends.
#[derive(Clone)]
struct Now {
    client: Client,
    running: bool,
}

struct Worker {
    name: String,
    random: Random,
    history: History,
    now: watch::Receiver<Now>,
    /// The version of its own record; `None`: there is none.
    version: Option<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_or_done_twice_when_the_server_is_killed_under_load() {
    let rounds = match std::env::var("SINGLETRACK_KILL_ROUNDS") {
        Ok(text) => text.parse().expect("SINGLETRACK_KILL_ROUNDS is a whole number"),
        Err(_) => ROUNDS,
    };
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} SINGLETRACK_KILL_ROUNDS={rounds} \
         cargo test -p singletrack-cli --test process kill_records"
    );
    let limit = WHOLE_TEST * u32::try_from(rounds / ROUNDS + 1).unwrap();
    let history = History::default();
    let outcome = tokio::time::timeout(limit, rounds_of_kills(rounds, seed, &history)).await;
    let events = history.events();
    let server_log = match outcome {
        Ok(server_log) => server_log,
        Err(_) => panic!("not done in {limit:?}, after {} events\n{again}", events.len()),
    };
    let summary = match judge(&events) {
        Ok(summary) => summary,
        Err(broken) => panic!("{broken}\nthe server said:\n{server_log}\n{again}"),
    };
    assert_eq!(summary.kills, usize::try_from(rounds).unwrap(), "{again}");
    assert!(summary.writes >= summary.kills, "there was too little load: {summary:?}\n{again}");
    assert!(
        rounds < 20 || summary.writes_recovered > 0,
        "no answer was lost: {summary:?}\n{again}"
    );
    eprintln!("{summary:?}, {} events, seed {seed}", events.len());
}

/// Runs the load and the kills to their end; tells what the server last printed.
async fn rounds_of_kills(rounds: u64, seed: u64, history: &History) -> String {
    let mut random = Random::new(seed);
    // Snapshots come and go while the server is killed.
    let mut server = Server::start_with(&["--snapshot-after-bytes", "1MiB"]).await;
    let now = Now { client: server.client(), running: true };
    let (announce, watched) = watch::channel(now);
    let mut workers = JoinSet::new();
    for index in 0..WORKERS {
        let worker = Worker {
            name: format!("worker-{index}"),
            random: random.split(),
            history: history.clone(),
            now: watched.clone(),
            version: None,
        };
        workers.spawn(worker.work());
    }
    for _ in 0..rounds {
        // The instant of a kill is what this test is about: no event to wait for.
        tokio::time::sleep(Duration::from_millis(random.within(10..350))).await;
        history.push(Event::Killed);
        server.kill().await;
        server.restart().await;
        history.push(Event::Restarted);
        announce.send_replace(Now { client: server.client(), running: true });
    }
    announce.send_replace(Now { client: server.client(), running: false });
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker notes what is wrong instead of panicking");
    }
    count(&server.client(), history).await;
    server.log()
}

/// What there is at the end.
async fn count(client: &Client, history: &History) {
    let counters = (0..COUNTERS).map(|index| format!("counters/{index}"));
    let accounts = (0..ACCOUNTS).map(|index| format!("accounts/{index}"));
    for key in counters.chain(accounts) {
        let record = client.record(&key).get().await.unwrap();
        let found = record.map(|record| (record.counter().unwrap_or(i64::MIN), record.version));
        history.push(Event::Record(RecordEvent::Counter { key, found }));
    }
    let live = client.list(List::new().page_size(1_000)).await.unwrap();
    let tokens = live.leases.iter().map(|lease| lease.token).collect();
    history.push(Event::Live { tokens });
}

// === impl Worker ===

impl Worker {
    async fn work(mut self) {
        while self.now.borrow_and_update().running {
            match self.random.within(0..100) {
                0..25 => self.add().await,
                25..50 => self.put().await,
                50..58 => self.delete().await,
                58..68 => self.get().await,
                68..90 => self.transfer().await,
                _ => self.sum().await,
            }
        }
        self.get().await;
    }

    /// Adds to a counter that all add to; now and then once more, as if the answer had been lost.
    async fn add(&mut self) {
        let key = format!("counters/{}", self.random.within(0..COUNTERS));
        let delta = i64::try_from(self.random.within(1..100)).unwrap() - 30;
        let delta = if delta == 0 { 1 } else { delta };
        let call = new_request_id().unwrap();
        let times = if self.random.percent(20) { 2 } else { 1 };
        for _ in 0..times {
            let answer = self
                .settle(|client, age| {
                    let add = client.record(&key).increment(delta).request_id(&call).age(age);
                    async move { add.await }
                })
                .await;
            match answer {
                Ok(it) => self.note(RecordEvent::Added {
                    call: call.clone(),
                    key: key.clone(),
                    delta,
                    value: it.value,
                    version: it.version,
                    replayed: it.replayed,
                }),
                Err(error) => self.unexpected("increment", &error),
            }
        }
    }

    fn own(&self) -> String {
        format!("own/{}", self.name)
    }

    /// Writes its own record over what it knows to be there: small, or large enough to be stored.
    async fn put(&mut self) {
        let (key, call) = (self.own(), new_request_id().unwrap());
        let bytes = if self.random.percent(25) { 5_000..30_000 } else { 1..200 };
        let length = usize::try_from(self.random.within(bytes)).unwrap();
        let value = format!("{call} {}", "x".repeat(length));
        let version = self.version;
        let times = if self.random.percent(20) { 2 } else { 1 };
        for _ in 0..times {
            let answer = self
                .settle(|client, age| {
                    let put = client.record(&key).put(value.clone()).request_id(&call).age(age);
                    let put = match version {
                        None => put.expect_absent(),
                        Some(version) => put.expect_version(version),
                    };
                    async move { put.await }
                })
                .await;
            match answer {
                Ok(it) => {
                    self.version = Some(it.version);
                    self.note(RecordEvent::Put {
                        call: call.clone(),
                        key: key.clone(),
                        value: value.clone(),
                        version: it.version,
                        replayed: it.replayed,
                    });
                }
                Err(error) => self.unexpected("put", &error),
            }
        }
    }

    async fn delete(&mut self) {
        let (key, call) = (self.own(), new_request_id().unwrap());
        let answer = self
            .settle(|client, age| {
                let delete = client.record(&key).delete().request_id(&call).age(age);
                async move { delete.await }
            })
            .await;
        match answer {
            Ok(it) => {
                self.version = None;
                let (version, replayed) = (it.version, it.replayed);
                self.note(RecordEvent::Deleted { call, key, version, replayed });
            }
            Err(error) => self.unexpected("delete", &error),
        }
    }

    async fn get(&mut self) {
        let key = self.own();
        let answer = self
            .settle(|client, _| {
                let record = client.record(&key);
                async move { record.get().await }
            })
            .await;
        match answer {
            Ok(found) => {
                let found = found
                    .map(|record| (record.text().unwrap_or("no text").to_owned(), record.version));
                self.note(RecordEvent::Got { key, found });
            }
            Err(error) => self.unexpected("get", &error),
        }
    }

    /// Moves an amount from one account to another and writes that down, under a lease that the
    /// same transaction gives back.
    async fn transfer(&mut self) {
        let Some(lease) = self.acquire().await else { return };
        let amount = i64::try_from(self.random.within(1..50)).unwrap();
        let from = self.random.within(0..ACCOUNTS);
        let to = (from + self.random.within(1..ACCOUNTS)) % ACCOUNTS;
        let accounts = [(from, -amount), (to, amount)];
        let accounts = accounts.map(|(index, delta)| (format!("accounts/{index}"), delta));
        let (key, value) = (self.own(), format!("moved {amount} from {from} to {to}"));
        let call = new_request_id().unwrap();
        self.history.push(Event::ReleaseSent { lease_id: lease.lease_id.clone() });
        let times = if self.random.percent(20) { 2 } else { 1 };
        for _ in 0..times {
            let answer = self
                .settle(|client, age| {
                    let mut all = client.transact().holding(&lease).request_id(&call).age(age);
                    for (key, delta) in &accounts {
                        all = all.increment(key, *delta);
                    }
                    let all = all.put(&key, value.clone()).with(Release::of(&lease));
                    async move { all.await }
                })
                .await;
            let done = match answer {
                Ok(done) => done,
                Err(error) => return self.unexpected("transact", &error),
            };
            for (index, (key, delta)) in accounts.iter().enumerate() {
                let Some(it) = done.incremented(index) else { continue };
                self.note(RecordEvent::Added {
                    call: call.clone(),
                    key: key.clone(),
                    delta: *delta,
                    value: it.value,
                    version: it.version,
                    replayed: done.replayed,
                });
            }
            if let Some(it) = done.put(accounts.len()) {
                self.version = Some(it.version);
                self.note(RecordEvent::Put {
                    call: call.clone(),
                    key: key.clone(),
                    value: value.clone(),
                    version: it.version,
                    replayed: done.replayed,
                });
            }
            let lease_id = lease.lease_id.clone();
            self.history.push(Event::ReleaseAnswered { lease_id, refused: None });
        }
        self.look(&lease).await;
    }

    async fn acquire(&mut self) -> Option<Lease> {
        let call = new_request_id().unwrap();
        let resource = format!("purses/{}", self.name);
        let claims = vec![Claim::exclusive(&resource)];
        self.history.push(Event::AcquireSent { call: call.clone(), claims });
        let answer = self
            .settle(|client, age| {
                let wish = Acquire::new(&resource, &self.name).ttl(TTL).request_id(&call).age(age);
                async move { client.acquire(wish).await }
            })
            .await;
        match answer {
            Ok(lease) => {
                self.history.push(Event::Granted {
                    call,
                    lease_id: lease.lease_id.clone(),
                    token: lease.token,
                    replayed: lease.replayed,
                });
                Some(lease)
            }
            Err(error) => {
                self.unexpected("acquire", &error);
                None
            }
        }
    }

    /// What the transaction gave back is given back.
    async fn look(&mut self, lease: &Lease) {
        let answer = self
            .settle(|client, _| {
                let lease_id = lease.lease_id.clone();
                async move { client.get_by_id(lease_id).await }
            })
            .await;
        let found = answer.map(|lease| lease.token).map_err(|error| error.reason_name().to_owned());
        self.history.push(Event::Looked { lease_id: lease.lease_id.clone(), found });
    }

    /// All accounts at one moment: nothing is on its way between them.
    async fn sum(&mut self) {
        let answer = self
            .settle(|client, _| async move {
                let keys = (0..ACCOUNTS).map(|index| format!("accounts/{index}"));
                client.records().batch_get(keys).await
            })
            .await;
        match answer {
            Ok(snapshot) => {
                let values = snapshot.records.iter().flatten().map(|record| &record.value);
                let total = values
                    .map(|value| match value {
                        Some(Value::Counter(number)) => *number,
                        Some(Value::Data(_) | Value::Text(_)) | None => i64::MIN,
                    })
                    .sum();
                self.note(RecordEvent::Summed { total });
            }
            Err(error) => self.unexpected("batch get", &error),
        }
    }

    /// Sends the same call until its outcome is known, through as many servers as it takes.
    async fn settle<T, F>(&self, send: impl Fn(Client, Duration) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let mut now = self.now.clone();
        let mut oldest_unanswered = None;
        loop {
            let client = now.borrow_and_update().client.clone();
            let sent = Instant::now();
            let age = oldest_unanswered.map_or(Duration::ZERO, |first| sent - first);
            match send(client, age).await {
                Err(error) if error.reason() == Some(Reason::VersionMismatch) => return Err(error),
                Err(error) if !error.is_retryable() || started.elapsed() > SETTLE_LIMIT => {
                    return Err(error);
                }
                Err(error) if error.may_have_happened() => {
                    oldest_unanswered.get_or_insert(sent);
                }
                Err(_) => {}
                Ok(answer) => return Ok(answer),
            }
            // Until the next server is there; or this one has only a moment of weakness.
            let _ = tokio::time::timeout(Duration::from_millis(50), now.changed()).await;
        }
    }

    fn note(&self, event: RecordEvent) {
        self.history.push(Event::Record(event));
    }

    fn unexpected(&self, call: &str, error: &Error) {
        let what = format!("{} of {}: {error}", call, self.name);
        self.history.push(Event::Unexpected { what });
    }
}
