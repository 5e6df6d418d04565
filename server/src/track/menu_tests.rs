//! The bounds of the track with leases as large as they can be, and requests to yield, in virtual
//! time.

use singletrack_core::{
    change::{LeaseClosed, LeaseEnded, LeaseGranted, NewLease},
    command::{AnswerLeaseYield, RequestLeaseYield, Terms, TransferLease, YieldAnswer},
    types::{Actor, DurableMs, Labels, LockDelay, MaxHold, Permits, Reach, Words},
};

use super::*;

/// 128 names of 128 bytes, that no two numbers share.
fn many(number: u64) -> Targets {
    let targets = (0..128).map(|i| {
        let name = format!("{number}/{i:0>118}/{number:0>8}");
        let name = ResourceName::parse(&name[..name.len().min(128)]).unwrap();
        Target::exact(name, Mode::Exclusive)
    });
    Targets::parse(targets.collect()).unwrap()
}

/// Terms as large as they can be, with this lock delay.
fn terms(lock_delay_ms: u64) -> Box<Terms> {
    let labels: Vec<_> = (0..16).map(|i| (format!("{i:0>64}"), "x".repeat(64))).collect();
    Box::new(Terms {
        actor: Some(Actor::parse(&"a".repeat(256)).unwrap()),
        labels: Labels::parse(labels.iter().map(|(k, v)| (&**k, &**v))).unwrap(),
        max_hold: Some(MaxHold::parse(limits::MAX_HOLD_MS_MAX).unwrap()),
        lock_delay: LockDelay::parse(lock_delay_ms).unwrap(),
    })
}

impl Bench {
    fn large(&mut self, targets: Targets, wait_ms: u64, lock_delay_ms: u64) -> Request {
        let mut request = self.acquire("a", wait_ms);
        if let Command::AcquireLease(acquire) = &mut request.command {
            acquire.holder = Holder::parse(&"\u{1F512}".repeat(256)).unwrap();
            (acquire.targets, acquire.terms) = (targets, Some(terms(lock_delay_ms)));
        }
        request
    }

    fn until_quiet(&mut self) {
        while !self.track.is_quiet() || self.track.machine().is_unsettled() {
            if self.writing.is_empty() {
                self.step(Inbox::default());
            } else {
                self.sync();
            }
        }
    }

    #[track_caller]
    fn assert_bounded(&self) {
        let largest = self.entry_bytes.iter().max().unwrap();
        assert!(*largest <= BATCH_BYTES_MAX, "{largest} bytes");
    }
}

#[test]
fn the_largest_changes_weigh_what_is_reserved_for_them() {
    let permits = Mode::Permits(Permits::parse(1_000_000, 1_000_000).unwrap());
    let targets = (0..128).map(|i| {
        let resource = ResourceName::parse(&format!("{i:0>128}")).unwrap();
        Target { resource, mode: permits, reach: Reach::Exact }
    });
    let namespace = Namespace::parse(&"n".repeat(128)).unwrap();
    let mark = RequestMark { id: RequestHash([1; 16]), command: CommandHash([2; 16]) };
    let granted = Arc::new(LeaseGranted::new(NewLease {
        namespace: namespace.clone(),
        lease_id: LeaseId([7; 16]),
        token: Token((1 << 53) - 1),
        holder: Holder::parse(&"\u{1F512}".repeat(256)).unwrap(),
        granted_at: DurableMs(u64::MAX),
        targets: Targets::parse(targets.collect()).unwrap(),
        terms: Some(terms(3_600_000)),
        ttl: Ttl::parse(86_400_000).unwrap(),
        session: None,
        is_bound: false,
        request: Some(mark),
    }));
    let ended = Arc::new(LeaseEnded {
        namespace,
        lease_id: LeaseId([7; 16]),
        token: granted.token,
        revision: Revision(1 << 53),
        end: LeaseEnd::MaxHold,
        session: None,
        request: Some(mark),
        by: None,
    });
    let end = Change::LeaseEnded(Arc::clone(&ended)).weight();
    let grant = Change::LeaseGranted(Arc::clone(&granted)).weight();
    assert!((20_000..=GRANT_BYTES_MAX).contains(&grant), "{grant}");
    assert!(end <= END_BYTES_MAX, "{end}");
    let closed = Change::LeaseClosed(Arc::new(LeaseClosed { granted, ended, until: DurableMs(9) }));
    let closed = closed.weight();
    assert!((grant..=CLOSED_BYTES_MAX).contains(&closed), "{closed}");
    assert!(
        Change::TimePassed { at: DurableMs(1), revision: Revision(1) }.weight() <= CLOCK_BYTES_MAX
    );
}

