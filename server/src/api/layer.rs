//! What surrounds every call: routing, counting, the deadline, and details on whatever tonic
//! answers by itself.
//!
//! Costs a call no spawn and, unless its deadline is near, no allocation of its own.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use singletrack_proto::v1::{
    lease_service_server::LeaseServiceServer, record_service_server::RecordServiceServer,
    session_service_server::SessionServiceServer, transact_service_server::TransactServiceServer,
};
use tokio::{
    sync::Notify,
    time::{Sleep, sleep},
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, StdError},
    server::NamedService,
};

use crate::{
    api::{
        Ask, deadline, exchange,
        flaws::Flaws,
        intake::{READING_BYTES_MAX, Reading},
        lease::Leases,
        record::{Records, Transactions},
        refuse,
        session::Sessions,
        status,
    },
    telemetry::{Method, Metrics},
};

/// Bytes of a message, in and out.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// What every gRPC content type begins with.
const CONTENT_TYPE: &[u8] = b"application/grpc";
/// What the paths of health calls begin with.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Where a status keeps its details.
const DETAILS: &str = "grpc-status-details-bin";

/// A service of others: health or reflection.
pub(crate) type Guest = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// All services behind one port. Cheap to clone.
pub(crate) struct Edge<A: Ask> {
    leases: LeaseServiceServer<Leases<A>>,
    sessions: SessionServiceServer<Sessions<A>>,
    records: RecordServiceServer<Records<A>>,
    transactions: TransactServiceServer<Transactions<A>>,
    track: A,
    guests: Arc<[(String, Guest)]>,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    reading: Arc<Reading>,
}

/// The calls being answered, and whether new ones may come.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    closed: AtomicBool,
    closing: Notify,
    count: AtomicUsize,
    changed: Notify,
}

/// The answer to one call, on its way.
pub(crate) struct Answer {
    stage: Stage,
    budget: Option<Duration>,
    alarm: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
    _counted: Counted,
}

enum Stage {
    /// Refused before any service saw it.
    Refused(Option<Box<(Status, StatusCode)>>),
    /// A service is at it.
    Asked(BoxFuture<Response<Body>, Infallible>),
}

pub(crate) struct Counted {
    calls: Arc<Calls>,
    metrics: Arc<Metrics>,
}

// === impl Edge ===

