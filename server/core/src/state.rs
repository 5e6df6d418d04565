//! The state: what the machine knows, and the indexes that find it.
//!
//! Owns the data and the lookups. It is changed only by `absorb` (durable state and replay
//! memory) and by `shift` (volatile state); nothing here decides.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use slab::Slab;

use crate::{
    change::{LeaseClosed, LeaseGranted},
    command::{AcquireLease, Lifetime},
    deadline::{Deadlines, Floors},
    fence::Fence,
    lease::yields::Yields,
    limits::Quotas,
    memory::Memory,
    record::absorb::Record,
    session::Session,
    table::{Hasher, Table},
    tree::{Class, Mark, NOWHERE, Node, QueueKey},
    types::{
        Actor, CallId, Claim, DurableMs, LeaseId, Ms, Namespace, RecordKey, RequestHash,
        RequestMark, ResourceName, Revision, SessionId, SessionNumber, Token,
    },
};

/// Everything.
pub struct State {
    pub(crate) quotas: Quotas,
    pub(crate) hasher: Hasher,
    /// The last revision taken.
    pub(crate) revision: Revision,
    pub(crate) spaces: Slab<Space>,
    pub(crate) space_names: BTreeMap<Namespace, u32>,
    pub(crate) leases: Slab<Lease>,
    pub(crate) lease_ids: Table<u32>,
    pub(crate) lease_requests: Table<u32>,
    /// Leases that keep their resources closed.
    pub(crate) closed: BTreeMap<Token, Closed>,
    pub(crate) nodes: Slab<Node>,
    pub(crate) node_names: Table<u32>,
    /// What acts under which actor, by namespace.
    pub(crate) actors: BTreeMap<(u32, Actor), Acting>,
    /// What leases with an actor claim, in the order of paths.
    pub(crate) actor_claims: BTreeSet<(u32, ResourceName, Token, u32)>,
    /// What the log last said of durable time, and when.
    pub(crate) clock_row: Option<(DurableMs, Revision)>,
    /// Durable time at volatile time 0.
    pub(crate) clock_base: DurableMs,
    /// Leases with a longest hold, closed ones, and records with a ttl: as long as there are any,
    /// durable time is logged.
    pub(crate) durable_timers: u64,
    /// Ended ones included, until they are forgotten.
    pub(crate) sessions: Slab<Session>,
    pub(crate) session_ids: Table<u32>,
    pub(crate) session_numbers: BTreeMap<SessionNumber, u32>,
    pub(crate) records: Slab<Record>,
    pub(crate) record_keys: Table<u32>,
    /// Records that are bound to a lease, by its token; those of leases that are no more too,
    pub(crate) bound: BTreeMap<Token, BTreeMap<RecordKey, u32>>,
    /// which are these.
    pub(crate) orphaned: BTreeSet<Token>,
    pub(crate) memory: Memory,
    /// When durable time was last logged; `None`: not since the start.
    pub(crate) clock_logged: Option<Ms>,
    // What follows is volatile.
    pub(crate) waiters: Slab<Waiter>,
    pub(crate) waiter_requests: Table<u32>,
    pub(crate) calls: Table<(CallId, u32)>,
    pub(crate) deadlines: Deadlines,
    pub(crate) floors: Floors,
    /// Grants whose entry is not known to be durable, by token: their deadline has not begun.
    pub(crate) starting: VecDeque<(Token, u32)>,
    /// The same for sessions.
    pub(crate) starting_sessions: VecDeque<SessionNumber>,
    /// Ended sessions that may still hold something, in the order in which they ended.
    pub(crate) ending: VecDeque<u32>,
    /// Where a waiter may now be granted.
    pub(crate) unsettled: VecDeque<Mark>,
    /// Requests to yield, by the lease's token.
    pub(crate) yields: BTreeMap<Token, Yields>,
    pub(crate) next_seq: u64,
}

/// A namespace with anything in it.
pub(crate) struct Space {
    pub(crate) name: Namespace,
    /// Live leases by token.
    pub(crate) leases: BTreeMap<Token, u32>,
    /// Leases that keep their resources closed.
    pub(crate) closed: u64,
    /// Waiters in the order in which they were queued.
    pub(crate) waiters: BTreeMap<u64, u32>,
    /// Ended ones included, until they are forgotten.
    pub(crate) sessions: u64,
    /// Those included that are gone to every check.
    pub(crate) records: BTreeMap<RecordKey, u32>,
    /// What protects a prefix, and since when.
    pub(crate) protections: BTreeMap<RecordKey, BTreeMap<ResourceName, Revision>>,
    pub(crate) protection_count: u64,
    pub(crate) bytes: u64,
    pub(crate) totals: Totals,
}

