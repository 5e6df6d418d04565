//! What statuses become. Builds them as a server, a newer server and a proxy would.

use std::{collections::HashMap, time::Duration};

use prost::{Message, Name};
use prost_types::Any;
use singletrack_proto::{Reason, Retry, v1};
use tonic::{Code, Status};
use tonic_types::pb;

use super::Error;
use crate::{Facts, LeaseEnd};

fn any(message: &impl Message, type_name: &str) -> Any {
    Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() }
}

fn info(reason: &str, domain: &str, metadata: &[(&str, &str)]) -> Any {
    let metadata: HashMap<_, _> =
        metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let info = pb::ErrorInfo { reason: reason.into(), domain: domain.into(), metadata };
    any(&info, "google.rpc.ErrorInfo")
}

fn refusal(reason: Reason, detail: Option<v1::refusal::Detail>) -> v1::Refusal {
    v1::Refusal {
        reason: reason.to_wire().into(),
        message: "words".into(),
        next_step: "do this".into(),
        detail,
        ..Default::default()
    }
}

fn status(code: Code, details: Vec<Any>) -> Status {
    let packed = pb::Status { code: code as i32, message: String::new(), details };
    Status::with_details(code, "outer words", packed.encode_to_vec().into())
}

fn served(reason: Reason, detail: Option<v1::refusal::Detail>) -> Error {
    let refusal = any(&refusal(reason, detail), &v1::Refusal::full_name());
    Error::from_status(status(
        reason.code(),
        vec![info(reason.name(), "singletrack", &[]), refusal],
    ))
}

#[test]
fn every_known_reason_means_what_the_table_says() {
    for reason in Reason::ALL {
        let error = served(reason, None);
        assert_eq!(error.reason(), Some(reason));
        assert_eq!(error.reason_name(), reason.name());
        assert_eq!(error.code(), reason.code());
        assert_eq!(error.retry(), reason.retry());
        assert_eq!(error.may_have_happened(), reason.may_have_happened());
        assert!(error.is_from_server());
        assert_eq!((error.message(), error.next_step()), ("words", "do this"));
    }
}

#[test]
fn a_held_refusal_says_who_is_in_the_way_since_when_and_for_how_long() {
    let held = v1::HeldDetail {
        resource: "r".into(),
        holders: vec![v1::HeldBy {
            holder: "ada".into(),
            token: 7,
            remaining_ms: 1_500,
            resource: "r/below".into(),
            subtree: true,
            held_ms: 60_000,
            hold_remaining_ms: Some(0),
            actor: "ada/1".into(),
            yield_answer: "in 5s".into(),
            ..Default::default()
        }],
        holder_count: 9,
        queue_position: 2,
        waited_ms: 30,
        waiters: vec![v1::HeldWaiter {
            holder: "bob".into(),
            priority: -3,
            waited_ms: 40,
            ..Default::default()
        }],
        closed_ms: 50,
        permits_used: 3,
        permits_wanted: 4,
        blocked_targets: 1,
    };
    let error = served(Reason::Held, Some(v1::refusal::Detail::Held(held)));
    let held = error.held().unwrap();
    assert_eq!((held.holder_count, held.queue_position, held.blocked_targets), (9, 2, 1));
    assert_eq!((held.waited, held.closed), (Duration::from_millis(30), Duration::from_millis(50)));
    assert_eq!((held.permits_used, held.permits_wanted), (3, 4));
    let by = &held.holders[0];
    assert_eq!((by.holder.as_str(), by.token, by.subtree), ("ada", 7, true));
    assert_eq!(by.remaining, Duration::from_millis(1_500));
    assert_eq!((by.held, by.hold_remaining), (Duration::from_secs(60), Some(Duration::ZERO)));
    let texts = [&by.resource, &by.actor, &by.yield_answer].map(Option::as_deref);
    assert_eq!(texts, [Some("r/below"), Some("ada/1"), Some("in 5s")]);
    let waiter = &held.waiters[0];
    assert_eq!((waiter.holder.as_str(), waiter.priority), ("bob", -3));
    assert_eq!((&waiter.actor, &waiter.resource), (&None, &None));
    assert!(!error.is_retryable() && !error.may_have_happened());
    assert!(error.deadlock().is_none() && error.limit_mismatch().is_none());
}

