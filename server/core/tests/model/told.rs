//! What the model says that a call is told, and what the machine told, in the same words.

use singletrack_core::{
    change::RecordLife,
    command::{AnswerLeaseYield, YieldAnswer},
    refusal::{Deadlock, Held, LeaseEnd, Refusal},
    reply::{
        AbandonedState, Grant, LeaseInfo, ProtectionInfo, RecordInfo, Reply, Showing, WaiterInfo,
    },
    types::{Holder, LeaseId, Token, Value},
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
    Record(Box<Shown>),
    Records(Vec<Option<Shown>>),
    RecordPage {
        records: Vec<Shown>,
        is_last: bool,
    },
    Put {
        version: u64,
        created: u64,
        replayed: bool,
    },
    Incremented {
        value: i64,
        version: u64,
        created: u64,
        replayed: bool,
    },
    /// The version that it had; 0: there was none.
    Deleted {
        existed: bool,
        version: u64,
        replayed: bool,
    },
    Protected {
        revision: u64,
        existed: bool,
        replayed: bool,
    },
    Unprotected {
        existed: bool,
        replayed: bool,
    },
    /// Prefix, resource and revision of each.
    Protections {
        all: Vec<(String, String, u64)>,
        is_last: bool,
    },
    VersionMismatch(Box<Mismatch>),
    /// Prefix, resource, and who holds that.
    FenceRequired(OneOf<Lacking>),
    NotACounter,
    OutOfBounds {
        key: String,
        value: i64,
        min: Option<i64>,
        max: Option<i64>,
    },
    TooLarge,
    Quota,
    Transacted {
        each: Vec<Told>,
        replayed: bool,
    },
    /// Which condition didn't hold, and why.
    Condition(usize, Box<Told>),
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

/// A record, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) key: String,
    /// As the machine keeps it: a large one is only named.
    pub(crate) value: Option<Value>,
    pub(crate) is_omitted: bool,
    pub(crate) content_type: String,
    pub(crate) version: u64,
    pub(crate) created: u64,
    pub(crate) by: String,
    pub(crate) remaining_ms: Option<u64>,
    pub(crate) bound: Option<Token>,
}

/// What a record is instead of what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) key: String,
    /// 0: there is none.
    pub(crate) version: Number,
    pub(crate) value: Option<Value>,
    pub(crate) by: String,
}

/// What a write lacks: prefix, resource, and who holds that.
pub(crate) type Lacking = (String, String, Option<(Number, String)>);

/// A token or a version; [`Number::UNKNOWN`] when the model can't know it, as the transaction that
/// would have given it was refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub(crate) u64);

impl Number {
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        let either = |it: u64| self.0 == it || other.0 == it;
        self.0 == other.0 || either(Self::UNKNOWN.0)
    }
}

impl Eq for Number {}

/// The model allows any of these; the machine tells one.
#[derive(Clone, Debug)]
pub(crate) struct OneOf<T>(pub(crate) Vec<T>);

impl<T: PartialEq> PartialEq for OneOf<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().any(|it| other.0.contains(it))
    }
}

impl<T: Eq> Eq for OneOf<T> {}

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
        Err(Refusal::Condition { index, refusal }) => {
            let inner = told(&Err((**refusal).clone()), cycle);
            Told::Condition(*index as usize, Box::new(inner))
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
        Reply::Lost(refusal) => refused(refusal),
        Reply::Transacted(it) => Told::Transacted {
            each: it.replies.iter().map(replied).collect(),
            replayed: it.replayed,
        },
        Reply::Record(record) => Told::Record(Box::new(shown(record))),
        Reply::Records { results, revision: _ } => {
            Told::Records(results.iter().map(|it| it.as_ref().map(shown)).collect())
        }
        Reply::RecordPage { records, next, revision: _ } => {
            let records: Vec<Shown> = records.iter().map(shown).collect();
            if let Some(next) = next {
                // What is gone but not yet swept may lie between.
                let is_behind = records.iter().all(|it| it.key.as_str() <= next.as_str());
                assert!(is_behind, "the next page begins behind {records:?}, not at {next:?}");
            }
            Told::RecordPage { records, is_last: next.is_none() }
        }
        Reply::RecordPut { put, replayed } => {
            Told::Put { version: put.version.0, created: put.created_at.0, replayed: *replayed }
        }
        Reply::Incremented { value, put, replayed } => Told::Incremented {
            value: *value,
            version: put.version.0,
            created: put.created_at.0,
            replayed: *replayed,
        },
        Reply::RecordDeleted { version, replayed } => Told::Deleted {
            existed: version.is_some(),
            version: version.map_or(0, |it| it.0),
            replayed: *replayed,
        },
        Reply::PrefixProtected { revision, existed, replayed } => {
            Told::Protected { revision: revision.0, existed: *existed, replayed: *replayed }
        }
        Reply::PrefixUnprotected { existed, replayed } => {
            Told::Unprotected { existed: *existed, replayed: *replayed }
        }
        Reply::Protections { protections, more } => {
            Told::Protections { all: protections.iter().map(protection).collect(), is_last: !more }
        }
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
        Refusal::VersionMismatch(it) => Told::VersionMismatch(Box::new(Mismatch {
            key: it.key.as_str().into(),
            version: Number(it.current.as_ref().map_or(0, |it| it.version.0)),
            value: it.current.as_ref().map(|it| it.value.to_kept()),
            by: it.current.as_ref().map_or_else(String::new, |it| name(it.written_by.as_ref())),
        })),
        Refusal::FenceRequired(it) => {
            let current =
                it.current.as_ref().map(|(token, holder)| (Number(token.0), holder.to_string()));
            let one = (it.prefix.as_str().into(), it.resource.to_string(), current);
            Told::FenceRequired(OneOf(vec![one]))
        }
        Refusal::NotACounter { .. } => Told::NotACounter,
        Refusal::OutOfBounds(it) => Told::OutOfBounds {
            key: it.key.as_str().into(),
            value: it.value,
            min: it.min,
            max: it.max,
        },
        Refusal::TooLarge { .. } => Told::TooLarge,
        Refusal::Quota { .. } => Told::Quota,
        it @ (Refusal::Operation { .. } | Refusal::Condition { .. } | Refusal::Deadlock(_)) => {
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

/// A record as the machine shows it.
pub(crate) fn shown(info: &RecordInfo) -> Shown {
    let it = &info.written;
    assert!(info.fetched.is_none(), "the machine has no store");
    Shown {
        key: it.key.as_str().into(),
        value: (info.showing == Showing::Shown).then(|| it.value.clone()),
        is_omitted: info.showing == Showing::Omitted,
        content_type: it.content_type.as_str().into(),
        version: it.version.0,
        created: it.created_at.0,
        by: name(it.written_by.as_ref()),
        remaining_ms: info.remaining_ms,
        bound: match it.life {
            Some(RecordLife::Bound(token)) => Some(token),
            Some(RecordLife::Until { .. }) | None => None,
        },
    }
}

/// A protection as the machine lists it.
pub(crate) fn protection(it: &ProtectionInfo) -> (String, String, u64) {
    (it.prefix.as_str().into(), it.resource.to_string(), it.revision.0)
}

fn name(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |it| it.as_str().into())
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
