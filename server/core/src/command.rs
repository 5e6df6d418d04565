//! What goes into the machine.

use alloc::boxed::Box;

use crate::{
    fence::Fence,
    types::{
        CallId, Holder, LeaseId, Namespace, Priority, RequestHash, RequestMark, ResourceName,
        Target, Token, Ttl,
    },
};

/// One call, decoded and validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The call to answer.
    pub call: CallId,
    /// Where it acts.
    pub namespace: Namespace,
    /// Its identity for life; `None`: no replay protection.
    pub mark: Option<RequestMark>,
    /// Milliseconds since its oldest unanswered send.
    pub age_ms: u64,
    /// What must hold, or nothing happens. At most [`crate::limits::FENCES_MAX`].
    pub fences: Box<[Fence]>,
    /// What is asked.
    pub command: Command,
}

/// What a call may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take a lease, now or after a wait.
    AcquireLease(AcquireLease),
    /// Give up an acquire of unknown outcome.
    AbandonLease {
        /// The acquire's identity.
        abandoned: RequestHash,
    },
    /// Extend leases, at most [`crate::limits::RENEWALS_MAX`].
    RenewLeases(Box<[LeaseRef]>),
    /// Give a lease back.
    ReleaseLease(LeaseRef),
    /// Show one lease, or a resource's holders.
    GetLease(LeaseKey),
    /// List live leases by token.
    ListLeases {
        /// Only tokens above this one; 0: from the first.
        after: u64,
        /// At most so many, 1..=[`crate::limits::PAGE_MAX`].
        count: usize,
    },
    /// Is a token current?
    CheckLease {
        /// The resource it was granted for.
        resource: ResourceName,
        /// The token.
        token: Token,
    },
    /// End somebody else's lease.
    ForceReleaseLease {
        /// The resource.
        resource: ResourceName,
        /// The lease's token.
        token: Token,
    },
    /// Several mutations, all or nothing. At most [`crate::limits::OPERATIONS_MAX`].
    Transact(Box<[Command]>),
}

/// Asks for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquireLease {
    /// The id the lease will have; random, drawn at the edge.
    pub lease_id: LeaseId,
    /// Who asks.
    pub holder: Holder,
    /// For what.
    pub target: Target,
    /// How long it lasts without renewal.
    pub ttl: Ttl,
    /// How long this call may wait, 0..=[`crate::limits::WAIT_MS_MAX`].
    pub wait_ms: u64,
    /// How long the place is kept while detached, at most [`crate::limits::KEEP_MS_MAX`].
    pub keep_ms: u64,
    /// Higher goes first.
    pub priority: Priority,
}

/// A lease as its holder names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRef {
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token.
    pub token: Token,
}

/// What to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseKey {
    /// The lease with this id.
    Id(LeaseId),
    /// Whoever holds this resource.
    Resource(ResourceName),
}
