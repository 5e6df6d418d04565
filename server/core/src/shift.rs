//! `shift`: the only mutator of volatile state: waiters, attachments and deadlines.

use alloc::{vec, vec::Vec};
use core::cmp::Reverse;

use crate::{
    absorb::slot_of,
    deadline::Due,
    motion::{Motion, QueuedWaiter},
    session::replies::Kept,
    state::{AttachedCall, State, Totals, UNARMED, Waiter},
    tree::{Class, Mark, QueueKey, Queued},
    types::{CallId, Mode, Ms, Revision},
};

impl State {
    /// Carries a motion out.
    pub(crate) fn shift(&mut self, now: Ms, motion: &Motion) {
        match motion {
            Motion::WaiterQueued(queued) => self.queue_waiter(now, queued),
            Motion::CallAttached { waiter, call, until, keep_ms } => {
                self.attach_call(*waiter, AttachedCall { call: *call, since: now, until: *until });
                self.waiter_mut(*waiter).acquire.keep_ms = *keep_ms;
            }
            Motion::CallDetached { call } => self.detach_call(now, *call),
            Motion::WaiterDropped { waiter } => self.drop_waiter(*waiter, true),
            Motion::WaiterServed { waiter } => self.drop_waiter(*waiter, false),
            Motion::WaiterKept { waiter, keep_ms } => self.keep_waiter(now, *waiter, *keep_ms),
            Motion::LeaseRenewed { lease } => self.renew_lease(now, *lease),
            Motion::LeaseRearmed { lease, at } => self.rearm_lease(*lease, *at),
            Motion::SessionKept { session } => self.keep_session(now, *session),
            Motion::SessionRearmed { session, at } => self.rearm_session(*session, *at),
            Motion::SessionAttached { session, stream } => {
                self.keep_session(now, *session);
                let session = self.session_mut(*session);
                session.stream = Some(*stream);
                session.generation += 1;
            }
            Motion::RepliesAcknowledged { session, below, seen } => {
                let gone = self.session_mut(*session).replies.acknowledge(*below, seen);
                self.let_replies_go(*session, &gone);
            }
            Motion::SessionForgotten { session, count } => self.forget_session(*session, *count),
            Motion::Forgotten { count } => self.memory.forget(now, *count),
            Motion::Settled => self.unmark(),
            Motion::SettledInPart { priority, seq, node, is_below, again } => {
                let mark = if *is_below { Mark::Below(*node) } else { Mark::At(*node) };
                let from = QueueKey { descending: Reverse(*priority), seq: *seq };
                if self.nodes.contains(*node as usize) {
                    self.mark_rest(mark, from, *again);
                }
            }
            Motion::YieldRequested { token, from, reason } => {
                let number = self.next_seq;
                self.next_seq += 1;
                self.yields.entry(*token).or_default().ask(number, now, from, reason);
            }
            Motion::YieldAnswered { token, number, answer } => {
                if let Some(yields) = self.yields.get_mut(token) {
                    yields.answer(*number, answer);
                }
            }
        }
    }

    /// Everything durable is there again: closed leases are due when they are by the clock as it
    /// now is, and totals begin.
    pub(crate) fn start_over(&mut self) {
        let closed: Vec<_> =
            self.closed.values().map(|known| (known.lease, known.closed.until)).collect();
        for (slot, until) in closed {
            let at = self.volatile(until);
            self.rearm_lease(slot, at);
        }
        self.start_records_over();
        // What it was recovered from may go: it is said again at once.
        self.clock_logged = None;
        for (_, space) in &mut self.spaces {
            space.totals = Totals::default();
        }
    }

    /// Begins the deadlines of all grants up to and including `through`, as they are durable.
    pub(crate) fn start_deadlines(&mut self, now: Ms, through: Revision) {
        self.start_sessions(now, through);
        while let Some((token, slot)) = self.starting.front().copied() {
            if token.revision() > through {
                return;
            }
            self.starting.pop_front();
            // It may have been released meanwhile, and its slot given to another.
            let lease = self.leases.get(slot as usize);
            if lease.is_some_and(|lease| lease.granted.token == token && lease.armed == UNARMED) {
                self.lease_mut(slot).renewed = now;
                let at = self.lease_deadline(slot);
                self.lease_mut(slot).armed = at;
                self.deadlines.arm(at, Due::Lease(slot));
            }
        }
    }

    fn start_sessions(&mut self, now: Ms, through: Revision) {
        while let Some(number) = self.starting_sessions.front().copied() {
            if number.revision() > through {
                return;
            }
            self.starting_sessions.pop_front();
            let Some(slot) = self.find_session(number) else { continue };
            let session = self.session_mut(slot);
            if session.is_live() && session.armed == UNARMED {
                session.renewed = now;
                let at = now.plus(session.opened.ttl.ms());
                session.armed = at;
                self.deadlines.arm(at, Due::Session(slot));
            }
        }
    }

