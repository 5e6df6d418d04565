//! `absorb`: the only mutator of durable state and replay memory, and what recovery runs.
//!
//! It can't refuse: whatever could speak against a change was said in `decide`. Absorbing a
//! change twice is absorbing it once.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    change::{
        Change, Effect, LeaseEnded, LeaseGranted, RequestRemembered, SessionEnded, SessionOpened,
    },
    command::AcquireLease,
    deadline::Due,
    fence::{Fence, FenceTarget},
    limits,
    memory::Past,
    motion::QueuedWaiter,
    session::{
        Session,
        replies::{Kept, Replies},
    },
    state::{Holders, Lease, NOWHERE, Resource, Space, State, UNARMED, Waiter},
    types::{
        Holder, Mode, Ms, Namespace, RequestMark, ResourceName, Revision, SessionNumber, Token,
    },
};

/// Where what an operation came to is remembered.
enum Keeping {
    /// With its session, until its reply is acknowledged.
    Kept,
    /// Nowhere: it was.
    Acknowledged,
    /// Not with its session, which is gone.
    Elsewhere(Past),
}

impl State {
    /// Makes a change part of the state.
    pub(crate) fn absorb(&mut self, now: Ms, change: &Change) {
        match change {
            Change::Started { .. } => {}
            Change::RequestRemembered(remembered) => self.remember(now, remembered),
            Change::RequestAbandoned { id, .. } => self.memory.abandon(now, *id),
            Change::SessionOpened(opened) => self.absorb_session(opened),
            Change::SessionEnded(ended) => self.absorb_session_end(ended),
            Change::SessionSwept { number, .. } => self.absorb_session_swept(now, *number),
            Change::SessionFloored { number, below, revision } => {
                self.raise_floor(*number, *below, *revision);
            }
            Change::LeaseGranted(granted) => self.absorb_grant(granted),
            Change::LeaseEnded(ended) => self.absorb_end(now, ended),
        }
        self.take_revision(change.revision());
    }

    /// Makes what a change says to replay memory known, and nothing else: for entries whose
    /// durable part is in the rows already.
    pub(crate) fn recall(&mut self, now: Ms, change: &Change) {
        match change {
            Change::Started { .. }
            | Change::LeaseGranted(_)
            | Change::SessionOpened(_)
            | Change::SessionSwept { .. } => {}
            Change::RequestRemembered(remembered) => self.remember(now, remembered),
            Change::RequestAbandoned { id, .. } => self.memory.abandon(now, *id),
            Change::SessionEnded(ended) => self.recall_session_end(now, ended),
            Change::SessionFloored { number, below, revision } => {
                self.raise_floor(*number, *below, *revision);
            }
            Change::LeaseEnded(ended) => self.remember_end(now, ended),
        }
    }

    fn take_revision(&mut self, revision: Revision) {
        assert!(revision.0 < limits::REVISION_END, "revisions fit into 53 bits");
        self.revision = self.revision.max(revision);
    }

    fn absorb_grant(&mut self, granted: &Arc<LeaseGranted>) {
        let space = self.ensure_space(&granted.namespace);
        if self.space(space).leases.contains_key(&granted.token) {
            return;
        }
        let resource = self.ensure_resource(space, &granted.resource);
        let lease =
            Lease { granted: Arc::clone(granted), space, resource, renewed: Ms(0), armed: UNARMED };
        let slot = slot_of(self.leases.insert(lease));
        self.hold(resource, slot, granted);
        if let Some(session) = self.session_of(slot) {
            self.session_mut(session).leases.insert(granted.token, slot);
        } else {
            self.starting.push_back((granted.token, slot));
        }
        let space = self.space_mut(space);
        space.leases.insert(granted.token, slot);
        space.bytes += granted.bytes();
        self.index_lease(slot, granted);
    }

    fn index_lease(&mut self, slot: u32, granted: &LeaseGranted) {
        let (leases, hasher) = (&self.leases, &self.hasher);
        let of = |at: &u32| leases.get(*at as usize).expect("slots of leases are kept true");
        let id_hash = hasher.hash(&granted.lease_id);
        self.lease_ids.insert(id_hash, slot, |at| hasher.hash(&of(at).granted.lease_id));
        if let Some(mark) = granted.request {
            self.lease_requests.insert(hasher.hash(&mark.id), slot, |at| {
                let mark = of(at).granted.request.expect("indexed by its request");
                hasher.hash(&mark.id)
            });
        }
    }

