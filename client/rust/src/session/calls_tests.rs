//! The laws of what is under way, without a socket.

use std::{sync::Arc, time::Duration};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::{
    sync::oneshot,
    time::{Instant, advance},
};

use super::{
    super::Ask, Calls, FRAME_BYTES, FRAME_OPERATIONS, OPERATION_BYTES_MAX, OnSession, QUIET_TIME,
};
use crate::{Error, life::Life, op, retry::Answered};

type Told = oneshot::Receiver<Result<Answered, Error>>;

const LONG: Duration = Duration::from_secs(60);

/// A session's calls, and the session.
struct Bench {
    calls: Calls,
    of: OnSession,
}

// === impl Bench ===

impl Bench {
    fn new() -> Self {
        Self::with(true)
    }

    fn with(retries: bool) -> Self {
        let of = OnSession { id: "5e".repeat(16), life: Arc::new(Life::default()), ttl: LONG };
        let mut calls = Calls::new(retries);
        calls.begin_stream("");
        Self { calls, of }
    }

    fn ask(&mut self, op: Operation) -> Told {
        let (reply, told) = oneshot::channel();
        let ends = Instant::now() + LONG;
        self.calls.add(Box::new(Ask { op, ends, patience: None, life: None, reply: Some(reply) }));
        told
    }

    /// An acquire that waits for as long as its caller is there and `patience` lasts.
    fn wait(&mut self, patience: Duration) -> (Told, Arc<Life>) {
        self.wait_for(patience, |_| {})
    }

    fn wait_for(
        &mut self,
        patience: Duration,
        say: impl FnOnce(&mut v1::AcquireLeaseRequest),
    ) -> (Told, Arc<Life>) {
        let (reply, told) = oneshot::channel();
        let life = Arc::new(Life::default());
        let until = Instant::now() + patience;
        let mut acquire = v1::AcquireLeaseRequest { wait_ms: 1_000, ..Default::default() };
        say(&mut acquire);
        self.calls.add(Box::new(Ask {
            op: Operation::AcquireLease(acquire),
            ends: until + LONG,
            patience: Some(until),
            life: Some(Arc::downgrade(&life)),
            reply: Some(reply),
        }));
        (told, life)
    }

    fn answer(&mut self, seq: u64, reply: Reply) {
        let reply = v1::OperationReply { seq, reply: Some(reply) };
        assert!(self.calls.answered(&self.of, reply).is_none(), "{seq} is nobody's own");
    }

    fn refuse(&mut self, seq: u64, reason: v1::RefusalReason) {
        let refusal = v1::Refusal { reason: reason.into(), ..Default::default() };
        self.answer(seq, Reply::Refusal(Box::new(refusal)));
    }

    fn look(&mut self) {
        self.calls.look(Some(&self.of.id), None);
    }

    /// What the next frame says: numbers and operations.
    fn said(&mut self) -> Vec<(u64, Operation)> {
        let frame = self.calls.frame().read();
        let said = |it: v1::Operation| (it.seq, it.operation.expect("an operation"));
        frame.operations.into_iter().map(said).collect()
    }

    fn resume(&mut self) {
        self.calls.begin_stream(&self.of.id.clone());
    }

    /// What the server may forget: the floor, and single ones above it.
    fn acknowledged(&mut self) -> (u64, Vec<u64>) {
        let frame = self.calls.frame().read();
        assert!(frame.operations.is_empty(), "{:?}", frame.operations);
        (frame.seen_below, frame.seen)
    }
}

fn acquire(wait_ms: u64) -> Operation {
    Operation::AcquireLease(v1::AcquireLeaseRequest { wait_ms, ..Default::default() })
}

fn release() -> Operation {
    Operation::ReleaseLease(v1::ReleaseLeaseRequest::default())
}

fn ping(bytes: usize) -> Operation {
    Operation::Ping(v1::PingRequest { payload: vec![0; bytes].into() })
}

fn granted() -> Reply {
    Reply::AcquireLease(v1::AcquireLeaseResponse {
        lease_id: "1e".repeat(16),
        token: 7,
        remaining_ms: 5_000,
        ..Default::default()
    })
}

fn released() -> Reply {
    Reply::ReleaseLease(v1::ReleaseLeaseResponse::default())
}

fn abandoned() -> Reply {
    Reply::AbandonLease(v1::AbandonLeaseResponse::default())
}

fn age_ms(op: &Operation) -> u64 {
    op::identity(&mut op.clone()).map_or(0, |(_, age_ms)| *age_ms)
}

fn error_of(told: &mut Told) -> Error {
    told.try_recv().expect("an answer").expect_err("an error")
}

fn abandons(op: &Operation) -> Option<&str> {
    let Operation::AbandonLease(abandon) = op else { return None };
    Some(&abandon.abandoned_request_id)
}

