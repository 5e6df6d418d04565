//! The checker of histories and its model of a record: histories made by hand that are right or
//! wrong, and random ones that a second model judges, which tries every order.

use crate::{
    linear::{
        file::{Lines, judge_text},
        record::{Answer, Expect, Operation, RecordCall, Value, judge},
    },
    random::Random,
};

// === histories made by hand ===

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn put(value: &str, expect: Expect) -> Operation {
    Operation::Put { value: text(value), expect }
}

fn add(delta: i64) -> Operation {
    Operation::Increment { delta, min: None, max: None }
}

fn delete() -> Operation {
    Operation::Delete { expect: Expect::Any }
}

fn found(value: &str, version: u64, created: u64) -> Answer {
    Answer::Found { value: Some(text(value)), version, created: Some(created) }
}

fn written(version: u64, created: u64) -> Answer {
    Answer::Written { version, created: Some(created), value: None }
}

fn counted(value: i64, version: u64, created: u64) -> Answer {
    Answer::Written { version, created: Some(created), value: Some(Value::Counter(value)) }
}

/// Asked and answered at these times.
fn at(sent: u64, answered: u64, operation: Operation, answer: Answer) -> RecordCall {
    RecordCall { operation, sent, answer: Some((answered, answer)) }
}

/// Asked at this time, and never answered.
fn lost(sent: u64, operation: Operation) -> RecordCall {
    RecordCall { operation, sent, answer: None }
}

/// Writes a history down, and judges what was written too.
fn judged(calls: &[RecordCall]) -> Result<(), String> {
    let direct = judge(calls).map_err(|broken| broken.to_string());
    let lines = Lines::default();
    let mut numbers = Vec::new();
    for (slot, call) in (0..).zip(calls) {
        numbers.push(lines.invoke(slot, call.sent, "a/b", &call.operation));
    }
    for ((slot, call), number) in (0..).zip(calls).zip(numbers) {
        let (time, answer) = match &call.answer {
            Some((at, answer)) => (*at, Some(answer)),
            None => (call.sent, None),
        };
        let result = match answer {
            None => "UNAVAILABLE",
            Some(Answer::NotFound) => "NOT_FOUND",
            Some(Answer::Mismatch { .. }) => "VERSION_MISMATCH",
            Some(Answer::NotACounter) => "NOT_A_COUNTER",
            Some(Answer::OutOfBounds { .. }) => "OUT_OF_BOUNDS",
            Some(Answer::Refused) => "OVERLOADED",
            Some(Answer::Found { .. } | Answer::Written { .. } | Answer::Deleted { .. }) => "OK",
        };
        lines.returned((slot, number, time), "a/b", &call.operation, answer, result);
    }
    let read = judge_text(&lines.text());
    assert_eq!(read.is_ok(), direct.is_ok(), "{direct:?} {}", lines.text());
    direct
}

#[track_caller]
fn right(calls: &[RecordCall]) {
    judged(calls).unwrap_or_else(|broken| panic!("{broken}"));
}

#[track_caller]
fn wrong(calls: &[RecordCall]) -> String {
    judged(calls).expect_err("this can't be")
}

#[test]
fn what_one_client_does_after_the_other_is_right() {
    use Operation::Get;
    let version = |version| Expect::Version(version);
    right(&[
        at(0, 1, Get, Answer::NotFound),
        at(2, 3, put("a", Expect::Absent), written(5, 5)),
        at(4, 5, Get, found("a", 5, 5)),
        at(6, 7, put("b", version(5)), written(8, 5)),
        at(8, 9, put("c", version(5)), Answer::Mismatch { version: 8, value: Some(text("b")) }),
        at(10, 11, put("c", Expect::Absent), Answer::Mismatch { version: 8, value: None }),
        at(12, 13, add(1), Answer::NotACounter),
        at(14, 15, Operation::Delete { expect: version(8) }, Answer::Deleted { version: 8 }),
        at(16, 17, delete(), Answer::Deleted { version: 0 }),
        at(18, 19, put("c", version(8)), Answer::Mismatch { version: 0, value: None }),
        at(20, 21, add(2), counted(2, 12, 12)),
        at(22, 23, add(-5), counted(-3, 14, 12)),
        at(24, 25, put("c", Expect::Exists), Answer::Refused),
        at(
            26,
            27,
            Operation::Increment { delta: -1, min: Some(-3), max: None },
            Answer::OutOfBounds { value: -3 },
        ),
    ]);
}

