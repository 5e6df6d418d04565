//! Time: what ends by itself, stalls, and starting anew.

use singletrack_core::{
    refusal::{LeaseEnd, SessionEnd},
    types::{CallId, LeaseId, SessionId},
};

use super::{Lease, Life, MEMORY, Met, Model, Told};

/// Durable time is logged so often.
const LATE: u64 = 5_000;

impl Model {
    /// Machine time moves to `now`, from one moment at which something may happen to the next.
    pub(crate) fn advance(&mut self, now: u64) -> Vec<(CallId, Told)> {
        while self.now < now {
            let moments = self.moments().into_iter().filter(|at| *at > self.now);
            self.now = moments.min().unwrap_or(now).min(now);
            self.tick();
        }
        std::mem::take(&mut self.told)
    }

    fn moments(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.leases.iter().map(|it| self.deadline(it)).collect();
        for waiter in &self.waiters {
            all.push(waiter.keep_until);
            all.extend(waiter.calls.iter().map(|(_, _, until)| *until));
        }
        let durable = self.leases.iter().filter_map(hold_end);
        let durable = durable.chain(self.closed.iter().map(|it| it.until));
        let durable = durable.chain(self.record_ends());
        all.extend(durable.map(|at| at.saturating_sub(self.durable_base)));
        all.extend(self.sessions.iter().map(|it| match it.end {
            None => self.session_deadline(it.id),
            Some((_, at)) => at + MEMORY,
        }));
        all.extend(self.ended.iter().map(|it| it.at + MEMORY));
        all.extend(self.effects.iter().map(|it| it.2 + MEMORY));
        all.extend(self.abandoned.iter().map(|it| it.1 + MEMORY));
        all
    }

    /// Machine time moves on a little, and holders are owed what they could not renew.
    pub(crate) fn stall(&mut self, charged: u64) -> Vec<(CallId, Told)> {
        self.now += charged;
        self.floors.push(self.now);
        self.tick();
        std::mem::take(&mut self.told)
    }

    /// The process is started anew at this durable time: waits are gone, ttls begin again,
    /// memory lasts anew. Durable time may have gone back, by no more than what is logged late.
    pub(crate) fn restart(&mut self, durable: u64) {
        let counts = self.leases.iter().any(|it| it.terms.max_hold.is_some())
            || self.record_ends().next().is_some();
        assert!(durable <= self.durable(), "durable time never runs ahead");
        if !self.records.is_empty() {
            self.met.push(Met::RestartedWithRecords);
        }
        if counts || !self.closed.is_empty() {
            let late = self.durable() - durable;
            assert!(late <= LATE, "durable time is logged, lost {late} ms");
        }
        if !self.closed.is_empty() {
            self.met.push(Met::RestartedWhileClosed);
        }
        self.now = 0;
        self.durable_base = durable;
        self.waiters.clear();
        self.floors = vec![0];
        self.leases.iter_mut().for_each(|it| {
            it.renewed = 0;
            it.yields.clear();
        });
        for session in &mut self.sessions {
            session.renewed = 0;
            if let Some((_, at)) = &mut session.end {
                *at = 0;
            }
        }
        self.ended.iter_mut().for_each(|it| it.at = 0);
        self.effects.iter_mut().for_each(|it| it.2 = 0);
        self.abandoned.iter_mut().for_each(|it| it.1 = 0);
    }

    fn tick(&mut self) {
        let (now, durable) = (self.now, self.durable());
        let due: Vec<(LeaseId, LeaseEnd)> = self
            .leases
            .iter()
            .filter_map(|it| {
                let is_held_out = hold_end(it).is_some_and(|at| at <= durable);
                let own = matches!(it.life, Life::Ttl(_)) && self.deadline(it) <= now;
                match (is_held_out, own) {
                    (true, _) => Some((it.id, LeaseEnd::MaxHold)),
                    (false, true) => Some((it.id, LeaseEnd::Expired)),
                    (false, false) => None,
                }
            })
            .collect();
        for (lease, end) in due {
            if end == LeaseEnd::MaxHold {
                self.met.push(Met::MaxHold);
            }
            self.end(lease, end);
        }
        let sessions: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|it| it.end.is_none() && self.session_deadline(it.id) <= now)
            .map(|it| it.id)
            .collect();
        for session in sessions {
            self.end_session(session, SessionEnd::Expired);
        }
        let closed = self.closed.len();
        self.closed.retain(|it| it.until > durable);
        if self.closed.len() < closed {
            self.met.push(Met::Reopened);
        }
        self.end_records();
        self.settle();
        self.end_waits();
        self.settle();
        self.ended.retain(|it| it.at + MEMORY > now);
        self.effects.retain(|it| it.2 + MEMORY > now);
        self.abandoned.retain(|it| it.1 + MEMORY > now);
        self.sessions.retain(|it| it.end.is_none_or(|(_, at)| at + MEMORY > now));
    }

    fn end_waits(&mut self) {
        let now = self.now;
        let mut over = Vec::new();
        for waiter in &self.waiters {
            for (call, since, until) in &waiter.calls {
                if *until <= now {
                    over.push((*call, now - since));
                }
            }
        }
        let snapshot = self.clone();
        for (call, waited) in over {
            let waiter = snapshot.waiters.iter().find(|it| it.has(call)).unwrap();
            // All of one moment are told how things stood before any of them went.
            let mut then = snapshot.clone();
            then.met.clear();
            let told = then.held(waiter, waiter.mark.is_some(), waited);
            self.met.append(&mut then.met);
            self.told.push((call, told));
            self.detach(call);
        }
        self.waiters.retain(|it| it.is_attached() || it.keep_until > now);
    }

    pub(super) fn deadline(&self, lease: &Lease) -> u64 {
        match lease.life {
            Life::Ttl(ttl) => self.floored(lease.renewed, ttl),
            Life::Session(id) => self.session_deadline(id),
        }
    }

    fn session_deadline(&self, id: SessionId) -> u64 {
        let session = self.session(id);
        self.floored(session.renewed, session.ttl)
    }

    /// The first floor after the last renewal counts as one.
    fn floored(&self, renewed: u64, ttl: u64) -> u64 {
        let floor = self.floors.iter().find(|floor| **floor >= renewed);
        floor.map_or(0, |floor| floor + ttl).max(renewed + ttl)
    }
}

/// When it is held no longer, on durable time.
fn hold_end(lease: &Lease) -> Option<u64> {
    Some(lease.granted_at + lease.terms.max_hold?.ms())
}
