//! The laws of the track, in virtual time: each test steps the track by hand and says when
//! entries become durable.

use std::{collections::BTreeMap, sync::Arc};

use singletrack_core::{
    change::Change,
    command::{AcquireLease, Lifetime, OpenSession, Origin},
    limits::Quotas,
    refusal::Refusal,
    reply::{Attached, Grant, Notice, Renewed},
    types::{
        CommandHash, Holder, LeaseId, Mode, Priority, RequestHash, RequestMark, ResourceName,
        SessionId, Target, Targets, Token, Ttl,
    },
};

use super::*;

/// A track with a clock and a disk that do what the test says.
struct Bench {
    track: Track,
    elapsed_ms: u64,
    next_call: u64,
    /// Entries handed over and not yet durable, oldest first.
    writing: VecDeque<Revision>,
    log: Vec<Change>,
    notices: Vec<(CallId, Notice)>,
    released: Option<Revision>,
    answers: BTreeMap<CallId, Result<Reply, CallError>>,
    entry_bytes: Vec<usize>,
}

/// One resource, exactly.
fn only(name: &str, mode: Mode) -> Targets {
    Targets::one(Target::exact(ResourceName::parse(name).unwrap(), mode))
}

/// What a renewal of one lease is answered that nobody wants.
fn renewed(remaining_ms: u64) -> Reply {
    Reply::Renewed([Ok(Renewed { remaining_ms, yield_requests: 0 })].into())
}

impl Bench {
    fn new() -> Self {
        Self {
            track: Track::new(Machine::new(1, Quotas::default()), 0),
            elapsed_ms: 0,
            next_call: 1,
            writing: VecDeque::new(),
            log: Vec::new(),
            notices: Vec::new(),
            released: None,
            answers: BTreeMap::new(),
            entry_bytes: Vec::new(),
        }
    }

    fn request(&mut self, command: Command) -> Request {
        let call = CallId(self.next_call);
        self.next_call += 1;
        Request {
            call,
            namespace: Namespace::default(),
            mark: None,
            origin: None,
            age_ms: 0,
            fences: Box::default(),
            command,
        }
    }

