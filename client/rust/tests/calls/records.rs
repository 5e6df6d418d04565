//! Records: what the client sends and what it makes of the answers, against a fake server.

use std::time::Duration;

use prost::{Message as _, Name as _};
use singletrack::{BoundLease, Bytes, Client, Error, Fence, Reason, Transport, Value};
use singletrack_proto::v1::{
    self, operation::Operation, operation_reply::Reply, record_expectation::Expect,
    record_lifetime::Lifetime, record_value::Kind, refusal::Detail,
};
use tonic_types::pb;

use crate::fake::Fake;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) async fn started() -> (Fake, Client) {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url())
        .transport(Transport::Unary)
        .holder("ada")
        .retries(false)
        .build()
        .unwrap();
    (fake, client)
}

/// A refusal as a server sends it.
pub(crate) fn refused(reason: Reason, refusal: v1::Refusal) -> tonic::Status {
    let refusal = v1::Refusal { reason: reason.to_wire().into(), ..refusal };
    let info = pb::ErrorInfo {
        reason: reason.name().into(),
        domain: singletrack_proto::DOMAIN.into(),
        ..Default::default()
    };
    let any = |name: &str, value| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    let details = vec![
        any("google.rpc.ErrorInfo", info.encode_to_vec()),
        any(&v1::Refusal::full_name(), refusal.encode_to_vec()),
    ];
    let packed = pb::Status { code: reason.code() as i32, message: String::new(), details };
    tonic::Status::with_details(reason.code(), "no", packed.encode_to_vec().into())
}

fn not_found() -> tonic::Status {
    refused(Reason::NotFound, v1::Refusal::default())
}

/// What a write met instead of what it expected.
fn mismatch(
    current_version: u64,
    value: Option<Kind>,
    content_type: Option<&str>,
) -> tonic::Status {
    let detail = v1::VersionMismatchDetail {
        key: "k".into(),
        current_version,
        value_omitted: value.is_none(),
        value: value.map(|kind| v1::RecordValue { kind: Some(kind) }),
        written_by: "bob".into(),
        content_type: content_type.map(str::to_owned),
    };
    let refusal = v1::Refusal {
        message: "it has another version".into(),
        detail: Some(Detail::VersionMismatch(detail)),
        ..Default::default()
    };
    refused(Reason::VersionMismatch, refusal)
}

pub(crate) fn info(key: &str, kind: Kind, version: u64) -> v1::RecordInfo {
    v1::RecordInfo {
        key: key.into(),
        value: Some(v1::RecordValue { kind: Some(kind) }),
        version,
        created_at_version: 2,
        ..Default::default()
    }
}

fn got(kind: Kind, version: u64) -> Reply {
    let record = v1::RecordInfo {
        content_type: "text/plain".into(),
        written_by: "bob".into(),
        remaining_ms: Some(9_000),
        ..info("k", kind, version)
    };
    Reply::GetRecord(v1::GetRecordResponse { record: Some(record) })
}

fn text(text: &str) -> Kind {
    Kind::Text(text.into())
}

pub(crate) fn put(version: u64) -> Reply {
    Reply::PutRecord(v1::PutRecordResponse { version, created_at_version: 2, replayed: false })
}

/// The puts that were asked for since the last time.
fn puts(fake: &Fake) -> Vec<v1::PutRecordRequest> {
    let asked = fake.asked().into_iter();
    asked
        .filter_map(
            |asked| {
                if let Operation::PutRecord(put) = asked.operation { Some(put) } else { None }
            },
        )
        .collect()
}

fn value_of(put: &v1::PutRecordRequest) -> Option<Kind> {
    put.value.clone()?.kind
}

fn expect_of(put: &v1::PutRecordRequest) -> Option<Expect> {
    put.expect?.expect
}

