//! What goes in reaches the track as asked, and what the track says comes out.

use std::time::Duration;

use prost::Message as _;
use singletrack_core::{
    command::{Command, LeaseKey, Lifetime, YieldAnswer},
    refusal::{Held, LeaseEnd, Refusal},
    reply::{
        AbandonedState, Checked, Found, Grant, HolderInfo, LeaseInfo, LeaseStats, Renewed, Reply,
        WaiterInfo, YieldInfo, YieldStatus,
    },
    types::{
        Actor, Holder, Labels, LeaseId, Mode, Permits, Reach, ResourceName, Revision, Target,
        Targets, Token, Ttl, Words,
    },
};
use singletrack_proto::{Reason, v1};
use singletrack_server::track::Question;
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

fn holder(name: &str) -> Holder {
    Holder::parse(name).unwrap()
}

fn resource(name: &str) -> ResourceName {
    ResourceName::parse(name).unwrap()
}

fn info() -> LeaseInfo {
    let permits = Mode::Permits(Permits::parse(2, 5).unwrap());
    let subtree = Target { resource: resource("t"), mode: Mode::Exclusive, reach: Reach::Subtree };
    let targets = [
        Target::exact(resource("a/b"), Mode::Shared),
        Target::exact(resource("p"), permits),
        subtree,
    ];
    LeaseInfo {
        targets: Targets::parse(targets.into()).unwrap(),
        holder: holder("agent"),
        token: Token(77),
        ttl_ms: 30_000,
        remaining_ms: 29_000,
        actor: Some(Actor::parse("agent/1").unwrap()),
        labels: Labels::parse([("team", "x")]).unwrap(),
        held_ms: 1_000,
        hold_remaining_ms: Some(59_000),
        lock_delay_ms: 500,
        yield_requests: vec![asked()],
    }
}

fn answer() -> YieldAnswer {
    YieldAnswer { within_ms: Some(250), message: Words::parse("soon").unwrap() }
}

fn asked() -> YieldInfo {
    YieldInfo {
        number: 3,
        from: holder("waiter"),
        reason: Words::parse("urgent").unwrap(),
        asked_ms: 40,
        answer: Some(answer()),
    }
}

fn waiter(blocked_by: Option<Box<Held>>) -> WaiterInfo {
    WaiterInfo {
        holder: holder("waiter"),
        actor: None,
        targets: Targets::one(Target::exact(resource("a/b"), Mode::Exclusive)),
        priority: -3,
        waited_ms: 70,
        is_attached: true,
        blocked_by,
    }
}

