//! Every reason of the refusal table, provoked for real, with its facts.
//!
//! The `match` in [`provoke`] has no `_`: a reason without a case doesn't compile.

#[path = "refusals_records.rs"]
mod records;

use std::{path::Path, sync::Arc};

use prost::Message;
use singletrack_core::{reply::Reply, types::Namespace};
use singletrack_proto::{
    Reason, Retry,
    v1::{self, lease_service_client::LeaseServiceClient, refusal::Detail},
};
use singletrack_server::{
    api::{Ask, Converse},
    server::{Running, ServeError, Server},
    store::memory::Disk,
    telemetry::Metrics,
    track::{CallError, Heard, Question},
};
use tokio::{sync::oneshot, task::JoinSet};
use tonic::{Code, transport::Channel};

use crate::rig::{
    Rig, Told, Wire, acquire, config, fence, ok, permits, refused, release, soon, subtree, within,
};

const ACQUIRE: &str = "/singletrack.v1.LeaseService/AcquireLease";

#[tokio::test]
async fn every_reason_can_be_provoked_and_says_what_the_table_says() {
    let mut cases = JoinSet::new();
    for reason in Reason::ALL {
        cases.spawn(async move { (reason, provoke(reason).await) });
    }
    while let Some(case) = soon(cases.join_next()).await {
        let (reason, tellings) = case.unwrap();
        assert!(!tellings.is_empty());
        for told in tellings {
            let told = told.is(reason);
            let delayed = told.refusal.retry_after_ms > 0;
            match reason.retry() {
                Retry::AfterDelay => assert!(delayed, "{told:?}"),
                Retry::No | Retry::SameRequestId => assert!(!delayed, "{told:?}"),
                Retry::HigherLevel | Retry::Yes => {}
            }
        }
    }
}

#[tokio::test]
async fn of_several_reasons_the_first_in_the_order_of_checks_is_told() {
    let rig = Rig::in_memory(&Disk::new(), |config| config.quotas.leases = 2).await;
    let mut leases = rig.leases().await;
    let door = ok(leases.acquire_lease(acquire("door", "first"))).await;
    let mut wish = acquire("room", "first");
    (wish.request_id, wish.fences) = ("1".into(), vec![fence("door", door.token)]);
    let grant = ok(leases.acquire_lease(wish.clone())).await;
    let beyond = acquire("third", "second");
    refused(leases.acquire_lease(beyond.clone())).await.is(Reason::Quota);
    refused(leases.acquire_lease(acquire("room", "second"))).await.is(Reason::Held);
    ok(leases.release_lease(release(&door))).await;
    ok(leases.acquire_lease(acquire("door", "other"))).await;

    // Replay before fence, decode before replay.
    let again = ok(leases.acquire_lease(wish.clone())).await;
    assert_eq!((again.replayed, &again.lease_id), (true, &grant.lease_id));
    wish.priority = 101;
    refused(leases.acquire_lease(wish.clone())).await.is(Reason::Malformed);
    // Replay memory before fence, fence before existence, state and quota.
    let stale = v1::AcquireLeaseRequest { fences: wish.fences.clone(), ..beyond };
    let old = v1::AcquireLeaseRequest { request_id: "2".into(), age_ms: 30_001, ..stale.clone() };
    refused(leases.acquire_lease(old)).await.is(Reason::RequestIdForgotten);
    refused(leases.acquire_lease(stale.clone())).await.is(Reason::StaleFence);
    let held = v1::AcquireLeaseRequest { targets: wish.targets, ..stale };
    refused(leases.acquire_lease(held)).await.is(Reason::StaleFence);
    let nobody = v1::AcquireLeaseResponse { lease_id: "0".repeat(32), token: 7, ..grant };
    let unknown = v1::ReleaseLeaseRequest { fences: wish.fences, ..release(&nobody) };
    refused(leases.release_lease(unknown)).await.is(Reason::StaleFence);
    rig.stop().await;
}

