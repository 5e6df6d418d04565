//! A courier on loopback between client and server, who reads what is carried: calls and frames are
//! lost, handed over twice, or repeated long after their answer; answers are lost after the server
//! has acted. Never does it break the order of a stream, as no connection does.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use singletrack_proto::v1::{
    self, lease_service_client::LeaseServiceClient, lease_service_server::LeaseService,
    operation_reply::Reply, session_service_client::SessionServiceClient,
    session_service_server::SessionService,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, server::TcpIncoming},
};

use crate::random::Random;

/// What becomes of one call or frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// It arrives, and so does what is answered.
    Fair,
    /// It never arrives; the connection breaks.
    Lost,
    /// It arrives, and then the connection breaks.
    Unheard,
    /// It arrives twice. Of a call the second answer is handed back.
    Twice,
    /// It arrives once more, long after it was answered.
    Late,
}

/// What becomes of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// They are carried, frame by frame, each with a fate of its own.
    Carried,
    /// The method is unknown here.
    Unknown,
    /// Each breaks before anything is answered on it.
    BreakAtOnce,
    /// Each breaks after it was welcomed.
    BreakWelcomed,
    /// Each breaks at this place: the number of a frame of one direction, before or after it.
    BreakAt(Place),
}

/// A boundary of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) to_server: bool,
    pub(crate) frame: usize,
    pub(crate) after: bool,
}

/// A courier at work. It ends with the runtime.
#[derive(Clone)]
pub(crate) struct Courier {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    leases: LeaseServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
    random: Mutex<Random>,
    /// Of a hundred calls and frames, those that meet no fair fate.
    foul: AtomicUsize,
    streams: Mutex<Streams>,
    met: Mutex<HashMap<Fate, usize>>,
    opened: AtomicUsize,
    /// Calls that are repeated although they were answered.
    repeating: Mutex<JoinSet<()>>,
}

// === impl Courier ===

impl Courier {
    pub(crate) async fn to(server: Channel, foul: usize, streams: Streams, random: Random) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            leases: LeaseServiceClient::new(server.clone()),
            sessions: SessionServiceClient::new(server),
            random: Mutex::new(random),
            foul: AtomicUsize::new(foul),
            streams: Mutex::new(streams),
            met: Mutex::default(),
            opened: AtomicUsize::new(0),
            repeating: Mutex::default(),
        };
        let courier = Self { address, shared: Arc::new(shared) };
        let server = tonic::transport::Server::builder()
            .add_service(v1::lease_service_server::LeaseServiceServer::new(courier.clone()))
            .add_service(v1::session_service_server::SessionServiceServer::new(courier.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        courier
    }

    /// From now on streams fare so.
    pub(crate) fn streams(&self, streams: Streams) {
        *self.shared.streams.lock().unwrap() = streams;
    }

    /// How many streams were asked for.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// How often a fate was met.
    pub(crate) fn met(&self, fate: Fate) -> usize {
        self.shared.met.lock().unwrap().get(&fate).copied().unwrap_or_default()
    }

    /// All is fair from now on; resolves when nothing is left to be repeated.
    pub(crate) async fn settle(&self) {
        self.shared.foul.store(0, Ordering::SeqCst);
        let mut repeating = std::mem::take(&mut *self.shared.repeating.lock().unwrap());
        while let Some(repeated) = repeating.join_next().await {
            repeated.unwrap();
        }
    }

    fn fate(&self, fates: &[Fate]) -> Fate {
        let mut random = self.shared.random.lock().unwrap();
        let foul = self.shared.foul.load(Ordering::SeqCst) as u64;
        let fate = if random.percent(foul) {
            let at = usize::try_from(random.within(0..fates.len() as u64)).unwrap();
            fates[at]
        } else {
            Fate::Fair
        };
        *self.shared.met.lock().unwrap().entry(fate).or_default() += 1;
        fate
    }

    /// Repeats a call once the caller has gone on.
    fn repeat(&self, call: impl Future<Output = ()> + Send + 'static) {
        self.shared.repeating.lock().unwrap().spawn(async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            call.await;
        });
    }
}

fn broken() -> Status {
    Status::unavailable("the courier lost it")
}

