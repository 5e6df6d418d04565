//! How the command ends: exit codes, and errors that say what to do next.
//!
//! Owns the mapping from an error to a number and to words. Prints to stderr only.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Value, json};
use singletrack::{Error, Reason, Retry};

use crate::{
    args::Format,
    explain::{error_json, write_error},
    output::clean,
};

/// The exit codes of the commands that talk to a server. `serve` has those of the server
/// crate, 78 for its configuration among them. Those above 63 are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Refused = 1,
    Usage = 64,
    Unreachable = 69,
    Internal = 70,
    Io = 74,
    TryAgain = 75,
    OutcomeUnknown = 76,
    NotAcquired = 91,
    Lost = 92,
    Deadlock = 93,
    VersionMismatch = 94,
    Interrupted = 130,
}

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed. The advice is for an unknown outcome, where there is better than the
    /// error's own.
    Call { error: Error, effect: Effect, advice: Option<String> },
    /// A call failed, and so what was to follow it was not done.
    NotDone { error: Error, exit: Exit, next_step: String },
    /// This command said no by itself.
    Said { exit: Exit, message: String, next_step: String },
    /// The answer is printed and means no, as with a stale token.
    Shown(Exit),
    /// The command that was run for the person ended with this code, which is passed on.
    Child(u8),
    /// Standard output could not be written.
    Output(io::Error),
    /// The person pressed Ctrl-C.
    Interrupted { message: String },
    /// The person pressed Ctrl-C, and the call that was under way could not be given up.
    NotAbandoned { error: Error, request_id: String },
}

/// Whether a call changes anything, so that its outcome matters when it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    /// It changes something, and to repeat it changes nothing more.
    Repeats,
    Writes,
}

// === impl Exit ===

