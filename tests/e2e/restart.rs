//! A stop and a start on the same data folder: what is still true afterwards.

use std::time::Duration;

use singletrack::{Acquire, Reason, Release};
use singletrack_proto::v1;
use tempfile::TempDir;

use crate::rig::{Rig, acquire, ok, refused, release};

#[tokio::test]
async fn leases_are_still_held_with_their_full_ttl_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let wish = Acquire::new("a", "first").ttl(Duration::from_secs(60));
    let lease = rig.client().acquire(wish).await.unwrap();
    let shared = Acquire::new("s", "first").shared();
    let shared = rig.client().acquire(shared).await.unwrap();
    rig.stop().await;

    let rig = Rig::on(folder.path()).await;
    let client = rig.client();
    let info = client.get_by_id(&lease.lease_id).await.unwrap();
    assert_eq!(
        (&*info.holder, info.token, info.ttl),
        ("first", lease.token, Duration::from_secs(60))
    );
    assert!(info.remaining > Duration::from_secs(55), "a full ttl, less the way: {info:?}");
    let error = client.acquire(Acquire::new("a", "second")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Held));
    client.acquire(Acquire::new("s", "second").shared()).await.unwrap();
    client.renew_one(&shared.lease_id, shared.token).await.unwrap();
    client.release(Release::of(&lease)).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn tokens_go_on_rising_over_restarts_and_over_a_wiped_folder() {
    let folder = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..4 {
        if round == 2 {
            for found in std::fs::read_dir(folder.path()).unwrap() {
                let path = found.unwrap().path();
                if path.is_dir() {
                    std::fs::remove_dir_all(path).unwrap();
                } else {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        let rig = Rig::on(folder.path()).await;
        let client = rig.client();
        if round == 2 {
            assert!(client.list_all().await.unwrap().is_empty(), "everything was wiped");
        }
        let lease = client.acquire(Acquire::new(format!("r{round}"), "a")).await.unwrap();
        assert!(lease.token > last && lease.token < 1 << 53, "{lease:?} after {last}");
        last = lease.token;
        rig.stop().await;
    }
}

#[tokio::test]
async fn what_was_done_before_a_restart_is_replayed_after_it() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let mut leases = rig.leases().await;
    let wish = |resource: &str, id: &str| v1::AcquireLeaseRequest {
        request_id: id.into(),
        ..acquire(resource, "first")
    };
    let held = ok(leases.acquire_lease(wish("held", "1"))).await;
    let freed = ok(leases.acquire_lease(wish("freed", "2"))).await;
    let free = v1::ReleaseLeaseRequest { request_id: "3".into(), ..release(&freed) };
    ok(leases.release_lease(free.clone())).await;
    let abandon = v1::AbandonLeaseRequest { abandoned_request_id: "4".into() };
    ok(leases.abandon_lease(abandon)).await;
    rig.stop().await;

    let rig = Rig::on(folder.path()).await;
    let mut leases = rig.leases().await;
    let mut retry = wish("held", "1");
    retry.age_ms = 30_001;
    let again = ok(leases.acquire_lease(retry)).await;
    assert_eq!((&again.lease_id, again.token, again.replayed), (&held.lease_id, held.token, true));
    assert!(ok(leases.release_lease(free)).await.replayed, "released stays released");
    let told = refused(leases.acquire_lease(wish("freed", "2"))).await;
    told.is(Reason::LeaseLost);
    refused(leases.acquire_lease(wish("other", "1"))).await.is(Reason::RequestIdReused);
    refused(leases.acquire_lease(wish("x", "4"))).await.is(Reason::CancelledWait);
    let mut unknown = wish("x", "5");
    unknown.age_ms = 30_001;
    refused(leases.acquire_lease(unknown)).await.is(Reason::RequestIdForgotten);
    assert_eq!(rig.client().list_all().await.unwrap().len(), 1);
    rig.stop().await;
}
