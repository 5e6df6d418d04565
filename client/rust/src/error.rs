//! The one error of this client: what was refused, and what it means to the caller.
//!
//! Owns the decoding of gRPC statuses. Refuses to read the text of a message for meaning: that
//! comes from the typed details, or from the gRPC code where there are none.

use std::{error::Error as _, fmt, time::Duration};

use prost::{Message, Name};
use singletrack_proto::{DOMAIN, Reason, Retry, v1};
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::pb;

use crate::{
    Deadlock, Facts, FenceRequired, FieldViolation, Held, LeaseEnd, LimitMismatch, OutOfBounds,
    VersionMismatch,
};

/// Why a call has no result.
///
/// It shows itself as `REASON: message; next step`.
#[derive(Clone, Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    origin: Origin,
    code: Code,
    reason: Option<Reason>,
    reason_name: String,
    retry: Retry,
    may_have_happened: bool,
    retry_after: Option<Duration>,
    message: String,
    next_step: String,
    facts: Option<Facts>,
    part: Option<Part>,
    request_id: Option<String>,
}

/// Which part of a transaction was refused, by its index.
#[derive(Clone, Copy, Debug)]
enum Part {
    Condition(u32),
    Operation(u32),
}

/// Whose word an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server's own, with its details.
    Server,
    /// The transport's, after the call may have left.
    Transport,
    /// The transport's, which never had a connection to send the call on.
    Unconnected,
    /// This client's own, before or instead of sending.
    Client,
}

/// The typed details of a status.
#[derive(Default)]
struct Details {
    info: Option<pb::ErrorInfo>,
    refusal: Option<v1::Refusal>,
    retry_delay: Option<Duration>,
    violations: Vec<FieldViolation>,
}

// === impl Error: what a caller may ask ===

impl Error {
    /// The server's reason. `None` for a transport's error, or for a reason that this version
    /// doesn't know: see [`Error::reason_name`] then.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.inner.reason
    }

    /// The name of the reason as it was sent, or the name of the gRPC code in its place.
    #[must_use]
    pub fn reason_name(&self) -> &str {
        &self.inner.reason_name
    }

    /// The gRPC status code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// How the call may be tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.inner.retry
    }

    /// True if the very same call may be sent again: with the same [`Error::request_id`] when
    /// it may have happened, and after [`Error::retry_after`] where that is given.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.inner.retry {
            Retry::Yes | Retry::AfterDelay | Retry::SameRequestId => true,
            Retry::No | Retry::HigherLevel => false,
        }
    }

    /// True if the call could have taken effect all the same.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.inner.may_have_happened
    }

    /// True if a Singletrack server said it, false if something on the way did.
    #[must_use]
    pub fn is_from_server(&self) -> bool {
        self.inner.origin == Origin::Server
    }

    /// True if no connection could be made, so that the call never left.
    #[must_use]
    pub fn was_never_sent(&self) -> bool {
        match self.inner.origin {
            Origin::Unconnected | Origin::Client => true,
            Origin::Server | Origin::Transport => false,
        }
    }

    /// What happened, in words. Not for matching.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do next, in words.
    #[must_use]
    pub fn next_step(&self) -> &str {
        &self.inner.next_step
    }

    /// The facts of a refusal: who holds it, which token is current, which field is wrong.
    #[must_use]
    pub fn refusal(&self) -> Option<&Facts> {
        self.inner.facts.as_ref()
    }

    /// Who stands in the way: of `HELD` and `STILL_WAITING`.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        match self.refusal() {
            Some(Facts::Held(held)) => Some(held),
            Some(_) | None => None,
        }
    }

    /// The cycle that the wait would have closed: of `DEADLOCK`.
    #[must_use]
    pub fn deadlock(&self) -> Option<&Deadlock> {
        match self.refusal() {
            Some(Facts::Deadlock(deadlock)) => Some(deadlock),
            Some(_) | None => None,
        }
    }

    /// How many permits there are in truth: of `LIMIT_MISMATCH`.
    #[must_use]
    pub fn limit_mismatch(&self) -> Option<&LimitMismatch> {
        match self.refusal() {
            Some(Facts::LimitMismatch(mismatch)) => Some(mismatch),
            Some(_) | None => None,
        }
    }

    /// What the record is instead: of `VERSION_MISMATCH`.
    #[must_use]
    pub fn version_mismatch(&self) -> Option<&VersionMismatch> {
        match self.refusal() {
            Some(Facts::VersionMismatch(mismatch)) => Some(mismatch),
            Some(_) | None => None,
        }
    }

    /// What protects the record: of `FENCE_REQUIRED`.
    #[must_use]
    pub fn fence_required(&self) -> Option<&FenceRequired> {
        match self.refusal() {
            Some(Facts::FenceRequired(required)) => Some(required),
            Some(_) | None => None,
        }
    }

    /// The bounds, one of which would be crossed: of `OUT_OF_BOUNDS`.
    #[must_use]
    pub fn out_of_bounds(&self) -> Option<&OutOfBounds> {
        match self.refusal() {
            Some(Facts::OutOfBounds(bounds)) => Some(bounds),
            Some(_) | None => None,
        }
    }

    /// Of a transaction: index of the condition that did not hold, from 0.
    #[must_use]
    pub fn condition_index(&self) -> Option<u32> {
        match self.inner.part {
            Some(Part::Condition(index)) => Some(index),
            Some(Part::Operation(_)) | None => None,
        }
    }

    /// Of a transaction: index of the operation that was refused, from 0.
    #[must_use]
    pub fn operation_index(&self) -> Option<u32> {
        match self.inner.part {
            Some(Part::Operation(index)) => Some(index),
            Some(Part::Condition(_)) | None => None,
        }
    }

    /// How the lease ended: of `LEASE_LOST`.
    #[must_use]
    pub fn lease_end(&self) -> Option<LeaseEnd> {
        match self.refusal() {
            Some(Facts::LeaseLost { end, .. }) => Some(*end),
            Some(_) | None => None,
        }
    }

    /// How long to wait before the next attempt, where the server said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The id under which the call was sent: the one to repeat it with.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.inner.request_id.as_deref()
    }
}