    fn acquire(&mut self, name: &str, wait_ms: u64) -> Request {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_call.to_be_bytes());
        self.request(Command::AcquireLease(AcquireLease {
            lease_id: LeaseId(id),
            holder: Holder::parse("h").unwrap(),
            targets: only(name, Mode::Exclusive),
            lifetime: Lifetime::Ttl(Ttl::parse(10_000).unwrap()),
            wait_ms,
            keep_ms: 10_000,
            priority: Priority::default(),
            terms: None,
        }))
    }

    fn renew(&mut self, grant: &Grant) -> Request {
        let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
        self.request(Command::RenewLeases([lease].into()))
    }

    fn release(&mut self, grant: &Grant) -> Request {
        let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
        self.request(Command::ReleaseLease(lease))
    }

    /// One step; what is handed over stays unsynced until [`Self::sync`].
    fn step(&mut self, inbox: Inbox) -> Tally {
        let inbox = Inbox { elapsed_ms: self.elapsed_ms, ..inbox };
        let out = self.track.step(inbox);
        if let Some(entry) = out.entry {
            let changes = entry.transactions.iter().flat_map(|it| it.changes.iter());
            self.entry_bytes.push(changes.clone().map(Change::weight).sum());
            self.log.extend(changes.cloned());
            self.writing.push_back(entry.last().unwrap());
        }
        self.released = self.released.max(out.released);
        for (call, result) in out.answers {
            if let Ok(Reply::Notice(notice)) = result {
                self.notices.push((call, notice));
                continue;
            }
            let before = self.answers.insert(call, result);
            assert!(before.is_none(), "a call is answered once");
        }
        out.tally
    }

    fn calls(&mut self, commands: Vec<Request>) -> Tally {
        self.step(Inbox { commands, ..Inbox::default() })
    }

    /// The oldest entry under way becomes durable.
    fn sync(&mut self) {
        let durable = self.writing.pop_front();
        assert!(durable.is_some(), "nothing is being written");
        self.step(Inbox { durable, ..Inbox::default() });
    }

    /// Time passes in ticks of 100 ms, everything syncs at once.
    fn pass(&mut self, ms: u64) {
        let until = self.elapsed_ms + ms;
        while self.elapsed_ms < until {
            self.elapsed_ms = until.min(self.elapsed_ms + 100);
            self.step(Inbox::default());
            while !self.writing.is_empty() {
                self.sync();
            }
        }
    }

    fn answer(&self, request: &Request) -> Option<&Result<Reply, CallError>> {
        self.answers.get(&request.call)
    }

    fn grant(&self, request: &Request) -> Grant {
        match self.answer(request) {
            Some(Ok(Reply::Acquired(grant))) => grant.clone(),
            other => panic!("no grant: {other:?}"),
        }
    }

    /// A session that is open, durable and has a stream: the call that is returned.
    fn session(&mut self, id: u8, ttl_ms: u64) -> (SessionId, CallId) {
        let session_id = SessionId([id; 16]);
        let open = self.request(Command::OpenSession(OpenSession {
            session_id,
            holder: Holder::parse("h").unwrap(),
            ttl: Ttl::parse(ttl_ms).unwrap(),
            requests: RequestHash([id; 16]),
        }));
        let stream = self.attach(session_id);
        self.calls(vec![open, stream.clone()]);
        self.sync();
        (session_id, stream.call)
    }

    fn attach(&mut self, session: SessionId) -> Request {
        self.request(Command::AttachSession(session))
    }

    fn keep_alive(&mut self, session: SessionId) -> Request {
        self.request(Command::KeepSessionAlive(session))
    }

    /// An operation of a session, by its number there.
    fn operation(&mut self, of: (SessionId, CallId), seq: u64, command: Command) -> Request {
        let (session, stream) = of;
        let id = RequestHash(session.0).at(seq);
        Request {
            mark: Some(RequestMark { id, command: CommandHash([9; 16]) }),
            origin: Some(Origin { session, stream: Some(stream), seq: Some(seq) }),
            ..self.request(command)
        }
    }

    fn bound(&mut self, of: (SessionId, CallId), seq: u64, name: &str, wait_ms: u64) -> Request {
        let Command::AcquireLease(acquire) = self.acquire(name, wait_ms).command else {
            unreachable!("an acquire is one")
        };
        let lifetime = Lifetime::Session(of.0);
        self.operation(of, seq, Command::AcquireLease(AcquireLease { lifetime, ..acquire }))
    }

    /// A lease that is granted and durable.
    fn held(&mut self, name: &str) -> Grant {
        let request = self.acquire(name, 0);
        self.calls(vec![request.clone()]);
        self.sync();
        self.grant(&request)
    }
}

#[test]
fn a_grant_is_told_only_when_it_is_durable() {
    let mut bench = Bench::new();
    let request = bench.acquire("a", 0);
    bench.calls(vec![request.clone()]);
    assert_eq!(bench.answer(&request), None);
    bench.step(Inbox::default());
    assert_eq!(bench.answer(&request), None);
    bench.sync();
    assert_eq!(bench.grant(&request).token, Token(1));
}

#[test]
fn reads_and_refusals_wait_for_what_they_saw() {
    let mut bench = Bench::new();
    let first = bench.acquire("a", 0);
    bench.calls(vec![first]);
    let refused = bench.acquire("a", 0);
    let read = bench.request(Command::ListLeases { after: 0, count: 10, filter: Box::default() });
    let check = bench.request(Command::CheckLease {
        resource: ResourceName::parse("a").unwrap(),
        token: Token(1),
    });
    bench.calls(vec![refused.clone(), read.clone(), check.clone()]);
    for request in [&refused, &read, &check] {
        assert_eq!(bench.answer(request), None, "what it saw could still be lost");
    }
    bench.sync();
    assert!(matches!(bench.answer(&refused), Some(Err(CallError::Refused(Refusal::Held(_))))));
    assert!(matches!(bench.answer(&read), Some(Ok(Reply::Page { .. }))));
    assert!(matches!(bench.answer(&check), Some(Ok(Reply::Checked(it))) if it.current));
}

