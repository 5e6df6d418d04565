//! What a decision does to volatile state: waiters, attachments and deadlines.
//!
//! A motion is never logged and never snapshotted; a restart begins without any.

use alloc::boxed::Box;

use crate::{
    command::{AcquireLease, YieldAnswer},
    fence::Fence,
    types::{CallId, Holder, Ms, Namespace, RequestMark, SessionNumber, Token, Words},
};

/// One motion. `u32`s are slots in the state's slabs, true while the state is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Motion {
    /// A call waits for a lease: a new waiter, with this call attached.
    WaiterQueued(Box<QueuedWaiter>),
    /// A call waits with a waiter that is already there.
    CallAttached {
        /// The waiter.
        waiter: u32,
        /// The call.
        call: CallId,
        /// When its wait ends.
        until: Ms,
        /// How long the place is kept from now on, when it is left.
        keep_ms: u64,
    },
    /// A call waits no more; the last one gone leaves its waiter detached, or, if it has no
    /// request id to come back with, drops it.
    CallDetached {
        /// The call.
        call: CallId,
    },
    /// A waiter is no more; those it kept waiting are looked at.
    WaiterDropped {
        /// The waiter.
        waiter: u32,
    },
    /// A waiter has its lease; that keeps waiting whom the waiter kept.
    WaiterServed {
        /// The waiter.
        waiter: u32,
    },
    /// A detached waiter was asked for and still waits: its place is kept anew.
    WaiterKept {
        /// The waiter.
        waiter: u32,
        /// How long.
        keep_ms: u64,
    },
    /// A lease counts its ttl from now.
    LeaseRenewed {
        /// The lease.
        lease: u32,
    },
    /// A lease that seemed due is not, yet.
    LeaseRearmed {
        /// The lease.
        lease: u32,
        /// When it is.
        at: Ms,
    },
    /// A session counts its ttl from now.
    SessionKept {
        /// The session.
        session: u32,
    },
    /// A session that seemed due is not, yet.
    SessionRearmed {
        /// The session.
        session: u32,
        /// When it is.
        at: Ms,
    },
    /// A session has a new stream.
    SessionAttached {
        /// The session.
        session: u32,
        /// The stream's own call.
        stream: CallId,
    },
    /// Replies of a session have arrived.
    RepliesAcknowledged {
        /// The session.
        session: u32,
        /// All below this one.
        below: u64,
        /// And these.
        seen: Box<[u64]>,
    },
    /// An ended session's replies are forgotten, at most so many, and with the last one the
    /// session.
    SessionForgotten {
        /// The session.
        session: u32,
        /// At most.
        count: usize,
    },
    /// So many entries of replay memory are forgotten.
    Forgotten {
        /// At most.
        count: usize,
    },
    /// The first of those places where a waiter may be granted is looked at. Carried out before
    /// the changes of the same decision, as these may mark it again.
    Settled,
    /// What was looked at was too much for one slice.
    SettledInPart {
        /// From which waiter on it goes on: its priority,
        priority: i8,
        /// and its number.
        seq: u64,
        /// The node.
        node: u32,
        /// Those below the node; else those at it.
        is_below: bool,
        /// And then from the first again.
        again: bool,
    },
    /// A holder is asked to yield; replaces what the same one had asked before.
    YieldRequested {
        /// The lease's token.
        token: Token,
        /// Who asks.
        from: Holder,
        /// Why.
        reason: Words,
    },
    /// A holder has answered.
    YieldAnswered {
        /// The lease's token.
        token: Token,
        /// Which request; `None`: all.
        number: Option<u64>,
        /// What.
        answer: YieldAnswer,
    },
}

/// A new waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedWaiter {
    /// Where.
    pub namespace: Namespace,
    /// Its identity; `None`: it lives and dies with its call.
    pub mark: Option<RequestMark>,
    /// The session whose operation that is.
    pub asked_by: Option<SessionNumber>,
    /// What must hold when it is granted.
    pub fences: Box<[Fence]>,
    /// What it waits for.
    pub acquire: AcquireLease,
    /// The call that waits.
    pub call: CallId,
    /// When that call's wait ends.
    pub until: Ms,
}
