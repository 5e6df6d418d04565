//! How a server starts, tells its health, drains and ends.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use singletrack_proto::{Reason, v1};
use singletrack_server::{
    config::Config,
    server::{ServeError, Server, StartError},
    store::StoreError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{Rig, Told, Turn, acquire, config};

/// Far more than any of this takes, and less than any time box that must not be hit.
const SOON: Duration = Duration::from_secs(3);

async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn health_is_told_for_the_server_and_each_service() {
    let rig = Rig::start(|_| Turn::Park).await;
    let mut health = HealthClient::new(rig.channel().await);
    for service in ["", "singletrack.v1.LeaseService", "singletrack.v1.SessionService"] {
        let request = HealthCheckRequest { service: service.into() };
        let reply = health.check(request).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "nobody".into() };
    assert_eq!(Told::by(&health.check(request).await.unwrap_err()).reason, Reason::NotFound);
}

#[tokio::test]
async fn reflection_knows_our_services_and_the_types_of_details() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let rig = Rig::start(|_| Turn::Park).await;
    let mut reflection = ServerReflectionClient::new(rig.channel().await);
    for symbol in [
        "singletrack.v1.LeaseService",
        "singletrack.v1.Refusal",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "grpc.health.v1.Health",
    ] {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.into())),
        };
        let replies = reflection.server_reflection_info(tokio_stream::once(request)).await;
        let reply = replies.unwrap().into_inner().message().await.unwrap().unwrap();
        assert!(
            matches!(reply.message_response, Some(MessageResponse::FileDescriptorResponse(_))),
            "{symbol}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let config = Config { reflection: false, ..config() };
    let rig = Rig::start_with(config, true, |_| Turn::Park).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let headers = [("content-type", "application/grpc")];
    let (_, headers) = crate::harness::raw(rig.address, path, &headers, bytes::Bytes::new()).await;
    assert_eq!(Told::in_headers(&headers).reason, Reason::Unimplemented);
}

#[tokio::test]
async fn the_admin_pages_tell_life_readiness_and_metrics() {
    let rig = Rig::start(|_| Turn::Park).await;
    let admin = rig.admin.unwrap();
    assert_eq!(page(admin, "/livez").await.0, 200);
    assert_eq!(page(admin, "/readyz").await.0, 200);
    let (status, text) = page(admin, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("singletrack_connections"), "{text}");
    let (status, text) = page(admin, "/else").await;
    assert_eq!(status, 404);
    assert!(text.contains("/livez, /readyz and /metrics"), "{text}");
    rig.alive.store(false, Ordering::Release);
    assert_eq!(page(admin, "/livez").await.0, 503);
    assert_eq!(page(admin, "/readyz").await.0, 503);
}

