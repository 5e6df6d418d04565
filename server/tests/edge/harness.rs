//! A server on a free loopback port whose track answers what a test says, and clients for it.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use singletrack_core::{
    command::Command,
    refusal::Refusal,
    reply::{Notice, Reply},
    types::Namespace,
};
use singletrack_proto::{
    Reason,
    v1::{
        self, lease_service_client::LeaseServiceClient,
        session_service_client::SessionServiceClient,
    },
};
use singletrack_server::{
    api::{Ask, Converse},
    config::Config,
    server::{Running, ServeError, Server},
    store::StoreError,
    telemetry::Metrics,
    track::{CallError, Heard, Question},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::pb;

/// What the double does with a question.
pub(crate) enum Turn {
    /// Answers at once.
    Say(Result<Reply, CallError>),
    /// Never answers, until the track drains.
    Park,
}

/// A track that answers what the test says.
#[derive(Clone)]
pub(crate) struct Double {
    script: Arc<dyn Fn(&Question) -> Turn + Send + Sync>,
    asked: mpsc::Sender<Question>,
    detached: mpsc::Sender<()>,
    draining: tokio::sync::watch::Receiver<bool>,
    /// What lines were told, and the way to tell the newest one something.
    spoken: Arc<Mutex<Vec<Spoken>>>,
    notify: Arc<Mutex<Option<mpsc::Sender<Notice>>>>,
}

/// Tells when a call is dropped unanswered.
struct Attached(Option<mpsc::Sender<()>>);

impl Attached {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(detached) = self.0.take() {
            let _ = detached.try_send(());
        }
    }
}

/// A line of the double: what is submitted is scripted like any question.
pub(crate) struct DoubleLine {
    track: Double,
    heard: VecDeque<Heard>,
    parked: BTreeSet<u64>,
    stream: Arc<Mutex<Vec<Spoken>>>,
    notices: mpsc::Receiver<Notice>,
}

/// What a line was told beside questions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spoken {
    Told(Command),
    Cancelled(Vec<u64>),
    Dropped,
}

impl Converse for DoubleLine {
    fn submit(&mut self, questions: Vec<(u64, Question)>) -> Vec<(u64, CallError)> {
        let mut refused = Vec::new();
        for (tag, question) in questions {
            let turn = (self.track.script)(&question);
            let _ = self.track.asked.try_send(question);
            match turn {
                Turn::Say(Err(error @ CallError::Overloaded { .. })) => refused.push((tag, error)),
                Turn::Say(result) => self.heard.push_back(Heard::Answer(tag, result)),
                Turn::Park => {
                    self.parked.insert(tag);
                }
            }
        }
        refused
    }

    fn tell(&mut self, question: Question) {
        self.stream.lock().unwrap().push(Spoken::Told(question.command));
    }

    fn cancel(&mut self, _: &Namespace, tags: &[u64]) {
        self.stream.lock().unwrap().push(Spoken::Cancelled(tags.to_vec()));
        for tag in tags {
            if self.parked.remove(tag) {
                let cancelled = Err(CallError::Refused(Refusal::CancelledWait));
                self.heard.push_back(Heard::Answer(*tag, cancelled));
            }
        }
    }

    async fn hear(&mut self) -> Vec<Heard> {
        if !self.heard.is_empty() {
            return self.heard.drain(..).collect();
        }
        tokio::select! {
            Some(notice) = self.notices.recv() => vec![Heard::Notice(notice)],
            () = drained(&mut self.track.draining), if !self.parked.is_empty() => {
                let parked = std::mem::take(&mut self.parked).into_iter();
                parked.map(|tag| Heard::Answer(tag, Err(CallError::ShuttingDown))).collect()
            }
            else => std::future::pending().await,
        }
    }

    fn under_way(&self) -> usize {
        self.parked.len() + self.heard.len()
    }
}

async fn drained(draining: &mut tokio::sync::watch::Receiver<bool>) {
    drop(draining.wait_for(|draining| *draining).await);
}

impl Drop for DoubleLine {
    fn drop(&mut self) {
        self.stream.lock().unwrap().push(Spoken::Dropped);
    }
}

impl Ask for Double {
    type Line = DoubleLine;

    fn line(&self) -> DoubleLine {
        let (tell, notices) = mpsc::channel(16);
        *self.notify.lock().unwrap() = Some(tell);
        DoubleLine {
            track: self.clone(),
            heard: VecDeque::new(),
            parked: BTreeSet::new(),
            stream: self.spoken.clone(),
            notices,
        }
    }