/// What came and went in a namespace, since the start or since it last was empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) granted: u64,
    pub(crate) released: u64,
    pub(crate) lost: u64,
    pub(crate) queued: u64,
}

/// A lease that is no more, and keeps its resources closed.
pub(crate) struct Closed {
    pub(crate) lease: u32,
    pub(crate) closed: Arc<LeaseClosed>,
}

/// What acts under one actor. Never empty.
#[derive(Default)]
pub(crate) struct Acting {
    pub(crate) leases: BTreeSet<(Token, u32)>,
    /// Detached ones included.
    pub(crate) waiters: BTreeSet<u32>,
}

/// A lease: what is durable of it, and its clock.
pub(crate) struct Lease {
    pub(crate) granted: Arc<LeaseGranted>,
    pub(crate) space: u32,
    /// The node of its only claim; [`NOWHERE`]: it has several.
    pub(crate) node: u32,
    /// When its ttl was last begun anew; [`CLOSED`]: it is no more, and keeps its resources closed.
    pub(crate) renewed: Ms,
    /// Where it stands in the table of deadlines; [`UNARMED`] until its grant is durable.
    pub(crate) armed: Ms,
}

/// Of a lease whose deadline has not begun.
pub(crate) const UNARMED: Ms = Ms(u64::MAX);
/// Of a lease that is no more.
pub(crate) const CLOSED: Ms = Ms(u64::MAX);

/// Someone who waits for a lease.
pub(crate) struct Waiter {
    pub(crate) space: u32,
    /// The nodes of its claims, in their order.
    pub(crate) nodes: Box<[u32]>,
    pub(crate) mark: Option<RequestMark>,
    /// The session whose operation that is.
    pub(crate) asked_by: Option<SessionNumber>,
    /// What must hold when it is granted.
    pub(crate) fences: Box<[Fence]>,
    pub(crate) acquire: AcquireLease,
    pub(crate) seq: u64,
    /// When it was queued.
    pub(crate) since: Ms,
    /// Calls that will be told; without any it is detached and passed over.
    pub(crate) calls: Vec<AttachedCall>,
    /// Where it stands in the table of deadlines: the end of its earliest call's wait while
    /// attached, else the end of its place.
    pub(crate) armed: Ms,
}

/// One call attached to a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttachedCall {
    pub(crate) call: CallId,
    pub(crate) since: Ms,
    pub(crate) until: Ms,
}

// === impl State ===

impl State {
    /// An empty state. `seed` is random, drawn outside.
    #[must_use]
    pub fn new(seed: u64, quotas: Quotas) -> Self {
        let hasher = Hasher::new(seed);
        Self {
            quotas,
            memory: Memory::new(hasher.clone()),
            hasher,
            revision: Revision(0),
            spaces: Slab::new(),
            space_names: BTreeMap::new(),
            leases: Slab::new(),
            lease_ids: Table::new(),
            lease_requests: Table::new(),
            closed: BTreeMap::new(),
            nodes: Slab::new(),
            node_names: Table::new(),
            actors: BTreeMap::new(),
            actor_claims: BTreeSet::new(),
            clock_row: None,
            clock_base: DurableMs(0),
            clock_logged: None,
            durable_timers: 0,
            sessions: Slab::new(),
            session_ids: Table::new(),
            session_numbers: BTreeMap::new(),
            records: Slab::new(),
            record_keys: Table::new(),
            bound: BTreeMap::new(),
            orphaned: BTreeSet::new(),
            waiters: Slab::new(),
            waiter_requests: Table::new(),
            calls: Table::new(),
            deadlines: Deadlines::default(),
            floors: Floors::default(),
            starting: VecDeque::new(),
            starting_sessions: VecDeque::new(),
            ending: VecDeque::new(),
            unsettled: VecDeque::new(),
            yields: BTreeMap::new(),
            next_seq: 1,
        }
    }

    pub(crate) fn space(&self, slot: u32) -> &Space {
        self.spaces.get(slot as usize).expect("slots of spaces are kept true")
    }

    pub(crate) fn space_mut(&mut self, slot: u32) -> &mut Space {
        self.spaces.get_mut(slot as usize).expect("slots of spaces are kept true")
    }

