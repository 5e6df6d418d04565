//! The laws of large values.

use super::*;

/// Writes all that is pending, and the marker.
fn snapshot(opened: &mut Opened, pending: &mut Pending) {
    let through = pending.through;
    let Pending { rows, bodies, .. } = std::mem::take(pending);
    let rows: Vec<_> = rows.into_iter().map(|(key, it)| (key, it.into_written())).collect();
    let bodies: Vec<_> = bodies.into_iter().map(|(key, it)| (key, it.into_written())).collect();
    opened.snapshotter.slice(&rows, &bodies).unwrap();
    opened.snapshotter.marker(through).unwrap();
    pending.through = through;
}

fn append(opened: &mut Opened, pending: &mut Pending, commit: u64, changes: Vec<Change>) {
    let entry = entry(commit, changes);
    opened.appender.append(&entry).unwrap();
    pending.absorb(&entry);
}

fn put(key: &str, version: u64, replaced: Option<u64>) -> Change {
    written(key, version, data(large(version)), replaced)
}

/// What a fresh opening finds of these versions, in the log or the state.
fn found(opened: Opened, versions: &[u64]) -> Vec<Option<Bytes>> {
    let (_, bodies, _) = opened.into_parts();
    versions.iter().map(|version| bodies.fetch(Revision(*version)).unwrap()).collect()
}

pub(super) fn a_large_value_is_recovered_from_the_log_and_from_the_state<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    let mut pending = Pending::default();
    append(&mut opened, &mut pending, 12, vec![put("a", 11, None), put("b", 12, None)]);
    drop(opened);
    store.crash(0);
    let check = |rows: &[Change], stored: &[u64]| {
        let opened = store.open(10).unwrap();
        let expected: Vec<_> = rows.iter().map(Change::to_row).collect();
        assert_eq!(opened.recovered.rows, expected, "rows only name large values");
        let versions: Vec<_> = rows.iter().map(|row| row.revision().0).collect();
        let all: Vec<_> = versions.iter().map(|version| Some(large(*version))).collect();
        assert!(found(opened, &versions) == all, "{versions:?}");
        let stored: Vec<_> = stored.iter().copied().map(Revision).collect();
        assert_eq!(store.bodies(), stored);
    };
    // From the log.
    check(&[put("a", 11, None), put("b", 12, None)], &[]);
    // From the state; the log that had it is gone.
    let mut opened = store.open(10).unwrap();
    let mut pending = opened.pending.clone();
    snapshot(&mut opened, &mut pending);
    opened.appender.release(pending.through).unwrap();
    drop(opened);
    check(&[put("a", 11, None), put("b", 12, None)], &[11, 12]);
    // From both, one over the other.
    let mut opened = store.open(10).unwrap();
    let mut pending = opened.pending.clone();
    append(&mut opened, &mut pending, 101, vec![put("b", 100, Some(12)), put("c", 101, None)]);
    drop(opened);
    store.crash(0);
    check(&[put("a", 11, None), put("b", 100, Some(12)), put("c", 101, None)], &[11, 12]);
}

pub(super) fn a_body_that_nobody_needs_is_gone_after_the_next_snapshot<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    let mut pending = Pending::default();
    let small = |key, version, replaced| {
        written(key, version, data(Bytes::from_static(b"small")), replaced)
    };
    // Replaced and deleted before any snapshot: never in the state.
    let changes = vec![
        put("a", 11, None),
        put("a", 12, Some(11)),
        put("b", 13, None),
        deleted("b", 13, 14, true),
    ];
    append(&mut opened, &mut pending, 14, changes);
    let changes = vec![put("c", 15, None), put("d", 16, None), put("e", 17, None)];
    append(&mut opened, &mut pending, 17, changes);
    snapshot(&mut opened, &mut pending);
    drop(opened);
    assert_eq!(store.bodies(), [12, 15, 16, 17].map(Revision));
    // Replaced, by large and by small values, and deleted after one.
    let mut opened = store.open(10).unwrap();
    let mut pending = opened.pending.clone();
    let changes =
        vec![put("a", 101, Some(12)), small("c", 102, Some(15)), deleted("d", 16, 103, true)];
    append(&mut opened, &mut pending, 103, changes);
    assert!(opened.reader.body(Revision(12)).unwrap() == Some(large(12)), "till the next one");
    snapshot(&mut opened, &mut pending);
    drop(opened);
    assert_eq!(store.bodies(), [17, 101].map(Revision));
    // The same, found in the log of an opening.
    let mut opened = store.open(10).unwrap();
    let mut pending = opened.pending.clone();
    append(&mut opened, &mut pending, 201, vec![put("a", 200, Some(101)), put("f", 201, None)]);
    append(&mut opened, &mut pending, 203, vec![deleted("f", 201, 203, true)]);
    drop(opened);
    store.crash(0);
    let mut opened = store.open(10).unwrap();
    let mut pending = opened.pending.clone();
    snapshot(&mut opened, &mut pending);
    drop(opened);
    assert_eq!(store.bodies(), [17, 200].map(Revision));
    let opened = store.open(10).unwrap();
    assert!(found(opened, &[17, 200, 101]) == [Some(large(17)), Some(large(200)), None]);
}

pub(super) fn a_body_that_is_damaged_is_not_read<H: Harness>() {
    let store = H::new();
    let mut opened = store.open(10).unwrap();
    let mut pending = Pending::default();
    append(&mut opened, &mut pending, 12, vec![put("a", 11, None), put("b", 12, None)]);
    snapshot(&mut opened, &mut pending);
    drop(opened);
    store.spoil_body(Revision(11));
    // The rows are whole, so it opens; bodies are looked at when they are asked for.
    let (_, bodies, _) = store.open(10).unwrap().into_parts();
    let damaged = bodies.fetch(Revision(11));
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
    assert!(bodies.fetch(Revision(12)).unwrap() == Some(large(12)));
}
