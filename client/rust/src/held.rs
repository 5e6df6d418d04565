//! Who stands in the way, and which circle a wait would have closed: the facts of `HELD`,
//! `STILL_WAITING`, `DEADLOCK` and `LIMIT_MISMATCH`, as plain values.

use std::time::Duration;

use singletrack_proto::v1;

use crate::facts::{duration_ms, present_text};

/// Who stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The resource asked for; of several, the first that is not to be had.
    pub resource: String,
    /// Those who hold it, or something that clashes with it, at most 8, oldest grant first.
    pub holders: Vec<HeldBy>,
    /// How many there are in all.
    pub holder_count: u32,
    /// How many wait before the caller; 1,000 means that or more.
    pub queue_position: u32,
    /// How long this call waited.
    pub waited: Duration,
    /// Those of the earlier waiters that are in the way, in their order, at most 4.
    pub waiters: Vec<HeldWaiter>,
    /// For so long it stays closed after an involuntary end; zero: it is not closed.
    pub closed: Duration,
    /// With permits: how many are in use.
    pub permits_used: u32,
    /// With permits: how many earlier waiters ask for.
    pub permits_wanted: u32,
    /// How many of the resources asked for are not to be had.
    pub blocked_targets: u32,
}

/// One holder, as told to others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBy {
    /// The holder's name.
    pub holder: String,
    /// The holder's token.
    pub token: u64,
    /// How long the lease lasts if it is not renewed.
    pub remaining: Duration,
    /// True for a shared lease.
    pub shared: bool,
    /// What it holds that is in the way, if that is not the resource itself.
    pub resource: Option<String>,
    /// True: what it holds is a subtree.
    pub subtree: bool,
    /// How many permits it has; 0: it is no lease of permits.
    pub permits: u32,
    /// Since when it holds.
    pub held: Duration,
    /// How long it lasts at most, renewed or not; `None`: no bound.
    pub hold_remaining: Option<Duration>,
    /// Its actor.
    pub actor: Option<String>,
    /// What it last answered when it was asked to yield, in words.
    pub yield_answer: Option<String>,
}

/// One earlier waiter, as told to others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldWaiter {
    /// Its name.
    pub holder: String,
    /// Its actor.
    pub actor: Option<String>,
    /// Its priority.
    pub priority: i32,
    /// How long it has been queued.
    pub waited: Duration,
    /// What it waits for that is in the way, if that is not the resource itself.
    pub resource: Option<String>,
}

/// The cycle that a wait would have closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlock {
    /// From the caller's actor back to it, at most 8: the last depends on the first.
    pub cycle: Vec<DeadlockStep>,
    /// How many steps there are in all.
    pub step_count: u32,
}

/// One actor of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlockStep {
    /// The actor.
    pub actor: String,
    /// Its holder's name.
    pub holder: String,
    /// What it waits for; `None`: for its child.
    pub resource: Option<String>,
    /// How it depends on the next.
    pub relation: DeadlockRelation,
}

/// How one actor of a cycle depends on the next; the last one on the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadlockRelation {
    /// The next holds what this one waits for.
    Holds,
    /// The next waits before this one.
    WaitsBefore,
    /// The next is a child of this one.
    Child,
    /// In a way that this version doesn't know.
    Unknown,
}

/// Another number of permits than the caller says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitMismatch {
    /// The resource.
    pub resource: String,
    /// How many permits it has.
    pub limit: u32,
    /// How many the caller said.
    pub asked: u32,
}

// === impl Held ===

impl Held {
    pub(crate) fn from_wire(held: v1::HeldDetail) -> Self {
        Self {
            resource: held.resource,
            holders: held.holders.into_iter().map(HeldBy::from_wire).collect(),
            holder_count: held.holder_count,
            queue_position: held.queue_position,
            waited: duration_ms(held.waited_ms),
            waiters: held.waiters.into_iter().map(HeldWaiter::from_wire).collect(),
            closed: duration_ms(held.closed_ms),
            permits_used: held.permits_used,
            permits_wanted: held.permits_wanted,
            blocked_targets: held.blocked_targets,
        }
    }
}

// === impl HeldBy ===

impl HeldBy {
    fn from_wire(held: v1::HeldBy) -> Self {
        Self {
            holder: held.holder,
            token: held.token,
            remaining: duration_ms(held.remaining_ms),
            shared: held.shared,
            resource: present_text(held.resource),
            subtree: held.subtree,
            permits: held.permits,
            held: duration_ms(held.held_ms),
            hold_remaining: held.hold_remaining_ms.map(duration_ms),
            actor: present_text(held.actor),
            yield_answer: present_text(held.yield_answer),
        }
    }
}

// === impl HeldWaiter ===

impl HeldWaiter {
    fn from_wire(waiter: v1::HeldWaiter) -> Self {
        Self {
            holder: waiter.holder,
            actor: present_text(waiter.actor),
            priority: waiter.priority,
            waited: duration_ms(waiter.waited_ms),
            resource: present_text(waiter.resource),
        }
    }
}

// === impl Deadlock ===

impl Deadlock {
    pub(crate) fn from_wire(deadlock: v1::DeadlockDetail) -> Self {
        Self {
            cycle: deadlock.cycle.into_iter().map(DeadlockStep::from_wire).collect(),
            step_count: deadlock.step_count,
        }
    }
}

// === impl DeadlockStep ===

impl DeadlockStep {
    fn from_wire(step: v1::DeadlockStep) -> Self {
        let relation = DeadlockRelation::from_wire(step.relation());
        Self {
            actor: step.actor,
            holder: step.holder,
            resource: present_text(step.resource),
            relation,
        }
    }
}

// === impl DeadlockRelation ===

impl DeadlockRelation {
    /// The name on the wire, without its prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holds => "HOLDS",
            Self::WaitsBefore => "WAITS_BEFORE",
            Self::Child => "CHILD",
            Self::Unknown => "UNKNOWN",
        }
    }

    const fn from_wire(relation: v1::DeadlockRelation) -> Self {
        match relation {
            v1::DeadlockRelation::Holds => Self::Holds,
            v1::DeadlockRelation::WaitsBefore => Self::WaitsBefore,
            v1::DeadlockRelation::Child => Self::Child,
            v1::DeadlockRelation::Unspecified => Self::Unknown,
        }
    }
}

// === impl LimitMismatch ===

impl LimitMismatch {
    pub(crate) fn from_wire(mismatch: v1::LimitMismatchDetail) -> Self {
        Self { resource: mismatch.resource, limit: mismatch.limit, asked: mismatch.asked }
    }
}
