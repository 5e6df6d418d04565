//! An independent, naive model of the machine: linear scans over plain lists, no index, no
//! slab, no overlay, written from `docs/decisions/0007-the-whole-menu.md` and, for records,
//! `docs/decisions/0008-records-and-transactions.md`. It says for each step which calls are answered
//! how; the property test compares. Later nouns add their own part here.
//!
//! What it leaves open: which revision a change takes. The test only demands that tokens and
//! versions rise and never repeat. And the order of tokens among those granted in one step who
//! don't clash.

mod acquire;
mod ask;
pub(crate) mod claims;
pub(crate) mod deadlock;
mod lease;
mod met;
mod past;
mod protect;
mod record;
mod session;
mod show;
mod time;
pub(crate) mod told;
mod transact;

use singletrack_core::{
    command::{AcquireLease, Command, LeaseKey, Lifetime, Request, Terms, YieldAnswer},
    fence::{Fence, FenceTarget},
    refusal::{LeaseEnd, SessionEnd},
    types::{
        CallId, LeaseId, Priority, RecordKey, RequestHash, RequestMark, SessionId, Target, Token,
    },
};

pub(crate) use met::Met;
pub(crate) use told::{Told, told};

use deadlock::Scene;
use past::{Effect, Kind};
use protect::Protection;
use record::{Record, Versions};

const MEMORY: u64 = 60_000;

#[derive(Clone, Debug)]
struct Lease {
    namespace: String,
    id: LeaseId,
    holder: String,
    targets: Vec<Target>,
    terms: Terms,
    life: Life,
    token: Token,
    mark: Option<RequestMark>,
    renewed: u64,
    /// On durable time.
    granted_at: u64,
    /// Who asks, and what was answered.
    yields: Vec<(String, Option<YieldAnswer>)>,
}

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Ttl(u64),
    Session(SessionId),
}

#[derive(Clone, Debug)]
struct Waiter {
    namespace: String,
    acquire: AcquireLease,
    mark: Option<RequestMark>,
    fences: Vec<Fence>,
    seq: u64,
    queued: u64,
    /// Call, since, until.
    calls: Vec<(CallId, u64, u64)>,
    keep_until: u64,
    keep_ms: u64,
}

#[derive(Clone, Debug)]
struct Session {
    namespace: String,
    id: SessionId,
    ttl: u64,
    renewed: u64,
    end: Option<(SessionEnd, u64)>,
}

#[derive(Clone, Debug)]
struct Ended {
    lease: Lease,
    end: LeaseEnd,
    at: u64,
}

/// A lease that keeps its resources closed.
#[derive(Clone, Debug)]
struct Closed {
    namespace: String,
    targets: Vec<Target>,
    /// On durable time.
    until: u64,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    now: u64,
    /// Durable time at `now` 0.
    durable_base: u64,
    seq: u64,
    leases: Vec<Lease>,
    closed: Vec<Closed>,
    waiters: Vec<Waiter>,
    sessions: Vec<Session>,
    records: Vec<Record>,
    protections: Vec<Protection>,
    /// Records that were, by namespace and key.
    gone: Vec<(String, String)>,
    ended: Vec<Ended>,
    effects: Vec<(RequestMark, Effect, u64)>,
    abandoned: Vec<(RequestHash, u64)>,
    floors: Vec<u64>,
    /// What calls are told in this step.
    told: Vec<(CallId, Told)>,
    /// Grants of this step, whose tokens the machine will tell.
    granted: Vec<(String, LeaseId)>,
    /// The versions that the machine gave in this step.
    pub(crate) versions: Versions,
    /// What the last refusal because of a deadlock saw.
    pub(crate) refused: Option<Scene>,
    /// Calls that may be told of a lost fence instead of their lost session.
    pub(crate) or_stale: Vec<CallId>,
    /// What was met, for the test to count.
    pub(crate) met: Vec<Met>,
}

