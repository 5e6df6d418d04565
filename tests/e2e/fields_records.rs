//! Bad values of records, protections and transactions.

use super::{
    Case,
    Reason::{self, Malformed, TooLarge},
    case, id, shared_cases,
};
use crate::rig::{data_value, expect, fence, get, increment, operation, put, text_value};
use singletrack_proto::v1::{
    self, operation::Operation as Op, record_expectation::Expect, record_lifetime::Lifetime,
};

const MIB: usize = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    [reads(), puts(), increments(), deletes(), protections(), conditions(), operations()]
        .into_iter()
        .flatten()
        .collect()
}

fn reads() -> Vec<Case> {
    const KEY: &str = "GetRecordRequest.key";
    const KEYS: &str = "BatchGetRecordsRequest.keys";
    const MAX: &str = "BatchGetRecordsRequest.max_bytes";
    const PREFIX: &str = "ListRecordsRequest.prefix";
    const SIZE: &str = "ListRecordsRequest.page_size";
    const PAGE: &str = "ListRecordsRequest.page_token";
    const PAGE_MAX: &str = "ListRecordsRequest.max_bytes";
    let batch = v1::BatchGetRecordsRequest { keys: vec!["a".into()], max_bytes: None };
    let list = v1::ListRecordsRequest::default();
    let other = hex_of("b");
    vec![
        case(get("a"), KEY, Malformed, "key", |m| m.key.clear()),
        case(get("a"), KEY, Malformed, "key", |m| m.key = "a//b".into()),
        case(get("a"), KEY, Malformed, "key", |m| m.key = "../a".into()),
        case(get("a"), KEY, TooLarge, "key", |m| m.key = "x".repeat(513)),
        case(batch.clone(), KEYS, Malformed, "keys", |m| m.keys.clear()),
        case(batch.clone(), KEYS, TooLarge, "keys", |m| m.keys = vec!["a".into(); 257]),
        case(batch.clone(), KEYS, Malformed, "keys[1]", |m| m.keys.push("/a".into())),
        case(batch.clone(), MAX, Malformed, "max_bytes", |m| m.max_bytes = Some(0)),
        case(batch, MAX, Malformed, "max_bytes", |m| m.max_bytes = Some((1 << 20) + 1)),
        case(list.clone(), PREFIX, Malformed, "prefix", |m| m.prefix = "a/".into()),
        case(list.clone(), PREFIX, TooLarge, "prefix", |m| m.prefix = ["a"; 33].join("/")),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(0)),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(1_001)),
        case(list.clone(), PAGE, Malformed, "page_token", |m| m.page_token = "b".into()),
        case(list.clone(), PAGE, Malformed, "page_token", |m| m.page_token = "00".into()),
        case(list.clone(), PAGE, Malformed, "page_token", |m| {
            (m.prefix, m.page_token) = ("a".into(), other);
        }),
        case(list, PAGE_MAX, Malformed, "max_bytes", |m| m.max_bytes = Some(0)),
    ]
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn puts() -> Vec<Case> {
    type Spoil = fn(&mut v1::PutRecordRequest);
    const KEY: &str = "PutRecordRequest.key";
    const VALUE: &str = "PutRecordRequest.value";
    const TYPE: &str = "PutRecordRequest.content_type";
    const EXPECT: &str = "PutRecordRequest.expect";
    const VERSION: &str = "PutRecordRequest.expect.version";
    const LIFETIME: &str = "PutRecordRequest.lifetime";
    const TTL: &str = "PutRecordRequest.lifetime.ttl_ms";
    const BOUND: &str = "PutRecordRequest.lifetime.bound_lease";
    const LEASE: &str = "PutRecordRequest.lifetime.bound_lease.lease_id";
    const TOKEN: &str = "PutRecordRequest.lifetime.bound_lease.token";
    const HOLDER: &str = "PutRecordRequest.holder";
    let table: [(&str, Reason, &str, Spoil); 27] = [
        (KEY, Malformed, "key", |m| m.key.clear()),
        (KEY, Malformed, "key", |m| m.key = "a\n".into()),
        (KEY, TooLarge, "key", |m| m.key = "x".repeat(513)),
        (VALUE, Malformed, "value", |m| m.value = None),
        (VALUE, Malformed, "value", |m| m.value = Some(v1::RecordValue { kind: None })),
        ("PutRecordRequest.value.data", TooLarge, "value.data", |m| {
            m.value = Some(data_value(vec![0; MIB + 1]));
        }),
        ("PutRecordRequest.value.text", TooLarge, "value.text", |m| {
            m.value = Some(text_value(&"x".repeat(MIB + 1)));
        }),
        (TYPE, Malformed, "content_type", |m| m.content_type = "text/plain\n".into()),
        (TYPE, Malformed, "content_type", |m| m.content_type = "text/ä".into()),
        (TYPE, TooLarge, "content_type", |m| m.content_type = "x".repeat(129)),
        (EXPECT, Malformed, "expect", |m| m.expect = Some(v1::RecordExpectation { expect: None })),
        ("PutRecordRequest.expect.absent", Malformed, "expect.absent", |m| {
            m.expect = expect(Expect::Absent(false));
        }),
        ("PutRecordRequest.expect.exists", Malformed, "expect.exists", |m| {
            m.expect = expect(Expect::Exists(false));
        }),
        (VERSION, Malformed, "expect.version", |m| m.expect = expect(Expect::Version(0))),
        (VERSION, Malformed, "expect.version", |m| m.expect = expect(Expect::Version(1 << 53))),
        (LIFETIME, Malformed, "lifetime", |m| {
            m.lifetime = Some(v1::RecordLifetime { lifetime: None });
        }),
        (TTL, Malformed, "lifetime.ttl_ms", |m| m.lifetime = ttl(999)),
        (TTL, Malformed, "lifetime.ttl_ms", |m| m.lifetime = ttl(0)),
        (TTL, Malformed, "lifetime.ttl_ms", |m| m.lifetime = ttl(31_536_000_001)),
        (BOUND, Malformed, "lifetime.bound_lease.lease_id", |m| m.lifetime = bound("", 7)),
        (LEASE, Malformed, "lifetime.bound_lease.lease_id", |m| m.lifetime = bound("xyz", 7)),
        (TOKEN, Malformed, "lifetime.bound_lease.token", |m| m.lifetime = bound(&id(), 0)),
        (TOKEN, Malformed, "lifetime.bound_lease.token", |m| m.lifetime = bound(&id(), 1 << 53)),
        ("PutRecordRequest.keep_lifetime", Malformed, "lifetime", |m| {
            (m.keep_lifetime, m.lifetime) = (true, ttl(1_000));
        }),
        (HOLDER, Malformed, "holder", |m| m.holder = "a\0".into()),
        (HOLDER, TooLarge, "holder", |m| m.holder = "ä".repeat(257)),
        (VERSION, Malformed, "expect.version", |m| m.expect = expect(Expect::Version(u64::MAX))),
    ];
    let mut all = shared_cases!(put("a", "x"), "PutRecordRequest");
    for (field, reason, path, spoil) in table {
        all.push(case(put("a", "x"), field, reason, path, spoil));
    }
    all
}

