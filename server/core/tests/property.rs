//! Random histories: the machine against the model, step by step, with the whole-state
//! invariants checked after each, restarts from the log, and grants that become durable late.
//!
//! `PROPTEST_CASES` sets how many; a failure is shrunk and prints the steps that lead to it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use singletrack_core::{
    change::Change,
    command::{AcquireLease, Command, LeaseKey, LeaseRef, Lifetime, Request},
    decision::Decision,
    fence::{Fence, FenceTarget},
    limits::{self, Quotas},
    machine::Machine,
    types::{
        CallId, CommandHash, Holder, LeaseId, Mode, Ms, Namespace, Now, Priority, RequestHash,
        RequestMark, ResourceName, Target, Token, Ttl,
    },
};

use crate::model::{Model, Told, told};

/// One step of a history. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Acquire { at: Place, shared: bool, ttl_s: u64, wait_ms: u64, keep_ms: u64, priority: i32 },
    Renew { leases: Vec<u8> },
    Release { at: Place, lease: u8, wrong_token: bool },
    Force { at: Place, lease: u8 },
    Abandon { id: u8 },
    Get { resource: u8 },
    List { after: u8, count: usize },
    Check { lease: u8 },
    Drop { call: u8 },
    Advance { ms: u64 },
    Stall,
    Restart,
}

/// What most calls share.
#[derive(Clone, Debug)]
struct Place {
    namespace: u8,
    resource: u8,
    id: Option<u8>,
    age_ms: u64,
    fence: Option<u8>,
}

