//! Taking and waiting: replay, obstacles, deadlock, queue, and serving who can be served.

use singletrack_core::{
    command::{AcquireLease, Request},
    limits,
    types::{CallId, CommandHash, Mode, RequestMark, Target, Token},
};

use super::{
    Kind, Lease, Life, Met, Model, Told, Waiter, actor_of,
    claims::{self, Obstacles},
    deadlock::{Held, Scene, Wait},
    is, life_of,
    told::{Blocked, Count},
};

impl Model {
    pub(super) fn acquire(
        &mut self,
        namespace: &str,
        request: &Request,
        acquire: &AcquireLease,
    ) -> Option<Told> {
        if let Some(mark) = request.mark {
            let same = |known: CommandHash| known == mark.command;
            if let Some(lease) = self.leases.iter().find(|it| is(it.mark, mark.id)) {
                return Some(if same(lease.mark.unwrap().command) {
                    Told::Granted {
                        lease_id: lease.id,
                        remaining_ms: self.remaining(lease),
                        waited_ms: 0,
                        replayed: true,
                    }
                } else {
                    Told::Reused
                });
            }
            if let Some(index) = self.waiters.iter().position(|it| is(it.mark, mark.id)) {
                if !same(self.waiters[index].mark.unwrap().command) {
                    return Some(Told::Reused);
                }
                return self.attach(index, request.call, acquire);
            }
            if let Some(told) = self.past(mark, Kind::Acquire) {
                return Some(told);
            }
            if request.age_ms > 30_000 {
                return Some(Told::Forgotten);
            }
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Some(Told::StaleFence(index));
        }
        let newcomer = Waiter::new(namespace, request, acquire, self.seq + 1, self.now);
        match self.try_at_once(&newcomer) {
            Err(Told::Held(_)) => {}
            done => return Some(done.unwrap_or_else(|refused| refused)),
        }
        if acquire.wait_ms == 0 {
            return Some(self.held(&newcomer, false, 0));
        }
        let mut with = self.clone();
        with.waiters.push(newcomer.clone());
        let first = self.behind(&newcomer);
        let met = if first { Met::DeadlockByPriority } else { Met::DeadlockOfLast };
        if let Some(told) = self.judge(with.scene(namespace), met) {
            return Some(told);
        }
        self.seq += 1;
        self.waiters.push(newcomer);
        None
    }

    /// Grants to a newcomer, or says why not.
    pub(super) fn try_at_once(&mut self, newcomer: &Waiter) -> Result<Told, Told> {
        let (namespace, acquire) = (&newcomer.namespace, &newcomer.acquire);
        if !self.is_life_left(namespace, acquire) {
            return Err(Told::SessionLost);
        }
        if let Some(told) = self.mismatch(namespace, acquire) {
            self.met.push(Met::LimitMismatch);
            return Err(told);
        }
        if !self.is_served(newcomer) {
            return Err(self.held(newcomer, false, 0));
        }
        let mut scene = self.scene(namespace);
        scene.leases.push(Held {
            actor: actor_of(acquire),
            holder: acquire.holder.to_string(),
            targets: acquire.targets.as_slice().to_vec(),
            is_supposed: true,
        });
        if let Some(told) = self.judge(scene, Met::DeadlockByGrant) {
            return Err(told);
        }
        self.met.push(Met::GrantedAtOnce);
        self.note_grant(newcomer);
        self.grant(namespace, acquire, newcomer.mark);
        Ok(Told::Granted {
            lease_id: acquire.lease_id,
            remaining_ms: self.remaining(self.leases.last().unwrap()),
            waited_ms: 0,
            replayed: false,
        })
    }

    /// Somebody attached is served after it.
    fn behind(&self, newcomer: &Waiter) -> bool {
        let after = |it: &&Waiter| it.is_attached() && it.key() > newcomer.key();
        self.queue(&newcomer.namespace).iter().any(after)
    }

