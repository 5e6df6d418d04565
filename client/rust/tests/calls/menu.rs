//! The whole menu of leases: what the client sends and what it makes of the answers, against a fake
//! server.

use std::{collections::BTreeMap, time::Duration};

use singletrack::{
    Acquire, AnswerYield, Client, HoldState, LeaseEnd, List, ListWaiters, Mode, Reach, Reason,
    RequestYield, Transfer, Transport, YieldAnswer,
};
use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use crate::fake::Fake;

const SECOND: Duration = Duration::from_secs(1);

async fn started() -> (Fake, Client) {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url())
        .transport(Transport::Unary)
        .holder("ada")
        .retries(false)
        .build()
        .unwrap();
    (fake, client)
}

fn granted(token: u64, remaining_ms: u64) -> Reply {
    Reply::AcquireLease(v1::AcquireLeaseResponse {
        lease_id: "ab".repeat(16),
        token,
        remaining_ms,
        ..Default::default()
    })
}

fn target(resource: &str, mode: v1::LeaseMode, reach: v1::LeaseReach) -> v1::LeaseTarget {
    v1::LeaseTarget {
        resource: resource.into(),
        mode: mode.into(),
        reach: reach.into(),
        ..Default::default()
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn lost(end: v1::LeaseEnd) -> v1::Refusal {
    v1::Refusal {
        reason: v1::RefusalReason::LeaseLost.into(),
        detail: Some(v1::refusal::Detail::LeaseLost(v1::LeaseLostDetail {
            end: end.into(),
            token: 7,
        })),
        ..Default::default()
    }
}

fn renewed(result: v1::renew_lease_result::Result) -> Reply {
    let result = v1::RenewLeaseResult { result: Some(result) };
    Reply::RenewLeases(v1::RenewLeasesResponse { results: vec![result] })
}

fn asking(number: u64) -> v1::YieldInfo {
    v1::YieldInfo {
        number,
        holder: "bob".into(),
        reason: "a hotfix".into(),
        asked_ms: 1_000,
        answer: None,
    }
}

fn shown(yield_requests: Vec<v1::YieldInfo>) -> Reply {
    let info = v1::LeaseInfo {
        targets: vec![target("r", v1::LeaseMode::Exclusive, v1::LeaseReach::Exact)],
        holder: "ada".into(),
        token: 7,
        ttl_ms: 3_000,
        remaining_ms: 2_000,
        held_ms: 9_000,
        hold_remaining_ms: Some(500),
        labels: labels(&[("team", "red")]),
        actor: "ada/1".into(),
        lock_delay_ms: 250,
        yield_requests,
    };
    Reply::GetLease(v1::GetLeaseResponse { leases: vec![info], ..Default::default() })
}

#[tokio::test]
async fn a_mode_is_of_the_target_named_last() {
    let (fake, client) = started().await;
    fake.say(granted(7, 30_000));
    let lease = client
        .lease("src")
        .shared()
        .subtree()
        .and("docs/plan.md")
        .and("machines")
        .permits(2, 5)
        .actor("ada/1")
        .label("team", "red")
        .max_hold(Duration::from_secs(600))
        .lock_delay(Duration::from_secs(5))
        .priority(3)
        .ttl(Duration::from_secs(30))
        .acquire()
        .await
        .unwrap();
    assert_eq!((lease.resource(), lease.targets().len()), ("src", 3));
    let modes: Vec<_> = lease.targets().iter().map(|it| (it.mode, it.reach)).collect();
    let expected = [
        (Mode::Shared, Reach::Subtree),
        (Mode::Exclusive, Reach::Exact),
        (Mode::Permits { count: 2, limit: 5 }, Reach::Exact),
    ];
    assert_eq!(modes, expected);

    let Operation::AcquireLease(asked) = fake.asked().remove(0).operation else { panic!() };
    let expected = v1::AcquireLeaseRequest {
        request_id: asked.request_id.clone(),
        holder: "ada".into(),
        targets: vec![
            target("src", v1::LeaseMode::Shared, v1::LeaseReach::Subtree),
            target("docs/plan.md", v1::LeaseMode::Exclusive, v1::LeaseReach::Exact),
            v1::LeaseTarget {
                permits: 2,
                limit: 5,
                ..target("machines", v1::LeaseMode::Permits, v1::LeaseReach::Exact)
            },
        ],
        ttl_ms: Some(30_000),
        priority: 3,
        actor: "ada/1".into(),
        labels: labels(&[("team", "red")]),
        max_hold_ms: Some(600_000),
        lock_delay_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(asked, expected);
    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: false }));
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_lease_is_given_to_another_and_kept_by_it() {
    let (fake, client) = started().await;
    fake.say(granted(7, 30_000));
    let lease = client.lease("r").ttl(30 * SECOND).acquire().await.unwrap();
    fake.say(Reply::TransferLease(v1::TransferLeaseResponse {
        lease_id: "cd".repeat(16),
        token: 8,
        remaining_ms: 3_000,
        replayed: false,
    }));
    let given = lease.transfer("bob").await.unwrap();
    assert_eq!((given.lease_id.as_str(), given.token), (&*"cd".repeat(16), 8));
    let asked = fake.asked();
    let Operation::TransferLease(transfer) = &asked[1].operation else { panic!("{asked:?}") };
    assert_eq!((transfer.token, &*transfer.to_holder, &*transfer.to_actor), (7, "bob", ""));
    assert_eq!(transfer.request_id, given.request_id);

    let left = v1::RenewedLease { remaining_ms: 3_000, yield_requests: 0 };
    fake.say(shown(vec![])).say(renewed(v1::renew_lease_result::Result::Renewed(left)));
    let kept = client.adopt(given.lease_id, given.token).await.unwrap();
    assert_eq!((kept.state(), kept.resource()), (HoldState::Held, "r"));
    assert!(kept.remaining() <= 3 * SECOND - Duration::from_millis(50));
    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: false }));
    kept.release().await.unwrap();
}

