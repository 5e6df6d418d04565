//! Every refusal says what happened, what to do next, and whether it may have happened.

use prost::Message as _;
use singletrack_core::{
    body::{Body, Digest},
    change::RecordWritten,
    command::YieldAnswer,
    refusal::{
        Cap, Deadlock, DeadlockRelation, DeadlockStep, FenceRequired, Held, HeldWaiter, LeaseEnd,
        OutOfBounds, Refusal, StaleFence, VersionMismatch,
    },
    reply::HolderInfo,
    types::{
        Actor, ContentType, Holder, Mode, Namespace, Permits, Reach, RecordKey, ResourceName,
        Revision, Token, Value, Words,
    },
};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};
use singletrack_server::track::CallError;
use tonic::Request;

use crate::harness::{Rig, Told, Turn, acquire};

fn held_by(name: &str, token: u64) -> HolderInfo {
    HolderInfo {
        holder: Holder::parse(name).unwrap(),
        token: Token(token),
        remaining_ms: 600 + token,
        mode: Mode::Shared,
        reach: Reach::Exact,
        resource: None,
        held_ms: 5_000,
        hold_remaining_ms: None,
        actor: None,
        yield_answer: None,
    }
}

fn held(holders: u64) -> Box<Held> {
    Box::new(Held {
        resource: ResourceName::parse("a/b").unwrap(),
        holders: (0..holders.min(8)).map(|i| held_by(&format!("agent-{i}"), 100 + i)).collect(),
        holder_count: u32::try_from(holders).unwrap(),
        queue_position: 3,
        waited_ms: 40,
        waiters: Vec::new(),
        closed_ms: 0,
        permits_used: 0,
        permits_wanted: 0,
        blocked_targets: 1,
    })
}

fn answer(within_ms: Option<u64>, message: &str) -> Option<YieldAnswer> {
    Some(YieldAnswer { within_ms, message: Words::parse(message).unwrap() })
}

/// With as much in it as there can be.
pub(crate) fn largest_held() -> Box<Held> {
    // Characters of four bytes, and of three percent-encoded ones each on the way.
    let holder = Holder::parse(&"\u{1F512}".repeat(256)).unwrap();
    let resource = ResourceName::parse(&"\u{1F512}".repeat(128)).unwrap();
    let actor = Some(Actor::parse(&"\u{1F512}".repeat(64)).unwrap());
    let by = HolderInfo {
        holder: holder.clone(),
        token: Token((1 << 53) - 1),
        remaining_ms: u64::from(u32::MAX),
        mode: Mode::Permits(Permits::parse(1_000_000, 1_000_000).unwrap()),
        reach: Reach::Subtree,
        resource: Some(resource.clone()),
        held_ms: u64::MAX,
        hold_remaining_ms: Some(31_536_000_000),
        actor: actor.clone(),
        yield_answer: answer(Some(86_400_000), &"\u{1F512}".repeat(256)),
    };
    let waiter = HeldWaiter {
        holder,
        actor,
        priority: -100,
        waited_ms: u64::MAX,
        resource: Some(resource.clone()),
    };
    Box::new(Held {
        resource,
        holders: vec![by; 8],
        holder_count: u32::MAX,
        queue_position: 1_000,
        waited_ms: 50_000,
        waiters: vec![waiter; 4],
        closed_ms: 3_600_000,
        permits_used: 1_000_000,
        permits_wanted: u32::MAX,
        blocked_targets: 128,
    })
}

fn step(actor: &str, holder: &str, relation: DeadlockRelation) -> DeadlockStep {
    let holder = Some(Holder::parse(holder).unwrap());
    DeadlockStep { actor: Actor::parse(actor).unwrap(), holder, relation }
}

fn deadlock() -> Box<Deadlock> {
    let resource = |name| ResourceName::parse(name).unwrap();
    let cycle = vec![
        step("ada", "Ada", DeadlockRelation::Holds(resource("left"))),
        step("bob", "Bob", DeadlockRelation::WaitsBefore(resource("right"))),
        step("cy", "Cy", DeadlockRelation::Child),
    ];
    Box::new(Deadlock { cycle, step_count: 3 })
}