async fn provoke(reason: Reason) -> Vec<Told> {
    match reason {
        Reason::VersionMismatch => records::version_mismatch().await,
        Reason::FenceRequired => records::fence_required().await,
        Reason::AlreadyDone => records::already_done().await,
        Reason::NotACounter => records::not_a_counter().await,
        Reason::OutOfBounds => records::out_of_bounds().await,
        Reason::Held => held().await,
        Reason::StillWaiting => still_waiting().await,
        Reason::CancelledWait => cancelled_wait().await,
        Reason::Deadlock => deadlock().await,
        Reason::LimitMismatch => limit_mismatch().await,
        Reason::StaleFence => stale_fence().await,
        Reason::LeaseLost => lease_lost().await,
        Reason::NotHolder => not_holder().await,
        Reason::SessionLost => session_lost().await,
        Reason::RequestIdReused => request_id_reused().await,
        Reason::RequestIdForgotten => request_id_forgotten().await,
        Reason::NotFound => not_found().await,
        Reason::Malformed => malformed().await,
        Reason::TooLarge => too_large().await,
        Reason::Unimplemented => unimplemented().await,
        Reason::Overloaded => overloaded().await,
        Reason::Quota => quota().await,
        Reason::ShuttingDown => shutting_down().await,
        Reason::DeadlineExceeded => deadline_exceeded().await,
        Reason::OutcomeUnknown => outcome_unknown().await,
        Reason::Internal => internal().await,
    }
}

async fn session_lost() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut sessions = rig.sessions().await;
    let open = v1::OpenSessionRequest { holder: "agent".into(), ttl_ms: None };
    let session_id = ok(sessions.open_session(open)).await.session_id;
    let close = v1::CloseSessionRequest { session_id: session_id.clone() };
    ok(sessions.close_session(close)).await;
    let keep = v1::KeepSessionAliveRequest { session_id: session_id.clone() };
    let kept = refused(sessions.keep_session_alive(keep)).await;
    let Some(Detail::SessionLost(lost)) = &kept.refusal.detail else { panic!("{kept:?}") };
    assert_eq!(lost.end(), v1::SessionEnd::Closed);
    let bound = v1::AcquireLeaseRequest { session_id, ttl_ms: None, ..acquire("a", "agent") };
    let taken = refused(rig.leases().await.acquire_lease(bound)).await;
    let nobody = v1::KeepSessionAliveRequest { session_id: "00".repeat(16) };
    let unknown = refused(sessions.keep_session_alive(nobody)).await;
    rig.stop().await;
    vec![kept, taken, unknown]
}

async fn held() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let grant = ok(leases.acquire_lease(acquire("a/b", "first"))).await;
    let told = refused(leases.acquire_lease(acquire("a/b", "second"))).await;
    let Some(Detail::Held(held)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((&*held.resource, held.holder_count, held.queue_position), ("a/b", 1, 0));
    let by = &held.holders[0];
    assert_eq!((&*by.holder, by.token, by.shared), ("first", grant.token, false));
    assert!((1..=30_000).contains(&by.remaining_ms), "{told:?}");
    assert_eq!(told.info.metadata["holder"], "first");
    assert_eq!(told.info.metadata["token"], grant.token.to_string());
    assert!(told.refusal.retry_after_ms > 0);
    assert!(!format!("{told:?}").contains(&grant.lease_id), "a lease id is its holder's secret");
    let above = held_from_above(&mut leases).await;
    let used_up = held_by_permits(&mut leases).await;
    let behind = held_behind_others(&rig).await;
    rig.stop().await;
    vec![told, above, used_up, behind]
}

type Leases = LeaseServiceClient<Channel>;