#[test]
fn a_deadlock_names_its_cycle_and_a_limit_both_numbers() {
    use crate::{DeadlockRelation, LimitMismatch};
    let step = |actor: &str, resource: &str, relation: v1::DeadlockRelation| v1::DeadlockStep {
        actor: actor.into(),
        holder: "h".into(),
        resource: resource.into(),
        relation: relation.into(),
    };
    let detail = v1::DeadlockDetail {
        cycle: vec![
            step("a", "x", v1::DeadlockRelation::Holds),
            step("b", "y", v1::DeadlockRelation::WaitsBefore),
            step("c", "", v1::DeadlockRelation::Child),
        ],
        step_count: 12,
    };
    let error = served(Reason::Deadlock, Some(v1::refusal::Detail::Deadlock(detail)));
    let deadlock = error.deadlock().unwrap();
    assert_eq!(deadlock.step_count, 12);
    let relations: Vec<_> = deadlock.cycle.iter().map(|step| step.relation).collect();
    let expected =
        [DeadlockRelation::Holds, DeadlockRelation::WaitsBefore, DeadlockRelation::Child];
    assert_eq!(relations, expected);
    assert_eq!(deadlock.cycle[0].resource.as_deref(), Some("x"));
    assert_eq!(deadlock.cycle[2].resource, None);

    let detail = v1::LimitMismatchDetail { resource: "r".into(), limit: 5, asked: 6 };
    let error = served(Reason::LimitMismatch, Some(v1::refusal::Detail::LimitMismatch(detail)));
    let expected = LimitMismatch { resource: "r".into(), limit: 5, asked: 6 };
    assert_eq!(error.limit_mismatch(), Some(&expected));
    assert!(!error.is_retryable());
}

#[test]
fn what_a_write_met_is_told_in_plain_values() {
    use v1::refusal::Detail;

    use crate::{FenceRequired, OutOfBounds, Value, VersionMismatch};
    let detail = v1::VersionMismatchDetail {
        key: "k".into(),
        current_version: 9,
        value: Some(v1::RecordValue { kind: Some(v1::record_value::Kind::Text("x".into())) }),
        value_omitted: false,
        written_by: String::new(),
        content_type: Some("a/b".into()),
    };
    let error = served(Reason::VersionMismatch, Some(Detail::VersionMismatch(detail)));
    let expected = VersionMismatch {
        key: "k".into(),
        current_version: Some(9),
        value: Some(Value::from("x")),
        value_omitted: false,
        written_by: None,
        content_type: Some("a/b".into()),
    };
    assert_eq!(error.version_mismatch(), Some(&expected));
    assert!(!error.is_retryable() && !error.may_have_happened());

    let detail = v1::FenceRequiredDetail {
        prefix: "p".into(),
        resource: "r".into(),
        current_token: 0,
        holder: String::new(),
    };
    let error = served(Reason::FenceRequired, Some(Detail::FenceRequired(detail)));
    let (prefix, resource) = ("p".into(), "r".into());
    let expected = FenceRequired { prefix, resource, current_token: None, holder: None };
    assert_eq!(error.fence_required(), Some(&expected));

    let detail = v1::OutOfBoundsDetail { key: "n".into(), value: -3, min: Some(-4), max: None };
    let error = served(Reason::OutOfBounds, Some(Detail::OutOfBounds(detail)));
    let expected = OutOfBounds { key: "n".into(), value: -3, min: Some(-4), max: None };
    assert_eq!(error.out_of_bounds(), Some(&expected));
    assert!(error.version_mismatch().is_none() && error.fence_required().is_none());
}

#[test]
fn a_refusal_of_a_transaction_names_its_part() {
    let refusal = |condition_index, operation_index| v1::Refusal {
        reason: Reason::NotFound.to_wire().into(),
        condition_index,
        operation_index,
        ..Default::default()
    };
    for (condition, operation) in [(Some(0), None), (None, Some(3)), (None, None)] {
        let error = Error::from_refusal(refusal(condition, operation));
        assert_eq!((error.condition_index(), error.operation_index()), (condition, operation));
    }
}

#[test]
fn nobody_and_no_token_are_none() {
    let stale = v1::StaleFenceDetail {
        index: 1,
        resource: "r".into(),
        presented_token: 3,
        current_token: 0,
        holder: String::new(),
    };
    let error = served(Reason::StaleFence, Some(v1::refusal::Detail::StaleFence(stale)));
    assert_eq!(
        error.refusal(),
        Some(&Facts::StaleFence {
            index: 1,
            resource: "r".into(),
            presented_token: 3,
            current_token: None,
            holder: None
        })
    );
}

