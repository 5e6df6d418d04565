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
    change::LeaseGranted,
    command::{AcquireLease, Lifetime},
    deadline::{Deadlines, Floors},
    fence::Fence,
    limits::Quotas,
    memory::Memory,
    session::Session,
    table::{Hasher, KeyHash, Table},
    types::{
        CallId, LeaseId, Mode, Ms, Namespace, RequestHash, RequestMark, ResourceName, Revision,
        SessionId, SessionNumber, Token,
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
    pub(crate) resources: Slab<Resource>,
    pub(crate) resource_names: Table<u32>,
    /// Ended ones included, until they are forgotten.
    pub(crate) sessions: Slab<Session>,
    pub(crate) session_ids: Table<u32>,
    pub(crate) session_numbers: BTreeMap<SessionNumber, u32>,
    pub(crate) memory: Memory,
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
    /// Resources on which a waiter may now be granted.
    pub(crate) unsettled: VecDeque<u32>,
    pub(crate) next_seq: u64,
}

/// A namespace with anything in it.
pub(crate) struct Space {
    pub(crate) name: Namespace,
    /// Live leases by token.
    pub(crate) leases: BTreeMap<Token, u32>,
    pub(crate) waiters: u64,
    /// Ended ones included, until they are forgotten.
    pub(crate) sessions: u64,
    pub(crate) bytes: u64,
}

/// A live lease: what is durable of it, and its clock.
pub(crate) struct Lease {
    pub(crate) granted: Arc<LeaseGranted>,
    pub(crate) space: u32,
    pub(crate) resource: u32,
    /// When its ttl was last begun anew.
    pub(crate) renewed: Ms,
    /// Where it stands in the table of deadlines; [`UNARMED`] until its grant is durable.
    pub(crate) armed: Ms,
}

/// Of a lease whose deadline has not begun.
pub(crate) const UNARMED: Ms = Ms(u64::MAX);

/// A resource that is held or waited for.
pub(crate) struct Resource {
    pub(crate) name: ResourceName,
    pub(crate) space: u32,
    /// The lease of its only holder; [`NOWHERE`] when nobody holds it. When several share it
    /// they are in the crowd, and this means nothing.
    pub(crate) holder: u32,
    /// What few resources have: several holders, or a queue.
    pub(crate) crowd: Option<Box<Crowd>>,
}

/// A slot that is none.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Those who share a resource, and those who wait for it.
#[derive(Default)]
pub(crate) struct Crowd {
    /// By token; two at least, or none.
    pub(crate) sharers: BTreeSet<(Token, u32)>,
    pub(crate) queue: Queue,
    /// It stands in the list of resources to settle.
    pub(crate) unsettled: bool,
}

/// Who holds a resource: nearly always one.
pub(crate) enum Holders<'a> {
    None,
    One(u32),
    /// Shared, by token.
    Many(&'a BTreeSet<(Token, u32)>),
}

/// Who waits for a resource.
#[derive(Default)]
pub(crate) struct Queue {
    /// Attached waiters in the order in which they will be served.
    pub(crate) attached: BTreeMap<QueueKey, u32>,
    /// How many of them ask for what, by priority.
    pub(crate) levels: BTreeMap<i8, Level>,
    /// Waiters, detached ones included.
    pub(crate) total: u32,
}

/// Place in a queue: higher priority first, then first come, first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub(crate) descending: core::cmp::Reverse<i8>,
    pub(crate) seq: u64,
}

/// Attached waiters of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) shared: u32,
    pub(crate) exclusive: u32,
}

/// Someone who waits for a lease.
pub(crate) struct Waiter {
    pub(crate) space: u32,
    pub(crate) resource: u32,
    pub(crate) mark: Option<RequestMark>,
    /// The session whose operation that is.
    pub(crate) asked_by: Option<SessionNumber>,
    /// What must hold when it is granted.
    pub(crate) fences: Box<[Fence]>,
    pub(crate) acquire: AcquireLease,
    pub(crate) seq: u64,
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
            resources: Slab::new(),
            resource_names: Table::new(),
            sessions: Slab::new(),
            session_ids: Table::new(),
            session_numbers: BTreeMap::new(),
            waiters: Slab::new(),
            waiter_requests: Table::new(),
            calls: Table::new(),
            deadlines: Deadlines::default(),
            floors: Floors::default(),
            starting: VecDeque::new(),
            starting_sessions: VecDeque::new(),
            ending: VecDeque::new(),
            unsettled: VecDeque::new(),
            next_seq: 0,
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

    pub(crate) fn resource(&self, slot: u32) -> &Resource {
        self.resources.get(slot as usize).expect("slots of resources are kept true")
    }

