//! What a decision does to durable state and to replay memory, and nothing else.
//!
//! A change is an absolute post-image: absorbing it twice is absorbing it once. Each noun has
//! its range of tags, the same as on the wire; a tag is never reused, as logs keep them:
//!
//! | tags | noun |
//! |---|---|
//! | 1..=9 | the machine itself and replay memory |
//! | 10..=29 | lease |
//! | 30..=49 | record |
//! | 50..=69 | idempotency key |
//! | 70..=99 | queue |
//! | 100..=129 | event |

use alloc::{sync::Arc, vec::Vec};

use crate::{
    refusal::{LeaseEnd, SessionEnd},
    types::{
        Holder, LeaseId, Mode, Namespace, RequestHash, RequestMark, ResourceName, Revision,
        SessionId, SessionNumber, Target, Token, Ttl,
    },
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Tag 1: the machine was opened, its counter stands here. Durable.
    Started {
        /// Where tokens go on from.
        revision: Revision,
    },
    /// Tag 2: an effect to be told again when its request is repeated. Replay memory.
    RequestRemembered(Arc<RequestRemembered>),
    /// Tag 3: a request that must not take effect any more. Replay memory.
    RequestAbandoned {
        /// Whose.
        id: RequestHash,
        /// When.
        revision: Revision,
    },
    /// Tag 4: a session is open. Durable; the whole row.
    SessionOpened(Arc<SessionOpened>),
    /// Tag 5: a session has ended; what it holds is gone to every check, and is ended in slices.
    /// Durable; the whole row.
    SessionEnded(Arc<SessionEnded>),
    /// Tag 6: nothing is left of what an ended session held. Durable: the row goes.
    SessionSwept {
        /// Where.
        namespace: Namespace,
        /// Which.
        number: SessionNumber,
        /// When.
        revision: Revision,
    },
    /// Tag 7: all replies of a session below this operation were acknowledged. Replay memory.
    SessionFloored {
        /// Which.
        number: SessionNumber,
        /// The first that was not.
        below: u64,
        /// When.
        revision: Revision,
    },
    /// Tag 10: a lease is held. Durable; the whole row.
    LeaseGranted(Arc<LeaseGranted>),
    /// Tag 11: a lease is no more. Durable: the row goes. Replay memory: how it ended.
    LeaseEnded(Arc<LeaseEnded>),
}

/// A lease, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGranted {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token and the revision of this change.
    pub token: Token,
    /// Who holds it.
    pub holder: Holder,
    /// What it is for.
    pub resource: ResourceName,
    /// How it shares that. (Flat, as a million of these are kept.)
    pub mode: Mode,
    /// How long it lasts without renewal: its own, or its session's.
    pub ttl: Ttl,
    /// The session that asked for it; `None`: it was asked for without one.
    pub session: Option<SessionNumber>,
    /// It lives with that session; else it has its own ttl.
    pub is_bound: bool,
    /// The request that asked for it.
    pub request: Option<RequestMark>,
}

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpened {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub session_id: SessionId,
    /// Its number and the revision of this change.
    pub number: SessionNumber,
    /// Whose it is.
    pub holder: Holder,
    /// How long it lasts without being kept alive.
    pub ttl: Ttl,
    /// Where the identities of its operations begin.
    pub requests: RequestHash,
}

/// A session that has ended and may still have leases to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnded {
    /// What it was.
    pub opened: Arc<SessionOpened>,
    /// The revision of this change.
    pub revision: Revision,
    /// How.
    pub end: SessionEnd,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseEnded {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token.
    pub token: Token,
    /// The revision of this change.
    pub revision: Revision,
    /// How.
    pub end: LeaseEnd,
    /// The session that had asked for it.
    pub session: Option<SessionNumber>,
    /// The request that had asked for the lease.
    pub request: Option<RequestMark>,
    /// The session's operation that released it, to be remembered until its reply is
    /// acknowledged; `None`: it ended in another way.
    pub by: Option<RequestOf>,
}

/// The identity of an operation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOf {
    /// Which session.
    pub session: SessionNumber,
    /// Its number there.
    pub seq: u64,
    /// What it is known by.
    pub mark: RequestMark,
}

/// An effect that is not visible in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRemembered {
    /// Whose.
    pub mark: RequestMark,
    /// The session and its operation that this was: remembered until its reply is acknowledged.
    /// `None`: remembered for [`crate::limits::MEMORY_MS`].
    pub of: Option<(SessionNumber, u64)>,
    /// When.
    pub revision: Revision,
    /// What to tell again.
    pub effect: Effect,
}

