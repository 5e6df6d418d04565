//! What `decide` yields, and the draft it is written on.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    change::{Change, Transaction},
    limits,
    motion::Motion,
    overlay::View,
    refusal::{Cap, Refusal, StaleFence},
    reply::Reply,
    types::{CallId, Revision, Token},
};

/// What a decision comes to. Nothing of it has happened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whom to tell what. Each call gets one answer in its life; a call that waits has none
    /// yet.
    pub answers: Vec<Answer>,
    /// Durable as one, before any answer that depends on them leaves.
    pub changes: Vec<Change>,
    /// Never logged.
    pub motions: Vec<Motion>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// To whom; [`NOBODY`]: to nobody.
    pub call: CallId,
    /// What.
    pub result: Result<Reply, Refusal>,
    /// What must be durable BEFORE it leaves.
    pub after: After,
}

/// What an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Everything decided so far, this decision included: the default.
    Everything,
    /// Everything up to this revision: renewals, which a sync in flight must not hold up.
    Revision(Revision),
}

/// The call of commands that nobody waits for.
pub const NOBODY: CallId = CallId(0);

/// The outcome of one operation: a reply, or a wait that has begun (`None`).
pub(crate) type Outcome = Result<Option<Reply>, Refusal>;

/// What an operation writes on while it is decided. Dropped unread when it is refused.
pub(crate) struct Draft {
    pub(crate) decision: Decision,
    last: Revision,
    weight: usize,
}

// === impl Decision ===

impl Decision {
    /// True when nothing came of it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.changes.is_empty() && self.motions.is_empty()
    }

    /// The changes as what the log keeps; `None`: there are none.
    #[must_use]
    pub fn transaction(&mut self) -> Option<Transaction> {
        let commit = self.changes.last()?.revision();
        Some(Transaction { commit, changes: core::mem::take(&mut self.changes) })
    }
}

impl Answer {
    pub(crate) const fn new(call: CallId, result: Result<Reply, Refusal>) -> Self {
        Self { call, result, after: After::Everything }
    }
}

// === impl Draft ===

impl Draft {
    pub(crate) fn new(last: Revision) -> Self {
        Self { decision: Decision::default(), last, weight: 0 }
    }

    /// Takes the next revision, for a change that people can name.
    pub(crate) fn take_revision(&mut self) -> Revision {
        self.last = self.last.next();
        self.last
    }

    /// The last revision this decision took, or the first it takes.
    pub(crate) fn shared_revision(&mut self) -> Revision {
        if self.decision.changes.is_empty() { self.take_revision() } else { self.last }
    }

    pub(crate) fn change(&mut self, change: Change) {
        assert!(change.revision() <= self.last, "a change takes its revision from the draft");
        self.weight += change.weight();
        self.decision.changes.push(change);
    }

    /// It ends this lease.
    pub(crate) fn has_ended(&self, token: Token) -> bool {
        self.decision.changes.iter().any(|change| match change {
            Change::LeaseEnded(ended) => ended.token == token,
            Change::LeaseClosed(closed) => closed.granted.token == token,
            Change::Started { .. }
            | Change::RequestRemembered(_)
            | Change::RequestAbandoned { .. }
            | Change::SessionOpened(_)
            | Change::SessionEnded(_)
            | Change::SessionSwept { .. }
            | Change::SessionFloored { .. }
            | Change::TimePassed { .. }
            | Change::LeaseGranted(_)
            | Change::LeaseReopened { .. }
            | Change::RecordWritten(_)
            | Change::RecordDeleted(_)
            | Change::PrefixProtected(_)
            | Change::PrefixUnprotected(_) => false,
        })
    }

    /// The last revision this decision took, or of before it.
    pub(crate) const fn last(&self) -> Revision {
        self.last
    }

    /// Bytes of the changes so far, at most.
    pub(crate) const fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn motion(&mut self, motion: Motion) {
        self.decision.motions.push(motion);
    }

    pub(crate) fn answer(&mut self, call: CallId, result: Result<Reply, Refusal>) {
        self.decision.answers.push(Answer::new(call, result));
    }
}

// === checks that every noun shares ===

/// All fences hold, or the first that doesn't is the refusal.
pub(crate) fn check_fences(view: View<'_>, fences: &[crate::fence::Fence]) -> Result<(), Refusal> {
    for (index, fence) in fences.iter().enumerate() {
        let crate::fence::FenceTarget::Resource(resource) = &fence.target;
        if view.holder(resource, fence.token).is_some() {
            continue;
        }
        let newest = view.newest_holder(resource);
        return Err(Refusal::StaleFence(Box::new(StaleFence {
            index: u32::try_from(index).expect("fences are few"),
            resource: resource.clone(),
            presented: fence.token,
            current: newest.map(|known| (known.granted.token, known.granted.holder.clone())),
        })));
    }
    Ok(())
}

/// One more of something fits under its cap.
pub(crate) fn check_cap(cap: Cap, used: u64, added: u64, maximum: u64) -> Result<(), Refusal> {
    if used.saturating_add(added) > maximum { Err(Refusal::Quota { cap, maximum }) } else { Ok(()) }
}

/// An unknown request id may be executed only while it can't have been forgotten.
pub(crate) fn check_age(age_ms: u64) -> Result<(), Refusal> {
    if age_ms > limits::FORGOTTEN_AGE_MS { Err(Refusal::RequestIdForgotten) } else { Ok(()) }
}
