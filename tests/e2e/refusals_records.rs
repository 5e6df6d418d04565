//! The reasons of records and transactions, provoked for real, with their facts.

use singletrack_proto::v1::{
    self, operation::Operation as Op, record_expectation::Expect, record_value::Kind,
    refusal::Detail, transact_condition::Condition,
};

use crate::rig::{
    Rig, Told, acquire, data_value, expect, fence, increment, ok, operation, put, refused, release,
    text_value,
};

fn transact(conditions: Vec<Condition>, operations: Vec<Op>) -> v1::TransactRequest {
    let conditions = conditions
        .into_iter()
        .map(|condition| v1::TransactCondition { condition: Some(condition) })
        .collect();
    let operations = operations.into_iter().map(operation).collect();
    v1::TransactRequest { conditions, operations, ..Default::default() }
}

pub(super) async fn version_mismatch() -> Vec<Told> {
    let rig = Rig::start().await;
    let (mut records, mut all) = (rig.records().await, rig.transactions().await);
    let mut first = put("a", "small");
    first.holder = "writer".into();
    let first = ok(records.put_record(first)).await;
    let mut stale = put("a", "other");
    stale.expect = expect(Expect::Version(first.version - 1));
    let told = refused(records.put_record(stale.clone())).await;
    let Some(Detail::VersionMismatch(is)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((&*is.key, is.current_version, &*is.written_by), ("a", first.version, "writer"));
    assert_eq!((&is.value, is.value_omitted), (&Some(text_value("small")), false));
    assert_eq!(told.info.metadata["current_version"], first.version.to_string());
    let again = v1::PutRecordRequest { expect: expect(Expect::Absent(true)), ..put("a", "x") };
    let there = refused(records.put_record(again)).await;
    let missing = v1::PutRecordRequest { expect: expect(Expect::Exists(true)), ..put("b", "x") };
    let absent = refused(records.put_record(missing)).await;
    let Some(Detail::VersionMismatch(is)) = &absent.refusal.detail else { panic!("{absent:?}") };
    assert_eq!((is.current_version, &is.value, is.value_omitted), (0, &None, false));
    let large = v1::PutRecordRequest { value: Some(data_value(vec![7; 1_025])), ..put("c", "") };
    let large = ok(records.put_record(large)).await;
    let delete = v1::DeleteRecordRequest {
        key: "c".into(),
        expect: expect(Expect::Version(large.version + 1)),
        ..Default::default()
    };
    let deleted = refused(records.delete_record(delete.clone())).await;
    let Some(Detail::VersionMismatch(is)) = &deleted.refusal.detail else { panic!("{deleted:?}") };
    assert_eq!((&is.value, is.value_omitted), (&None, true));
    // As a condition and as an operation: which is told.
    let met = Condition::Fence(fence("lock", lock(&rig).await));
    let record = v1::RecordCondition { key: "a".into(), expect: stale.expect };
    let whole = transact(vec![met, Condition::Record(record)], vec![Op::PutRecord(put("d", "x"))]);
    let condition = refused(all.transact(whole)).await;
    assert_eq!(condition.refusal.condition_index, Some(1));
    let whole = transact(vec![], vec![Op::PutRecord(put("d", "x")), Op::DeleteRecord(delete)]);
    let of_it = refused(all.transact(whole)).await;
    assert_eq!((of_it.refusal.condition_index, of_it.refusal.operation_index), (None, Some(1)));
    refused(records.get_record(crate::rig::get("d"))).await.is(singletrack_proto::Reason::NotFound);
    rig.stop().await;
    vec![told, there, absent, deleted, condition, of_it]
}

async fn lock(rig: &Rig) -> u64 {
    ok(rig.leases().await.acquire_lease(acquire("lock", "holder"))).await.token
}

pub(super) async fn fence_required() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut records = rig.records().await;
    let protect = v1::ProtectPrefixRequest {
        prefix: "orders".into(),
        resource: "lock".into(),
        ..Default::default()
    };
    let unheld = refused(records.protect_prefix(protect.clone())).await;
    let Some(Detail::FenceRequired(is)) = &unheld.refusal.detail else { panic!("{unheld:?}") };
    assert_eq!((is.current_token, &*is.holder), (0, ""));
    ok(records.protect_prefix(v1::ProtectPrefixRequest { as_admin: true, ..protect })).await;
    let token = lock(&rig).await;
    let bare = refused(records.put_record(put("orders/1/state", "x"))).await;
    let Some(Detail::FenceRequired(is)) = &bare.refusal.detail else { panic!("{bare:?}") };
    let facts = (&*is.prefix, &*is.resource, is.current_token, &*is.holder);
    assert_eq!(facts, ("orders", "lock", token, "holder"));
    assert_eq!(bare.info.metadata["resource"], "lock");
    let counted = refused(records.increment_record(increment("orders", 1))).await;
    let mut with = put("orders/1/state", "x");
    with.fences = vec![fence("lock", token)];
    ok(records.put_record(with)).await;
    ok(records.put_record(put("orderly", "x"))).await;
    let delete = v1::DeleteRecordRequest { key: "orders/1/state".into(), ..Default::default() };
    let deleted = refused(records.delete_record(delete)).await;
    rig.stop().await;
    vec![unheld, bare, counted, deleted]
}

