//! What goes into the machine.

use alloc::boxed::Box;

use crate::{
    fence::Fence,
    types::{
        Actor, CallId, Holder, Labels, LeaseId, LockDelay, MaxHold, Namespace, Priority,
        RequestHash, RequestMark, ResourceName, SessionId, Targets, Token, Ttl, Words,
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
    /// The session it is an operation of; `None`: of none.
    pub origin: Option<Origin>,
    /// Milliseconds since its oldest unanswered send.
    pub age_ms: u64,
    /// What must hold, or nothing happens. At most [`crate::limits::FENCES_MAX`].
    pub fences: Box<[Fence]>,
    /// What is asked.
    pub command: Command,
}

/// How a call belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Which.
    pub session: SessionId,
    /// The stream it came on; from any but the session's present one it is dropped. `None`: it
    /// came by itself, and only its identity is the session's.
    pub stream: Option<CallId>,
    /// Its number, 1..=[`crate::limits::SEQ_MAX`], if that is its identity; `None`: it has
    /// another, or none.
    pub seq: Option<u64>,
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
        /// The session and the operation of it that this was.
        of: Option<(SessionId, u64)>,
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
        /// Which of them.
        filter: Box<LeaseFilter>,
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
    /// Give a lease to another holder.
    TransferLease(Box<TransferLease>),
    /// Ask those who hold a resource to give it up.
    RequestLeaseYield(Box<RequestLeaseYield>),
    /// Answer requests to yield.
    AnswerLeaseYield(Box<AnswerLeaseYield>),
    /// List waiters in the order in which they were queued.
    ListLeaseWaiters {
        /// Only those queued under this number or later; 0: from the first.
        after: u64,
        /// At most so many, 1..=[`crate::limits::WAITERS_PAGE_MAX`].
        count: usize,
    },
    /// Count what is in the namespace.
    GetLeaseStats,
    /// Open a session.
    OpenSession(OpenSession),
    /// Make the call's stream the session's: an older one is superseded. The call is the
    /// stream's own, and what the session has to be told is answered to it from now on.
    AttachSession(SessionId),
    /// Extend a session to a full ttl.
    KeepSessionAlive(SessionId),
    /// End a session.
    CloseSession(SessionId),
    /// List a session's leases by token.
    ListSessionLeases {
        /// Which.
        session: SessionId,
        /// Only tokens above this one; 0: from the first.
        after: u64,
        /// At most so many, 1..=[`crate::limits::PAGE_MAX`].
        count: usize,
    },
    /// The replies to these operations of the session have arrived. Has no answer.
    AcknowledgeReplies {
        /// Whose.
        session: SessionId,
        /// All below this one.
        below: u64,
        /// And these, at most [`crate::limits::SEEN_MAX`].
        seen: Box<[u64]>,
    },
    /// End the waits of these calls, which are answered CANCELLED_WAIT; at most
    /// [`crate::limits::SEEN_MAX`]. Has no answer itself.
    CancelWaits(Box<[CallId]>),
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
    pub targets: Targets,
    /// How long it lasts.
    pub lifetime: Lifetime,
    /// How long this call may wait, 0..=[`crate::limits::WAIT_MS_MAX`].
    pub wait_ms: u64,
    /// How long the place is kept while detached, at most [`crate::limits::KEEP_MS_MAX`].
    pub keep_ms: u64,
    /// Higher goes first.
    pub priority: Priority,
    /// What few ask for; `None`: nothing of it.
    pub terms: Option<Box<Terms>>,
}

/// What few leases are asked for with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The thread of control that asks.
    pub actor: Option<Actor>,
    /// For people and lists.
    pub labels: Labels,
    /// How long it may be held at most.
    pub max_hold: Option<MaxHold>,
    /// How long its resources stay closed after an involuntary end.
    pub lock_delay: Option<LockDelay>,
}

/// Which leases to list: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Of this holder.
    pub holder: Option<Holder>,
    /// With a target of this name or below it.
    pub within: Option<ResourceName>,
    /// With all of these labels.
    pub labels: Labels,
}

/// Gives a lease to another holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferLease {
    /// Which.
    pub lease: LeaseRef,
    /// The id the new lease will have; random, drawn at the edge.
    pub new_id: LeaseId,
    /// Who gets it.
    pub to: Holder,
    /// The actor who gets it.
    pub to_actor: Option<Actor>,
    /// How long the new lease lasts; `None`: as long as the old one did.
    pub ttl: Option<Ttl>,
}

/// Asks holders to yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLeaseYield {
    /// What is wanted.
    pub resource: ResourceName,
    /// Only from the holder with this token; `None`: from all in the way.
    pub token: Option<Token>,
    /// Who asks.
    pub from: Holder,
    /// Why.
    pub reason: Words,
}

/// Answers requests to yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerLeaseYield {
    /// Whose.
    pub lease: LeaseRef,
    /// Which; `None`: all.
    pub number: Option<u64>,
    /// What.
    pub answer: YieldAnswer,
}

/// What a holder says to a request to yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YieldAnswer {
    /// In how many milliseconds it will give the lease up, at most
    /// [`crate::limits::YIELD_WITHIN_MS_MAX`]; `None`: it won't.
    pub within_ms: Option<u64>,
    /// In words.
    pub message: Words,
}

/// How long a lease lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So long without renewal.
    Ttl(Ttl),
    /// As long as this session.
    Session(SessionId),
}

/// Asks for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// The id it will have; random, drawn at the edge.
    pub session_id: SessionId,
    /// Who asks.
    pub holder: Holder,
    /// How long it lasts without being kept alive.
    pub ttl: Ttl,
    /// Where the identities of its operations begin.
    pub requests: RequestHash,
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
