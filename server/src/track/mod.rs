//! The track: the single writer. Hands calls to the machine in one order, its changes to the
//! store, and its answers back when what they depend on is durable.

use singletrack_core::{
    command::Command,
    fence::Fence,
    refusal::Refusal,
    reply::Reply,
    types::{Namespace, RequestMark},
};

/// A decoded call on its way to the machine.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it acts.
    pub namespace: Namespace,
    /// Its identity for life; `None`: no replay protection.
    pub mark: Option<RequestMark>,
    /// Milliseconds since its oldest unanswered send.
    pub age_ms: u64,
    /// What must hold, or nothing happens.
    pub fences: Box<[Fence]>,
    /// What is asked.
    pub command: Command,
}

/// Why a call got no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The machine refused; nothing happened.
    Refused(Refusal),
    /// Too much is queued; nothing happened.
    Overloaded {
        /// Which bound.
        limit: &'static str,
        /// Its value.
        maximum: u64,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The track accepts no more; nothing happened.
    ShuttingDown,
    /// The log failed; it may or may not have happened.
    OutcomeUnknown,
    /// A bug of ours; nothing happened.
    Internal,
}

/// A cheap way to the track; clones share it.
#[derive(Clone, Debug)]
pub struct Handle {}

impl Handle {
    /// Hands a call over and waits for its answer. Dropping the future detaches the call.
    ///
    /// # Errors
    /// A [`CallError`].
    pub async fn call(&self, question: Question) -> Result<Reply, CallError> {
        let _ = question;
        Err(CallError::ShuttingDown)
    }
}
