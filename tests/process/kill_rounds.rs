//! `kill -9` at random instants, under load: nothing acknowledged is lost, nothing is done
//! twice.
//!
//! Owns the load and the kills. What is right and what is wrong is the oracle's alone.

use std::{future::Future, time::Duration};

use singletrack::{
    Acquire, AnswerYield, Client, Error, Lease, List, Reason, Release, RequestYield, Target,
    Transfer, YieldAnswer, new_request_id,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    oracle::{Claim, Event, History, Kind, judge},
    random::Random,
    server::Server,
};

const WORKERS: u64 = 16;
const HOT_RESOURCES: u64 = 4;
/// Permits of the pool.
const POOL: u32 = 4;
const ROUNDS: u64 = 50;
/// So long that no lease runs out during the test: the oracle counts on that.
const TTL: Duration = Duration::from_secs(600);
const WHOLE_TEST: Duration = Duration::from_secs(240);
/// After so long without an answer a worker has met a server that hangs.
const SETTLE_LIMIT: Duration = Duration::from_secs(25);

/// Which server runs now. `running` turns false when the load ends.
#[derive(Clone)]
struct Now {
    generation: u64,
    client: Client,
    running: bool,
}

/// One client: it holds at most one lease at a time, and sometimes waits for a second one.
struct Worker {
    name: String,
    random: Random,
    history: History,
    now: watch::Receiver<Now>,
    generation: u64,
    held: Option<Held>,
    /// The last lease it gave back, to see that it stays so.
    past: Option<Held>,
}

#[derive(Clone)]
struct Held {
    wish: Acquire,
    lease: Lease,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    let rounds = match std::env::var("SINGLETRACK_KILL_ROUNDS") {
        Ok(text) => text.parse().expect("SINGLETRACK_KILL_ROUNDS is a whole number"),
        Err(_) => ROUNDS,
    };
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} SINGLETRACK_KILL_ROUNDS={rounds} \
         cargo test -p singletrack-cli --test process kill_rounds"
    );
    // Fifty rounds have this long; more rounds have more.
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
    assert!(summary.grants >= summary.kills, "there was too little load: {summary:?}\n{again}");
    // A few kills may miss every answer on its way; many can't.
    assert!(rounds < 20 || summary.recovered > 0, "no answer was ever lost: {summary:?}\n{again}");
    eprintln!("{summary:?}, {} events, seed {seed}", events.len());
}

/// Runs the load and the kills to their end; tells what the server last printed.
async fn rounds_of_kills(rounds: u64, seed: u64, history: &History) -> String {
    let mut random = Random::new(seed);
    let mut server = Server::start().await;
    let mut now = Now { generation: 0, client: server.client(), running: true };
    let (announce, watched) = watch::channel(now.clone());
    let mut workers = JoinSet::new();
    for index in 0..WORKERS {
        let worker = Worker {
            name: format!("worker-{index}"),
            random: random.split(),
            history: history.clone(),
            now: watched.clone(),
            generation: 0,
            held: None,
            past: None,
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
        now = Now { generation: now.generation + 1, client: server.client(), running: true };
        announce.send_replace(now.clone());
    }
    announce.send_replace(Now { running: false, ..now });
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker notes what is wrong instead of panicking");
    }
    let live = server.client().list(List::new().page_size(1_000)).await.unwrap();
    let tokens = live.leases.iter().map(|lease| lease.token).collect();
    history.push(Event::Live { tokens });
    server.log()
}

// === impl Worker ===

impl Worker {
    async fn work(mut self) {
        while self.now.borrow_and_update().running {
            self.after_a_restart().await;
            match self.held.take() {
                None => self.acquire().await,
                Some(held) if self.random.percent(25) => self.renew(held).await,
                Some(held) if self.random.percent(10) => self.transfer(held).await,
                Some(held) if self.random.percent(10) => self.yields(held).await,
                Some(held) if self.random.percent(25) => self.acquire_second(held).await,
                Some(held) if self.random.percent(15) => self.acquire_again(held).await,
                Some(held) => self.release(held).await,
            }
        }
        self.after_a_restart().await;
        // Some leases stay, so that the final list has something to show.
        if let Some(held) = self.held.take()
            && self.random.percent(50)
        {
            self.release(held).await;
        }
    }

    /// First of all on a new server: is what I was told still true?
    async fn after_a_restart(&mut self) {
        let generation = self.now.borrow().generation;
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        if let Some(held) = self.held.take() {
            self.look(&held).await;
            self.acquire_again(held).await;
        }
        if let Some(held) = self.held.take() {
            self.renew(held).await;
        }
        if let Some(past) = self.past.clone() {
            self.look(&past).await;
            self.renew_note(&past).await;
            self.release_note(&past).await;
            // What it was told is in the history, and that is all.
            let _ = self.acquire_note(&past.wish).await;
        }
    }