    fn ask(&self, question: Question) -> impl Future<Output = Result<Reply, CallError>> + Send {
        let turn = (self.script)(&question);
        let _ = self.asked.try_send(question);
        let attached = Attached(Some(self.detached.clone()));
        let mut draining = self.draining.clone();
        async move {
            let answer = match turn {
                Turn::Say(answer) => answer,
                Turn::Park => {
                    drop(draining.wait_for(|draining| *draining).await);
                    Err(CallError::ShuttingDown)
                }
            };
            attached.answered();
            answer
        }
    }
}

/// A track whose threads hang in the disk, if the test says so: letting go of it takes long.
struct Clinging(Arc<AtomicBool>);

impl Drop for Clinging {
    fn drop(&mut self) {
        if self.0.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1_500));
        }
    }
}

/// A running server, and everything a test holds of it.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) asked: mpsc::Receiver<Question>,
    pub(crate) detached: mpsc::Receiver<()>,
    pub(crate) alive: Arc<AtomicBool>,
    /// The track's threads hang in the disk.
    pub(crate) clings: Arc<AtomicBool>,
    pub(crate) closed: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fatal: Option<oneshot::Sender<StoreError>>,
    pub(crate) spoken: Arc<Mutex<Vec<Spoken>>>,
    pub(crate) notify: Arc<Mutex<Option<mpsc::Sender<Notice>>>>,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
}

/// A configuration on free ports.
pub(crate) fn config() -> Config {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        listen: free,
        admin_listen: Some(free),
        shutdown_grace: Duration::from_secs(5),
        ..Config::default()
    }
}

impl Rig {
    pub(crate) async fn start(script: impl Fn(&Question) -> Turn + Send + Sync + 'static) -> Self {
        Self::start_with(config(), true, script).await
    }

    /// As `start`; a track that doesn't obey leaves parked calls parked while it drains.
    pub(crate) async fn start_with(
        config: Config,
        obeys: bool,
        script: impl Fn(&Question) -> Turn + Send + Sync + 'static,
    ) -> Self {
        let (asked_in, asked) = mpsc::channel(1_024);
        let (detached_in, detached) = mpsc::channel(1_024);
        let (drain, draining) = tokio::sync::watch::channel(false);
        let (fatal_in, fatal) = oneshot::channel();
        let (shutdown, stop) = oneshot::channel::<()>();
        let alive = Arc::new(AtomicBool::new(true));
        let clings = Arc::new(AtomicBool::new(false));
        let closed = Arc::new(AtomicBool::new(false));
        let metrics = Metrics::new();
        let (spoken, notify) = (Arc::default(), Arc::default());
        let running = Running {
            track: Double {
                script: Arc::new(script),
                asked: asked_in,
                detached: detached_in,
                draining,
                spoken: Arc::clone(&spoken),
                notify: Arc::clone(&notify),
            },
            fatal,
            alive: {
                let alive = alive.clone();
                Arc::new(move || alive.load(Ordering::Acquire))
            },
            drain: Box::new(move || {
                if obeys {
                    drain.send_replace(true);
                } else {
                    std::mem::forget(drain);
                }
            }),
            close: {
                let closed = closed.clone();
                let track = Clinging(clings.clone());
                Box::new(move || {
                    std::mem::forget(track);
                    closed.store(true, Ordering::Release);
                })
            },
        };
        let server = Server::bind_to(config, running, metrics.clone()).await.unwrap();
        let (address, admin) = (server.local_addr(), server.admin_addr());
        let served = tokio::spawn(server.serve(async move {
            let _ = stop.await;
        }));
        Self {
            address,
            admin,
            asked,
            detached,
            alive,
            clings,
            closed,
            metrics,
            fatal: Some(fatal_in),
            spoken,
            notify,
            shutdown: Some(shutdown),
            served,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn leases(&self) -> LeaseServiceClient<Channel> {
        LeaseServiceClient::new(self.channel().await)
    }

    pub(crate) async fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel().await)
    }

    /// Begins a shutdown; `end` waits for it.
    pub(crate) fn stop(&mut self) {
        let _ = self.shutdown.take().expect("stopped once").send(());
    }

    /// How the server ended; fails after `within`.
    pub(crate) async fn end(&mut self, within: Duration) -> Result<(), ServeError> {
        tokio::time::timeout(within, &mut self.served).await.expect("the server ends").unwrap()
    }
}

/// A legal acquire.
pub(crate) fn acquire() -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        holder: "agent".into(),
        targets: vec![v1::LeaseTarget { resource: "a/b".into(), ..Default::default() }],
        ..Default::default()
    }
}