#[test]
fn a_batch_of_the_largest_leases_never_outgrows_its_bound() {
    let mut bench = Bench::new();
    let calls: Vec<_> = (0..200).map(|n| bench.large(many(n), 0, 0)).collect();
    bench.calls(calls.clone());
    bench.until_quiet();
    let tokens: Vec<_> = calls.iter().map(|call| bench.grant(call).token).collect();
    assert!(tokens.is_sorted() && bench.entry_bytes.len() > 3);
    bench.assert_bounded();
}

#[test]
fn a_batch_of_transfers_of_the_largest_leases_never_outgrows_its_bound() {
    let mut bench = Bench::new();
    let calls: Vec<_> = (0..200).map(|n| bench.large(many(n), 0, 0)).collect();
    bench.calls(calls.clone());
    bench.until_quiet();
    let transfers: Vec<_> = calls
        .iter()
        .map(|call| {
            let grant = bench.grant(call);
            let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
            let new_id = LeaseId([u8::try_from(call.call.0 % 251).unwrap(); 16]);
            let to = Holder::parse("heir").unwrap();
            let transfer = TransferLease { lease, new_id, to, to_actor: None, ttl: None };
            let mut request = bench.request(Command::TransferLease(Box::new(transfer)));
            let id = RequestHash(u128::from(call.call.0).to_be_bytes());
            request.mark = Some(RequestMark { id, command: CommandHash([1; 16]) });
            request
        })
        .collect();
    bench.calls(transfers.clone());
    bench.until_quiet();
    for transfer in &transfers {
        assert!(matches!(bench.answer(transfer), Some(Ok(Reply::Transferred(_)))));
    }
    bench.assert_bounded();
    bench.track.machine().check();
}

#[test]
fn a_crowd_of_the_largest_waiters_is_granted_within_the_bound() {
    let mut bench = Bench::new();
    let gate = Target {
        resource: ResourceName::parse("g").unwrap(),
        mode: Mode::Exclusive,
        reach: Reach::Subtree,
    };
    let mut holder = bench.acquire("g", 0);
    if let Command::AcquireLease(acquire) = &mut holder.command {
        acquire.targets = Targets::one(gate);
    }
    bench.calls(vec![holder.clone()]);
    bench.until_quiet();
    // Each wants names of its own below the gate.
    let below = |number: u64| {
        let targets = (0..128).map(|i| {
            let name = ResourceName::parse(&format!("g/{number:0>4}/{i:0>120}")).unwrap();
            Target::exact(name, Mode::Exclusive)
        });
        Targets::parse(targets.collect()).unwrap()
    };
    let waiters: Vec<_> = (0..300).map(|n| bench.large(below(n), 50_000, 0)).collect();
    for batch in waiters.chunks(50) {
        bench.calls(batch.to_vec());
    }
    let grant = bench.grant(&holder);
    let release = bench.release(&grant);
    bench.calls(vec![release]);
    bench.until_quiet();
    let tokens: Vec<_> = waiters.iter().map(|it| bench.grant(it).token).collect();
    assert!(tokens.is_sorted(), "in the order of the queue");
    bench.assert_bounded();
    bench.track.machine().check();
}

#[test]
fn a_batch_of_releases_that_wakes_thousands_looks_at_them_in_slices() {
    let mut bench = Bench::new();
    let mut releases = Vec::new();
    for tree in 0..8 {
        let mut holder = bench.acquire("a", 0);
        if let Command::AcquireLease(acquire) = &mut holder.command {
            let resource = ResourceName::parse(&format!("t{tree}")).unwrap();
            let (mode, reach) = (Mode::Exclusive, Reach::Subtree);
            acquire.targets = Targets::one(Target { resource, mode, reach });
        }
        bench.calls(vec![holder.clone()]);
        bench.until_quiet();
        let grant = bench.grant(&holder);
        releases.push(bench.release(&grant));
    }
    let mut waiters = Vec::new();
    for n in 0..8_000 {
        waiters.push(bench.acquire(&format!("t{}/{n}", n % 8), 50_000));
    }
    for batch in waiters.chunks(BATCH_COMMANDS_MAX) {
        bench.calls(batch.to_vec());
    }
    let granted =
        |bench: &Bench| bench.log.iter().filter(|it| matches!(it, Change::LeaseGranted(_))).count();
    let mut before = granted(&bench);
    bench.calls(releases);
    let mut steps = 0;
    while !bench.track.is_quiet() || bench.track.machine().is_unsettled() {
        let now = granted(&bench);
        assert!(now - before <= limits::SLICE_MAX, "{} in one step", now - before);
        before = now;
        steps += 1;
        if bench.writing.is_empty() {
            bench.step(Inbox::default());
        } else {
            bench.sync();
        }
    }
    assert!(steps >= 8, "{steps}");
    assert!(waiters.iter().all(|it| bench.grant(it).waited_ms == 0));
}

