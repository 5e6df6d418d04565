//! Locks as models: what clients were told while the server was killed and came back is judged by
//! the models of a mutex, with and without fences and reentrance, of a semaphore and of readers with
//! a writer. And so is the history file of a benchmark, from the file alone.
//!
//! Owns the load and its record. What is right is the judge's alone.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use singletrack::{Abandoned, Acquire, Client, Error, Lease, Reason, Release};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    command::{run, singletrack},
    locks_oracle::{Action, Call, Model, Outcome, Share, judge},
    random::Random,
    server::Server,
};

const KILLS: u64 = 6;
/// So long that no lease runs out during the test.
const LASTS: Duration = Duration::from_secs(600);
/// Of those who stop renewing.
const SHORT: Duration = Duration::from_secs(1);
const SETTLE_LIMIT: Duration = Duration::from_secs(25);
const WHOLE_TEST: Duration = Duration::from_secs(120);
const PERMITS: u64 = 4;
const LEASED: &str = "leased";

/// One resource each.
const MODELS: [(&str, Model); 7] = [
    ("mutex", Model::MUTEX),
    ("reentrant-mutex", Model::REENTRANT_MUTEX),
    ("fenced-mutex", Model::FENCED_MUTEX),
    ("reentrant-fenced-mutex", Model::REENTRANT_FENCED_MUTEX),
    ("semaphore", Model::semaphore(PERMITS)),
    ("read-write", Model::READ_WRITE),
    (LEASED, Model { lasts: false, ..Model::REENTRANT_FENCED_MUTEX }),
];
/// Clients of each but the last, which has three.
const CLIENTS: u64 = 4;

/// What was called and answered, and what nobody foresaw.
#[derive(Clone)]
struct Record {
    began: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    unforeseen: Arc<Mutex<Vec<String>>>,
}

/// Which server runs now.
#[derive(Clone)]
struct Now {
    client: Client,
    /// Turns false when the load ends.
    running: bool,
}

/// One client of one resource.
struct Worker {
    name: String,
    resource: &'static str,
    model: Model,
    random: Random,
    record: Record,
    now: watch::Receiver<Now>,
    /// How often the leased resource was got.
    turns: watch::Sender<u64>,
}

/// One hold that is asked for, or had.
struct Hold {
    id: String,
    share: Share,
    wish: Acquire,
}

// === impl Record ===

impl Record {
    fn new() -> Self {
        Self { began: Instant::now(), calls: Arc::default(), unforeseen: Arc::default() }
    }

    fn at(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// What was done to one resource.
    fn of(&self, resource: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.resource == resource).cloned().collect()
    }
}

// === impl Worker ===

impl Worker {
    async fn work(mut self) {
        let mut round = 0;
        while self.now.borrow_and_update().running {
            let hold = self.choose(round);
            round += 1;
            let Some(lease) = self.acquire(&hold).await else { continue };
            if self.resource == LEASED {
                self.hold_for_a_while(&hold, &lease).await;
            } else {
                self.hold(&hold, &lease).await;
            }
        }
    }

    fn choose(&mut self, round: u64) -> Hold {
        let id = format!("{}/{round}", self.name);
        let wish = Acquire::new(self.resource, &self.name).request_id(&id).ttl(LASTS);
        let wait = if self.random.percent(70) { self.random.within(1..300) } else { 0 };
        let wish = wish.wait(Duration::from_millis(wait));
        let (share, wish) = match self.resource {
            "semaphore" => {
                let count = self.random.within(1..PERMITS);
                let (few, all) = (u32::try_from(count).unwrap(), u32::try_from(PERMITS).unwrap());
                (Share::Permits(count), wish.permits(few, all))
            }
            "read-write" if self.random.percent(60) => (Share::Shared, wish.shared()),
            LEASED => (Share::Exclusive, wish.ttl(SHORT).wait(Duration::from_secs(4))),
            _ => (Share::Exclusive, wish),
        };
        Hold { id, share, wish }
    }