/// A subtree is held, and something below it is asked for; its holder has a longest hold and an
/// answer.
async fn held_from_above(leases: &mut Leases) -> Told {
    let wish = v1::AcquireLeaseRequest {
        targets: vec![subtree("repo")],
        max_hold_ms: Some(600_000),
        ..by_actor("", "ada")
    };
    let grant = ok(leases.acquire_lease(wish)).await;
    let ask = v1::RequestLeaseYieldRequest {
        resource: "repo/src".into(),
        holder: "second".into(),
        ..Default::default()
    };
    ok(leases.request_lease_yield(ask)).await;
    let answer = v1::AnswerLeaseYieldRequest {
        lease_id: grant.lease_id,
        token: grant.token,
        will_yield: true,
        within_ms: 5_000,
        message: "tests first".into(),
        ..Default::default()
    };
    assert_eq!(ok(leases.answer_lease_yield(answer)).await.answered, 1);
    let wish = v1::AcquireLeaseRequest {
        targets: vec![crate::rig::target("free"), crate::rig::target("repo/src")],
        ..acquire("", "second")
    };
    let told = refused(leases.acquire_lease(wish)).await;
    let Some(Detail::Held(held)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((&*held.resource, held.holder_count, held.blocked_targets), ("repo/src", 1, 1));
    let by = &held.holders[0];
    assert_eq!((&*by.resource, by.subtree, &*by.actor), ("repo", true, "ada"));
    assert!((590_000..=600_000).contains(&by.hold_remaining_ms.unwrap()), "{told:?}");
    assert!(by.held_ms < 60_000, "{told:?}");
    assert_eq!(by.yield_answer, "will yield within 5000 ms: tests first");
    assert!(told.refusal.message.contains("who will yield within 5000 ms"), "{told:?}");
    told
}

async fn held_by_permits(leases: &mut Leases) -> Told {
    let wish = |count| v1::AcquireLeaseRequest {
        targets: vec![permits("pool", count, 5)],
        ..acquire("", "first")
    };
    ok(leases.acquire_lease(wish(3))).await;
    ok(leases.acquire_lease(wish(1))).await;
    let told = refused(leases.acquire_lease(wish(2))).await;
    let Some(Detail::Held(held)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((held.permits_used, held.permits_wanted, held.holder_count), (4, 0, 2));
    assert_eq!((held.holders[0].permits, held.holders[1].permits), (3, 1));
    assert!(told.refusal.message.contains("with 4 of 5 permits in use"), "{told:?}");
    told
}

/// Nobody holds what an earlier waiter wants; it waits for another target.
async fn held_behind_others(rig: &Rig) -> Told {
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("one", "first"))).await;
    let wish = v1::AcquireLeaseRequest {
        targets: vec![crate::rig::target("one"), crate::rig::target("two")],
        request_id: "both".into(),
        wait_ms: 20_000,
        priority: 5,
        ..by_actor("", "cy")
    };
    let mut other = leases.clone();
    let parked = tokio::spawn(async move { other.acquire_lease(wish).await });
    rig.until_waiting("two", 1).await;
    let told = refused(leases.acquire_lease(acquire("two", "second"))).await;
    let Some(Detail::Held(held)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((held.holders.len(), held.queue_position, held.waiters.len()), (0, 1, 1));
    let first = &held.waiters[0];
    assert_eq!((&*first.holder, &*first.actor, first.priority), ("cy@forge", "cy", 5));
    assert!(told.refusal.message.contains("wanted before you by `cy@forge`"), "{told:?}");
    let abandon = v1::AbandonLeaseRequest { abandoned_request_id: "both".into() };
    ok(leases.abandon_lease(abandon)).await;
    refused(async { parked.await.unwrap() }).await.is(Reason::CancelledWait);
    told
}

async fn still_waiting() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let grant = ok(leases.acquire_lease(acquire("a", "first"))).await;
    let mut wish = acquire("a", "second");
    (wish.request_id, wish.wait_ms) = ("w".into(), 40);
    let told = refused(leases.acquire_lease(wish)).await;
    let Some(Detail::Held(held)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((held.holders[0].token, held.queue_position), (grant.token, 0));
    assert!(held.waited_ms >= 40, "{told:?}");
    rig.stop().await;
    vec![told]
}

async fn cancelled_wait() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("a", "first"))).await;
    let mut wish = acquire("a", "second");
    (wish.request_id, wish.wait_ms) = ("w".into(), 20_000);
    let (mut other, again) = (leases.clone(), wish.clone());
    let parked = tokio::spawn(async move { other.acquire_lease(wish).await });
    rig.until_waiting("a", 1).await;
    let abandon = v1::AbandonLeaseRequest { abandoned_request_id: "w".into() };
    let state = ok(leases.abandon_lease(abandon)).await.state();
    assert_eq!(state, v1::AbandonedState::Waiting);
    let parked = refused(async { parked.await.unwrap() }).await;
    let later = refused(leases.acquire_lease(again)).await;
    rig.stop().await;
    vec![parked, later]
}