#[test]
fn the_largest_leases_run_out_and_are_closed_within_the_bound() {
    let mut bench = Bench::new();
    let calls: Vec<_> = (0..400).map(|n| bench.large(many(n), 0, 60_000)).collect();
    bench.calls(calls);
    bench.until_quiet();
    // All are due at once, while the disk stands still.
    bench.pass(9_900);
    let mut expiries = 0;
    for _ in 0..40 {
        bench.elapsed_ms += 100;
        expiries += bench.step(Inbox::default()).expiries;
    }
    assert!((1..400).contains(&expiries), "{expiries}: what didn't fit is still there");
    for _ in 0..400 {
        if let Some(durable) = bench.writing.pop_front() {
            let inbox = Inbox { durable: Some(durable), ..Inbox::default() };
            expiries += bench.step(inbox).expiries;
        } else {
            bench.elapsed_ms += 100;
            expiries += bench.step(Inbox::default()).expiries;
        }
    }
    assert_eq!(expiries, 400, "an end that closes is an expiry too");
    bench.assert_bounded();
    let closed = bench.log.iter().filter(|it| matches!(it, Change::LeaseClosed(_))).count();
    assert_eq!(closed, 400);
    bench.pass(61_000);
    let open = bench.log.iter().filter(|it| matches!(it, Change::LeaseReopened { .. })).count();
    assert_eq!(open, 400);
    bench.assert_bounded();
    bench.track.machine().check();
}

#[test]
fn what_a_dead_session_held_is_closed_within_the_bound() {
    let mut bench = Bench::new();
    let of = bench.session(1, 5_000);
    let calls: Vec<_> = (1..=300)
        .map(|n| {
            let mut request = bench.bound(of, n, "a", 0);
            if let Command::AcquireLease(acquire) = &mut request.command {
                (acquire.targets, acquire.terms) = (many(n), Some(terms(60_000)));
            }
            request
        })
        .collect();
    bench.calls(calls);
    bench.until_quiet();
    bench.pass(8_000);
    let closed = bench.log.iter().filter(|it| matches!(it, Change::LeaseClosed(_))).count();
    assert_eq!(closed, 300);
    bench.assert_bounded();
    bench.track.machine().check();
}

#[test]
fn durable_time_is_logged_every_five_seconds_while_it_is_counted_on() {
    let mut bench = Bench::new();
    let plain = bench.held("plain");
    bench.pass(9_000);
    let renewal = bench.renew(&plain);
    bench.step(Inbox { renewals: vec![renewal], ..Inbox::default() });
    let times = |bench: &Bench| {
        let at = bench.log.iter().filter_map(|change| {
            if let Change::TimePassed { at, .. } = change { Some(at.0) } else { None }
        });
        at.collect::<Vec<_>>()
    };
    assert_eq!(times(&bench), [0; 0], "nothing is counted on it");
    let mut request = bench.acquire("bounded", 0);
    if let Command::AcquireLease(acquire) = &mut request.command {
        let max_hold = Some(MaxHold::parse(30_000).unwrap());
        acquire.terms = Some(Box::new(Terms { max_hold, ..Terms::default() }));
    }
    bench.calls(vec![request]);
    bench.sync();
    bench.pass(9_900);
    let times = times(&bench);
    assert!((1..=2).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 5_100), "{times:?}");
}

#[test]
fn a_request_to_yield_is_told_to_the_stream_when_everything_before_it_is_durable() {
    let mut bench = Bench::new();
    let of = bench.session(1, 60_000);
    let bound = bench.bound(of, 1, "a", 0);
    bench.calls(vec![bound.clone()]);
    let ask = RequestLeaseYield {
        resource: ResourceName::parse("a").unwrap(),
        token: None,
        from: Holder::parse("other").unwrap(),
        reason: Words::parse("urgent").unwrap(),
    };
    let ask = bench.request(Command::RequestLeaseYield(Box::new(ask)));
    bench.calls(vec![ask.clone()]);
    assert!(bench.notices.is_empty() && bench.answer(&ask).is_none(), "the grant could be lost");
    bench.sync();
    let Some(Ok(Reply::YieldRequested(told))) = bench.answer(&ask) else { panic!() };
    assert!(told[0].is_told);
    let [(stream, Notice::YieldRequested { token, request, .. })] = &bench.notices[..] else {
        panic!("{:?}", bench.notices)
    };
    let grant = bench.grant(&bound);
    assert_eq!((*stream, *token), (of.1, grant.token));
    assert_eq!(request.from.as_str(), "other");
    let number = Some(request.number);
    let answer = AnswerLeaseYield {
        lease: LeaseRef { lease_id: grant.lease_id, token: grant.token },
        number,
        answer: YieldAnswer { within_ms: Some(500), message: Words::default() },
    };
    let answer = bench.request(Command::AnswerLeaseYield(Box::new(answer)));
    bench.calls(vec![answer.clone()]);
    assert_eq!(bench.answer(&answer), Some(&Ok(Reply::YieldAnswered(1))), "nothing to write down");
}
