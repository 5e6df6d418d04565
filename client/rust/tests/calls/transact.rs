//! Transactions: what the client sends and what it makes of the answers, against a fake server.

use std::time::Duration;

use singletrack::{
    Acquire, Client, HoldState, LeaseEnd, Reason, Release, TransactReply, Transport,
};
use singletrack_proto::v1::{
    self, operation::Operation, operation_reply::Reply, record_expectation::Expect,
    transact_condition::Condition,
};

use crate::{
    fake::Fake,
    granted,
    records::{put, refused, started},
};

const SECOND: Duration = Duration::from_secs(1);

fn done(replies: Vec<Reply>) -> Reply {
    let reply = |reply| v1::OperationReply { reply: Some(reply), ..Default::default() };
    Reply::Transact(v1::TransactResponse {
        replies: replies.into_iter().map(reply).collect(),
        commit_revision: 20,
        replayed: false,
    })
}

fn asked(fake: &Fake) -> v1::TransactRequest {
    let Operation::Transact(asked) = fake.asked().remove(0).operation else { panic!() };
    asked
}

fn fence(resource: &str, token: u64) -> v1::Fence {
    v1::Fence { target: Some(v1::fence::Target::Resource(resource.into())), token }
}

fn record(key: &str, expect: Expect) -> Condition {
    let expect = Some(v1::RecordExpectation { expect: Some(expect) });
    Condition::Record(v1::RecordCondition { key: key.into(), expect })
}

#[tokio::test]
async fn a_transaction_is_sent_as_it_reads() {
    let (fake, client) = started().await;
    fake.say(granted(7));
    let lease = client.lease("orders/7").ttl(30 * SECOND).acquire().await.unwrap();
    fake.asked();
    let added = v1::IncrementRecordResponse { value: 4, version: 18, ..Default::default() };
    let released = Reply::ReleaseLease(v1::ReleaseLeaseResponse::default());
    let deleted = v1::DeleteRecordResponse { existed: true, deleted_version: 3, replayed: false };
    fake.say(done(vec![
        put(17),
        Reply::IncrementRecord(added),
        Reply::DeleteRecord(deleted),
        released,
    ]));
    let transacted = client
        .transact()
        .holding(&lease)
        .when("orders/7")
        .has_version(12)
        .when("orders/8")
        .is_absent()
        .when("orders/9")
        .exists()
        .put("orders/7", "packed")
        .increment("count", 1)
        .with(client.record("old").delete().expect_version(3))
        .release(&lease)
        .request_id("mine")
        .age(SECOND)
        .await
        .unwrap();
    assert_eq!((transacted.commit_revision, transacted.replayed), (20, false));
    assert_eq!((&*transacted.request_id, transacted.replies.len()), ("mine", 4));
    assert_eq!(transacted.put(0).unwrap().version, 17);
    assert_eq!(transacted.incremented(1).unwrap().value, 4);
    assert_eq!(transacted.deleted(2).unwrap().version, Some(3));
    assert_eq!(transacted.replies[3], TransactReply::Released);
    assert!(transacted.put(1).is_none() && transacted.put(4).is_none());

    let asked = asked(&fake);
    assert_eq!((&*asked.request_id, asked.age_ms), ("mine", 1_000));
    let conditions: Vec<_> = asked.conditions.into_iter().filter_map(|it| it.condition).collect();
    assert_eq!(
        conditions,
        [
            Condition::Fence(fence("orders/7", 7)),
            record("orders/7", Expect::Version(12)),
            record("orders/8", Expect::Absent(true)),
            record("orders/9", Expect::Exists(true)),
        ]
    );
    let operations: Vec<_> =
        asked.operations.into_iter().map(|it| (it.seq, it.operation)).collect();
    let [put, increment, delete, release] = operations.try_into().unwrap();
    let (0, Some(Operation::PutRecord(put))) = put else { panic!("{put:?}") };
    assert_eq!((&*put.key, &*put.holder, &*put.request_id), ("orders/7", "ada", ""));
    let (0, Some(Operation::IncrementRecord(it))) = increment else { panic!("{increment:?}") };
    assert_eq!((&*it.key, it.delta), ("count", 1));
    let (0, Some(Operation::DeleteRecord(it))) = delete else { panic!("{delete:?}") };
    assert_eq!(it.expect.unwrap().expect, Some(Expect::Version(3)));
    let (0, Some(Operation::ReleaseLease(it))) = release else { panic!("{release:?}") };
    assert_eq!((&*it.lease_id, it.token, &*it.request_id), (lease.lease_id(), 7, ""));

    assert_eq!((lease.state(), lease.end()), (HoldState::Lost, Some(LeaseEnd::Released)));
    drop(lease);
    fake.say(Reply::Ping(v1::PingResponse::default()));
    client.ping().await.unwrap();
    assert_eq!(fake.asked().len(), 1, "what was released is not released again");
}