impl<A: Ask> Edge<A> {
    /// Our services, which ask `track`, and those of others.
    pub(crate) fn new(
        track: A,
        guests: Vec<(&'static str, Guest)>,
        metrics: Arc<Metrics>,
        calls: Arc<Calls>,
    ) -> Self {
        let guests = guests.into_iter().map(|(name, guest)| (format!("/{name}/"), guest)).collect();
        Self {
            leases: LeaseServiceServer::new(Leases::new(track.clone(), metrics.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            sessions: SessionServiceServer::new(Sessions::new(track.clone(), metrics.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            records: RecordServiceServer::new(Records::new(track.clone(), metrics.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
            transactions: TransactServiceServer::new(Transactions::new(
                track.clone(),
                metrics.clone(),
            ))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX),
            track,
            guests,
            metrics,
            calls,
            reading: Reading::new(READING_BYTES_MAX),
        }
    }

    /// Begins to answer a call.
    pub(crate) fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: HttpBody<Data = bytes::Bytes> + Unpin + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let counted = Counted::new(&self.calls, &self.metrics);
        let checked = self.check(&request);
        let (budget, stage) = match checked {
            Ok(budget) => (budget, self.route(request)),
            Err(refused) => {
                self.metrics.requested(Method::Other);
                (None, Stage::Refused(Some(refused)))
            }
        };
        Answer { stage, budget, alarm: None, metrics: self.metrics.clone(), _counted: counted }
    }

    /// What can be said from the headers alone: the deadline, or why the call is refused.
    fn check<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Option<Duration>, Box<(Status, StatusCode)>> {
        // Health goes on telling: NOT_SERVING is what a drain has to say.
        let is_health = request.uri().path().starts_with(HEALTH);
        if self.calls.closed.load(Ordering::Acquire) && !is_health {
            return Err(Box::new((
                status::of(refuse::shutting_down(), &self.metrics),
                StatusCode::OK,
            )));
        }
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|kind| kind.as_bytes().starts_with(CONTENT_TYPE)) {
            let flaws = Flaws::of(
                format_args!("metadata[content-type]"),
                format!("application/grpc is expected, found {content_type:?}"),
            );
            let status = status::of_flaws(&flaws, &self.metrics);
            return Err(Box::new((status, StatusCode::UNSUPPORTED_MEDIA_TYPE)));
        }
        deadline::budget(request.headers())
            .map_err(|flaws| Box::new((status::of_flaws(&flaws, &self.metrics), StatusCode::OK)))
    }

    fn route<B>(&self, request: Request<B>) -> Stage
    where
        B: HttpBody<Data = bytes::Bytes> + Unpin + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let path = request.uri().path();
        if path == exchange::PATH {
            let Self { track, metrics, calls, reading, .. } = self;
            return Stage::Asked(exchange::answer(track, metrics, calls, reading, request));
        }
        let ours = |service: &str| {
            path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/').map(Method::from_name)
        };
        if let Some(method) = ours(<LeaseServiceServer<Leases<A>> as NamedService>::NAME) {
            self.metrics.requested(method);
            return Stage::Asked(
                self.leases.clone().call(request.map(|body| self.reading.meter(body))),
            );
        }
        if let Some(method) = ours(<SessionServiceServer<Sessions<A>> as NamedService>::NAME) {
            self.metrics.requested(method);
            return Stage::Asked(
                self.sessions.clone().call(request.map(|body| self.reading.meter(body))),
            );
        }
        if let Some(method) = ours(<RecordServiceServer<Records<A>> as NamedService>::NAME) {
            self.metrics.requested(method);
            return Stage::Asked(
                self.records.clone().call(request.map(|body| self.reading.meter(body))),
            );
        }
        if let Some(method) = ours(<TransactServiceServer<Transactions<A>> as NamedService>::NAME) {
            self.metrics.requested(method);
            return Stage::Asked(
                self.transactions.clone().call(request.map(|body| self.reading.meter(body))),
            );
        }
        self.metrics.requested(Method::Other);
        match self.guests.iter().find(|(name, _)| path.starts_with(name)) {
            Some((_, guest)) => Stage::Asked(guest.clone().call(request.map(Body::new))),
            None => {
                let status = status::of(refuse::unimplemented(""), &self.metrics);
                Stage::Refused(Some(Box::new((status, StatusCode::OK))))
            }
        }
    }
}

impl<A: Ask> Clone for Edge<A> {
    fn clone(&self) -> Self {
        Self {
            leases: self.leases.clone(),
            sessions: self.sessions.clone(),
            records: self.records.clone(),
            transactions: self.transactions.clone(),
            track: self.track.clone(),
            guests: self.guests.clone(),
            metrics: self.metrics.clone(),
            calls: self.calls.clone(),
            reading: self.reading.clone(),
        }
    }
}

impl<A: Ask, B> hyper::service::Service<Request<B>> for Edge<A>
where
    B: HttpBody<Data = bytes::Bytes> + Unpin + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<B>) -> Answer {
        self.answer(request)
    }
}

// === impl Answer ===

impl Answer {
    /// The deadline has passed. The first poll that finds nothing starts the clock: a call
    /// that is answered at once needs none.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(budget) = self.budget else { return false };
        self.alarm.get_or_insert_with(|| Box::pin(sleep(budget))).as_mut().poll(cx).is_ready()
    }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = match &mut self.stage {
            Stage::Refused(refused) => {
                let refused = refused.take().expect("a future is not polled after its end");
                let (status, code) = *refused;
                let mut response = status.into_http();
                *response.status_mut() = code;
                return Poll::Ready(Ok(response));
            }
            Stage::Asked(asked) => asked.as_mut().poll(cx),
        };
        match answered {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(with_details(response, &self.metrics))),
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending if self.is_late(cx) => {
                let status = status::of(refuse::deadline_exceeded(), &self.metrics);
                Poll::Ready(Ok(status.into_http()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// Gives a refusal that came without details the ones it should have.
fn with_details(mut response: Response<Body>, metrics: &Metrics) -> Response<Body> {
    let headers = response.headers();
    let Some(code) = headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
    else {
        return response;
    };
    if code == Code::Ok || headers.contains_key(DETAILS) {
        return response;
    }
    let message = Status::from_header_map(headers).map(|status| status.message().to_owned());
    let status = status::of_foreign(code, &message.unwrap_or_default(), metrics);
    replace_status(response.headers_mut(), &status);
    response
}

/// Writes the status over the one that is there and keeps every other header.
fn replace_status(headers: &mut HeaderMap, status: &Status) {
    headers.remove(Status::GRPC_MESSAGE);
    if status.add_header(headers).is_err() {
        // Can't happen, as details are base64 and messages percent-encoded; a bare code is
        // still an answer.
        headers.insert(Status::GRPC_STATUS, HeaderValue::from(Code::Internal as i32));
    }
}

// === impl Calls ===

impl Calls {
    /// From now on every new call is refused with SHUTTING_DOWN.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
    }

    /// Resolves when that has been said.
    pub(crate) async fn closing(&self) {
        loop {
            let mut closing = std::pin::pin!(self.closing.notified());
            // Whoever is enabled hears what is said after the look.
            closing.as_mut().enable();
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            closing.await;
        }
    }

    /// Resolves when no call is being answered.
    pub(crate) async fn none_left(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Counted {
    pub(crate) fn new(calls: &Arc<Calls>, metrics: &Arc<Metrics>) -> Self {
        calls.count.fetch_add(1, Ordering::AcqRel);
        metrics.in_flight.increment(1.0);
        Self { calls: calls.clone(), metrics: metrics.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.in_flight.decrement(1.0);
        if self.calls.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.calls.changed.notify_waiters();
        }
    }
}
