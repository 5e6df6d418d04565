//! One step of the track: `step(inbox) -> outbox`, deterministic, without thread or clock.
//!
//! Order within a step, part of the contract: charge time; what became durable; calls that
//! are gone; renewals; expiry; calls. So a renewal that arrived is never overtaken by the
//! expiry it prevents, and nobody who has left is granted anything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use singletrack_core::{
    change::{Change, Transaction},
    command::{Command, LeaseRef, Request},
    decision::{After, Answer, Decision, NOBODY},
    limits,
    machine::Machine,
    refusal::LeaseEnd,
    reply::Reply,
    session::carry::CarryCursor,
    types::{CallId, Namespace, Now, Revision},
};

use super::{CallError, time::Time};
use crate::store::{Entry, committer};

/// Entries that may be on their way to the disk at once: one that is synced, and the parts of the
/// batch that gathers behind it, which the committer then writes together.
pub const OUTSTANDING_MAX: usize = committer::OUTSTANDING_MAX;
/// Commands of one batch.
pub const BATCH_COMMANDS_MAX: usize = 512;
/// Bytes of one batch.
pub const BATCH_BYTES_MAX: usize = committer::WRITE_BYTES_MAX;
/// Bytes that gather behind the entry that is synced, before nothing more is handed over. Far more than
/// calls make of it; slices of expiries would otherwise pile up before whoever comes next.
const GATHERING_BYTES_MAX: usize = 256 << 10;
/// Waiters looked at in one slice; more follow while there is room.
const SETTLE_MAX: usize = 64;
/// Bytes that the grants of one slice may weigh.
const SETTLE_BYTES_MAX: usize = limits::SETTLE_BYTES_MAX;
/// Bytes that one slice of expiries may weigh: the last one may come on top (or a grant to one whose
/// wait ends), and the clock.
const TICK_BYTES_MAX: usize = limits::SLICE_BYTES_MAX + GRANTING_BYTES_MAX + CLOCK_BYTES_MAX;
/// Bytes that one slice of what an ended session leaves may weigh.
const SWEEP_BYTES_MAX: usize = limits::SLICE_BYTES_MAX + CLOSED_BYTES_MAX + END_BYTES_MAX;
/// Bytes that one slice of what is said again may weigh: its bound, and one transaction's replies.
const CARRY_BYTES_MAX: usize = limits::CARRY_BYTES_MAX
    + limits::OPERATIONS_MAX * (limits::HOLDER_CHARS_MAX * 4 + 48)
    + END_BYTES_MAX;
/// Bytes that the end of a lease may weigh: a grant that is returned, for one.
const END_BYTES_MAX: usize = 352;
/// Bytes that the end of a session may weigh.
const SESSION_BYTES_MAX: usize = 1_400;
/// Bytes that the clock weighs.
const CLOCK_BYTES_MAX: usize = 48;
/// Bytes that a grant may weigh: its names, its targets, its terms.
const GRANT_BYTES_MAX: usize = 160
    + limits::NAMESPACE_CHARS_MAX
    + limits::HOLDER_CHARS_MAX * 4
    + limits::TARGETS_MAX * 32
    + limits::TARGETS_BYTES_MAX
    + 64
    + limits::ACTOR_BYTES_MAX
    + limits::LABELS_MAX * 16
    + limits::LABELS_BYTES_MAX;
/// Bytes that the end of a lease may weigh that keeps its resources closed.
const CLOSED_BYTES_MAX: usize = 240 + GRANT_BYTES_MAX + limits::NAMESPACE_CHARS_MAX;
/// Bytes that granting to one waiter may weigh: ends of what dead sessions held come with it.
const GRANTING_BYTES_MAX: usize = GRANT_BYTES_MAX + limits::HOLDERS_SHOWN_MAX * END_BYTES_MAX;

const _: () = assert!(
    SETTLE_BYTES_MAX / 2 + GRANTING_BYTES_MAX <= SETTLE_BYTES_MAX,
    "a slice goes no further once it is half full"
);
const _: () = assert!(limits::NAMESPACE_CHARS_MAX + 208 < END_BYTES_MAX);
const _: () =
    assert!(limits::NAMESPACE_CHARS_MAX + limits::HOLDER_CHARS_MAX * 4 + 144 < SESSION_BYTES_MAX);
