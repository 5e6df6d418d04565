//! A server on free loopback ports with a data folder of its own, clients of it, and what a
//! refusal says. Ends with its test.

use std::{future::Future, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use singletrack::{Client, Transport};
use singletrack_proto::{
    DOMAIN, Reason,
    v1::{
        self, lease_service_client::LeaseServiceClient, record_service_client::RecordServiceClient,
        session_service_client::SessionServiceClient,
        transact_service_client::TransactServiceClient,
    },
};
use singletrack_server::{
    api::Ask,
    clock::Clock,
    config::Config,
    server::{ServeError, Server, StartError},
    start,
    store::memory::Disk,
    telemetry::Metrics,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::pb;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// What clients read of headers and trailers; Python's stops there.
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// A running server.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
    _folder: Option<TempDir>,
}

/// A configuration on free ports with its data in `folder`.
pub(crate) fn config(folder: &Path) -> Config {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        listen: free,
        admin_listen: Some(free),
        data_dir: folder.to_owned(),
        shutdown_grace: Duration::from_secs(5),
        ..Config::default()
    }
}

/// The future's output; fails when it takes too long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("this comes soon")
}

// === impl Rig ===

impl Rig {
    /// A server on a folder of its own.
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut rig = Self::on(folder.path()).await;
        rig._folder = Some(folder);
        rig
    }

    /// A server on this folder.
    pub(crate) async fn on(folder: &Path) -> Self {
        Self::try_with(config(folder)).await.unwrap()
    }

    /// A server with this configuration, or why it can't start.
    pub(crate) async fn try_with(config: Config) -> Result<Self, StartError> {
        Server::bind(config).await.map(Self::serve)
    }

    /// A server on a disk in memory, which fails and stalls when it is told to.
    pub(crate) async fn in_memory(disk: &Disk, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(Path::new("unused"));
        change(&mut config);
        let (metrics, clock) = (Metrics::new(), Clock::start());
        let opened = disk.open(clock.unix_us()).unwrap();
        let running = start::start_with(&config, &metrics, opened, clock).unwrap();
        Self::serve(Server::bind_to(config, running, metrics).await.unwrap())
    }

    /// Serves.
    pub(crate) fn serve<A: Ask>(server: Server<A>) -> Self {
        let (address, admin) = (server.local_addr(), server.admin_addr().unwrap());
        let (shutdown, stop) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(async move {
            let _ = stop.await;
        }));
        Self { address, admin, shutdown: Some(shutdown), served, _folder: None }
    }

    /// Begins a shutdown.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.shutdown.take());
    }

    /// How the server ended.
    pub(crate) async fn end(&mut self) -> Result<(), ServeError> {
        soon(&mut self.served).await.unwrap()
    }

    /// Stops the server, which must go well.
    pub(crate) async fn stop(mut self) {
        self.begin_stop();
        self.end().await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        soon(Channel::from_shared(uri).unwrap().connect()).await.unwrap()
    }

    pub(crate) async fn leases(&self) -> LeaseServiceClient<Channel> {
        LeaseServiceClient::new(self.channel().await)
    }

    pub(crate) async fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel().await)
            .max_decoding_message_size(2 << 20)
            .max_encoding_message_size(2 << 20)
    }

    pub(crate) async fn transactions(&self) -> TransactServiceClient<Channel> {
        TransactServiceClient::new(self.channel().await)
    }

    pub(crate) async fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel().await)
    }

    /// The Rust client, on a connection of its own.
    pub(crate) fn client(&self) -> Client {
        let url = format!("http://{}", self.address);
        Client::builder(url).transport(Transport::Unary).retries(false).build().unwrap()
    }

    /// Resolves when so many wait for the resource.
    pub(crate) async fn until_waiting(&self, resource: &str, waiters: u32) {
        let client = self.client();
        soon(async {
            while client.get(resource).await.unwrap().waiter_count != waiters {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Rig {
    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let mut socket = soon(TcpStream::connect(self.admin)).await.unwrap();
        let host = self.admin;
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        soon(socket.read_to_string(&mut page)).await.unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        page
    }

    /// Resolves when `/metrics` has this line.
    pub(crate) async fn until_page_says(&self, line: &str) {
        soon(async {
            while !self.metrics().await.lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

// === messages ===

/// `holder` asks for `resource`.
pub(crate) fn acquire(resource: &str, holder: &str) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        holder: holder.into(),
        targets: vec![target(resource)],
        ..Default::default()
    }
}

/// A resource, exclusively and exactly.
pub(crate) fn target(resource: &str) -> v1::LeaseTarget {
    v1::LeaseTarget { resource: resource.into(), ..Default::default() }
}

/// A resource and all below it, exclusively.
pub(crate) fn subtree(resource: &str) -> v1::LeaseTarget {
    v1::LeaseTarget { reach: v1::LeaseReach::Subtree.into(), ..target(resource) }
}

/// Some permits of a resource.
pub(crate) fn permits(resource: &str, permits: u32, limit: u32) -> v1::LeaseTarget {
    v1::LeaseTarget { mode: v1::LeaseMode::Permits.into(), permits, limit, ..target(resource) }
}

/// Gives back a grant.
pub(crate) fn release(grant: &v1::AcquireLeaseResponse) -> v1::ReleaseLeaseRequest {
    v1::ReleaseLeaseRequest {
        lease_id: grant.lease_id.clone(),
        token: grant.token,
        ..Default::default()
    }
}

/// A text for a key.
pub(crate) fn put(key: &str, text: &str) -> v1::PutRecordRequest {
    v1::PutRecordRequest { key: key.into(), value: Some(text_value(text)), ..Default::default() }
}

/// A text as a value.
pub(crate) fn text_value(text: &str) -> v1::RecordValue {
    v1::RecordValue { kind: Some(v1::record_value::Kind::Text(text.into())) }
}

/// Bytes as a value.
pub(crate) fn data_value(data: Vec<u8>) -> v1::RecordValue {
    v1::RecordValue { kind: Some(v1::record_value::Kind::Data(data.into())) }
}

/// What a record has to be.
pub(crate) fn expect(expect: v1::record_expectation::Expect) -> Option<v1::RecordExpectation> {
    Some(v1::RecordExpectation { expect: Some(expect) })
}

/// An addition to a counter.
pub(crate) fn increment(key: &str, delta: i64) -> v1::IncrementRecordRequest {
    v1::IncrementRecordRequest { key: key.into(), delta, ..Default::default() }
}

/// A read.
pub(crate) fn get(key: &str) -> v1::GetRecordRequest {
    v1::GetRecordRequest { key: key.into() }
}

/// A part of a transaction.
pub(crate) fn operation(operation: v1::operation::Operation) -> v1::Operation {
    v1::Operation { seq: 0, operation: Some(operation) }
}

/// A condition.
pub(crate) fn fence(resource: &str, token: u64) -> v1::Fence {
    v1::Fence { target: Some(v1::fence::Target::Resource(resource.into())), token }
}

/// The message, in a namespace.
pub(crate) fn within<M>(namespace: &'static str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("singletrack-namespace", namespace.parse().unwrap());
    request
}

/// The call is answered.
pub(crate) async fn ok<M>(call: impl Future<Output = Result<Response<M>, Status>>) -> M {
    soon(call).await.unwrap().into_inner()
}

/// The call is refused by this server.
pub(crate) async fn refused<M>(call: impl Future<Output = Result<Response<M>, Status>>) -> Told {
    match soon(call).await {
        Ok(_) => panic!("the call was answered"),
        Err(status) => Told::by(&status),
    }
}

// === below the stubs ===

/// An HTTP/2 connection for requests that no stub would send.
pub(crate) struct Wire {
    client: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    address: SocketAddr,
}

impl Wire {
    pub(crate) async fn to(rig: &Rig) -> Self {
        let socket = soon(TcpStream::connect(rig.address)).await.unwrap();
        let (client, connection) = soon(h2::client::handshake(socket)).await.unwrap();
        Self { client, connection: tokio::spawn(connection), address: rig.address }
    }

    /// Sends one request and says how it was refused. `timeout` as in `grpc-timeout`.
    pub(crate) async fn refused(
        &mut self,
        path: &str,
        timeout: Option<&str>,
        message: &[u8],
    ) -> Told {
        let headers = soon(self.call(path, timeout, message)).await;
        Told::by(&Status::from_header_map(&headers).expect("there is a status"))
    }

    async fn call(&mut self, path: &str, timeout: Option<&str>, message: &[u8]) -> HeaderMap {
        let mut request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let mut client = self.client.clone().ready().await.unwrap();
        let (response, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
        // The server may have answered and reset the stream before it has read everything.
        let _ = send.send_data(frame(message), true);
        let (head, mut body) = response.await.unwrap().into_parts();
        let mut all = head.headers;
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
        if let Ok(Some(trailers)) = body.trailers().await {
            all.extend(trailers);
        }
        all
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame.into()
}

// === refusals ===

/// Everything a refusal says.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) reason: Reason,
    pub(crate) refusal: v1::Refusal,
    pub(crate) info: pb::ErrorInfo,
    bad_request: Option<pb::BadRequest>,
}

impl Told {
    /// Takes a status apart and checks what holds for every one.
    pub(crate) fn by(status: &Status) -> Self {
        let rich = pb::Status::decode(status.details()).unwrap();
        assert_eq!((rich.code, &*rich.message), (status.code() as i32, status.message()));
        let one = |name: &str| {
            let url = format!("type.googleapis.com/{name}");
            rich.details.iter().find(|any| any.type_url == url).map(|any| any.value.clone())
        };
        let info = one("google.rpc.ErrorInfo").unwrap_or_else(|| panic!("no details: {status:?}"));
        let info = pb::ErrorInfo::decode(&*info).unwrap();
        let refusal = v1::Refusal::decode(&*one("singletrack.v1.Refusal").unwrap()).unwrap();
        let reason = Reason::from_name(&info.reason).unwrap();
        let retry = one("google.rpc.RetryInfo").map(|any| pb::RetryInfo::decode(&*any).unwrap());
        let bad_request =
            one("google.rpc.BadRequest").map(|any| pb::BadRequest::decode(&*any).unwrap());
        let told = Self { reason, refusal, info, bad_request };
        told.check(status);
        told.check_delay(retry);
        told
    }

    fn check(&self, status: &Status) {
        let Self { reason, refusal, info, bad_request } = self;
        assert_eq!(status.code(), reason.code(), "{self:?}");
        assert_eq!(Reason::from_wire(refusal.reason()), Some(*reason));
        assert_eq!(info.domain, DOMAIN);
        assert_eq!(info.metadata["retry"], reason.retry().name());
        assert_eq!(info.metadata["may_have_happened"], reason.may_have_happened().to_string());
        assert_eq!(refusal.message, status.message());
        assert!((1..=512).contains(&refusal.message.len()), "{self:?}");
        assert!((1..=256).contains(&refusal.next_step.len()), "{self:?}");
        assert!(refusal.encoded_len() <= 2_560 && info.encoded_len() <= 1_024, "{self:?}");
        let malformed = matches!(refusal.detail, Some(v1::refusal::Detail::Malformed(_)));
        assert_eq!(bad_request.is_some(), malformed, "{self:?}");
        if let Some(bad_request) = bad_request {
            let said: Vec<_> = bad_request.field_violations.iter().map(|v| &*v.field).collect();
            assert_eq!(said, self.fields());
        }
        // Details as base64, the message with every byte escaped.
        let trailers = status.details().len().div_ceil(3) * 4 + status.message().len() * 3;
        assert!(trailers < TRAILER_BYTES_MAX, "{trailers} bytes: {self:?}");
    }

    fn check_delay(&self, retry: Option<pb::RetryInfo>) {
        let delay = retry.map_or(0, |retry| {
            let delay = retry.retry_delay.unwrap();
            u64::try_from(delay.seconds * 1_000 + i64::from(delay.nanos / 1_000_000)).unwrap()
        });
        assert_eq!(delay, self.refusal.retry_after_ms);
    }

    /// Fails unless this is the reason.
    pub(crate) fn is(self, reason: Reason) -> Self {
        assert_eq!(self.reason, reason, "{self:?}");
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.reason.code()
    }

    /// Paths of the fields that are not legal.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let Some(v1::refusal::Detail::Malformed(malformed)) = &self.refusal.detail else {
            panic!("no fields in {self:?}")
        };
        malformed.violations.iter().map(|violation| &*violation.field).collect()
    }
}
