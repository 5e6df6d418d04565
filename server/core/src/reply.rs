//! What comes out of the machine when the answer is yes.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    refusal::{LeaseEnd, Refusal, SessionEnd},
    types::{Holder, LeaseId, SessionId, Target, Token},
};

/// A positive answer. Remaining times are milliseconds from the moment of decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To acquire: the lease is yours.
    Acquired(Grant),
    /// To abandon.
    Abandoned(AbandonedState),
    /// To renew: remaining milliseconds or a refusal, in the order asked.
    Renewed(Box<[Result<u64, Refusal>]>),
    /// To release.
    Released {
        /// An earlier call had done it.
        replayed: bool,
    },
    /// To get.
    Found(Found),
    /// To list.
    Page {
        /// Live leases by token.
        leases: Vec<LeaseInfo>,
        /// Where the next page starts (exclusive); `None`: this was the last.
        next: Option<Token>,
    },
    /// To check.
    Checked(Checked),
    /// To a forced release.
    ForceReleased {
        /// Who had held it.
        holder: Holder,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To open.
    SessionOpened {
        /// Known to its owner alone.
        session_id: SessionId,
        /// What is left of the ttl.
        remaining_ms: u64,
    },
    /// To attach.
    SessionAttached(Box<Attached>),
    /// To a keep-alive: remaining milliseconds.
    SessionKept(u64),
    /// To close.
    SessionClosed {
        /// An earlier call had done it.
        replayed: bool,
    },
    /// To a list of a session's leases.
    SessionLeases(SessionPage),
    /// To a session's stream, by itself.
    Notice(Notice),
    /// To a transaction: one reply per operation.
    Transacted(Box<[Reply]>),
}

/// A session that has a new stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Which.
    pub session_id: SessionId,
    /// How many streams it has had since it was opened or the machine was started.
    pub generation: u64,
    /// Its ttl.
    pub ttl_ms: u64,
    /// What is left of it.
    pub remaining_ms: u64,
    /// The first page of what it holds.
    pub held: SessionPage,
    /// How much it holds in all.
    pub held_count: usize,
}

/// A page of what a session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// By token.
    pub leases: Vec<(LeaseId, Token)>,
    /// Where the next page starts (exclusive); `None`: this was the last.
    pub next: Option<Token>,
}

/// What a session's stream is told without having asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A newer stream has the session; nothing more is told to this one.
    Superseded,
    /// The session has ended; nothing more is told.
    SessionLost(SessionEnd),
    /// A lease of the session has ended although the session lives.
    LeaseLost {
        /// Which.
        lease_id: LeaseId,
        /// Its token.
        token: Token,
        /// How.
        end: LeaseEnd,
    },
}

/// A lease that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Known to the holder alone.
    pub lease_id: LeaseId,
    /// The fencing token.
    pub token: Token,
    /// What is left of the ttl.
    pub remaining_ms: u64,
    /// How long this call waited; 0 in a replay.
    pub waited_ms: u64,
    /// An earlier send had got it.
    pub replayed: bool,
}

/// How far an abandoned call had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbandonedState {
    /// Nothing was known of it.
    Nothing,
    /// It was waiting.
    Waiting,
    /// It held the lease, now released.
    Held,
    /// It had held the lease, which had already ended.
    Ended,
}

/// A live lease, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// What it is for.
    pub target: Target,
    /// Who holds it.
    pub holder: Holder,
    /// Its token.
    pub token: Token,
    /// Its ttl.
    pub ttl_ms: u64,
    /// What is left of it.
    pub remaining_ms: u64,
}

/// What get found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The lease, or the resource's holders, oldest first, at most
    /// [`crate::limits::HOLDERS_SHOWN_MAX`].
    pub leases: Vec<LeaseInfo>,
    /// How many leases are on the resource in all.
    pub holder_count: u32,
    /// How many wait for it, detached waiters included.
    pub waiter_count: u32,
}

/// What check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// A live lease on the resource has the token asked about.
    pub current: bool,
    /// The newest current token, its holder and what is left of it; `None`: the resource is free.
    pub newest: Option<HolderInfo>,
}

/// One holder, as told to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderInfo {
    /// Its name.
    pub holder: Holder,
    /// Its token.
    pub token: Token,
    /// What is left of its lease.
    pub remaining_ms: u64,
    /// Shared or exclusive.
    pub mode: crate::types::Mode,
}