const _: () = assert!(SESSION_BYTES_MAX <= CLOSED_BYTES_MAX, "the last one that ends in a slice");
const _: () = assert!(CLOSED_BYTES_MAX <= GRANTING_BYTES_MAX, "a grant is the largest of these");
const _: () = assert!(SETTLE_BYTES_MAX + TICK_BYTES_MAX + SWEEP_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(CARRY_BYTES_MAX < BATCH_BYTES_MAX);
const _: () =
    assert!(limits::NAMESPACE_CHARS_MAX + limits::RESOURCE_BYTES_MAX + 64 < CLOSED_BYTES_MAX);
const _: () = assert!(
    limits::TRANSACTION_BYTES_MAX <= BATCH_BYTES_MAX,
    "a transaction fits into an empty batch"
);
const _: () = assert!(
    GRANTING_BYTES_MAX + CLOSED_BYTES_MAX + 256 < BATCH_BYTES_MAX,
    "an acquire or a transfer, with what is remembered of it, fits into an empty batch"
);

/// What a step is given.
#[derive(Debug, Default)]
pub struct Inbox {
    /// What the monotonic clock shows.
    pub elapsed_ms: u64,
    /// Everything up to here is durable.
    pub durable: Option<Revision>,
    /// The store would let the log go up to here.
    pub releasable: Option<Revision>,
    /// Calls whose callers are gone.
    pub gone: Vec<CallId>,
    /// Grants that reached nobody and that nobody can ask for again.
    pub unclaimed: Vec<(Namespace, LeaseRef)>,
    /// Renewals, in the order they came.
    pub renewals: Vec<Request>,
    /// More renewals have come than this step is given: nothing expires yet.
    pub more_renewals: bool,
    /// Calls, in the order of their turns, at most [`BATCH_COMMANDS_MAX`]. None while
    /// [`Track::has_room`] is false.
    pub commands: Vec<Request>,
}

/// What a step yields.
#[derive(Debug, Default, PartialEq)]
pub struct Outbox {
    /// To be made durable, after all earlier ones.
    pub entry: Option<Entry>,
    /// To leave now: what they depend on is durable.
    pub answers: Vec<(CallId, Result<Reply, CallError>)>,
    /// The log may go up to here.
    pub released: Option<Revision>,
    /// Calls that will never be answered, as they were gone before anything came of them.
    pub detached: Vec<CallId>,
    /// What there is to count.
    pub tally: Tally,
}

/// What a step did, for telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands decided, renewals included.
    pub commands: usize,
    /// Leases that ran out: not renewed, or held for as long as they might be.
    pub expiries: usize,
    /// Time stood still before this step.
    pub stalled: bool,
    /// Decisions that panicked.
    pub panics: usize,
}

/// The track.
pub struct Track {
    machine: Machine,
    time: Time,
    now: Now,
    /// What is durable.
    durable: Revision,
    /// Last revisions of the entries on their way, and what they weigh.
    outstanding: VecDeque<(Revision, usize)>,
    /// Calls that were taken and did not fit into their batch.
    backlog: VecDeque<Request>,
    /// The first of these did not fit into what had been decided before it: nothing goes before it
    /// in the next step.
    is_owed: bool,
    /// The log that the store would let go, and what has to be said again before.
    carrying: Option<Carrying>,
    /// Waiters that may still be looked at in this step, so that no batch of calls freezes the track.
    settle_left: usize,
    /// Grants to be returned; each was a call in flight, so they are as bounded as those.
    unclaimed: VecDeque<(Namespace, LeaseRef)>,
    /// The batch that is being filled.
    open: Vec<Transaction>,
    open_bytes: usize,
    /// Answers that wait, in the order decided, each with what it depends on.
    waiting: VecDeque<(Revision, CallId, Result<Reply, CallError>)>,
    /// The same for answers that depend on less than everything before them.
    early: BTreeMap<(Revision, u64), (CallId, Result<Reply, CallError>)>,
    early_count: u64,
    #[cfg(test)]
    pub(super) poison: Option<CallId>,
}

