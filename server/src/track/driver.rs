//! The driver: gives the track a thread, a clock and a committer, and nothing else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use singletrack_core::{
    command::{Command, Request},
    machine::Machine,
};

use super::{
    CallError, Handle, TrackConfig,
    handle::{Intake, LOT, Shared},
    lanes::Owed,
    line::OfLine,
    meters::TrackMeters,
    step::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, Inbox, Outbox, Track as Steps},
};
use crate::{
    clock::Clock,
    store::{
        Opened, StoreError,
        bodies::Bodies,
        committer::{self, CommitEvent, Committer, CommitterHandle},
    },
};

/// A running track: its thread, the committer behind it, and the way to it.
pub struct Track {
    handle: Handle,
    /// Hands back what was not told.
    thread: Option<JoinHandle<Option<OnFatal>>>,
}

/// Told once, when the track can't go on. Dropped untold only after the track was stopped, as
/// a listener may take its end for a failure.
pub type OnFatal = Box<dyn FnOnce(Fatal) + Send>;

/// Why the track can't go on. Everything not yet answered was answered OUTCOME_UNKNOWN.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug of ours in the writing half of the machine: its state can't be trusted.
    #[error("the machine panicked while a decision was carried out; this is a bug")]
    Machine,
}

/// Renewals given to one step, and the leases in them after which no more are given. One
/// renews up to a thousand.
const RENEWALS_A_STEP: usize = 256;
const RENEWED_LEASES_A_STEP: usize = 8_192;
/// The longest sleep: the heartbeat of `/livez`.
const HEARTBEAT: Duration = Duration::from_millis(1_000);

// === impl Track ===

impl Track {
    /// Recovers the machine and starts the track.
    ///
    /// `seed` is random. `on_fatal` is called on a thread of the track's.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(
        config: &TrackConfig,
        opened: Opened,
        options: committer::Options,
        clock: Clock,
        seed: u64,
        meters: (TrackMeters, committer::Meters),
        on_fatal: OnFatal,
    ) -> Result<Self, StoreError> {
        let (recovered, _reader, parts) = opened.into_parts();
        let machine = Machine::recover(
            seed,
            config.quotas,
            recovered.revision,
            &recovered.rows,
            &recovered.memory,
        );
        let shared = Arc::new(Shared::new(config.lanes, Arc::new(Bodies::default())));
        let (failures, failed) = std::sync::mpsc::sync_channel(1);
        let events = {
            let shared = Arc::clone(&shared);
            Box::new(move |event| match event {
                CommitEvent::Durable { through, .. } => {
                    shared.intake().durable = Some(through);
                    shared.wake();
                }
                CommitEvent::Releasable(through) => {
                    shared.intake().releasable = Some(through);
                    shared.wake();
                }
                CommitEvent::Failed(error) => {
                    // The first failure is the one to report; the channel holds one.
                    let _full = failures.try_send(error);
                    shared.intake().failed = true;
                    shared.wake();
                }
            })
        };
        let committer = Committer::spawn(parts, clock, options, meters.1, events)?;
        let driver = Driver {
            shared: Arc::clone(&shared),
            steps: Steps::new(machine, clock.elapsed_ms()),
            clock,
            committer,
            meters: meters.0,
            renewals_owed: Owed::default(),
        };
        let thread = std::thread::Builder::new()
            .name(String::from("track"))
            .spawn(move || driver.run(&failed, on_fatal))
            .map_err(|source| StoreError::Io { what: String::from("start a thread"), source })?;
        Ok(Self { handle: Handle::new(shared), thread: Some(thread) })
    }

    /// The way to the track.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts no more calls, finishes what is decided, and stops. Blocks until it has.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the track was told through `on_fatal`.
            let _told = thread.join();
        }
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.join();
    }
}

struct Driver {
    shared: Arc<Shared>,
    steps: Steps,
    clock: Clock,
    committer: CommitterHandle,
    meters: TrackMeters,
    /// Renewals in the lane that go before the next expiry.
    renewals_owed: Owed,
}

/// Why the loop ended.
enum End {
    Closed,
    StoreFailed,
}

// === impl Driver ===

impl Driver {
    /// `on_fatal` comes back when there was nothing to tell: it must outlive this thread, which
    /// ends long before the server does.
    fn run(
        mut self,
        failed: &std::sync::mpsc::Receiver<StoreError>,
        on_fatal: OnFatal,
    ) -> Option<OnFatal> {
        let end = catch_unwind(AssertUnwindSafe(|| self.run_until_end()));
        match end {
            Ok(End::Closed) => {
                self.shared.answer_all(&CallError::ShuttingDown);
                self.committer.close();
                return Some(on_fatal);
            }
            Ok(End::StoreFailed) => {
                let unnamed = || StoreError::OutcomeUnknown(String::from("the committer is gone"));
                self.fail(Fatal::Store(failed.try_recv().unwrap_or_else(|_| unnamed())), on_fatal);
            }
            Err(_) => self.fail(Fatal::Machine, on_fatal),
        }
        None
    }

