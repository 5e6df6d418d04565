//! The whole menu of leases through a real server: permits, subtrees, several targets, transfer,
//! yield, lock delay, longest hold, labels, waiters, counts; and all of it over a restart on disk.

use std::time::Duration;

use singletrack::{
    Acquire, AnswerYield, Client, Error, Held, HoldState, Lease, LeaseEnd, LeaseInfo, List,
    ListWaiters, Mode, Reach, Reason, Release, RequestYield, Target, Transfer, Transport,
    YieldAnswer,
};
use singletrack_proto::v1::{self, refusal::Detail};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::rig::{Rig, acquire, ok, permits, refused, release, soon, subtree, target};

const LONG: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// Asks on a connection of its own and waits long.
fn park(rig: &Rig, wish: Acquire) -> JoinHandle<Result<Lease, Error>> {
    let client = rig.client();
    tokio::spawn(async move { client.acquire(wish.wait(LONG)).await })
}

async fn parked(call: JoinHandle<Result<Lease, Error>>) -> Lease {
    soon(call).await.unwrap().unwrap()
}

/// Who stands in the way of a try.
async fn held(client: &Client, wish: Acquire) -> Held {
    let error = client.acquire(wish).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Held), "{error}");
    error.held().unwrap().clone()
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Option<Reason> {
    answer.unwrap_err().reason()
}

fn tree(resource: &str) -> Acquire {
    Acquire::new(resource, "gardener").subtree()
}

#[tokio::test]
async fn permits_are_a_semaphore_that_no_small_request_slips_through() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wish = |holder: &str, count| Acquire::new("pool", holder).permits(count, 5);
    let first = client.acquire(wish("first", 3)).await.unwrap();
    client.acquire(wish("second", 1)).await.unwrap();
    let large = park(&rig, wish("third", 3));
    rig.until_waiting("pool", 1).await;
    let small = held(&client, wish("fourth", 1)).await;
    assert_eq!((small.permits_used, small.permits_wanted, small.queue_position), (4, 3, 1));
    let shown = client.get("pool").await.unwrap();
    assert_eq!((shown.holder_count, shown.waiter_count), (2, 1));
    assert_eq!(shown.leases[0].targets[0].mode, Mode::Permits { count: 3, limit: 5 });
    client.release(Release::of(&first)).await.unwrap();
    assert!(parked(large).await.token > first.token);
    client.acquire(wish("fourth", 1)).await.unwrap();
    // The resource has permits: neither whole nor shared while they are out.
    held(&client, Acquire::new("pool", "fifth")).await;
    held(&client, Acquire::new("pool", "fifth").shared()).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_subtree_is_held_with_all_below_it_and_nothing_beside_it() {
    let rig = Rig::start().await;
    let client = rig.client();
    let grown = client.acquire(tree("repo/src")).await.unwrap();
    let below = held(&client, Acquire::new("repo/src/main.rs", "second")).await;
    assert_eq!(below.holders[0].resource.as_deref(), Some("repo/src"));
    assert!(below.holders[0].subtree);
    let above = held(&client, tree("repo")).await;
    assert_eq!(above.holders[0].token, grown.token);
    held(&client, tree("repo/src/deep/down").shared()).await;
    let beside = client.acquire(tree("repo/srcs")).await.unwrap();
    client.acquire(Acquire::new("repo", "second")).await.unwrap();
    // A token is current for everything below.
    assert!(client.check("repo/src/a/b", grown.token).await.unwrap().current);
    assert!(!client.check("repo/src/a/b", beside.token).await.unwrap().current);
    client.acquire(Acquire::new("other", "x").fence("repo/src/a", grown.token)).await.unwrap();
    let waiting = park(&rig, Acquire::new("repo/src/main.rs", "second"));
    rig.until_waiting("repo/src/main.rs", 1).await;
    client.release(Release::of(&grown)).await.unwrap();
    parked(waiting).await;
    rig.stop().await;
}

