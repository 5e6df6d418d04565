//! Bad values of the whole menu of leases.

use super::{
    Case, Malformed,
    Reason::{self, TooLarge},
    case, id,
};
use crate::rig::{acquire, fence, permits, subtree, target};
use singletrack_proto::v1;

pub(super) fn cases() -> Vec<Case> {
    [targets(), terms(), transfers(), yields(), lists()].into_iter().flatten().collect()
}

fn targets() -> Vec<Case> {
    type Spoil = fn(&mut v1::AcquireLeaseRequest);
    const TARGETS: &str = "AcquireLeaseRequest.targets";
    const RESOURCE: &str = "AcquireLeaseRequest.targets.resource";
    const PERMITS: &str = "AcquireLeaseRequest.targets.permits";
    const LIMIT: &str = "AcquireLeaseRequest.targets.limit";
    const REACH: &str = "AcquireLeaseRequest.targets.reach";
    let table: [(&str, Reason, &str, Spoil); 13] = [
        (TARGETS, TooLarge, "targets", |m| {
            m.targets = (0..33).map(|i| target(&format!("{i:0>512}"))).collect();
        }),
        (RESOURCE, Malformed, "targets[1].resource", |m| {
            m.targets = vec![subtree("a"), target("a/b")]
        }),
        (PERMITS, Malformed, "targets[0].permits", |m| m.targets[0] = permits("a", 0, 3)),
        (PERMITS, Malformed, "targets[0].permits", |m| m.targets[0] = permits("a", 4, 3)),
        (PERMITS, Malformed, "targets[0].permits", |m| m.targets[0].permits = 1),
        (LIMIT, Malformed, "targets[0].limit", |m| m.targets[0] = permits("a", 1, 0)),
        (LIMIT, Malformed, "targets[0].limit", |m| m.targets[0] = permits("a", 1, 1_000_001)),
        (LIMIT, Malformed, "targets[0].limit", |m| m.targets[0].limit = 1),
        (REACH, Malformed, "targets[0].reach", |m| m.targets[0].reach = 3),
        (REACH, Malformed, "targets[0].reach", |m| m.targets[0].reach = -1),
        (REACH, Malformed, "targets[1].reach", |m| {
            m.targets.push(v1::LeaseTarget { reach: 2, ..permits("b", 1, 3) });
        }),
        (RESOURCE, Malformed, "targets[1].resource", |m| m.targets.push(permits("a", 1, 3))),
        (RESOURCE, Malformed, "targets[127].resource", |m| {
            m.targets = (0..128).map(|i| target(&format!("{i}"))).collect();
            m.targets[127].resource.clear();
        }),
    ];
    table
        .into_iter()
        .map(|(field, reason, path, spoil)| case(acquire("a", "first"), field, reason, path, spoil))
        .collect()
}

fn terms() -> Vec<Case> {
    type Spoil = fn(&mut v1::AcquireLeaseRequest);
    const ACTOR: &str = "AcquireLeaseRequest.actor";
    const LABELS: &str = "AcquireLeaseRequest.labels";
    const KEY: &str = "AcquireLeaseRequest.labels.key";
    const VALUE: &str = "AcquireLeaseRequest.labels.value";
    const HOLD: &str = "AcquireLeaseRequest.max_hold_ms";
    const DELAY: &str = "AcquireLeaseRequest.lock_delay_ms";
    let table: [(&str, Reason, &str, Spoil); 15] = [
        (ACTOR, Malformed, "actor", |m| m.actor = "a//b".into()),
        (ACTOR, Malformed, "actor", |m| m.actor = "a\n".into()),
        (ACTOR, TooLarge, "actor", |m| m.actor = "x".repeat(257)),
        (LABELS, TooLarge, "labels", |m| {
            m.labels = (0..17).map(|i| (i.to_string(), String::new())).collect();
        }),
        (LABELS, TooLarge, "labels", |m| {
            m.labels = (0..9).map(|i| (i.to_string(), "x".repeat(256))).collect();
        }),
        (KEY, Malformed, "labels[]", |m| label(m, "", "x")),
        (KEY, Malformed, "labels[a\\tb]", |m| label(m, "a\tb", "x")),
        (VALUE, Malformed, "labels[k]", |m| label(m, "k", "\u{7f}")),
        (VALUE, TooLarge, "labels[k]", |m| label(m, "k", &"x".repeat(257))),
        (HOLD, Malformed, "max_hold_ms", |m| m.max_hold_ms = Some(0)),
        (HOLD, Malformed, "max_hold_ms", |m| m.max_hold_ms = Some(999)),
        (HOLD, Malformed, "max_hold_ms", |m| m.max_hold_ms = Some(31_536_000_001)),
        (HOLD, Malformed, "max_hold_ms", |m| m.max_hold_ms = Some(u64::MAX)),
        (DELAY, Malformed, "lock_delay_ms", |m| m.lock_delay_ms = 3_600_001),
        (DELAY, Malformed, "lock_delay_ms", |m| m.lock_delay_ms = u64::MAX),
    ];
    table
        .into_iter()
        .map(|(field, reason, path, spoil)| case(acquire("a", "first"), field, reason, path, spoil))
        .collect()
}

fn label(message: &mut v1::AcquireLeaseRequest, key: &str, value: &str) {
    message.labels.insert(key.into(), value.into());
}