impl Exit {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 13] = [
        Self::Ok,
        Self::Refused,
        Self::Usage,
        Self::Unreachable,
        Self::Internal,
        Self::Io,
        Self::TryAgain,
        Self::OutcomeUnknown,
        Self::NotAcquired,
        Self::Lost,
        Self::Deadlock,
        Self::VersionMismatch,
        Self::Interrupted,
    ];

    /// What the error of a call means to a script.
    pub(crate) fn of(error: &Error, effect: Effect) -> Self {
        if let Some(reason) = error.reason() {
            return Self::of_reason(reason, effect);
        }
        if error.is_from_server() {
            return Self::of_newer(error.retry(), error.may_have_happened(), effect);
        }
        if error.was_never_sent() {
            // Without a connection, or stopped here because a value was not legal.
            return if error.is_retryable() { Self::Unreachable } else { Self::Usage };
        }
        if error.may_have_happened() { Self::unknown(effect) } else { Self::Internal }
    }

    /// No answer to a call: nothing is lost by asking again, unless it had an effect of its own.
    fn unknown(effect: Effect) -> Self {
        match effect {
            Effect::Reads => Self::Unreachable,
            Effect::Repeats => Self::TryAgain,
            Effect::Writes => Self::OutcomeUnknown,
        }
    }

    fn of_reason(reason: Reason, effect: Effect) -> Self {
        match reason {
            Reason::Held
            | Reason::StillWaiting
            | Reason::CancelledWait
            | Reason::StaleFence
            | Reason::LeaseLost
            | Reason::NotHolder
            | Reason::SessionLost
            | Reason::FenceRequired
            | Reason::AlreadyDone
            | Reason::RequestIdReused
            | Reason::NotFound
            | Reason::NotACounter
            | Reason::OutOfBounds => Self::Refused,
            // A script reads again and decides anew; of the others nothing comes by that.
            Reason::VersionMismatch => Self::VersionMismatch,
            // Who asks again and again would never get it: it is to release what it holds.
            Reason::Deadlock => Self::Deadlock,
            // A number on the command line doesn't fit to what others said; waiting is no help.
            Reason::LimitMismatch | Reason::Malformed | Reason::TooLarge => Self::Usage,
            Reason::Overloaded | Reason::Quota | Reason::ShuttingDown => Self::TryAgain,
            Reason::RequestIdForgotten | Reason::OutcomeUnknown | Reason::DeadlineExceeded => {
                Self::unknown(effect)
            }
            Reason::Unimplemented | Reason::Internal => Self::Internal,
        }
    }

    fn of_newer(retry: Retry, may_have_happened: bool, effect: Effect) -> Self {
        match retry {
            _ if may_have_happened => Self::unknown(effect),
            Retry::SameRequestId => Self::unknown(effect),
            Retry::AfterDelay | Retry::Yes => Self::TryAgain,
            Retry::No | Retry::HigherLevel => Self::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

// === impl Failure ===

impl Failure {
    /// The system gives no runtime.
    pub(crate) fn no_runtime(error: &io::Error) -> Self {
        Self::Said {
            exit: Exit::Internal,
            message: format!("expected a runtime, found: {error}"),
            next_step: "check the limits of this process".to_owned(),
        }
    }

    /// For `map_err` on a call that changes nothing.
    pub(crate) fn read(error: Error) -> Self {
        Self::Call { error, effect: Effect::Reads, advice: None }
    }

    /// For `map_err` on a call that may be repeated as it is.
    pub(crate) fn repeat(error: Error, advice: &str) -> Self {
        Self::Call { error, effect: Effect::Repeats, advice: Some(advice.to_owned()) }
    }

    /// Better words for what to do when the outcome is unknown.
    pub(crate) fn advised(mut self, words: impl FnOnce(&Error) -> Option<String>) -> Self {
        if let Self::Call { error, advice, .. } = &mut self {
            *advice = words(error);
        }
        self
    }

    /// For `map_err` on a call that changes something.
    pub(crate) fn write(error: Error) -> Self {
        Self::Call { error, effect: Effect::Writes, advice: None }
    }

    /// What the process ends with.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Child(code) => ExitCode::from(*code),
            Self::Call { .. }
            | Self::NotDone { .. }
            | Self::Said { .. }
            | Self::Shown(_)
            | Self::Output(_)
            | Self::Interrupted { .. }
            | Self::NotAbandoned { .. } => self.exit().into(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Child(_) => Exit::Refused,
            Self::Call { error, effect, .. } => Exit::of(error, *effect),
            Self::NotDone { exit, .. } | Self::Said { exit, .. } | Self::Shown(exit) => *exit,
            // Whoever reads has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Output(_) => Exit::Io,
            Self::Interrupted { .. } => Exit::Interrupted,
            Self::NotAbandoned { .. } => Exit::OutcomeUnknown,
        }
    }

    /// Tells it on stderr. If that is closed too there is nobody to tell.
    pub(crate) fn report(&self, format: Format) {
        let mut out = io::stderr().lock();
        let _ = match (self, format) {
            (Self::Shown(_) | Self::Child(_), _) => Ok(()),
            (Self::Output(error), _) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            (_, Format::Table) => self.write_words(&mut out),
            (_, Format::Json) => writeln!(out, "{}", self.to_json()),
        };
    }

    fn write_words(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Call { error, advice, .. } => write_error(out, error, next_step(error, advice)),
            Self::NotDone { error, next_step, .. } => write_error(out, error, next_step),
            Self::Said { message, next_step, .. } => {
                writeln!(out, "error: {}", clean(message))?;
                writeln!(out, "  next: {}", clean(next_step))
            }
            Self::Shown(_) | Self::Child(_) => Ok(()),
            Self::Output(error) => writeln!(out, "error: could not write the output: {error}"),
            Self::Interrupted { message } => writeln!(out, "interrupted: {message}"),
            Self::NotAbandoned { error, request_id } => {
                writeln!(out, "interrupted: {}", clean(&not_abandoned(error)))?;
                writeln!(out, "  request id: {}", clean(request_id))?;
                writeln!(out, "  next: {}", clean(&abandon_step(request_id)))
            }
        }
    }

    fn to_json(&self) -> Value {
        let exit_code = self.exit() as u8;
        match self {
            Self::Call { error, advice, .. } => {
                json!({ "error": error_json(error, next_step(error, advice), exit_code) })
            }
            Self::NotDone { error, next_step, .. } => {
                json!({ "error": error_json(error, next_step, exit_code) })
            }
            Self::Said { message, next_step, .. } => json!({ "error": {
                "message": message, "next_step": next_step, "exit_code": exit_code,
            }}),
            Self::Shown(_) | Self::Child(_) => Value::Null,
            Self::Output(error) => json!({ "error": {
                "message": error.to_string(), "exit_code": exit_code,
            }}),
            Self::Interrupted { message } => json!({ "error": {
                "message": message, "exit_code": exit_code,
            }}),
            Self::NotAbandoned { error, request_id } => json!({ "error": {
                "message": not_abandoned(error), "next_step": abandon_step(request_id),
                "may_have_happened": true, "request_id": request_id, "exit_code": exit_code,
            }}),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Something to know that changes nothing. If stderr is closed there is nobody to tell.
pub(crate) fn warn(message: &str) {
    let _ = writeln!(io::stderr().lock(), "warning: {}", clean(message));
}

fn not_abandoned(error: &Error) -> String {
    format!("the acquire could not be abandoned: {}: {}", error.reason_name(), error.message())
}

fn abandon_step(request_id: &str) -> String {
    format!(
        "run `singletrack lease abandon {request_id}`; until then it may wait or hold the lease"
    )
}

/// The error's own words, unless there are better ones for an unknown outcome.
fn next_step<'a>(error: &'a Error, advice: &'a Option<String>) -> &'a str {
    match advice {
        Some(advice) if error.may_have_happened() && error.is_retryable() => advice,
        Some(_) | None => error.next_step(),
    }
}

#[cfg(test)]
mod tests {
    use singletrack::{Reason, Retry};

    use super::{Effect, Exit};

    #[test]
    fn a_reason_that_may_have_happened_never_looks_like_a_refusal() {
        for reason in Reason::ALL {
            let exit = Exit::of_reason(reason, Effect::Writes);
            let unknown = exit == Exit::OutcomeUnknown;
            assert_eq!(unknown, reason.may_have_happened(), "{reason:?}: {exit:?}");
        }
    }

    #[test]
    fn a_read_has_no_unknown_outcome() {
        for reason in Reason::ALL {
            let exit = Exit::of_reason(reason, Effect::Reads);
            assert_ne!(exit, Exit::OutcomeUnknown, "{reason:?}");
            let unreachable = exit == Exit::Unreachable;
            assert_eq!(unreachable, reason.may_have_happened(), "{reason:?}: {exit:?}");
        }
        for happened in [true, false] {
            let exit = Exit::of_newer(Retry::SameRequestId, happened, Effect::Reads);
            assert_eq!(exit, Exit::Unreachable);
        }
    }

    #[test]
    fn what_may_be_repeated_is_tried_again_when_its_outcome_is_unknown() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.may_have_happened()) {
            assert_eq!(Exit::of_reason(reason, Effect::Repeats), Exit::TryAgain, "{reason:?}");
        }
    }

    #[test]
    fn a_reason_of_a_newer_server_is_judged_by_its_advice() {
        assert_eq!(Exit::of_newer(Retry::No, true, Effect::Writes), Exit::OutcomeUnknown);
        assert_eq!(Exit::of_newer(Retry::AfterDelay, false, Effect::Writes), Exit::TryAgain);
        assert_eq!(Exit::of_newer(Retry::HigherLevel, false, Effect::Writes), Exit::Refused);
    }
}
