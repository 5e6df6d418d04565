//! An independent, naive model of the machine: linear scans over plain lists, no index, no
//! slab, no overlay. It says for each step which calls are answered how; the property test
//! compares. Later nouns add their own part here.
//!
//! What it leaves open: which revision a change takes. The model only demands that tokens
//! rise and never repeat.

use singletrack_core::{
    command::{AcquireLease, Command, LeaseKey, LeaseRef, Lifetime, Request},
    fence::{Fence, FenceTarget},
    limits,
    refusal::{LeaseEnd, Refusal},
    reply::{AbandonedState, Reply},
    types::{CallId, CommandHash, LeaseId, Mode, RequestHash, RequestMark, Token},
};

/// What the model expects a call to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A grant: of which lease, with what left, replayed or not.
    Granted {
        lease_id: LeaseId,
        remaining_ms: u64,
        waited_ms: u64,
        replayed: bool,
    },
    Released {
        replayed: bool,
    },
    ForceReleased {
        replayed: bool,
    },
    Abandoned(AbandonedState),
    Renewed(Vec<Told>),
    Remaining(u64),
    Checked {
        current: bool,
        held: bool,
    },
    Found {
        tokens: Vec<Token>,
        waiters: u32,
    },
    Page(Vec<Token>),
    /// A refusal, by its kind and whom it names.
    Held {
        holders: usize,
        ahead: u32,
        still: bool,
    },
    Lost(LeaseEnd),
    StaleFence(u32),
    NotFound,
    NotHolder,
    Reused,
    Forgotten,
    Cancelled,
}

#[derive(Clone, Debug)]
struct Lease {
    namespace: String,
    acquire: AcquireLease,
    token: Token,
    mark: Option<RequestMark>,
    renewed: u64,
}

#[derive(Clone, Debug)]
struct Waiter {
    namespace: String,
    acquire: AcquireLease,
    mark: Option<RequestMark>,
    fences: Vec<Fence>,
    seq: u64,
    /// Call, since, until.
    calls: Vec<(CallId, u64, u64)>,
    keep_until: u64,
    keep_ms: u64,
}

#[derive(Clone, Debug)]
struct Ended {
    lease: Lease,
    end: LeaseEnd,
    at: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Effect {
    Released,
    Forced,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    now: u64,
    seq: u64,
    leases: Vec<Lease>,
    waiters: Vec<Waiter>,
    ended: Vec<Ended>,
    effects: Vec<(RequestMark, Effect, u64)>,
    abandoned: Vec<(RequestHash, u64)>,
    floors: Vec<u64>,
    /// What calls are told in this step.
    told: Vec<(CallId, Told)>,
    /// Grants of this step, in order, whose tokens the machine will tell.
    granted: Vec<(String, LeaseId)>,
}

const MEMORY: u64 = 60_000;

impl Model {
    /// Performs a request; returns what calls are told and which leases are granted.
    pub(crate) fn request(&mut self, request: &Request) -> Vec<(CallId, Told)> {
        let namespace = request.namespace.as_str().to_owned();
        let told = match &request.command {
            Command::AcquireLease(acquire) => self.acquire(&namespace, request, acquire),
            Command::AbandonLease { abandoned, of: _ } => Some(self.abandon(*abandoned)),
            Command::RenewLeases(renewals) => {
                Some(Told::Renewed(renewals.iter().map(|it| self.renew(&namespace, *it)).collect()))
            }
            Command::ReleaseLease(lease) => Some(self.release(&namespace, request, *lease)),
            Command::GetLease(LeaseKey::Resource(name)) => {
                let tokens = self.holders(&namespace, name.as_str()).map(|it| it.token).collect();
                let waiters = self.queue(&namespace, name.as_str()).count();
                Some(Told::Found { tokens, waiters: u32::try_from(waiters).unwrap() })
            }
            Command::ListLeases { after, count } => {
                let mut tokens: Vec<Token> = self
                    .leases
                    .iter()
                    .filter(|it| it.namespace == namespace && it.token.0 > *after)
                    .map(|it| it.token)
                    .collect();
                tokens.sort();
                tokens.truncate(*count);
                Some(Told::Page(tokens))
            }
            Command::CheckLease { resource, token } => {
                let mut holders = self.holders(&namespace, resource.as_str());
                let held = holders.clone().next().is_some();
                Some(Told::Checked { current: holders.any(|it| it.token == *token), held })
            }
            Command::ForceReleaseLease { resource, token } => {
                Some(self.force(&namespace, request, resource.as_str(), *token))
            }
            Command::GetLease(LeaseKey::Id(_))
            | Command::Transact(_)
            | Command::OpenSession(_)
            | Command::AttachSession(_)
            | Command::KeepSessionAlive(_)
            | Command::CloseSession(_)
            | Command::ListSessionLeases { .. }
            | Command::AcknowledgeReplies { .. }
            | Command::CancelWaits(_) => {
                panic!("not generated")
            }
        };
        if let Some(told) = told {
            self.told.push((request.call, told));
        }
        self.settle();
        std::mem::take(&mut self.told)
    }