fn mismatch() -> Refusal {
    Refusal::LimitMismatch { resource: ResourceName::parse("pool").unwrap(), limit: 5, asked: 3 }
}

fn stale() -> Box<StaleFence> {
    Box::new(StaleFence {
        index: 1,
        resource: ResourceName::parse("a/b").unwrap(),
        presented: Token(5),
        current: Some((Token(9), Holder::parse("other").unwrap())),
    })
}

async fn told(error: CallError) -> Told {
    let rig = Rig::start(move |_| Turn::Say(Err(error.clone()))).await;
    let status = rig.leases().await.acquire_lease(acquire()).await.unwrap_err();
    let told = Told::by(&status);
    let line = format!("singletrack_refusals_total{{reason=\"{}\"}} 1", told.reason.name());
    assert!(rig.metrics.render().contains(&line), "{line} is missing");
    told
}

fn key(text: &str) -> RecordKey {
    RecordKey::parse(text).unwrap()
}

fn bounds(key: RecordKey) -> Box<OutOfBounds> {
    Box::new(OutOfBounds { key, value: i64::MIN, min: Some(i64::MIN), max: Some(i64::MAX) })
}

fn record(key: RecordKey, written_by: Option<Holder>, bytes: usize) -> RecordWritten {
    RecordWritten {
        namespace: Namespace::default(),
        key,
        value: Value::Data(Body::new(&vec![7; bytes], |_| Digest([0; 16]))),
        content_type: ContentType::parse(&"x".repeat(128)).unwrap(),
        version: Revision((1 << 53) - 1),
        created_at: Revision(1),
        written_by,
        life: None,
        replaced: None,
    }
}

fn unexpected(current: RecordWritten) -> Box<VersionMismatch> {
    Box::new(VersionMismatch { key: current.key.clone(), current: Some(current.into()) })
}

fn required(prefix: RecordKey, current: Option<(Token, Holder)>) -> Box<FenceRequired> {
    let resource = ResourceName::parse(prefix.as_str()).unwrap();
    Box::new(FenceRequired { prefix, resource, current })
}

