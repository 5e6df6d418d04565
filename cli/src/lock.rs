//! `singletrack lock`: a command that runs while a lease is held, and no longer.
//!
//! The command is stopped before the lease could be another's: SIGTERM while there is still time,
//! SIGKILL when there is hardly any.

use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal as _,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use singletrack::{Client, Error, HoldState, LeaseHandle, Reason, Transport};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    actor,
    args::{ClientArgs, Label, LockArgs},
    end,
    exit::{self, Effect, Exit, Failure},
    lease::default_holder,
    output::names,
};

/// What the command finds in its environment.
const TOKEN: &str = "SINGLETRACK_TOKEN";
const LEASE_ID: &str = "SINGLETRACK_LEASE_ID";
const DEADLINE_MS: &str = "SINGLETRACK_DEADLINE_MS";

/// The most time that a command gets between SIGTERM and SIGKILL.
const GRACE_MAX: Duration = Duration::from_secs(10);
/// How long a command may take to be gone after SIGKILL.
const KILL_TIME: Duration = Duration::from_millis(250);
/// How long giving up a wait may take when the person is in a hurry.
const GIVE_UP_TIME: Duration = Duration::from_millis(300);
/// How often the lease is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A running command and whoever it started.
struct Job {
    child: Child,
    pid: Pid,
    /// It leads a group of its own, which is signalled as a whole.
    is_group: bool,
}

/// When what has to be done about a command, before the safe deadline.
#[derive(Clone, Copy)]
struct Margins {
    /// SIGTERM this long before.
    term: Duration,
    /// SIGKILL this long before.
    kill: Duration,
}

/// Runs a command under a lease.
pub(crate) fn run(client: &ClientArgs, args: &LockArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::no_runtime(&error)),
        Ok(runtime) => runtime.block_on(async {
            let result = lock(client, args).await;
            if matches!(result, Err(Failure::Interrupted { .. })) {
                // The wait is given up in the background.
                tokio::time::sleep(GIVE_UP_TIME).await;
            }
            result
        }),
    };
    end(result, client.output)
}

async fn lock(server: &ClientArgs, args: &LockArgs) -> Result<(), Failure> {
    let client = Client::builder(&server.server)
        .namespace(&server.namespace)
        .timeout(server.timeout)
        .transport(Transport::Unary)
        .build()
        .map_err(Failure::read)?;
    let mut signals = Signals::new()?;
    let actor = match &args.actor {
        Some(given) => OsString::from(given),
        None => actor::child(actor::outer()),
    };
    let lease = tokio::select! {
        lease = acquire(&client, args, &actor) => lease?,
        signal = signals.next() => {
            return Err(Failure::Interrupted { message: format!("by {signal:?}, while waiting for the lease") });
        }
    };
    let mut job = match Job::start(args, &lease, &actor) {
        Ok(job) => job,
        Err(error) => {
            give_back(lease).await;
            return Err(Failure::Said {
                exit: Exit::Usage,
                message: format!("the command can't be run: {error}"),
                next_step: "check its name and whether it may be executed".into(),
            });
        }
    };
    let ttl = args.wish.ttl;
    let margins = Margins::of(args.wish.max_hold.map_or(ttl, |most| most.min(ttl)));
    match supervise(&mut job, &lease, margins, &mut signals).await? {
        Some(status) => {
            give_back(lease).await;
            passed_on(status)
        }
        None => Err(Failure::Said {
            exit: Exit::Lost,
            message: lost_words(&lease),
            next_step: "the command was stopped; find out how far it came before you run it again"
                .into(),
        }),
    }
}

async fn acquire(client: &Client, args: &LockArgs, actor: &OsStr) -> Result<LeaseHandle, Failure> {
    let said = &args.wish;
    let holder = said.holder.clone().unwrap_or_else(default_holder);
    let mut wish = client
        .lease_on(said.targets(&args.names))
        .holder(holder)
        .ttl(said.ttl)
        .wait(said.wait)
        .priority(said.priority)
        .lock_delay(said.lock_delay);
    // What was given is for the server to judge.
    if let Some(actor) = args.actor.clone().or_else(|| actor::told(actor)) {
        wish = wish.actor(actor);
    }
    if let Some(max_hold) = said.max_hold {
        wish = wish.max_hold(max_hold);
    }
    for Label { key, value } in &said.labels {
        wish = wish.label(key, value);
    }
    wish.acquire().await.map_err(not_acquired)
}

