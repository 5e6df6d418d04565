//! The laws of the track for sessions, in virtual time.

use super::*;

fn lost(bench: &Bench, request: &Request) -> bool {
    matches!(bench.answer(request), Some(Err(CallError::Refused(Refusal::SessionLost { .. }))))
}

#[test]
fn one_keep_alive_holds_many_leases_and_is_answered_while_a_sync_is_in_flight() {
    let mut bench = Bench::new();
    let of = bench.session(1, 10_000);
    let calls: Vec<_> = (1..=100).map(|n| bench.bound(of, n, &format!("r/{n}"), 0)).collect();
    bench.calls(calls);
    bench.sync();
    for round in 0..5 {
        bench.pass(6_000);
        let other = bench.acquire(&format!("other/{round}"), 0);
        bench.calls(vec![other]);
        let keep = bench.keep_alive(of.0);
        bench.step(Inbox { renewals: vec![keep.clone()], ..Inbox::default() });
        assert_eq!(bench.answer(&keep), Some(&Ok(Reply::SessionKept(10_000))), "not held up");
        bench.sync();
    }
    assert!(bench.track.machine().state().lease_count() >= 100);
}

#[test]
fn the_loss_of_a_session_is_told_only_when_its_end_is_durable() {
    let mut bench = Bench::new();
    let of = bench.session(1, 1_000);
    for _ in 0..11 {
        bench.elapsed_ms += 100;
        bench.step(Inbox::default());
    }
    let keep = bench.keep_alive(of.0);
    bench.step(Inbox { renewals: vec![keep.clone()], ..Inbox::default() });
    assert_eq!(bench.answer(&keep), None, "the end could still be lost");
    assert!(bench.notices.is_empty());
    bench.sync();
    assert!(lost(&bench, &keep));
    assert!(matches!(bench.notices[..], [(call, Notice::SessionLost(_))] if call == of.1));
}

#[test]
fn a_keep_alive_that_has_come_is_not_overtaken_by_expiry() {
    let mut bench = Bench::new();
    let of = bench.session(1, 1_000);
    bench.pass(500);
    bench.elapsed_ms += 550;
    let keep = bench.keep_alive(of.0);
    bench.step(Inbox { renewals: vec![keep.clone()], ..Inbox::default() });
    assert_eq!(bench.answer(&keep), Some(&Ok(Reply::SessionKept(1_000))));
}

#[test]
fn many_leases_of_one_session_end_in_slices_and_other_calls_go_between() {
    const LEASES: u64 = 20_000;
    let mut bench = Bench::new();
    let of = bench.session(1, 86_400_000);
    let mut seq = 0;
    while seq < LEASES {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                seq += 1;
                bench.bound(of, seq, &format!("r/{seq}"), 0)
            })
            .collect();
        bench.calls(calls);
        bench.sync();
    }
    let waiting = bench.acquire("r/19999", 5_000);
    let close = bench.request(Command::CloseSession(of.0));
    bench.calls(vec![waiting.clone(), close.clone()]);
    bench.sync();
    assert_eq!(bench.answer(&close), Some(&Ok(Reply::SessionClosed { replayed: false })));
    let mut steps = 0;
    while bench.track.machine().is_sweeping() {
        let newcomer = bench.acquire(&format!("new/{steps}"), 0);
        let check = bench.request(Command::CheckLease {
            resource: ResourceName::parse("r/20000").unwrap(),
            token: Token(20_001),
        });
        while !bench.track.has_room() {
            bench.sync();
        }
        let left = bench.track.machine().state().lease_count();
        bench.calls(vec![newcomer.clone(), check.clone()]);
        let swept = left + 1 - bench.track.machine().state().lease_count();
        assert!(swept <= limits::SLICE_MAX, "{swept}");
        while bench.answer(&newcomer).is_none() {
            bench.sync();
            steps += 1;
        }
        bench.grant(&newcomer);
        assert!(matches!(bench.answer(&check), Some(Ok(Reply::Checked(it))) if !it.current));
        steps += 1;
    }
    assert!(steps >= 5, "in slices: {steps}");
    bench.pass(100);
    bench.grant(&waiting);
    assert!(bench.entry_bytes.iter().all(|bytes| *bytes <= BATCH_BYTES_MAX));
}

#[test]
fn what_comes_on_a_stream_left_behind_is_dropped() {
    let mut bench = Bench::new();
    let of = bench.session(1, 10_000);
    let attach = bench.attach(of.0);
    let (stale, fresh) = (bench.bound(of, 1, "a", 0), bench.bound((of.0, attach.call), 2, "b", 0));
    bench.calls(vec![attach.clone(), stale.clone(), fresh.clone()]);
    bench.sync();
    assert_eq!(bench.notices, [(of.1, Notice::Superseded)]);
    assert!(matches!(
        bench.answer(&attach),
        Some(Ok(Reply::SessionAttached(it))) if matches!(**it, Attached { generation: 2, .. })
    ));
    assert_eq!(bench.answer(&stale), None);
    bench.grant(&fresh);
}

#[test]
fn log_goes_only_when_what_is_needed_of_it_is_durable_elsewhere() {
    let mut bench = Bench::new();
    let of = bench.session(1, 86_400_000);
    let taken = bench.bound(of, 1, "a", 0);
    bench.calls(vec![taken.clone()]);
    bench.sync();
    let grant = bench.grant(&taken);
    let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
    let release = bench.operation(of, 2, Command::ReleaseLease(lease));
    bench.calls(vec![release]);
    bench.sync();
    let through = bench.track.machine().state().revision();
    bench.step(Inbox { releasable: Some(through), ..Inbox::default() });
    assert_eq!(bench.released, None, "both replies are unacknowledged");
    bench.sync();
    assert_eq!(bench.released, Some(through));
    let again = |change: &&Change| change.revision() > through;
    assert_eq!(bench.log.iter().filter(again).count(), 2, "each is said once more");

    let acknowledge = Command::AcknowledgeReplies { session: of.0, below: 3, seen: [].into() };
    let acknowledge = Request { call: NOBODY, ..bench.request(acknowledge) };
    bench.calls(vec![acknowledge]);
    let through = bench.track.machine().state().revision();
    bench.step(Inbox { releasable: Some(through), ..Inbox::default() });
    bench.sync();
    assert_eq!(bench.released, Some(through));
    assert!(
        bench
            .log
            .iter()
            .rev()
            .take_while(|change| change.revision() > through)
            .all(|change| matches!(change, Change::SessionFloored { below: 3, .. })),
        "of what is acknowledged only the floor is kept"
    );
}

#[test]
fn log_that_nobody_needs_goes_at_once() {
    let mut bench = Bench::new();
    bench.held("a");
    let through = bench.track.machine().state().revision();
    bench.step(Inbox { releasable: Some(through), ..Inbox::default() });
    assert_eq!(bench.released, Some(through));
}
