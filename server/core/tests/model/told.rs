//! What the model says that a call is told, and what the machine told, in the same words.

use singletrack_core::{
    command::{AnswerLeaseYield, YieldAnswer},
    refusal::{Deadlock, Held, LeaseEnd, Refusal},
    reply::{AbandonedState, Grant, LeaseInfo, Reply, WaiterInfo},
    types::{LeaseId, Token},
};

/// What a call is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A grant: of which lease, with what left, replayed or not.
    Granted {
        lease_id: LeaseId,
        remaining_ms: u64,
        waited_ms: u64,
        replayed: bool,
    },
    Transferred {
        lease_id: LeaseId,
        remaining_ms: u64,
        replayed: bool,
    },
    Released {
        replayed: bool,
    },
    ForceReleased {
        from: String,
        replayed: bool,
    },
    Abandoned(AbandonedState),
    Renewed(Vec<Told>),
    /// What is left, and how many ask to yield.
    Remaining(u64, u32),
    Checked {
        current: bool,
        newest: Option<Token>,
    },
    Found {
        leases: Vec<Info>,
        holders: u32,
        waiters: u32,
        /// Names of attached ones.
        shown: Vec<String>,
        closed_ms: u64,
    },
    Page(Vec<Info>),
    Yields(Vec<(String, Option<YieldAnswer>)>),
    YieldAnswered(u32),
    /// Names of those who wait, attached or not, for how long, and whether anything stands in
    /// the way.
    Waiters(Vec<(String, bool, u64, bool)>),
    Stats {
        leases: u64,
        waiters: u64,
        closed: u64,
        sessions: u64,
    },
    Transacted(Vec<Told>),
    /// Which operation was refused, and why.
    Operation(usize, Box<Told>),
    AlreadyDone,
    /// HELD, within a transaction: what is told of it is not compared.
    HeldWithin,
    SessionOpened,
    SessionKept(u64),
    SessionClosed {
        replayed: bool,
    },
    SessionLost,
    /// HELD, or STILL_WAITING.
    Held(Box<Blocked>),
    Lost(LeaseEnd),
    StaleFence(u32),
    Deadlock,
    LimitMismatch {
        resource: String,
        limit: u32,
        asked: u32,
    },
    NotFound,
    NotHolder,
    Reused,
    Forgotten,
    Cancelled,
}

/// A live lease, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) holder: String,
    pub(crate) token: Token,
    pub(crate) remaining_ms: u64,
    pub(crate) held_ms: u64,
    pub(crate) hold_remaining_ms: Option<u64>,
    pub(crate) yields: Vec<(String, Option<YieldAnswer>)>,
}

/// How many there are: at least, at most. What is below a subtree is counted by its claims.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) usize, pub(crate) usize);

impl PartialEq for Count {
    fn eq(&self, other: &Self) -> bool {
        self.0 <= other.1 && other.0 <= self.1
    }
}

impl Eq for Count {}

/// Who stands in the way, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) still: bool,
    pub(crate) resource: String,
    /// Names, sorted.
    pub(crate) holders: Vec<String>,
    pub(crate) holder_count: Count,
    pub(crate) waiters: Vec<String>,
    pub(crate) ahead: usize,
    pub(crate) closed_ms: u64,
    pub(crate) permits_used: u32,
    /// Counted until there are too many.
    pub(crate) permits_wanted: Count,
    pub(crate) targets: u32,
    pub(crate) waited_ms: u64,
}

/// What the machine told; a cycle goes to `cycle`, as it is for the test to judge.
pub(crate) fn told(result: &Result<Reply, Refusal>, cycle: &mut Option<Deadlock>) -> Told {
    match result {
        Ok(reply) => replied(reply),
        Err(Refusal::Deadlock(deadlock)) => {
            *cycle = Some((**deadlock).clone());
            Told::Deadlock
        }
        Err(Refusal::Operation { index, refusal }) => {
            let inner = match &**refusal {
                Refusal::Held(_) => Told::HeldWithin,
                other => told(&Err(other.clone()), cycle),
            };
            Told::Operation(*index as usize, Box::new(inner))
        }
        Err(refusal) => refused(refusal),
    }
}