#[test]
fn a_stale_read_is_wrong() {
    let calls = |sent| {
        [
            at(0, 1, put("a", Expect::Any), written(1, 1)),
            at(2, 5, put("b", Expect::Any), written(2, 1)),
            at(sent, sent + 1, Operation::Get, found("a", 1, 1)),
        ]
    };
    right(&calls(3));
    right(&calls(5));
    let broken = wrong(&calls(6));
    assert!(broken.contains("Known"), "{broken}");
}

#[test]
fn reads_do_not_go_back() {
    let calls = |second| {
        [
            at(0, 1, put("a", Expect::Any), written(1, 1)),
            at(2, 9, put("b", Expect::Any), written(2, 1)),
            at(3, 4, Operation::Get, found("b", 2, 1)),
            at(5, 6, Operation::Get, second),
        ]
    };
    right(&calls(found("b", 2, 1)));
    wrong(&calls(found("a", 1, 1)));
}

#[test]
fn a_lost_update_is_wrong() {
    let calls = |second| {
        [
            at(0, 1, put("a", Expect::Absent), written(1, 1)),
            at(2, 5, put("b", Expect::Version(1)), written(2, 1)),
            at(2, 5, put("c", Expect::Version(1)), second),
        ]
    };
    right(&calls(Answer::Mismatch { version: 2, value: Some(text("b")) }));
    wrong(&calls(written(3, 1)));
    wrong(&calls(Answer::Mismatch { version: 1, value: Some(text("a")) }));
}

#[test]
fn two_that_create_are_wrong() {
    wrong(&[
        at(0, 5, put("a", Expect::Absent), written(1, 1)),
        at(0, 5, put("b", Expect::Absent), written(2, 1)),
    ]);
}

#[test]
fn a_double_or_missing_increment_is_wrong() {
    let calls = |is| [at(0, 1, add(1), counted(1, 1, 1)), at(2, 3, add(1), counted(is, 2, 1))];
    right(&calls(2));
    wrong(&calls(3));
    wrong(&calls(1));
    // One that was never answered counts once, or not.
    for (is, ok) in [(2, true), (3, true), (4, false)] {
        let calls = [calls(is)[0].clone(), lost(1, add(1)), at(2, 3, add(1), counted(is, 9, 1))];
        assert_eq!(judged(&calls).is_ok(), ok, "{is}");
    }
}

#[test]
fn a_value_that_nobody_wrote_is_wrong() {
    wrong(&[at(0, 1, Operation::Get, found("a", 1, 1))]);
    wrong(&[lost(0, put("a", Expect::Any)), at(1, 2, Operation::Get, found("b", 1, 1))]);
    // Nor is it read before it is sent.
    wrong(&[
        at(0, 1, Operation::Get, found("a", 1, 1)),
        at(2, 3, put("a", Expect::Any), written(1, 1)),
    ]);
}

#[test]
fn a_version_that_was_used_before_the_delete_is_wrong() {
    let calls = |version| {
        [
            at(0, 1, put("a", Expect::Any), written(5, 5)),
            at(2, 3, delete(), Answer::Deleted { version: 5 }),
            at(4, 5, put("a", Expect::Any), written(version, version)),
        ]
    };
    right(&calls(6));
    wrong(&calls(5));
    wrong(&calls(4));
    wrong(&[calls(6)[0].clone(), at(2, 3, delete(), Answer::Deleted { version: 4 })]);
    wrong(&[calls(6)[0].clone(), at(2, 3, delete(), Answer::Deleted { version: 0 })]);
    // Two writes with one version.
    wrong(&[calls(6)[0].clone(), at(2, 3, put("a", Expect::Any), written(5, 5))]);
}

