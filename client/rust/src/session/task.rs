//! The task: connects, sends, hears, keeps alive, resumes. One loop; everything it waits for is in
//! one place.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use singletrack_proto::{
    Reason,
    v1::{
        self, operation::Operation, operation_reply::Reply,
        session_service_client::SessionServiceClient,
    },
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, codegen::BoxFuture, transport::Endpoint};

use super::{
    Ask, Order,
    calls::{Calls, Inner, Pending, tell},
};
use crate::{
    Client, Error, Transport,
    clock::{Moment, margin},
    life::Life,
    op,
    retry::{Answered, Pauses},
};

/// How often deadlines are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long acknowledgements wait for company.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(100);
/// Orders taken at once.
const ORDERS_MAX: usize = 512;
/// How long no stream can be had before calls go over unary ones.
const STREAMLESS: Duration = Duration::from_secs(2);
/// Unary calls at once in place of a stream.
const UNARY_MAX: usize = 64;
/// Frames on their way into the connection.
const FRAMES_AHEAD: usize = 2;
/// The least time that a keep-alive is waited for before the stream is given up.
const KEEP_ALIVE_TIME_MIN: Duration = Duration::from_millis(500);
/// How long a close may take.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// The session's task.
pub(super) struct Task {
    client: Client,
    orders: mpsc::Receiver<Order>,
    /// No order will come any more.
    deserted: bool,
    shown: Arc<Mutex<Option<String>>>,
    calls: Calls,
    session: Option<Open>,
    up: Option<mpsc::Sender<v1::ExchangeRequest>>,
    down: Option<Streaming<v1::ExchangeResponse>>,
    connecting: Option<BoxFuture<Stream, Error>>,
    attempts: usize,
    retry_at: Instant,
    pauses: Pauses,
    /// Since when no stream could be had, and why.
    streamless: Option<(Instant, Error)>,
    /// The server has no streams.
    is_unary: bool,
    acknowledge_at: Option<Instant>,
    unary: Arc<Semaphore>,
    kept: (mpsc::Sender<Kept>, mpsc::Receiver<Kept>),
    /// When this stream said hello, which keeps a session alive.
    hello_sent: Moment,
}

/// An open session.
struct Open {
    id: String,
    life: Arc<Life>,
    ttl: Duration,
    keep_at: Instant,
    /// A keep-alive under way, since when.
    keeping: Option<Instant>,
    /// What of what is believed to be held was listed so far; `None`: all is judged.
    listing: Option<Listing>,
}

struct Listing {
    believed: HashSet<String>,
}

/// A stream that was opened.
struct Stream {
    up: mpsc::Sender<v1::ExchangeRequest>,
    down: Streaming<v1::ExchangeResponse>,
    hello_sent: Moment,
}

/// What came of a unary keep-alive.
struct Kept {
    session: String,
    sent: Moment,
    result: Result<u64, Error>,
}

// === impl Task ===

impl Task {
    pub(super) fn new(
        client: &Client,
        orders: mpsc::Receiver<Order>,
        shown: Arc<Mutex<Option<String>>>,
    ) -> Self {
        Self {
            client: client.without_session(),
            orders,
            deserted: false,
            shown,
            calls: Calls::new(),
            session: None,
            up: None,
            down: None,
            connecting: None,
            attempts: 0,
            retry_at: Instant::now(),
            pauses: Pauses::new(),
            streamless: None,
            is_unary: false,
            acknowledge_at: None,
            unary: Arc::new(Semaphore::new(UNARY_MAX)),
            kept: mpsc::channel(4),
            hello_sent: Moment::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut inbox = Vec::with_capacity(ORDERS_MAX);
        while !(self.deserted && self.calls.is_empty()) {
            self.connect_if_needed();
            let (has_room, has_to_say) = (self.calls.has_room(), self.has_to_say());
            tokio::select! {
                biased;
                stream = connected(&mut self.connecting) => self.connected(stream),
                frame = heard(&mut self.down) => match frame {
                    Ok(frame) => self.hear(frame),
                    Err(error) => self.lose_stream(error),
                },
                count = self.orders.recv_many(&mut inbox, ORDERS_MAX), if has_room && !self.deserted => {
                    self.deserted = count == 0;
                    inbox.drain(..).for_each(|order| self.order(order));
                }
                () = room(self.up.as_ref()), if has_to_say => self.say().await,
                Some(kept) = self.kept.1.recv() => self.kept_by_unary(kept),
                _ = looks.tick() => self.look(),
            }
        }
        self.leave().await;
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ask(ask) => self.calls.add(*ask),
            Order::Close(done) => self.close(done),
        }
    }