fn ttl(ms: u64) -> Option<v1::RecordLifetime> {
    Some(v1::RecordLifetime { lifetime: Some(Lifetime::TtlMs(ms)) })
}

fn bound(lease_id: &str, token: u64) -> Option<v1::RecordLifetime> {
    let lease = v1::BoundLease { lease_id: lease_id.into(), token };
    Some(v1::RecordLifetime { lifetime: Some(Lifetime::BoundLease(lease)) })
}

fn increments() -> Vec<Case> {
    type Spoil = fn(&mut v1::IncrementRecordRequest);
    const KEY: &str = "IncrementRecordRequest.key";
    const LIFETIME: &str = "IncrementRecordRequest.lifetime";
    const BOUND: &str = "IncrementRecordRequest.lifetime.bound_lease";
    const LEASE: &str = "IncrementRecordRequest.lifetime.bound_lease.lease_id";
    const TOKEN: &str = "IncrementRecordRequest.lifetime.bound_lease.token";
    let table: [(&str, Reason, &str, Spoil); 11] = [
        (KEY, Malformed, "key", |m| m.key = "a/".into()),
        (KEY, TooLarge, "key", |m| m.key = ["a"; 33].join("/")),
        ("IncrementRecordRequest.delta", Malformed, "delta", |m| m.delta = 0),
        ("IncrementRecordRequest.min", Malformed, "min", |m| (m.min, m.max) = (Some(2), Some(1))),
        ("IncrementRecordRequest.max", Malformed, "min", |m| {
            (m.min, m.max) = (Some(i64::MIN + 1), Some(i64::MIN));
        }),
        (LIFETIME, Malformed, "lifetime", |m| {
            m.lifetime = Some(v1::RecordLifetime { lifetime: None });
        }),
        ("IncrementRecordRequest.lifetime.ttl_ms", Malformed, "lifetime.ttl_ms", |m| {
            m.lifetime = ttl(1);
        }),
        (BOUND, Malformed, "lifetime.bound_lease.lease_id", |m| m.lifetime = bound("", 7)),
        (LEASE, Malformed, "lifetime.bound_lease.lease_id", |m| m.lifetime = bound("0", 7)),
        (TOKEN, Malformed, "lifetime.bound_lease.token", |m| m.lifetime = bound(&id(), 0)),
        ("IncrementRecordRequest.holder", TooLarge, "holder", |m| m.holder = "x".repeat(257)),
    ];
    let mut all = shared_cases!(increment("a", 1), "IncrementRecordRequest");
    for (field, reason, path, spoil) in table {
        all.push(case(increment("a", 1), field, reason, path, spoil));
    }
    all
}

