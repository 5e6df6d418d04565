//! What goes in reaches the track as asked, and what the track says comes out.

use std::time::Duration;

use singletrack_core::{
    command::{Command, LeaseKey, Lifetime},
    refusal::{LeaseEnd, Refusal},
    reply::{AbandonedState, Checked, Found, Grant, HolderInfo, LeaseInfo, Reply},
    types::{Holder, LeaseId, Mode, ResourceName, Target, Token, Ttl},
};
use singletrack_proto::{Reason, v1};
use tonic::Request;

use crate::harness::{Rig, Told, Turn, acquire};

fn granted() -> Turn {
    Turn::Say(Ok(Reply::Acquired(Grant {
        lease_id: LeaseId([0xab; 16]),
        token: Token(77),
        remaining_ms: 30_000,
        waited_ms: 12,
        replayed: false,
    })))
}

fn info() -> LeaseInfo {
    LeaseInfo {
        target: Target { resource: ResourceName::parse("a/b").unwrap(), mode: Mode::Shared },
        holder: Holder::parse("agent").unwrap(),
        token: Token(77),
        ttl_ms: 30_000,
        remaining_ms: 29_000,
    }
}

#[tokio::test]
async fn an_acquire_reaches_the_track_with_its_defaults_and_its_grant_comes_back() {
    let mut rig = Rig::start(|_| granted()).await;
    let grant = rig.leases().await.acquire_lease(acquire()).await.unwrap().into_inner();
    assert_eq!(grant.lease_id, "ab".repeat(16));
    assert_eq!((grant.token, grant.remaining_ms, grant.waited_ms), (77, 30_000, 12));
    let question = rig.asked.recv().await.unwrap();
    assert_eq!(question.namespace.as_str(), "default");
    assert_eq!(question.mark, None);
    let Command::AcquireLease(asked) = question.command else { panic!("{question:?}") };
    assert_eq!(asked.lifetime, Lifetime::Ttl(Ttl::parse(30_000).unwrap()));
    assert_eq!((asked.wait_ms, asked.keep_ms), (0, 10_000));
    assert_eq!(asked.target.mode, Mode::Exclusive);
}

#[tokio::test]
async fn a_wait_ends_before_the_deadline_and_the_longest_wait() {
    let mut rig = Rig::start(|_| granted()).await;
    let mut leases = rig.leases().await;
    for (asked_ms, deadline_ms, least, most) in [
        (60_000, None, 50_000, 50_000),
        (60_000, Some(10_000), 9_000, 9_750),
        (3_000, Some(10_000), 3_000, 3_000),
        (3_000, Some(200), 0, 0),
    ] {
        let mut request = Request::new(v1::AcquireLeaseRequest { wait_ms: asked_ms, ..acquire() });
        if let Some(deadline) = deadline_ms {
            request.set_timeout(Duration::from_millis(deadline));
        }
        leases.acquire_lease(request).await.unwrap();
        let question = rig.asked.recv().await.unwrap();
        let Command::AcquireLease(asked) = question.command else { panic!("{question:?}") };
        assert!((least..=most).contains(&asked.wait_ms), "{asked_ms} {deadline_ms:?}: {asked:?}");
    }
}

#[tokio::test]
async fn the_namespace_comes_from_metadata() {
    let mut rig = Rig::start(|_| granted()).await;
    let mut request = Request::new(acquire());
    request.metadata_mut().insert("singletrack-namespace", "team-1".parse().unwrap());
    rig.leases().await.acquire_lease(request).await.unwrap();
    assert_eq!(rig.asked.recv().await.unwrap().namespace.as_str(), "team-1");
}