    async fn acquire(&mut self) {
        let claims = self.choose();
        self.held = self.acquire_claims(claims).await;
    }

    /// Holds and waits: where two do so crosswise, one is refused.
    async fn acquire_second(&mut self, first: Held) {
        let claims = self.choose();
        let second = self.acquire_claims(claims).await;
        if let Some(second) = second {
            self.release(second).await;
        }
        self.held = Some(first);
    }

    /// What to ask for: of everything there is, on few names.
    fn choose(&mut self) -> Vec<Claim> {
        let hot = format!("hot/{}", self.random.within(0..HOT_RESOURCES));
        let kind = match self.random.within(0..10) {
            0..3 => Kind::Shared,
            _ => Kind::Exclusive,
        };
        let one = Claim { kind, ..Claim::exclusive(hot) };
        let limit = POOL;
        let count = u32::try_from(self.random.within(1..u64::from(limit))).unwrap();
        let pool = Claim { kind: Kind::Permits { count, limit }, ..Claim::exclusive("pool") };
        match self.random.within(0..100) {
            // Nobody else's: so that there are always answers on their way.
            0..55 => vec![Claim::exclusive(format!("own/{}", self.name))],
            55..65 => vec![pool],
            65..68 => vec![Claim { subtree: true, ..Claim::exclusive("hot") }],
            68..72 => vec![Claim { subtree: true, ..Claim::shared("hot") }],
            72..82 => vec![one, pool, Claim::shared("notes")],
            _ => vec![one],
        }
    }

    async fn acquire_claims(&mut self, claims: Vec<Claim>) -> Option<Held> {
        let call = new_request_id().unwrap();
        let wait = if self.random.percent(60) { self.random.within(1..200) } else { 0 };
        let priority = i32::try_from(self.random.within(0..3)).unwrap() - 1;
        let mut wish = Acquire::on(claims.iter().map(target), &self.name)
            .ttl(TTL)
            .wait(Duration::from_millis(wait))
            .priority(priority)
            .request_id(&call);
        if self.random.percent(70) {
            wish = wish.actor(&self.name);
        }
        if self.random.percent(20) {
            // Neither comes to pass here; both must survive.
            wish = wish.max_hold(TTL).lock_delay(TTL).label("test", "kill rounds");
        }
        self.history.push(Event::AcquireSent { call: call.clone(), claims });
        loop {
            match self.acquire_note(&wish).await {
                Ok(lease) => return Some(Held { wish, lease }),
                Err(Some(Reason::StillWaiting)) if self.random.percent(60) => {}
                Err(Some(Reason::StillWaiting)) => return self.abandon(&call, &wish).await,
                Err(_) => return None,
            }
        }
    }

    /// Gives its lease to itself: another id, another token.
    async fn transfer(&mut self, held: Held) {
        let old = held.lease.clone();
        self.history.push(Event::TransferSent { lease_id: old.lease_id.clone() });
        let request_id = format!("transfer-{}", old.lease_id);
        let to = self.name.clone();
        let answer = self
            .settle(|client, age| {
                let transfer = Transfer::new(old.lease_id.clone(), old.token, &to)
                    .actor(&to)
                    .request_id(&request_id)
                    .age(age);
                async move { client.transfer(transfer).await }
            })
            .await;
        match answer {
            Ok(new) => {
                self.history.push(Event::Transferred {
                    lease_id: old.lease_id.clone(),
                    new_id: new.lease_id.clone(),
                    token: new.token,
                    replayed: new.replayed,
                });
                // The call that got the old one answers no more.
                let mut lease = old.clone();
                lease.lease_id = new.lease_id;
                lease.token = new.token;
                self.renew_note(&Held { wish: held.wish.clone(), lease: old }).await;
                self.release(Held { wish: held.wish, lease }).await;
                self.past = None;
            }
            Err(error) => self.unexpected("transfer", &error),
        }
    }

    /// Asks itself to yield, and answers. Forgotten with each kill; nothing depends on it.
    async fn yields(&mut self, held: Held) {
        let client = self.now.borrow().client.clone();
        let ask = RequestYield::new(held.lease.resource(), &self.name).reason("kill rounds");
        let answer = YieldAnswer::within(Duration::from_secs(1)).message("soon");
        let asked = client.request_yield(ask).await;
        let answered = client
            .answer_yield(AnswerYield::new(&held.lease.lease_id, held.lease.token, answer))
            .await;
        for error in [asked.err(), answered.err()].into_iter().flatten() {
            let is_foreseen = matches!(error.reason(), None | Some(Reason::ShuttingDown))
                || error.reason() == Some(Reason::DeadlineExceeded);
            if !is_foreseen {
                self.unexpected("yield", &error);
            }
        }
        self.held = Some(held);
    }