fn held() -> Box<Held> {
    Box::new(Held {
        resource: resource("a/b"),
        holders: Vec::new(),
        holder_count: 0,
        queue_position: 2,
        waited_ms: 0,
        waiters: Vec::new(),
        closed_ms: 900,
        permits_used: 0,
        permits_wanted: 0,
        blocked_targets: 1,
    })
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
    assert_eq!(asked.targets.first().mode, Mode::Exclusive);
    assert_eq!(asked.terms, None);
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
                    Ok(Renewed { remaining_ms: 5_000, yield_requests: 2 }),
                    Err(Refusal::LeaseLost { end: LeaseEnd::Expired, token: renewals[1].token }),
                ]
                .into(),
            ),
            Command::ReleaseLease(_) => Reply::Released { replayed: true },
            Command::GetLease(LeaseKey::Resource(_)) => Reply::Found(Found {
                leases: vec![info()],
                holder_count: 3,
                waiter_count: 4,
                waiters: vec![waiter(None)],
                closed_ms: 60,
            }),
            Command::ListLeases { after: 76, count: 2, .. } => {
                Reply::Page { leases: vec![info()], next: None }
            }
            Command::ListLeases { .. } => Reply::Page { leases: Vec::new(), next: Some(Token(76)) },
            Command::CheckLease { .. } => Reply::Checked(Checked {
                current: true,
                newest: Some(HolderInfo {
                    holder: holder("agent"),
                    token: Token(77),
                    remaining_ms: 9,
                    mode: Mode::Exclusive,
                    reach: Reach::Exact,
                    resource: None,
                    held_ms: 1,
                    hold_remaining_ms: None,
                    actor: None,
                    yield_answer: None,
                }),
            }),
            Command::ForceReleaseLease { .. } => {
                Reply::ForceReleased { holder: holder("agent"), replayed: false }
            }
            other @ (Command::AcquireLease(_)
            | Command::TransferLease(_)
            | Command::RequestLeaseYield(_)
            | Command::AnswerLeaseYield(_)
            | Command::ListLeaseWaiters { .. }
            | Command::GetLeaseStats
            | Command::GetLease(_)
            | Command::OpenSession(_)
            | Command::AttachSession(_)
            | Command::KeepSessionAlive(_)
            | Command::CloseSession(_)
            | Command::ListSessionLeases { .. }
            | Command::AcknowledgeReplies { .. }
            | Command::CancelWaits(_)
            | Command::GetRecord(_)
            | Command::BatchGetRecords { .. }
            | Command::ListRecords(_)
            | Command::PutRecord(_)
            | Command::IncrementRecord(_)
            | Command::DeleteRecord { .. }
            | Command::ProtectPrefix(_)
            | Command::UnprotectPrefix(_)
            | Command::ListProtections { .. }
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
    let renewed = v1::RenewedLease { remaining_ms: 5_000, yield_requests: 2 };
    assert_eq!(results[0].result, Some(Outcome::Renewed(renewed)));
    let Some(Outcome::Refusal(refusal)) = &results[1].result else { panic!("{results:?}") };
    assert_eq!(Reason::from_wire(refusal.reason()), Some(Reason::LeaseLost));

    let request =
        v1::ReleaseLeaseRequest { lease_id: lease_id.clone(), token: 5, ..Default::default() };
    assert!(leases.release_lease(request).await.unwrap().into_inner().replayed);

    let key = v1::get_lease_request::Key::Resource("a/b".into());
    let request = v1::GetLeaseRequest { key: Some(key) };
    let found = leases.get_lease(request).await.unwrap().into_inner();
    assert_eq!((found.holder_count, found.waiter_count), (3, 4));
    assert_eq!(found.leases, [shown()]);
    assert_eq!((found.waiters.len(), found.closed_ms), (1, 60));
    assert_eq!((found.waiters[0].priority, &found.waiters[0].blocked_by), (-3, &None));

    let list =
        |page_token| v1::ListLeasesRequest { page_size: Some(2), page_token, ..Default::default() };
    let page = leases.list_leases(list(String::new())).await.unwrap().into_inner();
    let next = list(page.next_page_token);
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

/// [`info`] on the wire.
fn shown() -> v1::LeaseInfo {
    let target = |resource: &str| v1::LeaseTarget {
        resource: resource.into(),
        mode: v1::LeaseMode::Exclusive.into(),
        reach: v1::LeaseReach::Exact.into(),
        ..Default::default()
    };
    let mode = |mode: v1::LeaseMode| i32::from(mode);
    let answer = v1::YieldAnswer { will_yield: true, within_ms: 250, message: "soon".into() };
    v1::LeaseInfo {
        targets: vec![
            v1::LeaseTarget { mode: mode(v1::LeaseMode::Shared), ..target("a/b") },
            v1::LeaseTarget {
                mode: mode(v1::LeaseMode::Permits),
                permits: 2,
                limit: 5,
                ..target("p")
            },
            v1::LeaseTarget { reach: v1::LeaseReach::Subtree.into(), ..target("t") },
        ],
        holder: "agent".into(),
        token: 77,
        ttl_ms: 30_000,
        remaining_ms: 29_000,
        actor: "agent/1".into(),
        labels: [("team".into(), "x".into())].into(),
        held_ms: 1_000,
        hold_remaining_ms: Some(59_000),
        lock_delay_ms: 500,
        yield_requests: vec![v1::YieldInfo {
            number: 3,
            holder: "waiter".into(),
            reason: "urgent".into(),
            asked_ms: 40,
            answer: Some(answer),
        }],
    }
}

fn menu(question: &Question) -> Turn {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]
    Turn::Say(Ok(match &question.command {
        Command::TransferLease(transfer) => Reply::Transferred(Grant {
            lease_id: transfer.new_id,
            token: Token(78),
            remaining_ms: 5_000,
            waited_ms: 0,
            replayed: true,
        }),
        Command::RequestLeaseYield(_) => Reply::YieldRequested(vec![YieldStatus {
            holder: holder("agent"),
            token: Token(77),
            remaining_ms: 9,
            is_told: true,
            answer: Some(answer()),
        }]),
        Command::AnswerLeaseYield(_) => Reply::YieldAnswered(4),
        Command::ListLeaseWaiters { after: 0, .. } => {
            Reply::Waiters { waiters: vec![waiter(Some(held()))], next: Some(12) }
        }
        Command::ListLeaseWaiters { after: 12, .. } => {
            Reply::Waiters { waiters: Vec::new(), next: None }
        }
        Command::GetLeaseStats => Reply::Stats(LeaseStats {
            leases: 1,
            waiters: 2,
            closed: 3,
            sessions: 4,
            granted_total: 5,
            released_total: 6,
            lost_total: 7,
            queued_total: 8,
            revision: Revision(9),
        }),
        other => panic!("{other:?}"),
    }))
}

