//! Machine and model side by side, step by step.

mod laws;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use singletrack_core::{
    change::{Change, LeaseGranted, RowKey},
    command::{
        AcquireLease, AnswerLeaseYield, Command, LeaseFilter, LeaseKey, LeaseRef, Lifetime,
        OpenSession, Operation, Request, RequestLeaseYield, Terms, TransferLease, YieldAnswer,
    },
    decision::Decision,
    fence::{Fence, FenceTarget},
    limits::{self, Quotas},
    machine::Machine,
    refusal::{Deadlock, Refusal},
    reply::Reply,
    types::{
        Actor, CallId, CommandHash, Holder, Labels, LeaseId, LockDelay, MaxHold, Mode, Ms,
        Namespace, Now, Permits, Priority, Reach, RequestHash, RequestMark, ResourceName, Revision,
        SessionId, Target, Targets, Token, Ttl, Words,
    },
};

use super::{
    steps::{ACTORS, Acquire, NAMES, Place, Step, Wanted, WantedMode},
    tally, watch,
};
use crate::model::{
    Model, Told,
    claims::touch,
    told,
    told::{Shown, protection, shown},
};

/// A lease that was granted once.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) lease: LeaseRef,
    pub(super) resource: ResourceName,
}

impl Known {
    fn of(granted: &LeaseGranted) -> Self {
        Self {
            lease: LeaseRef { lease_id: granted.lease_id, token: granted.token },
            resource: granted.resource().clone(),
        }
    }
}

/// Machine and model side by side.
pub(super) struct Pair {
    machine: Machine,
    model: Model,
    /// What ended leases leave is not swept: nobody may be able to tell.
    leaves_orphans: bool,
    /// Slices after each decision; `None`: until all is settled and swept, and only then is the
    /// model asked.
    slices: Option<usize>,
    now: Now,
    /// What is younger than a minute.
    log: Vec<(Ms, Change)>,
    /// All of it, a decision each, and when on durable time.
    history: Vec<(u64, Vec<Change>)>,
    /// Durable time when time was 0.
    base: u64,
    /// What the log makes.
    rows: BTreeMap<RowKey, Change>,
    /// Bodies in the store, by the revision that wrote them.
    bodies: BTreeMap<Revision, Bytes>,
    /// Versions of records that were given.
    versions: Vec<Revision>,
    next_lease: u32,
    next_call: u64,
    known: Vec<Known>,
    /// Acquires with an id, and other requests with one.
    asked: Vec<Request>,
    asked_other: Vec<Request>,
    sessions: Vec<(SessionId, u8)>,
    holders: BTreeMap<CallId, String>,
    answered: BTreeSet<CallId>,
    /// Grants of this step.
    granted: Vec<(String, LeaseId, Token)>,
    /// The last revision that people can name.
    last_named: Revision,
    cycle: Option<Deadlock>,
    /// Who may be granted at once in this step, with their priorities.
    newcomers: BTreeMap<String, i32>,
    pub(super) tally: tally::Tally,
}

impl Pair {
    /// Everything is settled after each step, and the model knows what comes of it.
    pub(super) fn new() -> Self {
        Self::with(None)
    }

    /// The same, but records that were bound to ended leases stay where they are.
    pub(super) fn leaving_orphans() -> Self {
        Self { leaves_orphans: true, ..Self::with(None) }
    }

    /// So many slices follow each decision: the rest is left for later, as under load. There is
    /// no model of that, only what must hold at any time.
    pub(super) fn lazy(slices: usize) -> Self {
        Self::with(Some(slices))
    }