/// An actor's wish.
fn by_actor(resource: &str, actor: &str) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { actor: actor.into(), ..acquire(resource, &format!("{actor}@forge")) }
}

async fn deadlock() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(by_actor("left", "ada"))).await;
    ok(leases.acquire_lease(by_actor("right", "bob"))).await;
    let waits = |resource, actor, id: &str| v1::AcquireLeaseRequest {
        request_id: id.into(),
        wait_ms: 20_000,
        ..by_actor(resource, actor)
    };
    let (mut other, wish) = (leases.clone(), waits("right", "ada", "1"));
    let parked = tokio::spawn(async move { other.acquire_lease(wish).await });
    rig.until_waiting("right", 1).await;
    let told = refused(leases.acquire_lease(waits("left", "bob", "2"))).await;
    let Some(Detail::Deadlock(cycle)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!(cycle.step_count, 2);
    let steps: Vec<_> = cycle
        .cycle
        .iter()
        .map(|step| (&*step.actor, &*step.holder, &*step.resource, step.relation()))
        .collect();
    let holds = v1::DeadlockRelation::Holds;
    let expected = [("bob", "bob@forge", "left", holds), ("ada", "ada@forge", "right", holds)];
    assert_eq!(steps, expected);
    assert_eq!(told.info.metadata["cycle"], "bob -> ada");
    assert!(told.refusal.message.contains("`bob` waits for `left`, held by `ada`"), "{told:?}");
    // To try is no wait, and a lease that its own actor holds is waited for in vain too.
    refused(leases.acquire_lease(by_actor("left", "bob"))).await.is(Reason::Held);
    let own = refused(leases.acquire_lease(waits("right", "bob", "3"))).await;
    // What an actor holds is in the way of its descendants.
    let child = refused(leases.acquire_lease(waits("right", "bob/child", "4"))).await;
    // Nobody else is told that: the one that waits still does.
    assert!(!parked.is_finished());
    let abandon = v1::AbandonLeaseRequest { abandoned_request_id: "1".into() };
    ok(leases.abandon_lease(abandon)).await;
    refused(async { parked.await.unwrap() }).await.is(Reason::CancelledWait);
    rig.stop().await;
    vec![told, own, child]
}

async fn limit_mismatch() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let wish = |count, limit| v1::AcquireLeaseRequest {
        targets: vec![permits("pool", count, limit)],
        ..acquire("pool", "first")
    };
    let held = ok(leases.acquire_lease(wish(2, 5))).await;
    let told = refused(leases.acquire_lease(wish(1, 3))).await;
    let Some(Detail::LimitMismatch(facts)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((&*facts.resource, facts.limit, facts.asked), ("pool", 5, 3));
    assert_eq!((&*told.info.metadata["limit"], &*told.info.metadata["asked"]), ("5", "3"));
    ok(leases.release_lease(release(&held))).await;
    ok(leases.acquire_lease(wish(1, 3))).await;
    rig.stop().await;
    vec![told]
}

async fn stale_fence() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let old = ok(leases.acquire_lease(acquire("door", "first"))).await;
    ok(leases.release_lease(release(&old))).await;
    let mut wish = acquire("room", "first");
    wish.fences = vec![fence("door", old.token)];
    let free = refused(leases.acquire_lease(wish.clone())).await;
    let Some(Detail::StaleFence(stale)) = &free.refusal.detail else { panic!("{free:?}") };
    assert_eq!((stale.current_token, &*stale.holder), (0, ""));

    let new = ok(leases.acquire_lease(acquire("door", "second"))).await;
    wish.fences = vec![fence("door", new.token), fence("door", old.token)];
    let taken = refused(leases.acquire_lease(wish)).await;
    let Some(Detail::StaleFence(stale)) = &taken.refusal.detail else { panic!("{taken:?}") };
    assert_eq!((stale.index, &*stale.resource, &*stale.holder), (1, "door", "second"));
    assert_eq!((stale.presented_token, stale.current_token), (old.token, new.token));
    assert_eq!(taken.info.metadata["current_token"], new.token.to_string());
    rig.stop().await;
    vec![free, taken]
}

