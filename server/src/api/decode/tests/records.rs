//! What identities of records and transactions are made of. They stand in logs, so they stay.

use super::*;
use crate::api::identity;
use v1::{operation::Operation as Op, record_expectation::Expect, record_value::Kind};

fn put() -> v1::PutRecordRequest {
    v1::PutRecordRequest {
        request_id: "one".into(),
        key: "a/b".into(),
        value: Some(v1::RecordValue { kind: Some(Kind::Text("x".into())) }),
        fences: vec![fence("c", 7)],
        ..Default::default()
    }
}

fn increment() -> v1::IncrementRecordRequest {
    v1::IncrementRecordRequest {
        request_id: "one".into(),
        key: "n".into(),
        delta: -3,
        max: Some(9),
        ..Default::default()
    }
}

fn delete() -> v1::DeleteRecordRequest {
    let expect = v1::RecordExpectation { expect: Some(Expect::Version(5)) };
    v1::DeleteRecordRequest {
        request_id: "one".into(),
        key: "a/b".into(),
        expect: Some(expect),
        ..Default::default()
    }
}

fn protect() -> v1::ProtectPrefixRequest {
    v1::ProtectPrefixRequest {
        request_id: "one".into(),
        prefix: "a".into(),
        resource: "lock".into(),
        as_admin: true,
        ..Default::default()
    }
}

fn unprotect() -> v1::UnprotectPrefixRequest {
    v1::UnprotectPrefixRequest {
        request_id: "one".into(),
        prefix: "a".into(),
        resource: "lock".into(),
        as_admin: true,
        ..Default::default()
    }
}

fn transact_of(operations: Vec<Op>) -> v1::TransactRequest {
    let operations = operations.into_iter();
    let operations = operations.map(|it| v1::Operation { seq: 0, operation: Some(it) }).collect();
    v1::TransactRequest { request_id: "one".into(), operations, ..Default::default() }
}

fn bare(put: v1::PutRecordRequest) -> Op {
    Op::PutRecord(v1::PutRecordRequest { request_id: String::new(), ..put })
}

fn hash(question: Result<Question, Flaws>) -> String {
    hex::encode(question.unwrap().mark.unwrap().command.0)
}

#[test]
fn the_identities_of_writes_are_what_they_always_were() {
    let hashes = [
        hash(put_record(context(), &put(), whole())),
        hash(increment_record(context(), &increment(), whole())),
        hash(delete_record(context(), &delete(), whole())),
        hash(protect_prefix(context(), &protect(), whole())),
        hash(unprotect_prefix(context(), &unprotect(), whole())),
        hash(transact(context(), transact_of(vec![bare(put())]), whole())),
    ];
    assert_eq!(hashes, PINNED);
}

const PINNED: [&str; 6] = [
    "a7d9582be9d6da9b7e4df01759005b68",
    "aa4b87a04802f128d631644f531730df",
    "2e10f0fea5a0860088f01d8ffca19758",
    "27968ada2d0377fac5e78989679cffc7",
    "e1490ebae0ebc929f197a1c6133000c9",
    "9c1c7063b044ca97f0834ff225c69f50",
];

#[test]
fn whatever_makes_a_write_another_makes_its_identity_another() {
    type Spoil = fn(&mut v1::PutRecordRequest);
    let others: [Spoil; 9] = [
        |m| m.key = "a/c".into(),
        |m| m.value = Some(v1::RecordValue { kind: Some(Kind::Text("y".into())) }),
        |m| m.value = Some(v1::RecordValue { kind: Some(Kind::Data("x".into())) }),
        |m| m.content_type = "text/plain".into(),
        |m| m.expect = Some(v1::RecordExpectation { expect: Some(Expect::Absent(true)) }),
        |m| m.keep_lifetime = true,
        |m| {
            let lifetime = Some(v1::record_lifetime::Lifetime::TtlMs(1_000));
            m.lifetime = Some(v1::RecordLifetime { lifetime });
        },
        |m| m.holder = "agent".into(),
        |m| m.fences.clear(),
    ];
    let one = hash(put_record(context(), &put(), whole()));
    for (i, spoil) in others.into_iter().enumerate() {
        let mut other = put();
        spoil(&mut other);
        assert_ne!(hash(put_record(context(), &other, whole())), one, "{i}");
        let whole_one = transact_of(vec![bare(put())]);
        let whole_other = transact_of(vec![bare(other)]);
        assert_ne!(
            hash(transact(context(), whole_other, whole())),
            hash(transact(context(), whole_one, whole())),
            "{i}"
        );
    }
    // What may differ between two sends of one call.
    let older = v1::PutRecordRequest { age_ms: 9_000, ..put() };
    assert_eq!(hash(put_record(context(), &older, whole())), one);
}

#[test]
fn large_values_are_known_by_their_digest() {
    let of = |byte: u8| {
        let value = Some(v1::RecordValue { kind: Some(Kind::Data(vec![byte; 5_000].into())) });
        hash(put_record(context(), &v1::PutRecordRequest { value, ..put() }, whole()))
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    assert_ne!(identity::digest(&[1]), identity::digest(&[2]));
}

#[test]
fn an_operation_of_a_transaction_takes_its_session_from_the_stream() {
    use singletrack_core::command::Lifetime;
    let session = SessionId([3; 16]);
    let requests = identity::session(&Namespace::default(), session);
    let on_stream = Some(OnStream { session, requests, seq: 4 });
    let message = v1::TransactRequest {
        request_id: String::new(),
        ..transact_of(vec![Op::AcquireLease(v1::AcquireLeaseRequest {
            request_id: String::new(),
            ..acquire()
        })])
    };
    let question = transact(Context { on_stream, ..context() }, message, whole()).unwrap();
    assert_eq!(question.mark.unwrap().id, requests.at(4));
    let Command::Transact(transact) = question.command else { panic!("a transaction") };
    let Command::AcquireLease(acquire) = &transact.operations[0].command else { panic!() };
    assert_eq!(acquire.lifetime, Lifetime::Session(session));
    assert_eq!(transact.operations[0].fences.len(), 1);
}