    fn keep_session(&mut self, now: Ms, slot: u32) {
        let session = self.session_mut(slot);
        assert!(session.is_live() && session.renewed <= now, "time never goes backwards");
        session.renewed = now;
    }

    fn rearm_session(&mut self, slot: u32, at: Ms) {
        let armed = core::mem::replace(&mut self.session_mut(slot).armed, at);
        self.deadlines.disarm(armed, Due::Session(slot));
        self.deadlines.arm(at, Due::Session(slot));
    }

    /// Forgets what a session need not remember any more.
    pub(crate) fn let_replies_go(&mut self, slot: u32, gone: &[Kept]) {
        let namespace = self.session(slot).opened.namespace.clone();
        for kept in gone {
            self.memory.discount_reply(&kept.past);
            if let Some(lease) = kept.lease {
                self.memory.take_back_end(&namespace, lease);
            }
        }
    }

    fn forget_session(&mut self, slot: u32, count: usize) {
        let gone = self.session_mut(slot).replies.take(count);
        self.let_replies_go(slot, &gone);
        if self.session(slot).replies.len() > 0 {
            return;
        }
        let session = self.sessions.remove(slot as usize);
        self.deadlines.disarm(session.armed, Due::Session(slot));
        self.session_numbers.remove(&session.opened.number);
        let hash = self.hasher.hash(&session.opened.session_id);
        let known = self.session_ids.remove(hash, |at| *at == slot);
        assert!(known.is_some(), "every session is found by its id");
        self.space_mut(session.space).sessions -= 1;
        self.drop_space_if_idle(session.space);
    }

    /// A renewal moves the deadline only; where it is armed is put right when that comes up.
    fn renew_lease(&mut self, now: Ms, slot: u32) {
        let lease = self.lease_mut(slot);
        assert!(lease.renewed <= now, "time never goes backwards");
        lease.renewed = now;
    }

    fn rearm_lease(&mut self, slot: u32, at: Ms) {
        let armed = self.lease(slot).armed;
        self.deadlines.disarm(armed, Due::Lease(slot));
        self.deadlines.arm(at, Due::Lease(slot));
        self.lease_mut(slot).armed = at;
    }

    fn queue_waiter(&mut self, now: Ms, queued: &QueuedWaiter) {
        let space = self.ensure_space(&queued.namespace);
        let claims = queued.acquire.targets.claims();
        let nodes = claims.map(|claim| self.ensure_node(space, claim.resource)).collect();
        let seq = self.next_seq;
        self.next_seq += 1;
        let waiter = Waiter {
            space,
            nodes,
            mark: queued.mark,
            asked_by: queued.asked_by,
            fences: queued.fences.clone(),
            acquire: queued.acquire.clone(),
            seq,
            since: now,
            calls: vec![],
            armed: UNARMED,
        };
        let slot = slot_of(self.waiters.insert(waiter));
        if let Some(session) = self.waiters_session(slot) {
            self.session_mut(session).waiters.insert(slot);
        }
        let held = self.space_mut(space);
        held.waiters.insert(seq, slot);
        held.totals.queued += 1;
        held.bytes += queued.bytes();
        for (node, mode) in self.waiter_places(slot) {
            self.enter_queue(node, mode);
        }
        if let Some(actor) = self.waiter(slot).actor() {
            let key = (space, actor.clone());
            self.actors.entry(key).or_default().waiters.insert(slot);
        }
        if let Some(mark) = queued.mark {
            let (waiters, hasher) = (&self.waiters, &self.hasher);
            self.waiter_requests.insert(hasher.hash(&mark.id), slot, |at| {
                let known = waiters.get(*at as usize).expect("slots of waiters are kept true");
                hasher.hash(&known.mark.expect("indexed by its request").id)
            });
        }
        let call = AttachedCall { call: queued.call, since: now, until: queued.until };
        self.attach_call(slot, call);
    }

    /// The nodes a waiter stands at, and how it would share them.
    fn waiter_places(&self, slot: u32) -> Vec<(u32, Mode)> {
        self.waiter(slot).claims().map(|(node, claim, _)| (node, claim.mode)).collect()
    }

    fn attach_call(&mut self, slot: u32, call: AttachedCall) {
        let waiter = self.waiter_mut(slot);
        let was_attached = waiter.is_attached();
        waiter.calls.push(call);
        let hasher = self.hasher.clone();
        self.calls
            .insert(hasher.hash(&call.call), (call.call, slot), |(known, _)| hasher.hash(known));
        if !was_attached {
            self.join_queues(slot);
        }
        self.rearm_waiter(slot);
    }

    /// It is to be served in its turn, on all its resources; that may be now.
    fn join_queues(&mut self, slot: u32) {
        let waiter = self.waiter(slot);
        let key = waiter.key();
        let places: Vec<_> = waiter
            .claims()
            .map(|(node, claim, class)| {
                let permits = u32::try_from(claim.permits()).expect("permits are few");
                (node, Queued { waiter: slot, permits }, class)
            })
            .collect();
        for (number, (node, queued, class)) in (0..).zip(&places) {
            self.attach_at(*node, key, number, *queued, *class);
        }
        let (first, ..) = places.first().expect("a waiter has a claim");
        self.mark(Mark::At(*first));
    }

