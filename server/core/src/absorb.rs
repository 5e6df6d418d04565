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
        Change, Effect, LeaseClosed, LeaseEnded, LeaseGranted, RequestRemembered, SessionEnded,
        SessionOpened,
    },
    command::{AcquireLease, Terms},
    deadline::Due,
    fence::Fence,
    limits,
    memory::Past,
    motion::QueuedWaiter,
    refusal::LeaseEnd,
    session::{
        Session,
        replies::{Kept, Replies},
    },
    state::{CLOSED, Closed, Lease, Space, State, Totals, UNARMED, Waiter},
    tree::NOWHERE,
    types::{
        Claim, DurableMs, Holder, Ms, Namespace, RequestMark, Revision, SessionNumber, Targets,
        Token,
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
            Change::TimePassed { at, revision } => {
                self.pass_time(now, *at);
                // A grant says what time it was too, but goes with its row.
                self.clock_logged = self.clock_logged.max(Some(now));
                self.clock_row = self.clock_row.max(Some((*at, *revision)));
            }
            Change::LeaseGranted(granted) => self.absorb_grant(now, granted),
            Change::LeaseEnded(ended) => self.absorb_end(now, ended),
            Change::LeaseClosed(closed) => self.absorb_close(now, closed),
            Change::LeaseReopened { token, .. } => self.absorb_reopening(*token),
            Change::RecordWritten(written) => self.absorb_record(now, written),
            Change::RecordDeleted(deleted) => self.absorb_record_end(deleted),
            Change::PrefixProtected(protection) => self.absorb_protection(protection),
            Change::PrefixUnprotected(protection) => self.absorb_unprotection(protection),
        }
        self.take_revision(change.revision());
    }

    /// Makes what a change says to replay memory known, and nothing else: for entries whose
    /// durable part is in the rows already.
    pub(crate) fn recall(&mut self, now: Ms, change: &Change) {
        match change {
            Change::Started { .. }
            | Change::TimePassed { .. }
            | Change::LeaseReopened { .. }
            | Change::LeaseGranted(_)
            | Change::SessionOpened(_)
            | Change::SessionSwept { .. }
            | Change::RecordWritten(_)
            | Change::RecordDeleted(_)
            | Change::PrefixProtected(_)
            | Change::PrefixUnprotected(_) => {}
            Change::RequestRemembered(remembered) => self.remember(now, remembered),
            Change::RequestAbandoned { id, .. } => self.memory.abandon(now, *id),
            Change::SessionEnded(ended) => self.recall_session_end(now, ended),
            Change::SessionFloored { number, below, revision } => {
                self.raise_floor(*number, *below, *revision);
            }
            Change::LeaseEnded(ended) => self.remember_end(now, ended),
            Change::LeaseClosed(closed) => self.remember_end(now, &closed.ended),
        }
    }

    /// It was that durable time when this was logged, so it is not earlier now.
    pub(crate) fn pass_time(&mut self, now: Ms, at: DurableMs) {
        self.clock_base = self.clock_base.max(DurableMs(at.0.saturating_sub(now.0)));
    }

    fn take_revision(&mut self, revision: Revision) {
        assert!(revision.0 < limits::REVISION_END, "revisions fit into 53 bits");
        self.revision = self.revision.max(revision);
    }

    fn absorb_grant(&mut self, now: Ms, granted: &Arc<LeaseGranted>) {
        self.pass_time(now, granted.granted_at);
        let space = self.ensure_space(&granted.namespace);
        if self.space(space).leases.contains_key(&granted.token) {
            return;
        }
        let slot = self.insert_lease(space, granted);
        let session = self.session_of(slot);
        if let Some(session) = session {
            self.session_mut(session).leases.insert(granted.token, slot);
        }
        if session.is_none() || granted.hold_end().is_some() {
            self.starting.push_back((granted.token, slot));
        }
        self.durable_timers += u64::from(granted.hold_end().is_some());
        let held = self.space_mut(space);
        held.leases.insert(granted.token, slot);
        held.totals.granted += 1;
        self.index_lease(slot, granted);
        self.index_actor(space, slot, granted);
    }

    /// A lease with its claims in the tree, and nothing else.
    fn insert_lease(&mut self, space: u32, granted: &Arc<LeaseGranted>) -> u32 {
        let lease = Lease {
            granted: Arc::clone(granted),
            space,
            node: NOWHERE,
            renewed: Ms(0),
            armed: UNARMED,
        };
        let slot = slot_of(self.leases.insert(lease));
        for claim in granted.claims() {
            let node = self.ensure_node(space, claim.resource);
            if granted.only_claim().is_some() {
                self.lease_mut(slot).node = node;
            }
            self.hold(node, slot, granted.token, claim);
        }
        self.space_mut(space).bytes += granted.bytes();
        slot
    }

    /// Takes a lease, whose claims are in the tree and nothing else, away.
    fn remove_lease(&mut self, slot: u32) {
        let nodes = self.lease_nodes(slot);
        let granted = Arc::clone(&self.lease(slot).granted);
        for (node, claim) in nodes.into_iter().zip(granted.claims()) {
            self.let_go(node, slot, granted.token, claim);
        }
        let lease = self.leases.remove(slot as usize);
        self.space_mut(lease.space).bytes -= granted.bytes();
        self.drop_space_if_idle(lease.space);
    }

    fn index_actor(&mut self, space: u32, slot: u32, granted: &LeaseGranted) {
        let Some(actor) = granted.actor() else { return };
        let acting = self.actors.entry((space, actor.clone())).or_default();
        acting.leases.insert((granted.token, slot));
        let claims = granted.claims();
        self.actor_claims
            .extend(claims.map(|claim| (space, claim.resource.clone(), granted.token, slot)));
    }

    fn unindex_actor(&mut self, space: u32, slot: u32, granted: &LeaseGranted) {
        let Some(actor) = granted.actor() else { return };
        let key = (space, actor.clone());
        let acting = self.actors.get_mut(&key).expect("an actor with a lease is known");
        acting.leases.remove(&(granted.token, slot));
        if acting.leases.is_empty() && acting.waiters.is_empty() {
            self.actors.remove(&key);
        }
        for claim in granted.claims() {
            self.actor_claims.remove(&(space, claim.resource.clone(), granted.token, slot));
        }
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

    fn absorb_end(&mut self, now: Ms, ended: &LeaseEnded) {
        self.remember_end(now, ended);
        let Some(space) = self.find_space(&ended.namespace) else { return };
        let Some(slot) = self.space_mut(space).leases.remove(&ended.token) else { return };
        self.end_life(space, slot, ended.end);
        self.remove_lease(slot);
    }

    /// From now on nothing of it is current, but its claims are still in the tree.
    fn end_life(&mut self, space: u32, slot: u32, end: LeaseEnd) {
        let lease = self.lease(slot);
        let (granted, armed) = (Arc::clone(&lease.granted), lease.armed);
        if let Some(session) = self.session_of(slot) {
            self.session_mut(session).leases.remove(&granted.token);
        }
        if armed != UNARMED {
            self.deadlines.disarm(armed, Due::Lease(slot));
        }
        self.durable_timers -= u64::from(granted.hold_end().is_some());
        self.yields.remove(&granted.token);
        self.unindex_lease(slot, &granted);
        self.unindex_actor(space, slot, &granted);
        self.orphan(granted.token);
        let totals = &mut self.space_mut(space).totals;
        match end {
            LeaseEnd::Released | LeaseEnd::Transferred => totals.released += 1,
            LeaseEnd::Expired | LeaseEnd::Forced | LeaseEnd::MaxHold => totals.lost += 1,
        }
    }

    fn absorb_close(&mut self, now: Ms, closed: &Arc<LeaseClosed>) {
        let granted = &closed.granted;
        self.pass_time(now, closed.closed_at());
        self.remember_end(now, &closed.ended);
        if self.closed.contains_key(&granted.token) {
            return;
        }
        let space = self.ensure_space(&granted.namespace);
        let slot = match self.space_mut(space).leases.remove(&granted.token) {
            Some(slot) => {
                self.end_life(space, slot, closed.ended.end);
                slot
            }
            None => self.insert_lease(space, granted),
        };
        self.closed.insert(granted.token, Closed { lease: slot, closed: Arc::clone(closed) });
        self.space_mut(space).closed += 1;
        self.durable_timers += 1;
        let at = self.volatile(closed.until);
        self.deadlines.arm(at, Due::Lease(slot));
        let lease = self.lease_mut(slot);
        lease.renewed = CLOSED;
        lease.armed = at;
    }

    fn absorb_reopening(&mut self, token: Token) {
        let Some(Closed { lease: slot, .. }) = self.closed.remove(&token) else { return };
        let (space, armed) = (self.lease(slot).space, self.lease(slot).armed);
        self.deadlines.disarm(armed, Due::Lease(slot));
        self.durable_timers -= 1;
        self.space_mut(space).closed -= 1;
        self.remove_lease(slot);
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
            closed: 0,
            waiters: BTreeMap::new(),
            sessions: 0,
            records: BTreeMap::new(),
            protections: BTreeMap::new(),
            protection_count: 0,
            bytes: 0,
            totals: Totals::default(),
        };
        let slot = slot_of(self.spaces.insert(space));
        self.space_names.insert(namespace.clone(), slot);
        slot
    }

    pub(crate) fn drop_space_if_idle(&mut self, slot: u32) {
        let space = self.space(slot);
        let is_idle = space.leases.is_empty()
            && space.waiters.is_empty()
            && space.closed == 0
            && space.sessions == 0
            && space.records.is_empty()
            && space.protections.is_empty();
        if is_idle {
            assert!(space.bytes == 0, "an empty namespace weighs nothing");
            let space = self.spaces.remove(slot as usize);
            self.space_names.remove(&space.name);
        }
    }
}