#[tokio::test]
async fn every_call_of_the_whole_menu_is_asked_and_answered() {
    let mut rig = Rig::start(menu).await;
    let mut leases = rig.leases().await;
    let lease_id = "0f".repeat(16);
    let request = v1::TransferLeaseRequest {
        lease_id: lease_id.clone(),
        token: 77,
        to_holder: "heir".into(),
        ..Default::default()
    };
    let given = leases.transfer_lease(request).await.unwrap().into_inner();
    assert_eq!((given.token, given.remaining_ms, given.replayed), (78, 5_000, true));
    let asked = rig.asked.recv().await.unwrap();
    let Command::TransferLease(transfer) = asked.command else { panic!("{asked:?}") };
    assert_eq!(given.lease_id, transfer.new_id.to_string());

    let request = v1::RequestLeaseYieldRequest {
        resource: "a/b".into(),
        holder: "waiter".into(),
        reason: "urgent".into(),
        token: 0,
    };
    let holders = leases.request_lease_yield(request).await.unwrap().into_inner().holders;
    assert!(holders[0].told && holders[0].token == 77 && holders[0].remaining_ms == 9);
    assert_eq!(holders[0].answer, shown().yield_requests[0].answer);

    let request =
        v1::AnswerLeaseYieldRequest { lease_id, token: 77, will_yield: true, ..Default::default() };
    assert_eq!(leases.answer_lease_yield(request).await.unwrap().into_inner().answered, 4);

    let first = v1::ListLeaseWaitersRequest::default();
    let page = leases.list_lease_waiters(first).await.unwrap().into_inner();
    let blocked_by = page.waiters[0].blocked_by.as_ref().unwrap();
    assert_eq!((&*blocked_by.resource, blocked_by.closed_ms), ("a/b", 900));
    let next = v1::ListLeaseWaitersRequest { page_size: None, page_token: page.next_page_token };
    let page = leases.list_lease_waiters(next).await.unwrap().into_inner();
    assert_eq!((page.waiters.len(), &*page.next_page_token), (0, ""));

    let stats = leases.get_lease_stats(v1::GetLeaseStatsRequest {}).await.unwrap().into_inner();
    let totals = [stats.granted_total, stats.released_total, stats.lost_total, stats.queued_total];
    assert_eq!((stats.leases, stats.waiters, stats.closed, stats.sessions), (1, 2, 3, 4));
    assert_eq!((totals, stats.revision), ([5, 6, 7, 8], 9));
    let text = rig.metrics.render();
    for method in [
        "TransferLease",
        "RequestLeaseYield",
        "AnswerLeaseYield",
        "ListLeaseWaiters",
        "GetLeaseStats",
    ] {
        let line = format!("singletrack_requests_total{{method=\"{method}\"}}");
        assert!(text.lines().any(|it| it.starts_with(&line) && !it.ends_with(" 0")), "{text}");
    }
}