    // === the stream ===

    fn connect_if_needed(&mut self) {
        let idle = self.session.is_none() && self.calls.is_empty();
        let busy = self.up.is_some() || self.connecting.is_some();
        if idle || busy || self.is_unary || Instant::now() < self.retry_at {
            return;
        }
        let hello = match &self.session {
            Some(open) => v1::Hello { session_id: open.id.clone(), ..Default::default() },
            None => v1::Hello {
                session_id: String::new(),
                holder: self.client.holder(),
                ttl_ms: Some(milliseconds(self.client.session_ttl())),
            },
        };
        let endpoint = self.client.endpoint(self.attempts);
        self.attempts = self.attempts.wrapping_add(1);
        self.connecting = Some(Box::pin(connect(self.client.clone(), endpoint, hello)));
    }

    fn connected(&mut self, stream: Result<Stream, Error>) {
        self.connecting = None;
        match stream {
            Ok(Stream { up, down, hello_sent }) => {
                self.up = Some(up);
                self.down = Some(down);
                let session = self.session.as_ref().map_or("", |open| open.id.as_str());
                self.calls.begin_stream(session);
                if let Some(open) = &mut self.session {
                    open.keeping = Some(Instant::now());
                }
                self.hello_sent = hello_sent;
            }
            Err(error) => self.lose_stream(error),
        }
    }

    /// The stream is gone, or could not be had.
    fn lose_stream(&mut self, error: Error) {
        self.up = None;
        self.down = None;
        if let Some(open) = &mut self.session {
            open.keeping = None;
        }
        if error.reason() == Some(Reason::SessionLost) {
            return self.lose_session(&error);
        }
        if error.code() == Code::Unimplemented {
            self.is_unary = self.client.transport() == Transport::Auto;
        }
        self.retry_at = Instant::now() + self.pauses.next();
        // What the server refuses for good is no matter of trying again.
        if error.is_from_server() && !error.is_retryable() && !self.is_unary {
            self.calls.fail(&error);
        }
        let since = self.streamless.take().map_or_else(Instant::now, |(since, _)| since);
        self.streamless = Some((since, error));
    }

    /// Nothing is said behind a hello that opens a session before its id is known: if the stream
    /// broke, what was said would be under an id that nobody knows, and be said again under another.
    fn has_to_say(&self) -> bool {
        let acknowledge = self.acknowledge_at.is_some_and(|at| at <= Instant::now());
        self.up.is_some() && self.session.is_some() && (self.calls.has_to_say() || acknowledge)
    }

    /// Sends a frame. Whoever is about to ask is let in first: what goes together costs less.
    async fn say(&mut self) {
        tokio::task::yield_now().await;
        while self.calls.has_room()
            && let Ok(order) = self.orders.try_recv()
        {
            self.order(order);
        }
        let Some(up) = &self.up else { return };
        match up.try_reserve() {
            Ok(permit) => {
                self.acknowledge_at = None;
                permit.send(self.calls.frame());
            }
            // The stream's end is heard on its other side.
            Err(_full_or_gone) => {}
        }
    }

    fn hear(&mut self, frame: v1::ExchangeResponse) {
        if let Some(welcome) = frame.welcome {
            self.welcome(welcome);
        }
        let Some(open) = &self.session else { return };
        let (id, life) = (open.id.clone(), Arc::clone(&open.life));
        for reply in frame.replies {
            if let Some(inner) = self.calls.answered(&id, &life, reply) {
                self.heard_inner(inner);
            }
        }
        for refused in frame.frame_refused {
            self.calls.frame_refused(refused.frame, &refused.refusal.unwrap_or_default());
        }
        for push in frame.pushes {
            self.pushed(push);
        }
        if self.calls.acks.is_dirty() && self.acknowledge_at.is_none() {
            self.acknowledge_at = Some(Instant::now() + ACKNOWLEDGE_AFTER);
        }
    }

    // === the session ===