/// A slab's index as the 32 bits in which indexes keep it.
pub(crate) fn slot_of(index: usize) -> u32 {
    u32::try_from(index).expect("quotas keep every slab below 2^32")
}

/// What a lease counts against its namespace's bytes.
fn weight<'a>(
    claims: impl Iterator<Item = Claim<'a>>,
    holder: &Holder,
    terms: Option<&Terms>,
) -> u64 {
    const FIXED: usize = 192;
    const SEGMENT: usize = 64;
    let name = |claim: Claim<'_>| {
        let path = claim.resource.as_str();
        path.len() + SEGMENT * path.split('/').count()
    };
    let names: usize = claims.map(name).sum();
    let terms = terms.map_or(0, |terms| {
        64 + terms.labels.bytes() + terms.actor.as_ref().map_or(0, |actor| actor.as_str().len())
    });
    (FIXED + names + holder.as_str().len() + terms) as u64
}

/// What a waiter counts beside what its lease would: it stands at every segment.
fn waiting_weight(targets: &Targets) -> u64 {
    const SEGMENT: usize = 256;
    let segments = targets.claims().map(|claim| claim.resource.as_str().split('/').count());
    (SEGMENT * segments.sum::<usize>()) as u64
}

/// What the fences of a waiter count beside that.
fn fence_weight(fences: &[Fence]) -> u64 {
    fences.iter().map(|fence| fence.bytes() as u64).sum()
}

impl QueuedWaiter {
    pub(crate) fn bytes(&self) -> u64 {
        let targets = waiting_weight(&self.acquire.targets);
        self.acquire.bytes() + targets + fence_weight(&self.fences)
    }
}

impl Waiter {
    pub(crate) fn bytes(&self) -> u64 {
        let targets = waiting_weight(&self.acquire.targets);
        self.acquire.bytes() + targets + fence_weight(&self.fences)
    }
}

impl LeaseGranted {
    pub(crate) fn bytes(&self) -> u64 {
        weight(self.claims(), &self.holder, self.terms())
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
        weight(self.targets.claims(), &self.holder, self.terms.as_deref())
    }
}
