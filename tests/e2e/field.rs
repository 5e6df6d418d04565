//! What users of Hazelcast's FencedLock count on, asked anew of this server through the Rust client:
//! on both transports wherever that could make a difference. Curator's recipes are in
//! `field_recipes`.

use std::time::Duration;

use singletrack::{
    Acquire, Client, Error, Facts, ForceRelease, Lease, LeaseEnd, Reason, Release, Transport,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    rig::{Rig, soon},
    road::Road,
};

pub(crate) const BOTH: [Transport; 2] = [Transport::Unary, Transport::Session];
pub(crate) const LONG: Duration = Duration::from_secs(25);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A client with connections and, if the transport has one, a session of its own.
pub(crate) fn client(rig: &Rig, transport: Transport, name: &str) -> Client {
    let url = format!("http://{}", rig.address);
    Client::builder(url).holder(name).transport(transport).build().unwrap()
}

/// A client whose session ends two seconds after nothing comes through any more.
pub(crate) fn frail(road: &Road, name: &str) -> Client {
    let builder = Client::builder(road.url()).holder(name).transport(Transport::Session);
    builder.session_ttl(2 * SECOND).build().unwrap()
}

/// Waits long for it, in a task of its own.
pub(crate) fn park(client: &Client, wish: Acquire) -> JoinHandle<Result<Lease, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.acquire(wish.wait(LONG)).await })
}

pub(crate) async fn parked(call: JoinHandle<Result<Lease, Error>>) -> Lease {
    soon(call).await.unwrap().unwrap()
}

pub(crate) async fn take(client: &Client, wish: Acquire) -> Lease {
    soon(client.acquire(wish)).await.unwrap()
}

pub(crate) async fn give_back(client: &Client, lease: &Lease) {
    soon(client.release(Release::of(lease))).await.unwrap();
}

/// Gives back what was given back before. On a stream that is another call, and of an end whose
/// answer was acknowledged nothing is kept.
pub(crate) async fn give_back_again(client: &Client, transport: Transport, lease: &Lease) {
    match soon(client.release(Release::of(lease))).await {
        Ok(released) => assert!(released.replayed, "{released:?}"),
        Err(error) => {
            let is_forgotten = error.reason() == Some(Reason::NotFound);
            assert!(is_forgotten && transport != Transport::Unary, "{error}");
        }
    }
}

/// The reason for which a call has no result.
pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, Error>) -> Reason {
    answer.unwrap_err().reason().unwrap()
}

/// A try that must be in vain, as somebody else has it.
pub(crate) async fn held(client: &Client, wish: Acquire) -> Error {
    let error = soon(client.acquire(wish)).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Held), "{error}");
    error
}