    /// The same call once more, as if its answer had been lost.
    async fn acquire_again(&mut self, held: Held) {
        if self.acquire_note(&held.wish).await.is_ok() {
            self.held = Some(held);
        }
    }

    async fn acquire_note(&mut self, wish: &Acquire) -> Result<Lease, Option<Reason>> {
        let answer = self
            .settle(|client, age| {
                let wish = wish.clone().age(age);
                async move { client.acquire(wish).await }
            })
            .await;
        match answer {
            Ok(lease) => {
                self.history.push(Event::Granted {
                    call: lease.request_id.clone(),
                    lease_id: lease.lease_id.clone(),
                    token: lease.token,
                    replayed: lease.replayed,
                });
                Ok(lease)
            }
            Err(error) => {
                let call = error.request_id().unwrap_or_default().to_owned();
                match error.reason() {
                    // The call goes on, or it had no effect.
                    Some(Reason::StillWaiting) => {}
                    Some(
                        Reason::Held | Reason::LeaseLost | Reason::CancelledWait | Reason::Deadlock,
                    ) => {
                        let reason = error.reason_name().to_owned();
                        self.history.push(Event::AcquireRefused { call, reason });
                    }
                    _ => self.unexpected("acquire", &error),
                }
                Err(error.reason())
            }
        }
    }

    async fn abandon(&mut self, call: &str, wish: &Acquire) -> Option<Held> {
        self.history.push(Event::AbandonSent { call: call.to_owned() });
        let answer = self
            .settle(|client, _| {
                let call = call.to_owned();
                async move { client.abandon(call).await }
            })
            .await;
        match answer {
            Ok(_) => self.history.push(Event::Abandoned { call: call.to_owned() }),
            Err(error) => {
                self.unexpected("abandon", &error);
                return None;
            }
        }
        if self.random.percent(50)
            && let Ok(lease) = self.acquire_note(wish).await
        {
            // The oracle condemns it. Kept, so that the history goes on as it must.
            return Some(Held { wish: wish.clone(), lease });
        }
        None
    }

    async fn renew(&mut self, held: Held) {
        if self.renew_note(&held).await {
            self.held = Some(held);
        }
    }

    async fn renew_note(&mut self, held: &Held) -> bool {
        let answer = self
            .settle(|client, _| {
                let (lease_id, token) = (held.lease.lease_id.clone(), held.lease.token);
                async move { client.renew_one(lease_id, token).await }
            })
            .await;
        let refused = answer.err().map(|error| error.reason_name().to_owned());
        let renewed = refused.is_none();
        let lease_id = held.lease.lease_id.clone();
        self.history.push(Event::RenewAnswered { lease_id, refused });
        renewed
    }

    async fn look(&mut self, held: &Held) {
        let answer = self
            .settle(|client, _| {
                let lease_id = held.lease.lease_id.clone();
                async move { client.get_by_id(lease_id).await }
            })
            .await;
        let found = answer.map(|lease| lease.token).map_err(|error| error.reason_name().to_owned());
        self.history.push(Event::Looked { lease_id: held.lease.lease_id.clone(), found });
    }

    async fn release(&mut self, held: Held) {
        self.history.push(Event::ReleaseSent { lease_id: held.lease.lease_id.clone() });
        self.release_note(&held).await;
        self.past = Some(held);
    }

    async fn release_note(&mut self, held: &Held) {
        let request_id = format!("release-{}", held.lease.lease_id);
        let answer = self
            .settle(|client, age| {
                let release = Release::of(&held.lease).request_id(&request_id).age(age);
                async move { client.release(release).await }
            })
            .await;
        let refused = answer.err().map(|error| error.reason_name().to_owned());
        let lease_id = held.lease.lease_id.clone();
        self.history.push(Event::ReleaseAnswered { lease_id, refused });
    }

    /// Sends the same call until its outcome is known, through as many servers as it takes.
    async fn settle<T, F>(&mut self, send: impl Fn(Client, Duration) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let started = Instant::now();
        let mut oldest_unanswered = None;
        loop {
            let client = self.now.borrow_and_update().client.clone();
            let sent = Instant::now();
            let age = oldest_unanswered.map_or(Duration::ZERO, |first| sent - first);
            match send(client, age).await {
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
            let _ = tokio::time::timeout(Duration::from_millis(50), self.now.changed()).await;
        }
    }

    fn unexpected(&self, call: &str, error: &Error) {
        let what = format!("{} of {}: {error}", call, self.name);
        self.history.push(Event::Unexpected { what });
    }
}

fn target(claim: &Claim) -> Target {
    let target = Target::new(&claim.resource);
    let target = match claim.kind {
        Kind::Exclusive => target,
        Kind::Shared => target.shared(),
        Kind::Permits { count, limit } => target.permits(count, limit),
    };
    if claim.subtree { target.subtree() } else { target }
}
