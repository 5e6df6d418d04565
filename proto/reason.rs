//! The refusal table: what each reason means to a caller.
//!
//! Server and clients share it, so that "may I retry?" and "could it have happened?" have
//! one answer. `docs/semantics/refusals.md` shows the same table and is tested against it.

use tonic::Code;

use crate::v1::RefusalReason;

/// `domain` of every `google.rpc.ErrorInfo` this project sends.
pub const DOMAIN: &str = "singletrack";

/// Why a call was refused. The closed list behind [`RefusalReason`], without its zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The resource is held, or earlier waiters are first.
    Held,
    /// The wait ended and the place in the queue is kept.
    StillWaiting,
    /// The call was abandoned.
    CancelledWait,
    /// To wait would close a cycle.
    Deadlock,
    /// The resource has another number of permits.
    LimitMismatch,
    /// The record is not as expected.
    VersionMismatch,
    /// A fence's token is not current.
    StaleFence,
    /// The lease has ended.
    LeaseLost,
    /// The token is not that of this lease.
    NotHolder,
    /// The session has ended or is not known.
    SessionLost,
    /// The record is protected, and the write carries no token of who may.
    FenceRequired,
    /// An operation of a transaction found its work done.
    AlreadyDone,
    /// The request id was used for another request.
    RequestIdReused,
    /// The request id is unknown and too old to be executed.
    RequestIdForgotten,
    /// The thing named does not exist.
    NotFound,
    /// The record is no counter.
    NotACounter,
    /// The counter would cross a bound.
    OutOfBounds,
    /// A field is not legal.
    Malformed,
    /// A message or field is above its bound.
    TooLarge,
    /// There is no such method.
    Unimplemented,
    /// Too much is queued.
    Overloaded,
    /// A cap of the namespace is reached.
    Quota,
    /// The server is stopping.
    ShuttingDown,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The log could not be written.
    OutcomeUnknown,
    /// A bug of the server; the command had no effect.
    Internal,
}

/// Whether and how a refused call may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call would be refused again.
    No,
    /// Not the call as it stands, but the caller's own loop around it (wait, re-read).
    HigherLevel,
    /// The same call, after the delay that the refusal names.
    AfterDelay,
    /// The same call, at once or with back-off.
    Yes,
    /// The same call, but only with the same `request_id`, as it may have happened.
    SameRequestId,
}

// === impl Reason ===

impl Reason {
    /// All reasons, in the order of the table.
    pub const ALL: [Self; 26] = [
        Self::Held,
        Self::StillWaiting,
        Self::CancelledWait,
        Self::Deadlock,
        Self::LimitMismatch,
        Self::VersionMismatch,
        Self::StaleFence,
        Self::LeaseLost,
        Self::NotHolder,
        Self::SessionLost,
        Self::FenceRequired,
        Self::AlreadyDone,
        Self::RequestIdReused,
        Self::RequestIdForgotten,
        Self::NotFound,
        Self::NotACounter,
        Self::OutOfBounds,
        Self::Malformed,
        Self::TooLarge,
        Self::Unimplemented,
        Self::Overloaded,
        Self::Quota,
        Self::ShuttingDown,
        Self::DeadlineExceeded,
        Self::OutcomeUnknown,
        Self::Internal,
    ];