/// How far it has come that a part of the log is no longer needed.
struct Carrying {
    through: Revision,
    /// What is still to be looked at.
    next: Option<CarryCursor>,
    /// What must be durable before the log may go.
    after: Revision,
}

// === impl Track ===

impl Track {
    /// A track over a recovered machine, whose state is durable.
    #[must_use]
    pub fn new(machine: Machine, elapsed_ms: u64) -> Self {
        let mut time = Time::new(elapsed_ms);
        let now = time.charge(elapsed_ms, false).now;
        Self {
            durable: machine.state().revision(),
            machine,
            time,
            now,
            outstanding: VecDeque::new(),
            backlog: VecDeque::new(),
            is_owed: false,
            carrying: None,
            settle_left: limits::SLICE_MAX,
            unclaimed: VecDeque::new(),
            open: Vec::new(),
            open_bytes: 0,
            waiting: VecDeque::new(),
            early: BTreeMap::new(),
            early_count: 0,
            #[cfg(test)]
            poison: None,
        }
    }

    /// True while calls may be decided; else only renewals and ticks go on.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.has_room_after(None)
    }

    /// The same, once the step has heard that everything up to `durable` is.
    #[must_use]
    pub fn has_room_after(&self, durable: Option<Revision>) -> bool {
        let through = durable.unwrap_or(self.durable);
        self.may_hand_over(through) && self.backlog.is_empty()
    }

    /// Behind the entry that is synced there is room for another part of one batch.
    fn may_hand_over(&self, through: Revision) -> bool {
        let left = self.outstanding.iter().filter(|(last, _)| *last > through);
        let gathering: usize = left.clone().skip(1).map(|(_, bytes)| bytes).sum();
        left.count() < OUTSTANDING_MAX && gathering < GATHERING_BYTES_MAX
    }

    /// Milliseconds until a step has something to do by itself; `None`: only input can bring
    /// something.
    #[must_use]
    pub fn idle_ms(&self) -> Option<u64> {
        let decidable = (self.machine.is_unsettled() && self.fits(SETTLE_BYTES_MAX))
            || (self.machine.is_sweeping() && self.fits(SWEEP_BYTES_MAX))
            || (self.is_carrying() && self.fits(CARRY_BYTES_MAX))
            || (!self.unclaimed.is_empty() && self.fits(END_BYTES_MAX));
        if decidable || (!self.backlog.is_empty() && self.may_hand_over(self.durable)) {
            return Some(0);
        }
        let next = self.machine.next_deadline()?;
        let until = next.since(self.now.ms);
        // What is due and can't be written down has to wait for the disk.
        let least = if self.fits(TICK_BYTES_MAX) { 0 } else { limits::TICK_MS_MAX };
        Some(until.clamp(least, limits::TICK_MS_MAX))
    }

    /// True while an entry is on its way to the disk.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// True when nothing is decided that is not durable, and nobody waits for an answer that
    /// is.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.outstanding.is_empty()
            && self.backlog.is_empty()
            && self.unclaimed.is_empty()
            && self.open.is_empty()
            && self.waiting.is_empty()
            && self.early.is_empty()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Takes one step.
    #[must_use]
    pub fn step(&mut self, inbox: Inbox) -> Outbox {
        let mut tally = Tally::default();
        self.settle_left = limits::SLICE_MAX;
        self.charge(inbox.elapsed_ms, &mut tally);
        self.settle_durable(inbox.durable);
        let detached = self.drop_calls(&inbox.gone);
        for renewal in &inbox.renewals {
            let decided = self.decide(renewal, &mut tally);
            decided.into_iter().for_each(|decision| self.take(decision));
        }
        self.unclaimed.extend(inbox.unclaimed);
        self.note_releasable(inbox.releasable);
        if !self.is_owed {
            if !inbox.more_renewals {
                self.tick(&mut tally);
            }
            self.return_unclaimed();
            self.sweep();
            self.settle();
            self.carry();
        }
        assert!(inbox.commands.is_empty() || self.has_room(), "calls are taken only into room");
        self.backlog.extend(inbox.commands);
        self.decide_backlog(&mut tally);
        let entry = self.hand_over();
        Outbox { entry, answers: self.release(), detached, released: self.let_log_go(), tally }
    }

    fn charge(&mut self, elapsed_ms: u64, tally: &mut Tally) {
        let charged = self.time.charge(elapsed_ms, self.machine.next_deadline().is_some());
        self.now = charged.now;
        if charged.stalled {
            self.machine.stalled(self.now);
            tally.stalled = true;
        }
    }

    fn settle_durable(&mut self, durable: Option<Revision>) {
        let Some(through) = durable else { return };
        assert!(through >= self.durable, "what is durable stays durable");
        self.durable = through;
        while self.outstanding.front().is_some_and(|(last, _)| *last <= through) {
            self.outstanding.pop_front();
        }
        self.machine.durable(self.now, through);
    }

    /// Takes calls out whose callers are gone; says which of them will never be answered.
    fn drop_calls(&mut self, gone: &[CallId]) -> Vec<CallId> {
        let mut detached = Vec::new();
        for call in gone {
            let decision = self.machine.decide_drop(*call);
            if !decision.is_empty() {
                detached.push(*call);
            }
            self.take(decision);
        }
        if !self.backlog.is_empty() && !gone.is_empty() {
            let gone: BTreeSet<CallId> = gone.iter().copied().collect();
            self.backlog.retain(|request| {
                let unwanted = matches!(request.command, Command::AcquireLease(_))
                    && gone.contains(&request.call);
                if unwanted {
                    detached.push(request.call);
                }
                !unwanted
            });
        }
        detached
    }

    /// Decides calls until the batch is full. One that would overfill it is decided anew in
    /// the next: a decision that was not taken has changed nothing.
    fn decide_backlog(&mut self, tally: &mut Tally) {
        if !self.may_hand_over(self.durable) {
            return;
        }
        self.is_owed = false;
        let mut is_first = true;
        while let Some(request) = self.backlog.pop_front() {
            let Some(decision) = self.decide(&request, tally) else { continue };
            let bytes = decision.changes.iter().map(Change::weight).sum();
            if !self.open.is_empty() && !self.fits(bytes) {
                self.backlog.push_front(request);
                self.is_owed = is_first;
                return;
            }
            is_first = false;
            self.take(decision);
            self.settle();
        }
    }

    /// `None`: the decision panicked, which is answered. Nothing was written: a panic can
    /// only be in the reading half.
    fn decide(&mut self, request: &Request, tally: &mut Tally) -> Option<Decision> {
        tally.commands += 1;
        let decided = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            assert!(self.poison != Some(request.call), "poisoned by a test");
            self.machine.decide(self.now, request)
        }));
        if decided.is_err() {
            tally.panics += 1;
            self.queue_answer(After::Everything, request.call, Err(CallError::Internal));
        }
        decided.ok()
    }

    /// One slice of what time has brought, if it can be written down.
    fn tick(&mut self, tally: &mut Tally) {
        if !self.fits(TICK_BYTES_MAX) {
            return;
        }
        let decision = self.machine.decide_tick(self.now);
        tally.expiries += decision.changes.iter().filter(|change| has_run_out(change)).count();
        self.take(decision);
    }

    /// Releases grants that reached nobody, as far as they can be written down.
    fn return_unclaimed(&mut self) {
        while self.fits(END_BYTES_MAX)
            && let Some((namespace, lease)) = self.unclaimed.pop_front()
        {
            let request = Request {
                call: NOBODY,
                namespace,
                mark: None,
                origin: None,
                age_ms: 0,
                fences: Box::default(),
                command: Command::ReleaseLease(lease),
            };
            let decision = self.machine.decide(self.now, &request);
            self.take(decision);
        }
    }

    /// One slice of what ended sessions and leases leave behind, if it can be written down.
    fn sweep(&mut self) {
        if self.fits(SWEEP_BYTES_MAX)
            && let Some(decision) = self.machine.decide_sweep(self.now, limits::SLICE_MAX)
        {
            self.take(decision);
        }
    }

    fn is_carrying(&self) -> bool {
        self.carrying.as_ref().is_some_and(|carrying| carrying.next.is_some())
    }

    /// The store would let log go.
    fn note_releasable(&mut self, releasable: Option<Revision>) {
        let Some(through) = releasable else { return };
        assert!(self.carrying.is_none(), "the store asks once at a time");
        let next = Some(CarryCursor::default());
        self.carrying = Some(Carrying { through, next, after: Revision::default() });
    }

    /// One slice of what has to be said again before the store lets log go.
    fn carry(&mut self) {
        if !self.fits(CARRY_BYTES_MAX) {
            return;
        }
        let Some(Carrying { through, next: Some(next), .. }) = self.carrying else { return };
        let (decision, next) = self.machine.decide_carry(through, next);
        self.take(decision);
        let after = self.machine.state().revision();
        self.carrying = Some(Carrying { through, next, after });
    }

    /// The log up to here has nothing any more that is needed and not said elsewhere.
    fn let_log_go(&mut self) -> Option<Revision> {
        let done =
            |carrying: &mut Carrying| carrying.next.is_none() && carrying.after <= self.durable;
        self.carrying.take_if(done).map(|carrying| carrying.through)
    }

    /// Grants in the order of the queues, as far as this step may still look at waiters.
    fn settle(&mut self) {
        while self.settle_left > 0 && self.fits(SETTLE_BYTES_MAX) {
            let most = self.settle_left.min(SETTLE_MAX);
            let Some(slice) = self.machine.decide_settle(self.now, most) else { return };
            self.settle_left = self.settle_left.saturating_sub(slice.examined.max(1));
            self.take(slice.decision);
        }
    }

    const fn fits(&self, bytes: usize) -> bool {
        self.open_bytes + bytes <= BATCH_BYTES_MAX
    }

    /// Makes a decision true, and its answers wait for what they depend on.
    fn take(&mut self, mut decision: Decision) {
        self.machine.take(self.now, &decision);
        let answers = std::mem::take(&mut decision.answers);
        if let Some(transaction) = decision.transaction() {
            self.open_bytes += transaction.changes.iter().map(Change::weight).sum::<usize>();
            self.open.push(transaction);
        }
        for Answer { call, result, after } in answers {
            self.queue_answer(after, call, result.map_err(CallError::Refused));
        }
    }

    fn queue_answer(&mut self, after: After, call: CallId, result: Result<Reply, CallError>) {
        match after {
            After::Everything => {
                self.waiting.push_back((self.machine.state().revision(), call, result));
            }
            After::Revision(revision) => {
                self.early_count += 1;
                self.early.insert((revision, self.early_count), (call, result));
            }
        }
    }

    fn hand_over(&mut self) -> Option<Entry> {
        if self.open.is_empty() || !self.may_hand_over(self.durable) {
            return None;
        }
        let transactions = std::mem::take(&mut self.open);
        let bytes = std::mem::take(&mut self.open_bytes);
        let last = transactions.last().expect("not empty").commit;
        self.outstanding.push_back((last, bytes));
        Some(Entry { transactions })
    }

    /// Answers whose time has come.
    fn release(&mut self) -> Vec<(CallId, Result<Reply, CallError>)> {
        let ready = self.waiting.partition_point(|(after, _, _)| *after <= self.durable);
        let mut answers: Vec<_> =
            self.waiting.drain(..ready).map(|(_, call, result)| (call, result)).collect();
        while let Some(first) = self.early.first_entry()
            && first.key().0 <= self.durable
        {
            answers.push(first.remove());
        }
        answers
    }
}

/// A lease has ended because its time was over.
fn has_run_out(change: &Change) -> bool {
    let ended = if let Change::LeaseEnded(ended) = change {
        ended
    } else if let Change::LeaseClosed(closed) = change {
        &closed.ended
    } else {
        return false;
    };
    matches!(ended.end, LeaseEnd::Expired | LeaseEnd::MaxHold)
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