pub(super) async fn already_done() -> Vec<Told> {
    let rig = Rig::start().await;
    let (mut leases, mut all) = (rig.leases().await, rig.transactions().await);
    let grant = ok(leases.acquire_lease(acquire("lock", "holder"))).await;
    ok(leases.release_lease(release(&grant))).await;
    let write = || Op::PutRecord(put("result", "42"));
    let released =
        refused(all.transact(transact(vec![], vec![write(), Op::ReleaseLease(release(&grant))])))
            .await;
    assert_eq!(released.refusal.operation_index, Some(1));
    let delete = v1::DeleteRecordRequest { key: "none".into(), ..Default::default() };
    let deleted =
        refused(all.transact(transact(vec![], vec![Op::DeleteRecord(delete), write()]))).await;
    assert_eq!(deleted.refusal.operation_index, Some(0));
    assert_eq!(deleted.info.metadata["operation_index"], "0");
    rig.stop().await;
    vec![released, deleted]
}

pub(super) async fn not_a_counter() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut records = rig.records().await;
    ok(records.put_record(put("a", "12"))).await;
    let told = refused(records.increment_record(increment("a", 1))).await;
    assert!(told.refusal.message.contains("`a`"), "{told:?}");
    rig.stop().await;
    vec![told]
}

pub(super) async fn out_of_bounds() -> Vec<Told> {
    let rig = Rig::start().await;
    let mut records = rig.records().await;
    let limited = |delta| v1::IncrementRecordRequest {
        min: Some(0),
        max: Some(10),
        ..increment("stock", delta)
    };
    assert_eq!(ok(records.increment_record(limited(9))).await.value, 9);
    let over = refused(records.increment_record(limited(2))).await;
    let Some(Detail::OutOfBounds(is)) = &over.refusal.detail else { panic!("{over:?}") };
    assert_eq!((&*is.key, is.value, is.min, is.max), ("stock", 9, Some(0), Some(10)));
    assert_eq!(over.info.metadata["value"], "9");
    let under = refused(records.increment_record(limited(-10))).await;
    let whole = v1::RecordValue { kind: Some(Kind::Counter(i64::MAX)) };
    ok(records.put_record(v1::PutRecordRequest { value: Some(whole), ..put("most", "") })).await;
    let wrapped = refused(records.increment_record(increment("most", 1))).await;
    assert_eq!(ok(records.increment_record(limited(1))).await.value, 10);
    rig.stop().await;
    vec![over, under, wrapped]
}
