//! A data folder of every released format is kept and opened.
//!
//! `server/tests/fixtures/format-<n>/` holds the files without the zeros at their ends, and
//! `lengths` says how long each was. `WRITE_FIXTURE=1 cargo test -p singletrack-server fixture`
//! writes the one of the present format anew; that is for a new format only, as a changed
//! fixture of an old one proves nothing.

use std::sync::Arc;

use singletrack_core::{
    change::{
        Change, Effect, LeaseEnded, LeaseGranted, RequestOf, RequestRemembered, RowKey,
        SessionEnded, SessionOpened,
    },
    refusal::{LeaseEnd, SessionEnd},
    types::{
        CommandHash, Holder, LeaseId, Mode, Namespace, RequestHash, RequestMark, ResourceName,
        Revision, SessionId, SessionNumber, Token, Ttl,
    },
};

use super::*;
use crate::store::samples::{entry, key};

const MARK: RequestMark =
    RequestMark { id: RequestHash([0xa1; 16]), command: CommandHash([0xc0; 16]) };

fn lease(token: u64, mode: Mode, request: Option<RequestMark>) -> Change {
    Change::LeaseGranted(Arc::new(LeaseGranted {
        namespace: Namespace::default(),
        lease_id: LeaseId([u8::try_from(token % 256).unwrap(); 16]),
        token: Token(token),
        holder: Holder::parse("agent-7").unwrap(),
        resource: ResourceName::parse("repo/src/main.rs").unwrap(),
        mode,
        ttl: Ttl::parse(45_000).unwrap(),
        session: None,
        is_bound: false,
        request,
    }))
}

fn over(token: u64, revision: u64, end: LeaseEnd, request: Option<RequestMark>) -> Change {
    Change::LeaseEnded(Arc::new(LeaseEnded {
        namespace: Namespace::default(),
        lease_id: LeaseId([u8::try_from(token % 256).unwrap(); 16]),
        token: Token(token),
        revision: Revision(revision),
        end,
        session: None,
        request,
        by: None,
    }))
}

fn effect(revision: u64, effect: Effect) -> Change {
    Change::RequestRemembered(Arc::new(RequestRemembered {
        mark: MARK,
        of: None,
        revision: Revision(revision),
        effect,
    }))
}

fn number(number: u64) -> SessionNumber {
    SessionNumber::parse(number).unwrap()
}

