//! A data folder of every released format is kept and opened.
//!
//! `server/tests/fixtures/format-<n>/` holds the files without the zeros at their ends, and
//! `lengths` says how long each was. `WRITE_FIXTURE=1 cargo test -p singletrack-server fixture`
//! writes the one of the present format anew; that is for a new format only, as a changed
//! fixture of an old one proves nothing.

use std::sync::Arc;

use singletrack_core::{
    change::{Change, Effect, LeaseEnded, LeaseGranted, RequestRemembered},
    refusal::LeaseEnd,
    types::{
        CommandHash, Holder, LeaseId, Mode, Namespace, RequestHash, RequestMark, ResourceName,
        Revision, Token, Ttl,
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
        request,
    }))
}

fn effect(revision: u64, effect: Effect) -> Change {
    Change::RequestRemembered(Arc::new(RequestRemembered {
        mark: MARK,
        revision: Revision(revision),
        effect,
    }))
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

#[test]
fn the_fixture_of_format_1_is_read_whole() {
    let (_home, path) = folder();
    for line in fs::read_to_string(fixture(1).join("lengths")).unwrap().lines() {
        let (length, name) = line.split_once(' ').unwrap();
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, fs::read(fixture(1).join(name)).unwrap()).unwrap();
        let whole = fs::OpenOptions::new().write(true).open(&file).unwrap();
        whole.set_len(length.parse().unwrap()).unwrap();
    }
    let opened = open(&path, 10).unwrap();
    let rows = [lease(1_003, Mode::Shared, Some(MARK)), lease(1_007, Mode::Exclusive, None)];
    assert_eq!(opened.recovered.rows, rows);
    let memory =
        |change: &Change| !matches!(change, Change::LeaseGranted(_) | Change::Started { .. });
    let expected: Vec<_> = entries().into_iter().flatten().filter(memory).collect();
    assert_eq!(opened.recovered.memory, expected);
    assert_eq!(opened.recovered.revision, Revision(1_011));
}

/// Not a check: writes the fixture of the present format anew, when asked to.
#[test]
fn the_fixture_of_the_present_format_is_written_when_asked_for() {
    if std::env::var_os("WRITE_FIXTURE").is_none() {
        return;
    }
    let (_home, path) = folder();
    let mut opened = open(&path, 1_000).unwrap();
    for changes in entries() {
        let commit = changes.last().unwrap().revision();
        opened.appender.append(&entry(commit.0, changes)).unwrap();
        if commit == Revision(1_004) {
            let row = |token, mode, mark| (key(token), Some(lease(token, mode, mark)));
            let rows =
                [row(1_001, Mode::Exclusive, Some(MARK)), row(1_003, Mode::Shared, Some(MARK))];
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