    async fn hold(&mut self, hold: &Hold, lease: &Lease) {
        for _ in 0..self.random.within(0..4) {
            if self.model.is_reentrant && self.random.percent(50) {
                let _same = self.acquire(hold).await;
            } else {
                self.renew(hold, lease).await;
            }
        }
        self.release(hold, lease).await;
        if self.random.percent(30) {
            // It has ended, and stays so, whatever is asked.
            self.renew(hold, lease).await;
            if self.model.is_reentrant {
                let _refused = self.acquire(hold).await;
            }
            self.release(hold, lease).await;
        }
    }

    /// Renews a few times, then gives it back or sleeps until another has it, and goes on as if
    /// nothing had been.
    async fn hold_for_a_while(&mut self, hold: &Hold, lease: &Lease) {
        let mut turns = self.turns.subscribe();
        self.turns.send_modify(|count| *count += 1);
        let own = *turns.borrow_and_update();
        for _ in 0..self.random.within(1..5) {
            self.renew(hold, lease).await;
        }
        if self.random.percent(80) {
            let mut now = self.now.clone();
            tokio::select! {
                _ = turns.wait_for(|count| *count > own) => {}
                // At the end of the load there may be no other.
                _ = now.wait_for(|now| !now.running) => {}
            }
            self.write_fenced(hold, lease).await;
            self.renew(hold, lease).await;
            let _lost = self.acquire(hold).await;
        }
        self.release(hold, lease).await;
    }

    async fn acquire(&self, hold: &Hold) -> Option<Lease> {
        let send = |client: Client, age| {
            let wish = hold.wish.clone().age(age);
            async move { client.acquire(wish).await }
        };
        let action = Action::Acquire(hold.share);
        let answer = self.settle(hold, Some(action), send, |lease| Some(lease.token)).await;
        if answer.as_ref().is_err_and(|error| error.reason() == Some(Reason::StillWaiting)) {
            self.give_up(hold).await;
        }
        answer.ok()
    }

    /// Leaves the queue.
    async fn give_up(&self, hold: &Hold) {
        let id = &hold.id;
        let send = |client: Client, _| async move { client.abandon(id).await };
        match self.settle(hold, None, send, |_| None).await {
            Ok(Abandoned::Waiting | Abandoned::Nothing) => {}
            other => self.unforeseen(&format!("{id} was waiting: {other:?}")),
        }
    }

    async fn renew(&self, hold: &Hold, lease: &Lease) {
        let send = |client: Client, _| async move {
            client.renew_one(lease.lease_id.clone(), lease.token).await
        };
        let _noted = self.settle(hold, Some(Action::Confirm), send, |_| None).await;
    }

    /// Does something that is done only under its fence, which so is confirmed or not.
    async fn write_fenced(&self, hold: &Hold, lease: &Lease) {
        let written = &format!("written/{}", hold.id);
        let send = |client: Client, age| {
            let wish = Acquire::new(written, "writer").request_id(written).age(age);
            let wish = wish.fence(self.resource, lease.token);
            async move { client.acquire(wish).await }
        };
        let _noted = self.settle(hold, Some(Action::Confirm), send, |_| None).await;
    }

    async fn release(&self, hold: &Hold, lease: &Lease) {
        let id = format!("release/{}", hold.id);
        let send = |client: Client, age| {
            let release = Release::of(lease).request_id(&id).age(age);
            async move { client.release(release).await }
        };
        let _noted = self.settle(hold, Some(Action::Release), send, |_| None).await;
    }

