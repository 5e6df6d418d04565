//! The task: connects, sends, hears, keeps alive, resumes. One loop; everything it waits for is in
//! one place.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, client::Grpc, codegen::BoxFuture, transport::Endpoint};

use super::{
    Ask, Order,
    calls::{Calls, Inner, OnSession, Pending, tell},
    wire::{self, FrameBytes, FrameCodec},
};
use crate::{
    Client, Error, Transport, YieldRequest,
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
/// How long a server without streams is not asked for one again.
const STREAMS_AGAIN: Duration = Duration::from_secs(30);
/// Unary calls at once in place of a stream; and those of them that wait for a lease, which must
/// not keep the others from their turn.
const UNARY_MAX: usize = 64;
const UNARY_WAITS_MAX: usize = 512;
/// Calls that go on over unary ones, above which no further ones are taken on.
const BY_UNARY_MAX: usize = 16_384;
/// Frames on their way into the connection.
const FRAMES_AHEAD: usize = 2;
/// The least time that a keep-alive is waited for before the stream is given up.
const KEEP_ALIVE_TIME_MIN: Duration = Duration::from_millis(500);
/// How long a stream may take to be welcomed.
const WELCOME_TIME: Duration = Duration::from_secs(10);
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
    up: Option<mpsc::Sender<FrameBytes>>,
    down: Option<Streaming<v1::ExchangeResponse>>,
    connecting: Option<BoxFuture<Stream, Error>>,
    attempts: usize,
    retry_at: Instant,
    pauses: Pauses,
    /// Since when no stream could be had, and why.
    streamless: Option<(Instant, Error)>,
    /// The server has no streams, so far.
    is_unary: bool,
    acknowledge_at: Option<Instant>,
    unary: Arc<Semaphore>,
    unary_waits: Arc<Semaphore>,
    /// Calls that go on over unary ones: how many, and what came of them.
    by_unary: usize,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    kept: (mpsc::Sender<Kept>, mpsc::Receiver<Kept>),
    /// Until when this stream is to be welcomed.
    welcome_by: Option<Instant>,
    /// When this stream said hello, which keeps a session alive.
    hello_sent: Moment,
    /// What was believed to live with the session before this stream said hello: all of it must be
    /// in the welcome. What came since, by unary calls, need not.
    believed: HashSet<String>,
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
    up: mpsc::Sender<FrameBytes>,
    down: Streaming<v1::ExchangeResponse>,
    hello_sent: Moment,
}

