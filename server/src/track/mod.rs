//! The track: the single writer. Hands calls to the machine in one order, its changes to the
//! store, and its answers back when what they depend on is durable.
//!
//! - `lanes`: calls that wait for their turn, fair between namespaces, bounded
//! - `time`: how elapsed time becomes machine time
//! - `step`: the track itself, `step(inbox) -> outbox`; no thread, no clock
//! - `driver`: the thread that steps it
//! - `fetch`: values from the store, put into replies
//! - `handle`: how callers reach it
//! - `line`: the same for a stream, whose many calls are under way at once
//! - `meters`: what it counts

mod driver;
mod fetch;
mod handle;
mod lanes;
mod line;
pub mod meters;
pub mod step;
mod time;

use singletrack_core::{
    command::Command,
    fence::Fence,
    limits::Quotas,
    refusal::Refusal,
    reply::{Notice, Reply},
    types::{Namespace, RequestMark, SessionId},
};

pub use self::{
    driver::{Fatal, OnFatal, Track},
    handle::Handle,
    lanes::LaneLimits,
    line::Line,
};

/// A decoded call on its way to the machine.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it acts.
    pub namespace: Namespace,
    /// Its identity for life; `None`: no replay protection.
    pub mark: Option<RequestMark>,
    /// The session it is an operation of; `None`: of none.
    pub of: Option<OfSession>,
    /// Milliseconds since its oldest unanswered send.
    pub age_ms: u64,
    /// What must hold, or nothing happens.
    pub fences: Box<[Fence]>,
    /// What is asked.
    pub command: Command,
}

/// How a question belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfSession {
    /// Which.
    pub session: SessionId,
    /// Its number there, if that is its identity; `None`: it has another, or none.
    pub seq: Option<u64>,
}

/// What a line hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to the question with this tag.
    Answer(u64, Result<Reply, CallError>),
    /// What nobody asked for.
    Notice(Notice),
}

impl Heard {
    /// An answer that can't be told after all.
    fn failed(self, error: CallError) -> Self {
        match self {
            Self::Answer(tag, _) => Self::Answer(tag, Err(error)),
            Self::Notice(notice) => Self::Notice(notice),
        }
    }
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

/// How a track is set up.
#[derive(Clone, Debug, Default)]
pub struct TrackConfig {
    /// Caps of the machine.
    pub quotas: Quotas,
    /// Bounds of what is queued before it.
    pub lanes: LaneLimits,
}