    /// Adds a holder; what it may not share with was excluded by the decision.
    fn hold(&mut self, resource: u32, slot: u32, granted: &LeaseGranted) {
        let it = self.resource(resource);
        match it.holders() {
            Holders::None => self.resource_mut(resource).holder = slot,
            Holders::One(first) => {
                let other = &self.lease(first).granted;
                assert!(
                    granted.mode == Mode::Shared && other.mode == Mode::Shared,
                    "an exclusive lease is alone on its resource"
                );
                let both = [(other.token, first), (granted.token, slot)];
                self.resource_mut(resource).crowd().sharers.extend(both);
            }
            Holders::Many(_) => {
                assert!(granted.mode == Mode::Shared, "many holders share");
                self.resource_mut(resource).crowd().sharers.insert((granted.token, slot));
            }
        }
    }

    fn absorb_end(&mut self, now: Ms, ended: &LeaseEnded) {
        self.remember_end(now, ended);
        let Some(space) = self.find_space(&ended.namespace) else { return };
        let Some(slot) = self.space_mut(space).leases.remove(&ended.token) else { return };
        if let Some(session) = self.session_of(slot) {
            self.session_mut(session).leases.remove(&ended.token);
        }
        let lease = self.leases.remove(slot as usize);
        if lease.armed != UNARMED {
            self.deadlines.disarm(lease.armed, Due::Lease(slot));
        }
        self.unindex_lease(slot, &lease.granted);
        self.space_mut(space).bytes -= lease.granted.bytes();
        self.let_go(lease.resource, slot, lease.granted.token);
        self.drop_space_if_idle(space);
    }

    fn unindex_lease(&mut self, slot: u32, granted: &LeaseGranted) {
        let id_hash = self.hasher.hash(&granted.lease_id);
        let known = self.lease_ids.remove(id_hash, |at| *at == slot);
        assert!(known.is_some(), "every lease is found by its id");
        if let Some(mark) = granted.request {
            let known = self.lease_requests.remove(self.hasher.hash(&mark.id), |at| *at == slot);
            assert!(known.is_some(), "every lease is found by its request");
        }
    }

    fn let_go(&mut self, resource: u32, slot: u32, token: Token) {
        let it = self.resource_mut(resource);
        if matches!(it.holders(), Holders::Many(_)) {
            let sharers = &mut it.crowd().sharers;
            assert!(sharers.remove(&(token, slot)), "a lease holds its resource");
            if sharers.len() == 1 {
                let (_, last) = sharers.pop_first().expect("one is left");
                it.holder = last;
            }
        } else {
            assert!(it.holder == slot, "a lease holds its resource");
            it.holder = NOWHERE;
        }
        it.tidy();
        self.unsettle(resource);
        self.drop_resource_if_idle(resource);
    }

    /// Puts a resource on the list of those to settle, if anyone attached waits for it.
    pub(crate) fn unsettle(&mut self, resource: u32) {
        let Some(crowd) = self.resource_mut(resource).crowd.as_deref_mut() else { return };
        if !crowd.queue.attached.is_empty() && !crowd.unsettled {
            crowd.unsettled = true;
            self.unsettled.push_back(resource);
        }
    }

    fn absorb_session(&mut self, opened: &Arc<SessionOpened>) {
        if self.find_session(opened.number).is_some() {
            return;
        }
        let space = self.ensure_space(&opened.namespace);
        let session = Session {
            opened: Arc::clone(opened),
            space,
            ended: None,
            is_swept: false,
            leases: BTreeMap::new(),
            waiters: BTreeSet::new(),
            replies: Replies::default(),
            stream: None,
            generation: 0,
            renewed: Ms(0),
            armed: UNARMED,
        };
        let slot = slot_of(self.sessions.insert(session));
        self.session_numbers.insert(opened.number, slot);
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.session_ids.insert(hasher.hash(&opened.session_id), slot, |at| {
            let known = sessions.get(*at as usize).expect("slots of sessions are kept true");
            hasher.hash(&known.opened.session_id)
        });
        let space = self.space_mut(space);
        space.sessions += 1;
        space.bytes += opened.bytes();
        self.starting_sessions.push_back(opened.number);
    }