#[tokio::test]
async fn several_targets_are_granted_together_or_not_at_all() {
    let rig = Rig::start().await;
    let client = rig.client();
    let all = || {
        let targets = [
            Target::new("a"),
            Target::new("b").shared(),
            Target::new("pool").permits(2, 2),
            Target::new("tree").subtree(),
        ];
        Acquire::on(targets, "all")
    };
    let one = client.acquire(Acquire::new("a", "one")).await.unwrap();
    let leaf = client.acquire(Acquire::new("tree/leaf", "leaf")).await.unwrap();
    let refused = held(&client, all()).await;
    assert_eq!((&*refused.resource, refused.blocked_targets), ("a", 2));
    for free in ["b", "pool"] {
        assert_eq!(client.get(free).await.unwrap().holder_count, 0, "nothing is held meanwhile");
    }
    let waiting = park(&rig, all());
    rig.until_waiting("pool", 1).await;
    client.release(Release::of(&one)).await.unwrap();
    // Strict order: what an earlier waiter wants is not given away while it waits for the rest.
    held(&client, Acquire::new("b", "late")).await;
    client.release(Release::of(&leaf)).await.unwrap();
    let lease = parked(waiting).await;
    let info = client.get_by_id(&lease.lease_id).await.unwrap();
    let found: Vec<_> = info.targets.iter().map(|it| (&*it.resource, it.mode, it.reach)).collect();
    let expected = [
        ("a", Mode::Exclusive, Reach::Exact),
        ("b", Mode::Shared, Reach::Exact),
        ("pool", Mode::Permits { count: 2, limit: 2 }, Reach::Exact),
        ("tree", Mode::Exclusive, Reach::Subtree),
    ];
    assert_eq!(found, expected);
    client.acquire(Acquire::new("b", "reader").shared()).await.unwrap();
    client.release(Release::of(&lease)).await.unwrap();
    client.acquire(Acquire::new("tree/leaf", "leaf")).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn a_transfer_lets_nobody_in_between_and_is_the_same_when_it_is_repeated() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wish = Acquire::on([Target::new("a"), Target::new("b").subtree()], "giver")
        .actor("giver/1")
        .label("task", "T-1")
        .max_hold(Duration::from_secs(600));
    let old = client.acquire(wish).await.unwrap();
    let waiting = park(&rig, Acquire::new("b/c", "third"));
    rig.until_waiting("b/c", 1).await;
    let give = Transfer::new(&old.lease_id, old.token, "heir")
        .actor("heir/1")
        .ttl(Duration::from_secs(50))
        .request_id("t");
    let new = client.transfer(give.clone()).await.unwrap();
    assert!(new.token > old.token && new.lease_id != old.lease_id && !new.replayed);
    assert!(new.remaining > Duration::from_secs(49), "{new:?}");
    let again = client.transfer(give).await.unwrap();
    assert_eq!((&again.lease_id, again.token, again.replayed), (&new.lease_id, new.token, true));
    let lost = client.renew_one(&old.lease_id, old.token).await.unwrap_err();
    assert_eq!(lost.lease_end(), Some(LeaseEnd::Transferred), "{lost}");
    assert!(!client.check("a", old.token).await.unwrap().current);
    let info = client.get_by_id(&new.lease_id).await.unwrap();
    assert_eq!((&*info.holder, info.actor.as_deref()), ("heir", Some("heir/1")));
    assert_eq!((info.ttl, info.targets.len()), (Duration::from_secs(50), 2));
    assert_eq!(info.labels["task"], "T-1");
    assert!(info.hold_remaining.unwrap() > Duration::from_secs(590), "counted anew: {info:?}");
    assert!(!waiting.is_finished());
    client.renew_one(&new.lease_id, new.token).await.unwrap();
    client.release(Release::new(&new.lease_id, new.token)).await.unwrap();
    parked(waiting).await;
    let gone = client.transfer(Transfer::new(&new.lease_id, new.token, "x")).await;
    assert_eq!(reason(gone), Some(Reason::LeaseLost));
    rig.stop().await;
}

