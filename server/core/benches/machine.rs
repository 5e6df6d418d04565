//! What one lock command costs the machine (`decide` + `absorb`), at a thousand and at a
//! million live leases, and what an idle lease weighs.
//!
//! `cargo bench -p singletrack-core`. `docs/performance.md` keeps the figures.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock"
)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark is no library"
)]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use singletrack_core::{
    change::Change,
    command::{AcquireLease, Command, LeaseRef, Lifetime, Request},
    decision::Decision,
    limits::Quotas,
    machine::Machine,
    types::{
        CallId, CommandHash, Holder, LeaseId, Mode, Ms, Namespace, Now, Priority, Reach,
        RequestHash, RequestMark, ResourceName, Target, Targets, Token, Ttl,
    },
};

/// Commands timed at once: what they add is taken back before the next lot.
const LOT: u64 = 1_000;

struct Bench {
    name: fn(u64) -> ResourceName,
    machine: Machine,
    now: Now,
    renewed: Ms,
    next: u64,
    live: Vec<(LeaseRef, ResourceName)>,
}

fn id(tag: u8, number: u64) -> [u8; 16] {
    // Spread like the random ids and hashes of the edge.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(tag);
    let mut id = [tag; 16];
    id[..8].copy_from_slice(&mixed.to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

/// 32 bytes, as the bar has it.
fn name(number: u64) -> ResourceName {
    ResourceName::parse(&format!("agents/doc-{number:021}")).unwrap()
}

/// Four levels: 50 repositories with 20 folders each.
fn deep_name(number: u64) -> ResourceName {
    let (repo, folder, leaf) = (number % 50, number / 50 % 20, number / 1_000);
    ResourceName::parse(&format!("repos/repo-{repo:03}/dir-{folder:02}/f-{leaf:06}")).unwrap()
}

fn acquire(number: u64, resource: ResourceName) -> Request {
    Request {
        call: CallId(number + 1),
        namespace: Namespace::default(),
        mark: Some(RequestMark {
            id: RequestHash(id(1, number)),
            command: CommandHash(id(2, number)),
        }),
        origin: None,
        age_ms: 0,
        fences: Box::default(),
        command: Command::AcquireLease(AcquireLease {
            lease_id: LeaseId(id(3, number)),
            holder: Holder::parse("worker-17").unwrap(),
            targets: Targets::one(Target::exact(resource, Mode::Exclusive)),
            lifetime: Lifetime::Ttl(Ttl::parse(86_400_000).unwrap()),
            wait_ms: 0,
            keep_ms: 0,
            priority: Priority::default(),
            terms: None,
        }),
    }
}

fn command(number: u64, command: Command) -> Request {
    Request { command, mark: None, ..acquire(number, name(0)) }
}

impl Bench {
    fn with_leases(count: u64) -> Self {
        Self::with_leases_of(name, count)
    }

    /// A tree of leases, and those who wait for subtrees of it: the root, and each repository.
    fn with_waited_tree(count: u64) -> Self {
        let mut bench = Self::with_leases_of(deep_name, count);
        let roots = (0..50).map(|repo| format!("repos/repo-{repo:03}"));
        for root in roots.chain([String::from("repos")]) {
            let resource = ResourceName::parse(&root).unwrap();
            bench.next += 1;
            let mut request = acquire(bench.next, resource.clone());
            let Command::AcquireLease(wish) = &mut request.command else { unreachable!() };
            let target = Target { resource, mode: Mode::Exclusive, reach: Reach::Subtree };
            wish.targets = Targets::one(target);
            wish.wait_ms = 50_000;
            // Behind all who come, so that they are not held up.
            wish.priority = Priority::parse(-100).unwrap();
            let decision = bench.perform(&request);
            assert!(decision.answers.is_empty(), "it waits: {decision:?}");
        }
        bench
    }

    fn with_leases_of(name: fn(u64) -> ResourceName, count: u64) -> Self {
        let quotas = Quotas { memory_bytes: u64::MAX, ..Quotas::default() };
        let mut bench = Self {
            name,
            machine: Machine::new(42, quotas),
            now: Now { ms: Ms(0) },
            renewed: Ms(0),
            next: 0,
            live: Vec::new(),
        };
        for _ in 0..count {
            let request = bench.fresh();
            let lease = bench.granted(&request);
            let Command::AcquireLease(acquire) = request.command else { unreachable!() };
            bench.live.push((lease, acquire.targets.first().resource.clone()));
        }
        bench
    }

    fn fresh(&mut self) -> Request {
        self.next += 1;
        acquire(self.next, (self.name)(self.next))
    }

    fn perform(&mut self, request: &Request) -> Decision {
        let decision = self.machine.decide(self.now, request);
        self.machine.take(self.now, &decision);
        decision
    }

    fn granted(&mut self, request: &Request) -> LeaseRef {
        let decision = self.perform(request);
        self.machine.durable(self.now, self.machine.state().revision());
        match decision.changes.first() {
            Some(Change::LeaseGranted(it)) => LeaseRef { lease_id: it.lease_id, token: it.token },
            other => panic!("no grant: {other:?}"),
        }
    }

    /// Lets replay memory forget, so that it stays as small as at the start; whoever is live
    /// renews before the day is over.
    fn forget(&mut self) {
        self.now.ms = self.now.ms.plus(61_000);
        if self.now.ms.since(self.renewed) > 80_000_000 {
            self.renewed = self.now.ms;
            let leases: Vec<LeaseRef> = self.live.iter().map(|(lease, _)| *lease).collect();
            self.perform(&command(0, Command::RenewLeases(leases.into())));
        }
        loop {
            let decision = self.machine.decide_tick(self.now);
            if decision.is_empty() {
                return;
            }
            self.machine.take(self.now, &decision);
        }
    }

    /// Looks at waiters until there is nothing to look at.
    fn settle(&mut self) {
        while let Some(settling) = self.machine.decide_settle(self.now, 64) {
            self.machine.take(self.now, &settling.decision);
        }
    }

    /// Acquires of names never seen; then, not timed, their releases.
    fn time_fresh(&mut self, iterations: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let lot = left.min(LOT);
            left -= lot;
            let requests: Vec<Request> = (0..lot).map(|_| self.fresh()).collect();
            let start = Instant::now();
            let leases: Vec<LeaseRef> = requests.iter().map(|it| self.granted(it)).collect();
            spent += start.elapsed();
            for lease in leases {
                self.perform(&command(0, Command::ReleaseLease(lease)));
            }
            self.settle();
            self.forget();
        }
        spent
    }

    fn random(&mut self) -> usize {
        self.next += 1;
        let mixed = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mixed % self.live.len() as u64).unwrap()
    }

    /// Renewals of random live leases.
    fn time_renewals(&mut self, iterations: u64) -> Duration {
        let requests: Vec<Request> = (0..iterations)
            .map(|number| {
                let place = self.random();
                command(number, Command::RenewLeases([self.live[place].0].into()))
            })
            .collect();
        let start = Instant::now();
        for request in &requests {
            self.perform(request);
        }
        start.elapsed()
    }

    /// Releases of random live leases, each followed by an acquire of the same name.
    fn time_turnover(&mut self, iterations: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = iterations;
        while left > 0 {
            let lot = left.min(LOT);
            left -= lot;
            let turns: Vec<(usize, Request)> = (0..lot)
                .map(|_| {
                    let place = self.random();
                    let number = self.next;
                    (place, acquire(number, self.live[place].1.clone()))
                })
                .collect();
            let start = Instant::now();
            for (place, request) in turns {
                let release = command(0, Command::ReleaseLease(self.live[place].0));
                self.perform(&release);
                self.live[place].0 = self.granted(&request);
            }
            spent += start.elapsed();
            self.forget();
        }
        spent
    }

    /// Tries for random held names: a refusal that tells who holds them.
    fn time_refusals(&mut self, iterations: u64) -> Duration {
        let requests: Vec<Request> = (0..iterations)
            .map(|_| {
                let place = self.random();
                Request { mark: None, ..acquire(self.next, self.live[place].1.clone()) }
            })
            .collect();
        let start = Instant::now();
        for request in &requests {
            self.perform(request);
        }
        start.elapsed()
    }
}