    pub(crate) fn lease(&self, slot: u32) -> &Lease {
        self.leases.get(slot as usize).expect("slots of leases are kept true")
    }

    pub(crate) fn lease_mut(&mut self, slot: u32) -> &mut Lease {
        self.leases.get_mut(slot as usize).expect("slots of leases are kept true")
    }

    pub(crate) fn waiter(&self, slot: u32) -> &Waiter {
        self.waiters.get(slot as usize).expect("slots of waiters are kept true")
    }

    pub(crate) fn waiter_mut(&mut self, slot: u32) -> &mut Waiter {
        self.waiters.get_mut(slot as usize).expect("slots of waiters are kept true")
    }

    pub(crate) fn session(&self, slot: u32) -> &Session {
        self.sessions.get(slot as usize).expect("slots of sessions are kept true")
    }

    pub(crate) fn session_mut(&mut self, slot: u32) -> &mut Session {
        self.sessions.get_mut(slot as usize).expect("slots of sessions are kept true")
    }

    /// The session with this number, ended or not.
    pub(crate) fn find_session(&self, number: SessionNumber) -> Option<u32> {
        self.session_numbers.get(&number).copied()
    }

    /// The session with this id, ended or not.
    pub(crate) fn find_session_by_id(&self, namespace: &Namespace, id: SessionId) -> Option<u32> {
        let is = |slot: &u32| {
            let opened = &self.session(*slot).opened;
            opened.session_id == id && opened.namespace == *namespace
        };
        self.session_ids.find(self.hasher.hash(&id), is).copied()
    }

    /// The first session whose number is not below this.
    pub(crate) fn session_from(&self, number: u64) -> Option<(SessionNumber, u32)> {
        let from = SessionNumber::parse(number.max(1)).ok()?;
        self.session_numbers.range(from..).next().map(|(number, slot)| (*number, *slot))
    }

    /// The session a lease lives with is alive, or it has its own ttl. What is left of a dead
    /// session's leases is gone to every check.
    pub(crate) fn is_live(&self, lease: u32) -> bool {
        !self.lease(lease).is_closed()
            && self.session_of(lease).is_none_or(|session| self.session(session).is_live())
    }

    /// A lease keeps its resources closed, or will when what its dead session left is ended.
    pub(crate) fn is_closing(&self, lease: u32) -> bool {
        if self.lease(lease).is_closed() {
            return true;
        }
        let session = self.session_of(lease).and_then(|slot| self.session(slot).ended.as_ref());
        session.is_some_and(|ended| self.lease(lease).granted.would_close(ended.end.of_leases()))
    }