    fn welcome(&mut self, welcome: v1::Welcome) {
        self.pauses = Pauses::new();
        self.streamless = None;
        let ttl = Duration::from_millis(welcome.ttl_ms);
        let now = Instant::now();
        let open = self.session.get_or_insert_with(|| Open {
            id: welcome.session_id.clone(),
            life: Arc::default(),
            ttl,
            keep_at: now,
            keeping: None,
            listing: None,
        });
        open.ttl = ttl;
        open.keeping = None;
        open.keep_at = now + ttl / 3;
        let left = Duration::from_millis(welcome.remaining_ms);
        open.life.extend(self.hello_sent.plus(left).minus(margin(ttl)));
        let believed = self.calls.believed();
        open.listing = (!believed.is_empty()).then_some(Listing { believed });
        self.show(Some(welcome.session_id));
        self.listed(welcome.held, welcome.next_page_token);
    }

    fn show(&self, id: Option<String>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// A page of what the session holds: what is believed and was listed on none is lost.
    fn listed(&mut self, page: Vec<v1::SessionLease>, next_page_token: String) {
        let Some(open) = &mut self.session else { return };
        let Some(listing) = &mut open.listing else { return };
        for lease in page {
            listing.believed.remove(&lease.lease_id);
        }
        if listing.believed.is_empty() {
            open.listing = None;
        } else if next_page_token.is_empty() {
            let lost = open.listing.take().map(|listing| listing.believed).unwrap_or_default();
            let error = lost_lease(None);
            lost.iter().for_each(|id| self.calls.lease_lost(id, &error));
        } else {
            let page =
                v1::ListSessionLeasesRequest { page_token: next_page_token, ..Default::default() };
            self.calls.add_inner(Operation::ListSessionLeases(page));
        }
    }

    fn heard_inner(&mut self, inner: Inner) {
        match inner {
            Inner::Kept(sent, remaining_ms) => self.kept_alive(sent, remaining_ms),
            Inner::Page(page) => self.listed(page.leases, page.next_page_token),
            Inner::Refused(error) => {
                if let Some(open) = &mut self.session {
                    open.keeping = None;
                }
                if error.reason() == Some(Reason::SessionLost) {
                    self.lose_session(&error);
                }
            }
        }
    }

    fn kept_alive(&mut self, sent: Moment, remaining_ms: u64) {
        let Some(open) = &mut self.session else { return };
        open.keeping = None;
        let left = Duration::from_millis(remaining_ms);
        open.life.extend(sent.plus(left).minus(margin(open.ttl)));
    }

    fn pushed(&mut self, push: v1::Push) {
        match push.push {
            Some(v1::push::Push::LeaseLost(lost)) => {
                self.calls.lease_lost(&lost.lease_id, &lost_lease(lost.lost));
            }
            Some(v1::push::Push::SessionLost(lost)) => {
                self.lose_session(&lost_session(lost));
            }
            None => {}
        }
    }

    /// The session is lost by the server's word; what needs one gets another.
    fn lose_session(&mut self, error: &Error) {
        self.up = None;
        self.down = None;
        self.connecting = None;
        let Some(open) = self.session.take() else { return };
        self.show(None);
        open.life.lose(error.clone());
        for (seq, pending) in self.calls.lose_session() {
            self.outlive(&open.id, seq, pending, error);
        }
    }

    /// What becomes of a call that was sent on a session that is lost.
    fn outlive(&mut self, session: &str, seq: u64, pending: Pending, error: &Error) {
        let is_bound =
            matches!(&pending.ask.op, Operation::AcquireLease(it) if it.ttl_ms.is_none());
        let has_identity = op::identity(&mut pending.ask.op.clone()).is_some();
        if is_bound {
            // Whatever it got is gone with the session.
            tell(pending.ask, Err(error.clone()));
        } else if has_identity {
            // The session remembers its operations for a while: a unary call learns the outcome.
            self.ask_by_unary(session, seq, pending);
        } else {
            self.calls.add(pending.ask);
        }
    }

    // === without a stream ===

    fn ask_by_unary(&self, session: &str, seq: u64, pending: Pending) {
        let Pending { mut ask, oldest, .. } = pending;
        let id = op::own_id(&ask.op).unwrap_or_else(|| format!("{session}/{seq}"));
        if let Some((request_id, _)) = op::identity(&mut ask.op) {
            request_id.clone_from(&id);
        }
        if let Operation::AcquireLease(acquire) = &mut ask.op
            && acquire.ttl_ms.is_none()
        {
            session.clone_into(&mut acquire.session_id);
        }
        let (client, turns) = (self.client.clone(), Arc::clone(&self.unary));
        let age = oldest.map_or(Duration::ZERO, Moment::ago);
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let Ask { op, ends, reply, .. } = ask;
            let result = client.send_unary(op, id, age, ends).await;
            let unheard = match reply {
                Some(reply) => reply.send(result).err(),
                None => Some(result),
            };
            give_back(&client, unheard).await;
        });
    }

    /// No stream can be had: calls go over unary ones, and the session is kept alive by them.
    fn make_do(&mut self) {
        let patient = |since: &Instant| since.elapsed() < STREAMLESS && !self.is_unary;
        let waits = self.streamless.as_ref().is_none_or(|(since, _)| patient(since));
        if waits || self.client.transport() != Transport::Auto || self.up.is_some() {
            return;
        }
        let session = self.session.as_ref().map(|open| open.id.clone());
        for (seq, pending) in self.calls.take_for_unary() {
            let is_bound =
                matches!(&pending.ask.op, Operation::AcquireLease(it) if it.ttl_ms.is_none());
            match &session {
                // Not acknowledged: the server may still have to tell its outcome.
                Some(session) => self.ask_by_unary(session, seq, pending),
                None if is_bound => {
                    let error = self.streamless.as_ref().map(|(_, error)| error.clone());
                    let error = error.unwrap_or_else(Error::deadline_passed);
                    tell(pending.ask, Err(error));
                }
                None => {
                    let minted = crate::new_request_id().unwrap_or_default();
                    let (prefix, _) = minted.split_at(minted.len() / 2);
                    self.ask_by_unary(prefix, seq, pending);
                }
            }
        }
        self.keep_alive_by_unary();
    }

    fn keep_alive_by_unary(&mut self) {
        let Some(open) = &mut self.session else { return };
        if open.keeping.is_some() || Instant::now() < open.keep_at {
            return;
        }
        let now = Instant::now();
        open.keeping = Some(now);
        open.keep_at = now + open.ttl / 3;
        let (client, tell, session) = (self.client.clone(), self.kept.0.clone(), open.id.clone());
        let time = open.ttl / 3;
        tokio::spawn(async move {
            let sent = Moment::now();
            let keep = v1::KeepSessionAliveRequest { session_id: session.clone() };
            let op = Operation::KeepSessionAlive(keep);
            let result = match op::unary(&client, client.channel(), op, time).await {
                Ok(Reply::KeepSessionAlive(kept)) => Ok(kept.remaining_ms),
                Ok(_) => Err(Error::unreadable("expected another reply")),
                Err(error) => Err(error),
            };
            // A task that has ended needs no telling.
            let _gone = tell.send(Kept { session, sent, result }).await;
        });
    }

    fn kept_by_unary(&mut self, kept: Kept) {
        if self.session.as_ref().is_none_or(|open| open.id != kept.session) {
            return;
        }
        match kept.result {
            Ok(remaining_ms) => self.kept_alive(kept.sent, remaining_ms),
            Err(error) => self.heard_inner(Inner::Refused(error)),
        }
    }

    // === time ===

    fn look(&mut self) {
        let unreached = self.streamless.as_ref().map(|(_, error)| error);
        let session = self.session.as_ref().map(|open| open.id.as_str());
        self.calls.look(session, unreached);
        self.keep_alive_if_due();
        self.make_do();
    }

    /// Keeps the session alive at a third of its ttl. A stream on which that is not answered in
    /// time is no stream.
    fn keep_alive_if_due(&mut self) {
        let Some(open) = &mut self.session else { return };
        let now = Instant::now();
        let time = (open.ttl / 3).max(KEEP_ALIVE_TIME_MIN);
        if self.up.is_none() {
            return;
        }
        match open.keeping {
            Some(since) if now.duration_since(since) > time => {
                self.lose_stream(Error::deadline_passed());
            }
            Some(_) => {}
            None if now >= open.keep_at => {
                open.keeping = Some(now);
                open.keep_at = now + open.ttl / 3;
                let keep = v1::KeepSessionAliveRequest::default();
                self.calls.add_inner(Operation::KeepSessionAlive(keep));
            }
            None => {}
        }
    }

    // === the end ===

    fn close(&mut self, done: oneshot::Sender<Result<(), Error>>) {
        let Some(open) = self.session.take() else {
            let _gone = done.send(Ok(()));
            return;
        };
        self.show(None);
        self.up = None;
        self.down = None;
        self.connecting = None;
        let error = closed();
        open.life.lose(error.clone());
        for (seq, pending) in self.calls.lose_session() {
            self.outlive(&open.id, seq, pending, &error);
        }
        let client = self.client.clone();
        tokio::spawn(async move {
            // Whoever asked may be gone.
            let _gone = done.send(close_session(&client, open.id).await);
        });
    }

    /// Nobody has this session any more: it ends at once, not with its ttl.
    async fn leave(mut self) {
        if let Some(open) = self.session.take() {
            self.up = None;
            let closing = close_session(&self.client, open.id);
            // Unheard, it ends with its ttl.
            let _ended = tokio::time::timeout(CLOSE_TIME, closing).await;
        }
    }
}

