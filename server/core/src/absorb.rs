//! `absorb`: the only mutator of durable state and replay memory, and what recovery runs.
//!
//! It can't refuse: whatever could speak against a change was said in `decide`. Absorbing a
//! change twice is absorbing it once.

use alloc::{collections::BTreeMap, sync::Arc};

use crate::{
    change::{Change, LeaseEnded, LeaseGranted},
    command::AcquireLease,
    deadline::Due,
    fence::{Fence, FenceTarget},
    limits,
    motion::QueuedWaiter,
    state::{Holders, Lease, NOWHERE, Resource, Space, State, UNARMED, Waiter},
    types::{Holder, Mode, Ms, Namespace, ResourceName, Revision, Token},
};

impl State {
    /// Makes a change part of the state.
    pub(crate) fn absorb(&mut self, now: Ms, change: &Change) {
        match change {
            Change::Started { .. } => {}
            Change::RequestRemembered(remembered) => self.memory.remember(now, remembered),
            Change::RequestAbandoned { id, .. } => self.memory.abandon(now, *id),
            Change::LeaseGranted(granted) => self.absorb_grant(granted),
            Change::LeaseEnded(ended) => self.absorb_end(now, ended),
        }
        self.take_revision(change.revision());
    }

    /// Makes what a change says to replay memory known, and nothing else: for entries whose
    /// durable part is in the rows already.
    pub(crate) fn recall(&mut self, now: Ms, change: &Change) {
        match change {
            Change::Started { .. } | Change::LeaseGranted(_) => {}
            Change::RequestRemembered(remembered) => self.memory.remember(now, remembered),
            Change::RequestAbandoned { id, .. } => self.memory.abandon(now, *id),
            Change::LeaseEnded(ended) => self.memory.remember_end(now, ended),
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
        let space = self.space_mut(space);
        space.leases.insert(granted.token, slot);
        space.bytes += granted.bytes();
        self.index_lease(slot, granted);
        self.starting.push_back((granted.token, slot));
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
        self.memory.remember_end(now, ended);
        let Some(space) = self.find_space(&ended.namespace) else { return };
        let Some(slot) = self.space_mut(space).leases.remove(&ended.token) else { return };
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

    pub(crate) fn ensure_space(&mut self, namespace: &Namespace) -> u32 {
        if let Some(slot) = self.find_space(namespace) {
            return slot;
        }
        let space =
            Space { name: namespace.clone(), leases: BTreeMap::new(), waiters: 0, bytes: 0 };
        let slot = slot_of(self.spaces.insert(space));
        self.space_names.insert(namespace.clone(), slot);
        slot
    }

    pub(crate) fn drop_space_if_idle(&mut self, slot: u32) {
        let space = self.space(slot);
        if space.leases.is_empty() && space.waiters == 0 {
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

impl AcquireLease {
    pub(crate) fn bytes(&self) -> u64 {
        weight(&self.target.resource, &self.holder)
    }
}