    /// The nodes of a lease's claims, in their order.
    pub(crate) fn lease_nodes(&self, slot: u32) -> Vec<u32> {
        let lease = self.lease(slot);
        if lease.node != NOWHERE {
            return [lease.node].into();
        }
        let node = |claim: Claim<'_>| {
            self.find_node(lease.space, claim.resource).expect("what is held has a node")
        };
        lease.granted.claims().map(node).collect()
    }

    /// The session a lease lives with.
    pub(crate) fn session_of(&self, lease: u32) -> Option<u32> {
        let (lease, granted) = (self.lease(lease), &self.lease(lease).granted);
        // A closed one may outlive it.
        let number = granted.session.filter(|_| granted.is_bound && !lease.is_closed())?;
        Some(self.find_session(number).expect("a session outlives what lives with it"))
    }

    pub(crate) fn find_space(&self, namespace: &Namespace) -> Option<u32> {
        self.space_names.get(namespace).copied()
    }

    pub(crate) fn find_lease(&self, space: u32, id: LeaseId) -> Option<u32> {
        let is = |slot: &u32| {
            let lease = self.lease(*slot);
            lease.space == space && lease.granted.lease_id == id
        };
        self.lease_ids.find(self.hasher.hash(&id), is).copied()
    }

    /// The live lease that this request got.
    pub(crate) fn find_lease_of(&self, id: RequestHash) -> Option<u32> {
        let is = |slot: &u32| self.lease(*slot).granted.request.is_some_and(|m| m.id == id);
        self.lease_requests.find(self.hasher.hash(&id), is).copied()
    }

    /// The waiter of this request.
    pub(crate) fn find_waiter_of(&self, id: RequestHash) -> Option<u32> {
        let is = |slot: &u32| self.waiter(*slot).mark.is_some_and(|m| m.id == id);
        self.waiter_requests.find(self.hasher.hash(&id), is).copied()
    }

    /// The waiter this call is attached to.
    pub(crate) fn find_waiter_by(&self, call: CallId) -> Option<u32> {
        self.calls.find(self.hasher.hash(&call), |(known, _)| *known == call).map(|(_, at)| *at)
    }

    /// Durable time at a moment.
    pub(crate) const fn durable_now(&self, now: Ms) -> DurableMs {
        self.clock_base.plus(now.0)
    }

    /// When it is that durable time.
    pub(crate) const fn volatile(&self, at: DurableMs) -> Ms {
        Ms(at.since(self.clock_base))
    }

    /// When durable time has to be logged again; `None`: nothing is counted on it.
    pub(crate) fn clock_due(&self) -> Option<Ms> {
        let next = |logged: Ms| logged.plus(crate::limits::CLOCK_LOG_MS);
        (self.durable_timers > 0).then(|| self.clock_logged.map_or(Ms(0), next))
    }

    /// What is left of a lease: all of it while its deadline has not begun.
    pub(crate) fn remaining_ms(&self, slot: u32, now: Ms) -> u64 {
        let lease = self.lease(slot);
        let own = match self.session_of(slot) {
            Some(session) => self.session_remaining_ms(session, now),
            None if lease.armed == UNARMED => lease.granted.ttl.ms(),
            None => self.floors.deadline(lease.renewed, lease.granted.ttl.ms()).since(now),
        };
        own.min(self.hold_remaining_ms(&lease.granted, now).unwrap_or(u64::MAX))
    }

    /// When a lease runs out, as things stand: by its own ttl, its longest hold, or what comes
    /// first. One that lives with its session has no ttl.
    pub(crate) fn lease_deadline(&self, slot: u32) -> Ms {
        let lease = self.lease(slot);
        let hold_end = lease.granted.hold_end().map(|end| self.volatile(end));
        let own = (!lease.granted.is_bound)
            .then(|| self.floors.deadline(lease.renewed, lease.granted.ttl.ms()));
        own.into_iter().chain(hold_end).min().expect("only what runs out is armed")
    }

    /// How long a lease may still be held, renewed or not; `None`: without bound.
    pub(crate) fn hold_remaining_ms(&self, granted: &LeaseGranted, now: Ms) -> Option<u64> {
        granted.hold_end().map(|end| end.since(self.durable_now(now)))
    }

    /// The session that a waiter's lease would live with.
    pub(crate) fn waiters_session(&self, waiter: u32) -> Option<u32> {
        let waiter = self.waiter(waiter);
        match waiter.acquire.lifetime {
            Lifetime::Ttl(_) => None,
            Lifetime::Session(id) => self.find_session_by_id(&self.space(waiter.space).name, id),
        }
    }

    /// What is left of a session: nothing when it has ended, all while its deadline has not
    /// begun.
    pub(crate) fn session_remaining_ms(&self, slot: u32, now: Ms) -> u64 {
        let session = self.session(slot);
        if !session.is_live() {
            return 0;
        }
        if session.armed == UNARMED {
            return session.opened.ttl.ms();
        }
        self.floors.deadline(session.renewed, session.opened.ttl.ms()).since(now)
    }

    /// The last revision taken.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Live leases of all namespaces.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Sessions of all namespaces, those included that have ended and are remembered.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Records of all namespaces, those included that are gone and not yet deleted.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// Waiters of all namespaces.
    #[must_use]
    pub fn waiter_count(&self) -> usize {
        self.waiters.len()
    }

    /// Replay memory.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }
}

// === impl Lease ===

impl Lease {
    /// It is no more, and keeps its resources closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.renewed == CLOSED
    }
}

// === impl Waiter ===

impl Waiter {
    pub(crate) const fn key(&self) -> QueueKey {
        QueueKey { descending: core::cmp::Reverse(self.acquire.priority.get()), seq: self.seq }
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(crate) fn actor(&self) -> Option<&Actor> {
        self.acquire.terms.as_deref()?.actor.as_ref()
    }

    /// Its claims, each with its node and class.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (u32, Claim<'_>, Class)> {
        let claims = self.acquire.targets.claims();
        self.nodes
            .iter()
            .copied()
            .zip(claims)
            .map(|(node, claim)| (node, claim, Class::of(claim.mode, claim.reach)))
    }
}