#[tokio::test]
async fn every_other_call_is_asked_and_answered() {
    let mut rig = Rig::start(|question| {
        Turn::Say(Ok(match &question.command {
            Command::AbandonLease { .. } => Reply::Abandoned(AbandonedState::Held),
            Command::RenewLeases(renewals) => Reply::Renewed(
                [
                    Ok(5_000),
                    Err(Refusal::LeaseLost { end: LeaseEnd::Expired, token: renewals[1].token }),
                ]
                .into(),
            ),
            Command::ReleaseLease(_) => Reply::Released { replayed: true },
            Command::GetLease(LeaseKey::Resource(_)) => {
                Reply::Found(Found { leases: vec![info()], holder_count: 3, waiter_count: 4 })
            }
            Command::ListLeases { after: 76, count: 2 } => {
                Reply::Page { leases: vec![info()], next: None }
            }
            Command::ListLeases { .. } => Reply::Page { leases: Vec::new(), next: Some(Token(76)) },
            Command::CheckLease { .. } => Reply::Checked(Checked {
                current: true,
                newest: Some(HolderInfo {
                    holder: Holder::parse("agent").unwrap(),
                    token: Token(77),
                    remaining_ms: 9,
                    mode: Mode::Exclusive,
                }),
            }),
            Command::ForceReleaseLease { .. } => {
                Reply::ForceReleased { holder: Holder::parse("agent").unwrap(), replayed: false }
            }
            other @ (Command::AcquireLease(_)
            | Command::GetLease(_)
            | Command::OpenSession(_)
            | Command::AttachSession(_)
            | Command::KeepSessionAlive(_)
            | Command::CloseSession(_)
            | Command::ListSessionLeases { .. }
            | Command::AcknowledgeReplies { .. }
            | Command::CancelWaits(_)
            | Command::Transact(_)) => panic!("{other:?}"),
        }))
    })
    .await;
    let mut leases = rig.leases().await;
    let lease_id = "0f".repeat(16);

    let request = v1::AbandonLeaseRequest { abandoned_request_id: "one".into() };
    let reply = leases.abandon_lease(request).await.unwrap().into_inner();
    assert_eq!(reply.state(), v1::AbandonedState::Held);

    let renewal = |token| v1::LeaseRenewal { lease_id: lease_id.to_uppercase(), token };
    let request = v1::RenewLeasesRequest { renewals: vec![renewal(5), renewal(6)] };
    let results = leases.renew_leases(request).await.unwrap().into_inner().results;
    use v1::renew_lease_result::Result as Outcome;
    assert_eq!(results[0].result, Some(Outcome::Renewed(v1::RenewedLease { remaining_ms: 5_000 })));
    let Some(Outcome::Refusal(refusal)) = &results[1].result else { panic!("{results:?}") };
    assert_eq!(Reason::from_wire(refusal.reason()), Some(Reason::LeaseLost));

    let request =
        v1::ReleaseLeaseRequest { lease_id: lease_id.clone(), token: 5, ..Default::default() };
    assert!(leases.release_lease(request).await.unwrap().into_inner().replayed);

    let key = v1::get_lease_request::Key::Resource("a/b".into());
    let request = v1::GetLeaseRequest { key: Some(key) };
    let found = leases.get_lease(request).await.unwrap().into_inner();
    assert_eq!((found.holder_count, found.waiter_count), (3, 4));
    assert_eq!(found.leases[0].targets[0].mode(), v1::LeaseMode::Shared);

    let first = v1::ListLeasesRequest { page_size: Some(2), page_token: String::new() };
    let page = leases.list_leases(first).await.unwrap().into_inner();
    let next = v1::ListLeasesRequest { page_size: Some(2), page_token: page.next_page_token };
    let page = leases.list_leases(next).await.unwrap().into_inner();
    assert_eq!((page.leases.len(), page.next_page_token.as_str()), (1, ""));

    let request = v1::CheckLeaseRequest { resource: "a/b".into(), token: 77 };
    let checked = leases.check_lease(request).await.unwrap().into_inner();
    assert!(checked.current && checked.current_token == 77 && checked.holder == "agent");

    let request =
        v1::ForceReleaseLeaseRequest { resource: "a/b".into(), token: 77, ..Default::default() };
    let forced = leases.force_release_lease(request).await.unwrap().into_inner();
    assert_eq!(forced.holder, "agent");
    assert!(rig.asked.recv().await.is_some());

    let text = rig.metrics.render();
    assert!(text.contains("singletrack_refusals_total{reason=\"LEASE_LOST\"} 1"), "{text}");
    assert!(text.contains("singletrack_requests_total{method=\"ListLeases\"} 2"), "{text}");
}

#[tokio::test]
async fn a_ping_returns_its_payload_without_the_track() {
    let rig = Rig::start(|_| panic!("nobody asks the track")).await;
    let mut sessions = rig.sessions().await;
    let ping = |bytes: usize| v1::PingRequest { payload: vec![7; bytes].into() };
    assert_eq!(sessions.ping(ping(4_096)).await.unwrap().into_inner().payload.len(), 4_096);
    let told = Told::by(&sessions.ping(ping(4_097)).await.unwrap_err());
    assert_eq!((told.reason, told.fields()), (Reason::TooLarge, vec!["payload"]));
}

#[tokio::test]
async fn a_reply_to_another_question_is_a_bug_of_ours() {
    let rig = Rig::start(|_| Turn::Say(Ok(Reply::Released { replayed: false }))).await;
    let told = Told::by(&rig.leases().await.acquire_lease(acquire()).await.unwrap_err());
    assert_eq!(told.reason, Reason::Internal);
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_detached() {
    let mut rig = Rig::start(|_| Turn::Park).await;
    let mut leases = rig.leases().await;
    let call = tokio::spawn(async move { leases.acquire_lease(acquire()).await });
    rig.asked.recv().await.unwrap();
    call.abort();
    rig.detached.recv().await.unwrap();
}
