//! The whole menu of leases: each new field, good, at its bound, beyond it, and in combinations
//! that mean nothing.

use singletrack_core::{
    command::{AnswerLeaseYield, LeaseFilter, LeaseRef, RequestLeaseYield, TransferLease},
    types::{Holder, LeaseId, Mode, Permits, Reach, ResourceName, Target, Token, Ttl},
};

use super::*;

fn permits(resource: &str, permits: u32, limit: u32) -> v1::LeaseTarget {
    v1::LeaseTarget { mode: v1::LeaseMode::Permits.into(), permits, limit, ..target(resource) }
}

fn subtree(resource: &str) -> v1::LeaseTarget {
    v1::LeaseTarget { reach: v1::LeaseReach::Subtree.into(), ..target(resource) }
}

fn holder(name: &str) -> Holder {
    Holder::parse(name).unwrap()
}

fn resource(name: &str) -> ResourceName {
    ResourceName::parse(name).unwrap()
}

#[test]
fn targets_of_every_kind_are_read_in_their_order() {
    let mut message = acquire();
    let shared = v1::LeaseTarget { mode: v1::LeaseMode::Shared.into(), ..target("s") };
    let explicit = v1::LeaseTarget { reach: v1::LeaseReach::Exact.into(), ..target("e") };
    message.targets = vec![permits("p", 2, 5), subtree("t"), shared, explicit];
    let permits = Mode::Permits(Permits::parse(2, 5).unwrap());
    let expected = [
        ("p", permits, Reach::Exact),
        ("t", Mode::Exclusive, Reach::Subtree),
        ("s", Mode::Shared, Reach::Exact),
        ("e", Mode::Exclusive, Reach::Exact),
    ]
    .map(|(name, mode, reach)| Target { resource: resource(name), mode, reach });
    assert_eq!(acquired(&message).targets.as_slice(), expected);
}

#[test]
fn an_acquire_at_all_its_bounds_is_legal() {
    let mut message = acquire();
    // 128 names of 128 bytes: 16 KiB.
    message.targets = (0..128).map(|i| target(&format!("{i:0>128}"))).collect();
    message.targets[5] = permits(&format!("{:0>128}", 5), 1_000_000, 1_000_000);
    message.targets[6] = permits(&format!("{:0>128}", 6), 1, 1);
    message.actor = "a".repeat(256);
    // 16 labels, 2,048 bytes: a key of 64 characters, a value of 256.
    message.labels = (0..14).map(|i| (format!("{i:x}"), "x".repeat(99))).collect();
    message.labels.insert("ä".repeat(64), String::new());
    message.labels.insert("kk".into(), "ä".repeat(256));
    let bytes: usize = message.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    message.labels.insert("0".into(), "x".repeat(99 + 2_048 - bytes));
    message.max_hold_ms = Some(31_536_000_000);
    message.lock_delay_ms = 3_600_000;
    let asked = acquired(&message);
    let terms = asked.terms.unwrap();
    assert_eq!(asked.targets.as_slice().len(), 128);
    assert_eq!(terms.max_hold.unwrap().ms(), 31_536_000_000);
    assert_eq!(terms.lock_delay.unwrap().ms(), 3_600_000);
    message.max_hold_ms = Some(1_000);
    assert_eq!(acquired(&message).terms.unwrap().max_hold.unwrap().ms(), 1_000);
}

#[test]
fn nothing_of_the_terms_is_none() {
    let mut message = acquire();
    assert_eq!(acquired(&message).terms, None);
    message.lock_delay_ms = 1;
    let terms = acquired(&message).terms.unwrap();
    assert_eq!(terms.lock_delay.unwrap().ms(), 1);
    assert_eq!((&terms.actor, terms.max_hold), (&None, None));
    assert!(terms.labels.is_empty());
}