/// A lease with as much in it as one can have.
fn largest() -> LeaseInfo {
    let long = |byte: char, count: usize| byte.to_string().repeat(count);
    let targets = (0..128).map(|i| {
        let name = resource(&format!("{i:0>128}"));
        Target::exact(name, Mode::Permits(Permits::parse(1_000_000, 1_000_000).unwrap()))
    });
    let words = Words::parse(&long('\u{1F512}', 256)).unwrap();
    let name = holder(&long('\u{1F512}', 256));
    let labels: Vec<_> = (0..7).map(|i| (i.to_string(), long('x', 256))).collect();
    let request = YieldInfo {
        from: name.clone(),
        reason: words.clone(),
        answer: Some(YieldAnswer { within_ms: None, message: words }),
        ..asked()
    };
    LeaseInfo {
        targets: Targets::parse(targets.collect()).unwrap(),
        holder: name,
        actor: Some(Actor::parse(&long('a', 256)).unwrap()),
        labels: Labels::parse(labels.iter().map(|(k, v)| (&**k, &**v))).unwrap(),
        yield_requests: vec![request; 8],
        ..info()
    }
}

#[tokio::test]
async fn the_largest_replies_fit_into_a_message_and_say_where_to_go_on() {
    let largest_waiter = || WaiterInfo {
        holder: largest().holder,
        actor: largest().actor,
        targets: largest().targets,
        waited_ms: u64::MAX,
        ..waiter(Some(crate::refusals::largest_held()))
    };
    let rig = Rig::start(move |question| {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]
        Turn::Say(Ok(match &question.command {
            Command::ListLeases { count, .. } => {
                let leases = (0..*count as u64)
                    .map(|i| LeaseInfo { token: Token(i + 1), ..largest() })
                    .collect();
                Reply::Page { leases, next: None }
            }
            Command::GetLease(_) => Reply::Found(Found {
                leases: vec![largest(); 64],
                holder_count: 70,
                waiter_count: 16,
                waiters: (0..16)
                    .map(|_| WaiterInfo { blocked_by: None, ..largest_waiter() })
                    .collect(),
                closed_ms: 0,
            }),
            Command::ListLeaseWaiters { count, .. } => {
                Reply::Waiters { waiters: vec![largest_waiter(); *count], next: Some(9) }
            }
            other => panic!("{other:?}"),
        }))
    })
    .await;
    let mut leases = rig.leases().await;
    let list = v1::ListLeasesRequest { page_size: Some(1_000), ..Default::default() };
    let page = leases.list_leases(list).await.unwrap().into_inner();
    let last = page.leases.last().unwrap().token;
    assert!((30..1_000).contains(&last), "{last}");
    assert_eq!(page.next_page_token, format!("{last:016x}"));

    let key = v1::get_lease_request::Key::Resource("a".into());
    let request = v1::GetLeaseRequest { key: Some(key) };
    let found = leases.get_lease(request).await.unwrap().into_inner();
    assert!(found.leases.len() >= 30 && found.waiters.len() == 16);
    assert_eq!(found.holder_count, 70);

    let list = v1::ListLeaseWaitersRequest { page_size: Some(100), page_token: String::new() };
    let page = leases.list_lease_waiters(list).await.unwrap().into_inner();
    assert_eq!(page.waiters.len(), 100);
    // On a stream there is a frame around it.
    assert!(page.encoded_len() + 64 <= 2 << 20, "{}", page.encoded_len());
    assert_eq!(page.waiters[0].blocked_by.as_ref().unwrap().holders.len(), 1);
    assert_eq!(page.waiters[0].blocked_by.as_ref().unwrap().holder_count, u32::MAX);
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