fn lock(holder: &str) -> Acquire {
    Acquire::new("lock", holder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_rises_with_each_new_hold() {
    let rig = Rig::start().await;
    let mut last = 0;
    for _ in 0..3 {
        for transport in BOTH {
            for name in ["ada", "bob"] {
                let client = client(&rig, transport, name);
                let lease = take(&client, lock(name)).await;
                assert!(lease.token > last, "{} after {last}", lease.token);
                last = lease.token;
                give_back(&client, &lease).await;
            }
        }
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_stays_when_it_is_asked_for_again_and_when_it_is_renewed() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let wish = lock("ada").request_id("hold-1");
        let lease = take(&ada, wish.clone()).await;
        assert!(!lease.replayed);
        for _ in 0..3 {
            soon(ada.renew_one(&lease.lease_id, lease.token)).await.unwrap();
            let again = take(&ada, wish.clone()).await;
            assert_eq!((again.token, again.replayed), (lease.token, true));
            assert_eq!(again.lease_id, lease.lease_id, "it is the same hold");
        }
        assert_eq!(rig.client().get("lock").await.unwrap().leases[0].token, lease.token);
        // The same question by another connection, as after a crash of the asker: the same hold.
        let reborn = take(&rig.client(), wish).await;
        assert_eq!((reborn.token, reborn.replayed), (lease.token, true));
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_release_ends_a_hold_however_often_it_was_asked_for() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let wish = lock("ada").request_id("hold-1");
        let lease = take(&ada, wish.clone()).await;
        take(&ada, wish.clone()).await;
        give_back(&ada, &lease).await;
        // The late repeat of a hold that has ended is no new hold.
        let late = soon(ada.acquire(wish)).await;
        assert_eq!(reason(late), Reason::LeaseLost);
        assert!(take(&bob, lock("bob")).await.token > lease.token);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_the_holder_opens_nothing_a_second_request_of_it_waits_like_any_other() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let lease = take(&ada, lock("ada").actor("ada")).await;
        let error = held(&ada, lock("ada")).await;
        assert_eq!(error.held().unwrap().holders[0].token, lease.token);
        // As the same actor it would wait for itself, and is told so.
        let selfish = soon(ada.acquire(lock("ada").actor("ada").wait(LONG))).await;
        assert_eq!(reason(selfish), Reason::Deadlock);
        assert_eq!(rig.client().get("lock").await.unwrap().waiter_count, 0);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_is_not_ended_or_prolonged_by_others() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease = take(&ada, lock("ada")).await;
        // Bob sees the fence, as anybody may, and has a lease of his own, but not the id.
        let seen = soon(bob.get("lock")).await.unwrap().leases[0].token;
        let own = take(&bob, Acquire::new("other", "bob")).await;
        for (id, token, expected) in [
            ("0123456789abcdef0123456789abcdef", seen, Reason::NotFound),
            (&*own.lease_id, seen, Reason::NotHolder),
            (&*lease.lease_id, own.token, Reason::NotHolder),
        ] {
            let released = soon(bob.release(Release::new(id, token))).await;
            assert_eq!(reason(released), expected);
            let renewed = soon(bob.renew_one(id, token)).await;
            assert_eq!(reason(renewed), expected);
        }
        assert!(soon(ada.check("lock", lease.token)).await.unwrap().current);
        assert!(soon(bob.check("other", own.token)).await.unwrap().current);
        give_back(&ada, &lease).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_held_is_not_given_back() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let ada = client(&rig, transport, "ada");
        let never = Release::new("0123456789abcdef0123456789abcdef", 7);
        assert_eq!(reason(soon(ada.release(never)).await), Reason::NotFound);
        // Twice is once, and it takes nothing from who has it by then.
        let first = take(&ada, lock("ada")).await;
        give_back(&ada, &first).await;
        let bob = client(&rig, transport, "bob");
        let second = take(&bob, lock("bob")).await;
        give_back_again(&ada, transport, &first).await;
        assert!(soon(bob.check("lock", second.token)).await.unwrap().current);
        // What was taken away is not there to be given back, and one is told.
        soon(ada.force_release(ForceRelease::new("lock", second.token))).await.unwrap();
        let error = soon(bob.release(Release::of(&second))).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::LeaseLost));
        assert_eq!(error.lease_end(), Some(LeaseEnd::Forced));
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_answers_at_once_a_short_wait_ends_in_vain_and_a_long_one_gets_it() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let lease = take(&ada, lock("ada")).await;
        let error = held(&bob, lock("bob")).await;
        assert_eq!(error.held().unwrap().waited, Duration::ZERO);
        assert_eq!(error.held().unwrap().holders[0].holder, "ada");
        let brief = Duration::from_millis(150);
        let wish = lock("bob").request_id("w").wait(brief);
        let error = soon(bob.acquire(wish.clone())).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::StillWaiting), "{error}");
        assert!(error.held().unwrap().waited >= brief);
        // The place is its own still; it goes on from there.
        let waiting = park(&bob, wish);
        give_back(&ada, &lease).await;
        let next = parked(waiting).await;
        assert!(next.token > lease.token && next.request_id == "w", "{next:?}");
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_shows_its_holder_and_its_fence_and_nothing_when_it_is_free() {
    let rig = Rig::start().await;
    let ada = client(&rig, Transport::Session, "ada");
    let free = soon(ada.get("lock")).await.unwrap();
    assert_eq!((free.holder_count, free.waiter_count, free.leases.len()), (0, 0, 0));
    let lease = take(&ada, lock("ada").with_session()).await;
    let shown = soon(rig.client().get("lock")).await.unwrap();
    let [found] = &shown.leases[..] else { panic!("{shown:?}") };
    assert_eq!((&*found.holder, found.token), ("ada", lease.token));
    give_back(&ada, &lease).await;
    assert_eq!(soon(ada.get("lock")).await.unwrap().holder_count, 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_lets_go_and_the_next_fence_is_higher() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let ada = frail(&road, "ada");
    let lease = take(&ada, lock("ada").with_session()).await;
    let bob = client(&rig, Transport::Session, "bob");
    let waiting = park(&bob, lock("bob").with_session());
    rig.until_waiting("lock", 1).await;
    road.swallows.send_replace(true);
    let next = parked(waiting).await;
    assert!(next.token > lease.token);
    assert!(!soon(bob.check("lock", lease.token)).await.unwrap().current);
    let stale = soon(bob.acquire(Acquire::new("written", "ada").fence("lock", lease.token))).await;
    assert_eq!(reason(stale), Reason::StaleFence);
    // Back among the living, the old holder is told, and what it does then hits nobody else.
    road.swallows.send_replace(false);
    road.cut();
    let released = soon(ada.release(Release::of(&lease))).await;
    assert!(released.is_err(), "{released:?}");
    assert!(soon(bob.check("lock", next.token)).await.unwrap().current);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_fence_is_refused_wherever_it_is_shown() {
    for transport in BOTH {
        let rig = Rig::start().await;
        let (ada, bob) = (client(&rig, transport, "ada"), client(&rig, transport, "bob"));
        let old = take(&ada, lock("ada")).await;
        let fence = |wish: Acquire| wish.fence("lock", old.token);
        take(&ada, fence(Acquire::new("while-held", "ada"))).await;
        let waits = park(&ada, fence(Acquire::new("while-held", "ada")));
        rig.until_waiting("while-held", 1).await;
        give_back(&ada, &old).await;
        // Between two holds no fence is current.
        assert!(!soon(ada.check("lock", old.token)).await.unwrap().current);
        let next = take(&bob, lock("bob")).await;
        assert!(!soon(ada.check("lock", old.token)).await.unwrap().current);
        let error = soon(ada.acquire(fence(Acquire::new("written", "ada")))).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::StaleFence), "{error}");
        let Some(Facts::StaleFence { current_token, holder, .. }) = error.refusal() else {
            panic!("{error:?}")
        };
        assert_eq!((*current_token, holder.as_deref()), (Some(next.token), Some("bob")));
        assert_eq!(soon(ada.get("written")).await.unwrap().holder_count, 0, "nothing was done");
        let own = take(&ada, Acquire::new("own", "ada")).await;
        let released = soon(ada.release(Release::of(&own).fence("lock", old.token))).await;
        assert_eq!(reason(released), Reason::StaleFence);
        assert!(soon(ada.check("own", own.token)).await.unwrap().current, "nothing was done");
        // A wait is judged again when it would be served.
        let first = soon(ada.get("while-held")).await.unwrap().leases[0].token;
        soon(bob.force_release(ForceRelease::new("while-held", first))).await.unwrap();
        assert_eq!(reason(soon(waits).await.unwrap()), Reason::StaleFence);
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_taken_after_ones_session_was_closed_is_a_new_hold_of_a_new_session() {
    let rig = Rig::start().await;
    let ada = client(&rig, Transport::Session, "ada");
    let wish = lock("ada").with_session().request_id("hold-1");
    let first = take(&ada, wish.clone()).await;
    let session = ada.session_id().unwrap();
    soon(ada.close()).await.unwrap();
    assert_eq!(rig.client().get("lock").await.unwrap().holder_count, 0, "closing lets go");
    // The question of the old session is not answered with a hold of the new one.
    let late = soon(ada.acquire(wish)).await.unwrap_err();
    assert!(late.is_from_server() && late.reason().is_some(), "{late}");
    assert_eq!(rig.client().get("lock").await.unwrap().holder_count, 0);
    let second = take(&ada, lock("ada").with_session()).await;
    assert!(second.token > first.token);
    assert_ne!(ada.session_id().unwrap(), session);
    assert_eq!(reason(soon(ada.renew_one(&first.lease_id, first.token)).await), Reason::LeaseLost);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_when_its_session_is_closed_gets_nothing_later() {
    let rig = Rig::start().await;
    let (ada, bob) = (rig.client(), client(&rig, Transport::Session, "bob"));
    let lease = take(&ada, lock("ada")).await;
    let waiting = park(&bob, lock("bob").with_session());
    rig.until_waiting("lock", 1).await;
    soon(bob.close()).await.unwrap();
    soon(waiting).await.unwrap().unwrap_err();
    give_back(&ada, &lease).await;
    let next = take(&ada, lock("ada")).await;
    assert!(next.token > lease.token);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_and_its_fence_outlast_a_restart_and_later_fences_are_higher() {
    let folder = TempDir::new().unwrap();
    let rig = Rig::on(folder.path()).await;
    let wish = lock("ada").request_id("hold-1");
    let lease = take(&rig.client(), wish.clone()).await;
    rig.stop().await;
    let rig = Rig::on(folder.path()).await;
    let ada = rig.client();
    held(&ada, lock("bob")).await;
    let again = take(&ada, wish).await;
    assert_eq!((again.token, again.replayed), (lease.token, true));
    give_back(&ada, &lease).await;
    rig.stop().await;
    let rig = Rig::on(folder.path()).await;
    assert!(take(&rig.client(), lock("bob")).await.token > lease.token);
    rig.stop().await;
}