#[tokio::test]
async fn a_transfer_that_would_close_a_cycle_is_refused_and_leaves_the_lease() {
    let rig = Rig::start().await;
    let client = rig.client();
    let given = client.acquire(Acquire::new("a", "ada").actor("ada")).await.unwrap();
    client.acquire(Acquire::new("b", "bob").actor("bob")).await.unwrap();
    let waiting = park(&rig, Acquire::new("b", "cy").actor("cy").request_id("w"));
    rig.until_waiting("b", 1).await;
    let bob = park(&rig, Acquire::new("a", "bob").actor("bob").request_id("v"));
    rig.until_waiting("a", 1).await;
    // Cy waits for bob, who waits for `a`: were it cy's, nobody would go on.
    let give = Transfer::new(&given.lease_id, given.token, "cy").actor("cy");
    let error = client.transfer(give).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Deadlock), "{error}");
    client.renew_one(&given.lease_id, given.token).await.unwrap();
    for (id, call) in [("w", waiting), ("v", bob)] {
        client.abandon(id).await.unwrap();
        assert_eq!(reason(soon(call).await.unwrap()), Some(Reason::CancelledWait));
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_holder_is_asked_to_yield_and_its_answer_is_told() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.acquire(Acquire::new("a", "first")).await.unwrap();
    let ask = |reason: &str| RequestYield::new("a", "second").reason(reason);
    let nobody = client.request_yield(RequestYield::new("free", "second")).await;
    assert_eq!(reason(nobody), Some(Reason::NotFound));
    let asked = client.request_yield(ask("urgent")).await.unwrap();
    assert_eq!((asked.len(), asked[0].token, asked[0].told), (1, lease.token, false));
    assert_eq!(asked[0].answer, None);
    // Without a stream it finds the request when it renews or looks.
    let renewed = client.renew_one(&lease.lease_id, lease.token).await.unwrap();
    assert_eq!(renewed.yield_requests, 1);
    let info = client.get_by_id(&lease.lease_id).await.unwrap();
    let [request] = &info.yield_requests[..] else { panic!("{info:?}") };
    assert_eq!((&*request.holder, request.reason.as_deref()), ("second", Some("urgent")));
    let answer = |answer| AnswerYield::new(&lease.lease_id, lease.token, answer);
    let unknown = answer(YieldAnswer::decline()).number(request.number + 1_000);
    assert_eq!(reason(client.answer_yield(unknown).await), Some(Reason::NotFound));
    let soon_given = YieldAnswer::within(Duration::from_secs(5)).message("one more test");
    let given = answer(soon_given.clone()).number(request.number);
    assert_eq!(client.answer_yield(given).await.unwrap(), 1);
    let renewed = client.renew_one(&lease.lease_id, lease.token).await.unwrap();
    assert_eq!(renewed.yield_requests, 0);
    let again = client.request_yield(ask("urgent")).await.unwrap();
    assert_eq!(again[0].answer, Some(soon_given));
    let blocked = held(&client, Acquire::new("a", "third")).await;
    let told = blocked.holders[0].yield_answer.as_deref();
    assert_eq!(told, Some("will yield within 5000 ms: one more test"));
    // Another reason is another request; eight may ask.
    let anew = client.request_yield(ask("more urgent")).await.unwrap();
    assert_eq!(anew[0].answer, None);
    for other in 0..7 {
        client.request_yield(RequestYield::new("a", format!("other-{other}"))).await.unwrap();
    }
    let ninth = client.request_yield(RequestYield::new("a", "ninth")).await;
    assert_eq!(reason(ninth), Some(Reason::Quota));
    assert_eq!(client.answer_yield(answer(YieldAnswer::decline())).await.unwrap(), 8);
    let blocked = held(&client, Acquire::new("a", "third")).await;
    assert_eq!(blocked.holders[0].yield_answer.as_deref(), Some("declines"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_told_on_its_stream_who_asks_for_its_lease() {
    let rig = Rig::start().await;
    let url = format!("http://{}", rig.address);
    let holder =
        Client::builder(url).holder("first").transport(Transport::Session).build().unwrap();
    let lease = soon(holder.lease("tree").subtree().acquire()).await.unwrap();
    let other = rig.client();
    let ask = RequestYield::new("tree/leaf", "second").reason("urgent");
    let asked = other.request_yield(ask.clone()).await.unwrap();
    assert!(asked[0].told, "{asked:?}");
    let request = soon(lease.yield_requested()).await.unwrap();
    assert_eq!((&*request.holder, request.reason.as_deref()), ("second", Some("urgent")));
    lease.answer_yield(&request, YieldAnswer::within(SECOND)).await.unwrap();
    let answered = other.request_yield(ask).await.unwrap();
    assert_eq!(answered[0].answer, Some(YieldAnswer::within(SECOND)));
    let waiting = park(&rig, Acquire::new("tree/leaf", "second"));
    rig.until_waiting("tree/leaf", 1).await;
    soon(lease.release()).await.unwrap();
    parked(waiting).await;
    soon(holder.close()).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn after_an_involuntary_end_a_resource_stays_closed_for_its_lock_delay() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wish = |ttl| Acquire::new("a", "first").ttl(ttl).lock_delay(2 * SECOND);
    let given_back = client.acquire(wish(LONG)).await.unwrap();
    client.release(Release::of(&given_back)).await.unwrap();
    let lost = client.acquire(wish(SECOND)).await.unwrap();
    let waiting = park(&rig, Acquire::new("a", "second"));
    let closed = async {
        loop {
            let found = client.get("a").await.unwrap();
            if found.closed > Duration::ZERO {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = soon(closed).await;
    assert!(found.closed <= 2 * SECOND && found.leases.is_empty(), "{found:?}");
    assert_eq!(found.waiter_count, 1);
    assert!(!client.check("a", lost.token).await.unwrap().current, "nothing of it is current");
    let refused = held(&client, Acquire::new("a", "third")).await;
    assert!(refused.closed > Duration::ZERO && refused.holders.is_empty(), "{refused:?}");
    assert_eq!(client.stats().await.unwrap().closed, 1);
    let next = parked(waiting).await;
    assert!(next.token > lost.token && next.waited >= 2 * SECOND, "{next:?}");
    let late = client.renew_one(&lost.lease_id, lost.token).await.unwrap_err();
    assert_eq!(late.lease_end(), Some(LeaseEnd::Expired));
    assert_eq!(client.stats().await.unwrap().closed, 0);
    rig.stop().await;
}

#[tokio::test]
async fn a_forced_end_closes_the_resource_too() {
    let rig = Rig::start().await;
    let client = rig.client();
    let wish = Acquire::new("a", "first").lock_delay(Duration::from_secs(600));
    let lease = client.acquire(wish).await.unwrap();
    let force = singletrack::ForceRelease::new("a", lease.token);
    client.force_release(force).await.unwrap();
    let refused = held(&client, Acquire::new("a", "second")).await;
    assert!(refused.closed > Duration::from_secs(590), "{refused:?}");
    rig.stop().await;
}

/// Renews until the lease is lost; how it ended.
async fn renew_until_lost(client: &Client, lease_id: &str, token: u64, most: Duration) -> Error {
    let renewing = async {
        loop {
            match client.renew_one(lease_id, token).await {
                Ok(renewed) => assert!(renewed.remaining <= most, "{renewed:?}"),
                Err(error) => return error,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(renewing).await
}

#[tokio::test]
async fn a_lease_ends_after_its_longest_hold_however_often_it_is_renewed() {
    let rig = Rig::start().await;
    let client = rig.client();
    let hold = Duration::from_millis(1_500);
    let lease = client.acquire(Acquire::new("a", "first").max_hold(hold)).await.unwrap();
    assert!(lease.remaining <= hold, "{lease:?}");
    let lost = renew_until_lost(&client, &lease.lease_id, lease.token, hold).await;
    assert_eq!(lost.lease_end(), Some(LeaseEnd::MaxHold), "{lost}");
    client.acquire(Acquire::new("a", "second")).await.unwrap();
    rig.stop().await;
}

fn tokens(leases: &[LeaseInfo]) -> Vec<u64> {
    leases.iter().map(|lease| lease.token).collect()
}

#[tokio::test]
async fn lists_are_filtered_by_holder_prefix_and_labels() {
    let rig = Rig::start().await;
    let client = rig.client();
    let take = async |name: &str, holder: &str, team: &str| {
        let wish = Acquire::new(name, holder).label("team", team).label("kind", "build");
        client.acquire(wish).await.unwrap().token
    };
    let one = take("repo/a", "ada", "red").await;
    let two = take("repo/b", "bob", "red").await;
    let three = take("repository", "ada", "blue").await;
    let wide = Acquire::on([Target::new("x"), Target::new("repo/c").subtree()], "cy");
    let four = client.acquire(wide).await.unwrap().token;
    let list = async |list: List| tokens(&client.list(list).await.unwrap().leases);
    assert_eq!(list(List::new()).await, [one, two, three, four]);
    assert_eq!(list(List::new().holder("ada")).await, [one, three]);
    assert_eq!(list(List::new().prefix("repo")).await, [one, two, four]);
    assert_eq!(list(List::new().label("team", "red")).await, [one, two]);
    let both = List::new().label("team", "red").label("kind", "build");
    assert_eq!(list(both.clone().holder("bob").prefix("repo/b")).await, [two]);
    assert_eq!(list(both.label("team", "green")).await, [0; 0]);
    let paged = client.list_all_of(List::new().prefix("repo").page_size(1)).await.unwrap();
    assert_eq!(tokens(&paged), [one, two, four]);
    let info = &client.get("repo/a").await.unwrap().leases[0];
    let labels: Vec<_> = info.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(labels, [("kind", "build"), ("team", "red")]);
    rig.stop().await;
}

#[tokio::test]
async fn waiters_are_listed_with_what_stands_in_their_way() {
    let rig = Rig::start().await;
    let client = rig.client();
    let holder = client.acquire(tree("repo")).await.unwrap();
    let mut calls = Vec::new();
    for (waiters, name) in (1..).zip(["ada", "bob", "cy"]) {
        let wish = Acquire::new("repo/a", name).actor(name).priority(waiters - 2).request_id(name);
        calls.push(park(&rig, wish));
        rig.until_waiting("repo/a", u32::try_from(waiters).unwrap()).await;
    }
    let page = client.list_waiters(ListWaiters::new().page_size(2)).await.unwrap();
    let names: Vec<_> = page.waiters.iter().map(|it| &*it.holder).collect();
    assert_eq!(names, ["ada", "bob"], "in the order in which they were queued");
    let bob = &page.waiters[1];
    assert_eq!((bob.actor.as_deref(), bob.priority, bob.attached), (Some("bob"), 0, true));
    assert_eq!(&*bob.targets[0].resource, "repo/a");
    let blocked_by = bob.blocked_by.as_ref().unwrap();
    assert_eq!(blocked_by.holders[0].token, holder.token);
    assert_eq!((blocked_by.queue_position, &*blocked_by.waiters[0].holder), (1, "cy"));
    let next = ListWaiters::new().after(page.next_page_token.unwrap());
    let page = client.list_waiters(next).await.unwrap();
    assert_eq!((page.waiters.len(), &*page.waiters[0].holder), (1, "cy"));
    assert_eq!(page.next_page_token, None);
    // By a resource they are shown in the order in which they will be served.
    let found = client.get("repo/a").await.unwrap();
    let names: Vec<_> = found.waiters.iter().map(|it| &*it.holder).collect();
    assert_eq!((names, found.holder_count), (vec!["cy", "bob", "ada"], 1));
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.leases, stats.waiters, stats.queued_total), (1, 3, 3));
    for (name, call) in ["ada", "bob", "cy"].into_iter().zip(calls) {
        client.abandon(name).await.unwrap();
        assert_eq!(reason(soon(call).await.unwrap()), Some(Reason::CancelledWait));
    }
    assert_eq!(client.list_all_waiters().await.unwrap(), []);
    rig.stop().await;
}

#[tokio::test]
async fn what_happens_in_a_namespace_is_counted() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.acquire(Acquire::new("other", "first")).await.unwrap();
    let kept = client.acquire(Acquire::new("kept", "first")).await.unwrap();
    let freed = client.acquire(Acquire::new("freed", "first")).await.unwrap();
    client.release(Release::of(&freed)).await.unwrap();
    let forced = client.acquire(Acquire::new("forced", "first")).await.unwrap();
    client.force_release(singletrack::ForceRelease::new("forced", forced.token)).await.unwrap();
    let given = client.transfer(Transfer::new(&kept.lease_id, kept.token, "heir")).await.unwrap();
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.leases, stats.waiters, stats.sessions, stats.closed), (2, 0, 0, 0));
    assert_eq!((stats.granted_total, stats.released_total, stats.lost_total), (5, 2, 1));
    assert!(stats.revision >= given.token, "{stats:?}");
    let elsewhere = client.with_namespace("elsewhere").unwrap().stats().await.unwrap();
    assert_eq!((elsewhere.leases, elsewhere.granted_total), (0, 0));
    assert_eq!(elsewhere.revision, stats.revision);
    rig.stop().await;
}

#[tokio::test]
async fn an_actor_that_holds_nothing_else_waits_in_peace() {
    let rig = Rig::start().await;
    let client = rig.client();
    let held = client.acquire(Acquire::new("a", "x").actor("team/one")).await.unwrap();
    // A sibling, its parent's other child, and somebody who holds what nobody waits for.
    client.acquire(Acquire::new("b", "y").actor("team/two")).await.unwrap();
    let sibling = park(&rig, Acquire::new("a", "y").actor("team/two"));
    rig.until_waiting("a", 1).await;
    let stranger = park(&rig, Acquire::new("a", "z").actor("other"));
    rig.until_waiting("a", 2).await;
    client.release(Release::of(&held)).await.unwrap();
    let next = parked(sibling).await;
    client.release(Release::of(&next)).await.unwrap();
    parked(stranger).await;
    rig.stop().await;
}

// === over a restart ===

#[tokio::test]
async fn the_whole_menu_is_still_held_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let mut leases = rig.leases().await;
    let wish = v1::AcquireLeaseRequest {
        request_id: "wide".into(),
        targets: vec![target("a"), permits("pool", 2, 3), subtree("tree")],
        actor: "ada/1".into(),
        labels: [("task".to_owned(), "T-1".to_owned())].into(),
        max_hold_ms: Some(600_000),
        lock_delay_ms: 5_000,
        ..acquire("", "ada")
    };
    let wide = ok(leases.acquire_lease(wish.clone())).await;
    let given = ok(leases.acquire_lease(acquire("given", "bob"))).await;
    let give = v1::TransferLeaseRequest {
        request_id: "give".into(),
        lease_id: given.lease_id.clone(),
        token: given.token,
        to_holder: "heir".into(),
        ..Default::default()
    };
    let heir = ok(leases.transfer_lease(give.clone())).await;
    let ask = RequestYield::new("a", "second");
    rig.client().request_yield(ask.clone()).await.unwrap();
    rig.stop().await;

    let rig = Rig::on(folder.path()).await;
    let client = rig.client();
    let mut leases = rig.leases().await;
    let info = client.get_by_id(&wide.lease_id).await.unwrap();
    assert_eq!((info.token, info.actor.as_deref()), (wide.token, Some("ada/1")));
    assert_eq!((&*info.labels["task"], info.lock_delay), ("T-1", Duration::from_secs(5)));
    assert!(info.hold_remaining.unwrap() <= Duration::from_secs(600), "{info:?}");
    assert_eq!(info.targets[1].mode, Mode::Permits { count: 2, limit: 3 });
    assert_eq!(info.targets[2].reach, Reach::Subtree);
    assert!(info.yield_requests.is_empty(), "requests to yield are forgotten");
    held(&client, Acquire::new("tree/leaf", "second")).await;
    held(&client, Acquire::new("pool", "second").permits(2, 3)).await;
    client.acquire(Acquire::new("pool", "second").permits(1, 3)).await.unwrap();
    let other_limit = client.acquire(Acquire::new("pool", "third").permits(1, 4)).await;
    assert_eq!(reason(other_limit), Some(Reason::LimitMismatch));
    // Its actor still takes part in what can't go on.
    let own = Acquire::new("tree/leaf", "ada").actor("ada/1").wait(LONG);
    assert_eq!(reason(client.acquire(own).await), Some(Reason::Deadlock));
    let again = ok(leases.acquire_lease(wish)).await;
    assert_eq!((again.token, again.replayed), (wide.token, true));
    let again = ok(leases.transfer_lease(give)).await;
    assert_eq!((&again.lease_id, again.token), (&heir.lease_id, heir.token));
    assert!(again.replayed);
    let told = refused(leases.release_lease(release(&given))).await.is(Reason::LeaseLost);
    let Some(Detail::LeaseLost(lost)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!(lost.end(), v1::LeaseEnd::Transferred);
    rig.stop().await;
}

#[tokio::test]
async fn a_resource_stays_closed_over_a_restart_and_opens_in_its_time() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let client = rig.client();
    let wish = |name: &str, delay| Acquire::new(name, "first").lock_delay(delay);
    let long = client.acquire(wish("long", Duration::from_secs(600))).await.unwrap();
    let short = client.acquire(wish("short", 2 * SECOND)).await.unwrap();
    for (name, token) in [("long", long.token), ("short", short.token)] {
        client.force_release(singletrack::ForceRelease::new(name, token)).await.unwrap();
    }
    rig.stop().await;

    let rig = Rig::on(folder.path()).await;
    let client = rig.client();
    let refused = held(&client, Acquire::new("long", "second")).await;
    let least = Duration::from_secs(500);
    assert!(refused.closed > least && refused.closed <= Duration::from_secs(600), "{refused:?}");
    assert!(held(&client, Acquire::new("short", "second")).await.closed <= 2 * SECOND);
    let lost = client.renew_one(&short.lease_id, short.token).await.unwrap_err();
    assert_eq!(lost.lease_end(), Some(LeaseEnd::Forced), "how it ended is known still");
    let next = parked(park(&rig, Acquire::new("short", "second"))).await;
    assert!(next.token > short.token);
    rig.stop().await;

    let rig = Rig::on(folder.path()).await;
    let check = rig.client().check("short", next.token).await.unwrap();
    assert!(check.current, "it is open for good");
    held(&rig.client(), Acquire::new("long", "second")).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_longest_hold_goes_on_over_restarts() {
    let folder = TempDir::new().unwrap();
    let mut lease = None;
    let hold = 3 * SECOND;
    for round in 0..3 {
        let rig = Rig::on(folder.path()).await;
        let client = rig.client();
        let known = match lease.take() {
            None => client.acquire(Acquire::new("a", "first").max_hold(hold)).await.unwrap(),
            Some(known) => known,
        };
        let info = client.get_by_id(&known.lease_id).await.unwrap();
        assert!(info.hold_remaining.unwrap() <= hold, "{round}: {info:?}");
        client.renew_one(&known.lease_id, known.token).await.unwrap();
        lease = Some(known);
        rig.stop().await;
    }
    let rig = Rig::on(folder.path()).await;
    let Lease { lease_id, token, .. } = lease.unwrap();
    let lost = renew_until_lost(&rig.client(), &lease_id, token, hold).await;
    assert_eq!(lost.lease_end(), Some(LeaseEnd::MaxHold), "{lost}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_lease_is_given_away_and_kept_by_the_one_who_got_it() {
    let rig = Rig::start().await;
    let url = || format!("http://{}", rig.address);
    let giver = Client::builder(url()).holder("giver").build().unwrap();
    let heir = Client::builder(url()).holder("heir").build().unwrap();
    let lease = soon(giver.lease("a").ttl(Duration::from_secs(10)).acquire()).await.unwrap();
    let first = lease.token();
    let given = soon(lease.transfer("heir")).await.unwrap();
    let kept = soon(heir.adopt(given.lease_id, given.token)).await.unwrap();
    assert_eq!((kept.state(), kept.resource()), (HoldState::Held, "a"));
    assert!(kept.token() > first);
    assert_eq!(rig.client().get("a").await.unwrap().leases[0].holder, "heir");
    soon(kept.release()).await.unwrap();
    soon(giver.close()).await.unwrap();
    soon(heir.close()).await.unwrap();
    rig.stop().await;
}