#[tokio::test]
async fn a_taken_admin_address_is_no_reason_not_to_start() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { admin_listen: Some(taken.local_addr().unwrap()), ..config() };
    let rig = Rig::start_with(config, true, |_| Turn::Park).await;
    assert_eq!(rig.admin, None);
    rig.sessions().await.ping(v1::PingRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::bind(Config { listen: address, ..config() }).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_shutdown_answers_parked_calls_and_ends_soon() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    let mut leases = rig.leases().await;
    let call = tokio::spawn(async move { leases.acquire_lease(acquire()).await });
    rig.asked.recv().await.unwrap();
    rig.stop();
    rig.end(SOON).await.unwrap();
    let told = Told::by(&call.await.unwrap().unwrap_err());
    assert_eq!(told.reason, Reason::ShuttingDown);
    assert!(rig.closed.load(Ordering::Acquire));
    assert!(TcpStream::connect(rig.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_shutdown_tells_those_who_watch_health_and_does_not_wait_for_them() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    let mut health = HealthClient::new(rig.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    rig.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    rig.end(SOON).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_connections_that_never_began() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    let _silent = TcpStream::connect(rig.address).await.unwrap();
    let mut half = TcpStream::connect(rig.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    rig.sessions().await.ping(v1::PingRequest::default()).await.unwrap();
    rig.stop();
    rig.end(SOON).await.unwrap();
}

#[tokio::test]
async fn a_call_that_never_ends_is_dropped_when_the_grace_ends() {
    let config = Config { shutdown_grace: Duration::from_millis(100), ..config() };
    let mut rig = Rig::start_with(config, false, |_| Turn::Park).await;
    let mut leases = rig.leases().await;
    let call = tokio::spawn(async move { leases.acquire_lease(acquire()).await });
    rig.asked.recv().await.unwrap();
    rig.stop();
    rig.end(SOON).await.unwrap();
    rig.detached.recv().await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn a_failed_store_ends_the_server_within_a_second() {
    let mut rig = Rig::start_with(config(), false, |_| Turn::Park).await;
    rig.clings.store(true, Ordering::Release);
    let mut leases = rig.leases().await;
    let _call = tokio::spawn(async move { leases.acquire_lease(acquire()).await });
    rig.asked.recv().await.unwrap();
    let before = Instant::now();
    let error = StoreError::OutcomeUnknown("the disk is gone".into());
    rig.fatal.take().unwrap().send(error).unwrap();
    let ended = rig.end(SOON).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert!(matches!(ended, Err(ServeError::Store(_))), "{ended:?}");
    assert!(!rig.closed.load(Ordering::Acquire), "a failed store is left as it is");
}

#[tokio::test]
async fn a_track_that_vanishes_ends_the_server() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    drop(rig.fatal.take());
    assert!(matches!(rig.end(SOON).await, Err(ServeError::Track)));
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_at_once() {
    let config = Config { max_connections: 1, ..config() };
    let rig = Rig::start_with(config, true, |_| Turn::Park).await;
    let mut first = rig.sessions().await;
    first.ping(v1::PingRequest::default()).await.unwrap();
    let mut second = TcpStream::connect(rig.address).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, second.read_to_end(&mut bytes)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    first.ping(v1::PingRequest::default()).await.unwrap();
    assert!(rig.metrics.render().contains("singletrack_connections_refused_total 1"));
}

#[tokio::test]
async fn whoever_speaks_http1_to_the_grpc_port_is_told_what_it_is() {
    let rig = Rig::start(|_| Turn::Park).await;
    let (status, body) = page(rig.address, "/").await;
    assert_eq!(status, 505);
    assert!(body.contains("gRPC over HTTP/2"), "{body}");
}

#[tokio::test]
async fn a_preface_that_comes_in_pieces_is_a_preface() {
    let rig = Rig::start(|_| Turn::Park).await;
    let mut socket = TcpStream::connect(rig.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    for piece in ["PRI * HTTP/2.0", "\r\n\r\nSM\r\n\r\n"] {
        socket.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let settings = settings(&mut socket).await;
    assert!(!settings.is_empty());
}

#[tokio::test]
async fn the_server_states_its_limits_first() {
    let rig = Rig::start(|_| Turn::Park).await;
    let mut socket = TcpStream::connect(rig.address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let settings = settings(&mut socket).await;
    let value = |wanted| settings.iter().find(|(id, _)| *id == wanted).map(|(_, value)| *value);
    assert_eq!(value(3), Some(1_024), "calls at a time: {settings:?}");
    assert_eq!(value(4), Some(1 << 20), "window of a stream: {settings:?}");
    assert_eq!(value(6), Some(16 << 10), "bytes of headers: {settings:?}");
}

/// Sends a SETTINGS frame of nothing, and reads the server's.
async fn settings(socket: &mut TcpStream) -> Vec<(u16, u32)> {
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut head = [0; 9];
    tokio::time::timeout(SOON, socket.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS: {head:?}");
    let mut payload = vec![0; usize::from(head[2])];
    socket.read_exact(&mut payload).await.unwrap();
    let pair = |six: &[u8]| {
        let id = u16::from_be_bytes(six[..2].try_into().unwrap());
        (id, u32::from_be_bytes(six[2..].try_into().unwrap()))
    };
    payload.chunks_exact(6).map(pair).collect()
}
