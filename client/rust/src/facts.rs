//! The facts that come with a refusal, as plain values. Owns their decoding from the wire and
//! nothing that decides; what a reason means is [`crate::Reason`]'s.

use std::time::Duration;

use singletrack_proto::v1::{self, refusal::Detail};

use crate::{
    held::{Deadlock, Held, LimitMismatch},
    record::{FenceRequired, OutOfBounds, VersionMismatch},
};

/// What stands behind a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Facts {
    /// Who stands in the way: with `HELD` and `STILL_WAITING`.
    Held(Held),
    /// The cycle that the wait would have closed: with `DEADLOCK`.
    Deadlock(Deadlock),
    /// Another number of permits: with `LIMIT_MISMATCH`.
    LimitMismatch(LimitMismatch),
    /// What the record is instead: with `VERSION_MISMATCH`.
    VersionMismatch(VersionMismatch),
    /// What protects the record: with `FENCE_REQUIRED`.
    FenceRequired(FenceRequired),
    /// The bounds, one of which would be crossed: with `OUT_OF_BOUNDS`.
    OutOfBounds(OutOfBounds),
    /// Which fence failed: with `STALE_FENCE`.
    #[non_exhaustive]
    StaleFence {
        /// Index of the fence in the request, from 0.
        index: u32,
        /// The resource it names.
        resource: String,
        /// The token presented.
        presented_token: u64,
        /// The newest current token; `None`: nobody holds the resource.
        current_token: Option<u64>,
        /// Who holds that token.
        holder: Option<String>,
    },
    /// How the lease ended: with `LEASE_LOST`.
    #[non_exhaustive]
    LeaseLost {
        /// How it ended.
        end: LeaseEnd,
        /// The token it had.
        token: u64,
    },
    /// How the session ended: with `SESSION_LOST`.
    #[non_exhaustive]
    SessionLost {
        /// How it ended.
        end: SessionEnd,
    },
    /// The fields that were not legal: with `MALFORMED` and `TOO_LARGE`.
    #[non_exhaustive]
    Malformed {
        /// At most 16.
        violations: Vec<FieldViolation>,
    },
    /// The limit that was reached: with `QUOTA` and `OVERLOADED`.
    #[non_exhaustive]
    Limit {
        /// Its name.
        limit: String,
        /// Its value.
        maximum: u64,
    },
}

/// How a lease came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Its holder released it.
    Released,
    /// It was not renewed in time.
    Expired,
    /// An administrator took it away.
    Forced,
    /// Its holder gave it to another.
    Transferred,
    /// It was held for its longest hold.
    MaxHold,
    /// Not known any more, or in a way this version doesn't know.
    Unknown,
}

/// How a session came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionEnd {
    /// Its owner closed it.
    Closed,
    /// It was not kept alive in time.
    Expired,
    /// Not known, or in a way this version doesn't know.
    Unknown,
}

/// One field that was not legal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Path of the field, as in `targets[0].resource`; empty: the whole message.
    pub field: String,
    /// What was expected and what was found.
    pub description: String,
}

// === impl Facts ===

impl Facts {
    pub(crate) fn from_wire(detail: Detail) -> Self {
        match detail {
            Detail::Held(held) => Self::Held(Held::from_wire(held)),
            Detail::Deadlock(deadlock) => Self::Deadlock(Deadlock::from_wire(deadlock)),
            Detail::LimitMismatch(mismatch) => {
                Self::LimitMismatch(LimitMismatch::from_wire(mismatch))
            }
            Detail::VersionMismatch(mismatch) => {
                Self::VersionMismatch(VersionMismatch::from_wire(mismatch))
            }
            Detail::FenceRequired(required) => {
                Self::FenceRequired(FenceRequired::from_wire(required))
            }
            Detail::OutOfBounds(bounds) => Self::OutOfBounds(OutOfBounds::from_wire(bounds)),
            Detail::StaleFence(stale) => Self::StaleFence {
                index: stale.index,
                resource: stale.resource,
                presented_token: stale.presented_token,
                current_token: present_token(stale.current_token),
                holder: present_text(stale.holder),
            },
            Detail::LeaseLost(lost) => {
                Self::LeaseLost { end: LeaseEnd::from_wire(lost.end()), token: lost.token }
            }
            Detail::SessionLost(lost) => {
                Self::SessionLost { end: SessionEnd::from_wire(lost.end()) }
            }
            Detail::Malformed(malformed) => Self::Malformed {
                violations: malformed
                    .violations
                    .into_iter()
                    .map(|violation| FieldViolation {
                        field: violation.field,
                        description: violation.description,
                    })
                    .collect(),
            },
            Detail::Limit(limit) => Self::Limit { limit: limit.limit, maximum: limit.maximum },
        }
    }
}

// === impl SessionEnd ===

impl SessionEnd {
    /// The name on the wire, without its prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Expired => "EXPIRED",
            Self::Unknown => "UNKNOWN",
        }
    }

    const fn from_wire(end: v1::SessionEnd) -> Self {
        match end {
            v1::SessionEnd::Closed => Self::Closed,
            v1::SessionEnd::Expired => Self::Expired,
            v1::SessionEnd::Unspecified => Self::Unknown,
        }
    }
}

// === impl LeaseEnd ===

impl LeaseEnd {
    /// The name on the wire, without its prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Released => "RELEASED",
            Self::Expired => "EXPIRED",
            Self::Forced => "FORCED",
            Self::Transferred => "TRANSFERRED",
            Self::MaxHold => "MAX_HOLD",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn from_wire(end: v1::LeaseEnd) -> Self {
        match end {
            v1::LeaseEnd::Released => Self::Released,
            v1::LeaseEnd::Expired => Self::Expired,
            v1::LeaseEnd::Forced => Self::Forced,
            v1::LeaseEnd::Transferred => Self::Transferred,
            v1::LeaseEnd::MaxHold => Self::MaxHold,
            v1::LeaseEnd::Unspecified => Self::Unknown,
        }
    }
}

/// The wire says "none" with 0, as no token is 0.
pub(crate) fn present_token(token: u64) -> Option<u64> {
    (token != 0).then_some(token)
}

/// The wire says "none" with an empty text, as no name is empty.
pub(crate) fn present_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A time as the wire has it.
pub(crate) const fn duration_ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
