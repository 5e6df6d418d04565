//! The oracle finds each kind of broken promise, and lets a sound history pass.

use super::{Claim, Event, Kind, Summary, judge, records::RecordEvent};

fn sent(call: &str, resource: &str) -> Event {
    Event::AcquireSent { call: call.into(), claims: vec![Claim::exclusive(resource)] }
}

fn sent_shared(call: &str, resource: &str) -> Event {
    Event::AcquireSent { call: call.into(), claims: vec![Claim::shared(resource)] }
}

/// The lease of call `c` is named `c'`.
fn granted(call: &str, token: u64) -> Event {
    let lease_id = lease(call);
    Event::Granted { call: call.into(), lease_id, token, replayed: false }
}

fn replayed(call: &str, token: u64) -> Event {
    Event::Granted { call: call.into(), lease_id: lease(call), token, replayed: true }
}

fn refused(call: &str, reason: &str) -> Event {
    Event::AcquireRefused { call: call.into(), reason: reason.into() }
}

fn renewed(call: &str) -> Event {
    Event::RenewAnswered { lease_id: lease(call), refused: None }
}

fn renew_refused(call: &str) -> Event {
    Event::RenewAnswered { lease_id: lease(call), refused: Some("LEASE_LOST".into()) }
}

fn release_sent(call: &str) -> Event {
    Event::ReleaseSent { lease_id: lease(call) }
}

fn released(call: &str) -> Event {
    Event::ReleaseAnswered { lease_id: lease(call), refused: None }
}

fn lease(call: &str) -> String {
    format!("{call}'")
}

#[track_caller]
fn breaks(promise: &str, history: &[Event]) {
    let broken = judge(history).unwrap_err();
    assert_eq!(broken.promise, promise);
    assert!(broken.to_string().contains(promise));
    assert!(!broken.evidence.is_empty(), "{broken}");
}

#[test]
fn a_sound_history_passes() {
    let history = [
        sent("a", "r"),
        granted("a", 3),
        sent("b", "r"),
        renewed("a"),
        Event::Killed,
        Event::Restarted,
        replayed("a", 3),
        Event::Looked { lease_id: lease("a"), found: Ok(3) },
        release_sent("a"),
        granted("b", 5),
        released("a"),
        released("a"),
        refused("a", "LEASE_LOST"),
        renew_refused("a"),
        sent("c", "r"),
        refused("c", "HELD"),
        Event::AbandonSent { call: "c".into() },
        Event::Abandoned { call: "c".into() },
        refused("c", "CANCELLED_WAIT"),
        Event::Live { tokens: vec![5] },
    ];
    let summary = Summary { grants: 2, repeated: 1, releases: 2, kills: 1, ..Summary::default() };
    assert_eq!(judge(&history), Ok(summary));
}

#[test]
fn shared_leases_may_be_told_in_any_order() {
    let history = [
        sent_shared("a", "r"),
        sent_shared("b", "r"),
        granted("b", 6),
        granted("a", 5),
        Event::Live { tokens: vec![5, 6] },
    ];
    judge(&history).unwrap();
}

#[test]
fn two_holders_are_found() {
    let promise = "nobody else has what a lease can't share";
    breaks(promise, &[sent("a", "r"), sent("b", "r"), granted("a", 1), granted("b", 2)]);
    breaks(promise, &[sent_shared("a", "r"), sent("b", "r"), granted("a", 1), granted("b", 2)]);
    breaks(promise, &[sent("a", "r"), sent_shared("b", "r"), granted("a", 1), granted("b", 2)]);
    // The release of "a" is sent too late to excuse it.
    breaks(
        promise,
        &[sent("a", "r"), sent("b", "r"), granted("a", 1), granted("b", 2), release_sent("a")],
    );
}

#[test]
fn a_token_that_is_reused_or_lower_is_found() {
    let over = [sent("a", "r"), granted("a", 7), release_sent("a"), released("a")];
    let then = |token| [&over[..], &[sent("b", "r"), granted("b", token)]].concat();
    breaks("a token is used once", &then(7));
    breaks("a token is higher than every one granted before", &then(6));
    let together =
        [sent("a", "r"), sent("b", "r"), granted("a", 7), release_sent("a"), granted("b", 6)];
    breaks("tokens of a resource rise", &together);
    let elsewhere = [&over[..], &[sent("b", "other"), granted("b", 6)]].concat();
    breaks("a token is higher than every one granted before", &elsewhere);
}

