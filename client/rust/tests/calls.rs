//! What the client sends and what it makes of the answers, against a fake server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/support/fake.rs"]
mod fake;
#[path = "calls/menu.rs"]
mod menu;
#[path = "calls/records.rs"]
mod records;
#[path = "calls/transact.rs"]
mod transact;

use std::time::Duration;

use fake::{Answer, Fake};
use singletrack::{
    Abandoned, Acquire, Client, ForceRelease, LeaseEnd, List, MAX_WAIT, Mode, Reason, Release,
    Renewal, Transport,
};
use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn granted(token: u64) -> Reply {
    Reply::AcquireLease(v1::AcquireLeaseResponse {
        lease_id: "ab".repeat(16),
        token,
        remaining_ms: 30_000,
        waited_ms: 12,
        replayed: false,
    })
}

fn info(resource: &str, token: u64) -> v1::LeaseInfo {
    v1::LeaseInfo {
        targets: vec![v1::LeaseTarget {
            resource: resource.into(),
            mode: v1::LeaseMode::Shared.into(),
            ..Default::default()
        }],
        holder: "ada".into(),
        token,
        ttl_ms: 30_000,
        remaining_ms: 20_000,
        ..Default::default()
    }
}

/// A client of unary calls that sends each of them once.
fn client_of(fake: &Fake) -> Client {
    Client::builder(fake.url()).transport(Transport::Unary).retries(false).build().unwrap()
}

async fn started() -> (Fake, Client) {
    let fake = Fake::start().await;
    let client = client_of(&fake);
    (fake, client)
}

#[tokio::test]
async fn an_acquire_is_sent_with_everything_that_was_said() {
    let (fake, client) = started().await;
    fake.say(granted(7));
    let wish = Acquire::new("a/b", "ada")
        .ttl(Duration::from_secs(5))
        .wait(Duration::from_secs(2))
        .keep(Duration::from_secs(3))
        .shared()
        .priority(-4)
        .request_id("mine")
        .fence("other", 3)
        .age(Duration::from_millis(9));
    let lease = client.with_namespace("farm").unwrap().acquire(wish).await.unwrap();
    assert_eq!((lease.token, lease.request_id.as_str()), (7, "mine"));
    assert_eq!(lease.waited, Duration::from_millis(12));

    let asked = fake.asked().remove(0);
    assert_eq!(asked.namespace.as_deref(), Some("farm"));
    let expected = v1::AcquireLeaseRequest {
        request_id: "mine".into(),
        holder: "ada".into(),
        targets: vec![v1::LeaseTarget {
            resource: "a/b".into(),
            mode: v1::LeaseMode::Shared.into(),
            reach: v1::LeaseReach::Exact.into(),
            ..Default::default()
        }],
        ttl_ms: Some(5_000),
        wait_ms: 2_000,
        keep_ms: Some(3_000),
        priority: -4,
        fences: vec![v1::Fence {
            target: Some(v1::fence::Target::Resource("other".into())),
            token: 3,
        }],
        age_ms: 9,
        ..Default::default()
    };
    assert_eq!(asked.operation, Operation::AcquireLease(expected));
}

#[tokio::test]
async fn without_a_namespace_no_metadata_is_sent() {
    let (fake, client) = started().await;
    fake.say(Reply::Ping(v1::PingResponse::default()));
    client.ping().await.unwrap();
    assert_eq!(fake.asked().remove(0).namespace, None);
}

#[tokio::test]
async fn the_deadline_of_a_waiting_call_lies_beyond_its_wait() {
    let (fake, client) = started().await;
    for (wait, least) in [
        (Duration::ZERO, Duration::from_millis(200)),
        (Duration::from_secs(20), Duration::from_secs(21)),
        (Duration::from_secs(600), MAX_WAIT + Duration::from_secs(1)),
    ] {
        fake.say(granted(1));
        let client = client.with_timeout(Duration::from_millis(200));
        client.acquire(Acquire::new("r", "ada").wait(wait)).await.unwrap();
        let timeout = fake.asked().remove(0).timeout.unwrap();
        // What this side needed before it was sent is off.
        let early = least.saturating_sub(Duration::from_millis(150));
        assert!((early..=least).contains(&timeout), "{timeout:?} for {least:?}");
    }
}

