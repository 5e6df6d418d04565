//! Keeping, ending, giving on, and asking to yield.

use singletrack_core::{
    command::{AnswerLeaseYield, LeaseRef, Request, RequestLeaseYield, TransferLease},
    refusal::LeaseEnd,
    reply::AbandonedState,
    types::{LeaseId, RequestHash, Token},
};

use super::{Closed, Effect, Ended, Kind, Lease, Life, Met, Model, Told, is, told};

impl Model {
    /// What is left of a lease.
    pub(super) fn remaining(&self, lease: &Lease) -> u64 {
        let of_hold = self.hold_remaining(lease).unwrap_or(u64::MAX);
        self.deadline(lease).saturating_sub(self.now).min(of_hold)
    }

    pub(super) fn hold_remaining(&self, lease: &Lease) -> Option<u64> {
        let end = lease.granted_at + lease.terms.max_hold?.ms();
        Some(end.saturating_sub(self.durable()))
    }

    /// Ends a lease; after an involuntary end its resources may stay closed.
    pub(super) fn end(&mut self, id: LeaseId, end: LeaseEnd) {
        let index = self.leases.iter().position(|it| it.id == id).unwrap();
        let lease = self.leases.remove(index);
        let is_involuntary = match end {
            LeaseEnd::Expired | LeaseEnd::Forced | LeaseEnd::MaxHold => true,
            LeaseEnd::Released | LeaseEnd::Transferred => false,
        };
        if let Some(delay) = lease.terms.lock_delay.filter(|_| is_involuntary) {
            self.closed.push(Closed {
                namespace: lease.namespace.clone(),
                targets: lease.targets.clone(),
                until: self.durable() + delay.ms(),
            });
        }
        self.ended.push(Ended { lease, end, at: self.now });
        self.end_bound(id);
    }

    pub(super) fn known_by_id(&self, namespace: &str, lease: LeaseRef) -> Result<Token, Told> {
        let live = self.leases_in(namespace).find(|it| it.id == lease.lease_id);
        if let Some(live) = live {
            return if live.token == lease.token { Ok(live.token) } else { Err(Told::NotHolder) };
        }
        let ended = self
            .ended
            .iter()
            .find(|it| it.lease.namespace == namespace && it.lease.id == lease.lease_id);
        match ended {
            None => Err(Told::NotFound),
            Some(it) if it.lease.token == lease.token => Err(Told::Lost(it.end)),
            Some(_) => Err(Told::NotHolder),
        }
    }

    pub(super) fn renew(&mut self, namespace: &str, lease: LeaseRef) -> Told {
        match self.known_by_id(namespace, lease) {
            Err(told) => told,
            Ok(token) => {
                let now = self.now;
                let live = self.leases.iter_mut().find(|it| it.token == token).unwrap();
                if matches!(live.life, Life::Ttl(_)) {
                    live.renewed = now;
                }
                let live = live.clone();
                let open = live.yields.iter().filter(|it| it.1.is_none()).count();
                Told::Remaining(self.remaining(&live), u32::try_from(open).unwrap())
            }
        }
    }

    pub(super) fn release(&mut self, namespace: &str, request: &Request, lease: LeaseRef) -> Told {
        if let Some(told) = self.before_effect(request, Kind::Release) {
            return told;
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Told::StaleFence(index);
        }
        match self.known_by_id(namespace, lease) {
            Ok(_) => {
                self.end(lease.lease_id, LeaseEnd::Released);
                self.remember(request, Effect::Released);
                Told::Released { replayed: false }
            }
            Err(Told::Lost(LeaseEnd::Released)) => Told::Released { replayed: true },
            Err(told) => told,
        }
    }

    pub(super) fn force(
        &mut self,
        namespace: &str,
        request: &Request,
        name: &str,
        token: Token,
    ) -> Told {
        if let Some(told) = self.before_effect(request, Kind::Force) {
            return told;
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Told::StaleFence(index);
        }
        // Only by the name of a target: a subtree is not taken away by what is below.
        let is_named = |it: &&Lease| it.targets.iter().any(|it| it.resource.as_str() == name);
        let held = self.leases_in(namespace).filter(is_named).find(|it| it.token == token);
        let Some((id, from)) = held.map(|it| (it.id, it.holder.clone())) else {
            return Told::NotFound;
        };
        self.end(id, LeaseEnd::Forced);
        self.remember(request, Effect::Forced { from: from.clone() });
        Told::ForceReleased { from, replayed: false }
    }