impl Model {
    /// Performs a request; returns what calls are told.
    pub(crate) fn request(&mut self, request: &Request) -> Vec<(CallId, Told)> {
        let namespace = request.namespace.as_str().to_owned();
        let told = match &request.command {
            Command::AcquireLease(acquire) => self.acquire(&namespace, request, acquire),
            Command::AbandonLease { abandoned, of: _ } => Some(self.abandon(*abandoned)),
            Command::RenewLeases(renewals) => {
                Some(Told::Renewed(renewals.iter().map(|it| self.renew(&namespace, *it)).collect()))
            }
            Command::ReleaseLease(lease) => Some(self.release(&namespace, request, *lease)),
            Command::ForceReleaseLease { resource, token } => {
                Some(self.force(&namespace, request, resource.as_str(), *token))
            }
            Command::TransferLease(transfer) => Some(self.transfer(&namespace, request, transfer)),
            Command::RequestLeaseYield(ask) => Some(self.ask_to_yield(&namespace, ask)),
            Command::AnswerLeaseYield(answer) => Some(self.answer_yield(&namespace, answer)),
            Command::GetLease(LeaseKey::Resource(name)) => {
                Some(self.get(&namespace, name.as_str()))
            }
            Command::ListLeases { after, count, filter } => {
                Some(self.list(&namespace, *after, *count, filter))
            }
            Command::CheckLease { resource, token } => {
                Some(self.check(&namespace, resource.as_str(), *token))
            }
            Command::ListLeaseWaiters { after: _, count: _ } => Some(self.list_waiters(&namespace)),
            Command::GetLeaseStats => Some(self.stats(&namespace)),
            Command::OpenSession(open) => Some(self.open(&namespace, open)),
            Command::KeepSessionAlive(id) => Some(self.keep_alive(&namespace, *id)),
            Command::CloseSession(id) => Some(self.close(&namespace, *id)),
            Command::GetRecord(key) => Some(self.get_record(&namespace, key.as_str())),
            Command::BatchGetRecords { keys, max_bytes } => {
                Some(self.get_records(&namespace, keys, *max_bytes))
            }
            Command::ListRecords(list) => Some(self.list_records(&namespace, list)),
            Command::ListProtections { key, after, count } => {
                let key = key.as_ref().map(RecordKey::as_str);
                Some(self.page_of_protections(&namespace, key, after.as_deref(), *count))
            }
            Command::PutRecord(_)
            | Command::IncrementRecord(_)
            | Command::DeleteRecord { .. }
            | Command::ProtectPrefix(_)
            | Command::UnprotectPrefix(_) => Some(self.mutate(&namespace, request)),
            Command::Transact(transact) => Some(self.transact(&namespace, request, transact)),
            Command::GetLease(LeaseKey::Id(_))
            | Command::AttachSession(_)
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

    /// Tells the model the tokens of the grants it expected: the same leases.
    pub(crate) fn learn_tokens(&mut self, got: &[(String, LeaseId, Token)]) {
        let mut expected = std::mem::take(&mut self.granted);
        let mut same: Vec<_> = got.iter().map(|(name, id, _)| (name.clone(), *id)).collect();
        expected.sort();
        same.sort();
        assert_eq!(same, expected, "the same leases are granted (left: the machine)");
        for (_, id, token) in got {
            for lease in self.leases.iter_mut().chain(self.ended.iter_mut().map(|it| &mut it.lease))
            {
                if lease.id == *id {
                    lease.token = *token;
                }
            }
        }
    }

    fn durable(&self) -> u64 {
        self.durable_base + self.now
    }

    fn leases_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Lease> {
        self.leases.iter().filter(move |it| it.namespace == namespace)
    }

    /// Those that cover a resource, oldest first.
    fn holders<'a>(&'a self, namespace: &'a str, name: &str) -> Vec<&'a Lease> {
        let covers = |it: &&Lease| it.targets.iter().any(|it| claims::covers(it, name));
        let mut all: Vec<&Lease> = self.leases_in(namespace).filter(covers).collect();
        all.sort_by_key(|it| it.token);
        all
    }

    /// All waiters of a namespace, in the order in which they are served.
    fn queue(&self, namespace: &str) -> Vec<&Waiter> {
        let mut all: Vec<&Waiter> =
            self.waiters.iter().filter(|it| it.namespace == namespace).collect();
        all.sort_by_key(|it| it.key());
        all
    }

    fn stale(&mut self, namespace: &str, fences: &[Fence]) -> Option<u32> {
        for (index, fence) in fences.iter().enumerate() {
            let FenceTarget::Resource(name) = &fence.target;
            let holders = self.holders(namespace, name.as_str());
            let Some(holder) = holders.iter().find(|it| it.token == fence.token) else {
                return Some(u32::try_from(index).unwrap());
            };
            if holder.targets.iter().all(|it| it.resource != *name) {
                self.met.push(Met::FencedBySubtree);
            }
        }
        None
    }
}

impl Waiter {
    /// One who comes now.
    fn new(namespace: &str, request: &Request, acquire: &AcquireLease, seq: u64, now: u64) -> Self {
        Self {
            namespace: namespace.into(),
            acquire: acquire.clone(),
            mark: request.mark,
            fences: request.fences.to_vec(),
            seq,
            queued: now,
            calls: vec![(request.call, now, now + acquire.wait_ms)],
            keep_until: 0,
            keep_ms: acquire.keep_ms,
        }
    }

    fn has(&self, call: CallId) -> bool {
        self.calls.iter().any(|(known, _, _)| *known == call)
    }

    fn is_attached(&self) -> bool {
        !self.calls.is_empty()
    }

    fn targets(&self) -> &[Target] {
        self.acquire.targets.as_slice()
    }

    fn key(&self) -> (i32, u64) {
        (descending(self.acquire.priority), self.seq)
    }

    fn actor(&self) -> Option<String> {
        actor_of(&self.acquire)
    }
}

fn descending(priority: Priority) -> i32 {
    -i32::from(priority.get())
}

fn actor_of(acquire: &AcquireLease) -> Option<String> {
    Some(acquire.terms.as_ref()?.actor.as_ref()?.as_str().to_owned())
}

fn life_of(acquire: &AcquireLease) -> Life {
    match acquire.lifetime {
        Lifetime::Ttl(ttl) => Life::Ttl(ttl.ms()),
        Lifetime::Session(id) => Life::Session(id),
    }
}

fn is(mark: Option<RequestMark>, id: RequestHash) -> bool {
    mark.is_some_and(|mark| mark.id == id)
}