    /// Sends the same call until its outcome is known, through as many servers as it takes, and
    /// notes each attempt.
    async fn settle<T, F>(
        &self,
        hold: &Hold,
        action: Option<Action>,
        send: impl Fn(Client, Duration) -> F,
        fence: impl Fn(&T) -> Option<u64>,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (began, mut now) = (Instant::now(), self.now.clone());
        let mut unanswered = None;
        loop {
            let client = now.borrow_and_update().client.clone();
            let (sent, sent_at) = (Instant::now(), self.record.at());
            let age = unanswered.map_or(Duration::ZERO, |first| sent - first);
            let answer = send(client, age).await;
            let at = self.record.at();
            let outcome = match &answer {
                Ok(answer) => Outcome::Yes { at, fence: fence(answer) },
                Err(error) if is_no(error) => Outcome::No { at },
                Err(_) => Outcome::Unknown,
            };
            if let Some(action) = action {
                let (resource, hold) = (self.resource.to_owned(), hold.id.clone());
                self.record.note(Call { resource, hold, action, sent: sent_at, outcome });
            }
            match answer {
                Err(error) if outcome == Outcome::Unknown => {
                    let is_hopeless = !error.is_retryable() || began.elapsed() > SETTLE_LIMIT;
                    if is_hopeless {
                        self.unforeseen(&format!("{action:?} of {}: {error}", hold.id));
                        return Err(error);
                    }
                    unanswered.get_or_insert(sent);
                }
                known => return known,
            }
            // Until the next server is there; or this one has only a moment of weakness.
            let _ = tokio::time::timeout(Duration::from_millis(50), now.changed()).await;
        }
    }

    fn unforeseen(&self, what: &str) {
        self.record.unforeseen.lock().unwrap().push(what.to_owned());
    }
}

/// The server's word that it is not so, and that nothing was done.
fn is_no(error: &Error) -> bool {
    use Reason::{CancelledWait, Held, LeaseLost, NotFound, NotHolder, StaleFence, StillWaiting};
    let no = [CancelledWait, Held, LeaseLost, NotFound, NotHolder, StaleFence, StillWaiting];
    error.is_from_server() && error.reason().is_some_and(|reason| no.contains(&reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_lock_keeps_its_promises_while_the_server_is_killed() {
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} \
         cargo test -p singletrack-cli --test process lock_models"
    );
    let record = Record::new();
    let log = tokio::time::timeout(WHOLE_TEST, rounds_of_kills(seed, &record)).await;
    let log = log.unwrap_or_else(|_| panic!("not done in {WHOLE_TEST:?}\n{again}"));
    let mut judged = Vec::new();
    for (resource, model) in MODELS {
        match judge(model, &record.of(resource)) {
            Ok(summary) => judged.push((resource, summary)),
            Err(broken) => panic!("{broken}\nthe server said:\n{log}\n{again}"),
        }
    }
    let unforeseen = record.unforeseen.lock().unwrap().clone();
    assert!(unforeseen.is_empty(), "{unforeseen:#?}\nthe server said:\n{log}\n{again}");
    let mut unknown = 0;
    for (resource, summary) in judged {
        unknown += summary.unknown;
        let is_enough = if resource == LEASED { summary.holds >= 3 } else { summary.holds >= 20 };
        assert!(is_enough, "{resource}: there was too little load: {summary:?}\n{again}");
        eprintln!("{resource}: {summary:?}, seed {seed}");
    }
    assert!(unknown > 0, "no answer was ever lost\n{again}");
    let is_refused =
        |call: &Call| call.action == Action::Confirm && matches!(call.outcome, Outcome::No { .. });
    let taken_over = record.of(LEASED).iter().filter(|call| is_refused(call)).count();
    assert!(taken_over > 0, "nobody slept beyond its ttl\n{again}");
}

/// Runs the load and the kills to their end; tells what the server last printed.
async fn rounds_of_kills(seed: u64, record: &Record) -> String {
    let mut random = Random::new(seed);
    let mut server = Server::start().await;
    let (announce, now) = watch::channel(Now { client: server.client(), running: true });
    let (turns, _) = watch::channel(0);
    let mut workers = JoinSet::new();
    for (resource, model) in MODELS {
        let clients = if resource == LEASED { 3 } else { CLIENTS };
        for number in 0..clients {
            let worker = Worker {
                name: format!("{resource}-{number}"),
                resource,
                model,
                random: random.split(),
                record: record.clone(),
                now: now.clone(),
                turns: turns.clone(),
            };
            workers.spawn(worker.work());
        }
    }
    for round in 0..KILLS {
        // The instant of a kill is what this test is about: no event to wait for. In every third
        // round it comes late enough for leases to run out.
        let least = if round % 3 == 2 { 2_500 } else { 100 };
        tokio::time::sleep(Duration::from_millis(random.within(least..least + 700))).await;
        server.kill().await;
        server.restart().await;
        announce.send_replace(Now { client: server.client(), running: true });
    }
    announce.send_replace(Now { client: server.client(), running: false });
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker notes what is wrong instead of panicking");
    }
    server.log()
}