async fn close_session(client: &Client, session_id: String) -> Result<(), Error> {
    let op = Operation::CloseSession(v1::CloseSessionRequest { session_id });
    let ends = Instant::now() + client.timeout();
    match client.send_unary(op, String::new(), Duration::ZERO, ends).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason() == Some(Reason::SessionLost) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Releases what a caller got that is gone.
async fn give_back(client: &Client, unheard: Option<Result<Answered, Error>>) {
    let Some(Ok(Answered { reply: Reply::AcquireLease(grant), .. })) = unheard else { return };
    let release = v1::ReleaseLeaseRequest {
        lease_id: grant.lease_id,
        token: grant.token,
        ..Default::default()
    };
    let ends = Instant::now() + client.timeout();
    let op = Operation::ReleaseLease(release);
    // Unreleased, it ends with its ttl.
    let _outcome = client.send_unary(op, String::new(), Duration::ZERO, ends).await;
}

// === what the loop waits for ===

async fn connect(client: Client, endpoint: Endpoint, hello: v1::Hello) -> Result<Stream, Error> {
    // A connection of its own: one that is dead without saying so is not met again.
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Error::from_status(tonic::Status::from_error(Box::new(error))))?;
    let (up, frames) = mpsc::channel(FRAMES_AHEAD);
    let first = v1::ExchangeRequest { hello: Some(hello), ..Default::default() };
    up.try_send(first).map_err(|_| Error::unreadable("expected room for the first frame"))?;
    let hello_sent = Moment::now();
    let request = client.endless_request(ReceiverStream::new(frames));
    let mut stub = SessionServiceClient::new(channel);
    let response = client.finish(client.timeout(), stub.exchange(request)).await?;
    Ok(Stream { up, down: response, hello_sent })
}

