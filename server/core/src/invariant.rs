//! Whole-state assertions: every index tells the same story. Run after every step of the
//! tests and of simulation; far too slow for anything else.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    change::{Protection, RecordLife},
    deadline::Due,
    lease::claims::{Standing, judge},
    machine::Machine,
    overlay::View,
    record::absorb::Record,
    state::{Space, State, UNARMED},
    tree::{Below, Mark, NOWHERE, Tally},
    types::{Claim, Mode, Ms, Reach, Revision},
};

impl Machine {
    /// Checks every relation between the parts of the state.
    ///
    /// # Panics
    /// When one doesn't hold: a bug of the machine.
    pub fn check(&self) {
        let state = self.state();
        check_spaces(state);
        check_leases(state);
        check_closed(state);
        check_nodes(state);
        check_waiters(state);
        check_settled(state);
        check_actors(state);
        check_sessions(state);
        check_records(state);
        check_deadlines(state);
    }
}

fn check_spaces(state: &State) {
    assert!(state.spaces.len() == state.space_names.len(), "every namespace has one name");
    for (name, slot) in &state.space_names {
        let space = state.space(*slot);
        assert!(space.name == *name, "namespaces are found by their names");
        let is_used = !space.leases.is_empty()
            || !space.waiters.is_empty()
            || space.closed > 0
            || space.sessions > 0
            || !space.records.is_empty()
            || !space.protections.is_empty();
        assert!(is_used, "an idle namespace is dropped");
        let leases = state.leases.iter().filter(|(_, lease)| lease.space == *slot);
        let leases: u64 = leases.map(|(_, lease)| lease.granted.bytes()).sum();
        let waiters = state.waiters.iter().filter(|(_, waiter)| waiter.space == *slot);
        let waiting: u64 = waiters.clone().map(|(_, waiter)| waiter.bytes()).sum();
        let sessions = state.sessions.iter().filter(|(_, session)| session.space == *slot);
        let held = sessions.clone().filter(|(_, session)| !session.is_swept);
        let held: u64 = held.map(|(_, session)| session.opened.bytes()).sum();
        assert!(space.sessions == sessions.count() as u64, "sessions are counted");
        let records: u64 =
            space.records.values().map(|slot| state.record(*slot).written.bytes()).sum();
        let protected: u64 = protections_of(space).map(|protection| protection.bytes()).sum();
        let bytes = leases + waiting + held + records + protected;
        assert!(space.bytes == bytes, "bytes are the sum of what is there");
        assert!(space.waiters.len() == waiters.clone().count(), "waiters are listed");
        for (index, waiter) in waiters {
            let listed = space.waiters.get(&waiter.seq).map(|at| *at as usize);
            assert!(listed == Some(index), "by their number");
        }
    }
}

fn protections_of(space: &Space) -> impl Iterator<Item = Protection> {
    space.protections.iter().flat_map(|(prefix, of)| {
        of.iter().map(|(resource, revision)| Protection {
            namespace: space.name.clone(),
            prefix: prefix.clone(),
            resource: resource.clone(),
            revision: *revision,
        })
    })
}

