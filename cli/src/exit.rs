//! How the command ends: exit codes, and errors that say what to do next.
//!
//! Owns the mapping from an error to a number and to words. Prints to stderr only.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Value, json};
use singletrack::{Error, Facts, Reason, Retry};

use crate::{
    args::Format,
    duration,
    output::{clean, number},
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
    Interrupted = 130,
}

/// Why a command did not do what it was told.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed. The advice is for an unknown outcome, where there is better than the
    /// error's own.
    Call { error: Error, effect: Effect, advice: Option<String> },
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
    pub(crate) const ALL: [Self; 11] = [
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
            | Reason::RequestIdReused
            | Reason::NotFound => Self::Refused,
            Reason::Malformed | Reason::TooLarge => Self::Usage,
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
            Self::Said { exit, .. } | Self::Shown(exit) => *exit,
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

// === an error of a call, in words and as JSON ===

fn write_error(out: &mut impl Write, error: &Error, next_step: &str) -> io::Result<()> {
    writeln!(out, "error: {}: {}", clean(error.reason_name()), clean(error.message()))?;
    if let Some(facts) = error.refusal() {
        write_facts(out, facts)?;
    }
    if let Some(delay) = error.retry_after() {
        writeln!(out, "  try again after: {}", duration::show(delay))?;
    }
    if error.may_have_happened() {
        writeln!(out, "  the call may have happened all the same")?;
    }
    if let Some(request_id) = error.request_id().filter(|_| worth_repeating(error)) {
        writeln!(out, "  request id: {}", clean(request_id))?;
    }
    if !next_step.is_empty() {
        writeln!(out, "  next: {}", clean(next_step))?;
    }
    Ok(())
}

/// True when the id is what the next attempt needs.
fn worth_repeating(error: &Error) -> bool {
    error.may_have_happened() || error.reason() == Some(Reason::StillWaiting)
}

fn write_facts(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    match facts {
        Facts::Held { holders, holder_count, queue_position, .. } => {
            for by in holders {
                let (holder, left) = (clean(&by.holder), duration::show(by.remaining));
                let how = if by.shared { ", shared" } else { "" };
                writeln!(out, "  held by: {holder}, token {}{how}, {left} left", by.token)?;
            }
            let more = usize::try_from(*holder_count).unwrap_or(usize::MAX);
            if more > holders.len() {
                writeln!(out, "  held by: {} more", more - holders.len())?;
            }
            writeln!(out, "  waiting before you: {queue_position}")
        }
        Facts::StaleFence { resource, presented_token, current_token, holder, .. } => {
            writeln!(out, "  fence: {} with token {presented_token}", clean(resource))?;
            match (current_token, holder) {
                (Some(token), Some(holder)) => {
                    writeln!(out, "  current: token {token}, held by {}", clean(holder))
                }
                (Some(token), None) => writeln!(out, "  current: token {token}"),
                (None, _) => writeln!(out, "  current: none, nobody holds it"),
            }
        }
        Facts::LeaseLost { end, token, .. } => {
            writeln!(out, "  lost: token {token}, {}", end.name())
        }
        // A single one is what the message says already.
        Facts::Malformed { violations, .. } if violations.len() == 1 => Ok(()),
        Facts::Malformed { violations, .. } => violations.iter().try_for_each(|violation| {
            writeln!(out, "  {}: {}", clean(&violation.field), clean(&violation.description))
        }),
        Facts::Limit { limit, maximum, .. } => {
            writeln!(out, "  limit: {maximum} {}", clean(limit))
        }
        // The client crate may learn facts that this command has no words for.
        Facts::SessionLost { end, .. } => writeln!(out, "  session: {}", end.name()),
        _ => Ok(()),
    }
}

fn error_json(error: &Error, next_step: &str, exit_code: u8) -> Value {
    json!({
        "reason": error.reason_name(),
        "message": error.message(),
        "next_step": next_step,
        "retry": error.retry().name(),
        "may_have_happened": error.may_have_happened(),
        "from_server": error.is_from_server(),
        "retry_after_ms": error.retry_after().map(|delay| number(delay.as_millis())),
        "request_id": error.request_id(),
        "detail": error.refusal().map(facts_json),
        "exit_code": exit_code,
    })
}

fn facts_json(facts: &Facts) -> Value {
    match facts {
        Facts::Held { resource, holders, holder_count, queue_position, waited, .. } => {
            let holders: Vec<_> = holders
                .iter()
                .map(|by| {
                    json!({
                        "holder": by.holder,
                        "token": number(by.token),
                        "remaining_ms": number(by.remaining.as_millis()),
                        "shared": by.shared,
                    })
                })
                .collect();
            json!({ "held": {
                "resource": resource, "holders": holders, "holder_count": holder_count,
                "queue_position": queue_position, "waited_ms": number(waited.as_millis()),
            }})
        }
        Facts::StaleFence { index, resource, presented_token, current_token, holder, .. } => {
            json!({ "stale_fence": {
                "index": index, "resource": resource,
                "presented_token": number(*presented_token),
                "current_token": current_token.map(number), "holder": holder,
            }})
        }
        Facts::LeaseLost { end, token, .. } => {
            json!({ "lease_lost": { "end": end.name(), "token": number(*token) } })
        }
        Facts::Malformed { violations, .. } => {
            let violations: Vec<_> = violations
                .iter()
                .map(|one| json!({ "field": one.field, "description": one.description }))
                .collect();
            json!({ "malformed": { "violations": violations } })
        }
        Facts::Limit { limit, maximum, .. } => {
            json!({ "limit": { "limit": limit, "maximum": number(*maximum) } })
        }
        Facts::SessionLost { end, .. } => json!({ "end": end.name() }),
        _ => Value::Null,
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