#[test]
fn the_version_of_the_creation_stays_until_the_delete() {
    let calls = |created| {
        [
            at(0, 1, put("a", Expect::Any), written(1, 1)),
            at(2, 3, put("b", Expect::Any), written(2, created)),
        ]
    };
    right(&calls(1));
    wrong(&calls(2));
    let [first, _] = calls(1);
    let anew = |created| {
        let again = at(4, 5, put("b", Expect::Any), written(7, created));
        [first.clone(), at(2, 3, delete(), Answer::Deleted { version: 1 }), again]
    };
    right(&anew(7));
    wrong(&anew(1));
    // Made by a write without an answer: between the two that are known, or by the last.
    for (created, ok) in [(1, true), (3, false), (6, true), (7, true), (8, false)] {
        let calls = [
            first.clone(),
            lost(2, delete()),
            lost(2, put("c", Expect::Absent)),
            at(4, 5, put("b", Expect::Any), written(7, created)),
            at(6, 7, Operation::Get, found("b", 7, created)),
        ];
        // At 3 it would have been there.
        let seen = at(2, 3, Operation::Get, found("a", 1, 1));
        assert_eq!(judged(&calls).is_ok(), created != 8, "{created}");
        let later = [calls[0].clone(), seen, lost(4, delete()), calls[3].clone()];
        assert_eq!(judged(&later).is_ok(), created == 1 || created == 7, "{created} {ok}");
    }
}

#[test]
fn an_unknown_put_may_show_up_late_or_never() {
    let before = at(0, 1, put("a", Expect::Any), written(1, 1));
    let unknown = lost(2, put("b", Expect::Any));
    let old = |sent| at(sent, sent + 1, Operation::Get, found("a", 1, 1));
    let new = |sent, version| at(sent, sent + 1, Operation::Get, found("b", version, 1));
    right(&[before.clone(), unknown.clone(), old(3), old(5), old(1_000)]);
    right(&[before.clone(), unknown.clone(), old(3), new(5, 7), new(1_000, 7)]);
    // It shows up and vanishes.
    wrong(&[before.clone(), unknown.clone(), new(3, 7), old(5)]);
    // It shows up twice, as two writes.
    wrong(&[before.clone(), unknown.clone(), new(3, 7), new(5, 8)]);
    let over = at(5, 6, put("c", Expect::Any), written(8, 1));
    wrong(&[before.clone(), unknown.clone(), new(3, 7), over.clone(), new(7, 9)]);
    // Two of them can.
    right(&[before.clone(), unknown.clone(), unknown.clone(), new(3, 7), over, new(7, 9)]);
    // It shows up before it was sent.
    wrong(&[before.clone(), new(2, 7), lost(4, put("b", Expect::Any))]);
    // Its version is old.
    wrong(&[before, unknown, new(3, 1)]);
}

#[test]
fn an_unknown_write_that_expects_something_takes_effect_only_then() {
    let before = at(0, 1, put("a", Expect::Any), written(1, 1));
    let new = at(4, 5, Operation::Get, found("b", 7, 1));
    for (expect, ok) in [
        (Expect::Any, true),
        (Expect::Exists, true),
        (Expect::Version(1), true),
        (Expect::Version(2), false),
        (Expect::Absent, false),
    ] {
        let calls = [before.clone(), lost(2, put("b", expect)), new.clone()];
        assert_eq!(judged(&calls).is_ok(), ok, "{expect:?}");
    }
    // A delete that is not known to have been done shows up late.
    let gone = at(6, 7, Operation::Get, Answer::NotFound);
    right(&[before.clone(), lost(2, delete()), gone.clone()]);
    wrong(&[before.clone(), lost(8, delete()), gone.clone()]);
    let other = Operation::Delete { expect: Expect::Version(9) };
    wrong(&[before, lost(2, other), gone]);
}

#[test]
fn a_refusal_tells_what_there_is() {
    let before = at(0, 1, put("a", Expect::Any), written(1, 1));
    let refused = |version, value| {
        at(4, 5, put("c", Expect::Version(3)), Answer::Mismatch { version, value })
    };
    right(&[before.clone(), refused(1, Some(text("a")))]);
    right(&[before.clone(), refused(1, None)]);
    wrong(&[before.clone(), refused(1, Some(text("b")))]);
    wrong(&[before.clone(), refused(2, None)]);
    wrong(&[before.clone(), refused(0, None)]);
    wrong(&[before.clone(), at(2, 3, put("b", Expect::Any), written(3, 1)), refused(3, None)]);
    // What nobody was told of, seen for the first time in a refusal.
    let unknown = lost(2, put("b", Expect::Any));
    let seen = refused(7, Some(text("b")));
    right(&[before.clone(), unknown.clone(), seen.clone()]);
    let now = at(6, 7, Operation::Get, found("a", 1, 1));
    wrong(&[before.clone(), unknown, seen, now]);
    wrong(&[
        before,
        at(2, 3, put("c", Expect::Exists), Answer::Mismatch { version: 0, value: None }),
    ]);
}