    /// Whoever waits for this call is gone.
    pub(crate) fn drop_call(&mut self, call: CallId) -> Vec<(CallId, Told)> {
        self.detach(call);
        self.settle();
        std::mem::take(&mut self.told)
    }

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

    /// The process is started anew: waits are gone, ttls begin again, memory lasts anew.
    pub(crate) fn restart(&mut self) {
        self.now = 0;
        self.waiters.clear();
        self.floors = vec![0];
        self.leases.iter_mut().for_each(|it| it.renewed = 0);
        self.ended.iter_mut().for_each(|it| it.at = 0);
        self.effects.iter_mut().for_each(|it| it.2 = 0);
        self.abandoned.iter_mut().for_each(|it| it.1 = 0);
    }

    /// Tells the model the tokens of the grants it expected: the same leases, and on each
    /// resource in the same order.
    pub(crate) fn learn_tokens(&mut self, got: &[(String, LeaseId, Token)]) {
        let mut expected = std::mem::take(&mut self.granted);
        let mut same: Vec<_> = got.iter().map(|(name, id, _)| (name.clone(), *id)).collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        same.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(same, expected, "the same leases are granted, in the same order");
        for (_, id, token) in got {
            for lease in self.leases.iter_mut().chain(self.ended.iter_mut().map(|it| &mut it.lease))
            {
                if lease.acquire.lease_id == *id {
                    lease.token = *token;
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let due: Vec<Lease> =
            self.leases.iter().filter(|it| self.deadline(it) <= now).cloned().collect();
        for lease in due {
            self.end(lease.acquire.lease_id, LeaseEnd::Expired);
        }
        self.settle();
        let mut over = Vec::new();
        for waiter in &self.waiters {
            for (call, since, until) in &waiter.calls {
                if *until <= now {
                    over.push((*call, now - since));
                }
            }
        }
        let snapshot = self.clone();
        for (call, _) in over {
            let waiter = snapshot.waiters.iter().find(|it| it.has(call)).unwrap();
            let told = snapshot.held(waiter, waiter.mark.is_some());
            self.told.push((call, told));
            self.detach(call);
        }
        self.waiters.retain(|it| !it.calls.is_empty() || it.keep_until > now);
        self.settle();
        self.ended.retain(|it| it.at + MEMORY > now);
        self.effects.retain(|it| it.2 + MEMORY > now);
        self.abandoned.retain(|it| it.1 + MEMORY > now);
    }

    fn deadline(&self, lease: &Lease) -> u64 {
        let ttl = ttl_ms(&lease.acquire);
        let floor = self.floors.iter().find(|floor| **floor >= lease.renewed);
        floor.map_or(0, |floor| floor + ttl).max(lease.renewed + ttl)
    }

    fn holders<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Lease> + Clone {
        let mut all: Vec<&Lease> = self
            .leases
            .iter()
            .filter(|it| it.namespace == namespace && it.acquire.target.resource.as_str() == name)
            .collect();
        all.sort_by_key(|it| it.token);
        all.into_iter()
    }

    fn queue<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a Waiter> {
        let mut all: Vec<&Waiter> = self
            .waiters
            .iter()
            .filter(|it| it.namespace == namespace && it.acquire.target.resource.as_str() == name)
            .collect();
        all.sort_by_key(|it| (-i32::from(it.acquire.priority.get()), it.seq));
        all.into_iter()
    }

    /// May this be granted beside those who hold it?
    fn fits(&self, namespace: &str, acquire: &AcquireLease) -> bool {
        let mut holders = self.holders(namespace, acquire.target.resource.as_str());
        match acquire.target.mode {
            Mode::Exclusive => holders.next().is_none(),
            Mode::Shared => holders.all(|it| it.acquire.target.mode == Mode::Shared),
        }
    }

    fn acquire(
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
                        lease_id: lease.acquire.lease_id,
                        remaining_ms: self.deadline(lease).saturating_sub(self.now),
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
            if let Some(told) = self.past(mark, None) {
                return Some(told);
            }
            if request.age_ms > 30_000 {
                return Some(Told::Forgotten);
            }
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Some(Told::StaleFence(index));
        }
        let name = acquire.target.resource.as_str().to_owned();
        let ahead: Vec<&Waiter> = self
            .queue(namespace, &name)
            .filter(|it| !it.calls.is_empty() && it.acquire.priority >= acquire.priority)
            .collect();
        let overtakes = ahead.iter().any(|it| {
            acquire.target.mode == Mode::Exclusive || it.acquire.target.mode == Mode::Exclusive
        });
        if self.fits(namespace, acquire) && !overtakes {
            self.grant(namespace, acquire, request.mark);
            return Some(Told::Granted {
                lease_id: acquire.lease_id,
                remaining_ms: ttl_ms(acquire),
                waited_ms: 0,
                replayed: false,
            });
        }
        if acquire.wait_ms == 0 {
            let ahead = u32::try_from(ahead.len()).unwrap();
            let holders = self.holders(namespace, &name).count();
            return Some(Told::Held { holders, ahead, still: false });
        }
        self.seq += 1;
        self.waiters.push(Waiter {
            namespace: namespace.into(),
            acquire: acquire.clone(),
            mark: request.mark,
            fences: request.fences.to_vec(),
            seq: self.seq,
            calls: vec![(request.call, self.now, self.now + acquire.wait_ms)],
            keep_until: 0,
            keep_ms: acquire.keep_ms,
        });
        None
    }

    /// Another call for a waiter that is there.
    fn attach(&mut self, index: usize, call: CallId, acquire: &AcquireLease) -> Option<Told> {
        let now = self.now;
        let served = match self.held(&self.waiters[index], true) {
            Told::Held { ahead, .. } => {
                ahead == 0
                    && self.fits(&self.waiters[index].namespace, &self.waiters[index].acquire)
            }
            _ => unreachable!("held is held"),
        };
        let waiter = &mut self.waiters[index];
        waiter.keep_ms = acquire.keep_ms;
        if acquire.wait_ms == 0 && !served {
            if waiter.calls.is_empty() {
                waiter.keep_until = now + acquire.keep_ms;
            }
            return Some(self.held(&self.waiters[index], true));
        }
        if waiter.calls.len() == limits::ATTACHED_MAX {
            let (oldest, _, _) = waiter.calls.remove(0);
            let told = self.held(&self.waiters[index], true);
            self.told.push((oldest, told));
        }
        self.waiters[index].calls.push((call, now, now + acquire.wait_ms));
        None
    }

    /// What memory says of a request id; `wanted`: the effect that would be a replay.
    fn past(&self, mark: RequestMark, wanted: Option<&Effect>) -> Option<Told> {
        if self.abandoned.iter().any(|(id, _)| *id == mark.id) {
            return Some(Told::Cancelled);
        }
        if let Some((known, effect, _)) = self.effects.iter().find(|it| it.0.id == mark.id) {
            let same = known.command == mark.command && Some(effect) == wanted;
            return Some(match (same, effect) {
                (false, _) => Told::Reused,
                (true, Effect::Released) => Told::Released { replayed: true },
                (true, Effect::Forced) => Told::ForceReleased { replayed: true },
            });
        }
        let ended = self.ended.iter().find(|it| is(it.lease.mark, mark.id))?;
        let same = ended.lease.mark.unwrap().command == mark.command;
        Some(if wanted.is_none() && same { Told::Lost(ended.end) } else { Told::Reused })
    }

    fn stale(&self, namespace: &str, fences: &[Fence]) -> Option<u32> {
        let bad = fences.iter().position(|fence| {
            let FenceTarget::Resource(name) = &fence.target;
            !self.holders(namespace, name.as_str()).any(|it| it.token == fence.token)
        })?;
        Some(u32::try_from(bad).unwrap())
    }

    fn grant(&mut self, namespace: &str, acquire: &AcquireLease, mark: Option<RequestMark>) {
        let name = format!("{namespace}/{}", acquire.target.resource);
        self.granted.push((name, acquire.lease_id));
        self.leases.push(Lease {
            namespace: namespace.into(),
            acquire: acquire.clone(),
            token: Token(u64::MAX),
            mark,
            renewed: self.now,
        });
    }

    fn end(&mut self, id: LeaseId, end: LeaseEnd) {
        let index = self.leases.iter().position(|it| it.acquire.lease_id == id).unwrap();
        let lease = self.leases.remove(index);
        self.ended.push(Ended { lease, end, at: self.now });
    }

    fn known_by_id(&self, namespace: &str, lease: LeaseRef) -> Result<Token, Told> {
        let live = self
            .leases
            .iter()
            .find(|it| it.namespace == namespace && it.acquire.lease_id == lease.lease_id);
        if let Some(live) = live {
            return if live.token == lease.token { Ok(live.token) } else { Err(Told::NotHolder) };
        }
        let ended = self.ended.iter().find(|it| {
            it.lease.namespace == namespace && it.lease.acquire.lease_id == lease.lease_id
        });
        match ended {
            None => Err(Told::NotFound),
            Some(it) if it.lease.token == lease.token => Err(Told::Lost(it.end)),
            Some(_) => Err(Told::NotHolder),
        }
    }

    fn renew(&mut self, namespace: &str, lease: LeaseRef) -> Told {
        match self.known_by_id(namespace, lease) {
            Err(told) => told,
            Ok(token) => {
                let now = self.now;
                let live = self.leases.iter_mut().find(|it| it.token == token).unwrap();
                live.renewed = now;
                Told::Remaining(ttl_ms(&live.acquire))
            }
        }
    }

    /// What a release or a forced release finds under its own request id.
    fn before(&self, request: &Request, wanted: &Effect) -> Option<Told> {
        let mark = request.mark?;
        let taken = self.leases.iter().any(|it| is(it.mark, mark.id))
            || self.waiters.iter().any(|it| is(it.mark, mark.id));
        if taken {
            return Some(Told::Reused);
        }
        self.past(mark, Some(wanted))
            .or_else(|| (request.age_ms > 30_000).then_some(Told::Forgotten))
    }

    fn release(&mut self, namespace: &str, request: &Request, lease: LeaseRef) -> Told {
        if let Some(told) = self.before(request, &Effect::Released) {
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

    fn force(&mut self, namespace: &str, request: &Request, name: &str, token: Token) -> Told {
        if let Some(told) = self.before(request, &Effect::Forced) {
            return told;
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Told::StaleFence(index);
        }
        let held = self.holders(namespace, name).find(|it| it.token == token);
        let Some(id) = held.map(|it| it.acquire.lease_id) else { return Told::NotFound };
        self.end(id, LeaseEnd::Forced);
        self.remember(request, Effect::Forced);
        Told::ForceReleased { replayed: false }
    }

    fn remember(&mut self, request: &Request, effect: Effect) {
        if let Some(mark) = request.mark {
            self.effects.push((mark, effect, self.now));
        }
    }

    fn abandon(&mut self, id: RequestHash) -> Told {
        let state = if let Some(lease) = self.leases.iter().find(|it| is(it.mark, id)) {
            self.end(lease.acquire.lease_id, LeaseEnd::Released);
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

    fn detach(&mut self, call: CallId) {
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
    fn settle(&mut self) {
        'again: loop {
            for first in self.firsts() {
                if self.fits(&first.namespace, &first.acquire) {
                    self.waiters.retain(|it| it.seq != first.seq);
                    if let Some(index) = self.stale(&first.namespace, &first.fences) {
                        let calls = first.calls.iter().map(|(call, _, _)| *call);
                        self.told.extend(calls.map(|call| (call, Told::StaleFence(index))));
                        continue 'again;
                    }
                    self.grant(&first.namespace, &first.acquire, first.mark);
                    for (call, since, _) in &first.calls {
                        let told = Told::Granted {
                            lease_id: first.acquire.lease_id,
                            remaining_ms: ttl_ms(&first.acquire),
                            waited_ms: self.now - since,
                            replayed: false,
                        };
                        self.told.push((*call, told));
                    }
                    continue 'again;
                }
            }
            return;
        }
    }

    /// The first attached waiter of each resource, resources in no particular order.
    fn firsts(&self) -> Vec<Waiter> {
        let mut seen = Vec::new();
        let mut firsts = Vec::new();
        for waiter in &self.waiters {
            let key = (waiter.namespace.clone(), waiter.acquire.target.resource.clone());
            if seen.contains(&key) {
                continue;
            }
            let first = self.queue(&key.0, key.1.as_str()).find(|it| !it.calls.is_empty()).cloned();
            firsts.extend(first);
            seen.push(key);
        }
        firsts
    }

    fn held(&self, waiter: &Waiter, still: bool) -> Told {
        let name = waiter.acquire.target.resource.as_str();
        let key = |it: &Waiter| (-i32::from(it.acquire.priority.get()), it.seq);
        let ahead = self
            .queue(&waiter.namespace, name)
            .filter(|it| !it.calls.is_empty() && key(it) < key(waiter))
            .count();
        Told::Held {
            holders: self.holders(&waiter.namespace, name).count(),
            ahead: u32::try_from(ahead).unwrap(),
            still,
        }
    }
}

impl Waiter {
    fn has(&self, call: CallId) -> bool {
        self.calls.iter().any(|(known, _, _)| *known == call)
    }
}

fn ttl_ms(acquire: &AcquireLease) -> u64 {
    match acquire.lifetime {
        Lifetime::Ttl(ttl) => ttl.ms(),
        Lifetime::Session(_) => panic!("not generated"),
    }
}

fn is(mark: Option<RequestMark>, id: RequestHash) -> bool {
    mark.is_some_and(|mark| mark.id == id)
}

/// What the machine told, in the model's words.
pub(crate) fn told(result: &Result<Reply, Refusal>) -> Told {
    match result {
        Ok(Reply::Acquired(grant)) => Told::Granted {
            lease_id: grant.lease_id,
            remaining_ms: grant.remaining_ms,
            waited_ms: grant.waited_ms,
            replayed: grant.replayed,
        },
        Ok(Reply::Abandoned(state)) => Told::Abandoned(*state),
        Ok(Reply::Renewed(results)) => Told::Renewed(
            results
                .iter()
                .map(|it| match it {
                    Ok(ms) => Told::Remaining(*ms),
                    Err(refusal) => told(&Err(refusal.clone())),
                })
                .collect(),
        ),
        Ok(Reply::Released { replayed }) => Told::Released { replayed: *replayed },
        Ok(Reply::Found(found)) => Told::Found {
            tokens: found.leases.iter().map(|it| it.token).collect(),
            waiters: found.waiter_count,
        },
        Ok(Reply::Page { leases, .. }) => Told::Page(leases.iter().map(|it| it.token).collect()),
        Ok(Reply::Checked(it)) => Told::Checked { current: it.current, held: it.newest.is_some() },
        Ok(Reply::ForceReleased { replayed, .. }) => Told::ForceReleased { replayed: *replayed },
        Ok(
            it @ (Reply::Transacted(_)
            | Reply::SessionOpened { .. }
            | Reply::SessionAttached(_)
            | Reply::SessionKept(_)
            | Reply::SessionClosed { .. }
            | Reply::SessionLeases(_)
            | Reply::Notice(_)),
        ) => panic!("not generated: {it:?}"),
        Err(Refusal::RequestIdReused) => Told::Reused,
        Err(Refusal::RequestIdForgotten) => Told::Forgotten,
        Err(Refusal::CancelledWait) => Told::Cancelled,
        Err(Refusal::StaleFence(stale)) => Told::StaleFence(stale.index),
        Err(Refusal::NotFound) => Told::NotFound,
        Err(Refusal::LeaseLost { end, .. }) => Told::Lost(*end),
        Err(Refusal::NotHolder) => Told::NotHolder,
        Err(Refusal::Held(held)) => Told::Held {
            holders: held.holder_count as usize,
            ahead: held.queue_position,
            still: false,
        },
        Err(Refusal::StillWaiting(held)) => Told::Held {
            holders: held.holder_count as usize,
            ahead: held.queue_position,
            still: true,
        },
        Err(
            it @ (Refusal::Quota { .. }
            | Refusal::Operation { .. }
            | Refusal::AlreadyDone
            | Refusal::SessionLost { .. }),
        ) => {
            panic!("not generated: {it:?}")
        }
    }
}