/// The clock of ages runs on its own, whatever a test does to the runtime's.
fn grow_older() {
    std::thread::sleep(Duration::from_millis(3));
}

// === frames ===

#[tokio::test(start_paused = true)]
async fn too_large_an_operation_is_refused_here_and_harms_no_other() {
    let mut bench = Bench::new();
    let mut large = bench.ask(ping(OPERATION_BYTES_MAX));
    let mut small = bench.ask(ping(1));
    let error = error_of(&mut large);
    assert_eq!(error.reason(), Some(Reason::TooLarge));
    assert!(!error.may_have_happened() && !error.is_retryable(), "{error:?}");
    assert!(error.message().contains(&OPERATION_BYTES_MAX.to_string()), "{error}");
    assert_eq!(bench.said().len(), 1);
    assert!(small.try_recv().is_err(), "the other is under way");
}

#[tokio::test(start_paused = true)]
async fn a_frame_keeps_its_bounds_and_a_large_operation_goes_alone() {
    let mut bench = Bench::new();
    let sizes = [FRAME_BYTES / 3, FRAME_BYTES / 3, FRAME_BYTES / 2, 2 * FRAME_BYTES, 10, 10];
    let _told: Vec<_> = sizes.iter().map(|size| bench.ask(ping(*size))).collect();
    let frames: Vec<usize> =
        std::iter::repeat_with(|| bench.said().len()).take_while(|count| *count > 0).collect();
    assert_eq!(frames, [2, 1, 1, 2]);

    let _told: Vec<_> = (0..=FRAME_OPERATIONS).map(|_| bench.ask(release())).collect();
    assert_eq!((bench.said().len(), bench.said().len()), (FRAME_OPERATIONS, 1));
}

#[tokio::test(start_paused = true)]
async fn waits_take_no_room_from_others() {
    let mut bench = Bench::new();
    let _waits: Vec<_> = (0..3_000).map(|_| bench.ask(acquire(1_000))).collect();
    assert!(bench.calls.has_room());
    let _others: Vec<_> = (0..1_000).map(|_| bench.ask(release())).collect();
    assert!(!bench.calls.has_room());
    bench.answer(3_001, released());
    assert!(bench.calls.has_room());
}

// === answers ===

#[tokio::test(start_paused = true)]
async fn each_answer_reaches_its_caller_in_whatever_order_and_once() {
    let mut bench = Bench::new();
    let (mut one, mut two, mut three) =
        (bench.ask(release()), bench.ask(release()), bench.ask(release()));
    assert_eq!(bench.said().len(), 3);
    bench.answer(3, released());
    bench.refuse(1, v1::RefusalReason::NotHolder);
    assert!(three.try_recv().expect("an answer").is_ok());
    assert_eq!(error_of(&mut one).reason(), Some(Reason::NotHolder));
    assert!(two.try_recv().is_err(), "nobody answered it");
    assert_eq!(bench.acknowledged(), (2, vec![3]));
    bench.answer(3, released());
    bench.answer(2, released());
    assert!(two.try_recv().expect("an answer").is_ok());
    assert_eq!(bench.acknowledged(), (4, vec![]));
    assert!(bench.calls.is_empty());
}

// === again ===