fn transfers() -> Vec<Case> {
    type Spoil = fn(&mut v1::TransferLeaseRequest);
    const ID: &str = "TransferLeaseRequest.lease_id";
    const TOKEN: &str = "TransferLeaseRequest.token";
    const HOLDER: &str = "TransferLeaseRequest.to_holder";
    const ACTOR: &str = "TransferLeaseRequest.to_actor";
    const TTL: &str = "TransferLeaseRequest.ttl_ms";
    let transfer = v1::TransferLeaseRequest {
        lease_id: id(),
        token: 7,
        to_holder: "heir".into(),
        ..Default::default()
    };
    let table: [(&str, Reason, &str, Spoil); 10] = [
        (ID, Malformed, "lease_id", |m| m.lease_id.clear()),
        (ID, Malformed, "lease_id", |m| m.lease_id = "g".repeat(32)),
        (TOKEN, Malformed, "token", |m| m.token = 0),
        (TOKEN, Malformed, "token", |m| m.token = 1 << 53),
        (HOLDER, Malformed, "to_holder", |m| m.to_holder.clear()),
        (HOLDER, TooLarge, "to_holder", |m| m.to_holder = "x".repeat(257)),
        (ACTOR, Malformed, "to_actor", |m| m.to_actor = "/a".into()),
        (ACTOR, TooLarge, "to_actor", |m| m.to_actor = ["a"; 33].join("/")),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(0)),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(86_400_001)),
    ];
    let mut all = super::shared_cases!(transfer.clone(), "TransferLeaseRequest");
    for (field, reason, path, spoil) in table {
        all.push(case(transfer.clone(), field, reason, path, spoil));
    }
    all
}

fn yields() -> Vec<Case> {
    const REASON: &str = "RequestLeaseYieldRequest.reason";
    const HOLDER: &str = "RequestLeaseYieldRequest.holder";
    const RESOURCE: &str = "RequestLeaseYieldRequest.resource";
    const WITHIN: &str = "AnswerLeaseYieldRequest.within_ms";
    const MESSAGE: &str = "AnswerLeaseYieldRequest.message";
    let ask = v1::RequestLeaseYieldRequest {
        resource: "a".into(),
        holder: "b".into(),
        ..Default::default()
    };
    let answer = v1::AnswerLeaseYieldRequest {
        lease_id: id(),
        token: 7,
        will_yield: true,
        ..Default::default()
    };
    vec![
        case(ask.clone(), RESOURCE, Malformed, "resource", |m| m.resource.clear()),
        case(ask.clone(), RESOURCE, TooLarge, "resource", |m| m.resource = "x".repeat(513)),
        case(ask.clone(), "RequestLeaseYieldRequest.token", Malformed, "token", |m| {
            m.token = 1 << 53;
        }),
        case(ask.clone(), HOLDER, Malformed, "holder", |m| m.holder.clear()),
        case(ask.clone(), HOLDER, TooLarge, "holder", |m| m.holder = "x".repeat(257)),
        case(ask.clone(), REASON, Malformed, "reason", |m| m.reason = "a\nb".into()),
        case(ask, REASON, TooLarge, "reason", |m| m.reason = "x".repeat(257)),
        case(answer.clone(), "AnswerLeaseYieldRequest.lease_id", Malformed, "lease_id", |m| {
            m.lease_id.push('0');
        }),
        case(answer.clone(), "AnswerLeaseYieldRequest.token", Malformed, "token", |m| m.token = 0),
        case(answer.clone(), WITHIN, Malformed, "within_ms", |m| m.within_ms = 86_400_001),
        case(answer.clone(), WITHIN, Malformed, "within_ms", |m| {
            (m.will_yield, m.within_ms) = (false, 1);
        }),
        case(answer.clone(), MESSAGE, Malformed, "message", |m| m.message = "\0".into()),
        case(answer, MESSAGE, TooLarge, "message", |m| m.message = "x".repeat(257)),
    ]
}

fn lists() -> Vec<Case> {
    const HOLDER: &str = "ListLeasesRequest.holder";
    const PREFIX: &str = "ListLeasesRequest.resource_prefix";
    const LABELS: &str = "ListLeasesRequest.labels";
    const SIZE: &str = "ListLeaseWaitersRequest.page_size";
    const PAGE: &str = "ListLeaseWaitersRequest.page_token";
    let list = v1::ListLeasesRequest::default();
    let waiters = v1::ListLeaseWaitersRequest::default();
    vec![
        case(list.clone(), HOLDER, Malformed, "holder", |m| m.holder = "\t".into()),
        case(list.clone(), HOLDER, TooLarge, "holder", |m| m.holder = "x".repeat(257)),
        case(list.clone(), PREFIX, Malformed, "resource_prefix", |m| {
            m.resource_prefix = "a/".into();
        }),
        case(list.clone(), PREFIX, TooLarge, "resource_prefix", |m| {
            m.resource_prefix = "x".repeat(513);
        }),
        case(list.clone(), LABELS, TooLarge, "labels", |m| {
            m.labels = (0..17).map(|i| (i.to_string(), String::new())).collect();
        }),
        case(list.clone(), "ListLeasesRequest.labels.key", Malformed, "labels[]", |m| {
            m.labels.insert(String::new(), "x".into());
        }),
        case(list, "ListLeasesRequest.labels.value", Malformed, "labels[k]", |m| {
            m.labels.insert("k".into(), "\n".into());
        }),
        case(waiters.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(0)),
        case(waiters.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(101)),
        case(waiters.clone(), PAGE, Malformed, "page_token", |m| m.page_token = "0f".into()),
        case(waiters, PAGE, Malformed, "page_token", |m| m.page_token = "f".repeat(16)),
    ]
}
