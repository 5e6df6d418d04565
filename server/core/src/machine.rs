//! The machine: one `match` over commands, and the order in which a decision becomes true.
//!
//! `decide` and its kin read and never write; [`Machine::take`] writes and never refuses.

use crate::{
    change::Change,
    command::{Command, Request},
    deadline::Due,
    decision::{After, Answer, Decision, Draft, NOBODY},
    lease::{self, wait::Slice},
    limits::{self, Quotas},
    motion::Motion,
    overlay::View,
    record,
    refusal::Refusal,
    reply::Reply,
    session::{
        self,
        admit::Admission,
        carry::{self, CarryCursor},
    },
    state::State,
    transact,
    types::{CallId, Ms, Now, Revision},
};

/// A slice of granting to waiters.
#[derive(Debug)]
pub struct Settling {
    /// What it comes to.
    pub decision: Decision,
    /// How many claims of waiters were looked at.
    pub examined: usize,
}

/// State and the laws that move it.
pub struct Machine {
    state: State,
}

impl Machine {
    /// An empty machine. `seed` is random, drawn outside: it keeps callers from choosing
    /// names that collide in hash tables. It has no influence on any outcome.
    #[must_use]
    pub fn new(seed: u64, quotas: Quotas) -> Self {
        Self { state: State::new(seed, quotas) }
    }

