//! The life of a lease, through the Rust client and through the bare stubs.

use std::time::Duration;

use singletrack::{
    Abandoned, Acquire, Client, Error, ForceRelease, Lease, List, Mode, Reason, Release, Renewal,
};
use singletrack_proto::v1;
use tokio::task::JoinHandle;

use crate::rig::{Rig, acquire, ok, refused, release, soon};

const LONG: Duration = Duration::from_secs(20);

/// Asks on a connection of its own and waits long.
fn park(rig: &Rig, wish: Acquire) -> JoinHandle<Result<Lease, Error>> {
    let client = rig.client();
    tokio::spawn(async move { client.acquire(wish.wait(LONG)).await })
}

async fn parked(call: JoinHandle<Result<Lease, Error>>) -> Lease {
    soon(call).await.unwrap().unwrap()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Option<Reason> {
    answer.unwrap_err().reason()
}

#[tokio::test]
async fn a_lease_is_taken_shown_checked_renewed_and_given_back() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.acquire(Acquire::new("a/b", "first")).await.unwrap();
    assert_eq!((lease.lease_id.len(), lease.replayed, lease.waited), (32, false, Duration::ZERO));

    let holders = client.get("a/b").await.unwrap();
    assert_eq!((holders.holder_count, holders.waiter_count), (1, 0));
    let info = client.get_by_id(&lease.lease_id).await.unwrap();
    assert_eq!(holders.leases[0].token, info.token);
    assert_eq!(
        (info.resource(), &*info.holder, info.targets[0].mode),
        ("a/b", "first", Mode::Exclusive)
    );
    assert_eq!((info.token, info.ttl), (lease.token, Duration::from_secs(30)));

    let check = client.check("a/b", lease.token).await.unwrap();
    assert_eq!((check.current, check.holder.as_deref()), (true, Some("first")));
    let check = client.check("a/b", lease.token - 1).await.unwrap();
    assert_eq!((check.current, check.current_token), (false, Some(lease.token)));

    let renewed = client.renew_one(&lease.lease_id, lease.token).await.unwrap();
    assert!(renewed.remaining > Duration::from_secs(29), "{renewed:?}");

    assert!(!client.release(Release::of(&lease)).await.unwrap().replayed);
    assert!(client.release(Release::of(&lease)).await.unwrap().replayed, "again is OK");
    assert_eq!(
        reason(client.renew_one(&lease.lease_id, lease.token).await),
        Some(Reason::LeaseLost)
    );
    assert_eq!(reason(client.get_by_id(&lease.lease_id).await), Some(Reason::LeaseLost));
    let check = client.check("a/b", lease.token).await.unwrap();
    assert_eq!((check.current, check.current_token, check.holder), (false, None, None));
    rig.stop().await;
}

#[tokio::test]
async fn the_same_request_id_gets_the_same_lease() {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let mut wish = acquire("a", "first");
    wish.request_id = "once".into();
    let first = ok(leases.acquire_lease(wish.clone())).await;
    // What may differ between two sends: how long they wait, and their age.
    (wish.wait_ms, wish.keep_ms, wish.age_ms) = (10_000, Some(1), 40_000);
    let again = ok(leases.acquire_lease(wish)).await;
    assert_eq!((&first.lease_id, first.token), (&again.lease_id, again.token));
    assert_eq!((first.replayed, again.replayed, again.waited_ms), (false, true, 0));
    rig.stop().await;
}

#[tokio::test]
async fn one_bulk_renewal_answers_each_lease_by_itself() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.acquire(Acquire::new("a", "first")).await.unwrap();
    let gone = client.acquire(Acquire::new("b", "first")).await.unwrap();
    client.release(Release::of(&gone)).await.unwrap();
    let mut results = client
        .renew([
            Renewal::of(&lease),
            Renewal::of(&gone),
            Renewal::new(&lease.lease_id, lease.token + 1),
            Renewal::new("0".repeat(32), 7),
        ])
        .await
        .unwrap()
        .into_iter();
    results.next().unwrap().unwrap();
    let reasons: Vec<_> = results.map(|result| result.unwrap_err().reason().unwrap()).collect();
    assert_eq!(reasons, [Reason::LeaseLost, Reason::NotHolder, Reason::NotFound]);
    rig.stop().await;
}