/// What a remembered request had achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It released its lease.
    Released,
    /// It took a lease away.
    ForceReleased {
        /// From whom.
        holder: Holder,
    },
    /// A transaction; the effects of its operations.
    Transacted(Vec<Effect>),
    /// It acquired a lease within a transaction.
    Acquired {
        /// The lease.
        lease_id: LeaseId,
        /// Its token.
        token: Token,
    },
    /// It had acquired a lease that has ended.
    LeaseEnded {
        /// How.
        end: LeaseEnd,
        /// The token it had.
        token: Token,
    },
}

/// The key of a durable row: one per thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A session. Before what is taken under it.
    Session(Namespace, SessionNumber),
    /// A lease.
    Lease(Namespace, Token),
}

/// What a change leaves in the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A row that never was before.
    Created(RowKey),
    /// A row that may have been before.
    Written(RowKey),
    /// A row that is gone.
    Removed(RowKey),
    /// Nothing: the change is about replay memory or the counter alone.
    None,
}

/// The changes of one command: they become visible together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The last revision taken; those of the changes end here.
    pub commit: Revision,
    /// In the order decided; never empty.
    pub changes: Vec<Change>,
}

// === impl LeaseGranted ===

impl LeaseGranted {
    /// What the lease is for, as it was asked.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { resource: self.resource.clone(), mode: self.mode }
    }
}

// === impl SessionOpened ===

impl SessionOpened {
    fn key(&self) -> RowKey {
        RowKey::Session(self.namespace.clone(), self.number)
    }

    fn weight(&self) -> usize {
        112 + self.namespace.as_str().len() + self.holder.as_str().len()
    }
}

// === impl Change ===

impl Change {
    /// The tag under which the log and the state keep it.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        match self {
            Self::Started { .. } => 1,
            Self::RequestRemembered(_) => 2,
            Self::RequestAbandoned { .. } => 3,
            Self::SessionOpened(_) => 4,
            Self::SessionEnded(_) => 5,
            Self::SessionSwept { .. } => 6,
            Self::SessionFloored { .. } => 7,
            Self::LeaseGranted(_) => 10,
            Self::LeaseEnded(_) => 11,
        }
    }

    /// The revision it took.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Started { revision }
            | Self::RequestAbandoned { revision, .. }
            | Self::SessionSwept { revision, .. }
            | Self::SessionFloored { revision, .. } => *revision,
            Self::SessionOpened(opened) => opened.number.revision(),
            Self::SessionEnded(ended) => ended.revision,
            Self::RequestRemembered(remembered) => remembered.revision,
            Self::LeaseGranted(granted) => granted.token.revision(),
            Self::LeaseEnded(ended) => ended.revision,
        }
    }

    /// What it leaves in the durable state.
    #[must_use]
    pub fn trace(&self) -> Trace {
        match self {
            Self::Started { .. }
            | Self::RequestRemembered(_)
            | Self::RequestAbandoned { .. }
            | Self::SessionFloored { .. } => Trace::None,
            Self::SessionOpened(opened) => Trace::Created(opened.key()),
            Self::SessionEnded(ended) => Trace::Written(ended.opened.key()),
            Self::SessionSwept { namespace, number, .. } => {
                Trace::Removed(RowKey::Session(namespace.clone(), *number))
            }
            Self::LeaseGranted(granted) => {
                Trace::Created(RowKey::Lease(granted.namespace.clone(), granted.token))
            }
            Self::LeaseEnded(ended) => {
                Trace::Removed(RowKey::Lease(ended.namespace.clone(), ended.token))
            }
        }
    }

    /// An upper bound of its size in the log, bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Started { .. } | Self::RequestAbandoned { .. } | Self::SessionFloored { .. } => {
                48
            }
            Self::RequestRemembered(remembered) => 96 + remembered.effect.weight(),
            Self::SessionOpened(opened) => opened.weight(),
            Self::SessionEnded(ended) => 32 + ended.opened.weight(),
            Self::SessionSwept { namespace, .. } => 48 + namespace.as_str().len(),
            Self::LeaseGranted(granted) => {
                176 + granted.namespace.as_str().len()
                    + granted.resource.as_str().len()
                    + granted.holder.as_str().len()
            }
            Self::LeaseEnded(ended) => 208 + ended.namespace.as_str().len(),
        }
    }
}

impl Effect {
    /// An upper bound of its size in the log, bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Released | Self::LeaseEnded { .. } => 32,
            Self::ForceReleased { holder } => 16 + holder.as_str().len(),
            Self::Transacted(effects) => 16 + effects.iter().map(Self::weight).sum::<usize>(),
            Self::Acquired { .. } => 48,
        }
    }
}