/// A unary call, asked of the server as often as its fate has it. The whole `impl`, as the attribute
/// must see the methods.
macro_rules! carried {
    ($service:ident by $stub:ident $(($stream:ident))?: $($method:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl $service for Courier {
            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                let mut stub = self.shared.$stub.clone();
                let (metadata, _, message) = request.into_parts();
                let ask = move |message| {
                    let mut request = Request::new(message);
                    for key in ["grpc-timeout", "singletrack-namespace"] {
                        if let Some(value) = metadata.get(key) {
                            request.metadata_mut().insert(key, value.clone());
                        }
                    }
                    request
                };
                match self.fate(&[Fate::Lost, Fate::Unheard, Fate::Twice, Fate::Late]) {
                    Fate::Lost => Err(broken()),
                    Fate::Fair => stub.$method(ask(message)).await,
                    Fate::Unheard => {
                        let _unheard = stub.$method(ask(message)).await;
                        Err(broken())
                    }
                    Fate::Twice => {
                        // Only effects are remembered: what was refused may be granted later.
                        stub.$method(ask(message.clone())).await?;
                        stub.$method(ask(message)).await
                    }
                    Fate::Late => {
                        let answer = stub.$method(ask(message.clone())).await?;
                        self.repeat(async move {
                            let _unheard = stub.$method(ask(message)).await;
                        });
                        Ok(answer)
                    }
                }
            })*
            $(type ExchangeStream = $stream;

            async fn exchange(
                &self,
                request: Request<Streaming<v1::ExchangeRequest>>,
            ) -> Result<Response<Self::ExchangeStream>, Status> {
                self.carry_stream(request).await
            })?
        }
    };
}

carried! { LeaseService by leases:
    acquire_lease(AcquireLeaseRequest) -> AcquireLeaseResponse;
    abandon_lease(AbandonLeaseRequest) -> AbandonLeaseResponse;
    renew_leases(RenewLeasesRequest) -> RenewLeasesResponse;
    release_lease(ReleaseLeaseRequest) -> ReleaseLeaseResponse;
    get_lease(GetLeaseRequest) -> GetLeaseResponse;
    list_leases(ListLeasesRequest) -> ListLeasesResponse;
    check_lease(CheckLeaseRequest) -> CheckLeaseResponse;
    force_release_lease(ForceReleaseLeaseRequest) -> ForceReleaseLeaseResponse;
    transfer_lease(TransferLeaseRequest) -> TransferLeaseResponse;
    request_lease_yield(RequestLeaseYieldRequest) -> RequestLeaseYieldResponse;
    answer_lease_yield(AnswerLeaseYieldRequest) -> AnswerLeaseYieldResponse;
    list_lease_waiters(ListLeaseWaitersRequest) -> ListLeaseWaitersResponse;
    get_lease_stats(GetLeaseStatsRequest) -> GetLeaseStatsResponse;
}

type Answers = ReceiverStream<Result<v1::ExchangeResponse, Status>>;

carried! { SessionService by sessions (Answers):
    ping(PingRequest) -> PingResponse;
    open_session(OpenSessionRequest) -> OpenSessionResponse;
    keep_session_alive(KeepSessionAliveRequest) -> KeepSessionAliveResponse;
    close_session(CloseSessionRequest) -> CloseSessionResponse;
    list_session_leases(ListSessionLeasesRequest) -> ListSessionLeasesResponse;
}

// === streams ===

/// The stream breaks here.
struct Cut;

/// One stream that is carried.
struct Carried {
    courier: Courier,
    streams: Streams,
    to_server: mpsc::Sender<v1::ExchangeRequest>,
    to_client: mpsc::Sender<Result<v1::ExchangeResponse, Status>>,
    frames_up: usize,
    frames_down: usize,
    session: String,
    /// Operations that were not answered yet.
    asked: HashMap<u64, v1::Operation>,
    /// Those that were, and are to be repeated.
    late: Vec<v1::Operation>,
}