async fn lease_lost() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let mut wish = acquire("released", "first");
    wish.request_id = "r".into();
    let grant = ok(leases.acquire_lease(wish.clone())).await;
    ok(leases.release_lease(release(&grant))).await;
    let released = refused(leases.acquire_lease(wish)).await;
    assert_end(&released, v1::LeaseEnd::Released, grant.token);

    let grant = ok(leases.acquire_lease(acquire("forced", "first"))).await;
    let force = v1::ForceReleaseLeaseRequest {
        resource: "forced".into(),
        token: grant.token,
        ..Default::default()
    };
    ok(leases.force_release_lease(force)).await;
    let forced = refused(leases.release_lease(release(&grant))).await;
    assert_end(&forced, v1::LeaseEnd::Forced, grant.token);

    let mut wish = acquire("expired", "first");
    wish.ttl_ms = Some(1_000);
    let grant = ok(leases.acquire_lease(wish.clone())).await;
    wish.wait_ms = 20_000;
    let next = ok(leases.acquire_lease(wish)).await;
    assert!(next.token > grant.token);
    let expired = refused(leases.release_lease(release(&grant))).await;
    assert_end(&expired, v1::LeaseEnd::Expired, grant.token);
    rig.stop().await;
    vec![released, forced, expired]
}

fn assert_end(told: &Told, end: v1::LeaseEnd, token: u64) {
    let Some(Detail::LeaseLost(lost)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((lost.end(), lost.token), (end, token));
    assert_eq!(told.info.metadata["token"], token.to_string());
}

async fn not_holder() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let mut grant = ok(leases.acquire_lease(acquire("a", "first"))).await;
    grant.token -= 1;
    let told = refused(leases.release_lease(release(&grant))).await;
    rig.stop().await;
    vec![told]
}

async fn request_id_reused() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let mut wish = acquire("a", "first");
    wish.request_id = "one".into();
    let grant = ok(leases.acquire_lease(wish.clone())).await;
    wish.holder = "second".into();
    let acquired = refused(leases.acquire_lease(wish)).await;
    let mut free = release(&grant);
    free.request_id = "one".into();
    let released = refused(leases.release_lease(free)).await;
    rig.stop().await;
    vec![acquired, released]
}

async fn request_id_forgotten() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let mut wish = acquire("a", "first");
    (wish.request_id, wish.age_ms) = ("old".into(), 30_001);
    let told = refused(leases.acquire_lease(wish.clone())).await;
    assert!(rig.client().get("a").await.unwrap().leases.is_empty());
    wish.age_ms = 30_000;
    ok(leases.acquire_lease(wish)).await;
    rig.stop().await;
    vec![told]
}

async fn not_found() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let nobody =
        v1::AcquireLeaseResponse { lease_id: "0".repeat(32), token: 7, ..Default::default() };
    let released = refused(leases.release_lease(release(&nobody))).await;
    let force =
        v1::ForceReleaseLeaseRequest { resource: "a".into(), token: 7, ..Default::default() };
    let forced = refused(leases.force_release_lease(force)).await;
    let key = v1::get_lease_request::Key::LeaseId(nobody.lease_id);
    let got = refused(leases.get_lease(v1::GetLeaseRequest { key: Some(key) })).await;
    rig.stop().await;
    vec![released, forced, got]
}

async fn malformed() -> Vec<Told> {
    let rig = Rig::start().await;
    let told = refused(rig.leases().await.acquire_lease(acquire("/a", ""))).await;
    assert_eq!(told.fields(), ["holder", "targets[0].resource"]);
    let mut typo = tonic::Request::new(acquire("a", "first"));
    typo.metadata_mut().insert("singletrack-namspace", "mine".parse().unwrap());
    let typo = refused(rig.leases().await.acquire_lease(typo)).await;
    assert_eq!(typo.fields(), ["metadata[singletrack-namspace]"]);
    rig.stop().await;
    vec![told, typo]
}

