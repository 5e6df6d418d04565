//! The server as a whole: health, reflection, metrics, its end, and deadlines of calls.

use std::{path::Path, time::Duration};

use singletrack_proto::{
    Reason, v1,
    v1::{lease_service_server, session_service_server},
};
use singletrack_server::{server::ServeError, store::memory::Disk};
use tokio::time::Instant;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::rig::{Rig, SOON, acquire, config, ok, refused, release, soon};

const SERVICES: [&str; 3] =
    ["", lease_service_server::SERVICE_NAME, session_service_server::SERVICE_NAME];

#[tokio::test]
async fn the_server_and_each_service_say_that_they_serve() {
    let rig = Rig::start().await;
    let mut health = HealthClient::new(rig.channel().await);
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.into() };
        assert_eq!(ok(health.check(request)).await.status(), ServingStatus::Serving, "{service}");
    }
    let nobody = HealthCheckRequest { service: "nobody".into() };
    refused(health.check(nobody)).await.is(Reason::NotFound);
    rig.stop().await;
}

#[tokio::test]
async fn an_orderly_stop_ends_well_while_somebody_watches_health() {
    let mut rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("a", "first"))).await;
    let mut health = HealthClient::new(rig.channel().await);
    let mut watch = ok(health.watch(HealthCheckRequest::default())).await;
    let told = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::Serving);
    rig.begin_stop();
    let told = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    // The watch keeps its connection open, so the track is done before the port is.
    rig.end().await.unwrap();
}

#[tokio::test]
async fn a_failed_store_turns_health_and_ends_the_server_within_a_second() {
    let disk = Disk::new();
    let mut rig = Rig::in_memory(&disk, |_| {}).await;
    let mut health = HealthClient::new(rig.channel().await);
    let mut watch = ok(health.watch(HealthCheckRequest::default())).await;
    soon(watch.message()).await.unwrap();
    disk.fail_append(0);
    let mut leases = rig.leases().await;
    let failing = Instant::now();
    refused(leases.acquire_lease(acquire("a", "first"))).await.is(Reason::OutcomeUnknown);
    let told = soon(watch.message()).await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    let ended = rig.end().await;
    assert!(failing.elapsed() < Duration::from_secs(1), "{:?}", failing.elapsed());
    assert!(matches!(ended, Err(ServeError::Store(_))), "{ended:?}");
}

#[tokio::test]
async fn reflection_lists_every_service() {
    let rig = Rig::start().await;
    let mut reflection = ServerReflectionClient::new(rig.channel().await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut stream = ok(reflection.server_reflection_info(tokio_stream::once(request))).await;
    let answer = soon(stream.message()).await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let mut names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    names.sort_unstable();
    for name in ["grpc.health.v1.Health", SERVICES[1], SERVICES[2]] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn the_metrics_page_shows_leases_refusals_and_commits() {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("kept", "first"))).await;
    let grant = ok(leases.acquire_lease(acquire("freed", "first"))).await;
    ok(leases.release_lease(release(&grant))).await;
    refused(leases.acquire_lease(acquire("kept", "second"))).await.is(Reason::Held);
    let page = rig.metrics().await;
    for line in [
        "singletrack_leases 1",
        "singletrack_waiters 0",
        r#"singletrack_refusals_total{reason="HELD"} 1"#,
        r#"singletrack_refusals_total{reason="QUOTA"} 0"#,
        r#"singletrack_requests_total{method="AcquireLease"} 3"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    for reason in Reason::ALL {
        assert!(page.contains(&format!("reason=\"{}\"", reason.name())), "{reason:?} in\n{page}");
    }
    let commits = "singletrack_commit_seconds_count ";
    let commits: u64 =
        page.lines().find_map(|line| line.strip_prefix(commits)).unwrap().parse().unwrap();
    assert!((1..=3).contains(&commits), "{page}");
    assert!(page.contains("singletrack_commit_seconds_bucket{le="), "{page}");
    rig.stop().await;
}

#[tokio::test]
async fn a_wait_ends_before_the_deadline_of_its_call() {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("a", "first"))).await;
    for (id, reason) in [("", Reason::Held), ("w", Reason::StillWaiting)] {
        let mut wish = acquire("a", "second");
        (wish.request_id, wish.wait_ms) = (id.into(), 50_000);
        let mut request = tonic::Request::new(wish);
        request.set_timeout(Duration::from_secs(1));
        let told = refused(leases.acquire_lease(request)).await.is(reason);
        let Some(v1::refusal::Detail::Held(held)) = told.refusal.detail else { panic!() };
        // 250 ms before the deadline, less the way there; ticks come at least every 100 ms.
        assert!((600..1_000).contains(&held.waited_ms), "{held:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::on(folder.path()).await;
    let Err(refused) = Rig::try_with(config(folder.path())).await else { panic!("it started") };
    let said = refused.to_string();
    for part in ["another process has locked", &*folder.path().to_string_lossy(), "stop it first"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    rig.stop().await;
    Rig::on(folder.path()).await.stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below: &Path = &file.path().join("data");
    assert!(Rig::try_with(config(below)).await.is_err());
}

#[tokio::test]
async fn a_ping_comes_back_while_the_disk_stands_still() {
    let disk = Disk::new();
    let rig = Rig::in_memory(&disk, |_| {}).await;
    disk.stall();
    let payload = bytes::Bytes::from_static(b"as it came");
    let request = v1::PingRequest { payload: payload.clone() };
    let answer = tokio::time::timeout(SOON, rig.sessions().await.ping(request)).await;
    disk.resume();
    assert_eq!(answer.unwrap().unwrap().into_inner().payload, payload);
    rig.stop().await;
}