// === impl Error: where one comes from ===

impl Error {
    /// A call that this client did not send.
    pub(crate) fn usage(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::plain(Origin::Client, Code::InvalidArgument, Retry::No, false, message, next_step)
    }

    /// A call that the server would refuse for its size, and with it everything beside it.
    pub(crate) fn too_large(found: usize, most: usize) -> Self {
        let mut error = Self::usage(
            format!("expected an operation of at most {most} bytes, found {found}"),
            "make the call smaller",
        );
        error.inner.reason = Some(Reason::TooLarge);
        Reason::TooLarge.name().clone_into(&mut error.inner.reason_name);
        error
    }

    /// It is the server's judgement of the request id: an earlier attempt under the same one did
    /// not happen, or this would have been another answer.
    pub(crate) fn answers_for_earlier(&self) -> bool {
        self.is_from_server()
            && !self.may_have_happened()
            && self.reason().is_some_and(Reason::answers_for_earlier)
    }

    /// An answer that makes no sense, so the two versions don't fit.
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        let next_step = "compare the versions of client and server";
        Self::plain(Origin::Transport, Code::Internal, Retry::No, true, message, next_step)
    }

    /// An earlier attempt of the same call may have happened, whatever became of this one.
    pub(crate) fn or_earlier(mut self, happened: bool) -> Self {
        if happened && !self.inner.may_have_happened {
            self.inner.may_have_happened = true;
            if self.inner.retry == Retry::Yes {
                self.inner.retry = Retry::SameRequestId;
            }
        }
        self
    }

    /// The session went away under a call that may or may not have happened.
    pub(crate) fn session_gone(message: impl Into<String>) -> Self {
        let next_step = "look at what the call was to change before you do it again";
        let (code, retry) = (Code::FailedPrecondition, Retry::No);
        Self::plain(Origin::Transport, code, retry, true, message, next_step)
    }

    /// A lease or a session that the server says is lost.
    pub(crate) fn lost(refusal: v1::Refusal) -> Self {
        Self::from_refusal(refusal)
    }

    /// A lease that has ended, and how, where that is known.
    pub(crate) fn lease_lost(lost: Option<v1::LeaseLostDetail>) -> Self {
        Self::lost(v1::Refusal {
            reason: v1::RefusalReason::LeaseLost.into(),
            message: "the lease has ended".into(),
            next_step: "stop what it protected".into(),
            detail: lost.map(v1::refusal::Detail::LeaseLost),
            ..Default::default()
        })
    }

    /// Another writer was first each time: `self` is what the last attempt met.
    pub(crate) fn outrun(mut self, attempts: u32) -> Self {
        self.inner.message = format!(
            "expected to write within {attempts} attempts, found another writer first each time: {}",
            self.inner.message
        );
        "allow more attempts, or hold a lease while you read and write"
            .clone_into(&mut self.inner.next_step);
        self
    }

    /// The time limit of the call passed here.
    pub(crate) fn deadline_passed() -> Self {
        let mut error = Self::plain(
            Origin::Transport,
            Code::DeadlineExceeded,
            Retry::SameRequestId,
            true,
            "expected an answer before the deadline, found none",
            "repeat the call with the same request_id, and allow it more time",
        );
        error.inner.reason = Some(Reason::DeadlineExceeded);
        error
    }

    fn plain(
        origin: Origin,
        code: Code,
        retry: Retry,
        may_have_happened: bool,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        let inner = Inner {
            origin,
            code,
            reason: None,
            reason_name: code_name(code).to_owned(),
            retry,
            may_have_happened,
            retry_after: None,
            message: message.into(),
            next_step: next_step.into(),
            facts: None,
            part: None,
            request_id: None,
        };
        Self { inner: Box::new(inner) }
    }

    /// Notes the id under which the call was sent.
    pub(crate) fn sent_as(mut self, request_id: &str) -> Self {
        self.inner.request_id = Some(request_id.to_owned());
        self
    }

    /// Reads a status: the server's details if it has any, else by its origin and code.
    pub(crate) fn from_status(status: Status) -> Self {
        let details = Details::read(status.details());
        match &details.info {
            Some(info) if info.domain == DOMAIN => Self::from_server(&status, details),
            Some(_) | None => Self::from_transport(&status),
        }
    }

    /// Reads one item's refusal in an answer that is OK as a whole.
    pub(crate) fn from_refusal(refusal: v1::Refusal) -> Self {
        let reason = Reason::from_wire(refusal.reason());
        let code = reason.map_or(Code::Unknown, Reason::code);
        let retry = reason.map_or(Retry::No, Reason::retry);
        let happened = reason.is_none_or(Reason::may_have_happened);
        let mut error = Self::plain(Origin::Server, code, retry, happened, "", "");
        error.inner.reason = reason;
        if let Some(reason) = reason {
            reason.name().clone_into(&mut error.inner.reason_name);
        }
        error.fill(refusal);
        error
    }

    fn from_server(status: &Status, details: Details) -> Self {
        let info = details.info.unwrap_or_default();
        let reason = Reason::from_name(&info.reason);
        let (retry, happened) = match reason {
            Some(reason) => (reason.retry(), reason.may_have_happened()),
            None => advice_of_newer(status.code(), &info),
        };
        let next_step = "see the reason in the documentation of the server's version";
        let mut error =
            Self::plain(Origin::Server, status.code(), retry, happened, status.message(), "");
        error.inner.reason = reason;
        error.inner.reason_name = info.reason;
        if !details.violations.is_empty() {
            error.inner.facts = Some(Facts::Malformed { violations: details.violations });
        }
        if let Some(refusal) = details.refusal {
            error.fill(refusal);
        }
        if details.retry_delay.is_some() {
            error.inner.retry_after = details.retry_delay;
        }
        if error.inner.next_step.is_empty() {
            next_step.clone_into(&mut error.inner.next_step);
        }
        error
    }

    fn from_transport(status: &Status) -> Self {
        if caused_by::<TimeoutExpired>(status) || status.code() == Code::DeadlineExceeded {
            return Self::deadline_passed();
        }
        let message = innermost(status);
        if caused_by::<ConnectError>(status) {
            return Self::plain(
                Origin::Unconnected,
                Code::Unavailable,
                Retry::Yes,
                false,
                format!("expected a server, found no connection: {message}"),
                "check that the server runs and that the address is right",
            );
        }
        let (retry, happened) = advice_of_code(status.code());
        let next_step = if happened {
            "repeat the call with the same request_id to learn its outcome"
        } else {
            "check that the address is that of a singletrack server"
        };
        Self::plain(Origin::Transport, status.code(), retry, happened, message, next_step)
    }

    fn fill(&mut self, refusal: v1::Refusal) {
        let inner = &mut self.inner;
        if refusal.retry_after_ms > 0 {
            inner.retry_after = Some(Duration::from_millis(refusal.retry_after_ms));
        }
        inner.part = match (refusal.condition_index, refusal.operation_index) {
            (Some(index), _) => Some(Part::Condition(index)),
            (None, Some(index)) => Some(Part::Operation(index)),
            (None, None) => None,
        };
        inner.next_step = refusal.next_step;
        if !refusal.message.is_empty() {
            inner.message = refusal.message;
        }
        if let Some(detail) = refusal.detail {
            inner.facts = Some(Facts::from_wire(detail));
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.reason_name, self.inner.message)?;
        if self.inner.next_step.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.inner.next_step)
    }
}