#[tokio::test(start_paused = true)]
async fn what_no_answer_followed_is_sent_again_under_its_number_with_its_age() {
    let mut bench = Bench::new();
    let mut told = bench.ask(release());
    assert_eq!(bench.said(), [(1, release())]);
    grow_older();
    bench.resume();
    let again = bench.said();
    assert_eq!(again.len(), 1);
    assert!(again[0].0 == 1 && age_ms(&again[0].1) >= 3, "{again:?}");
    grow_older();
    bench.resume();
    assert!(age_ms(&bench.said()[0].1) >= 6, "counted from the first send");
    // A refusal of the machine speaks for all of them, and leaves nothing open.
    bench.refuse(1, v1::RefusalReason::NotHolder);
    assert!(!error_of(&mut told).may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn overload_says_nothing_of_an_earlier_send() {
    let mut bench = Bench::new();
    let mut told = bench.ask(release());
    bench.said();
    grow_older();
    bench.resume();
    bench.said();
    bench.refuse(1, v1::RefusalReason::Overloaded);
    assert!(told.try_recv().is_err(), "it is tried again");
    assert!(bench.said().is_empty(), "not at once");
    advance(Duration::from_millis(200)).await;
    bench.look();
    let again = bench.said();
    assert!(again[0].0 == 1 && age_ms(&again[0].1) >= 3, "the first send may count: {again:?}");

    // Its time passes under overload: what the first send did is still not known.
    bench.refuse(1, v1::RefusalReason::Overloaded);
    advance(LONG).await;
    bench.look();
    assert!(error_of(&mut told).may_have_happened());
}

#[tokio::test(start_paused = true)]
async fn overload_of_the_only_send_leaves_no_age() {
    let mut bench = Bench::new();
    let _told = bench.ask(release());
    bench.said();
    grow_older();
    bench.refuse(1, v1::RefusalReason::Overloaded);
    advance(Duration::from_millis(200)).await;
    bench.look();
    assert_eq!(bench.said(), [(1, release())], "a send that was not taken is no age");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_asked_for_again_with_its_age() {
    let mut bench = Bench::new();
    let _told = bench.ask(release());
    bench.said();
    grow_older();
    bench.refuse(1, v1::RefusalReason::OutcomeUnknown);
    advance(Duration::from_millis(200)).await;
    bench.look();
    let again = bench.said();
    assert!(again[0].0 == 1 && age_ms(&again[0].1) >= 3, "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_not_retry_hears_the_refusal() {
    let mut bench = Bench::with(false);
    let mut told = bench.ask(release());
    bench.said();
    bench.refuse(1, v1::RefusalReason::Overloaded);
    let error = error_of(&mut told);
    assert_eq!(error.reason(), Some(Reason::Overloaded));
    assert!(!error.may_have_happened());

    let mut sent = bench.ask(release());
    bench.said();
    let mut unsent = bench.ask(release());
    bench.calls.fail_sent(Some(&bench.of.id), &Error::deadline_passed());
    assert!(error_of(&mut sent).may_have_happened());
    assert!(unsent.try_recv().is_err(), "nothing happened to it");
    assert_eq!(bench.said().len(), 1, "it goes out on the next stream");
}

#[tokio::test(start_paused = true)]
async fn at_the_end_only_what_was_sent_may_have_happened() {
    let mut bench = Bench::new();
    let mut sent = bench.ask(release());
    bench.said();
    let mut unsent = bench.ask(release());
    let gone = Error::usage("gone", "");
    bench.calls.fail(Some(&bench.of.id), &gone);
    let error = error_of(&mut sent);
    assert!(error.may_have_happened());
    assert_eq!(error.request_id(), Some(format!("{}/1", bench.of.id).as_str()));
    assert!(!error_of(&mut unsent).may_have_happened());
    assert!(bench.calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refused_frame_speaks_for_its_operations_alone() {
    let mut bench = Bench::new();
    bench.calls.frame();
    let mut first = bench.ask(release());
    bench.said();
    let mut second = bench.ask(release());
    bench.said();
    let refusal = v1::Refusal { reason: v1::RefusalReason::Malformed.into(), ..Default::default() };
    bench.calls.frame_refused(2, &refusal);
    assert_eq!(error_of(&mut first).reason(), Some(Reason::Malformed));
    assert!(second.try_recv().is_err());
}

// === waits ===

#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_under_its_number_until_patience_is_over() {
    let mut bench = Bench::new();
    let (mut told, _life) = bench.wait(Duration::from_millis(1_500));
    bench.said();
    advance(Duration::from_secs(1)).await;
    bench.refuse(1, v1::RefusalReason::StillWaiting);
    let again = bench.said();
    assert_eq!(again, [(1, acquire(500))], "no longer than what is left, and without age");
    advance(Duration::from_millis(600)).await;
    bench.refuse(1, v1::RefusalReason::StillWaiting);
    assert_eq!(error_of(&mut told).reason(), Some(Reason::StillWaiting));

    // It leaves the queue; only then may the server forget it.
    let said = bench.said();
    assert_eq!(abandons(&said[0].1), Some(format!("{}/1", bench.of.id).as_str()));
    assert_eq!(bench.acknowledged(), (1, vec![]));
    bench.answer(2, abandoned());
    assert_eq!(bench.acknowledged(), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_caller_is_gone_is_cancelled_on_its_stream() {
    let mut bench = Bench::new();
    let (told, life) = bench.wait(LONG);
    bench.said();
    drop((told, life));
    bench.look();
    assert_eq!(bench.calls.frame().read().cancel, [1]);
    bench.look();
    assert!(bench.calls.frame().read().cancel.is_empty(), "once is enough");

    // The grant was faster: what nobody wants is given back.
    bench.answer(1, granted());
    let said = bench.said();
    let Operation::ReleaseLease(release) = &said[0].1 else { panic!("a release: {said:?}") };
    assert_eq!((release.token, release.lease_id.clone()), (7, "1e".repeat(16)));
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_stream_left_behind_is_abandoned_on_the_next() {
    let mut bench = Bench::new();
    let (told, life) = bench.wait(LONG);
    bench.said();
    drop((told, life));
    bench.resume();
    let said = bench.said();
    assert_eq!(said.len(), 1, "it is not asked for again: {said:?}");
    assert_eq!(abandons(&said[0].1), Some(format!("{}/1", bench.of.id).as_str()));
    // The stream breaks again, before the answer: the giving up itself is sent again.
    bench.resume();
    let again = bench.said();
    assert_eq!(again[0].0, said[0].0);
    assert!(abandons(&again[0].1).is_some());
    assert_eq!(bench.acknowledged(), (1, vec![]));
    bench.answer(2, abandoned());
    assert_eq!(bench.acknowledged(), (3, vec![]));
}

#[tokio::test(start_paused = true)]
async fn one_given_up_before_it_was_sent_again_is_abandoned() {
    let mut bench = Bench::new();
    let (told, life) = bench.wait(LONG);
    bench.said();
    bench.resume();
    // In the queue of the new stream when its caller leaves.
    drop((told, life));
    bench.look();
    let said = bench.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(abandons(&said[0].1).is_some(), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_answered_long_after_its_time_is_abandoned() {
    let mut bench = Bench::new();
    let mut told = bench.ask(acquire(0));
    bench.said();
    advance(LONG).await;
    bench.look();
    assert!(error_of(&mut told).may_have_happened());
    assert!(bench.said().is_empty(), "its answer is waited for");
    advance(QUIET_TIME).await;
    bench.look();
    assert!(abandons(&bench.said()[0].1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_known_before_the_push_that_ends_it() {
    let mut bench = Bench::new();
    let (mut told, life) = bench.wait(LONG);
    bench.said();
    bench.answer(1, granted());
    assert!(bench.calls.believed().contains(&"1e".repeat(16)), "it lives with the session");
    let lost = Error::usage("lost", "");
    bench.calls.lease_lost(&"1e".repeat(16), &lost);
    assert!(life.lost().is_some());
    assert!(told.try_recv().expect("an answer").is_ok());
}

// === the session's end ===

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_transaction_nobody_waits_for_are_given_back() {
    let mut bench = Bench::new();
    let told = bench.ask(Operation::Transact(v1::TransactRequest::default()));
    assert_eq!(bench.said().len(), 1);
    drop(told);
    let put = Reply::PutRecord(v1::PutRecordResponse::default());
    let reply = |reply| v1::OperationReply { reply: Some(reply), ..Default::default() };
    let replies = vec![reply(put), reply(granted()), reply(released()), reply(granted())];
    bench.answer(1, Reply::Transact(v1::TransactResponse { replies, ..Default::default() }));
    let said = bench.said();
    assert_eq!(said.len(), 2, "{said:?}");
    for (_, operation) in said {
        let Operation::ReleaseLease(release) = operation else { panic!("{operation:?}") };
        assert_eq!((release.token, release.lease_id), (7, "1e".repeat(16)));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_lost_session_what_was_never_sent_stays() {
    let mut bench = Bench::new();
    let mut sent = bench.ask(release());
    bench.said();
    let mut unsent = bench.ask(release());
    let rest = bench.calls.lose_session();
    assert_eq!(rest.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1]);
    assert!(sent.try_recv().is_err() && unsent.try_recv().is_err(), "both are to be answered");
    bench.calls.begin_stream("");
    assert_eq!(bench.said(), [(1, release())], "numbers begin anew on the next session");
}

// === the whole menu ===

#[tokio::test(start_paused = true)]
async fn a_request_to_yield_reaches_the_lease_it_is_for() {
    let mut bench = Bench::new();
    let (mut told, life) = bench.wait(LONG);
    bench.said();
    bench.answer(1, granted());
    told.try_recv().expect("an answer").expect("a grant");
    let info = v1::YieldInfo { number: 4, holder: "bob".into(), ..Default::default() };
    let request = crate::YieldRequest::from_wire(info);
    bench.calls.lease_asked_for("another", request.clone());
    bench.calls.lease_asked_for(&"1e".repeat(16), request.clone());
    assert_eq!(life.asked_for().await, Some(request));
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_session_is_not_believed_beyond_its_longest_hold() {
    for replayed in [false, true] {
        let mut bench = Bench::new();
        bench.of.life.extend(crate::clock::Moment::now().plus(LONG));
        let (mut told, life) = bench.wait_for(LONG, |it| it.max_hold_ms = Some(10_000));
        bench.said();
        // The first send may have had the grant that the second is told of.
        grow_older();
        bench.resume();
        bench.said();
        let Reply::AcquireLease(grant) = granted() else { panic!() };
        bench.answer(1, Reply::AcquireLease(v1::AcquireLeaseResponse { replayed, ..grant }));
        told.try_recv().expect("an answer").expect("a grant");
        // One in a thousand of it, and 1 % of the session's ttl and 20 ms.
        let most = Duration::from_millis(10_000 - 10 - 620);
        let least = Duration::from_millis(if replayed { 3 } else { 0 });
        assert!(life.until().left() <= most.saturating_sub(least), "{:?}", life.until().left());
        assert!(life.until().left() > Duration::from_secs(5));
    }
}