async fn too_large() -> Vec<Told> {
    let rig = Rig::start().await;
    let long = refused(rig.leases().await.acquire_lease(acquire(&"x".repeat(513), "first"))).await;
    assert_eq!(long.fields(), ["targets[0].resource"]);
    let mut whole = acquire("a", "first");
    whole.request_id = "x".repeat(2 << 20);
    let whole = refused(rig.leases().await.acquire_lease(whole)).await;
    assert_eq!(whole.fields(), [""]);
    rig.stop().await;
    vec![long, whole]
}

async fn unimplemented() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut wire = Wire::to(&rig).await;
    let method = wire.refused("/singletrack.v1.LeaseService/StealLease", None, &[]).await;
    let service = wire.refused("/singletrack.v1.NobodyService/Ping", None, &[]).await;
    rig.stop().await;
    vec![method, service]
}

async fn overloaded() -> Vec<Told> {
    let mut all = Vec::new();
    for (namespace, total, limit) in
        [(2, 1_000, "queued calls of the namespace"), (2, 2, "queued calls of the server")]
    {
        let told = overloaded_by(namespace, total).await;
        let Some(Detail::Limit(met)) = &told.refusal.detail else { panic!("{told:?}") };
        assert_eq!((&*met.limit, met.maximum), (limit, 2));
        all.push(told);
    }
    all
}

/// Sends calls while the disk stands still: the queue before the track fills up.
async fn overloaded_by(namespace: usize, total: usize) -> Told {
    let disk = Disk::new();
    let rig = Rig::in_memory(&disk, |config| {
        (config.max_queued_per_namespace, config.max_queued) = (namespace, total);
    })
    .await;
    disk.stall();
    let resumed = Resumed(&disk);
    let leases = rig.leases().await;
    let mut calls = JoinSet::new();
    for i in 0..32 {
        let mut leases = leases.clone();
        calls.spawn(async move { leases.acquire_lease(acquire(&format!("r{i}"), "a")).await });
    }
    // While the disk stands still, only refusals come back.
    let told = refused(async { calls.join_next().await.unwrap().unwrap() }).await;
    drop(resumed);
    while soon(calls.join_next()).await.is_some() {}
    rig.stop().await;
    told
}

async fn quota() -> Vec<Told> {
    let mut all = Vec::new();
    for (limit, maximum) in [
        ("namespaces", 1),
        ("leases per namespace", 1),
        ("waiters per namespace", 1),
        ("bytes per namespace", 1),
        ("bytes of replay memory", 1),
    ] {
        let told = quota_of(limit, maximum).await.is(Reason::Quota);
        let Some(Detail::Limit(met)) = &told.refusal.detail else { panic!("{told:?}") };
        assert_eq!((&*met.limit, met.maximum), (limit, maximum));
        assert_eq!(told.info.metadata["limit"], limit);
        all.push(told);
    }
    all
}

async fn quota_of(limit: &str, maximum: u64) -> Told {
    let rig = Rig::in_memory(&Disk::new(), |config| {
        *match limit {
            "namespaces" => &mut config.quotas.namespaces,
            "leases per namespace" => &mut config.quotas.leases,
            "waiters per namespace" => &mut config.quotas.waiters,
            "bytes per namespace" => &mut config.quotas.bytes,
            _ => &mut config.quotas.memory_bytes,
        } = maximum;
    })
    .await;
    let mut leases = rig.leases().await;
    let mut first = acquire("a", "first");
    first.request_id = "1".into();
    let told = if limit == "bytes per namespace" {
        refused(leases.acquire_lease(first)).await
    } else {
        let grant = ok(leases.acquire_lease(first)).await;
        if limit == "bytes of replay memory" {
            // The id of a live grant costs nothing; that of an ended one is remembered.
            ok(leases.release_lease(release(&grant))).await;
        }
        second_of(limit, &rig).await
    };
    rig.stop().await;
    told
}