impl std::error::Error for Error {}

// === impl Details ===

impl Details {
    /// Reads what it knows, and passes over what it doesn't or what is damaged.
    fn read(bytes: &[u8]) -> Self {
        let mut details = Self::default();
        let Ok(status) = pb::Status::decode(bytes) else {
            return details;
        };
        for any in &status.details {
            let value = any.value.as_slice();
            match any.type_url.rsplit('/').next().unwrap_or_default() {
                "google.rpc.ErrorInfo" => details.info = pb::ErrorInfo::decode(value).ok(),
                "google.rpc.RetryInfo" => details.retry_delay = retry_delay(value),
                "google.rpc.BadRequest" => details.violations = violations(value),
                name if name == v1::Refusal::full_name() => {
                    details.refusal = v1::Refusal::decode(value).ok();
                }
                _ => {}
            }
        }
        details
    }
}

fn retry_delay(value: &[u8]) -> Option<Duration> {
    let delay = pb::RetryInfo::decode(value).ok()?.retry_delay?;
    Duration::try_from(delay).ok()
}

fn violations(value: &[u8]) -> Vec<FieldViolation> {
    let bad = pb::BadRequest::decode(value).unwrap_or_default();
    bad.field_violations
        .into_iter()
        .map(|violation| FieldViolation {
            field: violation.field,
            description: violation.description,
        })
        .collect()
}

/// What a reason of a newer server means, by the two keys it comes with.
fn advice_of_newer(code: Code, info: &pb::ErrorInfo) -> (Retry, bool) {
    const RETRIES: [Retry; 5] =
        [Retry::No, Retry::HigherLevel, Retry::AfterDelay, Retry::Yes, Retry::SameRequestId];
    let (retry, happened) = advice_of_code(code);
    let said = info.metadata.get("retry");
    let retry = said
        .and_then(|name| RETRIES.into_iter().find(|known| known.name() == name))
        .unwrap_or(retry);
    let happened = match info.metadata.get("may_have_happened").map(String::as_str) {
        Some("true") => true,
        Some("false") => false,
        Some(_) | None => happened,
    };
    (retry, happened)
}

/// What a bare gRPC code means. Whoever answers instead of the server may do so after the call
/// reached it, so the answer is "maybe" unless the code speaks of a call that nobody took.
fn advice_of_code(code: Code) -> (Retry, bool) {
    match code {
        Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => (Retry::No, false),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (Retry::SameRequestId, true),
    }
}

fn caused_by<E: std::error::Error + 'static>(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The text of the deepest cause, which names the thing that failed.
fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// The code's name as gRPC writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