#[tokio::test]
async fn leases_are_taken_given_away_and_taken_from_others() {
    let (fake, client) = started().await;
    fake.say(granted(7));
    let lease = client.lease("a").ttl(30 * SECOND).acquire().await.unwrap();
    fake.asked();
    let given = v1::TransferLeaseResponse { lease_id: "cd".into(), token: 9, ..Default::default() };
    let forced = v1::ForceReleaseLeaseResponse { holder: "bob".into(), replayed: false };
    let protected = v1::ProtectPrefixResponse { revision: 19, ..Default::default() };
    let unprotected = v1::UnprotectPrefixResponse { existed: true, replayed: false };
    fake.say(done(vec![
        Reply::TransferLease(given),
        Reply::ForceReleaseLease(forced),
        granted(11),
        Reply::ProtectPrefix(protected),
        Reply::UnprotectPrefix(unprotected),
        Reply::ReleaseLease(v1::ReleaseLeaseResponse::default()),
    ]));
    let wish = Acquire::new("b", "ada").shared().and("c").ttl(5 * SECOND);
    let transacted = client
        .transact()
        .transfer(&lease, "eve")
        .force_release("b", 8)
        .acquire(wish)
        .protect("p", "a")
        .unprotect("q", "a")
        .with(Release::new("ef", 3))
        .await
        .unwrap();
    let given = transacted.transferred(0).unwrap();
    assert_eq!((&*given.lease_id, given.token), ("cd", 9));
    assert_eq!(lease.end(), Some(LeaseEnd::Transferred));
    assert_eq!(transacted.force_released(1).unwrap().holder, "bob");
    let taken = transacted.lease(2).unwrap();
    assert_eq!((taken.token, &*taken.holder, taken.resource()), (11, "ada", "b"));
    assert_eq!((taken.targets.len(), &taken.request_id), (2, &transacted.request_id));
    assert_eq!(transacted.protected(3).unwrap().revision, 19);
    assert!(transacted.unprotected(4).unwrap().existed);
    let asked = asked(&fake);
    let Some(Operation::AcquireLease(acquire)) = &asked.operations[2].operation else { panic!() };
    assert_eq!((acquire.ttl_ms, acquire.wait_ms), (Some(5_000), 0));
}

#[tokio::test]
async fn a_refusal_names_its_condition_or_its_operation_and_changes_nothing_here() {
    let (fake, client) = started().await;
    fake.say(granted(7));
    let lease = client.lease("a").ttl(30 * SECOND).acquire().await.unwrap();
    let transact = client.transact().put("k", 1).release(&lease);
    let refusal = v1::Refusal { condition_index: Some(2), ..Default::default() };
    fake.refuse(refused(Reason::StaleFence, refusal));
    let error = transact.clone().await.unwrap_err();
    assert_eq!((error.condition_index(), error.operation_index()), (Some(2), None));
    let refusal = v1::Refusal { operation_index: Some(0), ..Default::default() };
    fake.refuse(refused(Reason::AlreadyDone, refusal));
    let error = transact.await.unwrap_err();
    assert_eq!((error.condition_index(), error.operation_index()), (None, Some(0)));
    assert_eq!(error.reason(), Some(Reason::AlreadyDone));
    assert_eq!(lease.state(), HoldState::Held);
    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse::default()));
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_replay_tells_of_a_lease_that_has_ended_since_and_of_all_else() {
    let (fake, client) = started().await;
    let lost = v1::Refusal {
        reason: Reason::LeaseLost.to_wire().into(),
        message: "it expired".into(),
        ..Default::default()
    };
    fake.say(done(vec![put(17), Reply::Refusal(Box::new(lost))]));
    let transact = client.transact().put("k", 1).acquire(Acquire::new("a", "ada"));
    let done = transact.await.unwrap();
    assert_eq!((done.put(0).unwrap().version, done.lease(1)), (17, None));
    let TransactReply::Lost { reason, message, .. } = &done.replies[1] else { panic!("{done:?}") };
    assert_eq!(reason, "LEASE_LOST");
    assert!(message.contains("it expired"), "{message}");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_an_error_and_no_panic() {
    let (fake, client) = started().await;
    for replies in [vec![], vec![put(1), put(2)], vec![granted(1)]] {
        fake.say(done(replies));
        let error = client.transact().put("k", 1).await.unwrap_err();
        assert!(error.may_have_happened() && !error.is_from_server(), "{error}");
    }
}

#[tokio::test]
async fn a_lease_that_lives_with_a_session_is_not_asked_for_without_one() {
    let (fake, client) = started().await;
    let wish = || Acquire::new("b", "ada").with_session();
    let error = client.transact().acquire(wish()).await.unwrap_err();
    assert!(error.was_never_sent(), "{error}");
    // Nor where no stream can be had.
    let client = Client::builder(fake.url()).transport(Transport::Auto).build().unwrap();
    let error = client.transact().acquire(wish()).await.unwrap_err();
    assert!(!error.may_have_happened(), "{error}");
    assert!(fake.asked().is_empty());
}