fn replied(reply: &Reply) -> Told {
    match reply {
        Reply::Acquired(Grant { lease_id, remaining_ms, waited_ms, replayed, .. }) => {
            Told::Granted {
                lease_id: *lease_id,
                remaining_ms: *remaining_ms,
                waited_ms: *waited_ms,
                replayed: *replayed,
            }
        }
        Reply::Transferred(Grant { lease_id, remaining_ms, waited_ms, replayed, .. }) => {
            assert_eq!(*waited_ms, 0, "a transfer waits for nothing");
            Told::Transferred {
                lease_id: *lease_id,
                remaining_ms: *remaining_ms,
                replayed: *replayed,
            }
        }
        Reply::Abandoned(state) => Told::Abandoned(*state),
        Reply::Renewed(results) => Told::Renewed(
            results
                .iter()
                .map(|it| match it {
                    Ok(it) => Told::Remaining(it.remaining_ms, it.yield_requests),
                    Err(refusal) => refused(refusal),
                })
                .collect(),
        ),
        Reply::Released { replayed } => Told::Released { replayed: *replayed },
        Reply::Found(found) => Told::Found {
            leases: found.leases.iter().map(info).collect(),
            holders: found.holder_count,
            waiters: found.waiter_count,
            shown: found.waiters.iter().map(|it| it.holder.to_string()).collect(),
            closed_ms: found.closed_ms,
        },
        Reply::Page { leases, .. } => Told::Page(leases.iter().map(info).collect()),
        Reply::Checked(it) => Told::Checked {
            current: it.current,
            newest: it.newest.as_ref().map(|newest| newest.token),
        },
        Reply::ForceReleased { holder, replayed } => {
            Told::ForceReleased { from: holder.to_string(), replayed: *replayed }
        }
        Reply::YieldRequested(statuses) => Told::Yields(
            statuses.iter().map(|it| (it.holder.to_string(), it.answer.clone())).collect(),
        ),
        Reply::YieldAnswered(count) => Told::YieldAnswered(*count),
        Reply::Waiters { waiters, .. } => Told::Waiters(waiters.iter().map(waiter).collect()),
        Reply::Stats(stats) => Told::Stats {
            leases: stats.leases,
            waiters: stats.waiters,
            closed: stats.closed,
            sessions: stats.sessions,
        },
        Reply::SessionOpened { .. } => Told::SessionOpened,
        Reply::SessionKept(remaining_ms) => Told::SessionKept(*remaining_ms),
        Reply::SessionClosed { replayed } => Told::SessionClosed { replayed: *replayed },
        Reply::Transacted(replies) => Told::Transacted(replies.iter().map(replied).collect()),
        it @ (Reply::SessionAttached(_) | Reply::SessionLeases(_) | Reply::Notice(_)) => {
            panic!("not generated: {it:?}")
        }
    }
}

fn refused(refusal: &Refusal) -> Told {
    match refusal {
        Refusal::RequestIdReused => Told::Reused,
        Refusal::RequestIdForgotten => Told::Forgotten,
        Refusal::CancelledWait => Told::Cancelled,
        Refusal::StaleFence(stale) => Told::StaleFence(stale.index),
        Refusal::NotFound => Told::NotFound,
        Refusal::LeaseLost { end, .. } => Told::Lost(*end),
        Refusal::NotHolder => Told::NotHolder,
        Refusal::SessionLost { .. } => Told::SessionLost,
        Refusal::Held(held) => Told::Held(Box::new(blocked(held, false))),
        Refusal::StillWaiting(held) => Told::Held(Box::new(blocked(held, true))),
        Refusal::LimitMismatch { resource, limit, asked } => {
            Told::LimitMismatch { resource: resource.to_string(), limit: *limit, asked: *asked }
        }
        Refusal::AlreadyDone => Told::AlreadyDone,
        it @ (Refusal::Quota { .. } | Refusal::Operation { .. } | Refusal::Deadlock(_)) => {
            panic!("not generated: {it:?}")
        }
    }
}

fn blocked(held: &Held, still: bool) -> Blocked {
    let mut holders: Vec<String> = held.holders.iter().map(|it| it.holder.to_string()).collect();
    holders.sort();
    Blocked {
        still,
        resource: held.resource.to_string(),
        holders,
        holder_count: Count(held.holder_count as usize, held.holder_count as usize),
        waiters: held.waiters.iter().map(|it| it.holder.to_string()).collect(),
        ahead: held.queue_position as usize,
        closed_ms: held.closed_ms,
        permits_used: held.permits_used,
        permits_wanted: Count(held.permits_wanted as usize, held.permits_wanted as usize),
        targets: held.blocked_targets,
        waited_ms: held.waited_ms,
    }
}

fn info(lease: &LeaseInfo) -> Info {
    let yields = &lease.yield_requests;
    Info {
        holder: lease.holder.to_string(),
        token: lease.token,
        remaining_ms: lease.remaining_ms,
        held_ms: lease.held_ms,
        hold_remaining_ms: lease.hold_remaining_ms,
        yields: yields.iter().map(|it| (it.from.to_string(), it.answer.clone())).collect(),
    }
}

fn waiter(info: &WaiterInfo) -> (String, bool, u64, bool) {
    (
        info.holder.to_string(),
        info.is_attached,
        info.waited_ms,
        info.blocked_by.as_ref().is_some_and(|it| it.blocked_targets > 0),
    )
}

/// The answer, as it is kept.
pub(crate) fn kept(answer: &AnswerLeaseYield) -> YieldAnswer {
    answer.answer.clone()
}