impl Courier {
    async fn carry_stream(
        &self,
        request: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Answers>, Status> {
        self.shared.opened.fetch_add(1, Ordering::SeqCst);
        let streams = *self.shared.streams.lock().unwrap();
        match streams {
            Streams::Unknown => return Err(Status::unimplemented("the courier has no streams")),
            Streams::BreakAtOnce => return Err(broken()),
            Streams::Carried | Streams::BreakWelcomed | Streams::BreakAt(_) => {}
        }
        let mut from_client = request.into_inner();
        let (to_server, frames) = mpsc::channel(64);
        let (to_client, answers) = mpsc::channel(64);
        let mut stub = self.shared.sessions.clone();
        let opening = stub.exchange(ReceiverStream::new(frames)).await?;
        let mut from_server = opening.into_inner();
        let mut carried = Carried {
            courier: self.clone(),
            streams,
            to_server,
            to_client,
            frames_up: 0,
            frames_down: 0,
            session: String::new(),
            asked: HashMap::new(),
            late: Vec::new(),
        };
        tokio::spawn(async move {
            loop {
                let went = tokio::select! {
                    frame = from_client.message() => match frame {
                        Ok(Some(frame)) => carried.up(frame).await,
                        Ok(None) | Err(_) => return,
                    },
                    frame = from_server.message() => match frame {
                        Ok(Some(frame)) => carried.down(frame).await,
                        Ok(None) => return,
                        Err(status) => {
                            let _gone = carried.to_client.send(Err(status)).await;
                            return;
                        }
                    },
                };
                if let Err(Cut) = went {
                    let _gone = carried.to_client.send(Err(broken())).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl Carried {
    fn cut_at(&self, to_server: bool, frame: usize, after: bool) -> Result<(), Cut> {
        let here = Streams::BreakAt(Place { to_server, frame, after });
        let welcomed = self.streams == Streams::BreakWelcomed && to_server && frame == 1;
        if self.streams == here || welcomed { Err(Cut) } else { Ok(()) }
    }

    async fn up(&mut self, mut frame: v1::ExchangeRequest) -> Result<(), Cut> {
        let number = self.frames_up;
        self.frames_up += 1;
        self.cut_at(true, number, false)?;
        let fate = self.courier.fate(&[Fate::Lost, Fate::Unheard]);
        if fate == Fate::Lost {
            return Err(Cut);
        }
        for operation in &frame.operations {
            self.asked.insert(operation.seq, operation.clone());
        }
        frame.operations.append(&mut self.late);
        self.to_server.send(frame).await.map_err(|_| Cut)?;
        self.cut_at(true, number, true)?;
        if fate == Fate::Unheard { Err(Cut) } else { Ok(()) }
    }

    async fn down(&mut self, frame: v1::ExchangeResponse) -> Result<(), Cut> {
        let number = self.frames_down;
        self.frames_down += 1;
        self.cut_at(false, number, false)?;
        if let Some(welcome) = &frame.welcome {
            self.session.clone_from(&welcome.session_id);
        }
        let fate = self.courier.fate(&[Fate::Lost, Fate::Unheard, Fate::Twice, Fate::Late]);
        if fate == Fate::Lost {
            return Err(Cut);
        }
        self.answered(&frame, fate);
        if fate == Fate::Twice && frame.welcome.is_none() {
            self.to_client.send(Ok(frame.clone())).await.map_err(|_| Cut)?;
        }
        self.to_client.send(Ok(frame)).await.map_err(|_| Cut)?;
        self.cut_at(false, number, true)?;
        if fate == Fate::Unheard { Err(Cut) } else { Ok(()) }
    }

    /// What is answered may come once more: on this stream with the next frame, or as a unary call.
    fn answered(&mut self, frame: &v1::ExchangeResponse, fate: Fate) {
        for reply in &frame.replies {
            let Some(operation) = self.asked.remove(&reply.seq) else { continue };
            let had_effect = !matches!(&reply.reply, Some(Reply::Refusal(_)) | None);
            match fate {
                Fate::Twice if had_effect => self.late.push(operation),
                Fate::Late if had_effect => self.repeat_by_unary(operation),
                Fate::Fair | Fate::Lost | Fate::Unheard | Fate::Twice | Fate::Late => {}
            }
        }
    }

    fn repeat_by_unary(&self, operation: v1::Operation) {
        let id = format!("{}/{}", self.session, operation.seq);
        let mut stub = self.courier.shared.leases.clone();
        match operation.operation {
            Some(v1::operation::Operation::AcquireLease(mut acquire)) => {
                if acquire.request_id.is_empty() {
                    acquire.request_id = id;
                }
                if acquire.ttl_ms.is_none() {
                    acquire.session_id.clone_from(&self.session);
                }
                self.courier.repeat(async move {
                    let _unheard = stub.acquire_lease(acquire).await;
                });
            }
            Some(v1::operation::Operation::ReleaseLease(mut release)) => {
                release.request_id = id;
                self.courier.repeat(async move {
                    let _unheard = stub.release_lease(release).await;
                });
            }
            // Nothing else here has an effect that is remembered.
            Some(_) | None => {}
        }
    }
}