    fn with(slices: Option<usize>) -> Self {
        Self {
            machine: Machine::new(1, Quotas::default()),
            model: Model::default(),
            leaves_orphans: false,
            slices,
            now: Now { ms: Ms(0) },
            log: Vec::new(),
            history: Vec::new(),
            base: 0,
            rows: BTreeMap::new(),
            bodies: BTreeMap::new(),
            versions: Vec::new(),
            next_lease: 1,
            next_call: 1,
            known: Vec::new(),
            asked: Vec::new(),
            asked_other: Vec::new(),
            sessions: Vec::new(),
            holders: BTreeMap::new(),
            answered: BTreeSet::new(),
            granted: Vec::new(),
            last_named: Revision(0),
            cycle: None,
            newcomers: BTreeMap::new(),
            tally: tally::Tally::default(),
        }
    }

    pub(super) fn play(&mut self, step: &Step) {
        match step {
            Step::Drop { call } => {
                let recent = u64::from(*call) % 12;
                let call = CallId(self.next_call.saturating_sub(recent));
                let decision = self.machine.decide_drop(call);
                let expected = self.ask(|model| model.drop_call(call));
                self.take(decision, expected);
            }
            Step::Advance { ms } => {
                let until = self.now.ms.plus(*ms);
                let expected = self.ask(|model| model.advance(until.0));
                let got = self.tick_until(until);
                self.compare(got, expected);
            }
            Step::Stall => {
                self.now.ms = self.now.ms.plus(limits::CHARGE_MS_MAX);
                self.machine.stalled(self.now);
                let expected = self.ask(|model| model.stall(limits::CHARGE_MS_MAX));
                let got = self.tick_until(self.now.ms);
                self.compare(got, expected);
            }
            Step::Restart => self.restart(),
            _ => {
                let Some(request) = self.request(step) else { return };
                self.newcomers = priorities(&request.command);
                let decision = self.machine.decide(self.now, &request);
                self.model.versions = versions(&decision);
                let expected = self.ask(|model| model.request(&request));
                self.take(decision, expected);
                if self.slices.is_none() {
                    assert_eq!(self.model.versions.len(), 0, "no more was written than is due");
                }
            }
        }
        self.machine.check();
        let is_settled = self.slices.is_none();
        for which in 0..2 {
            watch::is_sound(&self.machine, self.now, &namespace(which), is_settled);
            watch::nothing_outlives_its_lease(&self.machine, self.now, &namespace(which));
            if is_settled {
                self.compare_records(&namespace(which));
            }
        }
        self.tally.add(std::mem::take(&mut self.model.met));
    }

    /// All that anybody may see of records and protections is the same.
    fn compare_records(&self, namespace: &Namespace) {
        let records = watch::records(&self.machine, self.now, namespace);
        let records: Vec<Shown> = records.iter().map(shown).collect();
        let expected = self.model.all_records(namespace.as_str());
        assert_eq!(records, expected, "there are the same records (left: the machine)");
        let protections = watch::protections(&self.machine, self.now, namespace);
        let protections: Vec<_> = protections.iter().map(protection).collect();
        let expected = self.model.list_protections(namespace.as_str(), None);
        assert_eq!(protections, expected, "the same is protected (left: the machine)");
    }

    fn ask(&mut self, step: impl FnOnce(&mut Model) -> Vec<(CallId, Told)>) -> Vec<(CallId, Told)> {
        if self.slices.is_some() { Vec::new() } else { step(&mut self.model) }
    }

    // === requests ===