#[tokio::test]
async fn a_transfer_says_all_that_was_said_and_one_that_fails_leaves_the_lease() {
    let (fake, client) = started().await;
    fake.say(Reply::TransferLease(v1::TransferLeaseResponse::default()));
    let transfer = Transfer::new("ab", 7, "bob")
        .actor("bob/1")
        .ttl(5 * SECOND)
        .request_id("mine")
        .fence("x", 3)
        .age(SECOND);
    client.transfer(transfer).await.unwrap();
    let Operation::TransferLease(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!((&*asked.to_actor, asked.ttl_ms, asked.age_ms), ("bob/1", Some(5_000), 1_000));
    assert_eq!((&*asked.request_id, asked.fences.len()), ("mine", 1));

    fake.say(granted(7, 30_000));
    let lease = client.lease("r").ttl(30 * SECOND).acquire().await.unwrap();
    fake.refuse(tonic::Status::permission_denied("not today"));
    let not = lease.transfer("bob").await.unwrap_err();
    assert_eq!(not.lease.state(), HoldState::Held);
    assert!(not.to_string().contains("r was not transferred"), "{not}");
    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: false }));
    not.lease.release().await.unwrap();
}

#[tokio::test]
async fn a_renewal_that_says_somebody_asks_tells_who_and_the_answer_goes_back() {
    let (fake, client) = started().await;
    fake.say(granted(7, 1_000));
    let lease = client.lease("r").ttl(SECOND).acquire().await.unwrap();
    let left = v1::RenewedLease { remaining_ms: 1_000, yield_requests: 1 };
    fake.say(renewed(v1::renew_lease_result::Result::Renewed(left)));
    fake.say(shown(vec![asking(4)]));
    let request = lease.yield_requested().await.unwrap();
    assert_eq!((request.number, request.holder.as_str()), (4, "bob"));
    assert_eq!((request.reason.as_deref(), request.asked), (Some("a hotfix"), SECOND));

    // The renewals go on and meet what is said next: the order is theirs.
    fake.asked();
    fake.say(Reply::AnswerLeaseYield(v1::AnswerLeaseYieldResponse { answered: 1 }));
    let answer = YieldAnswer::within(5 * SECOND).message("after this test");
    lease.answer_yield(&request, answer).await.unwrap();
    let Operation::AnswerLeaseYield(asked) = fake.asked().remove(0).operation else { panic!() };
    let expected = v1::AnswerLeaseYieldRequest {
        lease_id: "ab".repeat(16),
        token: 7,
        number: 4,
        will_yield: true,
        within_ms: 5_000,
        message: "after this test".into(),
    };
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_lost_handle_tells_its_end() {
    for (end, expected) in [
        (v1::LeaseEnd::MaxHold, LeaseEnd::MaxHold),
        (v1::LeaseEnd::Transferred, LeaseEnd::Transferred),
    ] {
        let (fake, client) = started().await;
        fake.say(granted(7, 1_000));
        let lease = client.lease("r").ttl(SECOND).acquire().await.unwrap();
        assert_eq!(lease.end(), None);
        fake.say(renewed(v1::renew_lease_result::Result::Refusal(lost(end))));
        assert_eq!(lease.lost().await.lease_end(), Some(expected));
        assert_eq!((lease.end(), lease.state()), (Some(expected), HoldState::Lost));
        assert!(lease.yield_requested().await.is_none());
    }
}

#[tokio::test]
async fn the_safe_deadline_is_what_is_left_of_the_longest_hold() {
    let (fake, client) = started().await;
    fake.say(granted(7, 3_000));
    let wish = client.lease("r").ttl(30 * SECOND).max_hold(3 * SECOND);
    let lease = wish.acquire().await.unwrap();
    // Less 1 % of the ttl and 20 ms.
    assert!(lease.remaining() <= Duration::from_millis(2_680), "{:?}", lease.remaining());
    assert!(lease.remaining() > SECOND);
}

#[tokio::test]
async fn requests_to_yield_and_their_answers_are_plain_values() {
    let (fake, client) = started().await;
    let answer = v1::YieldAnswer { will_yield: false, within_ms: 0, message: "no".into() };
    let status = v1::YieldStatus {
        holder: "ada".into(),
        token: 7,
        remaining_ms: 1_000,
        told: true,
        answer: Some(answer),
    };
    let quiet = v1::YieldStatus { told: false, answer: None, ..status.clone() };
    fake.say(Reply::RequestLeaseYield(v1::RequestLeaseYieldResponse {
        holders: vec![status, quiet],
    }));
    let request = RequestYield::new("r", "bob").token(7).reason("a hotfix");
    let holders = client.request_yield(request).await.unwrap();
    assert_eq!(holders[0].answer, Some(YieldAnswer::decline().message("no")));
    assert!(holders[0].told && !holders[1].told && holders[1].answer.is_none());
    let Operation::RequestLeaseYield(asked) = fake.asked().remove(0).operation else { panic!() };
    let expected = v1::RequestLeaseYieldRequest {
        resource: "r".into(),
        token: 7,
        holder: "bob".into(),
        reason: "a hotfix".into(),
    };
    assert_eq!(asked, expected);

    fake.say(Reply::AnswerLeaseYield(v1::AnswerLeaseYieldResponse { answered: 3 }));
    let answer = AnswerYield::new("ab", 7, YieldAnswer::decline());
    assert_eq!(client.answer_yield(answer).await.unwrap(), 3);
    let Operation::AnswerLeaseYield(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!((asked.number, asked.will_yield, asked.within_ms), (0, false, 0));
}

#[tokio::test]
async fn a_list_is_filtered_on_the_server() {
    let (fake, client) = started().await;
    fake.say(Reply::ListLeases(v1::ListLeasesResponse::default()));
    let list = List::new().holder("ada").prefix("src").label("team", "red").label("a", "b");
    assert!(client.list_all_of(list).await.unwrap().is_empty());
    let Operation::ListLeases(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!((&*asked.holder, &*asked.resource_prefix), ("ada", "src"));
    assert_eq!(
        (asked.labels, asked.page_size),
        (labels(&[("a", "b"), ("team", "red")]), Some(1_000))
    );
}

#[tokio::test]
async fn a_lease_shows_everything_that_is_known_of_it() {
    let (fake, client) = started().await;
    fake.say(shown(vec![asking(4)]));
    let info = client.get_by_id("ab").await.unwrap();
    assert_eq!((info.held, info.hold_remaining), (9 * SECOND, Some(SECOND / 2)));
    assert_eq!((info.actor.as_deref(), info.lock_delay), (Some("ada/1"), SECOND / 4));
    assert_eq!((info.labels["team"].as_str(), info.yield_requests.len()), ("red", 1));

    // A lease on nothing is no lease.
    fake.say(Reply::GetLease(v1::GetLeaseResponse {
        leases: vec![v1::LeaseInfo::default()],
        ..Default::default()
    }));
    assert_eq!(client.get("r").await.unwrap_err().code(), tonic::Code::Internal);
}

#[tokio::test]
async fn waiters_say_what_is_in_their_way_and_stats_are_counts() {
    let (fake, client) = started().await;
    let waiter = |holder: &str| v1::WaiterInfo {
        holder: holder.into(),
        targets: vec![target("r", v1::LeaseMode::Exclusive, v1::LeaseReach::Subtree)],
        priority: 2,
        waited_ms: 1_000,
        attached: true,
        blocked_by: Some(v1::HeldDetail { queue_position: 4, ..Default::default() }),
        ..Default::default()
    };
    let page = |holder, next: &str| {
        Reply::ListLeaseWaiters(v1::ListLeaseWaitersResponse {
            waiters: vec![waiter(holder)],
            next_page_token: next.into(),
        })
    };
    fake.say(page("bob", "p2")).say(page("eve", ""));
    let waiters = client.list_all_waiters().await.unwrap();
    assert_eq!(waiters.iter().map(|it| &*it.holder).collect::<Vec<_>>(), ["bob", "eve"]);
    assert_eq!(waiters[0].targets[0].reach, Reach::Subtree);
    assert_eq!(waiters[0].blocked_by.as_ref().unwrap().queue_position, 4);
    let Operation::ListLeaseWaiters(asked) = fake.asked().remove(1).operation else { panic!() };
    assert_eq!((&*asked.page_token, asked.page_size), ("p2", Some(100)));

    fake.say(page("bob", "p2"));
    let page = client.list_waiters(ListWaiters::new().page_size(1).after("p1")).await.unwrap();
    assert_eq!(page.next_page_token.as_deref(), Some("p2"));

    fake.say(Reply::GetLeaseStats(v1::GetLeaseStatsResponse {
        leases: 1,
        waiters: 2,
        closed: 3,
        sessions: 4,
        granted_total: 5,
        released_total: 6,
        lost_total: 7,
        queued_total: 8,
        revision: 9,
    }));
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.leases, stats.waiters, stats.closed, stats.sessions), (1, 2, 3, 4));
    assert_eq!((stats.granted_total, stats.released_total), (5, 6));
    assert_eq!((stats.lost_total, stats.queued_total, stats.revision), (7, 8, 9));
}

#[tokio::test]
async fn a_plain_acquire_has_the_whole_menu_too() {
    let (fake, client) = started().await;
    fake.refuse(tonic::Status::permission_denied("not today"));
    let wish = Acquire::new("a", "ada")
        .exclusive()
        .subtree()
        .actor("x/y")
        .label("k", "v")
        .max_hold(SECOND)
        .lock_delay(2 * SECOND);
    let error = client.acquire(wish).await.unwrap_err();
    assert_eq!(error.reason(), None::<Reason>);
    let Operation::AcquireLease(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!(
        (&*asked.actor, asked.max_hold_ms, asked.lock_delay_ms),
        ("x/y", Some(1_000), 2_000)
    );
    assert_eq!(asked.targets[0].reach(), v1::LeaseReach::Subtree);
}
