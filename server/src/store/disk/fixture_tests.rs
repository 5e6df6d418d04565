//! A data folder of every released format is kept and opened.
//!
//! `server/tests/fixtures/format-<n>/` holds the files without the zeros at their ends, and
//! `lengths` says how long each was. `WRITE_FIXTURE=1 cargo test -p singletrack-server fixture`
//! writes the one of the present format anew; that is for a new format only, as a changed
//! fixture of an old one proves nothing.

use std::sync::Arc;

use singletrack_core::{
    body::{self, Body},
    change::{
        Change, Effect, LeaseClosed, LeaseEnded, LeaseGranted, NewLease, Protection, RecordDeleted,
        RecordLife, RecordPut, RecordWritten, RequestOf, RequestRemembered, RowKey, SessionEnded,
        SessionOpened,
    },
    command::Terms,
    refusal::{LeaseEnd, SessionEnd},
    types::{
        Actor, CommandHash, ContentType, DurableMs, Holder, Labels, LeaseId, LockDelay, MaxHold,
        Mode, Namespace, Permits, Reach, RecordKey, RecordTtl, RequestHash, RequestMark,
        ResourceName, Revision, SessionId, SessionNumber, Target, Targets, Token, Ttl, Value,
    },
};

use super::*;
use crate::store::{
    coalesce::Pending,
    samples::{entry, key},
};

const MARK: RequestMark =
    RequestMark { id: RequestHash([0xa1; 16]), command: CommandHash([0xc0; 16]) };

fn lease(token: u64, mode: Mode, request: Option<RequestMark>) -> Change {
    let target = Target::exact(ResourceName::parse("repo/src/main.rs").unwrap(), mode);
    Change::LeaseGranted(Arc::new(LeaseGranted::new(NewLease {
        request,
        ..made_of(token, Targets::one(target))
    })))
}

fn made_of(token: u64, targets: Targets) -> NewLease {
    NewLease {
        namespace: Namespace::default(),
        lease_id: LeaseId([u8::try_from(token % 256).unwrap(); 16]),
        token: Token(token),
        holder: Holder::parse("agent-7").unwrap(),
        granted_at: DurableMs(0),
        targets,
        terms: None,
        ttl: Ttl::parse(45_000).unwrap(),
        session: None,
        is_bound: false,
        request: None,
    }
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
        Change::LeaseGranted(it) => {
            let mut granted = (**it).clone();
            (granted.session, granted.is_bound) = (Some(number(session)), bound);
            Change::LeaseGranted(Arc::new(granted))
        }
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

/// Several targets of every kind, with all terms.
fn wide(token: u64, granted_at: u64) -> Arc<LeaseGranted> {
    let target = |name: &str, mode, reach| {
        let resource = ResourceName::parse(name).unwrap();
        Target { resource, mode, reach }
    };
    let permits = Mode::Permits(Permits::parse(2, 5).unwrap());
    let targets = Targets::parse(vec![
        target("pool/build", permits, Reach::Exact),
        target("repo/docs", Mode::Exclusive, Reach::Subtree),
        target("repo/src", Mode::Shared, Reach::Subtree),
        target("repo/readme.md", Mode::Exclusive, Reach::Exact),
    ]);
    let terms = Terms {
        actor: Some(Actor::parse("agent-7/worker-1").unwrap()),
        labels: Labels::parse([("task", "T-1"), ("team", "")]).unwrap(),
        max_hold: Some(MaxHold::parse(3_600_000).unwrap()),
        lock_delay: LockDelay::parse(10_000).unwrap(),
    };
    Arc::new(LeaseGranted::new(NewLease {
        granted_at: DurableMs(granted_at),
        terms: Some(Box::new(terms)),
        request: Some(MARK),
        ..made_of(token, targets.unwrap())
    }))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "it is an end that is closed")]
fn closed(granted: Arc<LeaseGranted>, revision: u64, end: LeaseEnd) -> Change {
    let ended = match over(granted.token.0, revision, end, granted.request) {
        Change::LeaseEnded(ended) => ended,
        other => panic!("no end: {other:?}"),
    };
    let until = DurableMs(granted.granted_at.0 + 20_000);
    Change::LeaseClosed(Arc::new(LeaseClosed { granted, ended, until }))
}

/// What came with format 3: durable time, the whole menu of leases.
fn menu_entries() -> Vec<Vec<Change>> {
    let time =
        |at, revision| Change::TimePassed { at: DurableMs(at), revision: Revision(revision) };
    let given = Effect::Transferred { lease_id: LeaseId([0x59; 16]), token: Token(1_205) };
    let reopened = Change::LeaseReopened {
        namespace: Namespace::default(),
        token: Token(1_203),
        revision: Revision(1_209),
    };
    vec![
        vec![time(5_000, 1_201), Change::LeaseGranted(wide(1_202, 5_000))],
        vec![Change::LeaseGranted(wide(1_203, 5_100)), Change::LeaseGranted(wide(1_204, 5_200))],
        vec![
            over(1_202, 1_205, LeaseEnd::Transferred, Some(MARK)),
            Change::LeaseGranted(wide(1_205, 6_000)),
            effect(1_205, given),
        ],
        vec![closed(wide(1_203, 5_100), 1_206, LeaseEnd::MaxHold)],
        vec![closed(wide(1_204, 5_200), 1_207, LeaseEnd::Expired), time(10_000, 1_208)],
        vec![reopened],
    ]
}