// === a history file ===

/// Reads a history as docs/history-format.md has it. A slot has one call under way at a time, so a
/// release is of what its slot acquired last.
fn read_history(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut open: BTreeMap<u64, Call> = BTreeMap::new();
    let mut last: BTreeMap<u64, String> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key}: {line}"));
        let (call, at) = (number("call"), number("at_us"));
        let outcome = match line["event"].as_str().unwrap() {
            "invoke" => {
                let action = match line["op"].as_str().unwrap() {
                    "acquire" => Action::Acquire(Share::Exclusive),
                    _ => Action::Release,
                };
                if action != Action::Release {
                    last.insert(number("slot"), format!("call-{call}"));
                }
                let (resource, hold) = (line["resource"].as_str().unwrap(), &last[&number("slot")]);
                let (resource, hold) = (resource.to_owned(), hold.clone());
                open.insert(
                    call,
                    Call { resource, hold, action, sent: at, outcome: Outcome::Unknown },
                );
                continue;
            }
            "return" if line["result"] == "OK" => {
                let token = line["token"].as_str().unwrap();
                Outcome::Yes { at, fence: Some(token.parse().unwrap()) }
            }
            "return" => Outcome::No { at },
            _ => Outcome::Unknown,
        };
        calls.push(Call { outcome, ..open.remove(&call).unwrap_or_else(|| panic!("{line}")) });
    }
    assert!(open.is_empty(), "{open:?}");
    calls
}

#[tokio::test]
async fn the_history_file_of_a_benchmark_is_enough_to_judge_it() {
    let folder = TempDir::new().unwrap();
    for transport in ["unary", "session"] {
        let history = folder.path().join(transport);
        let ended = run(singletrack()
            .args(["bench", "lock", "--inflight", "16", "--connections", "2", "--seconds", "1"])
            .args(["--transport", transport, "--history"])
            .arg(&history))
        .await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let mut calls = read_history(&std::fs::read_to_string(&history).unwrap());
        let summary = judge(Model::FENCED_MUTEX, &calls).unwrap_or_else(|it| panic!("{it}"));
        assert!(summary.holds > 100 && summary.holds == summary.releases, "{summary:?}");
        eprintln!("{transport}: {summary:?}");
        // Fences rise over all resources, not only on each: all of them as one with room for all.
        for call in &mut calls {
            "all".clone_into(&mut call.resource);
            if call.action != Action::Release {
                call.action = Action::Acquire(Share::Shared);
            }
        }
        let summary = judge(Model::READ_WRITE, &calls).unwrap_or_else(|it| panic!("{it}"));
        assert!(summary.together <= 16, "{summary:?}");
        // And the judge would have seen it: the same with a fence given twice.
        let fences: Vec<usize> = (0..calls.len())
            .filter(|at| matches!(calls[*at].action, Action::Acquire(_)))
            .take(2)
            .collect();
        calls[fences[1]].outcome = calls[fences[0]].outcome;
        judge(Model::READ_WRITE, &calls).unwrap_err();
    }
}
