//! How callers reach the track: a cheap handle, and what it shares with the driver.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use singletrack_core::{
    command::{Command, LeaseRef, Origin, Request},
    reply::Reply,
    types::{CallId, Namespace, Revision},
};
use tokio::sync::oneshot;

use super::{
    CallError, Line, Question,
    fetch::{self, Filled},
    lanes::{Lane, LaneLimits},
    line::{OfLine, Sink},
};
use crate::store::bodies::Bodies;

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
    /// Streams that are open, by the number in the numbers of their calls.
    lines: DashMap<u32, Arc<Sink>>,
    next_line: AtomicU32,
    /// When the last step ended, on the server's clock.
    pub(super) stepped_ms: AtomicU64,
    /// Values that replies only name.
    pub(super) bodies: Arc<Bodies>,
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
    /// Log that the store would let go.
    pub(super) releasable: Option<Revision>,
    pub(super) failed: bool,
    pub(super) closing: bool,
    /// An entry is being written: what comes meanwhile is looked at in lots.
    pub(super) gathers: bool,
}

/// How calls that come together take their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// Renewals and keep-alives go before the others.
    ByKind,
    /// All in the order in which they came.
    InOrder,
}

/// Calls that are worth waking the track for while an entry is being written. Fewer are decided when
/// that is done: they could not be written before.
pub(super) const LOT: usize = 32;

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
        if question.command.reads_values() {
            return self.read(question).await;
        }
        self.call_once(question).await
    }

    async fn call_once(&self, question: Question) -> Result<Reply, CallError> {
        let mut attached = self.shared.submit(question)?;
        let answer = (&mut attached.answer).await;
        attached.answered = true;
        // The sender is dropped unanswered only when the track is gone with the call undecided
        // or its outcome unknown.
        answer.unwrap_or(Err(CallError::OutcomeUnknown))
    }

    /// The same, with the values that are in the store. Decided anew when one of them is gone.
    async fn read(&self, question: Question) -> Result<Reply, CallError> {
        for _ in 0..fetch::ATTEMPTS_MAX {
            let mut reply = self.call_once(question.clone()).await?;
            let wanted = fetch::fill_young(&self.shared.bodies, &mut reply);
            if wanted.is_empty() {
                return Ok(reply);
            }
            // A thread that was lost had panicked.
            let fetched = fetch::fetch(&self.shared.bodies, wanted).await;
            match fetched.map(|fetched| fetch::fill(&mut reply, fetched)) {
                Ok(Filled::Whole) => return Ok(reply),
                Ok(Filled::Gone) => {}
                Ok(Filled::Closed) => return Err(CallError::ShuttingDown),
                Ok(Filled::Failed) | Err(_) => return Err(CallError::Internal),
            }
        }
        Err(fetch::overtaken())
    }

    /// Opens a line for a stream.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::open(&self.shared)
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
    pub(super) fn new(limits: LaneLimits, bodies: Arc<Bodies>) -> Self {
        Self {
            intake: Mutex::new(Intake {
                renewals: Lane::new(limits),
                commands: Lane::new(limits),
                gone: Vec::new(),
                unclaimed: Vec::new(),
                durable: None,
                releasable: None,
                failed: false,
                closing: false,
                gathers: false,
            }),
            arrived: Condvar::new(),
            callers: DashMap::new(),
            next_call: AtomicU64::new(1),
            lines: DashMap::new(),
            next_line: AtomicU32::new(0),
            stepped_ms: AtomicU64::new(0),
            bodies,
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
            origin: question.of.map(|of| Origin { session: of.session, stream: None, seq: of.seq }),
            age_ms: question.age_ms,
            fences: question.fences,
            command: question.command,
        };
        match self.push(request) {
            Ok(true) => self.wake(),
            Ok(false) => {}
            Err(refused) => {
                self.callers.remove(&call);
                return Err(refused);
            }
        }
        Ok(Attached { shared: Arc::clone(self), call, answer, returns, answered: false })
    }

    /// True if that is worth waking the track for.
    fn push(&self, request: Request) -> Result<bool, CallError> {
        let mut intake = self.intake();
        intake.push(request, Turns::ByKind)?;
        Ok(intake.is_work())
    }

    /// Hands over the calls of a line, in this order; those that can't be taken.
    pub(super) fn push_all(
        &self,
        requests: Vec<Request>,
        turns: Turns,
    ) -> Vec<(CallId, CallError)> {
        let mut refused = Vec::new();
        let is_work = {
            let mut intake = self.intake();
            for request in requests {
                let call = request.call;
                if let Err(error) = intake.push(request, turns) {
                    refused.push((call, error));
                }
            }
            intake.is_work()
        };
        if is_work {
            self.wake();
        }
        refused
    }

    /// Finds a number for a line that is not in use.
    pub(super) fn register_line(&self, sink: &Arc<Sink>, numbers: u32) -> u32 {
        loop {
            let number = self.next_line.fetch_add(1, Ordering::Relaxed) % numbers;
            if let dashmap::Entry::Vacant(vacant) = self.lines.entry(number) {
                vacant.insert(Arc::clone(sink));
                return number;
            }
        }
    }

    /// A line is gone, and its calls with it.
    pub(super) fn drop_line(&self, number: u32, calls: Vec<CallId>) {
        self.lines.remove(&number);
        self.intake().gone.extend(calls);
        self.wake();
    }

    /// Answers calls of lines, in their order within each.
    pub(super) fn answer_lines(&self, mut answers: Vec<(OfLine, Result<Reply, CallError>)>) {
        answers.sort_by_key(|(of, _)| of.line);
        let mut answers = answers.into_iter().peekable();
        while let Some((OfLine { line, call }, result)) = answers.next() {
            let rest = std::iter::from_fn(|| {
                answers.next_if(|(of, _)| of.line == line).map(|(of, result)| (of.call, result))
            });
            let of_line = std::iter::once((call, result)).chain(rest);
            match self.lines.get(&line) {
                Some(sink) => sink.leave(of_line),
                // The stream is gone; its session will ask again.
                None => of_line.for_each(drop),
            }
        }
    }

    /// Does anybody wait for this call's answer?
    pub(super) fn is_awaited(&self, call: CallId) -> bool {
        if let Some(of) = OfLine::read(call) {
            return self.lines.contains_key(&of.line);
        }
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
        for line in &self.lines {
            line.end(with);
        }
    }

    fn note_unclaimed(&self, returns: Option<Namespace>, unheard: Result<Reply, CallError>) {
        let (Some(namespace), Ok(reply)) = (returns, unheard) else { return };
        let grants = grants(&reply);
        if !grants.is_empty() {
            let grants = grants.into_iter().map(|lease| (namespace.clone(), lease));
            self.intake().unclaimed.extend(grants);
            self.wake();
        }
    }
}

