//! What comes out of the machine when the answer is no: the closed list of states of the
//! world that keep a command from taking effect, each with its facts.
//!
//! Order of checks, part of the contract: replay, fence, existence, version, state, size, quota.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use crate::{
    change::RecordWritten,
    reply::HolderInfo,
    types::{Actor, Holder, RecordKey, ResourceName, Token},
};

/// Why a command had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request id was used before for a different request.
    RequestIdReused,
    /// The request id is unknown and too old to be executed.
    RequestIdForgotten,
    /// The call with this request id was abandoned.
    CancelledWait,
    /// A fence's token is not current.
    StaleFence(Box<StaleFence>),
    /// The thing named doesn't exist.
    NotFound,
    /// The lease has ended.
    LeaseLost {
        /// How.
        end: LeaseEnd,
        /// The token it had.
        token: Token,
    },
    /// The token is not that of this lease.
    NotHolder,
    /// The session has ended, or is not known.
    SessionLost {
        /// How; `None`: not known, or not any more.
        end: Option<SessionEnd>,
    },
    /// The resource is held, or earlier waiters are first.
    Held(Box<Held>),
    /// The wait ended, the place is kept.
    StillWaiting(Box<Held>),
    /// To wait would close a cycle.
    Deadlock(Box<Deadlock>),
    /// The resource has another number of permits.
    LimitMismatch {
        /// Which.
        resource: ResourceName,
        /// How many it has.
        limit: u32,
        /// How many were said.
        asked: u32,
    },
    /// A cap is reached.
    Quota {
        /// Which.
        cap: Cap,
        /// Its value.
        maximum: u64,
    },
    /// The record is not as expected.
    VersionMismatch(Box<VersionMismatch>),
    /// The record is protected.
    FenceRequired(Box<FenceRequired>),
    /// The record is no counter.
    NotACounter {
        /// Which.
        key: RecordKey,
    },
    /// The counter would cross a bound.
    OutOfBounds(Box<OutOfBounds>),
    /// The changes of a transaction are too large.
    TooLarge {
        /// What they weigh.
        bytes: u64,
        /// What they may.
        maximum: u64,
    },
    /// A condition of a transaction doesn't hold.
    Condition {
        /// Which, from 0.
        index: u32,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// An operation of a transaction was refused, and with it the whole.
    Operation {
        /// Which, from 0.
        index: u32,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// An operation of a transaction had already been done, so it has no effect of its own.
    AlreadyDone,
}

/// How a lease came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// Its holder released it.
    Released,
    /// It was not renewed in time.
    Expired,
    /// An administrator took it away.
    Forced,
    /// Its holder gave it to another.
    Transferred,
    /// It was held for as long as it might be.
    MaxHold,
}

/// How a session came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its owner closed it.
    Closed,
    /// It was not kept alive in time.
    Expired,
}

/// Which fence failed, and what is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFence {
    /// Index of the fence.
    pub index: u32,
    /// The resource it names.
    pub resource: ResourceName,
    /// The token presented.
    pub presented: Token,
    /// The newest current token and its holder; `None`: nobody holds it.
    pub current: Option<(Token, Holder)>,
}

/// What a record is instead of what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionMismatch {
    /// Which.
    pub key: RecordKey,
    /// What is kept of it; `None`: there is none.
    pub current: Option<Arc<RecordWritten>>,
}

/// What protects a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceRequired {
    /// From which key on.
    pub prefix: RecordKey,
    /// What must be held.
    pub resource: ResourceName,
    /// The newest current token and its holder; `None`: nobody holds it.
    pub current: Option<(Token, Holder)>,
}

/// The bound that a counter would cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfBounds {
    /// Which.
    pub key: RecordKey,
    /// What it is.
    pub value: i64,
    /// The least that it may become.
    pub min: Option<i64>,
    /// The most that it may become.
    pub max: Option<i64>,
}

/// Who stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The resource.
    pub resource: ResourceName,
    /// Those who hold it, or something above or below it that clashes, oldest first, at most
    /// [`crate::limits::HOLDERS_TOLD_MAX`].
    pub holders: Vec<HolderInfo>,
    /// How many there are in all.
    pub holder_count: u32,
    /// How many wait before the caller, at most [`crate::limits::POSITION_MAX`].
    pub queue_position: u32,
    /// How long this call waited.
    pub waited_ms: u64,
    /// Those of the earlier waiters that are in the way, in their order, at most
    /// [`crate::limits::WAITERS_TOLD_MAX`].
    pub waiters: Vec<HeldWaiter>,
    /// The resource is closed for so many milliseconds; 0: it is not.
    pub closed_ms: u64,
    /// Permits in use.
    pub permits_used: u32,
    /// Permits that earlier waiters ask for.
    pub permits_wanted: u32,
    /// How many of the resources asked for are not to be had.
    pub blocked_targets: u32,
}

/// One earlier waiter, as told to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldWaiter {
    /// Who.
    pub holder: Holder,
    /// Its actor.
    pub actor: Option<Actor>,
    /// Its priority.
    pub priority: i8,
    /// How long it has been queued, milliseconds.
    pub waited_ms: u64,
    /// What it waits for, when that is not the resource asked about.
    pub resource: Option<ResourceName>,
}

/// A cycle that a wait, or a transfer, would close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// From the caller's actor back to it, at most [`crate::limits::CYCLE_TOLD_MAX`].
    pub cycle: Vec<DeadlockStep>,
    /// How many steps there are in all.
    pub step_count: u32,
}

/// One actor of a cycle, and how it depends on the next; the last one on the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlockStep {
    /// Which.
    pub actor: Actor,
    /// Its holder, as far as known.
    pub holder: Option<Holder>,
    /// How it depends on the next.
    pub relation: DeadlockRelation,
}

/// How one actor depends on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadlockRelation {
    /// The other holds what clashes with what this one waits for.
    Holds(ResourceName),
    /// The other waits before this one.
    WaitsBefore(ResourceName),
    /// The other is a descendant of this one.
    Child,
}

impl LeaseEnd {
    /// Its holder had no say in it, and may not know.
    #[must_use]
    pub const fn is_involuntary(self) -> bool {
        match self {
            Self::Expired | Self::Forced | Self::MaxHold => true,
            Self::Released | Self::Transferred => false,
        }
    }
}

impl SessionEnd {
    /// How the leases of the session ended by that.
    #[must_use]
    pub const fn of_leases(self) -> LeaseEnd {
        match self {
            Self::Closed => LeaseEnd::Released,
            Self::Expired => LeaseEnd::Expired,
        }
    }
}

/// A cap of a namespace or of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Namespaces with anything in them.
    Namespaces,
    /// Leases of the namespace.
    Leases,
    /// Waiters of the namespace.
    Waiters,
    /// Sessions of the namespace.
    Sessions,
    /// Records of the namespace.
    Records,
    /// Protections of the namespace.
    Protections,
    /// Protections of one prefix.
    PrefixProtections,
    /// Bytes of the namespace.
    Bytes,
    /// Bytes of replay memory.
    Memory,
    /// Requests to yield that one lease keeps.
    Yields,
    /// Steps of the search for a deadlock.
    DeadlockSearch,
}
