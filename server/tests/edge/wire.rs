//! What is no legal call at all is refused like everything else: with a reason and details.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use prost::Message;
use singletrack_proto::{Reason, v1};
use tonic::{Code, Request};

use crate::harness::{Rig, Told, Turn, acquire, frame, raw};

const ACQUIRE: &str = "/singletrack.v1.LeaseService/AcquireLease";
const GRPC: (&str, &str) = ("content-type", "application/grpc");

async fn quiet() -> Rig {
    Rig::start(|_| panic!("nobody asks the track")).await
}

async fn told(rig: &Rig, headers: &[(&str, &str)], body: Bytes) -> Told {
    let (status, headers) = raw(rig.address, ACQUIRE, headers, body).await;
    assert_eq!(status, StatusCode::OK);
    Told::in_headers(&headers)
}

#[tokio::test]
async fn a_truncated_message_is_malformed_and_names_the_field_that_is_cut() {
    let rig = quiet().await;
    let mut bytes = acquire().encode_to_vec();
    bytes.pop();
    let told = told(&rig, &[GRPC], frame(0, &bytes)).await;
    assert_eq!((told.reason, told.fields()), (Reason::Malformed, vec!["targets"]));
}

#[tokio::test]
async fn a_truncated_frame_is_malformed() {
    let rig = quiet().await;
    let whole = frame(0, &acquire().encode_to_vec());
    let told = told(&rig, &[GRPC], whole.slice(..whole.len() - 1)).await;
    assert_eq!(told.reason, Reason::Malformed);
}

#[tokio::test]
async fn a_missing_message_is_malformed() {
    assert_eq!(told(&quiet().await, &[GRPC], Bytes::new()).await.reason, Reason::Malformed);
}

#[tokio::test]
async fn bad_utf8_is_malformed_and_names_the_field() {
    let rig = quiet().await;
    // Field 2, a text of two bytes that are none.
    let told = told(&rig, &[GRPC], frame(0, &[0x12, 0x02, 0xff, 0xfe])).await;
    assert_eq!((told.reason, told.fields()), (Reason::Malformed, vec!["holder"]));
}

#[tokio::test]
async fn a_message_above_two_mebibytes_is_too_large() {
    let rig = quiet().await;
    let told = told(&rig, &[GRPC], frame(0, &vec![0; 3 << 20])).await;
    assert_eq!((told.reason, told.fields()), (Reason::TooLarge, vec![""]));
    let begin = "a message may have at most 2097152 bytes";
    assert!(told.refusal.message.starts_with(begin), "{}", told.refusal.message);
}

#[tokio::test]
async fn a_compression_flag_that_means_nothing_is_malformed() {
    let rig = quiet().await;
    for flag in [1, 2, 255] {
        let told = told(&rig, &[GRPC], frame(flag, &acquire().encode_to_vec())).await;
        assert_eq!(told.reason, Reason::Malformed, "{flag}");
    }
}

#[tokio::test]
async fn an_unknown_compression_is_unimplemented() {
    let rig = quiet().await;
    let headers = [GRPC, ("grpc-encoding", "gzip")];
    let told = told(&rig, &headers, frame(1, &acquire().encode_to_vec())).await;
    assert_eq!(told.reason, Reason::Unimplemented);
}

#[tokio::test]
async fn another_content_type_is_malformed() {
    let rig = quiet().await;
    for headers in [vec![("content-type", "application/json")], vec![]] {
        let (status, headers) = raw(rig.address, ACQUIRE, &headers, Bytes::from("{}")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let told = Told::in_headers(&headers);
        assert_eq!(
            (told.reason, told.fields()),
            (Reason::Malformed, vec!["metadata[content-type]"])
        );
    }
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let rig = quiet().await;
    for path in [
        "/singletrack.v1.LeaseService/Nothing",
        "/singletrack.v1.LeaseServiceX/AcquireLease",
        "/singletrack.v1.LeaseService",
        "/nothing.Service/Nothing",
        "/",
        "/grpc.health.v1.Health/Nothing",
    ] {
        let (_, headers) = raw(rig.address, path, &[GRPC], frame(0, &[])).await;
        let told = Told::in_headers(&headers);
        assert_eq!(
            (told.reason, told.code),
            (Reason::Unimplemented, Code::Unimplemented),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_typing_error_in_metadata_is_malformed() {
    let rig = quiet().await;
    let message = || frame(0, &acquire().encode_to_vec());
    for (key, value, field) in [
        ("singletrack-namespac", "x", "metadata[singletrack-namespac]"),
        ("singletrack-trace-bin", "AAAA", "metadata[singletrack-trace-bin]"),
        ("singletrack-namespace", "a b", "metadata[singletrack-namespace]"),
        ("singletrack-namespace", "", "metadata[singletrack-namespace]"),
    ] {
        let told = told(&rig, &[GRPC, (key, value)], message()).await;
        assert_eq!((told.reason, told.fields()), (Reason::Malformed, vec![field]));
    }
    let twice = [GRPC, ("singletrack-namespace", "a"), ("singletrack-namespace", "b")];
    let told = told(&rig, &twice, message()).await;
    assert_eq!(told.fields(), vec!["metadata[singletrack-namespace]"]);

    let mut ping = Request::new(v1::PingRequest::default());
    ping.metadata_mut().insert("singletrack-namespac", "x".parse().unwrap());
    let told = Told::by(&rig.sessions().await.ping(ping).await.unwrap_err());
    assert_eq!(told.reason, Reason::Malformed);
}

#[tokio::test]
async fn a_deadline_that_is_none_is_malformed() {
    let rig = quiet().await;
    for timeout in ["", "1", "s", "123456789S", "-1S"] {
        let headers = [GRPC, ("grpc-timeout", timeout)];
        let told = told(&rig, &headers, frame(0, &acquire().encode_to_vec())).await;
        assert_eq!(
            (told.reason, told.fields()),
            (Reason::Malformed, vec!["metadata[grpc-timeout]"]),
            "{timeout:?}"
        );
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_deadline_exceeded_and_detaches_the_call() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    let headers = [GRPC, ("grpc-timeout", "20m")];
    let told = told(&rig, &headers, frame(0, &acquire().encode_to_vec())).await;
    assert_eq!((told.reason, told.code), (Reason::DeadlineExceeded, Code::DeadlineExceeded));
    rig.detached.recv().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_never_sends_its_message_meets_its_deadline() {
    let rig = quiet().await;
    let socket = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}{ACQUIRE}", rig.address))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "20m")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, _unfinished) = client.send_request(request, false).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), response).await.unwrap().unwrap();
    assert_eq!(Told::in_headers(response.headers()).reason, Reason::DeadlineExceeded);
    connection.abort();
}

#[tokio::test]
async fn a_request_that_breaks_off_is_no_bug_of_ours() {
    let rig = quiet().await;
    let socket = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for reason in [h2::Reason::CANCEL, h2::Reason::REFUSED_STREAM, h2::Reason::SETTINGS_TIMEOUT] {
        let request = http::Request::post(format!("http://{}{ACQUIRE}", rig.address))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (response, mut send) = client.send_request(request, false).unwrap();
        send.send_data(frame(0, &[0; 100]).slice(..50), false).unwrap();
        send.send_reset(reason);
        assert!(response.await.is_err());
    }
    // On the same connection, so that the server has seen all of the above.
    let request = http::Request::post(format!("http://{}/x", rig.address)).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    response.await.unwrap();
    connection.abort();
    let text = rig.metrics.render();
    assert!(text.contains("singletrack_refusals_total{reason=\"INTERNAL\"} 0"), "{text}");
}
