//! The only file that builds a domain `tonic::Status`.
//!
//! A status carries `google.rpc.ErrorInfo`, our `Refusal`, `RetryInfo` where waiting helps
//! and `BadRequest` where fields are at fault. Clients cut trailers at 8 KiB, so all of it
//! together stays below, base64 and percent-encoding included.

use std::{collections::HashMap, fmt::Display};

use prost::Message;
use prost_types::Any;
use singletrack_proto::{
    DOMAIN, Reason, UNDECODABLE,
    v1::{self, refusal::Detail},
};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::{
    api::{flaws::Flaws, intake, layer::MESSAGE_BYTES_MAX, refuse},
    telemetry::Metrics,
    track::CallError,
};

/// Bytes of an encoded `ErrorInfo`.
const ERROR_INFO_BYTES_MAX: usize = 1_024;
/// Bytes of one value in its metadata.
const METADATA_BYTES_MAX: usize = 128;

/// When a caller may try again that met the bound of bytes being read.
const READING_RETRY_MS: u64 = 100;

/// The status of a call that got no reply.
pub(crate) fn of_call(error: &CallError, metrics: &Metrics) -> Status {
    of(refuse::call(error), metrics)
}

/// The status of a message that can't be understood.
pub(crate) fn of_flaws(flaws: &Flaws, metrics: &Metrics) -> Status {
    of(refuse::flawed(flaws), metrics)
}

/// The status of a call that tonic refused by itself: a method it doesn't know, a frame it
/// can't read, a service of others that found nothing.
///
/// Of our own code every refusal has details, so a code that comes without is tonic's, and
/// says what became of the request before it reached us.
pub(crate) fn of_foreign(code: Code, message: &str, metrics: &Metrics) -> Status {
    of(foreign_refusal(code, message), metrics)
}

/// The same, as a refusal.
pub(crate) fn foreign_refusal(code: Code, message: &str) -> v1::Refusal {
    let whole = format_args!("");
    match code {
        Code::Unimplemented => refuse::unimplemented(message),
        Code::ResourceExhausted if message == intake::FULL => {
            refuse::overloaded(intake::FULL, intake::READING_BYTES_MAX as u64, READING_RETRY_MS)
        }
        // A length above the limit, plain or after decompression.
        Code::OutOfRange | Code::ResourceExhausted => {
            let limit = format!("a message may have at most {MESSAGE_BYTES_MAX} bytes ({message})");
            refuse::flawed(&Flaws::too_large(whole, limit))
        }
        // Bytes that are no message: a wrong flag, a missing end, bad UTF-8.
        Code::Internal | Code::InvalidArgument | Code::DataLoss => unreadable(message),
        // The stream or its connection broke while the request was read: nobody is left to
        // read this, and nothing is wrong here.
        Code::Cancelled | Code::Unknown | Code::Unavailable => {
            refuse::flawed(&Flaws::of(whole, format!("the request broke off: {message}")))
        }
        Code::NotFound => refuse::not_found(message),
        Code::DeadlineExceeded => refuse::deadline_exceeded(),
        Code::Ok
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unauthenticated => refuse::internal(message),
    }
}

/// The refusal of bytes that are no message.
pub(crate) fn unreadable(message: &str) -> v1::Refusal {
    let found = format!("one whole message is expected, found something else: {message}");
    refuse::flawed(&Flaws::of(format_args!("{}", undecodable_field(message)), found))
}

/// The path of the field whose bytes could not be decoded, as far as the decoder says: it names
/// the innermost `Message.field` first. Empty: the message as a whole.
fn undecodable_field(message: &str) -> String {
    let Some((_, told)) = message.split_once(UNDECODABLE) else { return String::new() };
    let field = |part: &str| {
        let (owner, field) = part.split_once('.')?;
        let is_message = owner.chars().all(|c| c.is_ascii_alphanumeric());
        let is_field = field.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        (is_message && is_field && !field.is_empty()).then(|| field.to_owned())
    };
    let mut path: Vec<String> = told.split(": ").map_while(field).collect();
    path.reverse();
    path.join(".")
}