#[test]
fn the_shortest_beginning_that_is_wrong_is_told() {
    let calls = [
        at(0, 1, put("a", Expect::Any), written(1, 1)),
        at(2, 20, put("b", Expect::Any), written(9, 1)),
        at(3, 4, Operation::Get, found("c", 2, 1)),
        at(5, 6, Operation::Get, found("d", 3, 1)),
    ];
    let broken = judge(&calls).unwrap_err();
    assert_eq!(broken.prefix, calls[..3]);
}

#[test]
fn a_long_history_is_judged_in_time() {
    const CALLS: u64 = 10_000;
    let mut calls = Vec::new();
    for number in 1..=CALLS {
        let sent = number * 10;
        // Three overlap, and some are lost.
        let value = if number % 2 == 0 { "a" } else { "b" };
        calls.push(at(sent, sent + 25, put(value, Expect::Any), written(number * 3, 3)));
        if number % 250 == 0 {
            calls.push(lost(sent, put("c", Expect::Version(number))));
            calls.push(lost(sent, put("d", Expect::Any)));
        }
    }
    right(&calls);
    calls.push(at(1, 2, Operation::Get, found("a", 6, 3)));
    wrong(&calls);
}

/// The example of the page, and whatever file somebody wants to be judged.
#[test]
fn a_history_file_is_judged() {
    let page = include_str!("../../docs/history-format.md");
    let (_, example) = page.split_once("```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let summary = judge_text(example).unwrap_or_else(|condemned| panic!("{condemned}"));
    assert_eq!((summary.records, summary.calls, summary.unknown), (1, 3, 1), "{summary:?}");
    let later = example.lines().last().unwrap().replace("final", "draft");
    let again = r#"{"event":"invoke","call":3,"slot":1,"at_us":2500,"op":"get","resource":"plan"}"#;
    let stale = later.replace("2400", "2600").replace("1754000000000012", "1754000000000007");
    judge_text(&format!("{example}{again}\n{stale}\n")).unwrap_err();
    judge_text(&example.replace(r#""expect":"1754000000000007""#, r#""expect":"1""#)).unwrap_err();

    if let Some(path) = std::env::var_os("SINGLETRACK_HISTORY") {
        let text = std::fs::read_to_string(path).expect("SINGLETRACK_HISTORY is a file");
        judge_text(&text).unwrap_or_else(|condemned| panic!("{condemned}"));
    }
}

// === random ones ===

/// What there is, with every version known: the second model. Each write that nobody was told of
/// tries all versions that matter.
#[derive(Clone, Default, PartialEq)]
struct Plain {
    floor: u64,
    record: Option<(Value, u64, u64)>,
}

impl Plain {
    /// What an operation does and answers, if its version would be this one.
    fn apply(&self, operation: &Operation, version: u64) -> (Self, Answer) {
        let mismatch = || Answer::Mismatch {
            version: self.record.as_ref().map_or(0, |record| record.1),
            value: self.record.as_ref().map(|record| record.0.clone()),
        };
        let write = |value: &Value| {
            let created = self.record.as_ref().map_or(version, |record| record.2);
            let record = Some((value.clone(), version, created));
            (Self { floor: version, record }, created)
        };
        match operation {
            Operation::Get => match self.record.clone() {
                Some((value, version, created)) => {
                    let (value, created) = (Some(value), Some(created));
                    (self.clone(), Answer::Found { value, version, created })
                }
                None => (self.clone(), Answer::NotFound),
            },
            Operation::Put { expect, .. } | Operation::Delete { expect }
                if !self.meets(*expect) =>
            {
                (self.clone(), mismatch())
            }
            Operation::Put { value, .. } => {
                let (state, created) = write(value);
                (state, Answer::Written { version, created: Some(created), value: None })
            }
            Operation::Delete { .. } => {
                let version = self.record.as_ref().map_or(0, |record| record.1);
                (Self { record: None, ..*self }, Answer::Deleted { version })
            }
            Operation::Increment { delta, min, max } => {
                let value = match &self.record {
                    None => 0,
                    Some((Value::Counter(value), ..)) => *value,
                    Some((Value::Text(_) | Value::Data(_) | Value::Digest(_), ..)) => {
                        return (self.clone(), Answer::NotACounter);
                    }
                };
                let sum = value + delta;
                if min.is_some_and(|min| sum < min) || max.is_some_and(|max| sum > max) {
                    return (self.clone(), Answer::OutOfBounds { value });
                }
                let (state, created) = write(&Value::Counter(sum));
                let (value, created) = (Some(Value::Counter(sum)), Some(created));
                (state, Answer::Written { version, created, value })
            }
        }
    }

    fn meets(&self, expect: Expect) -> bool {
        match expect {
            Expect::Any => true,
            Expect::Absent => self.record.is_none(),
            Expect::Exists => self.record.is_some(),
            Expect::Version(version) => self.record.as_ref().is_some_and(|it| it.1 == version),
        }
    }

    /// Is there an order of these calls, one by one, that does what was answered?
    fn explains(&self, calls: &[RecordCall], versions: &[u64]) -> bool {
        let Some(end) = calls.iter().filter_map(|call| Some(call.answer.as_ref()?.0)).min() else {
            return true;
        };
        (0..calls.len()).filter(|next| calls[*next].sent <= end).any(|next| {
            let mut rest = calls.to_vec();
            let RecordCall { operation, answer, .. } = rest.remove(next);
            let tries = versions.iter().copied().filter(|version| *version > self.floor);
            tries.chain([self.floor + 1]).any(|version| {
                let (state, answers) = self.apply(&operation, version);
                match &answer {
                    Some((_, answer)) if !tells(answer, &answers) => false,
                    // A call without effect that nobody knows of leads nowhere new.
                    None if state == *self => false,
                    Some(_) | None => state.explains(&rest, versions),
                }
            })
        })
    }
}

/// An answer is this one, or leaves out what a record holds.
fn tells(told: &Answer, whole: &Answer) -> bool {
    let mut less = whole.clone();
    if let (Answer::Mismatch { value: None, .. }, Answer::Mismatch { value, .. }) =
        (told, &mut less)
    {
        *value = None;
    }
    if let (
        Answer::Found { value: told, created: made, .. }
        | Answer::Written { value: told, created: made, .. },
        Answer::Found { value, created, .. } | Answer::Written { value, created, .. },
    ) = (told, &mut less)
    {
        *value = value.take().filter(|_| told.is_some());
        *created = created.filter(|_| made.is_some());
    }
    *told == less
}

fn versions(calls: &[RecordCall]) -> Vec<u64> {
    let mut versions = Vec::new();
    for call in calls {
        match &call.answer {
            Some((
                _,
                Answer::Found { version, created, .. } | Answer::Written { version, created, .. },
            )) => {
                versions.extend([Some(*version), *created].into_iter().flatten());
            }
            Some((_, Answer::Deleted { version } | Answer::Mismatch { version, .. })) => {
                versions.push(*version);
            }
            Some((
                _,
                Answer::NotFound
                | Answer::NotACounter
                | Answer::OutOfBounds { .. }
                | Answer::Refused,
            ))
            | None => {}
        }
        if let Operation::Put { expect, .. } | Operation::Delete { expect } = &call.operation
            && let Expect::Version(version) = expect
        {
            versions.push(*version);
        }
    }
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// Few clients at a server that does as it should, some of which hear nothing.
fn history(random: &mut Random) -> Vec<RecordCall> {
    const VERSIONS: u64 = 10;
    let (mut state, mut calls, mut now) = (Plain::default(), Vec::<RecordCall>::new(), 0);
    // What is under way: the call, and its answer once it has taken effect.
    let mut open: Vec<(usize, Option<Answer>)> = Vec::new();
    for _ in 0..random.within(8..28) {
        now += 1;
        if open.len() < 3 && calls.len() < 7 && random.percent(50) {
            let operation = operation(random, state.floor);
            open.push((calls.len(), None));
            calls.push(RecordCall { operation, sent: now, answer: None });
            continue;
        }
        if open.is_empty() {
            continue;
        }
        let chosen = usize::try_from(random.within(0..open.len() as u64)).unwrap();
        let (call, answer) = &mut open[chosen];
        if let Some(answer) = answer.take() {
            calls[*call].answer = Some((now, answer));
            open.remove(chosen);
        } else {
            let (next, told) = state.apply(&calls[*call].operation, state.floor + VERSIONS);
            state = next;
            // Either it is told, or nobody hears of it.
            if random.percent(75) { *answer = Some(told) } else { drop(open.remove(chosen)) }
        }
    }
    calls
}

fn operation(random: &mut Random, floor: u64) -> Operation {
    let value = match random.within(0..3) {
        0 => Value::Counter(0),
        1 => text("a"),
        _ => text("b"),
    };
    let expect = match random.within(0..8) {
        0..4 => Expect::Any,
        4 => Expect::Absent,
        5 => Expect::Exists,
        6 => Expect::Version(floor.max(1)),
        _ => Expect::Version(floor + 10),
    };
    match random.within(0..10) {
        0..3 => Operation::Get,
        3..6 => Operation::Put { value, expect },
        6..8 => {
            let delta = if random.percent(70) { 1 } else { -1 };
            let max = random.percent(30).then_some(1);
            Operation::Increment { delta, min: None, max }
        }
        _ => Operation::Delete { expect },
    }
}

/// Makes an answer say something else, or the calls overlap less.
fn spoil(random: &mut Random, calls: &mut [RecordCall]) {
    let answered: Vec<usize> =
        (0..calls.len()).filter(|index| calls[*index].answer.is_some()).collect();
    if answered.is_empty() {
        return;
    }
    let mut any = || answered[usize::try_from(random.within(0..answered.len() as u64)).unwrap()];
    let (one, other) = (any(), any());
    if random.percent(40) {
        // Both answers, or neither, fit their questions only by chance.
        let answer = calls[other].answer.clone().map(|(_, answer)| answer);
        let told = calls[one].answer.as_mut().unwrap();
        told.1 = answer.unwrap();
        return;
    }
    let call = &mut calls[one];
    let (at, answer) = call.answer.as_mut().unwrap();
    match answer {
        _ if random.percent(20) => {
            *at = call.sent;
        }
        Answer::Found { version, created, value } => match random.within(0..5) {
            0 => *version += 10,
            1 => *created = created.map(|created| (created + 10).min(*version)),
            2 => *value = Some(text("b")),
            3 => *created = None,
            _ => *value = None,
        },
        Answer::Written { version, created, value } => match random.within(0..5) {
            0 => *version += 10,
            1 => *created = Some(*version),
            2 => *value = value.as_ref().map(|_| Value::Counter(1)),
            3 => *created = None,
            _ => *value = None,
        },
        Answer::Deleted { version } | Answer::Mismatch { version, .. } => *version += 10,
        Answer::OutOfBounds { value } => *value += 1,
        Answer::NotFound | Answer::NotACounter | Answer::Refused => *answer = Answer::NotFound,
    }
}

#[test]
fn random_histories_are_judged_as_by_trying_every_order() {
    const HISTORIES: usize = 4_000;
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let (mut right, mut wrong) = (0, 0);
    for number in 0..HISTORIES {
        let mut calls = history(&mut random);
        let again = format!("history {number} of SINGLETRACK_SEED={seed}: {calls:#?}");
        judge(&calls).unwrap_or_else(|broken| panic!("{broken}{again}"));
        spoil(&mut random, &mut calls);
        let expected = Plain::default().explains(&calls, &versions(&calls));
        let judged = judge(&calls);
        assert_eq!(judged.is_ok(), expected, "{judged:?} {again} became {calls:#?}");
        if expected {
            right += 1
        } else {
            wrong += 1
        }
        if let Err(broken) = judged {
            assert!(judge(&broken.prefix).is_err(), "{again}: the beginning alone is wrong");
        }
    }
    assert!(right > HISTORIES / 10 && wrong > HISTORIES / 10, "{right} {wrong}, seed {seed}");
}