fn deletes() -> Vec<Case> {
    type Spoil = fn(&mut v1::DeleteRecordRequest);
    const ABSENT: &str = "DeleteRecordRequest.expect.absent";
    let table: [(&str, Reason, &str, Spoil); 7] = [
        ("DeleteRecordRequest.key", Malformed, "key", |m| m.key = ".".into()),
        ("DeleteRecordRequest.key", TooLarge, "key", |m| m.key = "x".repeat(513)),
        ("DeleteRecordRequest.expect", Malformed, "expect", |m| {
            m.expect = Some(v1::RecordExpectation { expect: None });
        }),
        (ABSENT, Malformed, "expect.absent", |m| m.expect = expect(Expect::Absent(false))),
        (ABSENT, Malformed, "expect.absent", |m| m.expect = expect(Expect::Absent(true))),
        ("DeleteRecordRequest.expect.exists", Malformed, "expect.exists", |m| {
            m.expect = expect(Expect::Exists(false));
        }),
        ("DeleteRecordRequest.expect.version", Malformed, "expect.version", |m| {
            m.expect = expect(Expect::Version(0));
        }),
    ];
    let delete = v1::DeleteRecordRequest { key: "a".into(), ..Default::default() };
    let mut all = shared_cases!(delete.clone(), "DeleteRecordRequest");
    for (field, reason, path, spoil) in table {
        all.push(case(delete.clone(), field, reason, path, spoil));
    }
    all
}