#[test]
fn a_hand_over_is_told_only_when_it_is_durable() {
    let mut bench = Bench::new();
    let holder = bench.held("a");
    let waiter = bench.acquire("a", 5_000);
    bench.calls(vec![waiter.clone()]);
    let release = bench.release(&holder);
    bench.calls(vec![release.clone()]);
    assert_eq!(bench.answer(&release), None);
    assert_eq!(bench.answer(&waiter), None);
    bench.sync();
    assert!(bench.grant(&waiter).token > holder.token);
    assert_eq!(bench.answer(&release), Some(&Ok(Reply::Released { replayed: false })));
}

#[test]
fn a_waiter_that_is_gone_is_not_granted() {
    let mut bench = Bench::new();
    let holder = bench.held("a");
    let gone = bench.acquire("a", 5_000);
    let next = bench.acquire("a", 5_000);
    bench.calls(vec![gone.clone(), next.clone()]);
    // Its death and the release come with the same step.
    let release = bench.release(&holder);
    bench.step(Inbox { gone: vec![gone.call], commands: vec![release], ..Inbox::default() });
    bench.sync();
    assert_eq!(bench.answer(&gone), None);
    bench.grant(&next);
}

#[test]
fn a_renewal_that_has_come_is_not_overtaken_by_expiry() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    bench.pass(9_900);
    let renewal = bench.renew(&grant);
    // The renewal lay in the lane while the deadline went by.
    bench.elapsed_ms += 500;
    let tally = bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert_eq!(tally.expiries, 0);
    assert_eq!(bench.answer(&renewal), Some(&Ok(renewed(10_000))));
}

#[test]
fn nothing_expires_while_renewals_wait_to_be_taken() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    bench.pass(9_900);
    bench.elapsed_ms += 500;
    let tally = bench.step(Inbox { more_renewals: true, ..Inbox::default() });
    assert_eq!(tally.expiries, 0);
    let renewal = bench.renew(&grant);
    let tally = bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert_eq!(tally.expiries, 0);
    assert_eq!(bench.answer(&renewal), Some(&Ok(renewed(10_000))));
}

#[test]
fn a_renewal_is_answered_while_a_sync_is_in_flight() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    let other = bench.acquire("b", 0);
    bench.calls(vec![other.clone()]);
    let renewal = bench.renew(&grant);
    bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert_eq!(bench.answer(&renewal), Some(&Ok(renewed(10_000))));
    assert_eq!(bench.answer(&other), None);
}

#[test]
fn the_loss_of_a_lease_is_told_only_when_its_end_is_durable() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    let release = bench.release(&grant);
    bench.calls(vec![release]);
    let renewal = bench.renew(&grant);
    bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert_eq!(bench.answer(&renewal), None);
    bench.sync();
    assert!(matches!(
        bench.answer(&renewal),
        Some(Ok(Reply::Renewed(results))) if matches!(results[0], Err(Refusal::LeaseLost { .. }))
    ));
}

#[test]
fn with_enough_under_way_only_renewals_and_ticks_go_on() {
    let mut bench = Bench::new();
    let grant = bench.held("z");
    for number in 0..OUTSTANDING_MAX {
        assert!(bench.track.has_room());
        let request = bench.acquire(&format!("a/{number}"), 0);
        bench.calls(vec![request]);
    }
    assert!(!bench.track.has_room());
    bench.elapsed_ms += 100;
    let renewal = bench.renew(&grant);
    bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert!(bench.answer(&renewal).is_some());
    assert_eq!(bench.writing.len(), OUTSTANDING_MAX);
    bench.sync();
    assert!(bench.track.has_room());
}