fn check_records(state: &State) {
    assert!(state.record_keys.len() == state.records.len(), "found by key, and only those");
    let listed: usize = state.spaces.iter().map(|(_, space)| space.records.len()).sum();
    assert!(listed == state.records.len(), "records are listed");
    let mut bound = 0;
    for (index, record) in &state.records {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        let written = &record.written;
        let space = state.space(record.space);
        assert!(space.name == written.namespace, "a record is in its namespace");
        assert!(space.records.get(&written.key) == Some(&slot), "listed by its key");
        assert!(state.find_record(record.space, &written.key) == Some(slot), "found by its key");
        assert!(written.created_at <= written.version, "it was created before it was changed");
        assert!(written.version <= state.revision, "versions come from the counter");
        let carried = written.value.body().and_then(|body| body.carried());
        assert!(carried.is_none(), "large values are not kept");
        match written.life {
            None => assert!(record.armed == UNARMED, "what lasts is not armed"),
            Some(RecordLife::Until { at, .. }) => {
                assert!(record.armed == state.volatile(at), "armed for when it runs out");
                assert!(state.deadlines.is_armed(record.armed, Due::Record(slot)), "as it says");
            }
            Some(RecordLife::Bound(token)) => {
                bound += 1;
                assert!(record.armed == UNARMED, "its lease's end is its own");
                let of = state.bound.get(&token).expect("known by its lease");
                assert!(of.get(&written.key) == Some(&slot), "by its key");
                let is_orphan = !space.leases.contains_key(&token);
                assert!(state.orphaned.contains(&token) == is_orphan, "orphans are to be deleted");
            }
        }
    }
    let known: usize = state.bound.values().map(BTreeMap::len).sum();
    assert!(known == bound, "nothing else is bound");
    assert!(state.bound.values().all(|of| !of.is_empty()), "what binds nothing is dropped");
    assert!(state.orphaned.iter().all(|token| state.bound.contains_key(token)), "by something");
    for (_, space) in &state.spaces {
        let count: usize = space.protections.values().map(BTreeMap::len).sum();
        assert!(space.protection_count == count as u64, "protections are counted");
        assert!(space.protections.values().all(|of| !of.is_empty()), "no prefix without one");
    }
}

fn check_leases(state: &State) {
    let mut tokens = BTreeSet::new();
    let mut with_request = 0;
    let live = state.leases.iter().filter(|(_, lease)| !lease.is_closed());
    for (index, lease) in live.clone() {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        let granted = &lease.granted;
        assert!(tokens.insert(granted.token), "no token is used twice");
        assert!(granted.token.revision() <= state.revision, "tokens come from the counter");
        let space = state.space(lease.space);
        assert!(space.name == granted.namespace, "a lease is in its namespace");
        assert!(space.leases.get(&granted.token) == Some(&slot), "found by token");
        assert!(state.find_lease(lease.space, granted.lease_id) == Some(slot), "found by id");
        if let Some(mark) = granted.request {
            with_request += 1;
            assert!(state.find_lease_of(mark.id) == Some(slot), "found by request");
            assert!(state.find_waiter_of(mark.id).is_none(), "who holds does not wait");
        }
        let starting = state.starting.iter().any(|(token, _)| *token == granted.token);
        if granted.is_bound {
            let session = state.session(state.session_of(slot).expect("it lives with one"));
            assert!(session.leases.get(&granted.token) == Some(&slot), "its session knows it");
            assert!(session.space == lease.space, "both are in one namespace");
        }
        if granted.is_bound && granted.hold_end().is_none() {
            assert!(lease.armed == UNARMED && !starting, "its session's deadline is its own");
        } else {
            assert!(
                starting == (lease.armed == UNARMED),
                "a deadline begins when the grant is durable"
            );
        }
    }
    let count = live.count();
    assert!(state.lease_ids.len() == count, "nothing else is found by id");
    assert!(state.lease_requests.len() == with_request, "nothing else is found by request");
    let in_spaces: usize = state.spaces.iter().map(|(_, space)| space.leases.len()).sum();
    assert!(in_spaces == count, "nothing else is found by token");
    for token in state.yields.keys() {
        assert!(tokens.contains(token), "only holders are asked to yield");
    }
}

fn check_closed(state: &State) {
    let closed = state.leases.iter().filter(|(_, lease)| lease.is_closed());
    assert!(closed.clone().count() == state.closed.len(), "closed leases are known as such");
    for (index, lease) in closed.clone() {
        let known = state.closed.get(&lease.granted.token).expect("by token");
        assert!(known.lease as usize == index, "where they are");
        assert!(lease.armed == state.volatile(known.closed.until), "due when they reopen");
    }
    let in_spaces: u64 = state.spaces.iter().map(|(_, space)| space.closed).sum();
    assert!(in_spaces == state.closed.len() as u64, "closed leases are counted");
    let held = state
        .leases
        .iter()
        .filter(|(_, lease)| !lease.is_closed() && lease.granted.hold_end().is_some());
    let is_timed = |record: &&Record| matches!(record.written.life, Some(RecordLife::Until { .. }));
    let timed = state.records.iter().map(|(_, record)| record).filter(is_timed);
    let timers = held.count() + state.closed.len() + timed.count();
    assert!(state.durable_timers == timers as u64, "what counts on durable time is counted");
}