    /// A machine as it was: `rows` are the durable rows by key, `memory` what replay memory
    /// is rebuilt from, `revision` where the counter stands. Every lease has its full ttl
    /// again, from time 0.
    #[must_use]
    pub fn recover<'a>(
        seed: u64,
        quotas: Quotas,
        revision: Revision,
        rows: impl IntoIterator<Item = &'a Change>,
        memory: impl IntoIterator<Item = &'a Change>,
    ) -> Self {
        let mut machine = Self::new(seed, quotas);
        let state = &mut machine.state;
        for row in rows {
            state.absorb(Ms(0), row);
        }
        for change in memory {
            state.recall(Ms(0), change);
        }
        state.absorb(Ms(0), &Change::Started { revision });
        assert!(state.revision == revision, "the start entry is the newest of all");
        state.floors.record(Ms(0));
        state.start_over();
        // Numbers of requests to yield are not used again, nor 0.
        state.next_seq = revision.0;
        state.start_deadlines(Ms(0), revision);
        machine
    }

    /// Decides what a request comes to. Changes nothing.
    #[must_use]
    pub fn decide(&self, now: Now, request: &Request) -> Decision {
        let mut draft = Draft::new(self.state.revision);
        let mut after = After::Everything;
        let view = View::plain(&self.state, &request.namespace, now.ms);
        match session::admit::admit(view, request) {
            Admission::Decided => {}
            Admission::Dropped => return draft.decision,
            Admission::Refused(refusal) => {
                return conclude(draft, request.call, Err(refusal), after);
            }
        }
        let outcome = match &request.command {
            Command::AcquireLease(acquire) => {
                lease::acquire::decide(view, request, acquire, &mut draft)
            }
            Command::AbandonLease { abandoned, of } => {
                lease::end::abandon(view, *abandoned, *of, &mut draft).map(Some)
            }
            Command::RenewLeases(renewals) => {
                let (reply, depends) = lease::keep::decide(view, renewals, &mut draft);
                after = depends;
                Ok(Some(reply))
            }
            Command::ReleaseLease(lease) => {
                lease::end::release(view, request, *lease, &mut draft).map(Some)
            }
            Command::GetLease(key) => lease::show::get(view, key).map(Some),
            Command::ListLeases { after, count, filter } => {
                Ok(Some(lease::show::list(view, *after, *count, filter)))
            }
            Command::CheckLease { resource, token } => {
                Ok(Some(lease::show::check(view, resource, *token)))
            }
            Command::ForceReleaseLease { resource, token } => {
                lease::end::force(view, request, resource, *token, &mut draft).map(Some)
            }
            Command::TransferLease(transfer) => {
                lease::transfer::decide(view, request, transfer, &mut draft).map(Some)
            }
            Command::RequestLeaseYield(asked) => {
                lease::yields::request(view, asked, &mut draft).map(Some)
            }
            Command::AnswerLeaseYield(said) => {
                lease::yields::answer(view, said, &mut draft).map(Some)
            }
            Command::ListLeaseWaiters { after, count } => {
                Ok(Some(lease::show::waiters(view, *after, *count)))
            }
            Command::GetLeaseStats => Ok(Some(lease::show::stats(view))),
            Command::OpenSession(open) => session::open::open(view, open, &mut draft).map(Some),
            Command::AttachSession(id) => {
                session::open::attach(view, *id, request.call, &mut draft).map(Some)
            }
            Command::KeepSessionAlive(id) => {
                let (result, depends) = session::keep::keep_alive(view, *id, &mut draft);
                after = depends;
                result.map(Some)
            }
            Command::CloseSession(id) => session::end::close(view, *id, &mut draft).map(Some),
            Command::ListSessionLeases { session, after, count } => {
                session::show::list(view, *session, *after, *count).map(Some)
            }
            Command::AcknowledgeReplies { session, below, seen } => {
                session::keep::acknowledge(view, *session, *below, seen, &mut draft);
                Ok(None)
            }
            Command::CancelWaits(calls) => {
                session::keep::cancel(&self.state, calls, &mut draft);
                Ok(None)
            }
            Command::GetRecord(key) => record::show::get(view, key).map(Some),
            Command::BatchGetRecords { keys, max_bytes } => {
                Ok(Some(record::show::batch_get(view, keys, *max_bytes)))
            }
            Command::ListRecords(list) => Ok(Some(record::show::list(view, list))),
            Command::PutRecord(put) => {
                record::put::decide(view, request, put, &mut draft).map(Some)
            }
            Command::IncrementRecord(increment) => {
                record::increment::decide(view, request, increment, &mut draft).map(Some)
            }
            Command::DeleteRecord { key, expect } => {
                record::end::delete(view, request, key, *expect, &mut draft).map(Some)
            }
            Command::ProtectPrefix(protect) => {
                record::protect::protect(view, request, protect, &mut draft).map(Some)
            }
            Command::UnprotectPrefix(protect) => {
                record::protect::unprotect(view, request, protect, &mut draft).map(Some)
            }
            Command::ListProtections { key, after, count } => {
                Ok(Some(record::show::protections(view, key.as_ref(), after.as_deref(), *count)))
            }
            Command::Transact(transact) => {
                transact::decide(view, request, transact, &mut draft).map(Some)
            }
        };
        conclude(draft, request.call, outcome, after)
    }

    /// Decides what time has brought: at most one slice of expiries, ends of waits and
    /// forgetting. Empty when nothing is due, however often it is asked.
    #[must_use]
    pub fn decide_tick(&self, now: Now) -> Decision {
        let state = &self.state;
        let mut draft = Draft::new(state.revision);
        let due = || state.deadlines.due(now.ms).take(limits::SLICE_MAX).map(|(_, due)| due);
        let (mut sessions, mut claims) = (0, 0);
        for due in due() {
            if draft.weight() > limits::SLICE_BYTES_MAX || claims > limits::SLICE_MAX {
                break;
            }
            if let Due::Lease(lease) = due {
                claims += state.lease(lease).granted.claims().len();
            }
            sessions += usize::from(matches!(due, Due::Session(_)));
            if sessions > limits::SESSIONS_SLICE_MAX {
                break;
            }
            match due {
                Due::Lease(lease) => lease::end::expire(state, now.ms, lease, &mut draft),
                Due::Keep(waiter) => draft.motion(Motion::WaiterDropped { waiter }),
                Due::Session(slot) => session::end::expire(state, now.ms, slot, &mut draft),
                Due::Record(slot) => record::end::expire(state, now.ms, slot, &mut draft),
                Due::Wait(_) => {}
            }
        }
        // What has just run out is given away before a wait of the same moment ends.
        if draft.decision.changes.is_empty() {
            let mut waits = 0;
            for due in due() {
                if let Due::Wait(waiter) = due {
                    lease::wait::end_waits(state, now.ms, waiter, &mut draft);
                    waits += 1;
                }
                let is_much = draft.weight() > limits::SLICE_BYTES_MAX;
                if is_much || waits == limits::WAITS_SLICE_MAX {
                    break;
                }
            }
        }
        if state.clock_due().is_some_and(|due| due <= now.ms) {
            let at = state.durable_now(now.ms);
            let revision = draft.shared_revision();
            draft.change(Change::TimePassed { at, revision });
        }
        let count = state.memory.due(now.ms, limits::SLICE_MAX);
        if count > 0 {
            draft.motion(Motion::Forgotten { count });
        }
        draft.decision
    }

    /// Decides that a call is gone: nobody waits for its answer.
    #[must_use]
    pub fn decide_drop(&self, call: CallId) -> Decision {
        let mut draft = Draft::new(self.state.revision);
        lease::wait::drop_call(&self.state, call, &mut draft);
        draft.decision
    }

    /// Decides who can now be granted where something has changed; `None`: all is settled. At most
    /// `most` claims of waiters are looked at (one waiter more); the rest is decided when asked again.
    #[must_use]
    pub fn decide_settle(&self, now: Now, most: usize) -> Option<Settling> {
        let mark = self.state.unsettled.front()?;
        let mut draft = Draft::new(self.state.revision);
        draft.motion(Motion::Settled);
        let mut slice = Slice::new(most);
        lease::wait::settle(&self.state, now.ms, *mark, &mut slice, &mut draft);
        Some(Settling { decision: draft.decision, examined: slice.examined })
    }

    /// Decides one slice of what ended sessions and leases leave behind: at most `most` ends;
    /// `None`: they leave nothing.
    #[must_use]
    pub fn decide_sweep(&self, now: Now, most: usize) -> Option<Decision> {
        let draft = session::end::sweep(&self.state, now.ms, most)
            .or_else(|| record::end::sweep(&self.state, most));
        draft.map(|draft| draft.decision)
    }

    /// Decides what has to be said again before the log up to and including `through` may go:
    /// one slice, and where the next begins; `None`: that was all.
    #[must_use]
    pub fn decide_carry(
        &self,
        through: Revision,
        at: CarryCursor,
    ) -> (Decision, Option<CarryCursor>) {
        let mut draft = Draft::new(self.state.revision);
        let next = carry::carry(&self.state, through, at, &mut draft);
        (draft.decision, next)
    }

    /// True while ended sessions or leases leave anything behind.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        !self.state.ending.is_empty() || !self.state.orphaned.is_empty()
    }

    /// Makes a decision true. It must be the last one this machine made.
    pub fn take(&mut self, now: Now, decision: &Decision) {
        // Where waiters were looked at is settled, unless what follows unsettles it again.
        let is_settling = decision.motions.first() == Some(&Motion::Settled);
        let (before, after) = decision.motions.split_at(usize::from(is_settling));
        for motion in before {
            self.state.shift(now.ms, motion);
        }
        for change in &decision.changes {
            self.state.absorb(now.ms, change);
        }
        for motion in after {
            self.state.shift(now.ms, motion);
        }
    }

    /// Everything up to and including `through` is durable: deadlines of these grants begin.
    pub fn durable(&mut self, now: Now, through: Revision) {
        self.state.start_deadlines(now.ms, through);
    }

    /// Time stood still before this moment, and holders could not renew.
    pub fn stalled(&mut self, now: Now) {
        self.state.floors.record(now.ms);
    }

    /// When [`Self::decide_tick`] will next have something to do; `None`: not by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ms> {
        let memory = self.state.memory.next_deadline();
        let clock = self.state.clock_due();
        self.state.deadlines.next().into_iter().chain(memory).chain(clock).min()
    }

    /// True while some resource is to be settled.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        !self.state.unsettled.is_empty()
    }

    /// What the machine knows.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }
}

/// Adds the caller's own answer; a refusal leaves nothing of the draft but motions that
/// belong to the refusal itself.
fn conclude(
    draft: Draft,
    call: CallId,
    outcome: Result<Option<Reply>, Refusal>,
    after: After,
) -> Decision {
    let mut decision = draft.decision;
    let result = match outcome {
        Ok(None) => return decision,
        Ok(Some(reply)) => Ok(reply),
        Err(refusal) => {
            decision.changes.clear();
            decision.answers.clear();
            decision.motions.retain(|motion| matches!(motion, Motion::WaiterKept { .. }));
            Err(refusal)
        }
    };
    if call != NOBODY {
        decision.answers.push(Answer { call, result, after });
    }
    decision
}