/// A call with raw bytes: the status line and all headers and trailers together.
pub(crate) async fn raw(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"));
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // The server may have answered and reset the stream before it has read everything.
    let _ = send.send_data(body, true);
    let response = response.await.unwrap();
    let status = response.status();
    let (head, mut body) = response.into_parts();
    let mut all = head.headers;
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    if let Ok(Some(trailers)) = body.trailers().await {
        all.extend(trailers);
    }
    connection.abort();
    (status, all)
}

/// One gRPC frame.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut frame = vec![flag];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// Everything a refusal says.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Code,
    pub(crate) reason: Reason,
    pub(crate) refusal: v1::Refusal,
    pub(crate) info: pb::ErrorInfo,
    pub(crate) retry: Option<pb::RetryInfo>,
    pub(crate) bad_request: Option<pb::BadRequest>,
}

impl Told {
    /// Takes a status apart, and checks what holds for every one.
    pub(crate) fn by(status: &Status) -> Self {
        let rich = pb::Status::decode(status.details()).unwrap();
        assert_eq!(rich.code, status.code() as i32, "{status:?}");
        assert_eq!(rich.message, status.message());
        let one = |name: &str| {
            let url = format!("type.googleapis.com/{name}");
            rich.details.iter().find(|any| any.type_url == url).map(|any| any.value.clone())
        };
        let info = pb::ErrorInfo::decode(&*one("google.rpc.ErrorInfo").unwrap()).unwrap();
        let refusal = v1::Refusal::decode(&*one("singletrack.v1.Refusal").unwrap()).unwrap();
        let reason = Reason::from_name(&info.reason).unwrap();
        assert_eq!(Some(reason), Reason::from_wire(refusal.reason()));
        assert_eq!(info.domain, singletrack_proto::DOMAIN);
        assert_eq!(info.metadata["retry"], reason.retry().name());
        assert_eq!(info.metadata["may_have_happened"], reason.may_have_happened().to_string());
        assert_eq!(status.code(), reason.code());
        assert_eq!(refusal.message, status.message());
        assert!(!refusal.message.is_empty() && refusal.message.len() <= 512, "{refusal:?}");
        assert!(!refusal.next_step.is_empty() && refusal.next_step.len() <= 256, "{refusal:?}");
        assert!(refusal.encoded_len() <= 2_560 && info.encoded_len() <= 1_024);
        let retry = one("google.rpc.RetryInfo").map(|any| pb::RetryInfo::decode(&*any).unwrap());
        assert_eq!(retry.is_some(), refusal.retry_after_ms > 0);
        let bad_request =
            one("google.rpc.BadRequest").map(|any| pb::BadRequest::decode(&*any).unwrap());
        Self { code: status.code(), reason, refusal, info, retry, bad_request }
    }

    /// As `by`, of headers and trailers.
    pub(crate) fn in_headers(headers: &HeaderMap) -> Self {
        Self::by(&Status::from_header_map(headers).expect("there is a status"))
    }

    /// Paths of the fields that are not legal.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let Some(v1::refusal::Detail::Malformed(malformed)) = &self.refusal.detail else {
            panic!("no fields in {self:?}")
        };
        malformed.violations.iter().map(|violation| violation.field.as_str()).collect()
    }
}

/// The reason in a status's details.
pub(crate) fn reason(status: &Status) -> String {
    let details = pb::Status::decode(status.details()).unwrap();
    let info = details.details.iter().find(|any| any.type_url.ends_with("ErrorInfo")).unwrap();
    pb::ErrorInfo::decode(info.value.as_slice()).unwrap().reason
}

/// Sends raw bytes on a stream of a session, ends it, and tells what came back.
pub(crate) async fn exchange_raw(rig: &Rig, body: Bytes) -> Vec<v1::ExchangeResponse> {
    use bytes::Buf as _;
    use http_body_util::BodyExt as _;

    let connection = TcpStream::connect(rig.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(connection);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request =
        Request::post(format!("http://{}/singletrack.v1.SessionService/Exchange", rig.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(http_body_util::Full::new(body))
            .unwrap();
    let response = send.send_request(request).await.unwrap();
    let mut bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut frames = Vec::new();
    while bytes.has_remaining() {
        assert_eq!(bytes.get_u8(), 0, "nothing is compressed");
        let length = bytes.get_u32() as usize;
        frames.push(v1::ExchangeResponse::decode(bytes.split_to(length)).unwrap());
    }
    frames
}