/// The command was not run: in what way, and what may be done about it.
fn not_acquired(error: Error) -> Failure {
    let (exit, next_step) = match error.reason() {
        Some(Reason::Held | Reason::StillWaiting) => {
            let words = "the command was not run; try again later, wait longer with --wait, or ask \
                         the holder with `singletrack lease yield`";
            (Exit::NotAcquired, words.to_owned())
        }
        Some(Reason::Deadlock | Reason::LimitMismatch) => {
            let exit = Exit::of(&error, Effect::Writes);
            (exit, format!("the command was not run; {}", error.next_step()))
        }
        Some(_) | None => return Failure::write(error),
    };
    Failure::NotDone { error, exit, next_step }
}

fn lost_words(lease: &LeaseHandle) -> String {
    let names = names(lease.targets());
    let how = match lease.end() {
        Some(end) => format!(": {}", end.name()),
        None => String::new(),
    };
    format!("the lease on `{names}` (token {}) was lost{how}", lease.token())
}

/// What is still to be told about a release is no matter of the command's.
async fn give_back(lease: LeaseHandle) {
    if let Err(error) = lease.release().await {
        exit::warn(&format!("the lease was not given back, it ends with its ttl: {error}"));
    }
}

/// The command's own end, as a shell would tell it.
fn passed_on(status: ExitStatus) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    match code.map(u8::try_from) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(Failure::Child(code)),
        Some(Err(_)) | None => Err(Failure::Child(u8::MAX)),
    }
}

/// Waits for the command's end; `None`: it was stopped, as the lease was lost.
async fn supervise(
    job: &mut Job,
    lease: &LeaseHandle,
    margins: Margins,
    signals: &mut Signals,
) -> Result<Option<ExitStatus>, Failure> {
    loop {
        let look = Instant::now() + LOOK;
        tokio::select! {
            status = job.child.wait() => return Ok(Some(status?)),
            signal = signals.next() => job.signal(signal),
            () = sleep_until(look) => {}
        }
        if lease.state() == HoldState::Lost || lease.remaining() <= margins.term {
            break;
        }
    }
    job.signal(Signal::TERM);
    // By the server's word nobody else may come before the grace is over only if there is time left.
    let kill_at = Instant::now() + lease.remaining().saturating_sub(margins.kill).min(GRACE_MAX);
    tokio::select! {
        status = job.child.wait() => {
            status?;
        }
        () = sleep_until(kill_at) => {}
    }
    // Whoever the command had started goes with it.
    job.signal(Signal::KILL);
    job.child.wait().await?;
    Ok(None)
}

// === impl Margins ===

impl Margins {
    fn of(ttl: Duration) -> Self {
        let kill = (ttl / 10).clamp(Duration::from_millis(100), KILL_TIME.max(ttl / 20));
        Self { term: (ttl / 4).min(GRACE_MAX).max(kill), kill }
    }
}

// === impl Job ===

impl Job {
    fn start(args: &LockArgs, lease: &LeaseHandle, actor: &OsStr) -> std::io::Result<Self> {
        let mut words = args.command.iter();
        let program = words.next().expect("clap demands a command");
        let mut command = Command::new(program);
        command
            .args(words)
            .env(TOKEN, lease.token().to_string())
            .env(LEASE_ID, lease.lease_id())
            .env(DEADLINE_MS, lease.remaining().as_millis().to_string())
            .env(actor::VARIABLE, actor);
        // In a group of its own it would be stopped at its first look at the terminal.
        let is_group = !std::io::stdin().is_terminal();
        if is_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("the command has no process id"))?;
        Ok(Self { child, pid, is_group })
    }

    fn signal(&self, signal: Signal) {
        // One that is gone needs none.
        let _gone = if self.is_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }
}

/// Signals that are passed on to the command.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}