    /// The name on the wire: `ErrorInfo.reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::StillWaiting => "STILL_WAITING",
            Self::CancelledWait => "CANCELLED_WAIT",
            Self::Deadlock => "DEADLOCK",
            Self::LimitMismatch => "LIMIT_MISMATCH",
            Self::VersionMismatch => "VERSION_MISMATCH",
            Self::StaleFence => "STALE_FENCE",
            Self::LeaseLost => "LEASE_LOST",
            Self::NotHolder => "NOT_HOLDER",
            Self::SessionLost => "SESSION_LOST",
            Self::FenceRequired => "FENCE_REQUIRED",
            Self::AlreadyDone => "ALREADY_DONE",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::RequestIdForgotten => "REQUEST_ID_FORGOTTEN",
            Self::NotFound => "NOT_FOUND",
            Self::NotACounter => "NOT_A_COUNTER",
            Self::OutOfBounds => "OUT_OF_BOUNDS",
            Self::Malformed => "MALFORMED",
            Self::TooLarge => "TOO_LARGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Overloaded => "OVERLOADED",
            Self::Quota => "QUOTA",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::Internal => "INTERNAL",
        }
    }

    /// The reason with this name on the wire; `None` for one this version doesn't know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The gRPC status code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Held
            | Self::StillWaiting
            | Self::CancelledWait
            | Self::Deadlock
            | Self::VersionMismatch => Code::Aborted,
            Self::StaleFence
            | Self::LeaseLost
            | Self::NotHolder
            | Self::SessionLost
            | Self::FenceRequired
            | Self::AlreadyDone
            | Self::NotACounter
            | Self::LimitMismatch => Code::FailedPrecondition,
            Self::RequestIdReused => Code::AlreadyExists,
            Self::RequestIdForgotten | Self::OutOfBounds => Code::OutOfRange,
            Self::NotFound => Code::NotFound,
            Self::Malformed | Self::TooLarge => Code::InvalidArgument,
            Self::Unimplemented => Code::Unimplemented,
            Self::Overloaded | Self::Quota => Code::ResourceExhausted,
            Self::ShuttingDown => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::OutcomeUnknown => Code::Unknown,
            Self::Internal => Code::Internal,
        }
    }

    /// True if it was given after looking for the request id among those that are remembered, so
    /// that it also says that no earlier attempt under the same id had taken effect by then. (One
    /// that is still on its way may, later.) The others say
    /// nothing of earlier attempts: their age must go on.
    #[must_use]
    pub const fn answers_for_earlier(self) -> bool {
        match self {
            Self::Held
            | Self::StillWaiting
            | Self::CancelledWait
            | Self::Deadlock
            | Self::LimitMismatch
            | Self::StaleFence
            | Self::LeaseLost
            | Self::NotHolder
            | Self::SessionLost
            | Self::RequestIdReused
            | Self::NotFound
            | Self::VersionMismatch
            | Self::FenceRequired
            | Self::AlreadyDone
            | Self::NotACounter
            | Self::OutOfBounds
            | Self::Quota => true,
            // Before the machine, or (forgotten) because nothing is known of earlier ones.
            Self::RequestIdForgotten
            | Self::Malformed
            | Self::TooLarge
            | Self::Unimplemented
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::DeadlineExceeded
            | Self::OutcomeUnknown
            | Self::Internal => false,
        }
    }

    /// May the call be tried again?
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::Held
            | Self::StillWaiting
            | Self::CancelledWait
            | Self::Deadlock
            | Self::VersionMismatch => Retry::HigherLevel,
            Self::Overloaded | Self::Quota => Retry::AfterDelay,
            Self::ShuttingDown => Retry::Yes,
            Self::DeadlineExceeded | Self::OutcomeUnknown => Retry::SameRequestId,
            Self::StaleFence
            | Self::LimitMismatch
            | Self::LeaseLost
            | Self::NotHolder
            | Self::SessionLost
            | Self::FenceRequired
            | Self::AlreadyDone
            | Self::RequestIdReused
            | Self::RequestIdForgotten
            | Self::NotFound
            | Self::NotACounter
            | Self::OutOfBounds
            | Self::Malformed
            | Self::TooLarge
            | Self::Unimplemented
            | Self::Internal => Retry::No,
        }
    }

    /// Could the call have taken effect all the same?
    #[must_use]
    pub const fn may_have_happened(self) -> bool {
        match self {
            Self::RequestIdForgotten | Self::DeadlineExceeded | Self::OutcomeUnknown => true,
            Self::Held
            | Self::StillWaiting
            | Self::CancelledWait
            | Self::Deadlock
            | Self::LimitMismatch
            | Self::VersionMismatch
            | Self::StaleFence
            | Self::LeaseLost
            | Self::NotHolder
            | Self::SessionLost
            | Self::FenceRequired
            | Self::AlreadyDone
            | Self::RequestIdReused
            | Self::NotFound
            | Self::NotACounter
            | Self::OutOfBounds
            | Self::Malformed
            | Self::TooLarge
            | Self::Unimplemented
            | Self::Overloaded
            | Self::Quota
            | Self::ShuttingDown
            | Self::Internal => false,
        }
    }

    /// The enum value of the wire.
    #[must_use]
    pub const fn to_wire(self) -> RefusalReason {
        match self {
            Self::Held => RefusalReason::Held,
            Self::StillWaiting => RefusalReason::StillWaiting,
            Self::CancelledWait => RefusalReason::CancelledWait,
            Self::Deadlock => RefusalReason::Deadlock,
            Self::LimitMismatch => RefusalReason::LimitMismatch,
            Self::VersionMismatch => RefusalReason::VersionMismatch,
            Self::StaleFence => RefusalReason::StaleFence,
            Self::LeaseLost => RefusalReason::LeaseLost,
            Self::NotHolder => RefusalReason::NotHolder,
            Self::SessionLost => RefusalReason::SessionLost,
            Self::FenceRequired => RefusalReason::FenceRequired,
            Self::AlreadyDone => RefusalReason::AlreadyDone,
            Self::RequestIdReused => RefusalReason::RequestIdReused,
            Self::RequestIdForgotten => RefusalReason::RequestIdForgotten,
            Self::NotFound => RefusalReason::NotFound,
            Self::NotACounter => RefusalReason::NotACounter,
            Self::OutOfBounds => RefusalReason::OutOfBounds,
            Self::Malformed => RefusalReason::Malformed,
            Self::TooLarge => RefusalReason::TooLarge,
            Self::Unimplemented => RefusalReason::Unimplemented,
            Self::Overloaded => RefusalReason::Overloaded,
            Self::Quota => RefusalReason::Quota,
            Self::ShuttingDown => RefusalReason::ShuttingDown,
            Self::DeadlineExceeded => RefusalReason::DeadlineExceeded,
            Self::OutcomeUnknown => RefusalReason::OutcomeUnknown,
            Self::Internal => RefusalReason::Internal,
        }
    }

    /// The reason behind an enum value of the wire; `None` for the zero value.
    #[must_use]
    pub fn from_wire(reason: RefusalReason) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.to_wire() == reason)
    }
}

// === impl Retry ===

impl Retry {
    /// The name on the wire: `ErrorInfo.metadata["retry"]`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::HigherLevel => "higher-level",
            Self::AfterDelay => "after-delay",
            Self::Yes => "yes",
            Self::SameRequestId => "same-request-id",
        }
    }
}
