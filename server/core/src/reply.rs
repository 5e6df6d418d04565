//! What comes out of the machine when the answer is yes.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use bytes::Bytes;

use crate::{
    change::{RecordPut, RecordWritten},
    command::YieldAnswer,
    refusal::{Held, LeaseEnd, Refusal, SessionEnd},
    types::{
        Actor, Holder, Labels, LeaseId, Mode, Reach, RecordKey, ResourceName, Revision, SessionId,
        Targets, Token, Words,
    },
};

/// A positive answer. Remaining times are milliseconds from the moment of decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To acquire: the lease is yours.
    Acquired(Grant),
    /// To abandon.
    Abandoned(AbandonedState),
    /// To renew: what is left or a refusal, in the order asked.
    Renewed(Box<[Result<Renewed, Refusal>]>),
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
    /// To a transfer: the new lease, for its giver to pass on. (It waited for nothing.)
    Transferred(Grant),
    /// To a request to yield: each holder that was asked, oldest grant first.
    YieldRequested(Vec<YieldStatus>),
    /// To an answer to such: how many requests it answered.
    YieldAnswered(u32),
    /// To a list of waiters.
    Waiters {
        /// In the order in which they were queued.
        waiters: Vec<WaiterInfo>,
        /// Where the next page starts; `None`: this was the last.
        next: Option<u64>,
    },
    /// To a count.
    Stats(LeaseStats),
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
    /// To get.
    Record(Box<RecordInfo>),
    /// To get several.
    Records {
        /// In the order asked; `None`: there is none.
        results: Vec<Option<RecordInfo>>,
        /// When it was so.
        revision: Revision,
    },
    /// To list.
    RecordPage {
        /// By key.
        records: Vec<RecordInfo>,
        /// Where the next page starts (exclusive); `None`: this was the last.
        next: Option<RecordKey>,
        /// When it was so.
        revision: Revision,
    },
    /// To put.
    RecordPut {
        /// The record.
        put: RecordPut,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To increment.
    Incremented {
        /// What the counter is now.
        value: i64,
        /// The record.
        put: RecordPut,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To delete.
    RecordDeleted {
        /// The version that it had; `None`: there was none.
        version: Option<Revision>,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To protect.
    PrefixProtected {
        /// Since when.
        revision: Revision,
        /// It was before.
        existed: bool,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To unprotect.
    PrefixUnprotected {
        /// It was protected.
        existed: bool,
        /// An earlier send had done it.
        replayed: bool,
    },
    /// To a list of protections.
    Protections {
        /// By prefix and resource.
        protections: Vec<ProtectionInfo>,
        /// True: there are more behind the last.
        more: bool,
    },
    /// Of an operation of a transaction that is told again: the grant that it got has ended since.
    Lost(Box<Refusal>),
    /// To a transaction.
    Transacted(Box<Transacted>),
}

/// A transaction that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transacted {
    /// One reply for each operation.
    pub replies: Box<[Reply]>,
    /// Its last revision.
    pub commit: Revision,
    /// An earlier send had done it.
    pub replayed: bool,
}

/// A record, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// What is kept of it.
    pub written: Arc<RecordWritten>,
    /// What is left of its ttl, milliseconds; `None`: it has none.
    pub remaining_ms: Option<u64>,
    /// Whether its value is to be shown.
    pub showing: Showing,
    /// The bytes of its value, if it is in the store and was fetched from there.
    pub fetched: Option<Bytes>,
}

/// Whether a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    /// It is.
    Shown,
    /// It was not asked for.
    Unasked,
    /// There is no more room.
    Omitted,
}

/// A protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectionInfo {
    /// From which key on.
    pub prefix: RecordKey,
    /// What a writer must hold.
    pub resource: ResourceName,
    /// Since when.
    pub revision: Revision,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody asks for a lease of the session.
    YieldRequested {
        /// Which.
        lease_id: LeaseId,
        /// Its token.
        token: Token,
        /// The request.
        request: Box<YieldInfo>,
    },
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

/// A renewed lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// What is left of it, milliseconds.
    pub remaining_ms: u64,
    /// Requests to yield that are not answered.
    pub yield_requests: u32,
}

/// A request to yield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YieldInfo {
    /// Its number.
    pub number: u64,
    /// Who asks.
    pub from: Holder,
    /// Why.
    pub reason: Words,
    /// How long ago, milliseconds.
    pub asked_ms: u64,
    /// What the holder answered.
    pub answer: Option<YieldAnswer>,
}

/// How a request to yield stands with one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YieldStatus {
    /// Who holds.
    pub holder: Holder,
    /// Its token.
    pub token: Token,
    /// What is left of its lease, milliseconds.
    pub remaining_ms: u64,
    /// It has a stream on which it is told.
    pub is_told: bool,
    /// What it answered.
    pub answer: Option<YieldAnswer>,
}

/// Somebody who waits, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterInfo {
    /// Who.
    pub holder: Holder,
    /// Its actor.
    pub actor: Option<Actor>,
    /// For what.
    pub targets: Targets,
    /// Its priority.
    pub priority: i8,
    /// How long it has been queued, milliseconds.
    pub waited_ms: u64,
    /// A call waits for it.
    pub is_attached: bool,
    /// What stands in its way, where that was asked for.
    pub blocked_by: Option<Box<Held>>,
}

/// Counts of a namespace; totals since the start, or since it last was empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseStats {
    /// Live leases, those of dead sessions included until they are ended.
    pub leases: u64,
    /// Waiters, detached ones included.
    pub waiters: u64,
    /// Leases that keep their resources closed.
    pub closed: u64,
    /// Sessions.
    pub sessions: u64,
    /// Leases granted.
    pub granted_total: u64,
    /// Leases ended by their holders.
    pub released_total: u64,
    /// Leases lost.
    pub lost_total: u64,
    /// Calls that had to wait.
    pub queued_total: u64,
    /// The last revision taken in any namespace.
    pub revision: Revision,
}

/// A live lease, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// What it is for.
    pub targets: Targets,
    /// Who holds it.
    pub holder: Holder,
    /// Its token.
    pub token: Token,
    /// Its ttl.
    pub ttl_ms: u64,
    /// What is left of it.
    pub remaining_ms: u64,
    /// The actor that holds it.
    pub actor: Option<Actor>,
    /// Its labels.
    pub labels: Labels,
    /// Since when it is held, milliseconds of durable time.
    pub held_ms: u64,
    /// What is left of its longest hold, milliseconds; `None`: it has none.
    pub hold_remaining_ms: Option<u64>,
    /// Its lock delay, milliseconds.
    pub lock_delay_ms: u64,
    /// Who asks its holder to yield, oldest first.
    pub yield_requests: Vec<YieldInfo>,
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
    /// The first attached ones, in their order, at most [`crate::limits::WAITERS_SHOWN_MAX`].
    pub waiters: Vec<WaiterInfo>,
    /// It is closed for so many milliseconds; 0: it is not.
    pub closed_ms: u64,
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
    /// How it shares what it holds.
    pub mode: Mode,
    /// How far down that reaches.
    pub reach: Reach,
    /// What it holds, when that is not the resource asked about.
    pub resource: Option<ResourceName>,
    /// Since when, milliseconds of durable time.
    pub held_ms: u64,
    /// What is left of its longest hold, milliseconds; `None`: it has none.
    pub hold_remaining_ms: Option<u64>,
    /// Its actor.
    pub actor: Option<Actor>,
    /// What it last answered to a request to yield.
    pub yield_answer: Option<YieldAnswer>,
}
