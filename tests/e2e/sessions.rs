//! Sessions through the Rust client and a real server, with a hostile road between them: streams
//! that are cut, connections that swallow everything, restarts, replies that are lost.
//!
//! The road is a proxy on loopback that forwards bytes until it is told otherwise. However it
//! behaves, no logical call may be applied twice, and no lease be believed held after the server
//! gave it to another.

use std::{sync::atomic::Ordering, time::Duration};

use singletrack::{Acquire, Client, HoldState, Reason, Release, Transport};
use singletrack_proto::v1;
use tempfile::TempDir;

use crate::{
    rig::{Rig, ok, soon},
    road::Road,
};

/// A client of sessions alone behind a road.
fn client_over(road: &Road, ttl: Duration) -> Client {
    Client::builder(road.url())
        .holder("agent")
        .session_ttl(ttl)
        .transport(Transport::Session)
        .build()
        .unwrap()
}

/// Every grant that the server ever made, by tokens that only rise.
async fn take_and_give_back(client: &Client, name: &str) -> u64 {
    let lease = soon(client.acquire(Acquire::new(name, "agent").with_session())).await.unwrap();
    let token = lease.token;
    soon(client.release(Release::of(&lease))).await.unwrap();
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_over_cut_streams_and_releases_nothing() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(10));
    let lease = soon(client.lease("kept").acquire()).await.unwrap();
    let id = client.session_id().unwrap();
    for round in 0..5 {
        road.cut();
        take_and_give_back(&client, &format!("other/{round}")).await;
        assert_eq!(client.session_id().as_deref(), Some(&*id), "the same session");
        assert_eq!(lease.state(), HoldState::Held);
    }
    let check = rig.client().check("kept", lease.token()).await.unwrap();
    assert!(check.current);
    soon(lease.release()).await.unwrap();
    soon(client.close()).await.unwrap();
    rig.stop().await;
}