#[tokio::test]
async fn each_logical_call_has_its_own_request_id() {
    let (fake, client) = started().await;
    let wish = Acquire::new("r", "ada");
    let mut ids = Vec::new();
    for _ in 0..2 {
        fake.say(granted(1));
        let lease = client.acquire(wish.clone()).await.unwrap();
        ids.push(lease.request_id.clone());
        fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: false }));
        client.release(Release::of(&lease)).await.unwrap();
        fake.say(Reply::ForceReleaseLease(v1::ForceReleaseLeaseResponse::default()));
        client.force_release(ForceRelease::new("r", 1)).await.unwrap();
    }
    for asked in fake.asked() {
        if let Operation::ReleaseLease(request) = asked.operation {
            ids.push(request.request_id);
        } else if let Operation::ForceReleaseLease(request) = asked.operation {
            ids.push(request.request_id);
        }
    }
    assert!(ids.iter().all(|id| id.len() == 32), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn an_error_names_the_request_id_to_repeat_the_call_with() {
    let (fake, client) = started().await;
    fake.refuse(tonic::Status::unavailable("gone"));
    let error = client.acquire(Acquire::new("r", "ada")).await.unwrap_err();
    let Operation::AcquireLease(request) = fake.asked().remove(0).operation else {
        panic!("expected an acquire");
    };
    assert_eq!(error.request_id(), Some(request.request_id.as_str()));
    assert!(error.may_have_happened() && error.is_retryable());
}

#[tokio::test]
async fn a_silent_server_meets_the_deadline() {
    let (fake, client) = started().await;
    fake.will(Answer::Nothing);
    let client = client.with_timeout(Duration::from_millis(50));
    let error = client.check("r", 1).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::DeadlineExceeded));
    assert!(error.may_have_happened() && !error.is_from_server());
}

#[tokio::test]
async fn each_renewal_has_its_own_result() {
    let (fake, client) = started().await;
    let refusal = v1::Refusal {
        reason: v1::RefusalReason::LeaseLost.into(),
        message: "it expired".into(),
        next_step: "acquire it again".into(),
        detail: Some(v1::refusal::Detail::LeaseLost(v1::LeaseLostDetail {
            end: v1::LeaseEnd::Expired.into(),
            token: 2,
        })),
        ..Default::default()
    };
    let results = [
        v1::renew_lease_result::Result::Renewed(v1::RenewedLease {
            remaining_ms: 5,
            yield_requests: 2,
        }),
        v1::renew_lease_result::Result::Refusal(refusal),
    ]
    .map(|result| v1::RenewLeaseResult { result: Some(result) });
    fake.say(Reply::RenewLeases(v1::RenewLeasesResponse { results: results.into() }));
    let results = client.renew([Renewal::new("a", 1), Renewal::new("b", 2)]).await.unwrap();
    let renewed = results[0].as_ref().unwrap();
    assert_eq!((renewed.remaining, renewed.yield_requests), (Duration::from_millis(5), 2));
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::LeaseLost));
    assert!(matches!(
        error.refusal(),
        Some(singletrack::Facts::LeaseLost { end: LeaseEnd::Expired, token: 2, .. })
    ));
}

#[tokio::test]
async fn too_few_renewal_results_are_an_error_and_no_panic() {
    let (fake, client) = started().await;
    fake.say(Reply::RenewLeases(v1::RenewLeasesResponse { results: Vec::new() }));
    let error = client.renew_one("a", 1).await.unwrap_err();
    assert!(error.message().contains("expected 1 results"), "{error}");
}