#[test]
fn a_lost_grant_is_found() {
    let held = [sent("a", "r"), granted("a", 1), Event::Killed];
    let then = |event: Event| [&held[..], &[event]].concat();
    let lost = "an acknowledged grant is never lost";
    breaks(lost, &then(renew_refused("a")));
    breaks(lost, &then(Event::Looked { lease_id: lease("a"), found: Err("NOT_FOUND".into()) }));
    breaks(lost, &then(Event::Live { tokens: vec![] }));
    breaks("an acknowledged grant is told again", &then(refused("a", "LEASE_LOST")));
    breaks("an acknowledged grant is told again", &then(refused("a", "HELD")));
    let refused = Some("NOT_FOUND".to_owned());
    breaks(
        "an acknowledged grant can be released, again and again",
        &then(Event::ReleaseAnswered { lease_id: lease("a"), refused }),
    );
}

#[test]
fn a_second_effect_is_found() {
    let other = |token| Event::Granted {
        call: "a".into(),
        lease_id: "another".into(),
        token,
        replayed: true,
    };
    let one = "a repeated call has one effect";
    breaks(one, &[sent("a", "r"), granted("a", 1), other(1)]);
    breaks(one, &[sent("a", "r"), granted("a", 1), replayed("a", 2)]);
    let promise = "no lease is granted that nobody was told of";
    breaks(promise, &[sent("a", "r"), granted("a", 1), Event::Live { tokens: vec![1, 2] }]);
}

#[test]
fn a_lost_release_is_found() {
    let over = [sent("a", "r"), granted("a", 1), release_sent("a"), released("a")];
    let then = |event: Event| [&over[..], &[event]].concat();
    breaks("a released lease stays released", &then(renewed("a")));
    breaks("a released lease stays released", &then(Event::Live { tokens: vec![1] }));
    breaks("a replayed grant that has ended is refused", &then(replayed("a", 1)));
}

#[test]
fn a_lost_abandon_is_found() {
    let history = [
        sent("a", "r"),
        Event::AbandonSent { call: "a".into() },
        Event::Abandoned { call: "a".into() },
        granted("a", 1),
    ];
    breaks("an abandoned call is never granted", &history);
    breaks(
        "a call is cancelled only when it was abandoned",
        &[sent("a", "r"), refused("a", "CANCELLED_WAIT")],
    );
}

fn sent_for(call: &str, claims: &[Claim]) -> Event {
    Event::AcquireSent { call: call.into(), claims: claims.to_vec() }
}

fn permits(count: u32) -> Claim {
    Claim { kind: Kind::Permits { count, limit: 3 }, ..Claim::exclusive("pool") }
}

fn subtree(resource: &str) -> Claim {
    Claim { subtree: true, ..Claim::exclusive(resource) }
}

#[test]
fn more_permits_than_there_are_are_found() {
    let fits = [
        sent_for("a", &[permits(2)]),
        granted("a", 3),
        sent_for("b", &[permits(1)]),
        granted("b", 5),
    ];
    assert!(judge(&fits).is_ok());
    let [a, got, ..] = fits;
    let promise = "no more permits are held than there are";
    breaks(promise, &[a, got, sent_for("b", &[permits(2)]), granted("b", 5)]);
}

#[test]
fn a_lease_below_a_held_subtree_is_found() {
    let promise = "nobody else has what a lease can't share";
    let below =
        [sent_for("a", &[subtree("x")]), granted("a", 3), sent("b", "x/y"), granted("b", 5)];
    breaks(promise, &below);
    let above =
        [sent("b", "x/y"), granted("b", 3), sent_for("a", &[subtree("x")]), granted("a", 5)];
    breaks(promise, &above);
    let beside =
        [sent_for("a", &[subtree("x")]), granted("a", 3), sent("b", "xy"), granted("b", 5)];
    assert!(judge(&beside).is_ok());
}

#[test]
fn one_of_several_targets_that_clashes_is_found() {
    let both = [Claim::exclusive("r"), Claim::shared("s")];
    let history = [sent_for("a", &both), granted("a", 3), sent("b", "s"), granted("b", 5)];
    breaks("nobody else has what a lease can't share", &history);
}

fn transferred(call: &str, new: &str, token: u64, replayed: bool) -> Event {
    Event::Transferred { lease_id: lease(call), new_id: new.into(), token, replayed }
}