#[tokio::test]
async fn pages_of_a_list_follow_each_other_in_the_order_of_tokens() {
    let rig = Rig::start().await;
    let client = rig.client();
    let mut tokens = Vec::new();
    for i in 0..5 {
        tokens.push(client.acquire(Acquire::new(format!("r/{i}"), "a")).await.unwrap().token);
    }
    let (mut seen, mut sizes, mut list) = (Vec::new(), Vec::new(), List::new().page_size(2));
    loop {
        let page = client.list(list).await.unwrap();
        sizes.push(page.leases.len());
        seen.extend(page.leases.iter().map(|lease| lease.token));
        let Some(next) = page.next_page_token else { break };
        list = List::new().page_size(2).after(next);
    }
    assert_eq!((seen, sizes), (tokens, vec![2, 2, 1]));
    rig.stop().await;
}

#[tokio::test]
async fn shared_leases_go_together_and_a_writer_is_not_overtaken() {
    let rig = Rig::start().await;
    let client = rig.client();
    let one = client.acquire(Acquire::new("a", "r1").shared()).await.unwrap();
    let two = client.acquire(Acquire::new("a", "r2").shared()).await.unwrap();
    assert_eq!(client.get("a").await.unwrap().holder_count, 2);
    let writer = park(&rig, Acquire::new("a", "w"));
    rig.until_waiting("a", 1).await;
    let late = client.acquire(Acquire::new("a", "r3").shared()).await;
    assert_eq!(reason(late), Some(Reason::Held));
    client.release(Release::of(&one)).await.unwrap();
    client.release(Release::of(&two)).await.unwrap();
    assert!(parked(writer).await.token > two.token);
    rig.stop().await;
}

#[tokio::test]
async fn waiters_are_served_by_priority_and_then_in_turn() {
    let rig = Rig::start().await;
    let client = rig.client();
    let mut held = client.acquire(Acquire::new("a", "first")).await.unwrap();
    let mut calls = Vec::new();
    for (waiters, (name, priority)) in (1..).zip([("b", 0), ("c", 0), ("d", 5)]) {
        calls.push((name, park(&rig, Acquire::new("a", name).priority(priority))));
        rig.until_waiting("a", waiters).await;
    }
    calls.rotate_right(1);
    for (name, call) in calls {
        client.release(Release::of(&held)).await.unwrap();
        let next = parked(call).await;
        assert!(next.holder == name && next.token > held.token, "{next:?} after {held:?}");
        assert!(next.remaining > Duration::from_secs(29), "a ttl begins with its grant: {next:?}");
        held = next;
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_wait_goes_on_in_its_place_with_the_same_request_id() {
    let rig = Rig::start().await;
    let client = rig.client();
    let held = client.acquire(Acquire::new("a", "first")).await.unwrap();
    let wish = Acquire::new("a", "second").request_id("w");
    let short = wish.clone().wait(Duration::from_millis(30));
    assert_eq!(reason(client.acquire(short).await), Some(Reason::StillWaiting));
    let third = park(&rig, Acquire::new("a", "third"));
    rig.until_waiting("a", 2).await;
    let second = park(&rig, wish);
    // Asking again moves nobody: the second is still before the third.
    rig.until_waiting("a", 2).await;
    let error = client.acquire(Acquire::new("a", "fourth")).await.unwrap_err();
    assert_eq!(error.held().unwrap().queue_position, 2);
    client.release(Release::of(&held)).await.unwrap();
    let second = parked(second).await;
    client.release(Release::of(&second)).await.unwrap();
    assert!(parked(third).await.token > second.token);
    rig.stop().await;
}

#[tokio::test]
async fn a_forced_release_hits_the_lease_it_names_and_no_successor() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.acquire(Acquire::new("a", "first")).await.unwrap();
    let force = ForceRelease::new("a", lease.token).request_id("f");
    assert_eq!(client.force_release(force.clone()).await.unwrap().holder, "first");
    let successor = client.acquire(Acquire::new("a", "second")).await.unwrap();
    let again = client.force_release(force).await.unwrap();
    assert!(again.replayed && again.holder == "first", "{again:?}");
    let anew = client.force_release(ForceRelease::new("a", lease.token)).await;
    assert_eq!(reason(anew), Some(Reason::NotFound));
    assert!(client.check("a", successor.token).await.unwrap().current);
    rig.stop().await;
}

#[tokio::test]
async fn an_abandoned_call_says_how_far_it_had_come_and_never_holds() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wish = |id: &str| Acquire::new("a", "first").request_id(id);
    client.acquire(wish("held")).await.unwrap();
    assert_eq!(client.abandon("held").await.unwrap(), Abandoned::Held);
    assert!(client.get("a").await.unwrap().leases.is_empty());
    let lease = client.acquire(wish("ended")).await.unwrap();
    client.release(Release::of(&lease)).await.unwrap();
    assert_eq!(client.abandon("ended").await.unwrap(), Abandoned::Ended);
    assert_eq!(client.abandon("later").await.unwrap(), Abandoned::Nothing);
    assert_eq!(reason(client.acquire(wish("later")).await), Some(Reason::CancelledWait));
    rig.stop().await;
}