fn opened(revision: u64) -> Arc<SessionOpened> {
    Arc::new(SessionOpened {
        namespace: Namespace::default(),
        session_id: SessionId([u8::try_from(revision % 256).unwrap(); 16]),
        number: number(revision),
        holder: Holder::parse("agent-9").unwrap(),
        ttl: Ttl::parse(15_000).unwrap(),
        requests: RequestHash([0xb2; 16]),
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest has nothing of a session")]
fn of_session(change: &Change, session: u64, bound: bool, by: Option<u64>) -> Change {
    match change {
        Change::LeaseGranted(it) => Change::LeaseGranted(Arc::new(LeaseGranted {
            session: Some(number(session)),
            is_bound: bound,
            ..(**it).clone()
        })),
        Change::LeaseEnded(it) => Change::LeaseEnded(Arc::new(LeaseEnded {
            session: Some(number(session)),
            by: by.map(|seq| RequestOf { session: number(session), seq, mark: MARK }),
            ..(**it).clone()
        })),
        Change::RequestRemembered(it) => Change::RequestRemembered(Arc::new(RequestRemembered {
            of: by.map(|seq| (number(session), seq)),
            ..(**it).clone()
        })),
        other => panic!("nothing of a session: {other:?}"),
    }
}

/// What came with format 2: sessions.
fn session_entries() -> Vec<Vec<Change>> {
    let bound = |token| of_session(&lease(token, Mode::Shared, Some(MARK)), 1_101, true, None);
    let own = lease(1_103, Mode::Shared, Some(MARK));
    let ended = effect(1_106, Effect::LeaseEnded { end: LeaseEnd::Expired, token: Token(1_090) });
    let dead = opened(1_107);
    vec![
        vec![Change::SessionOpened(opened(1_101)), bound(1_102)],
        vec![of_session(&own, 1_101, false, None), bound(1_104)],
        vec![of_session(&over(1_104, 1_105, LeaseEnd::Released, None), 1_101, true, Some(7))],
        vec![of_session(&ended, 1_101, true, Some(8))],
        vec![Change::SessionOpened(Arc::clone(&dead)), Change::SessionOpened(opened(1_108))],
        vec![
            Change::SessionEnded(Arc::new(SessionEnded {
                opened: dead,
                revision: Revision(1_109),
                end: SessionEnd::Expired,
            })),
            Change::SessionEnded(Arc::new(SessionEnded {
                opened: opened(1_108),
                revision: Revision(1_110),
                end: SessionEnd::Closed,
            })),
        ],
        vec![
            Change::SessionSwept {
                namespace: Namespace::default(),
                number: number(1_108),
                revision: Revision(1_111),
            },
            Change::SessionFloored { number: number(1_101), below: 5, revision: Revision(1_112) },
        ],
    ]
}

/// The rows that these leave, in the order of their keys.
fn session_rows() -> Vec<Change> {
    let all: Vec<_> = session_entries().into_iter().flatten().collect();
    let pick = |wanted: &dyn Fn(&Change) -> bool| all.iter().find(|it| wanted(it)).unwrap().clone();
    vec![
        Change::SessionOpened(opened(1_101)),
        pick(&|it| matches!(it, Change::SessionEnded(it) if it.end == SessionEnd::Expired)),
        pick(&|it| matches!(it, Change::LeaseGranted(it) if it.token == Token(1_102))),
        pick(&|it| matches!(it, Change::LeaseGranted(it) if it.token == Token(1_103))),
    ]
}

/// One of each kind of change; the first two entries are in the state too.
fn entries() -> Vec<Vec<Change>> {
    let transacted = Effect::Transacted(vec![
        Effect::Acquired { lease_id: LeaseId([9; 16]), token: Token(1_003) },
        Effect::ForceReleased { holder: Holder::parse("agent-8").unwrap() },
        Effect::Released,
    ]);
    vec![
        vec![lease(1_001, Mode::Exclusive, Some(MARK)), lease(1_002, Mode::Shared, None)],
        vec![lease(1_003, Mode::Shared, Some(MARK)), over(1_002, 1_004, LeaseEnd::Expired, None)],
        vec![over(1_001, 1_005, LeaseEnd::Released, Some(MARK)), effect(1_005, Effect::Released)],
        vec![lease(1_006, Mode::Exclusive, None), lease(1_007, Mode::Exclusive, None)],
        vec![over(1_006, 1_008, LeaseEnd::Forced, None), effect(1_009, transacted)],
        vec![Change::RequestAbandoned { id: MARK.id, revision: Revision(1_010) }],
    ]
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

/// Lays the files of a fixture into a folder, as long as they were.
fn lay_out(format: u32, path: &Path) {
    for line in fs::read_to_string(fixture(format).join("lengths")).unwrap().lines() {
        let (length, name) = line.split_once(' ').unwrap();
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, fs::read(fixture(format).join(name)).unwrap()).unwrap();
        let whole = fs::OpenOptions::new().write(true).open(&file).unwrap();
        whole.set_len(length.parse().unwrap()).unwrap();
    }
}

fn is_memory(change: &Change) -> bool {
    !matches!(
        change,
        Change::LeaseGranted(_)
            | Change::Started { .. }
            | Change::SessionOpened(_)
            | Change::SessionSwept { .. }
    )
}

#[test]
fn the_fixture_of_format_1_is_read_whole_and_is_of_the_present_format_from_then_on() {
    let (_home, path) = folder();
    lay_out(1, &path);
    let opened = open(&path, 10).unwrap();
    let rows = [lease(1_003, Mode::Shared, Some(MARK)), lease(1_007, Mode::Exclusive, None)];
    assert_eq!(opened.recovered.rows, rows);
    let expected: Vec<_> = entries().into_iter().flatten().filter(is_memory).collect();
    assert_eq!(opened.recovered.memory, expected);
    assert_eq!(opened.recovered.revision, Revision(1_011));
    let format = fs::read_to_string(path.join("FORMAT")).unwrap();
    assert_eq!(format, format!("singletrack {FORMAT}\n"));
}

#[test]
fn the_fixture_of_format_2_is_read_whole() {
    let (_home, path) = folder();
    lay_out(2, &path);
    let opened = open(&path, 10).unwrap();
    let mut rows = session_rows();
    rows.insert(2, lease(1_003, Mode::Shared, Some(MARK)));
    rows.insert(3, lease(1_007, Mode::Exclusive, None));
    assert_eq!(opened.recovered.rows, rows);
    let all = entries().into_iter().chain(session_entries()).flatten();
    let expected: Vec<_> = all.filter(is_memory).collect();
    assert_eq!(opened.recovered.memory, expected);
    assert_eq!(opened.recovered.revision, Revision(1_113));
}

/// Not a check: writes the fixture of the present format anew, when asked to.
#[test]
fn the_fixture_of_the_present_format_is_written_when_asked_for() {
    if std::env::var_os("WRITE_FIXTURE").is_none() {
        return;
    }
    let (_home, path) = folder();
    let mut opened = open(&path, 1_000).unwrap();
    for changes in entries().into_iter().chain(session_entries()) {
        let commit = changes.last().unwrap().revision();
        opened.appender.append(&entry(commit.0, changes)).unwrap();
        if commit == Revision(1_004) {
            let row = |token, mode, mark| (key(token), Some(lease(token, mode, mark)));
            let rows =
                [row(1_001, Mode::Exclusive, Some(MARK)), row(1_003, Mode::Shared, Some(MARK))];
            opened.snapshotter.slice(&rows).unwrap();
            opened.snapshotter.marker(commit).unwrap();
        }
        if commit == Revision(1_104) {
            let session = RowKey::Session(Namespace::default(), number(1_101));
            let held = lease(1_007, Mode::Exclusive, None);
            let mut rows = vec![
                (session, Some(Change::SessionOpened(self::opened(1_101)))),
                (key(1_001), None),
                (key(1_007), Some(held)),
            ];
            for change in session_entries().into_iter().flatten() {
                if let Change::LeaseGranted(it) = &change {
                    rows.push((key(it.token.0), Some(change.clone())));
                }
            }
            opened.snapshotter.slice(&rows).unwrap();
            opened.snapshotter.marker(commit).unwrap();
        }
    }
    drop(opened);
    let target = fixture(FORMAT);
    let mut lengths = String::new();
    for Kept { file, bytes, length } in kept(&path) {
        let name = file.strip_prefix(&path).unwrap();
        lengths += &format!("{length} {}\n", name.display());
        fs::create_dir_all(target.join(name).parent().unwrap()).unwrap();
        fs::write(target.join(name), bytes).unwrap();
    }
    fs::write(target.join("lengths"), lengths).unwrap();
}