#[test]
fn each_illegal_field_of_the_menu_is_named() {
    type Spoil = fn(&mut v1::AcquireLeaseRequest);
    let cases: [(Spoil, &str, bool); 38] = [
        (|m| m.targets = (0..129).map(|i| target(&format!("{i}"))).collect(), "targets", true),
        (|m| m.targets = (0..33).map(|i| target(&format!("{i:0>512}"))).collect(), "targets", true),
        (|m| m.targets.push(target("a//b")), "targets[1].resource", false),
        (|m| m.targets.push(target("a/b")), "targets[1].resource", false),
        (|m| m.targets.push(permits("a/b", 1, 2)), "targets[1].resource", false),
        (|m| m.targets.push(subtree("a")), "targets[1].resource", false),
        (|m| m.targets.insert(0, subtree("a")), "targets[1].resource", false),
        (|m| m.targets.extend([target("b"), subtree("a/b")]), "targets[2].resource", false),
        (|m| m.targets[0] = permits("a", 0, 5), "targets[0].permits", false),
        (|m| m.targets[0] = permits("a", 6, 5), "targets[0].permits", false),
        (|m| m.targets[0] = permits("a", 1, 0), "targets[0].limit", false),
        (|m| m.targets[0] = permits("a", 1, 1_000_001), "targets[0].limit", false),
        (|m| m.targets[0] = permits("a", 0, 0), "targets[0].limit", false),
        (|m| m.targets[0].permits = 1, "targets[0].permits", false),
        (|m| m.targets[0].limit = 1, "targets[0].limit", false),
        (|m| (m.targets[0].mode, m.targets[0].permits) = (2, 1), "targets[0].permits", false),
        (|m| m.targets[0].mode = 4, "targets[0].mode", false),
        (|m| m.targets[0].mode = -1, "targets[0].mode", false),
        (|m| m.targets[0].reach = 3, "targets[0].reach", false),
        (|m| m.targets[0].reach = -1, "targets[0].reach", false),
        (
            |m| m.targets[0] = v1::LeaseTarget { reach: 2, ..permits("a", 1, 2) },
            "targets[0].reach",
            false,
        ),
        (|m| m.actor = "/a".into(), "actor", false),
        (|m| m.actor = "a//b".into(), "actor", false),
        (|m| m.actor = "..".into(), "actor", false),
        (|m| m.actor = "a".repeat(257), "actor", true),
        (|m| m.actor = ["a"; 33].join("/"), "actor", true),
        (|m| label(m, "", "x"), "labels[]", false),
        (|m| label(m, "a\nb", "x"), "labels[a\\nb]", false),
        (|m| label(m, "k", "\0"), "labels[k]", false),
        (|m| label(m, "k", &"x".repeat(257)), "labels[k]", true),
        (|m| (0..17).for_each(|i| label(m, &format!("{i}"), "")), "labels", true),
        (|m| (0..9).for_each(|i| label(m, &format!("{i}"), &"x".repeat(256))), "labels", true),
        (|m| m.max_hold_ms = Some(0), "max_hold_ms", false),
        (|m| m.max_hold_ms = Some(999), "max_hold_ms", false),
        (|m| m.max_hold_ms = Some(31_536_000_001), "max_hold_ms", false),
        (|m| m.max_hold_ms = Some(u64::MAX), "max_hold_ms", false),
        (|m| m.lock_delay_ms = 3_600_001, "lock_delay_ms", false),
        (|m| m.lock_delay_ms = u64::MAX, "lock_delay_ms", false),
    ];
    for (spoil, field, too_large) in cases {
        let mut message = acquire();
        spoil(&mut message);
        let result = acquire_lease(context(), &message, whole());
        assert_eq!(result.as_ref().unwrap_err().all_too_large(), too_large, "{field}: {result:?}");
        assert_flaws(result, &[field]);
    }
}

fn label(message: &mut v1::AcquireLeaseRequest, key: &str, value: &str) {
    message.labels.insert(key.into(), value.into());
}

#[test]
fn a_key_of_a_label_is_cut_in_the_path_of_its_flaw() {
    let mut message = acquire();
    label(&mut message, &"k".repeat(1 << 20), "x");
    let flaws = acquire_lease(context(), &message, whole()).unwrap_err();
    let field = &flaws.fields()[0].field;
    assert!(field.starts_with("labels[kkk") && field.len() < 120, "{field}");
}

#[test]
fn flaws_of_several_targets_and_labels_are_told_at_once() {
    let mut message = acquire();
    message.targets =
        vec![permits("a", 0, 5), target(""), v1::LeaseTarget { mode: 9, ..target("c") }];
    label(&mut message, "a", "\n");
    label(&mut message, "b", "\n");
    message.lock_delay_ms = u64::MAX;
    let expected = [
        "targets[0].permits",
        "targets[1].resource",
        "targets[2].mode",
        "labels[a]",
        "labels[b]",
        "lock_delay_ms",
    ];
    assert_flaws(acquire_lease(context(), &message, whole()), &expected);
}