#[tokio::test]
async fn nothing_is_visible_across_namespaces() {
    let rig = Rig::start().await;
    let here = rig.client();
    let there = here.with_namespace("there").unwrap();
    let wish = Acquire::new("a", "first").request_id("same");
    let lease = here.acquire(wish.clone()).await.unwrap();
    let other = there.acquire(wish).await.unwrap();
    assert!(!other.replayed && other.lease_id != lease.lease_id && other.token > lease.token);
    assert_eq!(there.list_all().await.unwrap().len(), 1);
    assert!(!there.check("a", lease.token).await.unwrap().current);
    assert_eq!(reason(there.get_by_id(&lease.lease_id).await), Some(Reason::NotFound));
    assert_eq!(reason(there.release(Release::of(&lease)).await), Some(Reason::NotFound));
    let fenced = Acquire::new("b", "first").fence("a", lease.token);
    assert_eq!(reason(there.acquire(fenced).await), Some(Reason::StaleFence));
    rig.stop().await;
}

/// Asks on a connection, and breaks it once the call waits.
async fn wait_and_vanish(rig: &Rig, request_id: &str) {
    let mut wish = acquire("a", "second");
    (wish.request_id, wish.wait_ms) = (request_id.into(), 20_000);
    let mut leases = rig.leases().await;
    let call = tokio::spawn(async move { leases.acquire_lease(wish).await });
    rig.until_waiting("a", 1).await;
    call.abort();
    let _aborted = call.await;
}

#[tokio::test]
async fn a_waiter_without_request_id_goes_with_its_connection() {
    let rig = Rig::start().await;
    let client: Client = rig.client();
    let held = client.acquire(Acquire::new("a", "first")).await.unwrap();
    wait_and_vanish(&rig, "").await;
    rig.until_waiting("a", 0).await;
    client.release(Release::of(&held)).await.unwrap();
    assert!(client.get("a").await.unwrap().leases.is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn a_waiter_with_request_id_keeps_its_place_and_is_passed_over_meanwhile() {
    let rig = Rig::start().await;
    let client = rig.client();
    let held = client.acquire(Acquire::new("a", "first")).await.unwrap();
    wait_and_vanish(&rig, "w").await;
    let third = park(&rig, Acquire::new("a", "third"));
    rig.until_waiting("a", 2).await;
    // Of the calls that the server knows, the one that waits for the third is left.
    rig.until_page_says("singletrack_requests_in_flight 1").await;
    let again = Acquire::new("a", "second").request_id("w").wait(Duration::from_millis(10));
    let error = client.acquire(again.clone()).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::StillWaiting));
    assert_eq!(error.held().unwrap().queue_position, 0);
    client.release(Release::of(&held)).await.unwrap();
    let third = parked(third).await;
    assert_eq!(client.get("a").await.unwrap().waiter_count, 1, "the place is kept");
    let second = park(&rig, again);
    client.release(Release::of(&third)).await.unwrap();
    assert!(parked(second).await.token > third.token);
    rig.stop().await;
}

#[tokio::test]
async fn the_next_waiter_follows_a_holder_that_is_gone_after_its_ttl() {
    let rig = Rig::start().await;
    let gone = rig.client();
    let short = Acquire::new("a", "first").ttl(Duration::from_secs(1));
    let held = gone.acquire(short).await.unwrap();
    let next = park(&rig, Acquire::new("a", "second"));
    drop(gone);
    let next = parked(next).await;
    assert!(next.token > held.token && next.waited < Duration::from_secs(5), "{next:?}");
    let late = rig.client().renew_one(&held.lease_id, held.token).await;
    assert_eq!(reason(late), Some(Reason::LeaseLost));
    rig.stop().await;
}

#[tokio::test]
async fn a_release_may_be_fenced_by_another_lease() {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    let outer = ok(leases.acquire_lease(acquire("outer", "first"))).await;
    let inner = ok(leases.acquire_lease(acquire("inner", "first"))).await;
    ok(leases.release_lease(release(&outer))).await;
    let fences = vec![crate::rig::fence("outer", outer.token)];
    let fenced = v1::ReleaseLeaseRequest { fences, ..release(&inner) };
    refused(leases.release_lease(fenced)).await.is(singletrack_proto::Reason::StaleFence);
    assert!(rig.client().check("inner", inner.token).await.unwrap().current);
    rig.stop().await;
}
