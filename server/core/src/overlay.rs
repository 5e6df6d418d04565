//! What a decision sees: the state, and over it what earlier operations of the same
//! transaction have already decided.
//!
//! A single operation has no overlay and pays nothing for it.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::{
    change::{Change, LeaseEnded, LeaseGranted},
    limits,
    memory::Ended,
    record::{self, view::Over},
    refusal::Refusal,
    state::State,
    tree::Node,
    types::{Claim, LeaseId, Ms, Namespace, Reach, ResourceName, SessionId, Token},
};

/// Decided but not absorbed: the changes of a transaction so far, by what they change.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    granted: BTreeMap<Token, Arc<LeaseGranted>>,
    ended: BTreeMap<Token, Arc<LeaseEnded>>,
    /// Of those that ended: what they leave closed.
    closed: BTreeMap<Token, Arc<LeaseGranted>>,
    /// Leases of the state that are no more.
    leases_gone: u64,
    bytes_added: u64,
    bytes_gone: u64,
    records: Over,
}

/// The state as one operation sees it. All operations of a transaction are in one namespace.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) namespace: &'a Namespace,
    /// Where the namespace is; `None`: nothing is in it.
    pub(crate) space: Option<u32>,
    pub(crate) now: Ms,
    overlay: Option<&'a Overlay>,
}

/// A live lease as a decision sees it.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) granted: &'a Arc<LeaseGranted>,
    pub(crate) remaining_ms: u64,
    /// Where it is; `None`: only decided.
    pub(crate) slot: Option<u32>,
}

// === impl Overlay ===

impl Overlay {
    /// Lays a change over those before it.
    pub(crate) fn lay(&mut self, view: View<'_>, change: &Change) {
        match change {
            Change::Started { .. }
            | Change::RequestRemembered(_)
            | Change::RequestAbandoned { .. }
            | Change::SessionOpened(_)
            | Change::SessionEnded(_)
            | Change::SessionSwept { .. }
            | Change::SessionFloored { .. }
            | Change::TimePassed { .. }
            | Change::LeaseReopened { .. } => {}
            Change::RecordWritten(_)
            | Change::RecordDeleted(_)
            | Change::PrefixProtected(_)
            | Change::PrefixUnprotected(_) => record::view::lay(&mut self.records, view, change),
            Change::LeaseGranted(granted) => {
                self.bytes_added += granted.bytes();
                self.granted.insert(granted.token, Arc::clone(granted));
            }
            Change::LeaseEnded(ended) => self.lay_end(view, ended),
            Change::LeaseClosed(closed) => {
                self.lay_end(view, &closed.ended);
                // Its resources stay closed: they are no more free than before, nor are its bytes.
                if view.slot_of(closed.granted.token).is_some() {
                    self.bytes_gone = self.bytes_gone.saturating_sub(closed.granted.bytes());
                    self.leases_gone = self.leases_gone.saturating_sub(1);
                }
                self.closed.insert(closed.granted.token, Arc::clone(&closed.granted));
            }
        }
    }

    fn lay_end(&mut self, view: View<'_>, ended: &Arc<LeaseEnded>) {
        if let Some(granted) = self.granted.remove(&ended.token) {
            self.bytes_added -= granted.bytes();
        } else if let Some(slot) = view.slot_of(ended.token)
            && !self.ended.contains_key(&ended.token)
        {
            // One that a dead session left counts until it is ended.
            self.bytes_gone += view.state.lease(slot).granted.bytes();
            self.leases_gone += 1;
        }
        self.ended.insert(ended.token, Arc::clone(ended));
    }
}

// === impl View ===

impl<'a> View<'a> {
    /// The state alone.
    pub(crate) fn plain(state: &'a State, namespace: &'a Namespace, now: Ms) -> Self {
        Self { state, namespace, space: state.find_space(namespace), now, overlay: None }
    }

    /// The state under an overlay.
    pub(crate) fn under(self, overlay: &'a Overlay) -> Self {
        Self { overlay: Some(overlay), ..self }
    }

    /// The namespace, by the name that is in use if there is one: rows share it.
    pub(crate) fn own_namespace(self) -> Namespace {
        self.space.map_or(self.namespace, |space| &self.state.space(space).name).clone()
    }

    /// The session with this id, ended or not.
    pub(crate) fn session(self, id: SessionId) -> Option<u32> {
        self.state.find_session_by_id(self.namespace, id)
    }

    /// An earlier operation of the transaction has ended this lease.
    pub(crate) fn has_ended(self, token: Token) -> bool {
        self.overlay.is_some_and(|over| over.ended.contains_key(&token))
    }