#[test]
fn a_reason_of_a_newer_server_is_read_by_its_two_keys() {
    let keys = [("retry", "same-request-id"), ("may_have_happened", "true")];
    let error =
        Error::from_status(status(Code::Aborted, vec![info("SOLAR_FLARE", "singletrack", &keys)]));
    assert_eq!((error.reason(), error.reason_name()), (None, "SOLAR_FLARE"));
    assert_eq!(error.retry(), Retry::SameRequestId);
    assert!(error.may_have_happened() && error.is_from_server() && error.is_retryable());
    assert!(!error.next_step().is_empty());
}

#[test]
fn a_reason_of_a_newer_server_without_readable_keys_is_read_by_its_code() {
    let keys = [("retry", "perhaps"), ("may_have_happened", "who knows")];
    let error =
        Error::from_status(status(Code::NotFound, vec![info("NO_MOON", "singletrack", &keys)]));
    assert_eq!((error.retry(), error.may_have_happened()), (Retry::SameRequestId, true));
}

#[test]
fn details_of_another_domain_are_not_the_servers_word() {
    let error =
        Error::from_status(status(Code::Unavailable, vec![info("HELD", "proxy.example", &[])]));
    assert!(!error.is_from_server() && error.reason().is_none());
    assert_eq!((error.retry(), error.may_have_happened()), (Retry::SameRequestId, true));
}

#[test]
fn unavailable_without_details_may_have_happened() {
    let error = Error::from_status(Status::unavailable("connection reset"));
    assert!(error.may_have_happened() && error.is_retryable() && !error.is_from_server());
    assert!(!error.was_never_sent());
}

#[test]
fn a_code_without_details_may_have_happened_unless_nobody_took_the_call() {
    let none = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];
    for code in (1..=16).map(Code::from_i32) {
        let error = Error::from_status(Status::new(code, "words of a proxy"));
        let happened = !none.contains(&code);
        let retry = if happened { Retry::SameRequestId } else { Retry::No };
        assert_eq!((error.retry(), error.may_have_happened()), (retry, happened), "{code:?}");
        assert!(!error.is_from_server() && !error.was_never_sent(), "{code:?}");
    }
}

#[test]
fn damaged_details_are_passed_over() {
    let error = Error::from_status(Status::with_details(Code::Aborted, "x", vec![0xff; 40].into()));
    assert!(!error.is_from_server());
    let torn =
        Any { type_url: "type.googleapis.com/singletrack.v1.Refusal".into(), value: vec![0xff] };
    let error =
        Error::from_status(status(Code::Aborted, vec![info("HELD", "singletrack", &[]), torn]));
    assert_eq!(error.reason(), Some(Reason::Held));
    assert_eq!(error.message(), "outer words");
}

#[test]
fn retry_info_and_field_violations_are_read_from_the_standard_details() {
    let delay = pb::RetryInfo {
        retry_delay: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
    };
    let bad = pb::BadRequest {
        field_violations: vec![pb::bad_request::FieldViolation {
            field: "targets[0].resource".into(),
            description: "expected a name".into(),
            ..Default::default()
        }],
    };
    let error = Error::from_status(status(
        Code::InvalidArgument,
        vec![
            info("MALFORMED", "singletrack", &[]),
            any(&delay, "google.rpc.RetryInfo"),
            any(&bad, "google.rpc.BadRequest"),
        ],
    ));
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1_500)));
    let Some(Facts::Malformed { violations }) = error.refusal() else {
        panic!("expected violations, found {error:?}");
    };
    assert_eq!(violations[0].field, "targets[0].resource");
}

#[test]
fn one_items_refusal_is_an_error_too() {
    let lost = v1::LeaseLostDetail { end: v1::LeaseEnd::Expired.into(), token: 5 };
    let error =
        Error::from_refusal(refusal(Reason::LeaseLost, Some(v1::refusal::Detail::LeaseLost(lost))));
    assert_eq!(error.reason(), Some(Reason::LeaseLost));
    assert_eq!(error.refusal(), Some(&Facts::LeaseLost { end: LeaseEnd::Expired, token: 5 }));
    for (end, expected) in [
        (v1::LeaseEnd::MaxHold, LeaseEnd::MaxHold),
        (v1::LeaseEnd::Transferred, LeaseEnd::Transferred),
    ] {
        let lost = v1::LeaseLostDetail { end: end.into(), token: 5 };
        let detail = Some(v1::refusal::Detail::LeaseLost(lost));
        let error = Error::from_refusal(refusal(Reason::LeaseLost, detail));
        assert_eq!(error.lease_end(), Some(expected));
    }
    let unknown = v1::Refusal { reason: 9_999, ..Default::default() };
    let error = Error::from_refusal(unknown);
    assert_eq!(error.reason(), None);
    assert!(error.may_have_happened(), "of a newer server nothing is certain");
}