fn protections() -> Vec<Case> {
    const PREFIX: &str = "ProtectPrefixRequest.prefix";
    const RESOURCE: &str = "ProtectPrefixRequest.resource";
    const KEY: &str = "ListProtectionsRequest.key";
    const SIZE: &str = "ListProtectionsRequest.page_size";
    const PAGE: &str = "ListProtectionsRequest.page_token";
    let one = v1::ProtectPrefixRequest {
        prefix: "a".into(),
        resource: "lock".into(),
        ..Default::default()
    };
    let back = v1::UnprotectPrefixRequest {
        prefix: "a".into(),
        resource: "lock".into(),
        ..Default::default()
    };
    let list = v1::ListProtectionsRequest::default();
    let mut all = shared_cases!(one.clone(), "ProtectPrefixRequest");
    all.extend(shared_cases!(back.clone(), "UnprotectPrefixRequest"));
    all.extend([
        case(one.clone(), PREFIX, Malformed, "prefix", |m| m.prefix.clear()),
        case(one.clone(), PREFIX, Malformed, "prefix", |m| m.prefix = "/".into()),
        case(one.clone(), RESOURCE, Malformed, "resource", |m| m.resource.clear()),
        case(one, RESOURCE, TooLarge, "resource", |m| m.resource = "x".repeat(513)),
        case(back.clone(), "UnprotectPrefixRequest.prefix", Malformed, "prefix", |m| {
            m.prefix = "a//b".into();
        }),
        case(back, "UnprotectPrefixRequest.resource", Malformed, "resource", |m| {
            m.resource = "..".into();
        }),
        case(list.clone(), KEY, Malformed, "key", |m| m.key = "a/".into()),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(0)),
        case(list.clone(), PAGE, Malformed, "page_token", |m| m.page_token = hex_of("one")),
        case(list, PAGE, Malformed, "page_token", |m| m.page_token = "z".into()),
    ]);
    all
}

fn transact(operations: Vec<Op>) -> v1::TransactRequest {
    let operations = operations.into_iter().map(operation).collect();
    v1::TransactRequest { operations, ..Default::default() }
}

fn conditions() -> Vec<Case> {
    use v1::transact_condition::Condition;
    type Spoil = fn(&mut v1::TransactRequest);
    fn met(condition: Option<Condition>) -> v1::TransactCondition {
        v1::TransactCondition { condition }
    }
    fn of(key: &str, expect: Option<v1::RecordExpectation>) -> v1::TransactCondition {
        met(Some(Condition::Record(v1::RecordCondition { key: key.into(), expect })))
    }
    const ALL: &str = "TransactRequest.conditions";
    const ID: &str = "TransactRequest.request_id";
    const FENCE: &str = "TransactRequest.conditions.fence";
    const NAME: &str = "TransactRequest.conditions.fence.resource";
    const TOKEN: &str = "TransactRequest.conditions.fence.token";
    const RECORD: &str = "TransactRequest.conditions.record";
    const KEY: &str = "TransactRequest.conditions.record.key";
    const EXPECT: &str = "TransactRequest.conditions.record.expect";
    const ABSENT: &str = "TransactRequest.conditions.record.expect.absent";
    const EXISTS: &str = "TransactRequest.conditions.record.expect.exists";
    const VERSION: &str = "TransactRequest.conditions.record.expect.version";
    let table: [(&str, Reason, &str, Spoil); 13] = [
        (ID, TooLarge, "request_id", |m| m.request_id = "x".repeat(129)),
        (ALL, TooLarge, "conditions", |m| {
            m.conditions = vec![of("a", expect(Expect::Absent(true))); 257];
        }),
        (ALL, Malformed, "conditions[1]", |m| {
            m.conditions = vec![of("a", expect(Expect::Absent(true))), met(None)];
        }),
        (FENCE, Malformed, "conditions[0].fence.target", |m| {
            m.conditions = vec![met(Some(Condition::Fence(v1::Fence { target: None, token: 7 })))];
        }),
        (NAME, Malformed, "conditions[0].fence.resource", |m| {
            m.conditions = vec![met(Some(Condition::Fence(fence("a/", 7))))];
        }),
        (TOKEN, Malformed, "conditions[0].fence.token", |m| {
            m.conditions = vec![met(Some(Condition::Fence(fence("a", 0))))];
        }),
        (RECORD, Malformed, "conditions[0].record.key", |m| {
            m.conditions = vec![of("", expect(Expect::Absent(true)))];
        }),
        (KEY, TooLarge, "conditions[0].record.key", |m| {
            m.conditions = vec![of(&"x".repeat(513), expect(Expect::Absent(true)))];
        }),
        (EXPECT, Malformed, "conditions[0].record.expect", |m| m.conditions = vec![of("a", None)]),
        (EXPECT, Malformed, "conditions[0].record.expect", |m| {
            m.conditions = vec![of("a", Some(v1::RecordExpectation { expect: None }))];
        }),
        (ABSENT, Malformed, "conditions[0].record.expect.absent", |m| {
            m.conditions = vec![of("a", expect(Expect::Absent(false)))];
        }),
        (EXISTS, Malformed, "conditions[0].record.expect.exists", |m| {
            m.conditions = vec![of("a", expect(Expect::Exists(false)))];
        }),
        (VERSION, Malformed, "conditions[0].record.expect.version", |m| {
            m.conditions = vec![of("a", expect(Expect::Version(0)))];
        }),
    ];
    let whole = transact(vec![Op::PutRecord(put("a", "x"))]);
    table
        .into_iter()
        .map(|(field, reason, path, spoil)| case(whole.clone(), field, reason, path, spoil))
        .collect()
}