    pub(super) fn transfer(
        &mut self,
        namespace: &str,
        request: &Request,
        transfer: &TransferLease,
    ) -> Told {
        if let Some(told) = self.before_effect(request, Kind::Transfer) {
            return told;
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Told::StaleFence(index);
        }
        let token = match self.known_by_id(namespace, transfer.lease) {
            Ok(token) => token,
            Err(told) => return told,
        };
        let at = self.leases.iter().position(|it| it.token == token).unwrap();
        let old = self.leases[at].clone();
        let ttl = match (transfer.ttl, old.life) {
            (Some(ttl), _) => ttl.ms(),
            (None, Life::Ttl(ttl)) => ttl,
            (None, Life::Session(id)) => self.session(id).ttl,
        };
        let mut new = Lease {
            id: transfer.new_id,
            holder: transfer.to.to_string(),
            life: Life::Ttl(ttl),
            token: Token(u64::MAX),
            mark: None,
            renewed: self.now,
            granted_at: self.durable(),
            yields: Vec::new(),
            ..old.clone()
        };
        new.terms.actor = transfer.to_actor.clone();
        let mut with = self.clone();
        with.leases[at] = new.clone();
        if let Some(told) = self.judge(with.scene(namespace), Met::DeadlockOnTransfer) {
            return told;
        }
        self.met.push(Met::Transferred);
        self.end(old.id, LeaseEnd::Transferred);
        self.granted.push((namespace.into(), new.id));
        let told = Told::Transferred {
            lease_id: new.id,
            remaining_ms: self.remaining(&new),
            replayed: false,
        };
        self.leases.push(new);
        self.remember(request, Effect::Transferred { lease_id: transfer.new_id });
        told
    }

    pub(super) fn abandon(&mut self, id: RequestHash) -> Told {
        let state = if let Some(lease) = self.leases.iter().find(|it| is(it.mark, id)) {
            self.end(lease.id, LeaseEnd::Released);
            AbandonedState::Held
        } else if let Some(index) = self.waiters.iter().position(|it| is(it.mark, id)) {
            let waiter = self.waiters.remove(index);
            self.told.extend(waiter.calls.iter().map(|(call, _, _)| (*call, Told::Cancelled)));
            AbandonedState::Waiting
        } else if self.effects.iter().any(|it| it.0.id == id) {
            return Told::Reused;
        } else if self.abandoned.iter().any(|it| it.0 == id) {
            return Told::Abandoned(AbandonedState::Nothing);
        } else if self.ended.iter().any(|it| is(it.lease.mark, id)) {
            AbandonedState::Ended
        } else {
            AbandonedState::Nothing
        };
        self.abandoned.push((id, self.now));
        Told::Abandoned(state)
    }

    // === yield ===

    pub(super) fn ask_to_yield(&mut self, namespace: &str, ask: &RequestLeaseYield) -> Told {
        let asked: Vec<Token> = self
            .holders(namespace, ask.resource.as_str())
            .iter()
            .map(|it| it.token)
            .filter(|token| ask.token.is_none_or(|only| only == *token))
            .collect();
        if asked.is_empty() {
            return Told::NotFound;
        }
        let mut statuses = Vec::new();
        for token in asked {
            let lease = self.leases.iter_mut().find(|it| it.token == token).unwrap();
            let from = ask.from.to_string();
            if !lease.yields.iter().any(|it| it.0 == from) {
                lease.yields.push((from.clone(), None));
            }
            let own = lease.yields.iter().find(|it| it.0 == from).unwrap();
            statuses.push((lease.holder.clone(), own.1.clone()));
        }
        Told::Yields(statuses)
    }

    pub(super) fn answer_yield(&mut self, namespace: &str, answer: &AnswerLeaseYield) -> Told {
        assert_eq!(answer.number, None, "not generated");
        let token = match self.known_by_id(namespace, answer.lease) {
            Ok(token) => token,
            Err(told) => return told,
        };
        let lease = self.leases.iter_mut().find(|it| it.token == token).unwrap();
        lease.yields.iter_mut().for_each(|it| it.1 = Some(told::kept(answer)));
        let count = lease.yields.len();
        if count > 0 {
            self.met.push(Met::YieldAnswered);
        }
        Told::YieldAnswered(u32::try_from(count).unwrap())
    }
}