fn transfer() -> v1::TransferLeaseRequest {
    v1::TransferLeaseRequest {
        request_id: "one".into(),
        lease_id: id(),
        token: 7,
        to_holder: "heir".into(),
        to_actor: "heir/1".into(),
        ttl_ms: Some(5_000),
        fences: vec![fence("c", 7)],
        age_ms: 3,
    }
}

#[test]
fn a_transfer_is_read_and_its_illegal_fields_are_named() {
    let question = transfer_lease(context(), &transfer(), whole()).unwrap();
    assert_eq!((question.age_ms, question.fences.len()), (3, 1));
    let Command::TransferLease(asked) = question.command else { panic!("a transfer") };
    let TransferLease { lease, to, to_actor, ttl, new_id } = *asked;
    assert_eq!(lease, LeaseRef { lease_id: LeaseId([0x0f; 16]), token: Token(7) });
    assert_eq!((to, ttl), (holder("heir"), Some(Ttl::parse(5_000).unwrap())));
    assert_eq!(to_actor.unwrap().as_str(), "heir/1");
    assert_ne!(new_id, lease.lease_id);
    let plain = v1::TransferLeaseRequest { to_actor: String::new(), ttl_ms: None, ..transfer() };
    let question = transfer_lease(context(), &plain, whole()).unwrap();
    let Command::TransferLease(asked) = question.command else { panic!("a transfer") };
    assert_eq!((asked.to_actor, asked.ttl), (None, None));

    type Spoil = fn(&mut v1::TransferLeaseRequest);
    let cases: [(Spoil, &str, bool); 11] = [
        (|m| m.request_id = "x".repeat(129), "request_id", true),
        (|m| m.lease_id = "0f".into(), "lease_id", false),
        (|m| m.token = 0, "token", false),
        (|m| m.token = 1 << 53, "token", false),
        (|m| m.to_holder.clear(), "to_holder", false),
        (|m| m.to_holder = "ä".repeat(257), "to_holder", true),
        (|m| m.to_actor = "a/".into(), "to_actor", false),
        (|m| m.ttl_ms = Some(999), "ttl_ms", false),
        (|m| m.ttl_ms = Some(86_400_001), "ttl_ms", false),
        (|m| m.fences = vec![fence("c", 7); 17], "fences", true),
        (|m| m.fences[0].token = 0, "fences[0].token", false),
    ];
    for (spoil, field, too_large) in cases {
        let mut message = transfer();
        spoil(&mut message);
        let result = transfer_lease(context(), &message, whole());
        assert_eq!(result.as_ref().unwrap_err().all_too_large(), too_large, "{field}: {result:?}");
        assert_flaws(result, &[field]);
    }
}

#[test]
fn a_request_to_yield_is_read_and_its_illegal_fields_are_named() {
    let plain = v1::RequestLeaseYieldRequest {
        resource: "a".into(),
        token: 0,
        holder: "b".into(),
        reason: "x".repeat(256),
    };
    let read =
        |message: &v1::RequestLeaseYieldRequest| request_lease_yield(context(), message, whole());
    let question = read(&plain).unwrap();
    assert_eq!(question.mark, None);
    let Command::RequestLeaseYield(asked) = question.command else { panic!("a request") };
    let RequestLeaseYield { resource: wanted, token, from, reason } = *asked;
    assert_eq!((wanted, token, from), (resource("a"), None, holder("b")));
    assert_eq!(reason.as_str(), plain.reason);
    let one = v1::RequestLeaseYieldRequest { token: 9, reason: String::new(), ..plain.clone() };
    let Command::RequestLeaseYield(asked) = read(&one).unwrap().command else { panic!() };
    assert_eq!((asked.token, asked.reason.as_str()), (Some(Token(9)), ""));

    type Spoil = fn(&mut v1::RequestLeaseYieldRequest);
    let cases: [(Spoil, &str); 6] = [
        (|m| m.resource.clear(), "resource"),
        (|m| m.token = 1 << 53, "token"),
        (|m| m.holder.clear(), "holder"),
        (|m| m.holder = "a\n".into(), "holder"),
        (|m| m.reason = "ä".repeat(257), "reason"),
        (|m| m.reason = "a\tb".into(), "reason"),
    ];
    for (spoil, field) in cases {
        let mut message = plain.clone();
        spoil(&mut message);
        assert_flaws(read(&message), &[field]);
    }
}