    fn fail(self, fatal: Fatal, on_fatal: OnFatal) {
        tracing::error!(%fatal, "the track stops: nothing more is answered");
        self.shared.intake().failed = true;
        on_fatal(fatal);
        self.shared.answer_all(&CallError::OutcomeUnknown);
    }

    fn run_until_end(&mut self) -> End {
        loop {
            let Some((inbox, queued)) = self.next_inbox() else { return End::StoreFailed };
            let closing = self.shared.intake().closing;
            let Outbox { entry, answers, detached, released, tally } = self.steps.step(inbox);
            if let Some(entry) = entry
                && self.committer.submit(entry).is_err()
            {
                return End::StoreFailed;
            }
            if let Some(through) = released
                && self.committer.release(through).is_err()
            {
                return End::StoreFailed;
            }
            let mut of_lines = Vec::new();
            for (call, result) in answers {
                match OfLine::read(call) {
                    Some(of) => of_lines.push((of, result)),
                    None => self.shared.answer(call, result),
                }
            }
            self.shared.answer_lines(of_lines);
            detached.into_iter().for_each(|call| self.shared.forget(call));
            self.meters.record(tally, queued, &self.steps);
            self.shared.stepped_ms.store(self.clock.elapsed_ms(), Ordering::Relaxed);
            if closing && queued == 0 && self.steps.is_quiet() {
                return End::Closed;
            }
        }
    }

    /// Waits for something to do and takes it; `None`: the store has failed.
    fn next_inbox(&mut self) -> Option<(Inbox, usize)> {
        let shared = Arc::clone(&self.shared);
        let mut intake = shared.intake();
        if !self.has_work(&intake) {
            let idle = self.steps.idle_ms().map_or(HEARTBEAT, Duration::from_millis);
            let most = if intake.closing { Duration::from_millis(1) } else { idle };
            if !most.is_zero() {
                intake.gathers = self.steps.is_writing();
                intake = shared.wait(intake, most.min(HEARTBEAT));
            }
        }
        if intake.failed {
            return None;
        }
        let mut inbox = Inbox {
            elapsed_ms: self.clock.elapsed_ms(),
            durable: intake.durable.take(),
            releasable: intake.releasable.take(),
            gone: std::mem::take(&mut intake.gone),
            unclaimed: std::mem::take(&mut intake.unclaimed),
            ..Inbox::default()
        };
        inbox.more_renewals = self.take_renewals(&mut intake, &mut inbox.renewals);
        if self.steps.has_room_after(inbox.durable) {
            intake.commands.take(BATCH_COMMANDS_MAX, BATCH_BYTES_MAX, &mut inbox.commands);
        }
        let queued = intake.commands.len() + intake.renewals.len();
        drop(intake);
        // Whoever left before its turn wants no lease.
        inbox.commands.retain(|request| {
            let wanted = !is_acquire(request) || shared.is_awaited(request.call);
            if !wanted {
                shared.forget(request.call);
            }
            wanted
        });
        Some((inbox, queued))
    }

    /// True when renewals are left over which nothing may expire.
    fn take_renewals(&mut self, intake: &mut Intake, taken: &mut Vec<Request>) -> bool {
        let mut leases = 0;
        while taken.len() < RENEWALS_A_STEP && leases < RENEWED_LEASES_A_STEP {
            let before = taken.len();
            intake.renewals.take(1, usize::MAX, taken);
            let Some(request) = taken.get(before) else { break };
            if let Command::RenewLeases(renewals) = &request.command {
                leases += renewals.len();
            }
        }
        self.renewals_owed.note(taken.len(), intake.renewals.len())
    }

    /// Calls that are worth a step.
    fn lot(&self) -> usize {
        if self.steps.is_writing() { LOT } else { 1 }
    }

    fn has_work(&self, intake: &Intake) -> bool {
        intake.failed
            || intake.durable.is_some()
            || intake.releasable.is_some()
            || intake.renewals.len() > 0
            || !intake.gone.is_empty()
            || !intake.unclaimed.is_empty()
            || (intake.commands.len() >= self.lot() && self.steps.has_room_after(intake.durable))
    }
}

fn is_acquire(request: &Request) -> bool {
    matches!(request.command, Command::AcquireLease(_))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
