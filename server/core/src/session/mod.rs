//! Sessions: one liveness unit for many leases, and the identity of their operations.
//!
//! A session is not a connection: streams come and go, it lives while it is kept alive. When it
//! ends, what it holds is gone to every check at once, and is ended in slices.

pub(crate) mod admit;
pub mod carry;
pub(crate) mod end;
pub(crate) mod keep;
pub(crate) mod open;
pub(crate) mod replies;
pub(crate) mod seen;
pub(crate) mod show;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::replies::Replies;
use crate::{
    change::{SessionEnded, SessionOpened},
    types::{CallId, Ms, Token},
};

/// A session: what is durable of it, what it holds, and its clock.
pub(crate) struct Session {
    pub(crate) opened: Arc<SessionOpened>,
    pub(crate) space: u32,
    /// How it ended; `None`: it lives.
    pub(crate) ended: Option<Arc<SessionEnded>>,
    /// Nothing is left of what it held; it is kept for its replies alone.
    pub(crate) is_swept: bool,
    /// Its live leases, by token.
    pub(crate) leases: BTreeMap<Token, u32>,
    /// Who waits for leases that would be its.
    pub(crate) waiters: BTreeSet<u32>,
    pub(crate) replies: Replies,
    /// The call of its present stream.
    pub(crate) stream: Option<CallId>,
    pub(crate) generation: u64,
    /// When its ttl was last begun anew.
    pub(crate) renewed: Ms,
    /// Where it stands in the table of deadlines; [`crate::state::UNARMED`] until it is durable.
    pub(crate) armed: Ms,
}

// === impl Session ===

impl Session {
    pub(crate) const fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}
