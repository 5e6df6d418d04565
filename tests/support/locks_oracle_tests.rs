//! The oracle lets sound histories pass and finds each kind of broken promise, on histories made
//! by hand.

use super::{Action, Call, Model, Outcome, Share, judge};

/// A call on resource `r`.
fn call(hold: &str, action: Action, sent: u64, outcome: Outcome) -> Call {
    Call { resource: "r".into(), hold: hold.into(), action, sent, outcome }
}

fn yes(at: u64) -> Outcome {
    Outcome::Yes { at, fence: None }
}

fn got(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Acquire(Share::Exclusive), sent, yes(at))
}

fn fenced(hold: &str, sent: u64, at: u64, fence: u64) -> Call {
    let outcome = Outcome::Yes { at, fence: Some(fence) };
    call(hold, Action::Acquire(Share::Exclusive), sent, outcome)
}

fn read(hold: &str, sent: u64, at: u64, fence: u64) -> Call {
    let outcome = Outcome::Yes { at, fence: Some(fence) };
    call(hold, Action::Acquire(Share::Shared), sent, outcome)
}

fn permits(hold: &str, count: u64, sent: u64, at: u64) -> Call {
    call(hold, Action::Acquire(Share::Permits(count)), sent, yes(at))
}

fn refused(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Acquire(Share::Exclusive), sent, Outcome::No { at })
}

fn lost_answer(hold: &str, sent: u64) -> Call {
    call(hold, Action::Acquire(Share::Exclusive), sent, Outcome::Unknown)
}

fn confirmed(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Confirm, sent, yes(at))
}

fn denied(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Confirm, sent, Outcome::No { at })
}

fn released(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Release, sent, yes(at))
}

fn release_refused(hold: &str, sent: u64, at: u64) -> Call {
    call(hold, Action::Release, sent, Outcome::No { at })
}

fn release_lost(hold: &str, sent: u64) -> Call {
    call(hold, Action::Release, sent, Outcome::Unknown)
}

#[track_caller]
fn passes(model: Model, history: &[Call]) -> super::Summary {
    judge(model, history).unwrap_or_else(|broken| panic!("{broken}"))
}

#[track_caller]
fn breaks(model: Model, promise: &str, history: &[Call]) {
    let broken = judge(model, history).unwrap_err();
    assert_eq!(broken.promise, promise, "{broken}");
    assert!(broken.to_string().contains(promise));
    assert!(!broken.evidence.is_empty(), "{broken}");
}

const TOGETHER: &str = "no more is held at once than there is";
const RISES: &str = "a fence rises with each new hold";
const RELEASED: &str = "only what is held is released";

#[test]
fn a_mutex_goes_from_hand_to_hand() {
    let summary = passes(
        Model::MUTEX,
        &[got("a", 1, 2), refused("b", 3, 4), released("a", 5, 6), got("b", 7, 8)],
    );
    assert_eq!((summary.holds, summary.releases, summary.together), (2, 1, 1));
    // The next may be told before the release is answered.
    passes(Model::MUTEX, &[got("a", 1, 2), released("a", 5, 9), got("b", 3, 6)]);
    // At one time an end counts first.
    passes(Model::MUTEX, &[got("a", 1, 2), released("a", 5, 9), got("b", 3, 5)]);
}

#[test]
fn two_holders_of_a_mutex_at_once_are_found() {
    breaks(Model::MUTEX, TOGETHER, &[got("a", 1, 2), got("b", 3, 4)]);
    breaks(Model::MUTEX, TOGETHER, &[got("a", 1, 3), got("b", 2, 4), released("a", 5, 6)]);
    let apart = Call { resource: "other".into(), ..got("b", 3, 4) };
    passes(Model::MUTEX, &[got("a", 1, 2), apart]);
}

#[test]
fn a_mutex_is_not_acquired_twice_unless_it_is_reentrant() {
    let history = [got("a", 1, 2), got("a", 3, 4), released("a", 5, 6), got("b", 7, 8)];
    breaks(Model::MUTEX, "what is held is not acquired again", &history);
    assert_eq!(passes(Model::REENTRANT_MUTEX, &history).repeated, 1);
    // To ask again is not to let another in.
    breaks(Model::REENTRANT_MUTEX, TOGETHER, &[got("a", 1, 2), got("b", 3, 4), got("a", 5, 6)]);
    // Refusing the holder is wrong for a reentrant one alone.
    let history = [got("a", 1, 2), refused("a", 3, 4)];
    passes(Model::MUTEX, &history);
    breaks(Model::REENTRANT_MUTEX, "what is held lasts until it is released", &history);
}

#[test]
fn one_release_ends_a_reentrant_hold_for_good() {
    let history = [got("a", 1, 2), got("a", 3, 4), released("a", 5, 6), got("a", 7, 8)];
    breaks(Model::REENTRANT_MUTEX, "what has ended stays ended", &history);
    // Before the release was answered it may still have been held.
    passes(Model::REENTRANT_MUTEX, &[got("a", 1, 2), released("a", 5, 9), got("a", 7, 8)]);
}

#[test]
fn only_a_holder_releases() {
    breaks(Model::MUTEX, RELEASED, &[got("a", 1, 2), released("b", 3, 4)]);
    breaks(Model::MUTEX, RELEASED, &[released("a", 1, 2), got("a", 3, 4)]);
    passes(Model::MUTEX, &[got("a", 1, 2), release_refused("b", 3, 4), released("a", 5, 6)]);
    // Releasing again is saying it again.
    passes(Model::MUTEX, &[got("a", 1, 2), released("a", 3, 4), released("a", 5, 6)]);
}

