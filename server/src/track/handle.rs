//! How callers reach the track: a cheap handle, and what it shares with the driver.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use singletrack_core::{
    command::{Command, LeaseRef, Request},
    reply::Reply,
    types::{CallId, Namespace, Revision},
};
use tokio::sync::oneshot;

use super::{CallError, Question, lanes::Lane, lanes::LaneLimits};

/// A cheap way to the track; clones share it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What callers, the driver and the committer share.
pub(super) struct Shared {
    intake: Mutex<Intake>,
    arrived: Condvar,
    callers: DashMap<CallId, Caller>,
    next_call: AtomicU64,
    /// When the last step ended, on the server's clock.
    pub(super) stepped_ms: AtomicU64,
}

/// Everything that waits for the next step.
pub(super) struct Intake {
    pub(super) renewals: Lane,
    pub(super) commands: Lane,
    /// At most one entry per call.
    pub(super) gone: Vec<CallId>,
    /// At most one entry per call.
    pub(super) unclaimed: Vec<(Namespace, LeaseRef)>,
    pub(super) durable: Option<Revision>,
    pub(super) failed: bool,
    pub(super) closing: bool,
}

/// A call that waits for its answer. It stays until it is answered or will never be, even
/// when whoever asked is gone: a grant that is on its way must not get lost.
struct Caller {
    answer: oneshot::Sender<Result<Reply, CallError>>,
    /// Where a grant is to be returned to when it reaches nobody; `None`: the caller can ask
    /// for it again by its request id.
    returns: Option<Namespace>,
}

/// A call as its caller holds it: dropping it detaches the call.
struct Attached {
    shared: Arc<Shared>,
    call: CallId,
    answer: oneshot::Receiver<Result<Reply, CallError>>,
    returns: Option<Namespace>,
    answered: bool,
}

// === impl Handle ===

impl Handle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Hands a call over and waits for its answer. Dropping the future detaches the call: a
    /// wait without a request id ends, and a grant that can't be asked for again is returned.
    ///
    /// # Errors
    /// A [`CallError`].
    pub async fn call(&self, question: Question) -> Result<Reply, CallError> {
        let mut attached = self.shared.submit(question)?;
        let answer = (&mut attached.answer).await;
        attached.answered = true;
        // The sender is dropped unanswered only when the track is gone with the call undecided
        // or its outcome unknown.
        answer.unwrap_or(Err(CallError::OutcomeUnknown))
    }

    /// Milliseconds on the server's clock at which the track last took a step. It takes one
    /// at least every second, so an old one means it is stuck.
    #[must_use]
    pub fn stepped_ms(&self) -> u64 {
        self.shared.stepped_ms.load(Ordering::Relaxed)
    }

    /// Calls that are not answered yet.
    #[cfg(test)]
    pub(super) fn caller_count(&self) -> usize {
        self.shared.callers.len()
    }

    /// Accepts no more calls: they are refused as SHUTTING_DOWN, and so is whoever waits for
    /// a lease.
    pub fn close(&self) {
        self.shared.intake().closing = true;
        self.shared.wake();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self {
            intake: Mutex::new(Intake {
                renewals: Lane::new(limits),
                commands: Lane::new(limits),
                gone: Vec::new(),
                unclaimed: Vec::new(),
                durable: None,
                failed: false,
                closing: false,
            }),
            arrived: Condvar::new(),
            callers: DashMap::new(),
            next_call: AtomicU64::new(1),
            stepped_ms: AtomicU64::new(0),
        }
    }

    /// The intake is plain data: a panic elsewhere can't have left it half changed.
    pub(super) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Waits until there is something to do, or `most` has passed.
    pub(super) fn wait<'a>(
        &self,
        intake: MutexGuard<'a, Intake>,
        most: Duration,
    ) -> MutexGuard<'a, Intake> {
        let waited = self.arrived.wait_timeout(intake, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn submit(self: &Arc<Self>, question: Question) -> Result<Attached, CallError> {
        let call = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        let returns = question.mark.is_none().then(|| question.namespace.clone());
        self.callers.insert(call, Caller { answer: sender, returns: returns.clone() });
        let request = Request {
            call,
            namespace: question.namespace,
            mark: question.mark,
            age_ms: question.age_ms,
            fences: question.fences,
            command: question.command,
        };
        if let Err(refused) = self.push(request) {
            self.callers.remove(&call);
            return Err(refused);
        }
        self.wake();
        Ok(Attached { shared: Arc::clone(self), call, answer, returns, answered: false })
    }

    fn push(&self, request: Request) -> Result<(), CallError> {
        let mut intake = self.intake();
        if intake.closing || intake.failed {
            return Err(CallError::ShuttingDown);
        }
        match request.command {
            Command::RenewLeases(_) => intake.renewals.push(request),
            Command::AcquireLease(_)
            | Command::AbandonLease { .. }
            | Command::ReleaseLease(_)
            | Command::GetLease(_)
            | Command::ListLeases { .. }
            | Command::CheckLease { .. }
            | Command::ForceReleaseLease { .. }
            | Command::Transact(_) => intake.commands.push(request),
        }
    }

    /// Does anybody wait for this call's answer?
    pub(super) fn is_awaited(&self, call: CallId) -> bool {
        self.callers.get(&call).is_some_and(|caller| !caller.answer.is_closed())
    }

    /// A call that will never be answered, as nobody waits for it.
    pub(super) fn forget(&self, call: CallId) {
        self.callers.remove(&call);
    }

    /// Answers a call; a grant that reached nobody is noted to be returned.
    pub(super) fn answer(&self, call: CallId, result: Result<Reply, CallError>) {
        let Some((_, caller)) = self.callers.remove(&call) else { return };
        if let Err(unheard) = caller.answer.send(result) {
            self.note_unclaimed(caller.returns, unheard);
        }
    }

    /// Answers every call there still is.
    pub(super) fn answer_all(&self, with: &CallError) {
        let calls: Vec<CallId> = self.callers.iter().map(|caller| *caller.key()).collect();
        for call in calls {
            self.answer(call, Err(with.clone()));
        }
    }

    fn note_unclaimed(&self, returns: Option<Namespace>, unheard: Result<Reply, CallError>) {
        if let (Some(namespace), Ok(Reply::Acquired(grant))) = (returns, unheard) {
            let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
            self.intake().unclaimed.push((namespace, lease));
            self.wake();
        }
    }
}

// === impl Attached ===

impl Drop for Attached {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.answer.close();
        if self.shared.callers.contains_key(&self.call) {
            self.shared.intake().gone.push(self.call);
            self.shared.wake();
        }
        // An answer that was on its way is here, or its sender finds the channel closed.
        if let Ok(unheard) = self.answer.try_recv() {
            self.shared.note_unclaimed(self.returns.take(), unheard);
        }
    }
}
