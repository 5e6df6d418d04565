//! Whole-state assertions: every index tells the same story. Run after every step of the
//! tests and of simulation; far too slow for anything else.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{
    deadline::Due,
    machine::Machine,
    state::{Holders, Level, State, UNARMED},
    types::{Mode, Revision},
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
        check_resources(state);
        check_waiters(state);
        check_sessions(state);
        check_deadlines(state);
    }
}

fn check_spaces(state: &State) {
    assert!(state.spaces.len() == state.space_names.len(), "every namespace has one name");
    for (name, slot) in &state.space_names {
        let space = state.space(*slot);
        assert!(space.name == *name, "namespaces are found by their names");
        let is_used = !space.leases.is_empty() || space.waiters > 0 || space.sessions > 0;
        assert!(is_used, "an idle namespace is dropped");
        let leases: u64 = space.leases.values().map(|at| state.lease(*at).granted.bytes()).sum();
        let waiters = state.waiters.iter().filter(|(_, waiter)| waiter.space == *slot);
        let waiting: u64 = waiters.clone().map(|(_, waiter)| waiter.bytes()).sum();
        let sessions = state.sessions.iter().filter(|(_, session)| session.space == *slot);
        let held = sessions.clone().filter(|(_, session)| !session.is_swept);
        let held: u64 = held.map(|(_, session)| session.opened.bytes()).sum();
        assert!(space.sessions == sessions.count() as u64, "sessions are counted");
        assert!(space.bytes == leases + waiting + held, "bytes are the sum of what is there");
        assert!(space.waiters == waiters.count() as u64, "waiters are counted");
    }
}

fn check_leases(state: &State) {
    let mut tokens = BTreeSet::new();
    let mut with_request = 0;
    for (index, lease) in &state.leases {
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
        let resource = state.resource(lease.resource);
        assert!(resource.name == granted.resource, "a lease is on its resource");
        assert!(resource.holders().iter().any(|at| at == slot), "and holds it");
        let starting = state.starting.iter().any(|(token, _)| *token == granted.token);
        if granted.is_bound {
            let session = state.session(state.session_of(slot).expect("it lives with one"));
            assert!(lease.armed == UNARMED && !starting, "its session's deadline is its own");
            assert!(session.leases.get(&granted.token) == Some(&slot), "its session knows it");
            assert!(session.space == lease.space, "both are in one namespace");
        } else {
            assert!(
                starting == (lease.armed == UNARMED),
                "a deadline begins when the grant is durable"
            );
        }
    }
    assert!(state.lease_ids.len() == state.leases.len(), "nothing else is found by id");
    assert!(state.lease_requests.len() == with_request, "nothing else is found by request");
    let in_spaces: usize = state.spaces.iter().map(|(_, space)| space.leases.len()).sum();
    assert!(in_spaces == state.leases.len(), "nothing else is found by token");
}

fn check_resources(state: &State) {
    assert!(state.resource_names.len() == state.resources.len(), "found by name, and only those");
    for (index, resource) in &state.resources {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        let found = state.find_resource(resource.space, &resource.name);
        assert!(found == Some(slot), "resources are found by their names");
        let held = resource.is_held();
        assert!(held || resource.queue().is_some(), "an idle resource is dropped");
        let exclusive = resource
            .holders()
            .iter()
            .filter(|at| state.lease(*at).granted.mode == Mode::Exclusive)
            .count();
        assert!(exclusive == 0 || resource.holders().len() == 1, "an exclusive holder is alone");
        if let Holders::Many(many) = resource.holders() {
            assert!(many.len() > 1, "a single holder is kept as one");
        }
        if let Some(crowd) = resource.crowd.as_deref() {
            let idle = crowd.sharers.is_empty() && crowd.queue.total == 0;
            assert!(!idle, "a crowd that is none is dropped");
        }
        check_queue(state, slot);
    }
}

fn check_queue(state: &State, slot: u32) {
    let resource = state.resource(slot);
    let Some(queue) = resource.queue() else { return };
    let mine = state.waiters.iter().filter(|(_, waiter)| waiter.resource == slot);
    assert!(queue.total as usize == mine.count(), "waiters are counted");
    let mut levels: BTreeMap<i8, Level> = BTreeMap::new();
    for (key, at) in &queue.attached {
        let waiter = state.waiter(*at);
        assert!(waiter.key() == *key && waiter.resource == slot, "a waiter is in its place");
        assert!(waiter.is_attached(), "only attached waiters are served");
        let level = levels.entry(key.descending.0).or_default();
        match waiter.acquire.target.mode {
            Mode::Exclusive => level.exclusive += 1,
            Mode::Shared => level.shared += 1,
        }
    }
    assert!(levels == queue.levels, "levels count the attached waiters");
    let listed = state.unsettled.contains(&slot);
    let unsettled = resource.crowd.as_deref().is_some_and(|crowd| crowd.unsettled);
    assert!(listed || !unsettled, "what is to settle is on the list");
    if !unsettled {
        check_settled(state, slot);
    }
}

/// The first in the queue of a settled resource really can't be served.
fn check_settled(state: &State, slot: u32) {
    let resource = state.resource(slot);
    let Some(queue) = resource.queue() else { return };
    let Some(first) = queue.attached.values().next() else { return };
    let held = resource.holders().iter().next().map(|at| state.lease(at).granted.mode);
    let mode = state.waiter(*first).acquire.target.mode;
    let blocked = match held {
        None => false,
        Some(Mode::Exclusive) => true,
        Some(Mode::Shared) => mode == Mode::Exclusive,
    };
    assert!(blocked, "nobody waits for what is free");
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
        let queue = state.resource(waiter.resource).queue().expect("it is queued");
        let served = queue.attached.get(&waiter.key()) == Some(&slot);
        assert!(served == waiter.is_attached(), "attached waiters are served, others passed over");
        let due = if served { Due::Wait(slot) } else { Due::Keep(slot) };
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
    let all = state.leases.iter().filter(|(_, lease)| lease.granted.is_bound).count();
    assert!(bound == all, "every bound lease is its session's");
    let kept: u64 = state.sessions.iter().map(|(_, session)| session.replies.bytes()).sum();
    assert!(state.memory.kept_bytes() == kept, "what sessions remember is counted");
}

fn check_deadlines(state: &State) {
    let armed = state.leases.iter().filter(|(_, lease)| lease.armed != UNARMED).count();
    let sessions = state.sessions.iter().filter(|(_, session)| session.armed != UNARMED).count();
    let all = armed + sessions + state.waiters.len();
    assert!(state.deadlines.len() == all, "one deadline each");
    for (index, lease) in &state.leases {
        let slot = u32::try_from(index).expect("slots are 32 bits");
        if lease.armed != UNARMED {
            assert!(state.deadlines.is_armed(lease.armed, Due::Lease(slot)), "armed as it says");
            let true_end = state.floors.deadline(lease.renewed, lease.granted.ttl.ms());
            assert!(lease.armed <= true_end, "a deadline is looked at no later than it is due");
        }
    }
    let rising: alloc::vec::Vec<Revision> =
        state.starting.iter().map(|(token, _)| token.revision()).collect();
    assert!(rising.is_sorted(), "grants become durable in their order");
}