    /// From now on what it holds is gone to every check.
    fn absorb_session_end(&mut self, ended: &Arc<SessionEnded>) {
        self.absorb_session(&ended.opened);
        let slot = self.find_session(ended.opened.number).expect("it is there now");
        let session = self.session_mut(slot);
        if session.ended.is_some() {
            return;
        }
        session.ended = Some(Arc::clone(ended));
        let armed = core::mem::replace(&mut session.armed, UNARMED);
        if armed != UNARMED {
            self.deadlines.disarm(armed, Due::Session(slot));
        }
        self.ending.push_back(slot);
    }

    /// Only what it had come to is still remembered, for as long as any reply.
    fn absorb_session_swept(&mut self, now: Ms, number: SessionNumber) {
        let Some(slot) = self.find_session(number) else { return };
        self.ending.retain(|ending| *ending != slot);
        let session = self.session_mut(slot);
        if session.is_swept {
            return;
        }
        assert!(session.leases.is_empty() && session.waiters.is_empty(), "nothing is left of it");
        let at = now.plus(limits::MEMORY_MS);
        session.is_swept = true;
        session.armed = at;
        let (space, bytes) = (session.space, session.opened.bytes());
        self.space_mut(space).bytes -= bytes;
        self.deadlines.arm(at, Due::Session(slot));
    }

    fn recall_session_end(&mut self, now: Ms, ended: &Arc<SessionEnded>) {
        if self.find_session(ended.opened.number).is_none() {
            // Its row is gone, so it was swept.
            self.absorb_session_end(ended);
            self.absorb_session_swept(now, ended.opened.number);
        }
    }

    fn raise_floor(&mut self, number: SessionNumber, below: u64, logged: Revision) {
        let Some(slot) = self.find_session(number) else { return };
        let replies = &mut self.session_mut(slot).replies;
        let gone = replies.acknowledge(below, &[]);
        replies.floored = replies.floored.max((below, logged));
        self.let_replies_go(slot, &gone);
    }

    fn remember(&mut self, now: Ms, remembered: &RequestRemembered) {
        let past = Past::of(remembered.mark.command, &remembered.effect);
        self.remember_request(now, remembered.of, remembered.mark, past, remembered.revision);
    }

    /// Remembers an end by the lease's id, by the operation that did it, and by the request that
    /// had got the lease.
    fn remember_end(&mut self, now: Ms, ended: &LeaseEnded) {
        let mut is_kept = false;
        if let Some(by) = ended.by {
            let past = Past::of(by.mark.command, &Effect::Released);
            let kept = Kept { past, lease: Some(ended.lease_id), logged: ended.revision };
            match self.keep_reply(by.session, by.seq, kept) {
                Keeping::Kept => is_kept = true,
                Keeping::Acknowledged => {}
                Keeping::Elsewhere(past) => self.memory.keep_request(now, by.mark.id, past),
            }
        }
        // Whoever released it will say when it knows.
        self.memory.remember_end(if is_kept { None } else { Some(now) }, ended);
        if let Some(mark) = ended.request {
            let of = ended.session.and_then(|number| {
                let session = self.session(self.find_session(number)?);
                Some((number, mark.id.seq_from(session.opened.requests)?))
            });
            let past =
                Past::LeaseEnded { command: mark.command, end: ended.end, token: ended.token };
            self.remember_request(now, of, mark, past, ended.revision);
        }
    }

    /// Remembers with the session of the operation that it was, or else for a while.
    fn remember_request(
        &mut self,
        now: Ms,
        of: Option<(SessionNumber, u64)>,
        mark: RequestMark,
        past: Past,
        logged: Revision,
    ) {
        let keeping = match of {
            Some((session, seq)) => {
                self.keep_reply(session, seq, Kept { past, lease: None, logged })
            }
            None => Keeping::Elsewhere(past),
        };
        match keeping {
            Keeping::Kept | Keeping::Acknowledged => {}
            Keeping::Elsewhere(past) => self.memory.keep_request(now, mark.id, past),
        }
    }

