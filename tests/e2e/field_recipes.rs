//! What users of Curator's recipes count on, asked anew of this server through the Rust client: the
//! mutex, the semaphore, readers and writers, several locks at once, and asking the holder to yield.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use singletrack::{
    Acquire, Client, DeadlockRelation, Lease, Reason, Release, RequestYield, Target, Transport,
    YieldAnswer,
};
use tokio::task::JoinSet;

use crate::{
    field::{
        BOTH, LONG, SECOND, client, frail, give_back, give_back_again, held, park, parked, reason,
        take,
    },
    rig::{Rig, soon},
    road::Road,
};

// === the mutex ===

/// Counts who is inside at once.
#[derive(Clone, Default)]
struct Inside(Arc<[AtomicUsize; 2]>);

impl Inside {
    /// Enters, lets others run, leaves.
    async fn visit(&self) {
        let [now, most] = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }
}

/// Six clients on both transports, each with its wish, ten times; all tokens of it.
async fn crowd(rig: &Rig, inside: &Inside, wish: fn(&str) -> Acquire) -> Vec<u64> {
    let mut crowd = JoinSet::new();
    for number in 0..6 {
        let name = format!("client-{number}");
        let client = client(rig, BOTH[number % 2], &name);
        let inside = inside.clone();
        crowd.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..10 {
                let lease = take(&client, wish(&name).wait(LONG)).await;
                inside.visit().await;
                give_back(&client, &lease).await;
                tokens.push(lease.token);
            }
            tokens
        });
    }
    let mut tokens = soon(crowd.join_all()).await.concat();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