async fn connected(connecting: &mut Option<BoxFuture<Stream, Error>>) -> Result<Stream, Error> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn heard(
    down: &mut Option<Streaming<v1::ExchangeResponse>>,
) -> Result<v1::ExchangeResponse, Error> {
    match down {
        Some(down) => match down.message().await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(ended()),
            Err(status) => Err(Error::from_status(status)),
        },
        None => std::future::pending().await,
    }
}

/// Resolves when a frame can be sent, or never will be.
async fn room(up: Option<&mpsc::Sender<v1::ExchangeRequest>>) {
    match up {
        // What a permit would hold is taken again at once.
        Some(up) => drop(up.reserve().await),
        None => std::future::pending().await,
    }
}

// === words ===

fn ended() -> Error {
    Error::from_status(tonic::Status::unavailable("the server ended the stream"))
}

fn lost_lease(lost: Option<v1::LeaseLostDetail>) -> Error {
    Error::lost(v1::Refusal {
        reason: v1::RefusalReason::LeaseLost.into(),
        message: "the lease has ended".into(),
        next_step: "stop what it protected".into(),
        retry_after_ms: 0,
        detail: lost.map(v1::refusal::Detail::LeaseLost),
    })
}

fn lost_session(lost: v1::SessionLostDetail) -> Error {
    Error::lost(v1::Refusal {
        reason: v1::RefusalReason::SessionLost.into(),
        message: "the session has ended, and all that lived with it".into(),
        next_step: "stop what its leases protected".into(),
        retry_after_ms: 0,
        detail: Some(v1::refusal::Detail::SessionLost(lost)),
    })
}

fn closed() -> Error {
    lost_session(v1::SessionLostDetail { end: v1::SessionEnd::Closed.into() })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