#[test]
fn what_gathers_behind_a_slow_sync_is_bounded_by_its_bytes() {
    let mut bench = Bench::new();
    let name = |number: usize| format!("{number}/{}", "n".repeat(490));
    let mut number = 0;
    while bench.track.has_room() {
        let requests = (0..BATCH_COMMANDS_MAX).map(|it| bench.acquire(&name(number + it), 0));
        let requests = requests.collect();
        bench.calls(requests);
        number += BATCH_COMMANDS_MAX;
    }
    let gathering: usize = bench.track.outstanding.iter().skip(1).map(|(_, bytes)| bytes).sum();
    let most = GATHERING_BYTES_MAX + BATCH_BYTES_MAX;
    assert!((GATHERING_BYTES_MAX..most).contains(&gathering), "{gathering}");
    assert!(bench.writing.len() < OUTSTANDING_MAX);
}

#[test]
fn what_runs_out_during_a_slow_sync_is_written_when_there_is_room() {
    let mut bench = Bench::new();
    let _lost = bench.held("z");
    for number in 0..OUTSTANDING_MAX {
        let request = bench.acquire(&format!("a/{number}"), 0);
        bench.calls(vec![request]);
    }
    for _ in 0..120 {
        bench.elapsed_ms += 100;
        bench.step(Inbox::default());
    }
    assert_eq!(bench.writing.len(), OUTSTANDING_MAX, "the disk is still at it");
    bench.sync();
    let ended = |change: &Change| matches!(change, Change::LeaseEnded(_));
    assert_eq!(bench.log.iter().filter(|it| ended(it)).count(), 1);
    // Those that are only now durable have their full ttl before them.
    for _ in 0..OUTSTANDING_MAX {
        bench.sync();
    }
    assert_eq!(bench.track.machine().state().lease_count(), OUTSTANDING_MAX);
}

#[test]
fn a_stall_is_not_charged_to_holders() {
    for stall_ms in [5_000, 15_000, 30_000] {
        let mut bench = Bench::new();
        let grant = bench.held("a");
        // It was about to renew.
        bench.pass(9_900);
        bench.elapsed_ms += stall_ms;
        let tally = bench.step(Inbox::default());
        assert!(tally.stalled);
        assert_eq!(tally.expiries, 0);
        // The holder's next renewal comes up to a third of its ttl later.
        bench.pass(3_300);
        let renewal = bench.renew(&grant);
        bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
        assert_eq!(bench.answer(&renewal), Some(&Ok(renewed(10_000))));
    }
}

#[test]
fn the_next_waiter_has_the_lease_within_a_tick_of_the_end() {
    let mut bench = Bench::new();
    let dead = bench.held("a");
    let waiter = bench.acquire("a", 20_000);
    bench.calls(vec![waiter.clone()]);
    bench.pass(9_900);
    assert_eq!(bench.answer(&waiter), None);
    bench.pass(200);
    let grant = bench.grant(&waiter);
    assert!(grant.token > dead.token);
    assert!(grant.waited_ms <= 10_100, "within ttl + 100 ms");
    let (renewal, release) = (bench.renew(&dead), bench.release(&dead));
    let resource = ResourceName::parse("a").unwrap();
    let check = bench.request(Command::CheckLease { resource, token: dead.token });
    let commands = vec![release.clone(), check.clone()];
    bench.step(Inbox { renewals: vec![renewal.clone()], commands, ..Inbox::default() });
    let lost = |it: &Refusal| matches!(it, Refusal::LeaseLost { .. });
    assert!(
        matches!(bench.answer(&renewal), Some(Ok(Reply::Renewed(it))) if it[0].as_ref().is_err_and(lost))
    );
    assert!(matches!(bench.answer(&release), Some(Err(CallError::Refused(it))) if lost(it)));
    assert!(matches!(bench.answer(&check), Some(Ok(Reply::Checked(it))) if !it.current));
}