    /// Another call for a waiter that is there.
    fn attach(&mut self, index: usize, call: CallId, acquire: &AcquireLease) -> Option<Told> {
        let now = self.now;
        let waiter = self.waiters[index].clone();
        let served = self.is_served(&waiter);
        let was_attached = waiter.is_attached();
        if acquire.wait_ms == 0 && !served {
            self.waiters[index].keep_ms = acquire.keep_ms;
            if !was_attached {
                self.waiters[index].keep_until = now + acquire.keep_ms;
            }
            return Some(self.held(&waiter, true, 0));
        }
        if !was_attached {
            let mut with = self.clone();
            with.waiters[index].calls.push((call, now, now + acquire.wait_ms));
            let scene = with.scene(&waiter.namespace);
            // Refused, it stays as it was: detached, and kept no longer than before.
            if let Some(told) = self.judge(scene, Met::DeadlockOnReturn) {
                return Some(told);
            }
        }
        self.waiters[index].keep_ms = acquire.keep_ms;
        if waiter.calls.len() == limits::ATTACHED_MAX {
            let (oldest, since, _) = self.waiters[index].calls.remove(0);
            let told = self.held(&waiter, true, now - since);
            self.told.push((oldest, told));
        }
        self.waiters[index].calls.push((call, now, now + acquire.wait_ms));
        None
    }

    /// Its session, if it has one, is alive.
    fn is_life_left(&self, namespace: &str, acquire: &AcquireLease) -> bool {
        match life_of(acquire) {
            Life::Ttl(_) => true,
            Life::Session(id) => {
                let mut own = self.sessions.iter().filter(|it| it.namespace == namespace);
                own.any(|it| it.id == id && it.end.is_none())
            }
        }
    }

    /// Another limit than that of the live holders and waiters.
    fn mismatch(&self, namespace: &str, acquire: &AcquireLease) -> Option<Told> {
        acquire.targets.as_slice().iter().find_map(|target| {
            let Mode::Permits(permits) = target.mode else { return None };
            let name = target.resource.as_str();
            let held = self.leases_in(namespace).map(|it| &it.targets[..]);
            let waited = self.waiters.iter().filter(|it| it.namespace == namespace);
            let closed = self.closed.iter().filter(|it| it.namespace == namespace);
            let closed = closed.map(|it| &it.targets[..]);
            let mut all = held.chain(waited.map(Waiter::targets)).chain(closed);
            let limit = all.find_map(|it| claims::limit_of(it, name))?;
            (limit != permits.limit()).then(|| Told::LimitMismatch {
                resource: name.into(),
                limit,
                asked: permits.limit(),
            })
        })
    }

    /// What is in the way of each of its targets.
    fn obstacles(&self, waiter: &Waiter) -> Vec<Obstacles> {
        let namespace = &waiter.namespace;
        let leases: Vec<&[Target]> = self.leases_in(namespace).map(|it| &it.targets[..]).collect();
        let before: Vec<&[Target]> = self.before(waiter).iter().map(|it| it.targets()).collect();
        let closed = self.closed.iter().filter(|it| it.namespace == *namespace);
        let closed: Vec<&[Target]> = closed.map(|it| &it.targets[..]).collect();
        let each = waiter.targets().iter();
        each.map(|target| claims::obstacles(target, &leases, &before, &closed)).collect()
    }

    /// The attached waiters that are served before it.
    fn before(&self, waiter: &Waiter) -> Vec<&Waiter> {
        let mut all = self.queue(&waiter.namespace);
        all.retain(|it| it.is_attached() && it.key() < waiter.key());
        all
    }

    pub(super) fn is_served(&self, waiter: &Waiter) -> bool {
        self.obstacles(waiter).iter().all(Obstacles::is_free)
    }