#[tokio::test]
async fn all_pages_are_asked_for_and_a_page_that_repeats_is_an_error() {
    let (fake, client) = started().await;
    let page = |token, next: &str| {
        Reply::ListLeases(v1::ListLeasesResponse {
            leases: vec![info("r", token)],
            next_page_token: next.into(),
        })
    };
    fake.say(page(1, "p2")).say(page(2, ""));
    let leases = client.list_all().await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.token).collect::<Vec<_>>(), [1, 2]);
    let Operation::ListLeases(second) = fake.asked().remove(1).operation else {
        panic!("expected a list");
    };
    assert_eq!(second.page_token, "p2");

    fake.say(page(1, "p2")).say(page(2, "p2"));
    client.list_all().await.unwrap_err();

    fake.say(page(1, "next"));
    let page = client.list(List::new().page_size(1)).await.unwrap();
    assert_eq!(page.next_page_token.as_deref(), Some("next"));
}

#[tokio::test]
async fn holders_checks_and_abandoned_calls_are_plain_values() {
    let (fake, client) = started().await;
    fake.say(Reply::GetLease(v1::GetLeaseResponse {
        leases: vec![info("r", 4)],
        holder_count: 1,
        waiter_count: 3,
        ..Default::default()
    }));
    let holders = client.get("r").await.unwrap();
    assert_eq!((holders.holder_count, holders.waiter_count), (1, 3));
    assert_eq!((holders.leases[0].targets[0].mode, holders.leases[0].token), (Mode::Shared, 4));

    fake.say(Reply::GetLease(v1::GetLeaseResponse {
        leases: vec![info("r", 4)],
        ..Default::default()
    }));
    assert_eq!(client.get_by_id("ab").await.unwrap().resource(), "r");

    fake.say(Reply::CheckLease(v1::CheckLeaseResponse::default()));
    let check = client.check("r", 4).await.unwrap();
    assert_eq!((check.current, check.current_token, check.holder), (false, None, None));

    for (state, expected) in
        [(v1::AbandonedState::Held as i32, Abandoned::Held), (77, Abandoned::Other)]
    {
        fake.say(Reply::AbandonLease(v1::AbandonLeaseResponse { state }));
        assert_eq!(client.abandon("id").await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_server_of_something_else_is_told_from_one_that_is_down() {
    let (_fake, client) = started().await;
    // The fake has no health service.
    let error = client.health().await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented);
    assert!(!error.is_from_server() && !error.is_retryable() && !error.was_never_sent());
}

/// What a server says that is too busy, in all its details.
fn overloaded() -> tonic::Status {
    use tonic_types::StatusExt as _;
    let details = tonic_types::ErrorDetails::with_error_info(
        Reason::Overloaded.name(),
        singletrack_proto::DOMAIN,
        std::collections::HashMap::<String, String>::new(),
    );
    tonic::Status::with_error_details(Reason::Overloaded.code(), "busy", details)
}

#[tokio::test]
async fn an_overloaded_server_says_nothing_of_an_attempt_before() {
    let fake = Fake::start().await;
    let client =
        Client::builder(fake.url()).transport(Transport::Unary).timeout(SECOND).build().unwrap();
    // The answer is lost on the way; then nobody has time for the call.
    fake.refuse(tonic::Status::unavailable("the connection broke"));
    for _ in 0..40 {
        fake.refuse(overloaded());
    }
    let error = client.acquire(Acquire::new("a", "ada")).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Overloaded), "{error}");
    assert!(error.may_have_happened(), "the first attempt may have");

    let ages: Vec<u64> = fake.asked().iter().map(|asked| age_of(&asked.operation)).collect();
    assert!(ages.len() > 2, "{ages:?}");
    assert_eq!(ages[0], 0);
    assert!(ages[1..].iter().is_sorted() && ages[1] > 0, "it grows older: {ages:?}");
    assert!(ages[2] > ages[1], "{ages:?}");
}

#[tokio::test]
async fn one_that_was_never_taken_has_no_age() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).transport(Transport::Unary).build().unwrap();
    fake.refuse(overloaded()).refuse(overloaded()).say(granted(7));
    client.acquire(Acquire::new("a", "ada")).await.unwrap();
    let ages: Vec<u64> = fake.asked().iter().map(|asked| age_of(&asked.operation)).collect();
    assert_eq!(ages, [0, 0, 0]);
}

fn age_of(operation: &Operation) -> u64 {
    let Operation::AcquireLease(acquire) = operation else { panic!("an acquire: {operation:?}") };
    acquire.age_ms
}