/// A claim and where it is.
struct Placed<'a> {
    lease: u32,
    claim: Claim<'a>,
}

fn check_nodes(state: &State) {
    assert!(state.node_names.len() == state.nodes.len(), "found by segment, and only those");
    let mut placed: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for (index, lease) in &state.leases {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        for (node, claim) in state.lease_nodes(slot).into_iter().zip(lease.granted.claims()) {
            assert!(state.node(node).path() == claim.resource.as_str(), "at its resource");
            assert!(state.find_node(lease.space, claim.resource) == Some(node), "by its name");
            placed.entry(node).or_default().push(Placed { lease: slot, claim });
        }
    }
    let mut below: BTreeMap<u32, Below> = BTreeMap::new();
    for (node, here) in &placed {
        for above in state.above(*node) {
            let counts = below.entry(above).or_default();
            counts.claims += u32::try_from(here.len()).expect("few");
            let unshared = here.iter().filter(|placed| placed.claim.mode != Mode::Shared).count();
            counts.unshared += u32::try_from(unshared).expect("few");
        }
    }
    for (index, node) in &state.nodes {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        let children: Vec<u32> = state.children(slot).collect();
        assert!(children.iter().all(|at| state.node(*at).parent() == Some(slot)), "its own");
        let mut counts = below.get(&slot).copied().unwrap_or_default();
        counts.children = u32::try_from(children.len()).expect("few");
        assert!(node.below() == counts, "what is below is counted");
        let here = placed.get(&slot).map(Vec::as_slice).unwrap_or_default();
        let mut holders: Vec<u32> = node.holders().collect();
        let mut leases: Vec<u32> = here.iter().map(|placed| placed.lease).collect();
        holders.sort_unstable();
        leases.sort_unstable();
        assert!(holders == leases, "holders are those who claim it");
        let is_used = !here.is_empty() || node.queue().is_some() || !children.is_empty();
        assert!(is_used, "an idle node is dropped");
        if let Some(crowd) = node.crowd() {
            assert!(!crowd.sharers.is_empty() || crowd.queue.total > 0, "a crowd that is some");
            assert!(node.sole_holder().is_none() || crowd.sharers.is_empty(), "one or the other");
        }
        check_tally(state, slot, here);
        check_queue(state, slot);
    }
    check_clashes(state, &placed);
}