/// The server's side of a connection is cut after every possible number of bytes, so that it falls
/// on each frame, within and between. Whatever of the replies got lost, each name was granted
/// exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_stream_is_cut_no_call_is_applied_twice() {
    let rig = Rig::start().await;
    let watcher = rig.client();
    let before = watcher.acquire(Acquire::new("before", "watcher")).await.unwrap().token;
    let mut tokens = Vec::new();
    for (round, limit) in (1..400).step_by(7).enumerate() {
        let road = Road::to(rig.address).await;
        road.cut_after.store(limit, Ordering::SeqCst);
        let client = client_over(&road, Duration::from_secs(30));
        let wish = Acquire::new(format!("round/{round}"), "agent").with_session();
        let taking = tokio::spawn({
            let client = client.clone();
            async move { client.acquire(wish).await }
        });
        // Nothing gets through before the road is mended.
        while road.connections.load(Ordering::SeqCst) < 2 && !taking.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        road.cut_after.store(0, Ordering::SeqCst);
        let lease = soon(taking).await.unwrap().unwrap();
        tokens.push(lease.token);
        road.cut();
        soon(client.release(Release::of(&lease))).await.unwrap();
        soon(client.close()).await.unwrap();
    }
    assert!(tokens.is_sorted() && tokens[0] > before, "tokens rise: {tokens:?}");
    assert_eq!(watcher.list_all().await.unwrap().len(), 1, "nothing is left behind");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_a_restart_of_the_server() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(10));
    let lease = soon(client.lease("kept").acquire()).await.unwrap();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { take_and_give_back(&client, &format!("n/{n}")).await })
        })
        .collect();
    rig.stop().await;
    let rig = Rig::on(folder.path()).await;
    road.to.send_replace(rig.address);
    let mut tokens = Vec::new();
    for call in calls {
        tokens.push(soon(call).await.unwrap());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 20, "each call was done once");
    assert_eq!(lease.state(), HoldState::Held);
    assert!(rig.client().check("kept", lease.token()).await.unwrap().current);
    drop(lease);
    soon(client.close()).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_road_that_swallows_everything_no_lease_is_believed_that_another_has() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(2));
    let lease = soon(client.lease("kept").acquire()).await.unwrap();
    let other = rig.client();
    road.swallows.send_replace(true);
    let taken = tokio::spawn(async move {
        let wish = Acquire::new("kept", "other").wait(Duration::from_secs(20));
        other.acquire(wish).await.unwrap().token
    });
    assert_eq!(soon(lease.not_held()).await, HoldState::Uncertain, "not by the server's word");
    assert!(!taken.is_finished(), "the holder stops believing before another has it");
    assert!(soon(taken).await.unwrap() > lease.token());
    // The road is mended: the server says that it is lost.
    road.swallows.send_replace(false);
    road.cut();
    let lost = soon(lease.lost()).await;
    assert_eq!(lost.reason(), Some(Reason::SessionLost));
    assert_eq!(lease.state(), HoldState::Lost);
    take_and_give_back(&client, "again").await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_taken_away_is_lost_at_once() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(30));
    let pushed = soon(client.lease("pushed").acquire()).await.unwrap();
    let listed = soon(client.lease("listed").acquire()).await.unwrap();
    let admin = rig.client();
    let force = |name: &str, token| singletrack::ForceRelease::new(name, token);
    admin.force_release(force("pushed", pushed.token())).await.unwrap();
    assert_eq!(soon(pushed.lost()).await.reason(), Some(Reason::LeaseLost));
    // The push is swallowed; what is still held is told when the session is resumed.
    road.swallows.send_replace(true);
    admin.force_release(force("listed", listed.token())).await.unwrap();
    road.swallows.send_replace(false);
    road.cut();
    assert_eq!(soon(listed.lost()).await.reason(), Some(Reason::LeaseLost));
    soon(client.close()).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_keeps_its_place_over_cut_streams_and_is_given_up_when_nobody_waits() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(30));
    let admin = rig.client();
    let held = admin.acquire(Acquire::new("a", "first")).await.unwrap();
    let wish = client.lease("a").wait(Duration::from_secs(60));
    let waiting = tokio::spawn(wish.acquire());
    until_waiting(&admin, 1).await;
    for _ in 0..3 {
        road.cut();
        take_and_give_back(&client, "b").await;
    }
    admin.release(Release::of(&held)).await.unwrap();
    let lease = soon(waiting).await.unwrap().unwrap();
    assert!(lease.token() > held.token);
    // A second one is dropped while it waits.
    let other = tokio::spawn(client.lease("a").wait(Duration::from_secs(60)).acquire());
    until_waiting(&admin, 1).await;
    other.abort();
    until_waiting(&admin, 0).await;
    // And a lease whose handle is dropped is given back.
    drop(lease);
    soon(async {
        while !admin.get("a").await.unwrap().leases.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    rig.stop().await;
}

async fn until_waiting(admin: &Client, count: u32) {
    soon(async {
        while admin.get("a").await.unwrap().waiter_count != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_endpoint_that_answers_is_used() {
    let rig = Rig::start().await;
    for transport in [Transport::Unary, Transport::Session, Transport::Auto] {
        // Port 1 is reserved and nobody listens there.
        let client = Client::builder("http://127.0.0.1:1")
            .endpoint(format!("http://{}", rig.address))
            .transport(transport)
            .build()
            .unwrap();
        let lease = soon(client.acquire(Acquire::new("a", "agent"))).await.unwrap();
        soon(client.release(Release::of(&lease))).await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_asked_again_over_a_unary_call_under_its_number() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = client_over(&road, Duration::from_secs(30));
    let wish = Acquire::new("a", "agent").ttl(Duration::from_secs(20));
    let lease = soon(client.acquire(wish.clone())).await.unwrap();
    let session = client.session_id().unwrap();
    assert_eq!(lease.request_id, format!("{session}/1"));
    // It was acknowledged, or is about to be; either way it is not executed again.
    let again = rig.client().acquire(wish.request_id(lease.request_id.clone())).await;
    match again {
        Ok(again) => assert!(again.replayed && again.token == lease.token),
        Err(error) => assert_eq!(error.reason(), Some(Reason::RequestIdForgotten)),
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_session_over_unary_calls_alone_keeps_and_loses_its_leases() {
    let rig = Rig::start().await;
    let (mut sessions, mut leases) = (rig.sessions().await, rig.leases().await);
    let open = v1::OpenSessionRequest { holder: "agent".into(), ttl_ms: Some(60_000) };
    let session_id = ok(sessions.open_session(open)).await.session_id;
    let bound = v1::AcquireLeaseRequest {
        session_id: session_id.clone(),
        ttl_ms: None,
        ..crate::rig::acquire("a", "agent")
    };
    let grant = ok(leases.acquire_lease(bound)).await;
    let keep = v1::KeepSessionAliveRequest { session_id: session_id.clone() };
    assert_eq!(ok(sessions.keep_session_alive(keep)).await.remaining_ms, 60_000);
    let list =
        v1::ListSessionLeasesRequest { session_id: session_id.clone(), ..Default::default() };
    let listed = ok(sessions.list_session_leases(list)).await.leases;
    assert_eq!((listed.len(), listed[0].token), (1, grant.token));
    let close = v1::CloseSessionRequest { session_id };
    assert!(!ok(sessions.close_session(close.clone())).await.replayed);
    assert!(ok(sessions.close_session(close)).await.replayed);
    assert!(rig.client().get("a").await.unwrap().leases.is_empty());
    rig.stop().await;
}
