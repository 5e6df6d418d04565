//! The track: the single writer. Hands calls to the machine in one order, its changes to the
//! store, and its answers back when what they depend on is durable.
//!
//! - `lanes`: calls that wait for their turn, fair between namespaces, bounded
//! - `time`: how elapsed time becomes machine time
//! - `step`: the track itself, `step(inbox) -> outbox`; no thread, no clock
//! - `driver`: the thread that steps it
//! - `handle`: how callers reach it
//! - `meters`: what it counts

mod driver;
mod handle;
mod lanes;
pub mod meters;
pub mod step;
mod time;

use singletrack_core::{
    command::Command,
    fence::Fence,
    limits::Quotas,
    refusal::Refusal,
    types::{Namespace, RequestMark},
};

pub use self::{
    driver::{Fatal, OnFatal, Track},
    handle::Handle,
    lanes::LaneLimits,
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

/// How a track is set up.
#[derive(Clone, Debug, Default)]
pub struct TrackConfig {
    /// Caps of the machine.
    pub quotas: Quotas,
    /// Bounds of what is queued before it.
    pub lanes: LaneLimits,
}