fn lock(holder: &str) -> Acquire {
    Acquire::new("lock", holder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_is_inside_a_mutex() {
    let rig = Rig::start().await;
    let inside = Inside::default();
    assert_eq!(crowd(&rig, &inside, lock).await.len(), 60, "each hold has a fence of its own");
    assert_eq!(inside.most(), 1);
    let left = rig.client().get("lock").await.unwrap();
    assert_eq!((left.holder_count, left.waiter_count), (0, 0));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timed_wait_in_vain_leaves_no_waiter_behind() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease = take(&ada, lock("ada")).await;
        let brief = Duration::from_millis(200);
        let waited = soon(bob.lease("lock").wait(brief).acquire()).await;
        assert!(matches!(reason(waited), Reason::StillWaiting | Reason::Held));
        rig.until_waiting("lock", 0).await;
        give_back(&ada, &lease).await;
        assert_eq!(rig.client().get("lock").await.unwrap().holder_count, 0, "nobody is served");
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holder_makes_way_for_the_next() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    // One with a session, one with a ttl that nobody renews.
    let killed = frail(&road, "killed");
    let first = take(&killed, lock("killed").with_session()).await;
    let silent = park(&rig.client(), lock("silent").ttl(SECOND));
    rig.until_waiting("lock", 1).await;
    let last = park(&rig.client(), lock("last"));
    rig.until_waiting("lock", 2).await;
    road.swallows.send_replace(true);
    let silent = parked(silent).await;
    let last = parked(last).await;
    assert!(first.token < silent.token && silent.token < last.token);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_get_it_in_the_order_they_came() {
    let rig = Rig::start().await;
    let ada = rig.client();
    let first = take(&ada, lock("ada")).await;
    let mut waiting = Vec::new();
    for place in 0..6 {
        let name = format!("waiter-{place}");
        let client = client(&rig, BOTH[place % 2], &name);
        waiting.push((park(&client, lock(&name)), client));
        rig.until_waiting("lock", u32::try_from(place).unwrap() + 1).await;
    }
    give_back(&ada, &first).await;
    let mut last = first.token;
    for (place, (call, client)) in waiting.into_iter().enumerate() {
        let lease = parked(call).await;
        assert!(lease.token > last, "{lease:?}");
        last = lease.token;
        let shown = ada.get("lock").await.unwrap();
        assert_eq!(shown.leases[0].holder, format!("waiter-{place}"));
        give_back(&client, &lease).await;
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_gave_up_waiting_is_passed_over() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = rig.client();
        let lease = take(&ada, lock("ada")).await;
        let (bob, cy) = (client(&rig, transport, "bob"), client(&rig, transport, "cy"));
        // One drops its future, one says it.
        let dropped = tokio::spawn(bob.lease("lock").wait(LONG).acquire());
        rig.until_waiting("lock", 1).await;
        let abandoned = park(&bob, lock("bob").request_id("w"));
        rig.until_waiting("lock", 2).await;
        let last = park(&cy, lock("cy"));
        rig.until_waiting("lock", 3).await;
        dropped.abort();
        rig.until_waiting("lock", 2).await;
        soon(bob.abandon("w")).await.unwrap();
        assert_eq!(reason(soon(abandoned).await.unwrap()), Reason::CancelledWait);
        give_back(&ada, &lease).await;
        assert!(parked(last).await.token > lease.token);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_session_died_while_it_waited_is_passed_over() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let dead = frail(&road, "dead");
    let ada = rig.client();
    let lease = take(&ada, lock("ada")).await;
    take(&dead, Acquire::new("pulse", "dead").with_session()).await;
    let never = park(&dead, lock("dead").with_session());
    rig.until_waiting("lock", 1).await;
    let next = park(&rig.client(), lock("next"));
    rig.until_waiting("lock", 2).await;
    road.swallows.send_replace(true);
    // What it held is free: its session has ended.
    parked(park(&ada, Acquire::new("pulse", "ada"))).await;
    give_back(&ada, &lease).await;
    assert!(parked(next).await.token > lease.token);
    never.abort();
    rig.stop().await;
}

// === the semaphore ===

fn permits(holder: &str, count: u32, limit: u32) -> Acquire {
    Acquire::new("pool", holder).permits(count, limit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_inside_than_there_are_permits() {
    let rig = Rig::start().await;
    let inside = Inside::default();
    let tokens = crowd(&rig, &inside, |name| permits(name, 1, 3)).await;
    assert_eq!(tokens.len(), 60);
    assert!((1..=3).contains(&inside.most()), "{}", inside.most());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_that_is_given_back_goes_to_one_of_those_who_wait() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let mut held_by = Vec::new();
        for _ in 0..3 {
            held_by.push(take(&ada, permits("ada", 1, 3)).await);
        }
        let error = held(&ada, permits("ada", 1, 3)).await;
        assert_eq!(error.held().unwrap().permits_used, 3);
        let bob = client(&rig, transport, "bob");
        let first = park(&bob, permits("bob", 1, 3));
        rig.until_waiting("pool", 1).await;
        let second = park(&bob, permits("bob", 1, 3));
        rig.until_waiting("pool", 2).await;
        give_back(&ada, &held_by[0]).await;
        parked(first).await;
        // Given back twice is given back once.
        give_back_again(&ada, transport, &held_by[0]).await;
        let shown = rig.client().get("pool").await.unwrap();
        assert_eq!((shown.holder_count, shown.waiter_count), (3, 1));
        assert!(!second.is_finished());
        give_back(&ada, &held_by[1]).await;
        parked(second).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_permits_at_once_are_had_all_or_none() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease = take(&ada, permits("ada", 3, 5)).await;
        let error = held(&bob, permits("bob", 3, 5)).await;
        assert_eq!(
            (error.held().unwrap().permits_used, error.held().unwrap().holder_count),
            (3, 1)
        );
        let wish = bob.lease("pool").permits(3, 5).wait(Duration::from_millis(150));
        assert_eq!(reason(soon(wish.acquire()).await), Reason::StillWaiting);
        rig.until_waiting("pool", 0).await;
        // The two that are left are there for who needs no more.
        take(&bob, permits("bob", 2, 5)).await;
        held(&bob, permits("bob", 1, 5)).await;
        give_back(&ada, &lease).await;
        take(&bob, permits("bob", 3, 5)).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_permits_of_a_lost_session_come_back() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let killed = frail(&road, "killed");
    for _ in 0..2 {
        take(&killed, permits("killed", 1, 3).with_session()).await;
    }
    let bob = rig.client();
    let own = take(&bob, permits("bob", 1, 3)).await;
    let waiting = park(&bob, permits("bob", 2, 3));
    rig.until_waiting("pool", 1).await;
    road.swallows.send_replace(true);
    parked(waiting).await;
    assert!(bob.check("pool", own.token).await.unwrap().current, "the others keep theirs");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_permits_is_told_until_the_last_one_is_back() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let lease = take(&ada, permits("ada", 1, 3)).await;
        let error = soon(ada.acquire(permits("ada", 1, 4))).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::LimitMismatch));
        let mismatch = error.limit_mismatch().unwrap();
        assert_eq!((&*mismatch.resource, mismatch.limit, mismatch.asked), ("pool", 3, 4));
        give_back(&ada, &lease).await;
        take(&ada, permits("ada", 4, 4)).await;
        rig.stop().await;
    }
}

// === readers and writers ===

fn read(holder: &str) -> Acquire {
    Acquire::new("book", holder).shared()
}

fn write(holder: &str) -> Acquire {
    Acquire::new("book", holder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_together_and_a_writer_is_alone() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let readers = [take(&ada, read("ada")).await, take(&bob, read("bob")).await];
        for reader in &readers {
            assert!(soon(ada.check("book", reader.token)).await.unwrap().current);
        }
        assert_eq!(held(&ada, write("ada")).await.held().unwrap().holder_count, 2);
        give_back(&ada, &readers[0]).await;
        held(&ada, write("ada")).await;
        give_back(&bob, &readers[1]).await;
        let writer = take(&ada, write("ada")).await;
        assert!(readers.iter().all(|reader| reader.token < writer.token));
        held(&bob, read("bob")).await;
        held(&bob, write("bob")).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_writer_stops_later_readers_who_then_come_in_together() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let early = take(&ada, read("ada")).await;
        let writer = park(&bob, write("writer"));
        rig.until_waiting("book", 1).await;
        let error = held(&ada, read("late")).await;
        assert_eq!(error.held().unwrap().waiters[0].holder, "writer");
        let late = [park(&ada, read("late-1")), park(&ada, read("late-2"))];
        rig.until_waiting("book", 3).await;
        give_back(&ada, &early).await;
        let writer = parked(writer).await;
        assert!(late.iter().all(|reader| !reader.is_finished()));
        give_back(&bob, &writer).await;
        for reader in late {
            assert!(parked(reader).await.token > writer.token);
        }
        assert_eq!(rig.client().get("book").await.unwrap().holder_count, 2);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_would_write_is_told_that_it_waits_for_itself() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let reader = take(&ada, read("ada").actor("ada/1")).await;
        let error = soon(ada.acquire(write("ada").actor("ada/1").wait(LONG))).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::Deadlock), "{error}");
        let cycle = &error.deadlock().unwrap().cycle;
        assert_eq!((cycle.len(), &*cycle[0].actor), (1, "ada/1"), "{cycle:?}");
        assert_eq!(cycle[0].relation, DeadlockRelation::Holds);
        assert_eq!(cycle[0].resource.as_deref(), Some("book"));
        // It reads on, and nothing of its wish stays behind.
        assert!(soon(ada.check("book", reader.token)).await.unwrap().current);
        take(&ada, read("bob").actor("bob/1")).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_that_would_write_can_not_wait_for_each_other() {
    let rig = Rig::start().await;
    let client = rig.client();
    take(&client, Acquire::new("a", "ada").shared().actor("ada")).await;
    take(&client, Acquire::new("b", "bob").shared().actor("bob")).await;
    let bob = park(&client, Acquire::new("a", "bob").actor("bob"));
    rig.until_waiting("a", 1).await;
    let ada = soon(client.acquire(Acquire::new("b", "ada").actor("ada").wait(LONG))).await;
    assert_eq!(reason(ada), Reason::Deadlock);
    bob.abort();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_goes_on_as_a_reader_with_nobody_writing_in_between() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let writer = take(&ada, write("ada")).await;
        let next = park(&bob, write("bob"));
        rig.until_waiting("book", 1).await;
        // Its read is queued first of all, then it stops writing.
        let reading = park(&ada, read("ada").priority(100));
        rig.until_waiting("book", 2).await;
        give_back(&ada, &writer).await;
        let reader = parked(reading).await;
        assert!(reader.token > writer.token);
        assert!(!next.is_finished());
        give_back(&ada, &reader).await;
        assert!(parked(next).await.token > reader.token);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_reader_does_not_keep_writers_out() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let killed = frail(&road, "killed");
    take(&killed, read("killed").with_session()).await;
    let other = take(&rig.client(), read("other")).await;
    let writer = park(&rig.client(), write("writer"));
    rig.until_waiting("book", 1).await;
    road.swallows.send_replace(true);
    soon(async {
        while rig.client().get("book").await.unwrap().holder_count != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!writer.is_finished(), "the living reader counts");
    give_back(&rig.client(), &other).await;
    parked(writer).await;
    rig.stop().await;
}

// === several locks as one ===

fn both(names: [&str; 2], holder: &str) -> Acquire {
    Acquire::on(names.map(Target::new), holder)
}

async fn is_free(client: &Client, name: &str) -> bool {
    let found = soon(client.get(name)).await.unwrap();
    (found.holder_count, found.waiter_count) == (0, 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_locks_are_taken_and_given_back_as_one() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease: Lease = take(&ada, both(["a", "b"], "ada")).await;
        for name in ["a", "b"] {
            assert!(soon(ada.check(name, lease.token)).await.unwrap().current);
            held(&bob, Acquire::new(name, "bob")).await;
        }
        give_back(&ada, &lease).await;
        assert!(is_free(&bob, "a").await && is_free(&bob, "b").await);
        assert!(take(&bob, both(["b", "a"], "bob")).await.token > lease.token);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_locks_of_which_one_is_not_to_be_had_none_is_held() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease = take(&ada, Acquire::new("b", "ada")).await;
        let error = held(&bob, both(["a", "b"], "bob")).await;
        assert_eq!(error.held().unwrap().resource, "b");
        assert!(is_free(&ada, "a").await);
        // After a wait in vain too.
        let wish = bob.lease_on(["a", "b"].map(Target::new)).wait(Duration::from_millis(150));
        assert_eq!(reason(soon(wish.acquire()).await), Reason::StillWaiting);
        rig.until_waiting("a", 0).await;
        assert!(is_free(&ada, "a").await);
        // And after a wish that is wrong in its last part.
        take(&ada, permits("ada", 1, 3)).await;
        let wrong = both(["a", "c"], "bob").and("pool").permits(1, 2);
        assert_eq!(reason(soon(bob.acquire(wrong)).await), Reason::LimitMismatch);
        assert!(is_free(&ada, "a").await && is_free(&ada, "c").await);
        give_back(&ada, &lease).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_locks_named_in_any_order_never_block_each_other_for_good() {
    let rig = Rig::start().await;
    let inside = Inside::default();
    let tokens = crowd(&rig, &inside, |name| {
        // Half of the crowd names them the other way round.
        let forth = name.ends_with(['0', '3', '4']);
        both(if forth { ["a", "b"] } else { ["b", "a"] }, name)
    })
    .await;
    assert_eq!((tokens.len(), inside.most()), (60, 1));
    assert!(is_free(&rig.client(), "a").await && is_free(&rig.client(), "b").await);
    rig.stop().await;
}

// === asking the holder ===

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_asked_gives_it_up_and_the_asker_gets_it() {
    let rig = Rig::start().await;
    let (ada, bob) = (client(&rig, Transport::Session, "ada"), rig.client());
    let lease = soon(ada.lease("lock").acquire()).await.unwrap();
    let token = lease.token();
    let holding = tokio::spawn(async move {
        let request = lease.yield_requested().await.unwrap();
        lease.answer_yield(&request, YieldAnswer::within(SECOND)).await.unwrap();
        lease.release().await.unwrap();
        request
    });
    let waiting = park(&bob, lock("bob"));
    rig.until_waiting("lock", 1).await;
    let ask = RequestYield::new("lock", "bob").reason("a fix for production");
    assert!(soon(bob.request_yield(ask)).await.unwrap()[0].told);
    let request = soon(holding).await.unwrap();
    assert_eq!(
        (&*request.holder, request.reason.as_deref()),
        ("bob", Some("a fix for production"))
    );
    assert!(parked(waiting).await.token > token);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_yield_forces_nothing_and_a_no_is_told() {
    let rig = Rig::start().await;
    let (ada, bob) = (client(&rig, Transport::Session, "ada"), rig.client());
    let lease = soon(ada.lease("lock").acquire()).await.unwrap();
    let ask = RequestYield::new("lock", "bob");
    assert_eq!(soon(bob.request_yield(ask.clone())).await.unwrap()[0].answer, None);
    let request = soon(lease.yield_requested()).await.unwrap();
    assert!(soon(bob.check("lock", lease.token())).await.unwrap().current, "it is only asked");
    let no = YieldAnswer::decline().message("in the middle of it");
    soon(lease.answer_yield(&request, no.clone())).await.unwrap();
    assert_eq!(soon(bob.request_yield(ask)).await.unwrap()[0].answer, Some(no));
    let error = held(&bob, lock("bob")).await;
    let told = error.held().unwrap().holders[0].yield_answer.clone().unwrap();
    assert!(told.contains("in the middle of it"), "{told}");
    // One request for one hold: the next holder isn't asked.
    soon(lease.release()).await.unwrap();
    let next = take(&bob, lock("bob")).await;
    let info = soon(bob.get_by_id(&next.lease_id)).await.unwrap();
    assert!(info.yield_requests.is_empty());
    soon(bob.release(Release::of(&next))).await.unwrap();
    let nobody = soon(bob.request_yield(RequestYield::new("lock", "cy"))).await;
    assert_eq!(reason(nobody), Reason::NotFound);
    rig.stop().await;
}