/// What a reply grants. Of a transfer too: nobody else knows the new lease's id.
fn grants(reply: &Reply) -> Vec<LeaseRef> {
    if let Reply::Acquired(grant) | Reply::Transferred(grant) = reply {
        return vec![LeaseRef { lease_id: grant.lease_id, token: grant.token }];
    }
    if let Reply::Transacted(transacted) = reply {
        return transacted.replies.iter().flat_map(grants).collect();
    }
    Vec::new()
}

// === impl Intake ===

impl Intake {
    /// Calls or renewals have come that are not to wait.
    pub(super) fn is_work(&self) -> bool {
        let least = if self.gathers { LOT } else { 1 };
        self.renewals.len() > 0 || self.commands.len() >= least
    }

    fn push(&mut self, request: Request, turns: Turns) -> Result<(), CallError> {
        if self.closing || self.failed {
            return Err(CallError::ShuttingDown);
        }
        if turns == Turns::InOrder {
            return self.commands.push(request);
        }
        match request.command {
            Command::RenewLeases(_) | Command::KeepSessionAlive(_) => self.renewals.push(request),
            Command::AcquireLease(_)
            | Command::AbandonLease { .. }
            | Command::ReleaseLease(_)
            | Command::GetLease(_)
            | Command::ListLeases { .. }
            | Command::CheckLease { .. }
            | Command::ForceReleaseLease { .. }
            | Command::TransferLease(_)
            | Command::RequestLeaseYield(_)
            | Command::AnswerLeaseYield(_)
            | Command::ListLeaseWaiters { .. }
            | Command::GetLeaseStats
            | Command::OpenSession(_)
            | Command::AttachSession(_)
            | Command::CloseSession(_)
            | Command::ListSessionLeases { .. }
            | Command::AcknowledgeReplies { .. }
            | Command::CancelWaits(_)
            | Command::GetRecord(_)
            | Command::BatchGetRecords { .. }
            | Command::ListRecords(_)
            | Command::PutRecord(_)
            | Command::IncrementRecord(_)
            | Command::DeleteRecord { .. }
            | Command::ProtectPrefix(_)
            | Command::UnprotectPrefix(_)
            | Command::ListProtections { .. }
            | Command::Transact(_) => self.commands.push(request),
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