/// What comes after the first lease on `a` and is above the cap.
async fn second_of(limit: &str, rig: &Rig) -> Told {
    let mut leases = rig.leases().await;
    let mut second = acquire("b", "second");
    second.request_id = "2".into();
    match limit {
        "namespaces" => refused(leases.acquire_lease(within("other", second))).await,
        "waiters per namespace" => {
            let mut wait = acquire("a", "second");
            wait.wait_ms = 20_000;
            let (mut other, waiting) = (leases.clone(), wait.clone());
            let parked = tokio::spawn(async move { other.acquire_lease(waiting).await });
            rig.until_waiting("a", 1).await;
            let told = refused(leases.acquire_lease(wait)).await;
            parked.abort();
            told
        }
        _ => refused(leases.acquire_lease(second)).await,
    }
}

async fn shutting_down() -> Vec<Told> {
    let mut rig = Rig::start().await;
    let mut leases = rig.leases().await;
    ok(leases.acquire_lease(acquire("a", "first"))).await;
    let mut wish = acquire("a", "second");
    wish.wait_ms = 50_000;
    let parked = tokio::spawn(async move { leases.acquire_lease(wish).await });
    rig.until_waiting("a", 1).await;
    rig.begin_stop();
    let told = refused(async { parked.await.unwrap() }).await;
    rig.end().await.unwrap();
    vec![told]
}

async fn deadline_exceeded() -> Vec<Told> {
    let disk = Disk::new();
    let rig = Rig::in_memory(&disk, |_| {}).await;
    disk.stall();
    let resumed = Resumed(&disk);
    let mut wish = acquire("a", "first");
    wish.request_id = "late".into();
    let told = Wire::to(&rig).await.refused(ACQUIRE, Some("200m"), &wish.encode_to_vec()).await;
    assert_eq!(told.code(), Code::DeadlineExceeded);
    drop(resumed);
    // It may have happened, and it did: the same request_id tells.
    let grant = ok(rig.leases().await.acquire_lease(wish)).await;
    assert!(grant.replayed);
    rig.stop().await;
    vec![told]
}

async fn outcome_unknown() -> Vec<Told> {
    let disk = Disk::new();
    let mut rig = Rig::in_memory(&disk, |_| {}).await;
    disk.fail_append(0);
    let told = refused(rig.leases().await.acquire_lease(acquire("a", "first"))).await;
    let ended = rig.end().await;
    assert!(matches!(ended, Err(ServeError::Store(_))), "{ended:?}");
    vec![told]
}

/// Lets a disk go on when its test is over, whatever the end: a server waits for its disk.
struct Resumed<'a>(&'a Disk);

impl Drop for Resumed<'_> {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// A track with a bug: there is no honest way to one from outside.
#[derive(Clone)]
struct Buggy;

/// Nobody talks on it here.
struct NoLine;

impl Converse for NoLine {
    fn submit(&mut self, questions: Vec<(u64, Question)>) -> Vec<(u64, CallError)> {
        questions.into_iter().map(|(tag, _)| (tag, CallError::Internal)).collect()
    }

    fn tell(&mut self, _: Question) {}

    fn cancel(&mut self, _: &Namespace, _: &[u64]) {}

    async fn hear(&mut self) -> Vec<Heard> {
        std::future::pending().await
    }

    fn under_way(&self) -> usize {
        0
    }
}

impl Ask for Buggy {
    type Line = NoLine;

    fn line(&self) -> NoLine {
        NoLine
    }

    async fn ask(&self, _: Question) -> Result<Reply, CallError> {
        Err(CallError::Internal)
    }
}

async fn internal() -> Vec<Told> {
    let (fatal_in, fatal) = oneshot::channel();
    let running = Running {
        track: Buggy,
        fatal,
        alive: Arc::new(|| true),
        drain: Box::new(|| {}),
        close: Box::new(|| {}),
    };
    let server = Server::bind_to(config(Path::new("unused")), running, Metrics::new()).await;
    let rig = Rig::serve(server.unwrap());
    let told = refused(rig.leases().await.acquire_lease(acquire("a", "first"))).await;
    rig.stop().await;
    drop(fatal_in);
    vec![told]
}