/// The rows that these leave, in the order of their keys; the first is before all others.
fn menu_rows() -> Vec<Change> {
    vec![
        Change::TimePassed { at: DurableMs(10_000), revision: Revision(1_208) },
        closed(wide(1_204, 5_200), 1_207, LeaseEnd::Expired),
        Change::LeaseGranted(wide(1_205, 6_000)),
    ]
}

fn record(key: &str, version: u64, value: Value) -> RecordWritten {
    RecordWritten {
        namespace: Namespace::default(),
        key: RecordKey::parse(key).unwrap(),
        value,
        content_type: ContentType::default(),
        version: Revision(version),
        created_at: Revision(version),
        written_by: None,
        life: None,
        replaced: None,
    }
}

fn body(bytes: impl AsRef<[u8]>) -> Body {
    Body::new(bytes.as_ref(), |_| body::Digest([0x5d; 16]))
}

/// A value that is stored by itself.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; 4_097]
}

fn protection(prefix: &str, resource: &str, revision: u64) -> Arc<Protection> {
    Arc::new(Protection {
        namespace: Namespace::default(),
        prefix: RecordKey::parse(prefix).unwrap(),
        resource: ResourceName::parse(resource).unwrap(),
        revision: Revision(revision),
    })
}

/// What came with format 4: records, protections; the first three entries are in the state too.
fn record_entries() -> Vec<Vec<Change>> {
    let written = |record| Change::RecordWritten(Arc::new(record));
    let until = |at| {
        let ttl = RecordTtl::parse(3_600_000).unwrap();
        Some(RecordLife::Until { at: DurableMs(at), ttl })
    };
    let note = RecordWritten {
        content_type: ContentType::parse("text/plain").unwrap(),
        written_by: Some(Holder::parse("agent-7").unwrap()),
        life: until(3_610_000),
        ..record("a/note", 1_302, Value::Text(body("grüße")))
    };
    let count = RecordWritten {
        life: Some(RecordLife::Bound(Token(1_205))),
        ..record("a/count", 1_303, Value::Counter(-7))
    };
    let report = RecordWritten {
        life: until(3_611_000),
        ..record("b/report", 1_305, Value::Text(body(large(b'r'))))
    };
    let rewritten = RecordWritten {
        created_at: report.version,
        replaced: Some(report.version),
        ..record("b/report", 1_309, Value::Text(body("short")))
    };
    let deleted = |key: &str, version: u64, revision: u64, replaced| {
        Change::RecordDeleted(Arc::new(RecordDeleted {
            namespace: Namespace::default(),
            key: RecordKey::parse(key).unwrap(),
            revision: Revision(revision),
            version: Revision(version),
            replaced,
        }))
    };
    let blob = |key, version, byte| written(record(key, version, Value::Data(body(large(byte)))));
    vec![
        vec![written(record("a", 1_301, Value::Data(body(vec![0, 255])))), written(note)],
        vec![written(count), blob("b/blob", 1_304, b'b'), written(report)],
        vec![
            blob("b/gone", 1_306, b'g'),
            Change::PrefixProtected(protection("b", "repo/docs", 1_307)),
            Change::PrefixProtected(protection("b", "repo/src", 1_308)),
        ],
        vec![written(rewritten), blob("b/young", 1_310, b'y')],
        vec![
            deleted("b/gone", 1_306, 1_311, Some(Revision(1_306))),
            deleted("a", 1_301, 1_312, None),
            Change::PrefixUnprotected(protection("b", "repo/src", 1_313)),
        ],
        vec![effect(1_316, record_effects()), effect(1_317, Effect::PrefixUnprotected)],
    ]
}

/// A transaction with one of each.
fn record_effects() -> Effect {
    let put = RecordPut { version: Revision(1_314), created_at: Revision(1_301) };
    Effect::Transacted {
        commit: Revision(1_316),
        effects: vec![
            Effect::RecordPut(put),
            Effect::Incremented { value: i64::MIN, put },
            Effect::RecordDeleted { version: Revision(1_301) },
            Effect::PrefixProtected { revision: Revision(1_307) },
            Effect::PrefixUnprotected,
        ],
    }
}