#[test]
fn an_answer_to_yield_is_read_and_its_illegal_fields_are_named() {
    let plain = v1::AnswerLeaseYieldRequest {
        lease_id: id(),
        token: 7,
        number: 0,
        will_yield: true,
        within_ms: 86_400_000,
        message: "ä".repeat(256),
    };
    let read = |message: &v1::AnswerLeaseYieldRequest| {
        let question = answer_lease_yield(context(), message, whole())?;
        let Command::AnswerLeaseYield(asked) = question.command else { panic!("an answer") };
        Ok::<_, Flaws>(*asked)
    };
    let AnswerLeaseYield { lease, number, answer } = read(&plain).unwrap();
    assert_eq!((lease.token, number, answer.within_ms), (Token(7), None, Some(86_400_000)));
    let at_once = v1::AnswerLeaseYieldRequest { within_ms: 0, number: 3, ..plain.clone() };
    let read_at_once = read(&at_once).unwrap();
    assert_eq!((read_at_once.number, read_at_once.answer.within_ms), (Some(3), Some(0)));
    let declines = v1::AnswerLeaseYieldRequest { will_yield: false, ..at_once };
    assert_eq!(read(&declines).unwrap().answer.within_ms, None);

    type Spoil = fn(&mut v1::AnswerLeaseYieldRequest);
    let cases: [(Spoil, &str); 6] = [
        (|m| m.lease_id = "xyz".into(), "lease_id"),
        (|m| m.token = 0, "token"),
        (|m| m.within_ms = 86_400_001, "within_ms"),
        (|m| m.will_yield = false, "within_ms"),
        (|m| m.message.push('x'), "message"),
        (|m| m.message = "\n".into(), "message"),
    ];
    for (spoil, field) in cases {
        let mut message = plain.clone();
        spoil(&mut message);
        let result = answer_lease_yield(context(), &message, whole());
        assert_flaws(result, &[field]);
    }
}

#[test]
fn filters_of_a_list_are_read_and_its_illegal_fields_are_named() {
    let plain = v1::ListLeasesRequest {
        holder: "agent".into(),
        resource_prefix: "a/b".into(),
        labels: [("team".into(), "x".into())].into(),
        ..Default::default()
    };
    let question = list_leases(context(), &plain, whole()).unwrap();
    let Command::ListLeases { filter, .. } = question.command else { panic!("a list") };
    let LeaseFilter { holder: of, within, labels } = *filter;
    assert_eq!((of, within), (Some(holder("agent")), Some(resource("a/b"))));
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("team", "x")]);

    type Spoil = fn(&mut v1::ListLeasesRequest);
    let cases: [(Spoil, &str); 5] = [
        (|m| m.holder = "x".repeat(257), "holder"),
        (|m| m.resource_prefix = "a/".into(), "resource_prefix"),
        (|m| m.resource_prefix = "x".repeat(513), "resource_prefix"),
        (|m| drop(m.labels.insert(String::new(), "x".into())), "labels[]"),
        (|m| m.labels = (0..17).map(|i| (i.to_string(), String::new())).collect(), "labels"),
    ];
    for (spoil, field) in cases {
        let mut message = plain.clone();
        spoil(&mut message);
        assert_flaws(list_leases(context(), &message, whole()), &[field]);
    }
}

#[test]
fn pages_of_waiters_have_bounds_and_tokens_of_their_own() {
    let read = |page_size, page_token: String| {
        let message = v1::ListLeaseWaitersRequest { page_size, page_token };
        list_lease_waiters(context(), &message, whole())
    };
    let question = read(None, String::new()).unwrap();
    assert_eq!(question.command, Command::ListLeaseWaiters { after: 0, count: 50 });
    let question = read(Some(100), page_token_after(77)).unwrap();
    assert_eq!(question.command, Command::ListLeaseWaiters { after: 77, count: 100 });
    assert_flaws(read(Some(0), String::new()), &["page_size"]);
    assert_flaws(read(Some(101), "next".into()), &["page_size", "page_token"]);
    let question = get_lease_stats(context(), &v1::GetLeaseStatsRequest {}, whole()).unwrap();
    assert_eq!(question.command, Command::GetLeaseStats);
}

