//! What goes into the machine.

use alloc::boxed::Box;

use crate::{
    fence::Fence,
    types::{
        Actor, CallId, ContentType, Holder, Labels, LeaseId, LockDelay, MaxHold, Namespace,
        Priority, RecordKey, RecordTtl, RequestHash, RequestMark, ResourceName, Revision,
        SessionId, Targets, Token, Ttl, Value, Words,
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
    /// Read a record.
    GetRecord(RecordKey),
    /// Read several records at one moment.
    BatchGetRecords {
        /// Which, 1..=[`crate::limits::BATCH_GET_MAX`].
        keys: Box<[RecordKey]>,
        /// Bytes of values, 1..=[`crate::limits::VALUES_BYTES_MAX`]; what is more is left out.
        max_bytes: usize,
    },
    /// List records by key.
    ListRecords(Box<ListRecords>),
    /// Write a record.
    PutRecord(Box<PutRecord>),
    /// Add to a counter.
    IncrementRecord(Box<IncrementRecord>),
    /// Delete a record.
    DeleteRecord {
        /// Which.
        key: RecordKey,
        /// What it has to be; never [`Expectation::Absent`].
        expect: Option<Expectation>,
    },
    /// Demand a lease of whoever writes below a prefix.
    ProtectPrefix(Box<Protect>),
    /// Demand it no longer.
    UnprotectPrefix(Box<Protect>),
    /// List protections by prefix and resource.
    ListProtections {
        /// Only those that cover this key.
        key: Option<RecordKey>,
        /// Only those behind this one.
        after: Option<Box<(RecordKey, ResourceName)>>,
        /// At most so many, 1..=[`crate::limits::PAGE_MAX`].
        count: usize,
    },
    /// Several mutations, all or nothing.
    Transact(Box<Transact>),
}

/// Several mutations, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transact {
    /// Judged on the state before, at most [`crate::limits::CONDITIONS_MAX`].
    pub conditions: Box<[Condition]>,
    /// Carried out in their order, 1..=[`crate::limits::OPERATIONS_MAX`].
    pub operations: Box<[Operation]>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A token is current.
    Fence(Fence),
    /// A record is as expected.
    Record {
        /// Which.
        key: RecordKey,
        /// What it has to be.
        expect: Expectation,
    },
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What must hold in the state before. At most [`crate::limits::FENCES_MAX`].
    pub fences: Box<[Fence]>,
    /// A mutation that doesn't wait.
    pub command: Command,
}

/// What a record has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// There is none.
    Absent,
    /// There is one.
    Exists,
    /// There is one with this version.
    Version(Revision),
}

/// Writes a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRecord {
    /// Which.
    pub key: RecordKey,
    /// What it is to hold.
    pub value: Value,
    /// As its writer says.
    pub content_type: ContentType,
    /// What it has to be before; `None`: anything.
    pub expect: Option<Expectation>,
    /// How long it lasts.
    pub lifetime: RecordLifetime,
    /// Who writes; `None`: the holder of the session it is an operation of, if it is.
    pub written_by: Option<Holder>,
}

/// Adds to a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncrementRecord {
    /// Which.
    pub key: RecordKey,
    /// What; not 0.
    pub delta: i64,
    /// The least it may become.
    pub min: Option<i64>,
    /// The most it may become.
    pub max: Option<i64>,
    /// How long one lasts that this creates; [`RecordLifetime::Kept`] means for ever.
    pub lifetime: RecordLifetime,
    /// Who writes; as in [`PutRecord`].
    pub written_by: Option<Holder>,
}

/// How long a record is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordLifetime {
    /// Until it is deleted.
    Forever,
    /// As long as what it replaces would have.
    Kept,
    /// So long.
    Ttl(RecordTtl),
    /// As long as this lease.
    Bound(LeaseRef),
}

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecords {
    /// Only this key and those below it.
    pub prefix: Option<RecordKey>,
    /// Only those behind this one, which is within the prefix.
    pub after: Option<RecordKey>,
    /// At most so many, 1..=[`crate::limits::PAGE_MAX`].
    pub count: usize,
    /// With their values.
    pub with_values: bool,
    /// Bytes of values, 1..=[`crate::limits::VALUES_BYTES_MAX`].
    pub max_bytes: usize,
}

/// A prefix and the resource that protects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// This key and all below it.
    pub prefix: RecordKey,
    /// What a writer must hold, exclusive.
    pub resource: ResourceName,
    /// Whoever asks need not hold it.
    pub as_admin: bool,
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

// === impl Command ===

impl Command {
    /// About the bytes that it keeps in memory beyond what any command does: values, and all that a
    /// transaction has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        if let Self::PutRecord(put) = self {
            return put.value.len();
        }
        let Self::Transact(transact) = self else { return 0 };
        let conditions = transact.conditions.iter().map(Condition::bytes);
        let operations = transact.operations.iter().map(Operation::bytes);
        conditions.chain(operations).sum()
    }

    /// It asks for values, some of which may be in the store.
    #[must_use]
    pub const fn reads_values(&self) -> bool {
        matches!(self, Self::GetRecord(_) | Self::BatchGetRecords { .. } | Self::ListRecords(_))
    }
}

// === impl Operation ===

impl Operation {
    fn bytes(&self) -> usize {
        const FIXED: usize = 1_024;
        /// A name in an allocation of its own.
        const NAME: usize = 64;
        let fences: usize = self.fences.iter().map(Fence::bytes).sum();
        let targets = if let Command::AcquireLease(acquire) = &self.command {
            acquire.targets.claims().map(|claim| NAME + claim.resource.as_str().len()).sum()
        } else {
            0
        };
        FIXED + fences + targets + self.command.bytes()
    }
}

// === impl Condition ===

impl Condition {
    fn bytes(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::Fence(fence) => fence.bytes(),
            Self::Record { key, .. } => FIXED + key.as_str().len(),
        }
    }
}