/// What came of a call that went on over unary ones.
struct Done {
    seq: u64,
    of: Option<OnSession>,
    ask: Box<Ask>,
    result: Result<Answered, Error>,
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
            calls: Calls::new(client.retries()),
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
            unary_waits: Arc::new(Semaphore::new(UNARY_WAITS_MAX)),
            by_unary: 0,
            done: mpsc::channel(BY_UNARY_MAX),
            kept: mpsc::channel(4),
            welcome_by: None,
            hello_sent: Moment::default(),
            believed: HashSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut inbox = Vec::with_capacity(ORDERS_MAX);
        while !(self.deserted && self.calls.is_empty() && self.by_unary == 0) {
            self.connect_if_needed();
            let (has_room, has_to_say) = (self.has_room(), self.has_to_say());
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
                Some(done) = self.done.1.recv() => self.done_by_unary(done),
                Some(kept) = self.kept.1.recv() => self.kept_by_unary(kept),
                _ = looks.tick() => self.look(),
            }
        }
        self.leave().await;
    }

    fn has_room(&self) -> bool {
        self.calls.has_room() && self.by_unary < BY_UNARY_MAX
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ask(ask) => self.calls.add(ask),
            Order::Close(done) => self.close(done),
        }
    }

    // === the stream ===

    fn connect_if_needed(&mut self) {
        let idle = self.session.is_none() && self.calls.is_empty();
        let busy = self.up.is_some() || self.connecting.is_some();
        if idle || busy || Instant::now() < self.retry_at {
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
        self.believed = self.calls.believed();
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
                self.welcome_by = Some(Instant::now() + self.client.timeout().min(WELCOME_TIME));
            }
            Err(error) => self.lose_stream(error),
        }
    }

    /// The stream is gone, or could not be had.
    fn lose_stream(&mut self, error: Error) {
        self.up = None;
        self.down = None;
        self.welcome_by = None;
        if let Some(open) = &mut self.session {
            open.keeping = None;
        }
        if error.reason() == Some(Reason::SessionLost) {
            return self.lose_session(&error);
        }
        if error.code() == Code::Unimplemented {
            self.is_unary = self.client.transport() == Transport::Auto;
        }
        let pause = if self.is_unary { STREAMS_AGAIN } else { self.pauses.next() };
        self.retry_at = Instant::now() + pause;
        let session = self.session.as_ref().map(|open| open.id.as_str());
        // What the server refuses for good is no matter of trying again.
        if error.is_from_server() && !error.is_retryable() && !self.is_unary {
            self.calls.fail(session, &error);
        } else if !self.client.retries() {
            self.calls.fail_sent(session, &error);
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
        while self.has_room()
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
        let of = open.named();
        if !frame.replies.is_empty() {
            self.proven();
        }
        for reply in frame.replies {
            if let Some(inner) = self.calls.answered(&of, reply) {
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

    /// The stream carries answers. A welcome alone proves nothing: what breaks every stream that is
    /// used would keep calls from ever going over unary ones.
    fn proven(&mut self) {
        self.pauses = Pauses::new();
        self.streamless = None;
    }

    // === the session ===

    fn welcome(&mut self, welcome: v1::Welcome) {
        self.is_unary = false;
        self.welcome_by = None;
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
        let mut believed = self.calls.believed();
        believed.retain(|lease_id| self.believed.contains(lease_id));
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
            let error = Error::lease_lost(None);
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
            Inner::NoPage(error) if error.reason() == Some(Reason::SessionLost) => {
                self.lose_session(&error);
            }
            // The next stream is told anew what is held.
            Inner::NoPage(error) => self.lose_stream(error),
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
                self.calls.lease_lost(&lost.lease_id, &Error::lease_lost(lost.lost));
            }
            Some(v1::push::Push::LeaseYield(asked)) => {
                let request = YieldRequest::from_wire(asked.request.unwrap_or_default());
                self.calls.lease_asked_for(&asked.lease_id, request);
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
        let of = open.named();
        for (seq, pending) in self.calls.lose_session() {
            self.outlive(&of, seq, pending, error);
        }
    }

    /// What becomes of a call that was sent on a session that is lost.
    fn outlive(&mut self, of: &OnSession, seq: u64, pending: Pending, error: &Error) {
        let is_bound =
            matches!(&pending.ask.op, Operation::AcquireLease(it) if it.ttl_ms.is_none());
        let has_identity = op::identity(&mut pending.ask.op.clone()).is_some();
        if is_bound {
            // Whatever it got is gone with the session.
            tell(pending.ask, Err(error.clone()));
        } else if has_identity {
            // The session remembers its operations for a while: a unary call learns the outcome.
            self.ask_by_unary(&of.id, Some(of.clone()), seq, pending);
        } else {
            self.calls.add(pending.ask);
        }
    }

    // === without a stream ===

    /// `prefix`: what its request id begins with, if it has none of its own.
    fn ask_by_unary(&mut self, prefix: &str, of: Option<OnSession>, seq: u64, pending: Pending) {
        let Pending { mut ask, oldest, .. } = pending;
        let id = op::own_id(&ask.op).unwrap_or_else(|| format!("{prefix}/{seq}"));
        if let Some((request_id, _)) = op::identity(&mut ask.op) {
            request_id.clone_from(&id);
        }
        if let Some(of) = &of {
            op::bind(&mut ask.op, &of.id);
        }
        let waits = op::wait(&ask.op) > Duration::ZERO;
        let turns = Arc::clone(if waits { &self.unary_waits } else { &self.unary });
        let (client, done) = (self.client.clone(), self.done.0.clone());
        let age = oldest.map_or(Duration::ZERO, Moment::ago);
        self.by_unary += 1;
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let result = carry_by_unary(&client, &mut ask, id, age).await;
            // The task outlives what it began, unless the runtime ends.
            let _gone = done.send(Done { seq, of, ask, result }).await;
        });
    }

    fn done_by_unary(&mut self, done: Done) {
        let Done { seq, of, ask, result } = done;
        self.by_unary -= 1;
        if let (Some(of), Some(open)) = (&of, &self.session)
            && of.id == open.id
            && result.as_ref().err().is_none_or(|error| !error.may_have_happened())
        {
            self.calls.acks.finish(seq);
        }
        match result {
            Ok(answered) => self.calls.deliver(ask, of.as_ref(), answered),
            Err(error) => drop(tell(ask, Err(error))),
        }
    }

    /// No stream can be had: calls go over unary ones, and the session is kept alive by them.
    fn make_do(&mut self) {
        let patient = |since: &Instant| since.elapsed() < STREAMLESS && !self.is_unary;
        let waits = self.streamless.as_ref().is_none_or(|(since, _)| patient(since));
        if waits || self.client.transport() != Transport::Auto || self.up.is_some() {
            return;
        }
        let of = self.session.as_ref().map(Open::named);
        for (seq, pending) in self.calls.take_for_unary() {
            match &of {
                // Not acknowledged: the server may still have to tell its outcome.
                Some(of) => self.ask_by_unary(&of.id, Some(of.clone()), seq, pending),
                None if op::needs_session(&pending.ask.op) => {
                    let error = self.streamless.as_ref().map(|(_, error)| error.clone());
                    let error = error.unwrap_or_else(Error::deadline_passed);
                    tell(pending.ask, Err(error));
                }
                None => match crate::new_request_id() {
                    Ok(minted) => self.ask_by_unary(minted.split_at(16).0, None, seq, pending),
                    Err(error) => drop(tell(pending.ask, Err(error))),
                },
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
        if self.welcome_by.is_some_and(|by| by <= Instant::now()) {
            self.lose_stream(Error::deadline_passed());
        }
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
        let of = open.named();
        for (seq, pending) in self.calls.lose_session() {
            self.outlive(&of, seq, pending, &error);
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

// === impl Open ===

impl Open {
    fn named(&self) -> OnSession {
        OnSession { id: self.id.clone(), life: Arc::clone(&self.life), ttl: self.ttl }
    }
}

/// Carries a call to its answer over unary calls, one wait after the other. An acquire whose caller
/// is gone is given up.
async fn carry_by_unary(
    client: &Client,
    ask: &mut Ask,
    id: String,
    mut age: Duration,
) -> Result<Answered, Error> {
    loop {
        let op = ask.op.clone();
        let is_acquire = matches!(op, Operation::AcquireLease(_));
        let result = tokio::select! {
            result = client.send_unary(op, id.clone(), age, ask.ends) => result,
            () = unwanted(&mut ask.reply), if is_acquire => {
                client.give_up(id).await;
                return Err(Error::deadline_passed());
            }
        };
        let waits = |error: &Error| error.reason() == Some(Reason::StillWaiting);
        if !result.as_ref().is_err_and(waits) || ask.patience.is_none() {
            return result;
        }
        if !ask.is_patient() {
            client.give_up(id).await;
            return result;
        }
        ask.shorten_wait();
        age = Duration::ZERO;
    }
}

/// Resolves when nobody waits for the answer any more.
async fn unwanted(reply: &mut Option<oneshot::Sender<Result<Answered, Error>>>) {
    match reply {
        Some(reply) => reply.closed().await,
        None => std::future::pending().await,
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

// === what the loop waits for ===

async fn connect(client: Client, endpoint: Endpoint, hello: v1::Hello) -> Result<Stream, Error> {
    // A connection of its own: one that is dead without saying so is not met again.
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Error::from_status(Status::from_error(Box::new(error))))?;
    let (up, frames) = mpsc::channel(FRAMES_AHEAD);
    let first = v1::ExchangeRequest { hello: Some(hello), ..Default::default() };
    up.try_send(FrameBytes::of(&first))
        .map_err(|_| Error::unreadable("expected room for the first frame"))?;
    let hello_sent = Moment::now();
    let request = client.endless_request(ReceiverStream::new(frames));
    let mut stub = Grpc::new(channel);
    let opening = async {
        stub.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        stub.streaming(request, wire::path(), FrameCodec).await
    };
    let response = client.finish(client.timeout(), opening).await?;
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
async fn room(up: Option<&mpsc::Sender<FrameBytes>>) {
    match up {
        // What a permit would hold is taken again at once.
        Some(up) => drop(up.reserve().await),
        None => std::future::pending().await,
    }
}

// === words ===

fn ended() -> Error {
    Error::from_status(Status::unavailable("the server ended the stream"))
}

fn lost_session(lost: v1::SessionLostDetail) -> Error {
    Error::lost(v1::Refusal {
        reason: v1::RefusalReason::SessionLost.into(),
        message: "the session has ended, and all that lived with it".into(),
        next_step: "stop what its leases protected".into(),
        detail: Some(v1::refusal::Detail::SessionLost(lost)),
        ..Default::default()
    })
}

fn closed() -> Error {
    lost_session(v1::SessionLostDetail { end: v1::SessionEnd::Closed.into() })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