    pub(super) fn held(&mut self, waiter: &Waiter, still: bool, waited_ms: u64) -> Told {
        let all = self.obstacles(waiter);
        let Some(at) = all.iter().position(|it| !it.is_free()) else {
            panic!("nothing is in the way of {waiter:?}")
        };
        self.note_obstacles(waiter, &all);
        let target = &waiter.targets()[at];
        let found = &all[at];
        let namespace = &waiter.namespace;
        let before = self.before(waiter);
        let waiters: Vec<&Waiter> = found.waiters.iter().map(|at| before[*at]).collect();
        let touching = |it: &&&Waiter| it.targets().iter().any(|it| claims::touch(it, target));
        let leases: Vec<&Lease> = self.leases_in(namespace).collect();
        let mut holders: Vec<&Lease> = found.leases.iter().map(|at| leases[*at]).collect();
        // Behind earlier waiters alone, one is told what these wait for.
        let is_any = holders.is_empty() && !waiters.is_empty();
        let touched = |all: &[Target]| all.iter().filter(|it| claims::touch(it, target)).count();
        if is_any {
            holders = leases.into_iter().filter(|it| touched(&it.targets) > 0).collect();
        }
        holders.sort_by_key(|it| it.token);
        let claims = holders.iter().map(|it| touched(&it.targets)).sum();
        let holder_count = Count(holders.len(), claims);
        let mut holders: Vec<String> =
            holders.iter().take(limits::HOLDERS_TOLD_MAX).map(|it| it.holder.clone()).collect();
        holders.sort();
        let closed = self.closed.iter().filter(|it| it.namespace == *namespace);
        let is_permits = |it: &Target| {
            claims::permits_of(std::slice::from_ref(it), target.resource.as_str()) > 0
                && matches!(target.mode, Mode::Permits(_))
        };
        let is_told = |it: &Target| {
            claims::clash(it, target) || is_permits(it) || (is_any && claims::touch(it, target))
        };
        let closed = closed.filter(|it| it.targets.iter().any(is_told));
        let closed_ms = closed.map(|it| it.until - self.durable()).max().unwrap_or(0);
        let blocked = all.iter().filter(|it| !it.is_free()).count();
        let ahead = before.iter().filter(touching).count();
        Told::Held(Box::new(Blocked {
            still,
            resource: target.resource.to_string(),
            holders,
            holder_count,
            waiters: waiters
                .iter()
                .take(limits::WAITERS_TOLD_MAX)
                .map(|it| it.acquire.holder.to_string())
                .collect(),
            ahead,
            closed_ms,
            permits_used: u32::try_from(found.permits_used).unwrap(),
            permits_wanted: Count(0, usize::try_from(found.permits_wanted).unwrap()),
            targets: u32::try_from(blocked).unwrap(),
            waited_ms,
        }))
    }

    pub(super) fn grant(
        &mut self,
        namespace: &str,
        acquire: &AcquireLease,
        mark: Option<RequestMark>,
    ) {
        self.granted.push((namespace.into(), acquire.lease_id));
        self.leases.push(Lease {
            namespace: namespace.into(),
            id: acquire.lease_id,
            holder: acquire.holder.to_string(),
            targets: acquire.targets.as_slice().to_vec(),
            terms: acquire.terms.as_deref().cloned().unwrap_or_default(),
            life: life_of(acquire),
            token: Token(u64::MAX),
            mark,
            renewed: self.now,
            granted_at: self.durable(),
            yields: Vec::new(),
        });
    }

    pub(super) fn detach(&mut self, call: CallId) {
        let now = self.now;
        let Some(index) = self.waiters.iter().position(|it| it.has(call)) else { return };
        let waiter = &mut self.waiters[index];
        waiter.calls.retain(|(known, _, _)| *known != call);
        if waiter.calls.is_empty() {
            if waiter.mark.is_none() {
                self.waiters.remove(index);
            } else {
                waiter.keep_until = now + waiter.keep_ms;
            }
        }
    }

    /// Serves whoever can be served, again and again, until nobody can.
    pub(super) fn settle(&mut self) {
        while let Some(next) = self.next_served() {
            self.waiters.retain(|it| it.seq != next.seq);
            let refused = match self.stale(&next.namespace, &next.fences) {
                Some(index) => Some(Told::StaleFence(index)),
                None if !self.is_life_left(&next.namespace, &next.acquire) => {
                    Some(Told::SessionLost)
                }
                None => None,
            };
            if let Some(told) = refused {
                self.told.extend(next.calls.iter().map(|(call, _, _)| (*call, told.clone())));
                continue;
            }
            self.met.push(Met::GrantedAfterWait);
            if next.calls.len() > 1 {
                self.met.push(Met::ManyCallsOfOneWaiter);
            }
            self.note_grant(&next);
            self.grant(&next.namespace, &next.acquire, next.mark);
            let remaining_ms = self.remaining(self.leases.last().unwrap());
            for (call, since, _) in &next.calls {
                let told = Told::Granted {
                    lease_id: next.acquire.lease_id,
                    remaining_ms,
                    waited_ms: self.now - since,
                    replayed: false,
                };
                self.told.push((*call, told));
            }
        }
    }