/// The status of a refusal; counts it.
pub(crate) fn of(refusal: v1::Refusal, metrics: &Metrics) -> Status {
    let reason = reason_of(&refusal);
    metrics.refused(reason);
    if reason == Reason::Internal {
        tracing::error!(refusal = refusal.message, "a call met a bug of the server");
    }
    let mut details = vec![any("google.rpc.ErrorInfo", &error_info(reason, &refusal))];
    details.push(any("singletrack.v1.Refusal", &refusal));
    if refusal.retry_after_ms > 0 {
        let delay = prost_types::Duration {
            seconds: i64::try_from(refusal.retry_after_ms / 1_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(refusal.retry_after_ms % 1_000).unwrap_or(0) * 1_000_000,
        };
        details.push(any("google.rpc.RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) }));
    }
    if let Some(Detail::Malformed(malformed)) = &refusal.detail {
        details.push(any("google.rpc.BadRequest", &bad_request(malformed)));
    }
    let code = reason.code();
    let rich = pb::Status { code: code.into(), message: refusal.message.clone(), details };
    Status::with_details(code, refusal.message, rich.encode_to_vec().into())
}

/// The reason of a refusal that this server made.
pub(crate) fn reason_of(refusal: &v1::Refusal) -> Reason {
    v1::RefusalReason::try_from(refusal.reason)
        .ok()
        .and_then(Reason::from_wire)
        .expect("every refusal of this server is built from a reason")
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn error_info(reason: Reason, refusal: &v1::Refusal) -> pb::ErrorInfo {
    let mut metadata = HashMap::with_capacity(4);
    let mut say = |key: &str, value: &dyn Display| {
        metadata.insert(key.to_owned(), refuse::clip(&value.to_string(), METADATA_BYTES_MAX));
    };
    say("retry", &reason.retry().name());
    say("may_have_happened", &reason.may_have_happened());
    if let Some(index) = refusal.condition_index {
        say("condition_index", &index);
    }
    if let Some(index) = refusal.operation_index {
        say("operation_index", &index);
    }
    match &refusal.detail {
        Some(Detail::Held(held)) => {
            if let Some(first) = held.holders.first() {
                say("holder", &first.holder);
                say("token", &first.token);
            }
            say("queue_position", &held.queue_position);
            if held.closed_ms > 0 {
                say("closed_ms", &held.closed_ms);
            }
        }
        Some(Detail::Deadlock(deadlock)) => {
            let actors: Vec<_> = deadlock.cycle.iter().map(|step| step.actor.as_str()).collect();
            say("cycle", &actors.join(" -> "));
        }
        Some(Detail::LimitMismatch(mismatch)) => {
            say("limit", &mismatch.limit);
            say("asked", &mismatch.asked);
        }
        Some(Detail::StaleFence(stale)) => {
            say("presented_token", &stale.presented_token);
            say("current_token", &stale.current_token);
            if !stale.holder.is_empty() {
                say("holder", &stale.holder);
            }
        }
        Some(Detail::LeaseLost(lost)) => say("token", &lost.token),
        Some(Detail::SessionLost(lost)) => say("end", &lost.end().as_str_name()),
        Some(Detail::Limit(limit)) => {
            say("limit", &limit.limit);
            say("maximum", &limit.maximum);
        }
        Some(Detail::VersionMismatch(mismatch)) => {
            say("current_version", &mismatch.current_version);
            if !mismatch.written_by.is_empty() {
                say("written_by", &mismatch.written_by);
            }
        }
        Some(Detail::FenceRequired(required)) => {
            say("resource", &required.resource);
            say("current_token", &required.current_token);
            if !required.holder.is_empty() {
                say("holder", &required.holder);
            }
        }
        Some(Detail::OutOfBounds(bounds)) => say("value", &bounds.value),
        Some(Detail::Malformed(malformed)) => {
            if let Some(first) = malformed.violations.first() {
                say("field", &first.field);
            }
        }
        None => {}
    }
    let info = pb::ErrorInfo { reason: reason.name().into(), domain: DOMAIN.into(), metadata };
    debug_assert!(info.encoded_len() <= ERROR_INFO_BYTES_MAX, "few and short values fit");
    info
}

fn bad_request(malformed: &v1::MalformedDetail) -> pb::BadRequest {
    let field_violations = malformed
        .violations
        .iter()
        .map(|violation| pb::bad_request::FieldViolation {
            field: violation.field.clone(),
            description: violation.description.clone(),
            ..Default::default()
        })
        .collect();
    pb::BadRequest { field_violations }
}