#[test]
fn a_call_without_an_answer_proves_nothing_by_itself() {
    passes(Model::MUTEX, &[lost_answer("a", 1), got("b", 2, 3)]);
    passes(Model::MUTEX, &[got("a", 1, 2), lost_answer("b", 3)]);
    // From the moment its release is sent a hold may be over.
    passes(Model::MUTEX, &[got("a", 1, 2), release_lost("a", 3), got("b", 4, 5)]);
    breaks(Model::MUTEX, TOGETHER, &[got("a", 1, 2), got("b", 3, 4), release_lost("a", 5)]);
}

#[test]
fn an_unanswered_acquire_that_was_released_had_been_held() {
    passes(Model::MUTEX, &[lost_answer("a", 1), released("a", 4, 6), got("b", 2, 5)]);
    passes(
        Model::MUTEX,
        &[got("b", 1, 2), lost_answer("a", 3), released("b", 4, 5), released("a", 4, 6)],
    );
    // There was no time at which it could have been.
    breaks(
        Model::MUTEX,
        RELEASED,
        &[got("b", 1, 2), lost_answer("a", 3), released("a", 4, 6), released("b", 7, 8)],
    );
}

#[test]
fn fences_rise_from_hold_to_hold() {
    let model = Model::FENCED_MUTEX;
    passes(model, &[fenced("a", 1, 2, 7), released("a", 3, 4), fenced("b", 5, 6, 8)]);
    breaks(model, RISES, &[fenced("a", 1, 2, 8), released("a", 3, 4), fenced("b", 5, 6, 7)]);
    // Asked for before the other was answered, and yet held after it.
    breaks(model, RISES, &[fenced("a", 1, 2, 8), released("a", 3, 4), fenced("b", 1, 6, 7)]);
    breaks(
        model,
        "a fence is given once",
        &[fenced("a", 1, 2, 8), released("a", 3, 4), fenced("b", 5, 6, 8)],
    );
    breaks(model, "each hold has a fence", &[got("a", 1, 2)]);
}

#[test]
fn a_fence_stays_when_its_holder_asks_again() {
    let model = Model::REENTRANT_FENCED_MUTEX;
    let history = |again, next| {
        [
            fenced("a", 1, 2, 7),
            fenced("a", 3, 4, again),
            released("a", 5, 6),
            fenced("b", 7, 8, next),
        ]
    };
    assert_eq!(passes(model, &history(7, 9)).repeated, 1);
    breaks(model, "a fence is the same when asked again", &history(8, 9));
    breaks(model, RISES, &history(7, 6));
}

#[test]
fn permits_are_never_more_than_there_are() {
    let model = Model::semaphore(3);
    let held = [permits("a", 2, 1, 2), permits("b", 1, 3, 4)];
    assert_eq!(passes(model, &held).together, 2);
    let mut history = held.to_vec();
    history.push(permits("c", 1, 5, 6));
    breaks(model, TOGETHER, &history);
    history.push(released("b", 5, 7));
    passes(model, &history);
    // One who asks again has no more than before.
    history.push(permits("a", 2, 8, 9));
    passes(model, &history);
    history.push(call("d", Action::Acquire(Share::Permits(2)), 8, Outcome::Unknown));
    passes(model, &history);
    history.push(released("d", 10, 11));
    breaks(model, RELEASED, &history);
}

#[test]
fn readers_share_and_writers_do_not() {
    let model = Model::READ_WRITE;
    let readers = [read("a", 1, 2, 11), read("b", 1, 3, 10)];
    assert_eq!(passes(model, &readers).together, 2);
    let mut history = readers.to_vec();
    history.push(fenced("w", 4, 5, 12));
    breaks(model, TOGETHER, &history);
    history.extend([released("a", 4, 6), released("b", 4, 6)]);
    passes(model, &history);
    history[2] = fenced("w", 1, 5, 9);
    breaks(model, RISES, &history);
}

#[test]
fn what_may_run_out_is_certain_as_long_as_it_is_confirmed() {
    let model = Model { lasts: false, ..Model::MUTEX };
    passes(model, &[got("a", 1, 2), got("b", 3, 4)]);
    passes(model, &[got("a", 1, 2), confirmed("a", 3, 4), got("b", 3, 4)]);
    breaks(
        model,
        TOGETHER,
        &[got("a", 1, 2), confirmed("a", 5, 6), got("b", 3, 4), confirmed("b", 6, 7)],
    );
    passes(model, &[got("a", 1, 2), denied("a", 3, 4), got("b", 5, 6)]);
    breaks(
        model,
        "what has ended stays ended",
        &[got("a", 1, 2), denied("a", 3, 4), confirmed("a", 5, 6)],
    );
}

#[test]
fn what_lasts_is_not_lost() {
    let lost = "what is held lasts until it is released";
    breaks(Model::MUTEX, lost, &[got("a", 1, 2), denied("a", 3, 4)]);
    breaks(Model::MUTEX, lost, &[got("a", 1, 2), release_refused("a", 3, 4)]);
    passes(Model::MUTEX, &[got("a", 1, 2), release_lost("a", 3), denied("a", 4, 5)]);
}