#[test]
fn an_acquire_is_another_as_soon_as_it_asks_for_something_else_of_the_menu() {
    let wide = |m: &mut v1::AcquireLeaseRequest| {
        m.targets = vec![permits("p", 1, 2), subtree("t")];
        m.actor = "a".into();
        m.labels = [("k".into(), "v".into()), ("l".into(), "w".into())].into();
        m.max_hold_ms = Some(5_000);
        m.lock_delay_ms = 5;
    };
    let same = mark(wide);
    assert_eq!(mark(wide), same);
    assert_eq!(mark(|m| m.targets[0].reach = 1), mark(|_| {}), "a default written out");
    let changes: [fn(&mut v1::AcquireLeaseRequest); 16] = [
        |m| m.targets[0].permits = 2,
        |m| m.targets[0].limit = 3,
        |m| m.targets[1].reach = 1,
        |m| m.targets[1].mode = 2,
        |m| m.targets.reverse(),
        |m| drop(m.targets.pop()),
        |m| m.targets.push(target("x")),
        |m| m.actor = "b".into(),
        |m| m.actor.clear(),
        |m| label(m, "k", "w"),
        |m| label(m, "m", ""),
        |m| drop(m.labels.remove("k")),
        |m| m.max_hold_ms = Some(5_001),
        |m| m.max_hold_ms = None,
        |m| m.lock_delay_ms = 6,
        |m| m.lock_delay_ms = 0,
    ];
    let mut marks =
        vec![mark(|_| {}).command, mark(|m| m.actor = "a".into()).command, same.command];
    for change in changes {
        let changed = mark(|m| {
            wide(m);
            change(m);
        });
        assert_eq!(changed.id, same.id);
        marks.push(changed.command);
    }
    let count = marks.len();
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), count, "no two are the same");
}

#[test]
fn a_transfer_is_the_same_whatever_its_new_id_and_another_as_soon_as_it_asks_for_something_else() {
    let mark = |change: fn(&mut v1::TransferLeaseRequest)| {
        let mut message = transfer();
        change(&mut message);
        transfer_lease(context(), &message, whole()).unwrap().mark.unwrap()
    };
    let plain = mark(|_| {});
    assert_eq!(mark(|m| m.age_ms = 9), plain);
    let changes: [fn(&mut v1::TransferLeaseRequest); 7] = [
        |m| m.lease_id = "00".repeat(16),
        |m| m.token = 8,
        |m| m.to_holder = "other".into(),
        |m| m.to_actor.clear(),
        |m| m.ttl_ms = None,
        |m| m.ttl_ms = Some(5_001),
        |m| m.fences.clear(),
    ];
    for change in changes {
        let changed = mark(change);
        assert_eq!(changed.id, plain.id);
        assert_ne!(changed.command, plain.command);
    }
    assert_ne!(super::mark(|_| {}).command, plain.command);
}

#[test]
fn the_identity_of_a_request_of_the_menu_is_the_same_in_every_version() {
    // Replay memory outlives an upgrade: these never change.
    let wide = mark(|m| {
        m.targets = vec![permits("p", 1, 2), subtree("t")];
        m.actor = "a".into();
        label(m, "k", "v");
        (m.max_hold_ms, m.lock_delay_ms) = (Some(5_000), 5);
    });
    assert_eq!(hex::encode(wide.command.0), "538a6f328828e6a516606c93c45013b5");
    let given = transfer_lease(context(), &transfer(), whole()).unwrap().mark.unwrap();
    assert_eq!(hex::encode(given.command.0), "d4bc19d4b5d2b86135476ea9179c9843");
}

#[test]
fn an_operation_of_the_menu_has_its_name_before_its_paths() {
    use v1::operation::Operation as Op;
    let decode = |op| operation(context(), v1::Operation { seq: 0, operation: Some(op) });
    let cases = [
        (Op::TransferLease(v1::TransferLeaseRequest::default()), "transfer_lease.lease_id"),
        (
            Op::RequestLeaseYield(v1::RequestLeaseYieldRequest::default()),
            "request_lease_yield.resource",
        ),
        (
            Op::AnswerLeaseYield(v1::AnswerLeaseYieldRequest::default()),
            "answer_lease_yield.lease_id",
        ),
        (
            Op::ListLeaseWaiters(v1::ListLeaseWaitersRequest {
                page_size: Some(0),
                page_token: String::new(),
            }),
            "list_lease_waiters.page_size",
        ),
    ];
    for (op, field) in cases {
        assert_eq!(decode(op).unwrap_err().fields()[0].field, field);
    }
    let stats = decode(Op::GetLeaseStats(v1::GetLeaseStatsRequest {}));
    assert!(matches!(stats, Ok(Asked::Track(it)) if it.command == Command::GetLeaseStats));
}