#[tokio::test]
async fn a_put_is_sent_with_everything_that_was_said() {
    let (fake, client) = started().await;
    fake.say(put(7));
    let written = client
        .record("a/b")
        .fence(("r", 5))
        .put("word")
        .expect_version(6)
        .ttl(60 * SECOND)
        .content_type("text/plain")
        .fence(Fence::new("other", 3))
        .request_id("mine")
        .age(SECOND)
        .await
        .unwrap();
    assert_eq!((written.version, written.created_at_version, written.replayed), (7, 2, false));
    assert_eq!(written.request_id, "mine");
    let fence = |resource: &str, token| v1::Fence {
        target: Some(v1::fence::Target::Resource(resource.into())),
        token,
    };
    let expected = v1::PutRecordRequest {
        request_id: "mine".into(),
        key: "a/b".into(),
        value: Some(v1::RecordValue { kind: Some(text("word")) }),
        content_type: "text/plain".into(),
        expect: Some(v1::RecordExpectation { expect: Some(Expect::Version(6)) }),
        lifetime: Some(v1::RecordLifetime { lifetime: Some(Lifetime::TtlMs(60_000)) }),
        keep_lifetime: false,
        holder: "ada".into(),
        fences: vec![fence("r", 5), fence("other", 3)],
        age_ms: 1_000,
    };
    assert_eq!(puts(&fake), [expected]);
}

#[tokio::test]
async fn each_kind_of_value_expectation_and_lifetime_has_its_word() {
    let (fake, client) = started().await;
    let record = client.record("k").holder("eve");
    for _ in 0..4 {
        fake.say(put(7));
    }
    record.put(vec![0, 255]).expect_absent().await.unwrap();
    record.put(-3).expect_exists().keep_lifetime().await.unwrap();
    record.put(String::from("t")).bound_to(BoundLease::new("ab", 4)).await.unwrap();
    record.content_type("text/x").put(Bytes::from_static(b"x")).await.unwrap();
    let puts = puts(&fake);
    let values: Vec<_> = puts.iter().filter_map(value_of).collect();
    let data = |bytes: &'static [u8]| Kind::Data(Bytes::from_static(bytes));
    assert_eq!(values, [data(&[0, 255]), Kind::Counter(-3), text("t"), data(b"x")]);
    let expected = [Some(Expect::Absent(true)), Some(Expect::Exists(true)), None, None];
    assert_eq!(puts.iter().map(expect_of).collect::<Vec<_>>(), expected);
    assert_eq!(
        puts.iter().map(|it| it.keep_lifetime).collect::<Vec<_>>(),
        [false, true, false, false]
    );
    let bound = v1::BoundLease { lease_id: "ab".into(), token: 4 };
    assert_eq!(puts[2].lifetime.clone().unwrap().lifetime, Some(Lifetime::BoundLease(bound)));
    assert_eq!((&*puts[2].content_type, &*puts[3].content_type), ("", "text/x"));
    assert!(puts.iter().all(|it| it.holder == "eve"), "{puts:?}");
}

#[tokio::test]
async fn a_record_is_read_with_all_its_facts_and_none_is_no_error() {
    let (fake, client) = started().await;
    fake.say(got(text("word"), 7)).refuse(not_found());
    let record = client.record("k").get().await.unwrap().unwrap();
    assert_eq!((&*record.key, record.text(), record.version), ("k", Some("word"), 7));
    assert_eq!((record.counter(), record.data(), record.bytes()), (None, None, Some(&b"word"[..])));
    assert_eq!(record.content_type.as_deref(), Some("text/plain"));
    assert_eq!(record.written_by.as_deref(), Some("bob"));
    assert_eq!((record.remaining, record.bound_token), (Some(9 * SECOND), None));
    assert_eq!(client.record("k").get().await.unwrap(), None);

    fake.say(Reply::GetRecord(v1::GetRecordResponse::default()));
    let error = client.record("k").get().await.unwrap_err();
    assert!(error.message().contains("expected a record"), "{error}");
}