fn check_tally(state: &State, slot: u32, here: &[Placed<'_>]) {
    let count = |fits: fn(&Claim<'_>) -> bool| {
        u32::try_from(here.iter().filter(|placed| fits(&placed.claim)).count()).expect("few")
    };
    let tally = Tally {
        exclusive: count(|claim| claim.mode == Mode::Exclusive),
        shared: count(|claim| claim.mode == Mode::Shared),
        exclusive_subtree: count(|claim| {
            claim.mode == Mode::Exclusive && claim.reach == Reach::Subtree
        }),
        shared_subtree: count(|claim| claim.mode == Mode::Shared && claim.reach == Reach::Subtree),
        permits: count(|claim| matches!(claim.mode, Mode::Permits(_))),
        used: here.iter().map(|placed| placed.claim.permits()).sum(),
    };
    assert!(state.tally(slot) == tally, "holders are counted");
    // Those that dead sessions have left are in nobody's way, and may be of another limit.
    if let Some(limit) = state.limit_of(slot).filter(|_| state.ending.is_empty()) {
        assert!(tally.used <= u64::from(limit), "no more permits than there are");
    }
}

/// No two leases hold what they can't both hold.
fn check_clashes(state: &State, placed: &BTreeMap<u32, Vec<Placed<'_>>>) {
    for (node, here) in placed {
        for placed_here in here {
            let above = state.above(*node).filter_map(|above| placed.get(&above)).flatten();
            for other in here.iter().chain(above) {
                let clash = placed_here.claim.clashes(other.claim);
                assert!(placed_here.lease == other.lease || !clash, "holders don't clash");
            }
        }
    }
}

fn check_queue(state: &State, slot: u32) {
    let node = state.node(slot);
    let at = |waiter: &crate::state::Waiter| waiter.nodes.contains(&slot);
    let total = state.waiters.iter().filter(|(_, waiter)| at(waiter)).count();
    assert!(node.queue().map_or(0, |queue| queue.total) as usize == total, "waiters are counted");
    for ((class, key), queued) in node.queue().into_iter().flat_map(|queue| &queue.attached) {
        let waiter = state.waiter(queued.waiter);
        assert!(waiter.key() == *key && waiter.is_attached(), "a waiter is in its place");
        let mut claims = waiter.claims();
        let claim = claims.find(|(node, ..)| *node == slot).expect("it wants this");
        assert!(claim.2 == *class, "among its like");
        assert!(claim.1.permits() == u64::from(queued.permits), "for as many permits");
    }
    let mut below: BTreeSet<(bool, u32)> = BTreeSet::new();
    let mut count = 0;
    for (index, waiter) in &state.waiters {
        for (node, _, class) in waiter.claims().filter(|_| waiter.is_attached()) {
            if state.above(node).any(|above| above == slot) {
                below.insert((class.is_shared(), u32::try_from(index).expect("few")));
                count += 1;
            }
        }
    }
    let listed = node.waiting();
    let shared = listed.into_iter().flat_map(|it| it.shared.values().map(|at| (true, *at)));
    let others = listed.into_iter().flat_map(|it| it.unshared.values().map(|at| (false, *at)));
    let listed: Vec<_> = shared.chain(others).collect();
    assert!(listed.len() == count, "waiters below are listed");
    assert!(listed.into_iter().collect::<BTreeSet<_>>() == below, "and only those");
}

/// Whoever waits where nothing is marked really can't be served.
fn check_settled(state: &State) {
    for mark in &state.unsettled {
        let (Mark::At(slot) | Mark::Below(slot)) = mark;
        assert!(*slot != NOWHERE, "marks are about nodes");
    }
    for (_, waiter) in state.waiters.iter().filter(|(_, waiter)| waiter.is_attached()) {
        let is_marked = waiter.nodes.iter().any(|node| {
            state.marked(Mark::At(*node)).is_some()
                || state.above(*node).any(|at| state.marked(Mark::Below(at)).is_some())
        });
        // What only dead sessions hold is free for them when it is swept.
        if is_marked || !state.ending.is_empty() {
            continue;
        }
        let view = View::plain(state, &state.space(waiter.space).name, Ms(0));
        let standing = judge(view, &waiter.acquire.targets, waiter.key());
        assert!(matches!(standing, Standing::No), "nobody waits for what is free");
    }
}

fn check_actors(state: &State) {
    let live = state.leases.iter().filter(|(_, lease)| !lease.is_closed());
    let leases = live.clone().filter(|(_, lease)| lease.granted.actor().is_some()).count();
    let waiters = state.waiters.iter().filter(|(_, waiter)| waiter.actor().is_some()).count();
    let listed: usize = state.actors.values().map(|acting| acting.leases.len()).sum();
    assert!(listed == leases, "what an actor holds is listed");
    let waiting: usize = state.actors.values().map(|acting| acting.waiters.len()).sum();
    assert!(waiting == waiters, "and what it waits for");
    let claims = live.filter(|(_, lease)| lease.granted.actor().is_some());
    let claims: usize = claims.map(|(_, lease)| lease.granted.claims().len()).sum();
    assert!(state.actor_claims.len() == claims, "each claim of theirs is found");
    for ((space, actor), acting) in &state.actors {
        assert!(!acting.leases.is_empty() || !acting.waiters.is_empty(), "an idle one is dropped");
        for (_, lease) in &acting.leases {
            let lease = state.lease(*lease);
            assert!(lease.space == *space && lease.granted.actor() == Some(actor), "its own");
        }
        for waiter in &acting.waiters {
            assert!(state.waiter(*waiter).actor() == Some(actor), "its own");
        }
    }
}

fn check_waiters(state: &State) {
    let mut calls = 0;
    let mut marked = 0;
    for (index, waiter) in &state.waiters {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        calls += waiter.calls.len();
        for attached in &waiter.calls {
            assert!(state.find_waiter_by(attached.call) == Some(slot), "found by call");
        }
        if let Some(mark) = waiter.mark {
            marked += 1;
            assert!(state.find_waiter_of(mark.id) == Some(slot), "found by request");
        } else {
            assert!(waiter.is_attached(), "without a request id nobody can come back");
        }
        for (node, _, class) in waiter.claims() {
            let queue = state.node(node).queue().expect("it is queued");
            let known = queue.attached.get(&(class, waiter.key())).map(|queued| queued.waiter);
            let served = known == Some(slot);
            assert!(served == waiter.is_attached(), "only attached waiters are served");
        }
        let due = if waiter.is_attached() { Due::Wait(slot) } else { Due::Keep(slot) };
        assert!(state.deadlines.is_armed(waiter.armed, due), "every waiter has a deadline");
    }
    assert!(state.calls.len() == calls, "nothing else is found by call");
    assert!(state.waiter_requests.len() == marked, "nothing else is found by request");
}

fn check_sessions(state: &State) {
    assert!(state.session_numbers.len() == state.sessions.len(), "found by number");
    assert!(state.session_ids.len() == state.sessions.len(), "found by id, and only those");
    let mut bound = 0;
    for (index, session) in &state.sessions {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        let opened = &session.opened;
        assert!(state.find_session(opened.number) == Some(slot), "found by number");
        let by_id = state.find_session_by_id(&opened.namespace, opened.session_id);
        assert!(by_id == Some(slot), "found by id");
        bound += session.leases.len();
        for lease in session.leases.values() {
            assert!(state.session_of(*lease) == Some(slot), "what it holds lives with it");
        }
        for waiter in &session.waiters {
            assert!(state.waiters_session(*waiter) == Some(slot), "its waiters are its own");
        }
        let is_ending = session.ended.is_some() && !session.is_swept;
        assert!(state.ending.contains(&slot) == is_ending, "what has ended is to be swept");
        let is_empty = session.leases.is_empty() && session.waiters.is_empty();
        assert!(!session.is_swept || is_empty, "nothing is left of a swept session");
        let starting = state.starting_sessions.contains(&opened.number);
        let is_armed = session.armed != UNARMED;
        assert!(is_armed != (is_ending || (session.is_live() && starting)), "one deadline");
        if is_armed {
            assert!(state.deadlines.is_armed(session.armed, Due::Session(slot)), "as it says");
        }
    }
    let bound_ones =
        state.leases.iter().filter(|(_, lease)| lease.granted.is_bound && !lease.is_closed());
    let all = bound_ones.count();
    assert!(bound == all, "every bound lease is its session's");
    let kept: u64 = state.sessions.iter().map(|(_, session)| session.replies.bytes()).sum();
    assert!(state.memory.kept_bytes() == kept, "what sessions remember is counted");
}

fn check_deadlines(state: &State) {
    let armed = state.leases.iter().filter(|(_, lease)| lease.armed != UNARMED).count();
    let sessions = state.sessions.iter().filter(|(_, session)| session.armed != UNARMED).count();
    let records = state.records.iter().filter(|(_, record)| record.armed != UNARMED).count();
    let all = armed + sessions + records + state.waiters.len();
    assert!(state.deadlines.len() == all, "one deadline each");
    for (index, lease) in &state.leases {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        if lease.armed != UNARMED {
            assert!(state.deadlines.is_armed(lease.armed, Due::Lease(slot)), "armed as it says");
            let is_early = lease.is_closed() || lease.armed <= state.lease_deadline(slot);
            assert!(is_early, "a deadline is looked at no later than it is due");
        }
    }
    let rising: alloc::vec::Vec<Revision> =
        state.starting.iter().map(|(token, _)| token.revision()).collect();
    assert!(rising.is_sorted(), "grants become durable in their order");
}
