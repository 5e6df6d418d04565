//! Records and transactions through the Rust client and a real server, on the stream and over unary
//! calls, and with a road that breaks.

use std::{sync::atomic::Ordering, time::Duration};

use singletrack::{Acquire, BoundLease, Client, HoldState, LeaseEnd, Reason, Transport, Value};

use crate::{
    rig::{Rig, soon},
    road::Road,
};

const BOTH: [Transport; 2] = [Transport::Unary, Transport::Session];

fn client_of(url: &str, transport: Transport) -> Client {
    Client::builder(url).holder("ada").transport(transport).build().unwrap()
}

fn client(rig: &Rig, transport: Transport) -> Client {
    client_of(&format!("http://{}", rig.address), transport)
}

fn reason<T: std::fmt::Debug>(result: Result<T, singletrack::Error>) -> Option<Reason> {
    result.unwrap_err().reason()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_written_read_refused_and_deleted() {
    let rig = Rig::start().await;
    for transport in BOTH {
        let client = client(&rig, transport);
        let record = client.record("orders/7");
        assert_eq!(soon(record.get()).await.unwrap(), None);
        let new = soon(record.put("new").expect_absent().into_future()).await.unwrap();
        assert_eq!(new.version, new.created_at_version);
        let error = soon(record.put("x").expect_absent().into_future()).await.unwrap_err();
        let met = error.version_mismatch().unwrap();
        assert_eq!((met.current_version, &met.value), (Some(new.version), &Some("new".into())));
        assert_eq!(
            (met.written_by.as_deref(), met.content_type.as_deref()),
            (Some("ada"), Some(""))
        );

        let put = record.put(b"\xff\0").expect_version(new.version).content_type("a/b");
        let written = soon(put.ttl(Duration::from_secs(60)).into_future()).await.unwrap();
        assert!(written.version > new.version && written.created_at_version == new.version);
        let read = soon(record.get()).await.unwrap().unwrap();
        assert_eq!((read.bytes(), read.version), (Some(&b"\xff\0"[..]), written.version));
        assert_eq!(
            (read.content_type.as_deref(), read.written_by.as_deref()),
            (Some("a/b"), Some("ada"))
        );
        assert!(read.remaining.is_some_and(|left| left <= Duration::from_secs(60)), "{read:?}");

        assert_eq!(reason(record.increment(1).await), Some(Reason::NotACounter));
        let counter = client.record("orders/count");
        assert_eq!(soon(counter.increment(5).into_future()).await.unwrap().value, 5);
        let error = counter.increment(2).max(6).await.unwrap_err();
        let bounds = error.out_of_bounds().unwrap();
        assert_eq!((bounds.value, bounds.min, bounds.max), (5, None, Some(6)));

        let both = client.records().batch_get(["orders/count", "none", "orders/7"]).await.unwrap();
        assert_eq!(both.records[0].as_ref().unwrap().counter(), Some(5));
        assert_eq!(both.records[1], None);
        let again = both.records[2].as_ref().unwrap();
        assert_eq!((&again.value, again.version), (&read.value, read.version));

        let deleted = record.delete().expect_version(written.version).await.unwrap();
        assert_eq!(deleted.version, Some(written.version));
        assert_eq!(record.delete().await.unwrap().version, None);
        counter.delete().await.unwrap();
        client.close().await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modifications_of_many_at_once_lose_nothing_and_keep_what_is_not_theirs() {
    const EACH: usize = 8;
    let rig = Rig::start().await;
    let seed = client(&rig, Transport::Unary);
    let first = seed.record("log").put("").content_type("text/plain").ttl(Duration::from_secs(600));
    first.await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..6 {
        let client = client(&rig, BOTH[writer % 2]);
        writers.push(tokio::spawn(async move {
            let mut attempts = 0;
            for n in 0..EACH {
                let append = |current: Option<&singletrack::Record>| {
                    Some(format!("{}{writer}.{n} ", current?.text()?))
                };
                let log = client.record("log").attempts(1_000);
                attempts += log.modify(append).await.unwrap().attempts;
                let counter = client.record("count").attempts(1_000);
                let add = |current: Option<&singletrack::Record>| {
                    Some(current.and_then(|it| it.counter()).unwrap_or_default() + 1)
                };
                counter.modify(add).await.unwrap();
            }
            client.close().await.unwrap();
            attempts
        }));
    }
    let mut attempts = 0;
    for writer in writers {
        attempts += soon(writer).await.unwrap();
    }
    assert!(attempts as usize >= 6 * EACH);
    let log = seed.record("log").get().await.unwrap().unwrap();
    let mut entries: Vec<_> = log.text().unwrap().split_whitespace().collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), 6 * EACH, "{log:?}");
    assert_eq!(log.content_type.as_deref(), Some("text/plain"));
    assert!(log.remaining.is_some_and(|left| left <= Duration::from_secs(600)), "{log:?}");
    let count = seed.record("count").get().await.unwrap().unwrap();
    assert_eq!(count.counter(), Some(6 * EACH as i64));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_writes_counts_and_releases_at_one_moment() {
    let rig = Rig::start().await;
    for transport in BOTH {
        let client = client(&rig, transport);
        let lease = client.lease("job").ttl(Duration::from_secs(30)).acquire().await.unwrap();
        let before = client.record("job/state").put("taken").await.unwrap();
        let transact = client
            .transact()
            .holding(&lease)
            .when("job/state")
            .has_version(before.version)
            .when("job/none")
            .is_absent()
            .put("job/state", "done")
            .increment("job/count", 2)
            .increment("job/count", 3)
            .release(&lease)
            .acquire(Acquire::new("next", "ada").ttl(Duration::from_secs(30)));
        let done = soon(transact.clone().into_future()).await.unwrap();
        let put = done.put(0).unwrap();
        assert!(before.version < put.version && put.version < done.commit_revision);
        assert_eq!(
            (done.incremented(1).unwrap().value, done.incremented(2).unwrap().value),
            (2, 5)
        );
        assert_eq!(lease.state(), HoldState::Lost);
        assert_eq!(lease.end(), Some(LeaseEnd::Released));
        assert!(!client.check("job", lease.token()).await.unwrap().current);
        let next = done.lease(4).unwrap();
        let next = client.adopt(next.lease_id.as_str(), next.token).await.unwrap();

        // The same once more is another call, and nothing of it happens.
        let error = soon(transact.into_future()).await.unwrap_err();
        assert_eq!((error.reason(), error.condition_index()), (Some(Reason::StaleFence), Some(0)));
        assert_eq!(client.record("job/count").get().await.unwrap().unwrap().counter(), Some(5));
        let nothing = client.transact().increment("job/count", 1).delete("job/none").await;
        let error = nothing.unwrap_err();
        assert_eq!((error.reason(), error.operation_index()), (Some(Reason::AlreadyDone), Some(1)));

        // The same under its id is told again.
        let transact =
            || client.transact().increment("job/count", 1).request_id(format!("{transport:?}"));
        let (first, second) = (transact().await.unwrap(), transact().await.unwrap());
        assert_eq!((first.replayed, second.replayed), (false, true));
        assert_eq!(first.incremented(0).unwrap().value, 6);
        assert_eq!(second.incremented(0).unwrap().value, 6);
        next.release().await.unwrap();
        client.transact().delete("job/count").delete("job/state").await.unwrap();
        client.close().await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_bound_to_a_lease_and_what_lives_with_the_session_goes_with_it() {
    let rig = Rig::start().await;
    let watcher = rig.client();
    for transport in BOTH {
        let client = client(&rig, transport);
        let lease = client.lease("r").ttl(Duration::from_secs(30)).acquire().await.unwrap();
        client.record("bound").put(1).bound_to(&lease).await.unwrap();
        let bound = watcher.record("bound").get().await.unwrap().unwrap();
        assert_eq!(bound.bound_token, Some(lease.token()));
        let lost = BoundLease::new(lease.lease_id(), lease.token());
        lease.release().await.unwrap();
        assert_eq!(watcher.record("bound").get().await.unwrap(), None);
        // How it ended is remembered until the answer to its release is acknowledged.
        let refused = reason(client.record("bound").put(1).bound_to(lost).await);
        assert!(matches!(refused, Some(Reason::LeaseLost | Reason::NotFound)), "{refused:?}");
        client.close().await.unwrap();
    }
    let client = client(&rig, Transport::Session);
    let wish = Acquire::new("with-session", "ada").with_session();
    let done = soon(client.transact().put("k", "v").acquire(wish).into_future()).await.unwrap();
    let token = done.lease(1).unwrap().token;
    assert!(watcher.check("with-session", token).await.unwrap().current);
    client.close().await.unwrap();
    assert!(!watcher.check("with-session", token).await.unwrap().current);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_prefix_is_written_by_its_holder_alone() {
    let rig = Rig::start().await;
    for transport in BOTH {
        let client = client(&rig, transport);
        let lease = client.lease("deploy").ttl(Duration::from_secs(30)).acquire().await.unwrap();
        let records = client.records();
        assert_eq!(reason(records.protect("p", "deploy").await), Some(Reason::FenceRequired));
        assert!(!records.protect("p", "deploy").fence(&lease).await.unwrap().existed);
        assert!(records.protect("p", "deploy").as_admin().await.unwrap().existed);
        let all = records.protections().of_key("p/a").all().await.unwrap();
        assert_eq!((all.len(), &*all[0].prefix, &*all[0].resource), (1, "p", "deploy"));

        let error = client.record("p/a").put(1).await.unwrap_err();
        let required = error.fence_required().unwrap();
        assert_eq!((&*required.prefix, &*required.resource), ("p", "deploy"));
        assert_eq!(required.current_token, Some(lease.token()));
        client.record("p/a").fence(&lease).put(1).await.unwrap();
        client.record("p/a").fence(&lease).modify(|it| Some(it?.counter()? + 1)).await.unwrap();
        client.transact().holding(&lease).increment("p/a", 1).await.unwrap();
        assert_eq!(client.record("p/a").get().await.unwrap().unwrap().counter(), Some(3));
        client.record("p/a").delete().fence(&lease).await.unwrap();
        assert!(records.unprotect("p", "deploy").fence(&lease).await.unwrap().existed);
        lease.release().await.unwrap();
        client.close().await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_records_below_a_prefix_are_listed_however_many_pages_they_take() {
    let rig = Rig::start().await;
    let client = client(&rig, Transport::Session);
    let mut writes = Vec::new();
    for number in 0..1_205_i64 {
        let client = client.clone();
        let key = format!("n/{number:04}");
        writes.push(tokio::spawn(async move { client.record(key).put(number).await }));
    }
    for write in writes {
        soon(write).await.unwrap().unwrap();
    }
    client.record("no").put("beside").await.unwrap();
    let listed = soon(client.records().list("n").all()).await.unwrap();
    let numbers: Vec<_> = listed.iter().filter_map(|record| record.counter()).collect();
    assert_eq!(numbers, (0..1_205).collect::<Vec<_>>());
    let mut keys = client.records().list("").keys_only().page_size(500);
    let mut count = 0;
    while let Some(record) = soon(keys.next()).await.unwrap() {
        assert_eq!(record.value, None);
        count += 1;
    }
    assert_eq!(count, 1_206);
    client.close().await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_come_back_whole_over_both_transports() {
    let rig = Rig::start().await;
    let large = |byte: u8| Value::from(vec![byte; 1 << 20]);
    for (transport, byte) in BOTH.into_iter().zip([3, 4]) {
        let client = client(&rig, transport);
        for name in ["large/a", "large/b"] {
            soon(client.record(name).put(large(byte)).into_future()).await.unwrap();
        }
        let read = soon(client.record("large/a").get()).await.unwrap().unwrap();
        assert!(read.value == Some(large(byte)) && read.value_bytes == 1 << 20);
        let both = soon(client.records().batch_get(["large/a", "large/b"])).await.unwrap();
        let [Some(first), Some(second)] = both.records.as_slice() else { panic!("both are there") };
        assert!(first.value == Some(large(byte)) && !first.value_omitted);
        assert!(second.value.is_none() && second.value_omitted);
        let listed = soon(client.records().list("large").all()).await.unwrap();
        assert!(listed.len() == 2 && listed.iter().all(|it| it.value == Some(large(byte))));
        let two = client.transact().put("t/a", large(1)).put("t/b", large(2));
        assert_eq!(reason(soon(two.into_future()).await), Some(Reason::TooLarge));
        client.close().await.unwrap();
    }
    rig.stop().await;
}

/// Whatever of the replies got lost, each number was added once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_stream_is_cut_no_write_is_done_twice() {
    let rig = Rig::start().await;
    let mut expected = 0;
    for (round, limit) in (1..400).step_by(19).enumerate() {
        let road = Road::to(rig.address).await;
        road.cut_after.store(limit, Ordering::SeqCst);
        let client = client_of(&road.url(), Transport::Session);
        let writing = tokio::spawn({
            let client = client.clone();
            async move {
                let transact = client.transact().increment("sum", 1).put("last", round as i64);
                let (one, both) = tokio::join!(client.record("sum").increment(10), transact);
                (one.unwrap(), both.unwrap())
            }
        });
        // Nothing gets through before the road is mended.
        while road.connections.load(Ordering::SeqCst) < 2 && !writing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        road.cut_after.store(0, Ordering::SeqCst);
        soon(writing).await.unwrap();
        expected += 11;
        road.cut();
        let sum = soon(client.record("sum").get()).await.unwrap().unwrap();
        assert_eq!(sum.counter(), Some(expected), "after round {round}, cut after {limit} bytes");
        soon(client.close()).await.unwrap();
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_a_stream_is_the_same_over_a_unary_call_under_its_number() {
    let rig = Rig::start().await;
    let (client, unary) = (client(&rig, Transport::Session), client(&rig, Transport::Unary));
    // Acknowledged meanwhile or not: it is not another call, and not done again.
    let same = |again: Result<bool, singletrack::Error>| match again {
        Ok(replayed) => assert!(replayed),
        Err(error) => assert_eq!(error.reason(), Some(Reason::RequestIdForgotten), "{error}"),
    };
    let put = soon(client.record("k").put("v").into_future()).await.unwrap();
    let session = client.session_id().unwrap();
    assert_eq!(put.request_id, format!("{session}/1"));
    let again = unary.record("k").put("v").request_id(put.request_id).await;
    same(again.map(|it| it.replayed));
    let added = soon(client.record("n").increment(2).into_future()).await.unwrap();
    let again = unary.record("n").increment(2).request_id(added.request_id).await;
    same(again.map(|it| it.replayed));
    let transact = |client: &Client| client.transact().put("k", "w").increment("n", 3);
    let done = soon(transact(&client).into_future()).await.unwrap();
    let again = transact(&unary).request_id(done.request_id).await;
    same(again.map(|it| it.replayed));
    assert_eq!(client.record("n").get().await.unwrap().unwrap().counter(), Some(5));
    client.close().await.unwrap();
    rig.stop().await;
}

/// What was under way when its session was lost is asked for by unary calls: it is done once, also
/// when the server never got it. What would have lived with the session is not done at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_outlives_its_session() {
    let rig = Rig::start().await;
    let road = Road::to(rig.address).await;
    let client = Client::builder(road.url())
        .holder("ada")
        .session_ttl(Duration::from_secs(1))
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    soon(client.record("n").increment(1).into_future()).await.unwrap();
    let session = client.session_id().unwrap();
    let lease = soon(client.lease("until-then").acquire()).await.unwrap();
    road.swallows.send_replace(true);
    let writing = tokio::spawn({
        let client = client.clone();
        async move {
            let wish = Acquire::new("bound", "ada").with_session();
            let bound = client.transact().increment("n", 100).acquire(wish);
            tokio::join!(client.record("n").increment(10), bound)
        }
    });
    // The server ends the session, and with it the lease.
    let watcher = rig.client();
    soon(async {
        while watcher.check("until-then", lease.token()).await.unwrap().current {
            tokio::task::yield_now().await;
        }
    })
    .await;
    road.swallows.send_replace(false);
    road.cut();
    let (added, bound) = soon(writing).await.unwrap();
    assert_eq!(added.unwrap().value, 11);
    let error = bound.unwrap_err();
    assert_eq!((error.reason(), error.operation_index()), (Some(Reason::SessionLost), Some(1)));
    assert_eq!(watcher.record("n").get().await.unwrap().unwrap().counter(), Some(11));
    assert_eq!(soon(lease.lost()).await.reason(), Some(Reason::SessionLost));
    assert_ne!(client.session_id(), Some(session));
    soon(client.close()).await.unwrap();
    rig.stop().await;
}