    /// The live session with this id.
    pub(crate) fn live_session(self, id: SessionId) -> Result<u32, Refusal> {
        let slot = self.session(id).ok_or(Refusal::SessionLost { end: None })?;
        match &self.state.session(slot).ended {
            None => Ok(slot),
            Some(ended) => Err(Refusal::SessionLost { end: Some(ended.end) }),
        }
    }

    /// Sessions of the namespace.
    pub(crate) fn session_count(self) -> u64 {
        self.space.map_or(0, |space| self.state.space(space).sessions)
    }

    /// The lease at a slot, unless the overlay, or the end of its session, has ended it.
    pub(crate) fn known(self, slot: u32) -> Option<Known<'a>> {
        let granted = &self.state.lease(slot).granted;
        if self.overlay.is_some_and(|over| over.ended.contains_key(&granted.token)) {
            return None;
        }
        if !self.state.is_live(slot) {
            return None;
        }
        let remaining_ms = self.state.remaining_ms(slot, self.now);
        Some(Known { granted, remaining_ms, slot: Some(slot) })
    }

    /// It is an operation of a transaction.
    pub(crate) fn is_within(self) -> bool {
        self.overlay.is_some()
    }

    /// Some of what the state has may not count.
    pub(crate) fn may_discount(self) -> bool {
        self.overlay.is_some() || !self.state.ending.is_empty()
    }

    /// Leases of the state that earlier operations of the transaction have ended.
    pub(crate) fn ended_slots(self) -> impl Iterator<Item = u32> {
        let over = self.overlay.into_iter().flat_map(|over| over.ended.keys());
        over.filter_map(move |token| self.slot_of(*token))
    }

    /// What earlier operations of the transaction claim: leases, and what they leave closed.
    pub(crate) fn fresh_claims(self) -> impl Iterator<Item = Claim<'a>> {
        let over = self.overlay.into_iter();
        over.flat_map(|over| over.granted.values().chain(over.closed.values()))
            .flat_map(|granted| granted.claims())
    }

    /// Leases that exist only in the overlay, by token.
    pub(crate) fn fresh(self) -> impl Iterator<Item = Known<'a>> {
        self.overlay.into_iter().flat_map(|over| over.granted.values()).map(|granted| Known {
            granted,
            remaining_ms: granted.ttl.ms(),
            slot: None,
        })
    }

    /// The live lease with this id.
    pub(crate) fn lease_by_id(self, id: LeaseId) -> Option<Known<'a>> {
        let base = self.space.and_then(|space| self.state.find_lease(space, id));
        base.and_then(|slot| self.known(slot))
            .or_else(|| self.fresh().find(|known| known.granted.lease_id == id))
    }

    /// Where the lease with this token is in the state.
    fn slot_of(self, token: Token) -> Option<u32> {
        self.state.space(self.space?).leases.get(&token).copied()
    }

    /// The live lease with this token.
    pub(crate) fn lease_by_token(self, token: Token) -> Option<Known<'a>> {
        self.slot_of(token)
            .and_then(|slot| self.known(slot))
            .or_else(|| self.fresh().find(|known| known.granted.token == token))
    }

    /// How the lease with this id ended, while it is remembered.
    pub(crate) fn ended(self, id: LeaseId) -> Option<Ended> {
        let over = self.overlay.into_iter().flat_map(|over| over.ended.values());
        let ended = over.into_iter().find(|ended| ended.lease_id == id).map(|ended| Ended {
            token: ended.token,
            end: ended.end,
            revision: ended.revision,
        });
        ended
            .or_else(|| self.state.memory.lease(self.namespace, id))
            .or_else(|| self.ended_with_session(id))
    }

    /// How the lease with this id ended, if that is yet to be carried out.
    fn ended_with_session(self, id: LeaseId) -> Option<Ended> {
        let slot = self.state.find_lease(self.space?, id)?;
        let session = self.state.session(self.state.session_of(slot)?);
        let (ended, token) = (session.ended.as_ref()?, self.state.lease(slot).granted.token);
        Some(Ended { token, end: ended.end.of_leases(), revision: ended.revision })
    }

    /// Where a resource is, if it is held or waited for in the state.
    pub(crate) fn node(self, name: &ResourceName) -> Option<&'a Node> {
        let slot = self.state.find_node(self.space?, name)?;
        Some(self.state.node(slot))
    }

    /// The live lease with this token, if it is for the resource or a subtree it is in; costs the
    /// same however many share.
    pub(crate) fn holder(self, name: &ResourceName, token: Token) -> Option<Known<'a>> {
        let covers = |known: &Known<'a>| known.granted.claims().any(|claim| claim.covers(name));
        self.lease_by_token(token).filter(covers)
    }

    /// Who holds a resource, or a subtree it is in: oldest grant first, at most `most`.
    pub(crate) fn holders(self, name: &ResourceName, most: usize) -> Vec<Known<'a>> {
        let mut found = Vec::new();
        for (slot, is_all) in self.walk(name) {
            // What dead sessions have left is passed over, within bounds: a crowd of it goes in
            // slices.
            let holders = self.state.holders_at(slot, !is_all).take(limits::SLICE_MAX);
            found.extend(holders.filter_map(|lease| self.known(lease)).take(most));
        }
        found.sort_unstable_by_key(|known| known.granted.token);
        found.extend(self.fresh_on(name));
        found.truncate(most);
        found
    }

    /// Leases that exist only in the overlay and are for a resource, or a subtree it is in.
    fn fresh_on(self, name: &ResourceName) -> impl Iterator<Item = Known<'a>> {
        self.fresh().filter(move |known| known.granted.claims().any(|claim| claim.covers(name)))
    }

    /// The nodes of a path that there are; `true`: that is all of it.
    fn walk(self, name: &ResourceName) -> impl Iterator<Item = (u32, bool)> {
        let state = self.state;
        self.space.into_iter().flat_map(move |space| state.walk(space, name.as_str()))
    }

    /// Whoever was granted a resource last, or a subtree it is in; costs the same however many
    /// share.
    pub(crate) fn newest_holder(self, name: &ResourceName) -> Option<Known<'a>> {
        let newest = |(slot, is_all): (u32, bool)| {
            let holders = self.state.holders_at(slot, !is_all).rev().take(limits::SLICE_MAX);
            holders.filter_map(|lease| self.known(lease)).next()
        };
        let fresh = self.fresh_on(name).last();
        fresh.or_else(|| self.walk(name).filter_map(newest).max_by_key(|known| known.granted.token))
    }

    /// How many hold a resource, or a subtree it is in.
    pub(crate) fn holder_count(self, name: &ResourceName) -> usize {
        let crowd = |(slot, is_all)| {
            if is_all { self.state.node(slot).holder_count() } else { 0 }
        };
        match self.walk(name).map(crowd).max() {
            Some(many) if many > limits::HOLDERS_SHOWN_MAX => many,
            Some(_) | None => self.holders(name, limits::SLICE_MAX).len(),
        }
    }

    /// Live leases of the namespace.
    pub(crate) fn lease_count(self) -> u64 {
        let base = self.space.map_or(0, |space| {
            let space = self.state.space(space);
            space.leases.len() as u64 + space.closed
        });
        match self.overlay {
            None => base,
            Some(over) => base + over.granted.len() as u64 - over.leases_gone,
        }
    }

    /// Waiters of the namespace.
    pub(crate) fn waiter_count(self) -> u64 {
        self.space.map_or(0, |space| self.state.space(space).waiters.len() as u64)
    }

    /// Bytes counted against the namespace.
    pub(crate) fn byte_count(self) -> u64 {
        let base = self.space.map_or(0, |space| self.state.space(space).bytes);
        match self.overlay {
            None => base,
            Some(over) => {
                let added = over.bytes_added + over.records.came().bytes;
                base + added - over.bytes_gone - over.records.went().bytes
            }
        }
    }

    /// What earlier operations of the transaction do to records.
    pub(crate) fn over(self) -> Option<&'a Over> {
        self.overlay.map(|over| &over.records)
    }
}

impl State {
    /// Leases that hold a node, or of them only those that reach down, oldest grant first.
    pub(crate) fn holders_at(
        &self,
        slot: u32,
        only_subtrees: bool,
    ) -> impl DoubleEndedIterator<Item = u32> {
        let node = self.node(slot);
        let sole = node.sole_holder().filter(|lease| {
            let claim = self.lease(*lease).granted.only_claim();
            !only_subtrees || claim.is_some_and(|claim| claim.reach == Reach::Subtree)
        });
        let crowd = node.crowd();
        let all = crowd.filter(|_| !only_subtrees);
        let all = all.into_iter().flat_map(|crowd| crowd.sharers.keys());
        let deep = crowd.filter(|_| only_subtrees);
        let deep = deep.into_iter().flat_map(|crowd| crowd.deep.iter());
        let sharers = all.chain(deep).map(|(_, lease)| *lease);
        sole.into_iter().chain(sharers)
    }
}