#[test]
fn a_transfer_moves_the_lease_and_raises_the_token() {
    let begin = [sent("a", "r"), granted("a", 3), Event::TransferSent { lease_id: lease("a") }];
    let done = |last: &[Event]| [&begin[..], last].concat();
    let sound = done(&[
        transferred("a", "n", 5, false),
        transferred("a", "n", 5, true),
        renew_refused("a"),
        Event::RenewAnswered { lease_id: "n".into(), refused: None },
        Event::Live { tokens: vec![5] },
    ]);
    assert_eq!(judge(&sound).unwrap().transfers, 1);
    breaks("a transfer raises the token", &done(&[transferred("a", "n", 2, false)]));
    let twice = [transferred("a", "n", 5, false), transferred("a", "m", 6, true)];
    breaks("a repeated call has one effect", &done(&twice));
    let both = [transferred("a", "n", 5, false), renewed("a")];
    breaks("a released lease stays released", &done(&both));
    let lost = [transferred("a", "n", 5, false), Event::Live { tokens: vec![] }];
    breaks("an acknowledged grant is never lost", &done(&lost));
}

// === records ===

fn added(call: &str, delta: i64, value: i64, version: u64) -> Event {
    Event::Record(RecordEvent::Added {
        call: call.into(),
        key: "sum".into(),
        delta,
        value,
        version,
        replayed: false,
    })
}

fn put(call: &str, value: &str, version: u64) -> Event {
    let (call, key, value) = (call.into(), "own".into(), value.into());
    Event::Record(RecordEvent::Put { call, key, value, version, replayed: false })
}

fn deleted(call: &str, version: Option<u64>) -> Event {
    let (call, key) = (call.into(), "own".into());
    Event::Record(RecordEvent::Deleted { call, key, version, replayed: false })
}

fn got(found: Option<(&str, u64)>) -> Event {
    let found = found.map(|(value, version)| (value.to_owned(), version));
    Event::Record(RecordEvent::Got { key: "own".into(), found })
}

fn counter(found: Option<(i64, u64)>) -> Event {
    Event::Record(RecordEvent::Counter { key: "sum".into(), found })
}

#[test]
fn a_sound_history_of_records_passes() {
    let history = [
        put("a", "x", 3),
        got(Some(("x", 3))),
        // Told out of order, as answers come.
        added("c", 2, 3, 6),
        added("b", 1, 1, 5),
        deleted("d", Some(3)),
        got(None),
        put("e", "y", 9),
        deleted("f", Some(9)),
        deleted("g", None),
        Event::Record(RecordEvent::Summed { total: 0 }),
        counter(Some((3, 6))),
    ];
    assert_eq!(judge(&history).unwrap().writes, 7);
}

#[test]
fn a_write_that_is_lost_or_found_again_is_found_out() {
    breaks("a read finds what was written last", &[put("a", "x", 3), got(None)]);
    breaks(
        "a read finds what was written last",
        &[put("a", "x", 3), put("b", "y", 4), got(Some(("x", 3)))],
    );
    breaks(
        "a read finds what was written last",
        &[put("a", "x", 3), deleted("b", Some(3)), got(Some(("x", 3)))],
    );
    breaks("what is deleted is what was written last", &[put("a", "x", 3), deleted("b", None)]);
}

#[test]
fn sums_that_are_not_exact_are_found_out() {
    let promise = "each acknowledged addition is in the counter once, and no other is";
    breaks(promise, &[added("a", 1, 1, 3), added("b", 1, 1, 4), counter(Some((1, 4)))]);
    breaks(promise, &[added("a", 1, 1, 3), added("b", 1, 3, 5), counter(Some((3, 5)))]);
    let promise = "a counter is the sum of what was added";
    breaks(promise, &[added("a", 1, 1, 3), counter(None)]);
    breaks(promise, &[added("a", 1, 1, 3), counter(Some((2, 4)))]);
}

#[test]
fn writes_done_twice_and_versions_used_twice_are_found_out() {
    breaks("a repeated write has one effect", &[put("a", "x", 3), put("a", "x", 4)]);
    breaks("a repeated write says that it was replayed", &[put("a", "x", 3), put("a", "x", 3)]);
    breaks("a version is used once", &[put("a", "x", 3), added("b", 1, 1, 3)]);
    let fell = [put("a", "x", 4), deleted("b", Some(4)), put("c", "x", 3)];
    breaks("versions of a record rise, over deletes too", &fell);
    breaks("nobody sees half of a transaction", &[Event::Record(RecordEvent::Summed { total: 5 })]);
}