#[tokio::test]
async fn a_mismatch_tells_what_is_there_while_it_has_room() {
    let small = record(key("a"), Some(Holder::parse("writer").unwrap()), 1_024);
    let told = told(CallError::Refused(Refusal::VersionMismatch(unexpected(small)))).await;
    let Some(Detail::VersionMismatch(is)) = &told.refusal.detail else { panic!("{told:?}") };
    assert!(is.value.is_some() && !is.value_omitted);
    assert_eq!(is.content_type.as_ref().map(String::len), Some(128));
    let none = VersionMismatch { key: key("a"), current: None };
    let told = self::told(CallError::Refused(Refusal::VersionMismatch(Box::new(none)))).await;
    let Some(Detail::VersionMismatch(is)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((is.current_version, &is.value, is.value_omitted), (0, &None, false));
}

#[tokio::test]
async fn every_refusal_of_the_machine_arrives_with_its_reason() {
    let refused = CallError::Refused;
    for (error, reason) in [
        (refused(Refusal::RequestIdReused), Reason::RequestIdReused),
        (refused(Refusal::RequestIdForgotten), Reason::RequestIdForgotten),
        (refused(Refusal::CancelledWait), Reason::CancelledWait),
        (refused(Refusal::StaleFence(stale())), Reason::StaleFence),
        (refused(Refusal::NotFound), Reason::NotFound),
        (refused(Refusal::LeaseLost { end: LeaseEnd::Forced, token: Token(5) }), Reason::LeaseLost),
        (refused(Refusal::NotHolder), Reason::NotHolder),
        (refused(Refusal::Held(held(2))), Reason::Held),
        (refused(Refusal::StillWaiting(held(2))), Reason::StillWaiting),
        (refused(Refusal::Deadlock(deadlock())), Reason::Deadlock),
        (refused(mismatch()), Reason::LimitMismatch),
        (refused(Refusal::Quota { cap: Cap::Leases, maximum: 9 }), Reason::Quota),
        (refused(Refusal::Quota { cap: Cap::Yields, maximum: 8 }), Reason::Quota),
        (refused(Refusal::Quota { cap: Cap::DeadlockSearch, maximum: 9 }), Reason::Quota),
        (
            refused(Refusal::Operation { index: 2, refusal: Box::new(Refusal::NotHolder) }),
            Reason::NotHolder,
        ),
        (
            refused(Refusal::Condition {
                index: 2,
                refusal: Box::new(Refusal::StaleFence(stale())),
            }),
            Reason::StaleFence,
        ),
        (refused(Refusal::AlreadyDone), Reason::AlreadyDone),
        (refused(Refusal::NotACounter { key: key("a") }), Reason::NotACounter),
        (refused(Refusal::TooLarge { bytes: 2, maximum: 1 }), Reason::TooLarge),
        (refused(Refusal::OutOfBounds(bounds(key("a")))), Reason::OutOfBounds),
        (
            refused(Refusal::VersionMismatch(unexpected(record(key("a"), None, 3)))),
            Reason::VersionMismatch,
        ),
        (refused(Refusal::FenceRequired(required(key("a"), None))), Reason::FenceRequired),
        (CallError::ShuttingDown, Reason::ShuttingDown),
        (CallError::OutcomeUnknown, Reason::OutcomeUnknown),
        (CallError::Internal, Reason::Internal),
        (
            CallError::Overloaded { limit: "queued calls", maximum: 7, retry_after_ms: 30 },
            Reason::Overloaded,
        ),
    ] {
        assert_eq!(told(error).await.reason, reason);
    }
}

#[tokio::test]
async fn held_says_who_holds_it_and_when_to_ask_again() {
    let told = told(CallError::Refused(Refusal::Held(held(12)))).await;
    let Some(Detail::Held(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.holders.len(), detail.holder_count, detail.queue_position), (8, 12, 3));
    assert!(told.refusal.message.contains("agent-0"), "{}", told.refusal.message);
    assert_eq!(
        (told.info.metadata["holder"].as_str(), told.refusal.retry_after_ms),
        ("agent-0", 700)
    );
    let delay = told.retry.unwrap().retry_delay.unwrap();
    assert_eq!((delay.seconds, delay.nanos), (0, 700_000_000));
}

#[tokio::test]
async fn still_waiting_says_to_repeat_the_call_at_once() {
    let told = told(CallError::Refused(Refusal::StillWaiting(held(1)))).await;
    assert_eq!(told.retry, None);
    assert!(told.refusal.next_step.contains("same request_id"), "{}", told.refusal.next_step);
}

#[tokio::test]
async fn stale_fence_says_which_token_is_current() {
    let told = told(CallError::Refused(Refusal::StaleFence(stale()))).await;
    let Some(Detail::StaleFence(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.index, detail.presented_token, detail.current_token), (1, 5, 9));
    assert_eq!(told.info.metadata["current_token"], "9");
    assert_eq!(detail.holder, "other");
}

#[tokio::test]
async fn the_largest_refusals_stay_within_what_clients_read() {
    let held = *largest_held();
    let (holder, resource) = (held.holders[0].holder.clone(), held.resource.clone());
    let steps = [
        DeadlockRelation::Holds(resource.clone()),
        DeadlockRelation::WaitsBefore(resource.clone()),
    ]
    .map(|relation| DeadlockStep {
        actor: held.holders[0].actor.clone().unwrap(),
        holder: Some(holder.clone()),
        relation,
    });
    let deadlock = Deadlock { cycle: [&steps[..]; 4].concat(), step_count: u32::MAX };
    let mismatch =
        Refusal::LimitMismatch { resource: resource.clone(), limit: 1_000_000, asked: 999_999 };
    let largest_name = resource.clone();
    let largest_record = record(key(largest_name.as_str()), Some(holder.clone()), 1_024);
    let stale = StaleFence {
        index: 15,
        resource,
        presented: Token((1 << 53) - 1),
        current: Some((Token((1 << 53) - 1), holder)),
    };
    for refusal in [
        Refusal::Held(Box::new(held.clone())),
        Refusal::StillWaiting(Box::new(held.clone())),
        Refusal::StaleFence(Box::new(stale)),
        Refusal::Deadlock(Box::new(deadlock)),
        mismatch,
        Refusal::Operation {
            index: 255,
            refusal: Box::new(Refusal::VersionMismatch(unexpected(largest_record.clone()))),
        },
        Refusal::Condition {
            index: 255,
            refusal: Box::new(Refusal::VersionMismatch(unexpected(largest_record))),
        },
        Refusal::Operation {
            index: 255,
            refusal: Box::new(Refusal::FenceRequired(required(
                key(largest_name.as_str()),
                Some((Token((1 << 53) - 1), held.holders[0].holder.clone())),
            ))),
        },
        Refusal::Operation {
            index: 255,
            refusal: Box::new(Refusal::OutOfBounds(bounds(key(largest_name.as_str())))),
        },
        Refusal::NotACounter { key: key(largest_name.as_str()) },
        Refusal::TooLarge { bytes: u64::MAX, maximum: u64::MAX },
        Refusal::Operation { index: 255, refusal: Box::new(Refusal::Held(Box::new(held))) },
    ] {
        let error = CallError::Refused(refusal);
        let rig = Rig::start(move |_| Turn::Say(Err(error.clone()))).await;
        let status = rig.leases().await.acquire_lease(acquire()).await.unwrap_err();
        let told = Told::by(&status);
        assert_fits(&status);
        // However much is cut, something of each kind of fact that matters is left.
        match &told.refusal.detail {
            Some(Detail::Held(held)) => {
                assert_eq!((held.holders.len(), held.holder_count), (1, u32::MAX));
                assert_eq!((held.closed_ms, held.blocked_targets), (3_600_000, 128));
                assert!(held.holders[0].yield_answer.starts_with("will yield within 86400000 ms"));
            }
            Some(Detail::Deadlock(deadlock)) => {
                assert_eq!((deadlock.cycle.len(), deadlock.step_count), (4, u32::MAX));
                assert_eq!(deadlock.cycle[0].actor.len(), 256, "actors are what it is about");
            }
            other => {
                let needs_none = matches!(told.reason, Reason::NotACounter);
                assert!(other.is_some() || needs_none, "{told:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_with_names_as_people_choose_them_loses_nothing() {
    let mut held = held(8);
    for (i, by) in held.holders.iter_mut().enumerate() {
        by.actor = Some(Actor::parse(&format!("agents/writer-{i}")).unwrap());
        by.resource = Some(ResourceName::parse(&format!("repos/singletrack/src/{i}.rs")).unwrap());
        by.yield_answer = answer(Some(5_000), "as soon as the tests are through");
    }
    let waiter = HeldWaiter {
        holder: Holder::parse("reviewer").unwrap(),
        actor: None,
        priority: 5,
        waited_ms: 900,
        resource: None,
    };
    held.waiters = vec![waiter; 4];
    let told = told(CallError::Refused(Refusal::Held(held))).await;
    let Some(Detail::Held(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.holders.len(), detail.waiters.len()), (8, 4));
    assert_eq!(detail.holders[7].actor, "agents/writer-7");
    let answer = "will yield within 5000 ms: as soon as the tests are through";
    assert_eq!(detail.holders[7].yield_answer, answer);
    assert!(told.refusal.encoded_len() <= 2_560);
}

/// What is cut, in its order: words of answers and ends of actors, waiters, holders.
#[tokio::test]
async fn what_does_not_fit_is_cut_in_the_order_of_what_it_is_worth() {
    let mut seen = Vec::new();
    for length in [10, 60, 80, 120, 250] {
        let mut held = held(8);
        let name = "x".repeat(length);
        for by in &mut held.holders {
            by.holder = Holder::parse(&name).unwrap();
            by.actor = Some(Actor::parse(&name).unwrap());
            by.yield_answer = answer(None, &name);
        }
        let waiter = HeldWaiter {
            holder: Holder::parse(&name).unwrap(),
            actor: None,
            priority: 0,
            waited_ms: 900,
            resource: None,
        };
        held.waiters = vec![waiter; 4];
        let told = told(CallError::Refused(Refusal::Held(held))).await;
        let Some(Detail::Held(detail)) = told.refusal.detail else { panic!("{length}") };
        let whole = detail.holders.iter().all(|by| by.yield_answer.ends_with('x'));
        seen.push((whole, detail.waiters.len(), detail.holders.len()));
        assert_eq!(detail.holder_count, 8);
    }
    assert_eq!(seen, [(true, 4, 8), (true, 4, 8), (false, 4, 8), (false, 1, 8), (false, 0, 5)]);
}

#[tokio::test]
async fn held_says_since_when_for_how_long_at_most_and_what_the_holder_answered() {
    let mut held = held(1);
    held.holders[0] = HolderInfo {
        mode: Mode::Exclusive,
        reach: Reach::Subtree,
        resource: Some(ResourceName::parse("a").unwrap()),
        hold_remaining_ms: Some(60_000),
        yield_answer: answer(Some(2_000), "one more file"),
        ..held_by("ada", 7)
    };
    held.blocked_targets = 3;
    held.waiters = vec![HeldWaiter {
        holder: Holder::parse("bob").unwrap(),
        actor: None,
        priority: 5,
        waited_ms: 900,
        resource: None,
    }];
    let told_once = told(CallError::Refused(Refusal::Held(held.clone()))).await;
    assert_eq!(
        told_once.refusal.message,
        "`a/b` is held by `ada` (as `a` with all below it) (token 7, for 5000 ms, 607 ms left \
         unless renewed, at most 60000 ms), who will yield within 2000 ms (\"one more file\"); \
         3 wait before you; wanted before you by `bob` (waiting 900 ms, priority 5); 2 more of \
         the targets are not to be had"
    );
    assert!(told_once.refusal.next_step.contains("has said that it will yield"));
    held.holders[0].yield_answer = answer(None, "");
    let told_no = told(CallError::Refused(Refusal::Held(held.clone()))).await;
    assert!(told_no.refusal.message.contains("who declines to yield"), "{told_no:?}");
    assert!(told_no.refusal.next_step.contains("declined"), "{told_no:?}");
    held.holders.clear();
    (held.holder_count, held.closed_ms, held.queue_position) = (0, 400, 0);
    held.waiters.clear();
    held.blocked_targets = 1;
    let told_closed = told(CallError::Refused(Refusal::Held(held.clone()))).await;
    assert_eq!(
        told_closed.refusal.message,
        "`a/b` is closed for 400 ms more after a holder was lost; nobody waits before you"
    );
    assert_eq!(told_closed.refusal.retry_after_ms, 400);
    assert_eq!(told_closed.info.metadata["closed_ms"], "400");
    (held.closed_ms, held.queue_position) = (0, 1);
    let told_queue = told(CallError::Refused(Refusal::StillWaiting(held))).await;
    assert!(told_queue.refusal.message.contains("1 waits before you"), "{told_queue:?}");
}

#[tokio::test]
async fn held_says_how_many_permits_are_in_use() {
    let mut held = held(2);
    for by in &mut held.holders {
        by.mode = Mode::Permits(Permits::parse(2, 5).unwrap());
    }
    (held.permits_used, held.permits_wanted) = (4, 3);
    let told = told(CallError::Refused(Refusal::Held(held))).await;
    let message = &told.refusal.message;
    let head =
        "`a/b` is with 4 of 5 permits in use and 3 promised to earlier waiters, by `agent-0`";
    assert!(message.starts_with(head), "{message}");
    let Some(Detail::Held(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.permits_used, detail.permits_wanted), (4, 3));
    assert_eq!((detail.holders[0].permits, detail.holders[0].shared), (2, false));
}

#[tokio::test]
async fn deadlock_names_the_cycle_and_limit_mismatch_the_limit() {
    let told_cycle = told(CallError::Refused(Refusal::Deadlock(deadlock()))).await;
    assert_eq!(
        told_cycle.refusal.message,
        "to wait would close a cycle of actors: `ada` waits for `left`, held by `bob`; `bob` \
         waits for `right` behind `cy`; `cy` waits for its child `ada`"
    );
    assert_eq!(told_cycle.info.metadata["cycle"], "ada -> bob -> cy");
    let Some(Detail::Deadlock(detail)) = &told_cycle.refusal.detail else { panic!() };
    let relations: Vec<_> = detail.cycle.iter().map(v1::DeadlockStep::relation).collect();
    use v1::DeadlockRelation as Relation;
    assert_eq!(relations, [Relation::Holds, Relation::WaitsBefore, Relation::Child]);
    assert_eq!((&*detail.cycle[1].holder, &*detail.cycle[1].resource), ("Bob", "right"));
    let mut long = deadlock();
    (long.cycle, long.step_count) = ([&long.cycle[..]; 2].concat(), 9);
    let told_long = told(CallError::Refused(Refusal::Deadlock(long))).await;
    assert!(told_long.refusal.message.ends_with("; and 6 more, back to the first"));

    let told_limit = told(CallError::Refused(mismatch())).await;
    let Some(Detail::LimitMismatch(detail)) = &told_limit.refusal.detail else { panic!() };
    assert_eq!((&*detail.resource, detail.limit, detail.asked), ("pool", 5, 3));
    assert!(told_limit.refusal.next_step.contains("a limit of 5"), "{told_limit:?}");
    assert_eq!(told_limit.info.metadata["limit"], "5");
}

#[tokio::test]
async fn the_largest_list_of_flaws_stays_within_what_clients_read() {
    let rig = Rig::start(|_| panic!("nobody asks the track")).await;
    let mut request = Request::new(v1::AcquireLeaseRequest {
        request_id: "\u{1}".into(),
        holder: "\u{2}".into(),
        priority: 1_000,
        ttl_ms: Some(1),
        keep_ms: Some(0),
        fences: (0..16)
            .map(|_| v1::Fence {
                target: Some(v1::fence::Target::Resource("\u{1F512}/\u{3}".into())),
                token: u64::MAX,
            })
            .collect(),
        ..acquire()
    });
    let key = format!("singletrack-{}", "x".repeat(2_000));
    let status = rig.leases().await.acquire_lease(Request::new(request.get_ref().clone())).await;
    let status = status.unwrap_err();
    let told = Told::by(&status);
    assert_fits(&status);
    assert!(told.fields().len() >= 8, "{told:?}");
    let bad_request = told.bad_request.as_ref().unwrap();
    assert_eq!(bad_request.field_violations.len(), told.fields().len());
    assert!(told.refusal.message.contains("more)"), "{}", told.refusal.message);

    let key: tonic::metadata::AsciiMetadataKey = key.parse().unwrap();
    request.metadata_mut().insert(key, "1".parse().unwrap());
    let status = rig.leases().await.acquire_lease(request).await.unwrap_err();
    Told::by(&status);
    assert_fits(&status);
}

fn assert_fits(status: &tonic::Status) {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    // As HTTP/2 counts a list of headers: 32 bytes beside each name and value.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(bytes < 8_192, "{bytes} bytes in {status:?}");
}