fn place() -> impl Strategy<Value = Place> {
    (
        prop_oneof![9 => Just(0_u8), 1 => Just(1)],
        0..3_u8,
        prop_oneof![1 => Just(None), 3 => (0..12_u8).prop_map(Some)],
        prop_oneof![9 => Just(0), 1 => Just(30_001)],
        prop_oneof![8 => Just(None), 1 => any::<u8>().prop_map(Some)],
    )
        .prop_map(|(namespace, resource, id, age_ms, fence)| Place {
            namespace,
            resource,
            id,
            age_ms,
            fence,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let acquire = (
        place(),
        any::<bool>(),
        1..4_u64,
        prop_oneof![2 => Just(0), 3 => 1..6_000_u64],
        1..4_000_u64,
        prop_oneof![4 => Just(0), 1 => -1..=1_i32],
    );
    prop_oneof![
        10 => acquire.prop_map(|(at, shared, ttl_s, wait_ms, keep_ms, priority)| {
            Step::Acquire { at, shared, ttl_s, wait_ms, keep_ms, priority }
        }),
        2 => prop::collection::vec(any::<u8>(), 1..4).prop_map(|leases| Step::Renew { leases }),
        5 => (place(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(at, lease, wrong_token)| Step::Release { at, lease, wrong_token }),
        1 => (place(), any::<u8>()).prop_map(|(at, lease)| Step::Force { at, lease }),
        1 => (0..12_u8).prop_map(|id| Step::Abandon { id }),
        1 => (0..3_u8).prop_map(|resource| Step::Get { resource }),
        1 => (any::<u8>(), 1..5_usize).prop_map(|(after, count)| Step::List { after, count }),
        1 => any::<u8>().prop_map(|lease| Step::Check { lease }),
        2 => any::<u8>().prop_map(|call| Step::Drop { call }),
        5 => prop_oneof![4 => 1..2_000_u64, 1 => 1..70_000_u64]
            .prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Stall),
        1 => Just(Step::Restart),
    ]
}

/// Machine and model side by side.
struct Pair {
    machine: Machine,
    model: Model,
    now: Now,
    log: Vec<(Ms, Change)>,
    next_lease: u32,
    next_call: u64,
    /// Every lease ever granted, with its namespace and resource.
    known: Vec<(LeaseRef, u8, u8)>,
    answered: BTreeSet<CallId>,
    /// Grants of this step.
    granted: Vec<(String, LeaseId, Token)>,
    last_token: Token,
}

impl Pair {
    fn new() -> Self {
        Self {
            machine: Machine::new(1, Quotas::default()),
            model: Model::default(),
            now: Now { ms: Ms(0) },
            log: Vec::new(),
            next_lease: 1,
            next_call: 1,
            known: Vec::new(),
            answered: BTreeSet::new(),
            granted: Vec::new(),
            last_token: Token(0),
        }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Drop { call } => {
                let call = CallId(u64::from(*call) % self.next_call);
                let decision = self.machine.decide_drop(call);
                let expected = self.model.drop_call(call);
                self.take(decision, expected);
            }
            Step::Advance { ms } => {
                let until = self.now.ms.plus(*ms);
                let expected = self.model.advance(until.0);
                let got = self.tick_until(until);
                self.compare(got, expected);
            }
            Step::Stall => {
                self.now.ms = self.now.ms.plus(limits::CHARGE_MS_MAX);
                self.machine.stalled(self.now);
                let expected = self.model.stall(limits::CHARGE_MS_MAX);
                let got = self.tick_until(self.now.ms);
                self.compare(got, expected);
            }
            Step::Restart => self.restart(),
            _ => {
                let request = self.request(step);
                let decision = self.machine.decide(self.now, &request);
                let expected = self.model.request(&request);
                self.take(decision, expected);
            }
        }
        self.machine.check();
    }

    fn request(&mut self, step: &Step) -> Request {
        let call = CallId(self.next_call);
        self.next_call += 1;
        let nowhere = Place { namespace: 0, resource: 0, id: None, age_ms: 0, fence: None };
        let (at, command) = match step {
            Step::Acquire { at, shared, ttl_s, wait_ms, keep_ms, priority } => {
                let mut lease_id = [0; 16];
                lease_id[..4].copy_from_slice(&self.next_lease.to_be_bytes());
                self.next_lease += 1;
                let acquire = AcquireLease {
                    lease_id: LeaseId(lease_id),
                    holder: Holder::parse("h").unwrap(),
                    target: Target {
                        resource: resource(at.resource),
                        mode: if *shared { Mode::Shared } else { Mode::Exclusive },
                    },
                    lifetime: Lifetime::Ttl(Ttl::parse(ttl_s * 1_000).unwrap()),
                    wait_ms: *wait_ms,
                    keep_ms: *keep_ms,
                    priority: Priority::parse(*priority).unwrap(),
                };
                (at, Command::AcquireLease(acquire))
            }
            Step::Renew { leases } => {
                let leases = leases.iter().map(|it| self.lease(*it).0).collect();
                (&nowhere, Command::RenewLeases(leases))
            }
            Step::Release { at, lease, wrong_token } => {
                let mut lease = self.lease(*lease).0;
                if *wrong_token {
                    lease.token = Token(lease.token.0 + 1);
                }
                (at, Command::ReleaseLease(lease))
            }
            Step::Force { at, lease } => {
                let (lease, _, name) = self.lease(*lease);
                let command =
                    Command::ForceReleaseLease { resource: resource(name), token: lease.token };
                (at, command)
            }
            Step::Abandon { id } => {
                (&nowhere, Command::AbandonLease { abandoned: hash(0, *id), of: None })
            }
            Step::Get { resource: name } => {
                (&nowhere, Command::GetLease(LeaseKey::Resource(resource(*name))))
            }
            Step::List { after, count } => {
                let after = self.lease(*after).0.token.0;
                (&nowhere, Command::ListLeases { after, count: *count })
            }
            Step::Check { lease } => {
                let (lease, _, name) = self.lease(*lease);
                (&nowhere, Command::CheckLease { resource: resource(name), token: lease.token })
            }
            Step::Drop { .. } | Step::Advance { .. } | Step::Stall | Step::Restart => {
                unreachable!("no request")
            }
        };
        let fence = at.fence.map(|which| {
            let (lease, _, name) = self.lease(which);
            Fence { target: FenceTarget::Resource(resource(name)), token: lease.token }
        });
        Request {
            call,
            namespace: namespace(at.namespace),
            mark: at
                .id
                .map(|id| RequestMark { id: hash(at.namespace, id), command: identity(&command) }),
            origin: None,
            age_ms: at.age_ms,
            fences: fence.into_iter().collect(),
            command,
        }
    }

    /// Some lease there was; one that never was while there is none.
    fn lease(&self, which: u8) -> (LeaseRef, u8, u8) {
        let never = LeaseRef { lease_id: LeaseId([0; 16]), token: Token(1) };
        if self.known.is_empty() {
            return (never, 0, 0);
        }
        // Recent ones are the interesting ones.
        let recent = self.known.len().min(6);
        self.known[self.known.len() - 1 - usize::from(which) % recent]
    }

    fn tick_until(&mut self, until: Ms) -> Vec<(CallId, Told)> {
        let mut got = Vec::new();
        loop {
            let next = self.machine.next_deadline().filter(|at| *at <= until);
            self.now.ms = self.now.ms.max(next.unwrap_or(until));
            let decision = self.machine.decide_tick(self.now);
            if decision.is_empty() {
                return got;
            }
            got.extend(self.apply(decision));
        }
    }

    fn take(&mut self, decision: Decision, expected: Vec<(CallId, Told)>) {
        let got = self.apply(decision);
        self.compare(got, expected);
    }

    fn apply(&mut self, decision: Decision) -> Vec<(CallId, Told)> {
        let mut got = Vec::new();
        let mut next = Some(decision);
        let mut granted = Vec::new();
        while let Some(decision) = next {
            for answer in &decision.answers {
                got.push((answer.call, told(&answer.result)));
            }
            for change in &decision.changes {
                if let Change::LeaseGranted(it) = change {
                    assert!(it.token > self.last_token, "tokens rise for ever");
                    self.last_token = it.token;
                    let lease = LeaseRef { lease_id: it.lease_id, token: it.token };
                    let full = format!("{}/{}", it.namespace, it.resource);
                    granted.push((full, it.lease_id, it.token));
                    let name = it.resource.as_str().as_bytes()[0] - b'a';
                    let space = u8::from(it.namespace.as_str() == "other");
                    self.known.push((lease, space, name));
                }
            }
            self.machine.take(self.now, &decision);
            self.machine.durable(self.now, self.machine.state().revision());
            self.log.extend(decision.changes.into_iter().map(|change| (self.now.ms, change)));
            // Slices of two: the order must not depend on how grants are cut.
            next = self.machine.decide_settle(self.now, 2);
        }
        self.granted.extend(granted);
        got
    }

    fn compare(&mut self, got: Vec<(CallId, Told)>, expected: Vec<(CallId, Told)>) {
        self.model.learn_tokens(&std::mem::take(&mut self.granted));
        let got: BTreeMap<_, _> = got.into_iter().collect();
        let expected: BTreeMap<_, _> = expected.into_iter().collect();
        assert_eq!(got, expected, "calls are told the same (left: the machine)");
        for call in got.keys() {
            assert!(self.answered.insert(*call), "{call:?} is answered once");
        }
    }

    /// The rows and the youngest minute of the log are all that is left.
    fn restart(&mut self) {
        let revision = self.machine.state().revision().next();
        let rows = self.machine.rows();
        let now = self.now.ms;
        self.log.retain(|(at, _)| at.plus(limits::MEMORY_MS) > now);
        let memory = self.log.iter().map(|(_, change)| change);
        self.machine = Machine::recover(2, Quotas::default(), revision, &rows, memory);
        assert_eq!(self.machine.rows(), rows, "what was durable is there");
        self.log.iter_mut().for_each(|(at, _)| *at = Ms(0));
        self.now = Now { ms: Ms(0) };
        self.model.restart();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_cases(cases())
    })]

    #[test]
    fn the_machine_does_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.play(step);
        }
    }
}

/// How many histories: `PROPTEST_CASES`, or enough for about 600,000 commands.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn resource(which: u8) -> ResourceName {
    ResourceName::parse(&char::from(b'a' + which).to_string()).unwrap()
}

fn namespace(which: u8) -> Namespace {
    Namespace::parse(if which == 0 { "default" } else { "other" }).unwrap()
}

fn hash(namespace: u8, id: u8) -> RequestHash {
    let mut hash = [0; 16];
    hash[0] = namespace;
    hash[1] = id;
    RequestHash(hash)
}

/// What the edge hashes: the command without wait, keep and lease id.
fn identity(command: &Command) -> CommandHash {
    let text = match command {
        Command::AcquireLease(it) => {
            format!("{}{:?}{:?}{:?}", it.target.resource, it.target.mode, it.lifetime, it.priority)
        }
        other => format!("{other:?}"),
    };
    let mut hash = [0_u8; 16];
    for (index, byte) in text.bytes().enumerate() {
        hash[index % 16] = hash[index % 16].wrapping_mul(31).wrapping_add(byte);
    }
    CommandHash(hash)
}