    fn request(&mut self, step: &Step) -> Option<Request> {
        let call = CallId(self.next_call);
        self.next_call += 1;
        let plain = |namespace: u8, command| Request {
            call,
            namespace: self::namespace(namespace),
            mark: None,
            origin: None,
            age_ms: 0,
            fences: Box::default(),
            command,
        };
        Some(match step {
            Step::Again { which, wait_ms, keep_ms } => {
                self.again(call, *which, *wait_ms, *keep_ms)?
            }
            Step::Repeat { which } => {
                let earlier = recent(&self.asked_other, *which)?.clone();
                Request { call, command: self.drawn_anew(earlier.command), ..earlier }
            }
            Step::Write { at, brought, write } => {
                let Operation { fences, command } = self.write(at, *brought, write);
                let plain = Place { fence: None, ..at.clone() };
                let request = self.placed(call, &plain, command);
                self.with_fences(request, fences)
            }
            Step::Look(look) => plain(0, self.look(look)),
            Step::Acquire(acquire) => {
                let command = self.operation(call, step);
                self.placed(call, &acquire.at, command)
            }
            Step::Release { at, .. } | Step::Force { at, .. } | Step::Transfer { at, .. } => {
                let command = self.operation(call, step);
                self.placed(call, at, command)
            }
            Step::Transact { at, conditions, operations } => {
                self.transaction(call, at, conditions, operations)
            }
            Step::Abandon { which } => {
                let mark = recent(&self.asked, *which)?.mark?;
                plain(0, Command::AbandonLease { abandoned: mark.id, of: None })
            }
            Step::Open { namespace, ttl_s } => {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&call.0.to_be_bytes());
                self.sessions.push((SessionId(id), *namespace));
                let open = OpenSession {
                    session_id: SessionId(id),
                    holder: Holder::parse("s").unwrap(),
                    ttl: Ttl::parse(ttl_s * 1_000).unwrap(),
                    requests: RequestHash([0xff; 16]),
                };
                plain(*namespace, Command::OpenSession(open))
            }
            Step::KeepAlive { session } => {
                let (id, namespace) = *recent(&self.sessions, *session)?;
                plain(namespace, Command::KeepSessionAlive(id))
            }
            Step::Close { session } => {
                let (id, namespace) = *recent(&self.sessions, *session)?;
                plain(namespace, Command::CloseSession(id))
            }
            _ => plain(0, self.other_command(step)),
        })
    }

    /// What it asks for once more: the edge draws other ids for its leases.
    fn drawn_anew(&mut self, command: Command) -> Command {
        match command {
            Command::AcquireLease(acquire) => {
                Command::AcquireLease(AcquireLease { lease_id: self.lease_id(), ..acquire })
            }
            Command::TransferLease(mut transfer) => {
                transfer.new_id = self.lease_id();
                Command::TransferLease(transfer)
            }
            Command::Transact(mut transact) => {
                for operation in &mut transact.operations {
                    operation.command = self.drawn_anew(operation.command.clone());
                }
                Command::Transact(transact)
            }
            other => other,
        }
    }

    /// What may be an operation of a transaction, and is about leases.
    pub(super) fn operation(&mut self, call: CallId, step: &Step) -> Command {
        match step {
            Step::Acquire(acquire) => Command::AcquireLease(self.acquire(call, acquire)),
            Step::Release { lease, wrong_token, .. } => {
                let mut lease = self.lease(*lease).lease;
                if *wrong_token {
                    lease.token = Token(lease.token.0 + 1);
                }
                Command::ReleaseLease(lease)
            }
            Step::Force { lease, elsewhere, .. } => {
                let known = self.lease(*lease);
                let resource = elsewhere.map_or(known.resource, name);
                Command::ForceReleaseLease { resource, token: known.lease.token }
            }
            Step::Transfer { lease, to, actor, ttl_s, .. } => {
                Command::TransferLease(Box::new(TransferLease {
                    lease: self.lease(*lease).lease,
                    new_id: self.lease_id(),
                    to: Holder::parse(&format!("t{to}")).unwrap(),
                    to_actor: actor.map(self::actor),
                    ttl: ttl_s.map(|it| Ttl::parse(it * 1_000).unwrap()),
                }))
            }
            other => unreachable!("no such operation: {other:?}"),
        }
    }

    fn other_command(&self, step: &Step) -> Command {
        match step {
            Step::Renew { leases } => {
                Command::RenewLeases(leases.iter().map(|it| self.lease(*it).lease).collect())
            }
            Step::AskToYield { name, from, only } => {
                Command::RequestLeaseYield(Box::new(RequestLeaseYield {
                    resource: self::name(*name),
                    token: only.map(|it| self.lease(it).lease.token),
                    from: Holder::parse(&format!("asks{from}")).unwrap(),
                    reason: Words::parse("why").unwrap(),
                }))
            }
            Step::AnswerYield { lease, within_ms } => {
                Command::AnswerLeaseYield(Box::new(AnswerLeaseYield {
                    lease: self.lease(*lease).lease,
                    number: None,
                    answer: YieldAnswer {
                        within_ms: *within_ms,
                        message: Words::parse("so").unwrap(),
                    },
                }))
            }
            Step::Get { name } => Command::GetLease(LeaseKey::Resource(self::name(*name))),
            Step::List { after, count, holder, within, labels } => {
                let holder = holder.map(|which| match which % 2 {
                    0 => format!("t{}", which % 3),
                    _ => format!("h{}", self.next_lease.saturating_sub(u32::from(which))),
                });
                let filter = LeaseFilter {
                    holder: holder.map(|it| Holder::parse(&it).unwrap()),
                    within: within.map(self::name),
                    labels: self::labels(*labels),
                };
                let after = after.map_or(0, |which| self.lease(which).lease.token.0);
                Command::ListLeases { after, count: *count, filter: Box::new(filter) }
            }
            Step::Check { lease, name } => {
                let known = self.lease(*lease);
                let resource = name.map_or(known.resource, self::name);
                Command::CheckLease { resource, token: known.lease.token }
            }
            Step::Waiters => Command::ListLeaseWaiters { after: 0, count: 100 },
            Step::Stats => Command::GetLeaseStats,
            other => unreachable!("no such command: {other:?}"),
        }
    }

    pub(super) fn placed_fence(&self, at: &Place) -> Vec<Fence> {
        let fence = at.fence.map(|(which, elsewhere)| {
            let known = self.lease(which);
            let resource = elsewhere.map_or(known.resource, name);
            Fence { target: FenceTarget::Resource(resource), token: known.lease.token }
        });
        fence.into_iter().collect()
    }

    /// The same request, with these fences.
    fn with_fences(&mut self, request: Request, fences: Box<[Fence]>) -> Request {
        let request = Request { fences, ..request };
        if request.mark.is_some() {
            *self.asked_other.last_mut().unwrap() = request.clone();
        }
        request
    }

    pub(super) fn placed(&mut self, call: CallId, at: &Place, command: Command) -> Request {
        let fences = self.placed_fence(at);
        let all = self.asked.iter().chain(&self.asked_other).collect::<Vec<_>>();
        let stolen = at.stolen.and_then(|which| recent(&all, which)?.mark);
        let fresh = at.has_id.then(|| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&call.0.to_be_bytes());
            RequestHash(id)
        });
        let id = stolen.map(|mark| mark.id).or(fresh);
        let request = Request {
            call,
            namespace: namespace(at.namespace),
            mark: id.map(|id| RequestMark { id, command: identity(&command) }),
            origin: None,
            age_ms: at.age_ms,
            fences: fences.into(),
            command,
        };
        if request.mark.is_some() {
            let is_acquire = matches!(request.command, Command::AcquireLease(_));
            let list = if is_acquire { &mut self.asked } else { &mut self.asked_other };
            list.push(request.clone());
        }
        request
    }

    /// An earlier acquire: the same logical call, so the edge draws another id for its lease.
    fn again(&mut self, call: CallId, which: u8, wait_ms: u64, keep_ms: u64) -> Option<Request> {
        let detached: Vec<String> = watch::waiters(&self.machine, self.now, &namespace(0))
            .into_iter()
            .filter(|it| !it.is_attached)
            .map(|it| it.holder.to_string())
            .collect();
        let comes_back = |it: &&Request| match (&it.command, which % 2) {
            (Command::AcquireLease(it), 0) => detached.contains(&it.holder.to_string()),
            (_, _) => true,
        };
        let asked: Vec<&Request> = self.asked.iter().filter(comes_back).collect();
        let mut request = Request { call, ..(*recent(&asked, which / 2)?).clone() };
        let lease_id = self.lease_id();
        if let Command::AcquireLease(acquire) = &mut request.command {
            acquire.lease_id = lease_id;
            acquire.wait_ms = wait_ms;
            acquire.keep_ms = keep_ms;
            self.holders.insert(call, acquire.holder.to_string());
        }
        Some(request)
    }

    /// Whatever was left for later is done.
    pub(super) fn finish(&mut self) {
        self.slices = Some(usize::MAX);
        let got = self.apply(Decision::default());
        self.compare(got, Vec::new());
        self.machine.check();
        for which in 0..2 {
            watch::is_sound(&self.machine, self.now, &namespace(which), true);
        }
        self.check_rows();
    }

    fn acquire(&mut self, call: CallId, wanted: &Acquire) -> AcquireLease {
        let holder = format!("h{}", self.next_lease);
        self.holders.insert(call, holder.clone());
        let session = wanted.session.and_then(|which| recent(&self.sessions, which).copied());
        let terms = Terms {
            actor: wanted.actor.map(actor),
            labels: labels(wanted.labels),
            // Never the same moment as the end of a ttl that was not renewed.
            max_hold: wanted.max_hold_s.map(|it| MaxHold::parse(it * 1_000 + 137).unwrap()),
            lock_delay: LockDelay::parse(wanted.delay_ms).unwrap(),
        };
        AcquireLease {
            lease_id: self.lease_id(),
            holder: Holder::parse(&holder).unwrap(),
            targets: targets(&wanted.targets),
            lifetime: match session {
                Some((id, _)) => Lifetime::Session(id),
                None => Lifetime::Ttl(Ttl::parse(wanted.ttl_s * 1_000).unwrap()),
            },
            wait_ms: wanted.wait_ms,
            keep_ms: wanted.keep_ms,
            priority: Priority::parse(wanted.priority).unwrap(),
            terms: (terms != Terms::default()).then(|| Box::new(terms)),
        }
    }

    fn lease_id(&mut self) -> LeaseId {
        let mut lease_id = [0; 16];
        lease_id[..4].copy_from_slice(&self.next_lease.to_be_bytes());
        self.next_lease += 1;
        LeaseId(lease_id)
    }

    /// Some lease there is, or was; one that never was while there is none.
    pub(super) fn lease(&self, which: u8) -> Known {
        let live = self.rows().filter_map(|row| match row {
            Change::LeaseGranted(it) => Some(Known::of(it)),
            _ => None,
        });
        let live: Vec<Known> = live.collect();
        if which < 190 && !live.is_empty() {
            return live[usize::from(which) % live.len()].clone();
        }
        let never = LeaseRef { lease_id: LeaseId([0; 16]), token: Token((1 << 53) - 2) };
        let known = recent(&self.known, which).cloned();
        known.unwrap_or(Known { lease: never, resource: name(0) })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Change> {
        self.rows.values()
    }

    pub(super) fn known_versions(&self) -> &[Revision] {
        &self.versions
    }

    // === what comes of them ===

    fn tick_until(&mut self, until: Ms) -> Vec<(CallId, Told)> {
        let mut got = Vec::new();
        loop {
            let next = self.machine.next_deadline().filter(|at| *at <= until);
            self.now.ms = self.now.ms.max(next.unwrap_or(until));
            let decision = self.machine.decide_tick(self.now);
            if decision.is_empty() {
                assert!(next.is_none(), "a deadline at {next:?} with nothing to do");
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
        let mut left = self.slices.unwrap_or(usize::MAX);
        while let Some(decision) = next {
            self.watch(&decision);
            for answer in &decision.answers {
                if let Ok(Reply::Transacted(it)) = &answer.result
                    && !it.replayed
                {
                    let last = decision.changes.iter().map(Change::revision).max();
                    assert_eq!(Some(it.commit), last, "it is visible with its last revision");
                }
                got.push((answer.call, told(&answer.result, &mut self.cycle)));
            }
            for change in &decision.changes {
                self.note(change);
            }
            self.machine.take(self.now, &decision);
            self.machine.durable(self.now, self.machine.state().revision());
            self.history.push((self.base + self.now.ms.0, decision.changes.clone()));
            self.log.extend(decision.changes.into_iter().map(|change| (self.now.ms, change)));
            if left == 0 {
                break;
            }
            left -= 1;
            // Slices of two: the outcome must not depend on how it is cut.
            next = self.machine.decide_settle(self.now, 2).map(|it| it.decision);
            if next.is_none() {
                let sweep = self.machine.decide_sweep(self.now, 2);
                next = sweep.filter(|it| !self.leaves_orphans || !is_of_orphans(it));
            }
        }
        got
    }

    fn watch(&self, decision: &Decision) {
        let grants = decision.changes.iter().any(|it| matches!(it, Change::LeaseGranted(_)));
        if !grants {
            return;
        }
        let refused = decision.answers.iter().filter(|it| {
            matches!(it.result, Err(Refusal::StaleFence(_) | Refusal::SessionLost { .. }))
        });
        let dropped = refused.filter_map(|it| self.holders.get(&it.call).cloned()).collect();
        for which in 0..2 {
            let namespace = namespace(which);
            watch::nobody_overtakes(
                &self.machine,
                self.now,
                &namespace,
                decision,
                &self.newcomers,
                &dropped,
            );
        }
    }

    fn note(&mut self, change: &Change) {
        laws::lay(&mut self.rows, change);
        if let Some(replaced) = change.replaced() {
            assert!(self.bodies.remove(&replaced).is_some(), "a body is let go that is there");
        }
        if let Some((version, body)) = change.carried() {
            assert!(self.bodies.insert(version, body.clone()).is_none(), "it is new");
        }
        let named = match change {
            Change::LeaseGranted(it) => {
                self.granted.push((it.namespace.to_string(), it.lease_id, it.token));
                self.known.push(Known::of(it));
                Some(it.token.revision())
            }
            Change::RecordWritten(it) => {
                self.versions.push(it.version);
                Some(it.version)
            }
            Change::PrefixProtected(it) => Some(it.revision),
            _ => None,
        };
        if let Some(named) = named {
            assert!(named > self.last_named, "tokens and versions rise for ever");
            self.last_named = named;
        }
    }

    fn compare(&mut self, got: Vec<(CallId, Told)>, expected: Vec<(CallId, Told)>) {
        let granted = std::mem::take(&mut self.granted);
        if self.slices.is_some() {
            let mut calls = got.iter().map(|(call, _)| *call);
            assert!(
                calls.all(|call| self.answered.insert(call)),
                "a call is answered once: {got:?}"
            );
            return;
        }
        self.model.learn_tokens(&granted);
        let mut got: BTreeMap<_, _> = got.into_iter().collect();
        let mut expected: BTreeMap<_, _> = expected.into_iter().collect();
        if self.leaves_orphans {
            // A page may end before what is gone, and another follow with nothing in it.
            for told in got.values_mut().chain(expected.values_mut()) {
                if let Told::RecordPage { is_last, .. } = told {
                    *is_last = false;
                }
            }
        }
        for call in std::mem::take(&mut self.model.or_stale) {
            if let Some(stale @ Told::StaleFence(_)) = got.get(&call) {
                expected.insert(call, stale.clone());
            }
        }
        assert_eq!(got, expected, "calls are told the same (left: the machine)");
        for call in got.keys() {
            assert!(self.answered.insert(*call), "{call:?} is answered once");
        }
        let scene = self.model.refused.take();
        if let Some(cycle) = self.cycle.take() {
            let scene = scene.expect("the model refused it too");
            scene.check_cycle(&cycle);
            self.tally.add_cycle(&cycle, &scene);
        }
    }
}

/// Nothing but records that are gone already is deleted.
fn is_of_orphans(sweep: &Decision) -> bool {
    let is_deletion = |change: &Change| matches!(change, Change::RecordDeleted(_));
    sweep.answers.is_empty() && sweep.motions.is_empty() && sweep.changes.iter().all(is_deletion)
}

/// The versions that a decision gives, in their order.
fn versions(decision: &Decision) -> VecDeque<(String, String, u64)> {
    let each = decision.changes.iter().filter_map(|change| match change {
        Change::RecordWritten(it) => Some((&it.namespace, &it.key, it.version)),
        Change::PrefixProtected(it) => Some((&it.namespace, &it.prefix, it.revision)),
        _ => None,
    });
    each.map(|(space, key, version)| (space.to_string(), key.as_str().into(), version.0)).collect()
}

/// Who asks for leases in a command, and with which priority.
fn priorities(command: &Command) -> BTreeMap<String, i32> {
    match command {
        Command::AcquireLease(it) => {
            BTreeMap::from([(it.holder.to_string(), i32::from(it.priority.get()))])
        }
        Command::Transact(transact) => {
            transact.operations.iter().flat_map(|it| priorities(&it.command)).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// One of the last few.
pub(super) fn recent<T>(all: &[T], which: u8) -> Option<&T> {
    let count = all.len().min(8);
    (count > 0).then(|| &all[all.len() - 1 - usize::from(which) % count])
}

fn targets(wanted: &[Wanted]) -> Targets {
    let mut chosen: Vec<Target> = Vec::new();
    for it in wanted {
        let usual = 2 + u32::from(it.name) % 3;
        let (mode, reach) = match it.mode {
            WantedMode::Permits { count, other_limit } => {
                let limit = if other_limit { 1 } else { usual };
                (Mode::Permits(Permits::parse(count.min(limit), limit).unwrap()), Reach::Exact)
            }
            WantedMode::Exclusive | WantedMode::Shared => {
                let reach = if it.subtree { Reach::Subtree } else { Reach::Exact };
                let is_shared = matches!(it.mode, WantedMode::Shared);
                (if is_shared { Mode::Shared } else { Mode::Exclusive }, reach)
            }
        };
        let target = Target { resource: name(it.name), mode, reach };
        if chosen.iter().all(|other| !touch(other, &target)) {
            chosen.push(target);
        }
    }
    Targets::parse(chosen).unwrap()
}

pub(super) fn name(which: u8) -> ResourceName {
    ResourceName::parse(NAMES[usize::from(which) % NAMES.len()]).unwrap()
}

fn actor(which: u8) -> Actor {
    Actor::parse(ACTORS[usize::from(which) % ACTORS.len()]).unwrap()
}

fn labels(bits: u8) -> Labels {
    let all = [("k", "1"), ("k2", "x"), ("k2", "y")];
    let chosen = all.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0 && *at != 2);
    let other = (bits & 4 != 0 && bits & 2 == 0).then_some(all[2]);
    Labels::parse(chosen.map(|(_, label)| *label).chain(other)).unwrap()
}

pub(super) fn namespace(which: u8) -> Namespace {
    Namespace::parse(if which == 0 { "default" } else { "other" }).unwrap()
}

/// What the edge hashes: the command without wait, keep and the ids that it draws.
fn identity(command: &Command) -> CommandHash {
    let text = match command {
        Command::AcquireLease(it) => {
            format!("{}{:?}{:?}{:?}{:?}", it.holder, it.targets, it.lifetime, it.priority, it.terms)
        }
        Command::TransferLease(it) => {
            format!("{:?}{}{:?}{:?}", it.lease, it.to, it.to_actor, it.ttl)
        }
        Command::Transact(it) => {
            let operations = it.operations.iter();
            let each = operations.map(|it| (it.fences.clone(), identity(&it.command)));
            format!("{:?}{:?}", it.conditions, each.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    };
    let mut hash = [0_u8; 16];
    for (index, byte) in text.bytes().enumerate() {
        hash[index % 16] = hash[index % 16].wrapping_mul(31).wrapping_add(byte);
    }
    CommandHash(hash)
}