#[test]
fn a_panic_in_a_decision_is_internal_and_damages_nothing() {
    let mut bench = Bench::new();
    let (good, bad, after) = (bench.acquire("a", 0), bench.acquire("b", 0), bench.acquire("b", 0));
    bench.track.poison = Some(bad.call);
    let tally = bench.calls(vec![good.clone(), bad.clone(), after.clone()]);
    assert_eq!(tally.panics, 1);
    bench.sync();
    assert_eq!(bench.answer(&bad), Some(&Err(CallError::Internal)));
    bench.grant(&good);
    bench.grant(&after);
    bench.track.machine().check();
}

#[test]
fn a_batch_never_outgrows_its_bound() {
    let mut bench = Bench::new();
    let long = |n: u64| format!("{}/{n}", "x".repeat(480));
    let mut calls = Vec::new();
    for n in 0..4 * BATCH_COMMANDS_MAX as u64 {
        let name = long(n);
        calls.push(bench.acquire(&name, 0));
    }
    // More than fits: taken all the same, decided in later batches.
    bench.calls(calls.clone());
    while !bench.track.is_quiet() {
        bench.sync();
    }
    assert!(calls.iter().all(|call| bench.grant(call).remaining_ms == 10_000));
    assert!(bench.entry_bytes.len() > 1);
    assert!(bench.entry_bytes.iter().all(|bytes| *bytes <= BATCH_BYTES_MAX));
}

#[test]
fn a_hundred_thousand_leases_run_out_in_slices_and_renewals_go_between() {
    let mut bench = Bench::new();
    let healthy = bench.held("healthy");
    for start in 0..200 {
        let mut calls = Vec::new();
        for n in 0..500 {
            calls.push(bench.acquire(&format!("r/{start}/{n}"), 0));
        }
        bench.calls(calls);
        bench.sync();
    }
    bench.pass(9_500);
    let renewal = bench.renew(&healthy);
    bench.step(Inbox { renewals: vec![renewal], ..Inbox::default() });
    bench.elapsed_ms += 500;
    let mut steps = 0;
    while bench.track.machine().state().lease_count() > 1 {
        let renewal = bench.renew(&healthy);
        let inbox = Inbox { renewals: vec![renewal.clone()], ..Inbox::default() };
        let tally = bench.step(inbox);
        assert!(tally.expiries <= limits::SLICE_MAX);
        assert!(bench.answer(&renewal).is_some(), "a renewal never waits for the slices");
        steps += 1;
        assert!(steps < 1_000);
        if !bench.track.has_room() {
            bench.sync();
        }
    }
    assert!(steps >= 50, "at most two slices a step, one of them in the step that hears of a sync");
}

#[test]
fn a_crowd_of_shared_waiters_is_granted_in_slices_and_in_order() {
    let mut bench = Bench::new();
    let holder = bench.held("a");
    let mut waiters = Vec::new();
    for _ in 0..5_000 {
        let mut waiter = bench.acquire("a", 50_000);
        if let Command::AcquireLease(acquire) = &mut waiter.command {
            acquire.targets = only("a", Mode::Shared);
        }
        waiters.push(waiter);
    }
    for batch in waiters.chunks(500) {
        bench.calls(batch.to_vec());
    }
    let release = bench.release(&holder);
    bench.calls(vec![release]);
    assert!(bench.track.machine().is_unsettled(), "not all at once");
    assert_eq!(bench.track.idle_ms(), Some(0), "and no time is lost between slices");
    while !bench.track.is_quiet() || bench.track.machine().is_unsettled() {
        if bench.writing.is_empty() {
            bench.step(Inbox::default());
        } else {
            bench.sync();
        }
    }
    let tokens: Vec<Token> = waiters.iter().map(|it| bench.grant(it).token).collect();
    assert!(tokens.is_sorted());
}

#[test]
fn a_grant_that_reached_nobody_is_returned() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
    let unclaimed = vec![(Namespace::default(), lease)];
    bench.step(Inbox { unclaimed, ..Inbox::default() });
    assert_eq!(bench.track.machine().state().lease_count(), 0);
}