#[tokio::test]
async fn an_increment_and_a_delete_say_what_came_of_them() {
    let (fake, client) = started().await;
    fake.say(Reply::IncrementRecord(v1::IncrementRecordResponse {
        value: -3,
        version: 9,
        created_at_version: 9,
        replayed: true,
    }));
    let counter = client.record("n").increment(-4).min(-5).max(5).ttl(SECOND).fence(("r", 1));
    let added = counter.await.unwrap();
    assert_eq!((added.value, added.version, added.replayed), (-3, 9, true));
    let Operation::IncrementRecord(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!((asked.delta, asked.min, asked.max), (-4, Some(-5), Some(5)));
    assert_eq!((&*asked.holder, asked.fences.len(), asked.request_id.len()), ("ada", 1, 32));
    assert_eq!(asked.lifetime.unwrap().lifetime, Some(Lifetime::TtlMs(1_000)));

    for (existed, deleted_version, expected) in [(true, 9, Some(9)), (false, 0, None)] {
        let reply = v1::DeleteRecordResponse { existed, deleted_version, replayed: false };
        fake.say(Reply::DeleteRecord(reply));
        let deleted = client.record("n").delete().expect_version(9).await.unwrap();
        assert_eq!(deleted.version, expected);
        let Operation::DeleteRecord(asked) = fake.asked().remove(0).operation else { panic!() };
        assert_eq!(asked.expect.unwrap().expect, Some(Expect::Version(9)));
        assert_eq!(asked.request_id, deleted.request_id);
    }
}

#[tokio::test]
async fn a_modification_writes_over_what_it_read_and_keeps_the_rest() {
    let (fake, client) = started().await;
    fake.say(got(text("one"), 7)).say(put(8));
    let modified = client
        .record("k")
        .fence(("r", 5))
        .modify(|current| Some(format!("{} two", current?.text()?)))
        .await
        .unwrap();
    assert_eq!((modified.written.unwrap().version, modified.attempts), (8, 1));
    let puts = puts(&fake);
    assert_eq!(puts.iter().map(value_of).collect::<Vec<_>>(), [Some(text("one two"))]);
    assert_eq!(expect_of(&puts[0]), Some(Expect::Version(7)));
    assert!(puts[0].keep_lifetime && puts[0].lifetime.is_none());
    assert_eq!((&*puts[0].content_type, puts[0].fences.len()), ("text/plain", 1));
}

#[tokio::test]
async fn a_modification_goes_on_with_what_the_refusal_tells() {
    let (fake, client) = started().await;
    // Absent when it is read, there when it is written, and gone again: one read is enough.
    fake.refuse(not_found()).refuse(mismatch(7, Some(Kind::Counter(4)), Some("x/y")));
    fake.refuse(mismatch(0, None, None)).say(put(9));
    let mut seen = Vec::new();
    let modified = client
        .record("k")
        .modify(|current| {
            seen.push(current.map(|it| (it.version, it.counter())));
            Some(current.and_then(|it| it.counter()).unwrap_or_default() + 1)
        })
        .await
        .unwrap();
    assert_eq!(seen, [None, Some((7, Some(4))), None]);
    assert_eq!(modified.attempts, 3);
    let puts = puts(&fake);
    let values: Vec<_> = puts.iter().filter_map(value_of).collect();
    assert_eq!(values, [1, 5, 1].map(Kind::Counter));
    let expected = [Expect::Absent(true), Expect::Version(7), Expect::Absent(true)].map(Some);
    assert_eq!(puts.iter().map(expect_of).collect::<Vec<_>>(), expected);
    assert_eq!(puts.iter().map(|it| &*it.content_type).collect::<Vec<_>>(), ["", "x/y", ""]);
    let ids: std::collections::BTreeSet<_> = puts.iter().map(|it| &it.request_id).collect();
    assert_eq!(ids.len(), 3, "each attempt is a call of its own");
}

#[tokio::test]
async fn a_modification_reads_again_what_was_not_told_whole() {
    let (fake, client) = started().await;
    let (long, untyped) = (mismatch(8, None, Some("")), mismatch(9, Some(text("x")), None));
    fake.say(got(text("a"), 7)).refuse(long);
    fake.say(got(text("b"), 8)).refuse(untyped);
    fake.say(got(text("c"), 10)).say(put(11));
    let append = |current: Option<&singletrack::Record>| Some(format!("{}+", current?.text()?));
    let modified = client.record("k").modify(append).await.unwrap();
    assert_eq!(modified.attempts, 3);
    let values: Vec<_> = puts(&fake).iter().filter_map(value_of).collect();
    assert_eq!(values, ["a+", "b+", "c+"].map(text));
}

#[tokio::test]
async fn a_modification_leaves_it_as_it_is_or_fails_as_it_is_told() {
    let (fake, client) = started().await;
    fake.say(got(text("done"), 7));
    let modified = client.record("k").modify(|_| None::<Value>).await.unwrap();
    assert_eq!((modified.written, modified.attempts), (None, 1));

    #[derive(Debug)]
    enum Fault {
        Mine,
        Call(Error),
    }
    impl From<Error> for Fault {
        fn from(error: Error) -> Self {
            Self::Call(error)
        }
    }
    let record = client.record("k");
    fake.say(got(text("done"), 7));
    let fault = record.try_modify(|_| Err::<Option<Value>, _>(Fault::Mine)).await.unwrap_err();
    assert!(matches!(fault, Fault::Mine), "{fault:?}");
    fake.say(got(text("done"), 7)).refuse(refused(Reason::FenceRequired, v1::Refusal::default()));
    let fault = record.try_modify(|_| Ok::<_, Fault>(Some(1))).await.unwrap_err();
    let Fault::Call(error) = fault else { panic!("{fault:?}") };
    assert_eq!(error.reason(), Some(Reason::FenceRequired));
    assert_eq!(fake.asked().len(), 4, "it is no matter of trying again");
}

#[tokio::test]
async fn a_modification_that_is_outrun_each_time_says_so() {
    let (fake, client) = started().await;
    fake.refuse(not_found());
    for version in 1..=3 {
        fake.refuse(mismatch(version, Some(Kind::Counter(1)), Some("")));
    }
    let error = client.record("k").attempts(3).modify(|_| Some(5)).await.unwrap_err();
    assert_eq!((error.reason(), error.may_have_happened()), (Some(Reason::VersionMismatch), false));
    assert!(error.message().contains("within 3 attempts"), "{error}");
    assert!(error.message().contains("it has another version"), "{error}");
    let told = error.version_mismatch().unwrap();
    assert_eq!((told.current_version, &told.value), (Some(3), &Some(Value::Counter(1))));
    assert_eq!((&*told.key, told.written_by.as_deref()), ("k", Some("bob")));
    assert_eq!(puts(&fake).len(), 3);
}

#[tokio::test]
async fn several_records_are_read_at_one_moment() {
    let (fake, client) = started().await;
    let omitted = v1::RecordInfo { value_omitted: true, value: None, ..info("b", text(""), 5) };
    let results = [Some(info("a", text("x"), 4)), None, Some(omitted)];
    let results = results.map(|record| v1::BatchGetRecordsResult { record });
    let reply = v1::BatchGetRecordsResponse { results: results.into(), revision: 9 };
    fake.say(Reply::BatchGetRecords(reply.clone()));
    let snapshot = client.records().batch_get(["a", "none", "b"]).await.unwrap();
    assert_eq!((snapshot.records.len(), snapshot.revision), (3, 9));
    assert_eq!(snapshot.records[0].as_ref().unwrap().text(), Some("x"));
    assert_eq!(snapshot.records[1], None);
    let last = snapshot.records[2].as_ref().unwrap();
    assert!(last.value_omitted && last.value.is_none());

    fake.say(Reply::BatchGetRecords(reply));
    let error = client.records().batch_get(["a"]).await.unwrap_err();
    assert!(error.message().contains("expected 1 results"), "{error}");
}

#[tokio::test]
async fn all_records_come_page_after_page_and_an_error_between_loses_none() {
    let (fake, client) = started().await;
    let page = |keys: &[&str], next: &str| {
        Reply::ListRecords(v1::ListRecordsResponse {
            records: keys.iter().map(|key| info(key, text("x"), 4)).collect(),
            next_page_token: next.into(),
            revision: 9,
        })
    };
    fake.say(page(&["a", "b"], "p2")).say(page(&[], "p3"));
    fake.refuse(tonic::Status::unavailable("gone")).say(page(&["c"], ""));
    let mut records = client.records().list("x").keys_only();
    let mut keys = Vec::new();
    let mut faults = 0;
    loop {
        match records.next().await {
            Ok(Some(record)) => keys.push(record.key),
            Ok(None) => break,
            Err(error) => faults += usize::from(error.may_have_happened()),
        }
    }
    assert_eq!((keys, faults), (["a", "b", "c"].map(String::from).to_vec(), 1));
    assert!(records.next().await.unwrap().is_none());
    let asked: Vec<_> = fake
        .asked()
        .into_iter()
        .map(|asked| {
            let Operation::ListRecords(list) = asked.operation else { panic!("{asked:?}") };
            list
        })
        .collect();
    let tokens: Vec<_> = asked.iter().map(|list| &*list.page_token).collect();
    assert_eq!(tokens, ["", "p2", "p3", "p3"]);
    assert!(asked.iter().all(|it| it.keys_only && it.prefix == "x"), "{asked:?}");
    assert!(asked.iter().all(|it| it.page_size == Some(1_000)), "{asked:?}");

    fake.say(page(&["a"], "p2")).say(page(&["b"], "p2"));
    client.records().list("").all().await.unwrap_err();
    fake.say(page(&["a"], "p2"));
    let list = client.records().list("").page_size(1).page_bytes(5).after("p1");
    let one = list.page().await.unwrap();
    assert_eq!(
        (one.records.len(), one.next_page_token.as_deref(), one.revision),
        (1, Some("p2"), 9)
    );
}

#[tokio::test]
async fn a_prefix_is_protected_looked_at_and_left_alone_again() {
    let (fake, client) = started().await;
    let (records, fence) = (client.records(), Fence::new("r", 5));
    let reply = v1::ProtectPrefixResponse { revision: 6, existed: false, replayed: false };
    fake.say(Reply::ProtectPrefix(reply));
    let done = records.protect("a", "r").fence(fence.clone()).await.unwrap();
    assert_eq!((done.revision, done.existed), (6, false));
    let Operation::ProtectPrefix(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!((&*asked.prefix, &*asked.resource, asked.as_admin), ("a", "r", false));
    assert_eq!((asked.fences.len(), &asked.request_id), (1, &done.request_id));

    let protection = v1::Protection { prefix: "a".into(), resource: "r".into(), revision: 6 };
    let page = |next: &str| {
        Reply::ListProtections(v1::ListProtectionsResponse {
            protections: vec![protection.clone()],
            next_page_token: next.into(),
        })
    };
    fake.say(page("p2")).say(page(""));
    let all = records.protections().of_key("a/b").all().await.unwrap();
    assert_eq!(all.iter().map(|it| (&*it.prefix, it.revision)).collect::<Vec<_>>(), [("a", 6); 2]);
    let Operation::ListProtections(asked) = fake.asked().remove(1).operation else { panic!() };
    assert_eq!((&*asked.key, &*asked.page_token), ("a/b", "p2"));

    let reply = v1::UnprotectPrefixResponse { existed: true, replayed: false };
    fake.say(Reply::UnprotectPrefix(reply));
    assert!(records.unprotect("a", "r").as_admin().await.unwrap().existed);
    let Operation::UnprotectPrefix(asked) = fake.asked().remove(0).operation else { panic!() };
    assert!(asked.as_admin && asked.fences.is_empty());
}

#[tokio::test]
async fn a_write_is_repeated_under_its_id_and_grows_older() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).transport(Transport::Unary).build().unwrap();
    fake.refuse(tonic::Status::unavailable("the connection broke")).say(put(7));
    let written = client.record("k").put("x").await.unwrap();
    let puts = puts(&fake);
    assert!(puts.iter().all(|it| it.request_id == written.request_id), "{puts:?}");
    assert!(puts.len() == 2 && puts[0].age_ms == 0 && puts[1].age_ms > 0, "{puts:?}");

    fake.refuse(tonic::Status::unavailable("the connection broke")).say(got(text("x"), 7));
    assert!(client.record("k").get().await.unwrap().is_some(), "a read is repeated freely");
}

#[tokio::test]
async fn a_server_without_streams_is_written_to_by_unary_calls() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).build().unwrap();
    fake.say(put(7)).say(got(text("x"), 7));
    let written = client.record("k").put("x").await.unwrap();
    assert!(client.record("k").get().await.unwrap().is_some());
    let put = puts(&fake).remove(0);
    assert_eq!(put.request_id, written.request_id);
    assert!(put.holder.starts_with("process-"), "said each way, so that it is the same call");
}