/// The rows that these leave, in the order of their keys; the last ones there are.
fn record_rows() -> Vec<Change> {
    let all: Vec<_> = record_entries().into_iter().flatten().collect();
    let of = |revision| all.iter().find(|it| it.revision() == Revision(revision)).unwrap().to_row();
    [1_303, 1_302, 1_304, 1_309, 1_310, 1_307].map(of).to_vec()
}

/// One of each kind of change; the first two entries are in the state too.
fn entries() -> Vec<Vec<Change>> {
    let effects = vec![
        Effect::Acquired { lease_id: LeaseId([9; 16]), token: Token(1_003) },
        Effect::ForceReleased { holder: Holder::parse("agent-8").unwrap() },
        Effect::Released,
    ];
    // Its last revision came with format 4.
    let transacted = Effect::Transacted { commit: Revision(0), effects };
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
            | Change::TimePassed { .. }
            | Change::LeaseReopened { .. }
            | Change::RecordWritten(_)
            | Change::RecordDeleted(_)
            | Change::PrefixProtected(_)
            | Change::PrefixUnprotected(_)
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

#[test]
fn the_fixture_of_format_3_is_read_whole() {
    let (_home, path) = folder();
    lay_out(3, &path);
    let opened = open(&path, 10).unwrap();
    let mut rows = session_rows();
    rows.insert(2, lease(1_003, Mode::Shared, Some(MARK)));
    rows.insert(3, lease(1_007, Mode::Exclusive, None));
    let mut menu = menu_rows();
    rows.insert(0, menu.remove(0));
    rows.extend(menu);
    assert_eq!(opened.recovered.rows, rows);
    let all = entries().into_iter().chain(session_entries()).chain(menu_entries()).flatten();
    let expected: Vec<_> = all.filter(is_memory).collect();
    assert_eq!(opened.recovered.memory, expected);
    assert_eq!(opened.recovered.revision, Revision(1_210));
}

#[test]
fn the_fixture_of_format_4_is_read_whole() {
    let (_home, path) = folder();
    lay_out(4, &path);
    let opened = open(&path, 10).unwrap();
    let mut rows = session_rows();
    rows.insert(2, lease(1_003, Mode::Shared, Some(MARK)));
    rows.insert(3, lease(1_007, Mode::Exclusive, None));
    let mut menu = menu_rows();
    rows.insert(0, menu.remove(0));
    rows.extend(menu);
    rows.extend(record_rows());
    assert_eq!(opened.recovered.rows, rows);
    let all = entries().into_iter().chain(session_entries()).chain(menu_entries());
    let all = all.chain(record_entries()).flatten();
    let expected: Vec<_> = all.filter(is_memory).collect();
    assert_eq!(opened.recovered.memory, expected);
    assert_eq!(opened.recovered.revision, Revision(1_318));
    let stored =
        [1_304, 1_305, 1_306, 1_310].map(|revision| opened.reader.body(Revision(revision)));
    let stored = stored.map(|body| body.unwrap().map(|bytes| bytes[0]));
    assert_eq!(stored, [Some(b'b'), Some(b'r'), Some(b'g'), None]);
    let (_, bodies, _) = opened.into_parts();
    for (version, byte, is_young) in [(1_304, b'b', false), (1_310, b'y', true)] {
        let version = Revision(version);
        assert_eq!(bodies.young(version).is_some(), is_young);
        assert!(bodies.fetch(version).unwrap().unwrap() == large(byte));
    }
}

/// Not a check: writes the fixture of the present format anew, when asked to.
#[test]
fn the_fixture_of_the_present_format_is_written_when_asked_for() {
    if std::env::var_os("WRITE_FIXTURE").is_none() {
        return;
    }
    let (_home, path) = folder();
    let mut opened = open(&path, 1_000).unwrap();
    let mut pending = Pending::default();
    let all = entries().into_iter().chain(session_entries()).chain(menu_entries());
    for changes in all.chain(record_entries()) {
        let commit = changes.last().unwrap().revision();
        let entry = entry(commit.0, changes);
        opened.appender.append(&entry).unwrap();
        pending.absorb(&entry);
        if commit == Revision(1_004) {
            let row = |token, mode, mark| (key(token), Some(lease(token, mode, mark)));
            let rows =
                [row(1_001, Mode::Exclusive, Some(MARK)), row(1_003, Mode::Shared, Some(MARK))];
            opened.snapshotter.slice(&rows, &[]).unwrap();
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
            opened.snapshotter.slice(&rows, &[]).unwrap();
            opened.snapshotter.marker(commit).unwrap();
            pending.rows.clear();
        }
        if [Revision(1_206), Revision(1_308)].contains(&commit) {
            let Pending { rows, bodies, .. } = std::mem::take(&mut pending);
            let rows: Vec<_> = rows.into_iter().map(|(key, it)| (key, it.into_written())).collect();
            let bodies: Vec<_> =
                bodies.into_iter().map(|(key, it)| (key, it.into_written())).collect();
            opened.snapshotter.slice(&rows, &bodies).unwrap();
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