#[test]
fn recovery_gives_full_ttls_and_right_replays() {
    let mut bench = Bench::new();
    let mark = RequestMark { id: RequestHash([1; 16]), command: CommandHash([2; 16]) };
    let mut request = bench.acquire("a", 0);
    request.mark = Some(mark);
    bench.calls(vec![request.clone()]);
    bench.sync();
    let grant = bench.grant(&request);
    bench.pass(9_000);
    let rows = bench.track.machine().rows();
    let machine = Machine::recover(3, Quotas::default(), Revision(100), &rows, &bench.log);
    bench.track = Track::new(machine, bench.elapsed_ms);
    bench.pass(9_000);
    bench.answers.clear();
    bench.calls(vec![request.clone()]);
    let again = bench.grant(&request);
    assert!(again.replayed && again.token == grant.token && again.remaining_ms == 1_000);
}

#[test]
fn a_stall_just_before_the_end_gives_a_full_ttl_again() {
    let mut bench = Bench::new();
    let grant = bench.held("a");
    bench.pass(9_500);
    bench.elapsed_ms += 60_000;
    let tally = bench.step(Inbox::default());
    assert!(tally.stalled);
    assert_eq!(tally.expiries, 0, "the holder could not renew");
    bench.pass(9_900);
    let renewal = bench.renew(&grant);
    bench.step(Inbox { renewals: vec![renewal.clone()], ..Inbox::default() });
    assert_eq!(bench.answer(&renewal), Some(&Ok(renewed(10_000))));
}

#[test]
fn of_the_calls_that_did_not_fit_only_gone_acquires_are_dropped() {
    let mut bench = Bench::new();
    let held = bench.held("held");
    let mut calls = Vec::new();
    for n in 0..4 * BATCH_COMMANDS_MAX as u64 {
        calls.push(bench.acquire(&format!("{}/{n}", "x".repeat(480)), 0));
    }
    let (acquire, release) = (bench.acquire("late", 0), bench.release(&held));
    calls.extend([acquire.clone(), release.clone()]);
    bench.calls(calls);
    assert!(!bench.track.has_room(), "some are left over");
    bench.step(Inbox { gone: vec![acquire.call, release.call], ..Inbox::default() });
    while !bench.track.is_quiet() {
        bench.sync();
    }
    assert_eq!(bench.answer(&acquire), None, "nobody wants it");
    assert_eq!(bench.answer(&release), Some(&Ok(Reply::Released { replayed: false })));
    let found = bench
        .log
        .iter()
        .any(|it| matches!(it, Change::LeaseGranted(it) if it.resource().as_str() == "late"));
    assert!(!found);
}

#[test]
fn what_runs_out_while_the_disk_stands_still_neither_outgrows_a_batch_nor_spins() {
    let mut bench = Bench::new();
    for start in 0..24 {
        let mut calls = Vec::new();
        for n in 0..500 {
            calls.push(bench.acquire(&format!("r/{start}/{n}"), 0));
        }
        bench.calls(calls);
        bench.sync();
    }
    for name in ["a", "b"] {
        let request = bench.acquire(name, 0);
        bench.calls(vec![request]);
    }
    for _ in 0..120 {
        bench.elapsed_ms += 100;
        bench.step(Inbox::default());
    }
    assert_eq!(bench.track.idle_ms(), Some(limits::TICK_MS_MAX), "due, but there is no room");
    assert!(bench.track.machine().state().lease_count() > 2, "what didn't fit is still there");
    while bench.track.machine().state().lease_count() > 2 || !bench.track.is_quiet() {
        if bench.writing.is_empty() {
            bench.step(Inbox::default());
        } else {
            bench.sync();
        }
    }
    assert!(bench.entry_bytes.iter().all(|bytes| *bytes <= BATCH_BYTES_MAX));
}

#[path = "menu_tests.rs"]
mod menu;
#[path = "session_tests.rs"]
mod sessions;
