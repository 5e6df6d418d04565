//! Lines: the way of streams to the track, with real threads.

use std::collections::BTreeMap;

use singletrack_core::{command::OpenSession, reply::Notice, types::SessionId};

use super::*;
use crate::track::{CallError, Heard, Line, OfSession};

const SESSION: SessionId = SessionId([5; 16]);

fn open(session: SessionId) -> Question {
    question(Command::OpenSession(OpenSession {
        session_id: session,
        holder: Holder::parse("h").unwrap(),
        ttl: Ttl::parse(60_000).unwrap(),
        requests: RequestHash(session.0),
    }))
}

fn attach(session: SessionId) -> Question {
    question(Command::AttachSession(session))
}

/// An acquire that lives with the session.
fn bound(seq: u64, name: &str, wait_ms: u64) -> Question {
    let id = u8::try_from(seq).unwrap();
    let mut question = acquire(name, id, wait_ms);
    if let Command::AcquireLease(acquire) = &mut question.command {
        acquire.lifetime = Lifetime::Session(SESSION);
    }
    question.mark =
        Some(RequestMark { id: RequestHash(SESSION.0).at(seq), command: CommandHash([id; 16]) });
    question.of = Some(OfSession { session: SESSION, seq: Some(seq) });
    question
}

async fn heard(line: &mut Line) -> Vec<Heard> {
    tokio::time::timeout(Duration::from_secs(10), line.hear()).await.expect("something is heard")
}

/// Hears until all these tags are answered.
async fn answers(line: &mut Line, mut wanted: Vec<u64>) -> BTreeMap<u64, Result<Reply, CallError>> {
    let mut answers = BTreeMap::new();
    while !wanted.is_empty() {
        for one in heard(line).await {
            if let Heard::Answer(tag, result) = one {
                wanted.retain(|it| *it != tag);
                answers.insert(tag, result);
            }
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_are_under_way_on_one_line_and_are_answered_by_their_tags() {
    let rig = Rig::new();
    let mut line = rig.handle.line();
    let mut questions = vec![(100, open(SESSION)), (101, attach(SESSION))];
    questions.extend((1..=50).map(|n| (n, bound(n, &format!("r/{n}"), 0))));
    assert!(line.submit(questions).is_empty());
    assert_eq!(line.under_way(), 52);
    let answers = answers(&mut line, (1..=50).chain([100, 101]).collect()).await;
    assert_eq!((answers.len(), line.under_way()), (52, 0));
    assert!(matches!(answers[&101], Ok(Reply::SessionAttached(_))));
    let tokens: Vec<_> = (1..=50).map(|n| grant(answers[&n].clone()).token).collect();
    assert!(tokens.is_sorted(), "decided in the order sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_line_ends_its_waits_and_a_new_one_goes_on_with_them() {
    let rig = Rig::new();
    let held = grant(rig.handle.call(acquire("a", 200, 0)).await);
    let mut line = rig.handle.line();
    line.submit(vec![(1, open(SESSION)), (2, attach(SESSION)), (3, bound(3, "a", 40_000))]);
    answers(&mut line, vec![1, 2]).await;
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
    drop(line);
    let mut line = rig.handle.line();
    line.submit(vec![(7, attach(SESSION)), (8, bound(3, "a", 40_000))]);
    answers(&mut line, vec![7]).await;
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
    let lease = LeaseRef { lease_id: held.lease_id, token: held.token };
    rig.handle.call(question(Command::ReleaseLease(lease))).await.unwrap();
    let answers = answers(&mut line, vec![8]).await;
    assert!(grant(answers[&8].clone()).token > held.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_right_behind_a_resumption_is_answered() {
    let rig = Rig::new();
    let own = grant(rig.handle.call(acquire("a", 200, 0)).await);
    let mut first = rig.handle.line();
    first.submit(vec![(1, open(SESSION)), (2, attach(SESSION))]);
    answers(&mut first, vec![1, 2]).await;
    let of_session = |command| Question {
        of: Some(OfSession { session: SESSION, seq: None }),
        ..question(command)
    };
    let lease = LeaseRef { lease_id: own.lease_id, token: own.token };
    let renew = || of_session(Command::RenewLeases([lease].into()));
    let mut second = rig.handle.line();
    second.submit(vec![(1, attach(SESSION)), (2, renew())]);
    second.submit(vec![(3, of_session(Command::KeepSessionAlive(SESSION)))]);
    let answers = answers(&mut second, vec![1, 2, 3]).await;
    assert!(matches!(answers[&2], Ok(Reply::Renewed(_))), "{answers:?}");
    assert!(matches!(answers[&3], Ok(Reply::SessionKept(_))), "{answers:?}");
    // From now on they go before the others again.
    second.submit(vec![(4, renew())]);
    self::answers(&mut second, vec![4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_cancelled_by_its_tag() {
    let rig = Rig::new();
    grant(rig.handle.call(acquire("a", 200, 0)).await);
    let mut line = rig.handle.line();
    line.submit(vec![
        (1, open(SESSION)),
        (2, attach(SESSION)),
        (3, bound(3, "a", 40_000)),
        (4, bound(4, "a", 40_000)),
    ]);
    answers(&mut line, vec![1, 2]).await;
    line.cancel(&Namespace::default(), &[4, 9]);
    let answers = answers(&mut line, vec![4]).await;
    assert_eq!(answers[&4], Err(CallError::Refused(Refusal::CancelledWait)));
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_line_hears_that_it_is_superseded() {
    let rig = Rig::new();
    let mut first = rig.handle.line();
    first.submit(vec![(1, open(SESSION)), (2, attach(SESSION))]);
    answers(&mut first, vec![1, 2]).await;
    let mut second = rig.handle.line();
    second.submit(vec![(1, attach(SESSION))]);
    answers(&mut second, vec![1]).await;
    assert_eq!(heard(&mut first).await, [Heard::Notice(Notice::Superseded)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_log_fails_every_call_of_a_line_hears_that_its_outcome_is_unknown() {
    let rig = Rig::new();
    let mut line = rig.handle.line();
    line.submit(vec![(1, open(SESSION)), (2, attach(SESSION))]);
    answers(&mut line, vec![1, 2]).await;
    rig.disk.fail_append(0);
    line.submit(vec![(3, bound(3, "a", 0)), (4, bound(4, "b", 0))]);
    let answers = answers(&mut line, vec![3, 4]).await;
    assert!(answers.values().all(|it| *it == Err(CallError::OutcomeUnknown)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_track_answers_the_waits_of_lines_and_takes_no_more() {
    let mut rig = Rig::new();
    grant(rig.handle.call(acquire("a", 200, 0)).await);
    let mut line = rig.handle.line();
    line.submit(vec![(1, open(SESSION)), (2, attach(SESSION)), (3, bound(3, "a", 40_000))]);
    answers(&mut line, vec![1, 2]).await;
    let track = rig.track.take().unwrap();
    tokio::task::spawn_blocking(move || track.stop()).await.unwrap();
    let answers = answers(&mut line, vec![3]).await;
    assert_eq!(answers[&3], Err(CallError::ShuttingDown));
    assert_eq!(line.submit(vec![(5, bound(5, "b", 0))]), [(5, CallError::ShuttingDown)]);
}