    fn detach_call(&mut self, now: Ms, call: CallId) {
        let hash = self.hasher.hash(&call);
        let Some((_, slot)) = self.calls.remove(hash, |(known, _)| *known == call) else { return };
        let waiter = self.waiter_mut(slot);
        waiter.calls.retain(|attached| attached.call != call);
        if waiter.is_attached() {
            self.rearm_waiter(slot);
        } else if waiter.mark.is_none() {
            self.leave_queues(slot, true);
            self.remove_waiter(slot);
        } else {
            let keep_ms = waiter.acquire.keep_ms;
            self.leave_queues(slot, true);
            self.keep_until(slot, now.plus(keep_ms));
        }
    }

    fn keep_waiter(&mut self, now: Ms, slot: u32, keep_ms: u64) {
        let waiter = self.waiter_mut(slot);
        waiter.acquire.keep_ms = keep_ms;
        if !waiter.is_attached() {
            self.keep_until(slot, now.plus(keep_ms));
        }
    }

    fn keep_until(&mut self, slot: u32, at: Ms) {
        self.disarm_waiter(slot, false);
        self.deadlines.arm(at, Due::Keep(slot));
        self.waiter_mut(slot).armed = at;
    }

    fn drop_waiter(&mut self, slot: u32, frees: bool) {
        let waiter = self.waiter(slot);
        let attached = waiter.is_attached();
        if attached {
            self.leave_queues(slot, frees);
            let calls = core::mem::take(&mut self.waiter_mut(slot).calls);
            for attached in calls {
                let hash = self.hasher.hash(&attached.call);
                self.calls.remove(hash, |(known, _)| *known == attached.call);
            }
        }
        self.remove_waiter(slot);
    }

    /// Takes an attached waiter out of the order of those to be served. If that `frees` what it
    /// claimed, whoever stood behind may be next.
    fn leave_queues(&mut self, slot: u32, frees: bool) {
        self.disarm_waiter(slot, true);
        let waiter = self.waiter(slot);
        let key = waiter.key();
        let places: Vec<_> =
            waiter.claims().map(|(node, claim, class)| (node, claim.reach, class)).collect();
        for (number, (node, _, class)) in (0..).zip(&places) {
            self.detach_at(*node, key, number, *class);
        }
        for (node, reach, class) in places {
            if frees {
                self.mark_freed(node, reach);
            } else if class == Class::Permits {
                self.mark_if_crowded(node);
            }
        }
    }

    fn remove_waiter(&mut self, slot: u32) {
        self.disarm_waiter(slot, false);
        if let Some(session) = self.waiters_session(slot) {
            self.session_mut(session).waiters.remove(&slot);
        }
        let places = self.waiter_places(slot);
        let waiter = self.waiters.remove(slot as usize);
        if let Some(mark) = waiter.mark {
            let hash = self.hasher.hash(&mark.id);
            let known = self.waiter_requests.remove(hash, |at| *at == slot);
            assert!(known.is_some(), "every waiter is found by its request");
        }
        if let Some(actor) = waiter.actor() {
            let key = (waiter.space, actor.clone());
            let acting = self.actors.get_mut(&key).expect("an actor with a waiter is known");
            acting.waiters.remove(&slot);
            if acting.leases.is_empty() && acting.waiters.is_empty() {
                self.actors.remove(&key);
            }
        }
        let space = self.space_mut(waiter.space);
        space.waiters.remove(&waiter.seq);
        space.bytes -= waiter.bytes();
        for (node, mode) in places {
            self.exit_queue(node, mode);
        }
        self.drop_space_if_idle(waiter.space);
    }

    fn rearm_waiter(&mut self, slot: u32) {
        let waiter = self.waiter(slot);
        let earliest = waiter.calls.iter().map(|call| call.until).min();
        let at = earliest.expect("an attached waiter has a call");
        // It may stand in the table as detached until now, or as attached with another end.
        let was = waiter.armed;
        if was != UNARMED {
            let due = if self.deadlines.is_armed(was, Due::Wait(slot)) {
                Due::Wait(slot)
            } else {
                Due::Keep(slot)
            };
            self.deadlines.disarm(was, due);
        }
        self.deadlines.arm(at, Due::Wait(slot));
        self.waiter_mut(slot).armed = at;
    }

    fn disarm_waiter(&mut self, slot: u32, attached: bool) {
        let armed = self.waiter(slot).armed;
        if armed != UNARMED {
            let due = if attached { Due::Wait(slot) } else { Due::Keep(slot) };
            self.deadlines.disarm(armed, due);
            self.waiter_mut(slot).armed = UNARMED;
        }
    }
}