    fn next_served(&self) -> Option<Waiter> {
        let mut all: Vec<&Waiter> = self.waiters.iter().filter(|it| it.is_attached()).collect();
        all.sort_by_key(|it| it.key());
        all.into_iter().find(|it| self.is_served(it)).cloned()
    }

    // === deadlock ===

    /// Leases and attached waiters of a namespace.
    pub(super) fn scene(&self, namespace: &str) -> Scene {
        let leases = self.leases_in(namespace).map(|it| Held {
            actor: it.terms.actor.as_ref().map(|it| it.as_str().to_owned()),
            holder: it.holder.clone(),
            targets: it.targets.clone(),
            is_supposed: false,
        });
        let queue = self.queue(namespace);
        let waits = queue.iter().filter(|it| it.is_attached()).map(|it| Wait {
            actor: it.actor(),
            holder: it.acquire.holder.to_string(),
            targets: it.targets().to_vec(),
            seq: it.seq,
        });
        Scene { leases: leases.collect(), waits: waits.collect() }
    }

    /// Refuses when somebody could never be served.
    pub(super) fn judge(&mut self, scene: Scene, met: Met) -> Option<Told> {
        if scene.stuck().is_empty() {
            if scene.seems_stuck() {
                self.met.push(Met::AnyOfIsNoDeadlock);
            }
            return None;
        }
        self.met.push(met);
        self.refused = Some(scene);
        Some(Told::Deadlock)
    }

    // === what is met, for the count ===

    fn note_grant(&mut self, waiter: &Waiter) {
        let mut met = Vec::new();
        for other in self.queue(&waiter.namespace) {
            if other.key() >= waiter.key() {
                continue;
            }
            let clash = claims::any_clash(other.targets(), waiter.targets());
            if clash && !other.is_attached() {
                met.push(Met::DetachedPassedOver);
            }
            let permits = |it: &Target| {
                let name = it.resource.as_str();
                claims::permits_of(other.targets(), name) > 0
                    && claims::permits_of(waiter.targets(), name) > 0
            };
            if other.is_attached() && waiter.targets().iter().any(permits) {
                met.push(Met::SmallerPassesLarger);
            }
        }
        let below = waiter.targets().iter().any(|target| {
            self.leases_in(&waiter.namespace)
                .flat_map(|it| &it.targets)
                .any(|it| claims::touch(it, target) && it.resource != target.resource)
        });
        if below {
            met.push(Met::SharedBesideBelow);
        }
        self.met.extend(met);
    }

    fn note_obstacles(&mut self, waiter: &Waiter, all: &[Obstacles]) {
        let mut met = Vec::new();
        let free = all.iter().filter(|it| it.is_free()).count();
        if free > 0 {
            met.push(Met::PartlyBlocked);
        }
        let leases: Vec<&Lease> = self.leases_in(&waiter.namespace).collect();
        for (target, found) in waiter.targets().iter().zip(all) {
            if found.is_closed {
                met.push(Met::Closed);
            }
            let name = target.resource.as_str();
            let blocking = found.leases.iter().flat_map(|at| &leases[*at].targets);
            for other in blocking.filter(|it| claims::touch(it, target)) {
                let other = other.resource.as_str();
                if other != name {
                    let above = claims::is_below_or_same(name, other);
                    met.push(if above { Met::BlockedFromAbove } else { Met::BlockedFromBelow });
                }
            }
            let fits = |wanted: u64| match target.mode {
                Mode::Permits(it) => {
                    found.permits_used + wanted + u64::from(it.count()) <= u64::from(it.limit())
                }
                Mode::Exclusive | Mode::Shared => false,
            };
            if fits(0) && !fits(found.permits_wanted) {
                met.push(Met::PermitsReserved);
            }
            if found.leases.is_empty() && !found.is_closed && !found.waiters.is_empty() {
                met.push(Met::BlockedElsewhereKeepsPlace);
            }
        }
        self.met.extend(met);
    }
}