    fn keep_reply(&mut self, number: SessionNumber, seq: u64, kept: Kept) -> Keeping {
        let Some(slot) = self.find_session(number) else { return Keeping::Elsewhere(kept.past) };
        let session = self.session_mut(slot);
        if session.is_swept {
            return Keeping::Elsewhere(kept.past);
        }
        if session.replies.is_seen(seq) {
            return Keeping::Acknowledged;
        }
        self.memory.count_reply(&kept.past);
        if let Some(before) = self.session_mut(slot).replies.keep(seq, kept) {
            self.memory.discount_reply(&before.past);
        }
        Keeping::Kept
    }

    pub(crate) fn ensure_space(&mut self, namespace: &Namespace) -> u32 {
        if let Some(slot) = self.find_space(namespace) {
            return slot;
        }
        let space = Space {
            name: namespace.clone(),
            leases: BTreeMap::new(),
            waiters: 0,
            sessions: 0,
            bytes: 0,
        };
        let slot = slot_of(self.spaces.insert(space));
        self.space_names.insert(namespace.clone(), slot);
        slot
    }

    pub(crate) fn drop_space_if_idle(&mut self, slot: u32) {
        let space = self.space(slot);
        if space.leases.is_empty() && space.waiters == 0 && space.sessions == 0 {
            assert!(space.bytes == 0, "an empty namespace weighs nothing");
            let space = self.spaces.remove(slot as usize);
            self.space_names.remove(&space.name);
        }
    }

    pub(crate) fn ensure_resource(&mut self, space: u32, name: &ResourceName) -> u32 {
        if let Some(slot) = self.find_resource(space, name) {
            return slot;
        }
        let resource = Resource { name: name.clone(), space, holder: NOWHERE, crowd: None };
        let slot = slot_of(self.resources.insert(resource));
        let hash = self.resource_hash(space, name);
        let (resources, hasher) = (&self.resources, &self.hasher);
        self.resource_names.insert(hash, slot, |at| {
            let known = resources.get(*at as usize).expect("slots of resources are kept true");
            hasher.hash(&(known.space, known.name.as_str()))
        });
        slot
    }

    pub(crate) fn drop_resource_if_idle(&mut self, slot: u32) {
        let resource = self.resource(slot);
        if resource.is_held() || resource.crowd.is_some() {
            return;
        }
        let hash = self.resource_hash(resource.space, &resource.name);
        let known = self.resource_names.remove(hash, |at| *at == slot);
        assert!(known.is_some(), "every resource is found by its name");
        self.resources.remove(slot as usize);
    }
}

/// A slab's index as the 32 bits in which indexes keep it.
pub(crate) fn slot_of(index: usize) -> u32 {
    u32::try_from(index).expect("quotas keep every slab below 2^32")
}

/// What a lease, or a waiter for one, counts against its namespace's bytes.
fn weight(resource: &ResourceName, holder: &Holder) -> u64 {
    const FIXED: usize = 256;
    (FIXED + resource.as_str().len() + holder.as_str().len()) as u64
}

/// What the fences of a waiter count beside that.
fn fence_weight(fences: &[Fence]) -> u64 {
    const FIXED: usize = 48;
    let one = |fence: &Fence| {
        let FenceTarget::Resource(resource) = &fence.target;
        (FIXED + resource.as_str().len()) as u64
    };
    fences.iter().map(one).sum()
}

impl QueuedWaiter {
    pub(crate) fn bytes(&self) -> u64 {
        self.acquire.bytes() + fence_weight(&self.fences)
    }
}

impl Waiter {
    pub(crate) fn bytes(&self) -> u64 {
        self.acquire.bytes() + fence_weight(&self.fences)
    }
}

impl LeaseGranted {
    pub(crate) fn bytes(&self) -> u64 {
        weight(&self.resource, &self.holder)
    }
}

impl SessionOpened {
    pub(crate) fn bytes(&self) -> u64 {
        const FIXED: usize = 320;
        (FIXED + self.holder.as_str().len()) as u64
    }
}

impl AcquireLease {
    pub(crate) fn bytes(&self) -> u64 {
        weight(&self.target.resource, &self.holder)
    }
}