    pub(crate) fn resource_mut(&mut self, slot: u32) -> &mut Resource {
        self.resources.get_mut(slot as usize).expect("slots of resources are kept true")
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
        self.session_of(lease).is_none_or(|session| self.session(session).is_live())
    }

    /// The session a lease lives with.
    pub(crate) fn session_of(&self, lease: u32) -> Option<u32> {
        let granted = &self.lease(lease).granted;
        let number = granted.session.filter(|_| granted.is_bound)?;
        Some(self.find_session(number).expect("a session outlives what lives with it"))
    }

    pub(crate) fn find_space(&self, namespace: &Namespace) -> Option<u32> {
        self.space_names.get(namespace).copied()
    }

    pub(crate) fn find_resource(&self, space: u32, name: &ResourceName) -> Option<u32> {
        let hash = self.resource_hash(space, name);
        let is = |slot: &u32| {
            let resource = self.resource(*slot);
            resource.space == space && resource.name == *name
        };
        self.resource_names.find(hash, is).copied()
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

    pub(crate) fn resource_hash(&self, space: u32, name: &ResourceName) -> KeyHash {
        self.hasher.hash(&(space, name.as_str()))
    }

    /// What is left of a lease: all of it while its deadline has not begun.
    pub(crate) fn remaining_ms(&self, slot: u32, now: Ms) -> u64 {
        if let Some(session) = self.session_of(slot) {
            return self.session_remaining_ms(session, now);
        }
        let lease = self.lease(slot);
        if lease.armed == UNARMED {
            return lease.granted.ttl.ms();
        }
        self.floors.deadline(lease.renewed, lease.granted.ttl.ms()).since(now)
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

// === impl Resource ===

impl Resource {
    pub(crate) fn holders(&self) -> Holders<'_> {
        match self.crowd.as_deref() {
            Some(crowd) if !crowd.sharers.is_empty() => Holders::Many(&crowd.sharers),
            _ if self.holder == NOWHERE => Holders::None,
            _ => Holders::One(self.holder),
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holders().len() > 0
    }

    /// Whoever waits, attached or not; `None`: nobody does.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.crowd.as_deref().map(|crowd| &crowd.queue).filter(|queue| queue.total > 0)
    }

    pub(crate) fn crowd(&mut self) -> &mut Crowd {
        self.crowd.get_or_insert_default()
    }

    /// Drops a crowd that is none.
    pub(crate) fn tidy(&mut self) {
        let idle = |crowd: &Crowd| crowd.sharers.is_empty() && crowd.queue.total == 0;
        if self.crowd.as_deref().is_some_and(idle) {
            self.crowd = None;
        }
    }
}

// === impl Holders ===

impl<'a> Holders<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(leases) => leases.len(),
        }
    }

    /// Places of the holders' leases, oldest grant first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + use<'a> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(lease) => (Some(*lease), None),
            Self::Many(leases) => (None, Some(leases.iter().map(|(_, lease)| *lease))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

// === impl Queue ===

impl Queue {
    /// How many attached waiters a newcomer of this priority finds before it.
    pub(crate) fn ahead_of_newcomer(&self, priority: i8) -> Level {
        let mut ahead = Level::default();
        for (_, level) in self.levels.range(priority..) {
            ahead.shared += level.shared;
            ahead.exclusive += level.exclusive;
        }
        ahead
    }

    pub(crate) fn attach(&mut self, key: QueueKey, mode: Mode, waiter: u32) {
        let before = self.attached.insert(key, waiter);
        assert!(before.is_none(), "a place in a queue belongs to one waiter");
        *self.levels.entry(key.descending.0).or_default().of(mode) += 1;
    }

    pub(crate) fn detach(&mut self, key: QueueKey, mode: Mode) {
        let gone = self.attached.remove(&key);
        assert!(gone.is_some(), "only an attached waiter is detached");
        let level = self.levels.get_mut(&key.descending.0).expect("a level for every waiter");
        *level.of(mode) -= 1;
        if level.is_empty() {
            self.levels.remove(&key.descending.0);
        }
    }
}

impl Level {
    fn of(&mut self, mode: Mode) -> &mut u32 {
        match mode {
            Mode::Exclusive => &mut self.exclusive,
            Mode::Shared => &mut self.shared,
        }
    }

    pub(crate) const fn total(self) -> u32 {
        self.shared + self.exclusive
    }

    const fn is_empty(self) -> bool {
        self.shared == 0 && self.exclusive == 0
    }
}

impl Waiter {
    pub(crate) const fn key(&self) -> QueueKey {
        QueueKey { descending: core::cmp::Reverse(self.acquire.priority.get()), seq: self.seq }
    }

    pub(crate) fn is_attached(&self) -> bool {
        !self.calls.is_empty()
    }
}