fn machine(criterion: &mut Criterion) {
    report_memory();
    let mut group = criterion.benchmark_group("lock_command");
    for count in [1_000_u64, 1_000_000] {
        let mut bench = Bench::with_leases(count);
        let mut each = |what: &str, time: fn(&mut Bench, u64) -> Duration| {
            group.bench_function(BenchmarkId::new(what, count), |bencher| {
                bencher.iter_custom(|iterations| time(&mut bench, iterations));
            });
        };
        each("acquire_fresh_name", Bench::time_fresh);
        each("renew_random_lease", Bench::time_renewals);
        each("refuse_random_held", Bench::time_refusals);
        each("release_and_acquire_random_lease", Bench::time_turnover);
    }
    for count in [1_000_u64, 1_000_000] {
        let mut bench = Bench::with_waited_tree(count);
        group.bench_function(BenchmarkId::new("acquire_fresh_name_in_waited_tree", count), |it| {
            it.iter_custom(|iterations| bench.time_fresh(iterations));
        });
    }
    group.finish();
}

/// Bytes of memory that the system has given to this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1_024)
}

/// Prints what an idle lease weighs at a million of them, request id included.
fn report_memory() {
    const LEASES: u64 = 1_000_000;
    let Some(before) = resident_bytes() else {
        println!("memory per idle lease: not known on this system");
        return;
    };
    let mut bench = Bench::with_leases(0);
    for _ in 0..LEASES {
        let request = bench.fresh();
        bench.granted(&request);
    }
    let after = resident_bytes().unwrap_or(before);
    println!(
        "memory per idle lease: {} bytes ({LEASES} leases, 32-byte names, with request ids)",
        (after - before) / LEASES
    );
    assert!(bench.machine.state().lease_count() as u64 == LEASES);
    // The last token, so that nothing of this is optimised away.
    assert!(bench.machine.state().revision() >= Token(LEASES).revision());
}

criterion_group!(benches, machine);
criterion_main!(benches);