/// What an operation of a transaction may not be or have.
fn operations() -> Vec<Case> {
    const ALL: &str = "TransactRequest.operations";
    let bad = |path: &'static str, reason, operations: Vec<Op>| {
        case(transact(operations), ALL, reason, path, |_| {})
    };
    let good = || Op::PutRecord(put("a", "x"));
    let with_id = v1::PutRecordRequest { request_id: "1".into(), ..put("a", "x") };
    let with_age = v1::IncrementRecordRequest { age_ms: 1, ..increment("a", 1) };
    let waiting = v1::AcquireLeaseRequest { wait_ms: 1, ..crate::rig::acquire("a", "first") };
    let mut numbered = transact(vec![good()]);
    numbered.operations[0].seq = 1;
    let mut bare = transact(vec![good()]);
    bare.operations.push(v1::Operation { seq: 0, operation: None });
    let renewals = v1::RenewLeasesRequest::default();
    vec![
        bad("operations", Malformed, vec![]),
        bad("operations", TooLarge, (0..257).map(|_| good()).collect()),
        bad("operations[0].put_record.request_id", Malformed, vec![Op::PutRecord(with_id)]),
        bad(
            "operations[1].increment_record.age_ms",
            Malformed,
            vec![good(), Op::IncrementRecord(with_age)],
        ),
        bad("operations[0].acquire_lease.wait_ms", Malformed, vec![Op::AcquireLease(waiting)]),
        bad("operations[0].operation", Malformed, vec![Op::GetRecord(get("a"))]),
        bad("operations[0].operation", Malformed, vec![Op::RenewLeases(renewals)]),
        bad("operations[0].operation", Malformed, vec![Op::Transact(transact(vec![good()]))]),
        bad("operations[1].put_record.key", Malformed, vec![good(), Op::PutRecord(put("", "x"))]),
        bad(
            "operations[0].put_record.fences[0].token",
            Malformed,
            vec![Op::PutRecord(v1::PutRecordRequest {
                fences: vec![fence("a", 0)],
                ..put("a", "x")
            })],
        ),
        bad("operations", TooLarge, (0..17).map(|_| fenced(16)).collect()),
        bad("operations", TooLarge, (0..5).map(|at| of_targets(at, 128)).collect()),
        bad("operations", TooLarge, (0..9).map(of_actor).collect()),
        case(numbered, ALL, Malformed, "operations[0].seq", |_| {}),
        case(bare, ALL, Malformed, "operations[1].operation", |_| {}),
    ]
}

fn fenced(fences: usize) -> Op {
    Op::PutRecord(v1::PutRecordRequest { fences: vec![fence("a", 7); fences], ..put("a", "x") })
}

fn of_targets(at: usize, count: usize) -> Op {
    let targets = (0..count).map(|i| crate::rig::target(&format!("{at}/{i}"))).collect();
    Op::AcquireLease(v1::AcquireLeaseRequest { targets, ..crate::rig::acquire("a", "first") })
}

fn of_actor(at: usize) -> Op {
    let wish = crate::rig::acquire(&at.to_string(), "first");
    Op::AcquireLease(v1::AcquireLeaseRequest { actor: "a".into(), ..wish })
}
