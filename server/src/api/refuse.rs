//! Refusals in words: what happened, and what the caller should do next.
//!
//! Turns the machine's and the track's refusals into the wire's `Refusal` and keeps each
//! within its bounds. Knows nothing of gRPC statuses: `status` does.

mod deadlock;
mod held;
mod record;

use prost::Message;
use singletrack_core::{
    refusal::{Cap, LeaseEnd, Refusal, SessionEnd, StaleFence},
    types::{ResourceName, Token},
};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};

pub(crate) use self::held::held_detail;
use crate::{api::flaws::Flaws, track::CallError};

/// Bytes of a refusal's message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 512;
/// Bytes of a refusal's next step.
pub(crate) const NEXT_STEP_BYTES_MAX: usize = 256;
/// Bytes of an encoded refusal.
pub(crate) const REFUSAL_BYTES_MAX: usize = 2_560;
/// Bytes that the violations of one refusal may take: they travel twice, as ours and as
/// google's `BadRequest`.
const VIOLATIONS_BYTES_MAX: usize = 1_100;
/// Bytes of the field and of the description of one violation.
const VIOLATION_TEXT_BYTES_MAX: usize = 160;
/// Bytes of a name inside a sentence.
const NAME_BYTES_MAX: usize = 96;
/// When to ask again after a cap was met.
const QUOTA_RETRY_MS: u64 = 1_000;
/// When to ask again after a shutdown.
const RESTART_RETRY_MS: u64 = 500;

/// Why a call got no reply.
pub(crate) fn call(error: &CallError) -> v1::Refusal {
    match error {
        CallError::Refused(refusal) => machine(refusal),
        CallError::Overloaded { limit, maximum, retry_after_ms } => {
            overloaded(limit, *maximum, *retry_after_ms)
        }
        CallError::ShuttingDown => shutting_down(),
        CallError::OutcomeUnknown => new(
            Reason::OutcomeUnknown,
            "the log could not be written: the effect may or may not be durable".into(),
            "repeat the call with the same request_id once the server is back; without a request_id, read the state first",
        ),
        CallError::Internal => {
            internal("the command ran into a bug of the server and had no effect")
        }
    }
}

/// Why the machine said no.
pub(crate) fn machine(refusal: &Refusal) -> v1::Refusal {
    match refusal {
        Refusal::RequestIdReused => new(
            Reason::RequestIdReused,
            "this request_id was used before for a different request".into(),
            "mint a new request_id for each new request; keep it only for retries of the same one",
        ),
        Refusal::RequestIdForgotten => new(
            Reason::RequestIdForgotten,
            "this request_id is unknown and too old to be executed safely; it may have had its effect before".into(),
            "read the state to see whether it happened; then ask anew with a new request_id",
        ),
        Refusal::CancelledWait => new(
            Reason::CancelledWait,
            "the call with this request_id was abandoned".into(),
            "ask again with a new request_id if the lease is still wanted",
        ),
        Refusal::StaleFence(stale) => stale_fence(stale),
        Refusal::NotFound => new(
            Reason::NotFound,
            "there is no such record, lease, holder or request to yield; a lease that ended more than 60 s ago, or whose release was acknowledged, is forgotten".into(),
            "check the key, the lease_id or the resource, the token, the number, and the namespace of the call",
        ),
        Refusal::LeaseLost { end, token } => lease_lost(*end, *token),
        Refusal::NotHolder => new(
            Reason::NotHolder,
            "the token is not that of this lease".into(),
            "send the lease_id and the token of one and the same grant",
        ),
        Refusal::SessionLost { end } => session_lost(*end),
        Refusal::Held(held) => held::refusal(held, false),
        Refusal::StillWaiting(held) => held::refusal(held, true),
        Refusal::Deadlock(deadlock) => deadlock::refusal(deadlock),
        Refusal::LimitMismatch { resource, limit, asked } => {
            limit_mismatch(resource, *limit, *asked)
        }
        Refusal::Quota { cap, maximum } => quota(*cap, *maximum),
        Refusal::VersionMismatch(mismatch) => record::version_mismatch(mismatch),
        Refusal::FenceRequired(required) => record::fence_required(required),
        Refusal::NotACounter { key } => record::not_a_counter(key),
        Refusal::OutOfBounds(bounds) => record::out_of_bounds(bounds),
        Refusal::TooLarge { bytes, maximum } => record::too_large(*bytes, *maximum),
        Refusal::Condition { index, refusal } => {
            let mut of_it = within(format_args!("conditions[{index}]"), refusal);
            of_it.condition_index = Some(*index);
            bounded(of_it)
        }
        Refusal::Operation { index, refusal } => {
            let mut of_it = within(format_args!("operations[{index}]"), refusal);
            of_it.operation_index = Some(*index);
            bounded(of_it)
        }
        Refusal::AlreadyDone => new(
            Reason::AlreadyDone,
            "its work was done before, so it has no effect of its own".into(),
            "nothing was changed: look at what is there; leave this operation out, or don't do the rest again",
        ),
    }
}

/// The refusal of a part of a transaction, which is that of the whole.
fn within(path: std::fmt::Arguments<'_>, refusal: &Refusal) -> v1::Refusal {
    let mut refusal = machine(refusal);
    refusal.message = clip(&format!("{path}: {}", refusal.message), MESSAGE_BYTES_MAX);
    refusal
}

/// Why a message can't be understood.
pub(crate) fn flawed(flaws: &Flaws) -> v1::Refusal {
    let reason = if flaws.all_too_large() { Reason::TooLarge } else { Reason::Malformed };
    let mut violations = Vec::new();
    let mut left_out = flaws.left_out();
    let mut bytes = 0;
    for flaw in flaws.fields() {
        let violation = v1::FieldViolation {
            field: clip(&flaw.field, VIOLATION_TEXT_BYTES_MAX),
            description: clip(&flaw.description, VIOLATION_TEXT_BYTES_MAX),
        };
        // Two bytes of tag and length around the message, as all lengths are below 16 KiB.
        bytes += violation.encoded_len() + 3;
        if bytes <= VIOLATIONS_BYTES_MAX {
            violations.push(violation);
        } else {
            left_out += 1;
        }
    }
    let message = match violations.first() {
        Some(first) if first.field.is_empty() => first.description.clone(),
        Some(first) => format!("{}: {}", first.field, first.description),
        None => "the message is not legal".into(),
    };
    let more = violations.len().saturating_sub(1) + left_out;
    let message = if more > 0 { format!("{message} (and {more} more)") } else { message };
    let mut refusal =
        new(reason, message, "correct the named fields; the same call would be refused again");
    refusal.detail = Some(Detail::Malformed(v1::MalformedDetail { violations }));
    bounded(refusal)
}

/// Too much is queued.
pub(crate) fn overloaded(limit: &str, maximum: u64, retry_after_ms: u64) -> v1::Refusal {
    let mut refusal = new(
        Reason::Overloaded,
        format!("the server is overloaded: the limit of {maximum} {limit} is reached"),
        "try the same call again after retry_after_ms, with growing pauses",
    );
    refusal.retry_after_ms = retry_after_ms;
    refusal.detail =
        Some(Detail::Limit(v1::LimitDetail { limit: clip(limit, NAME_BYTES_MAX), maximum }));
    refusal
}

/// The server is stopping.
pub(crate) fn shutting_down() -> v1::Refusal {
    let mut refusal = new(
        Reason::ShuttingDown,
        "the server is stopping and did not accept the call".into(),
        "try the same call again, here or at another server",
    );
    refusal.retry_after_ms = RESTART_RETRY_MS;
    refusal
}

/// The caller's deadline passed.
pub(crate) fn deadline_exceeded() -> v1::Refusal {
    new(
        Reason::DeadlineExceeded,
        "the deadline of the call passed before its answer; the effect may still come".into(),
        "repeat the call with the same request_id and a later deadline, or give it up with AbandonLease",
    )
}

/// There is no such method, or no such feature of the protocol.
pub(crate) fn unimplemented(message: &str) -> v1::Refusal {
    let message = if message.is_empty() { "there is no such method" } else { message };
    new(
        Reason::Unimplemented,
        message.into(),
        "check the service and method names (reflection lists them) and the version of the server",
    )
}

/// The thing named does not exist.
pub(crate) fn not_found(message: &str) -> v1::Refusal {
    new(Reason::NotFound, message.into(), "check the name")
}

/// A bug of ours.
pub(crate) fn internal(message: &str) -> v1::Refusal {
    new(
        Reason::Internal,
        message.into(),
        "report this, with the log of the server; the same call would fail again",
    )
}

/// The reason behind a refusal of the machine.
pub(crate) fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::RequestIdReused => Reason::RequestIdReused,
        Refusal::RequestIdForgotten => Reason::RequestIdForgotten,
        Refusal::CancelledWait => Reason::CancelledWait,
        Refusal::StaleFence(_) => Reason::StaleFence,
        Refusal::NotFound => Reason::NotFound,
        Refusal::LeaseLost { .. } => Reason::LeaseLost,
        Refusal::NotHolder => Reason::NotHolder,
        Refusal::SessionLost { .. } => Reason::SessionLost,
        Refusal::Held(_) => Reason::Held,
        Refusal::StillWaiting(_) => Reason::StillWaiting,
        Refusal::Deadlock(_) => Reason::Deadlock,
        Refusal::LimitMismatch { .. } => Reason::LimitMismatch,
        Refusal::Quota { .. } => Reason::Quota,
        Refusal::VersionMismatch(_) => Reason::VersionMismatch,
        Refusal::FenceRequired(_) => Reason::FenceRequired,
        Refusal::NotACounter { .. } => Reason::NotACounter,
        Refusal::OutOfBounds(_) => Reason::OutOfBounds,
        Refusal::TooLarge { .. } => Reason::TooLarge,
        Refusal::Condition { refusal, .. } | Refusal::Operation { refusal, .. } => reason(refusal),
        Refusal::AlreadyDone => Reason::AlreadyDone,
    }
}

// === the facts ===

fn stale_fence(stale: &StaleFence) -> v1::Refusal {
    let resource = short(stale.resource.as_str());
    let now = match &stale.current {
        Some((token, holder)) => {
            format!("token {token}, held by `{}`, is", short(holder.as_str()))
        }
        None => "nobody holds it".into(),
    };
    let StaleFence { index, presented, .. } = stale;
    let mut refusal = new(
        Reason::StaleFence,
        format!("fences[{index}]: token {presented} on `{resource}` is not current; {now}"),
        "stop: another may have acted since; acquire the lease again and re-read before you write",
    );
    refusal.detail = Some(Detail::StaleFence(v1::StaleFenceDetail {
        index: *index,
        resource: stale.resource.to_string(),
        presented_token: presented.0,
        current_token: stale.current.as_ref().map_or(0, |(token, _)| token.0),
        holder: stale.current.as_ref().map(|(_, holder)| holder.to_string()).unwrap_or_default(),
    }));
    bounded(refusal)
}

fn lease_lost(end: LeaseEnd, token: Token) -> v1::Refusal {
    let how = match end {
        LeaseEnd::Released => "was released",
        LeaseEnd::Expired => "expired without renewal",
        LeaseEnd::Forced => "was taken away by an administrator",
        LeaseEnd::Transferred => "was given to another holder",
        LeaseEnd::MaxHold => "was held for its max_hold_ms",
    };
    let mut refusal = new(
        Reason::LeaseLost,
        format!("the lease with token {token} {how}"),
        "stop what the lease protected; if it is still wanted, acquire it with a new request_id",
    );
    refusal.detail = Some(Detail::LeaseLost(lease_end(end, token)));
    refusal
}

/// How a lease ended.
pub(crate) fn lease_end(end: LeaseEnd, token: Token) -> v1::LeaseLostDetail {
    let end = match end {
        LeaseEnd::Released => v1::LeaseEnd::Released,
        LeaseEnd::Expired => v1::LeaseEnd::Expired,
        LeaseEnd::Forced => v1::LeaseEnd::Forced,
        LeaseEnd::Transferred => v1::LeaseEnd::Transferred,
        LeaseEnd::MaxHold => v1::LeaseEnd::MaxHold,
    };
    v1::LeaseLostDetail { end: end.into(), token: token.0 }
}

fn session_lost(end: Option<SessionEnd>) -> v1::Refusal {
    let message = match end {
        None => "the session is not known: it ended long ago, or never was",
        Some(SessionEnd::Closed) => "the session was closed",
        Some(SessionEnd::Expired) => "the session was not kept alive and has ended",
    };
    let mut refusal = new(
        Reason::SessionLost,
        message.into(),
        "open a new session; all that was taken under this one is gone, so stop what it protected",
    );
    refusal.detail = Some(Detail::SessionLost(session_end(end)));
    refusal
}

/// How a session ended; `None`: nobody knows.
pub(crate) fn session_end(end: Option<SessionEnd>) -> v1::SessionLostDetail {
    let end = match end {
        None => v1::SessionEnd::Unspecified,
        Some(SessionEnd::Closed) => v1::SessionEnd::Closed,
        Some(SessionEnd::Expired) => v1::SessionEnd::Expired,
    };
    v1::SessionLostDetail { end: end.into() }
}

fn limit_mismatch(resource: &ResourceName, limit: u32, asked: u32) -> v1::Refusal {
    let name = short(resource.as_str());
    let mut refusal = new(
        Reason::LimitMismatch,
        format!(
            "`{name}` has {limit} permits in all, and {asked} were said: its first holder or waiter has set that"
        ),
        &format!(
            "ask with a limit of {limit}; another limit can be set once nobody holds the resource or waits for it"
        ),
    );
    refusal.detail = Some(Detail::LimitMismatch(v1::LimitMismatchDetail {
        resource: resource.to_string(),
        limit,
        asked,
    }));
    bounded(refusal)
}

fn quota(cap: Cap, maximum: u64) -> v1::Refusal {
    const RELEASE: &str = "release what is no longer needed or wait for it to expire; an administrator can raise the cap";
    let (limit, next_step) = match cap {
        Cap::Namespaces => ("namespaces", RELEASE),
        Cap::Leases => ("leases per namespace", RELEASE),
        Cap::Waiters => ("waiters per namespace", RELEASE),
        Cap::Sessions => ("sessions per namespace", RELEASE),
        Cap::Records => ("records per namespace", RELEASE),
        Cap::Protections => ("protections per namespace", RELEASE),
        Cap::PrefixProtections => (
            "protections per prefix",
            "protect a prefix above or below it, or take a protection back that is not needed",
        ),
        Cap::Bytes => ("bytes per namespace", RELEASE),
        Cap::Memory => ("bytes of replay memory", RELEASE),
        Cap::Yields => (
            "requests to yield per lease",
            "others have asked this holder already: wait for the lease itself, with wait_ms and a request_id",
        ),
        Cap::DeadlockSearch => (
            "steps of a search for deadlocks",
            "too many actors wait for each other to be sure that this wait is safe: ask again later with wait_ms 0, or release what this actor holds and then wait",
        ),
    };
    let mut refusal =
        new(Reason::Quota, format!("the cap of {maximum} {limit} is reached"), next_step);
    refusal.retry_after_ms = QUOTA_RETRY_MS;
    refusal.detail = Some(Detail::Limit(v1::LimitDetail { limit: limit.into(), maximum }));
    refusal
}

// === bounds ===

fn new(reason: Reason, message: String, next_step: &str) -> v1::Refusal {
    v1::Refusal {
        reason: reason.to_wire().into(),
        message: clip(&message, MESSAGE_BYTES_MAX),
        next_step: clip(next_step, NEXT_STEP_BYTES_MAX),
        retry_after_ms: 0,
        condition_index: None,
        operation_index: None,
        detail: None,
    }
}

/// Cuts details, as little as it takes, until the refusal fits.
fn bounded(mut refusal: v1::Refusal) -> v1::Refusal {
    while refusal.encoded_len() > REFUSAL_BYTES_MAX {
        let cut = match &mut refusal.detail {
            Some(Detail::Held(held)) => held::cut(held),
            Some(Detail::Deadlock(deadlock)) => deadlock::cut(deadlock),
            Some(Detail::Malformed(malformed)) => malformed.violations.pop().is_some(),
            Some(Detail::VersionMismatch(mismatch)) => record::cut_mismatch(mismatch),
            Some(Detail::FenceRequired(required)) => record::cut_required(required),
            Some(
                Detail::StaleFence(_)
                | Detail::LeaseLost(_)
                | Detail::Limit(_)
                | Detail::SessionLost(_)
                | Detail::OutOfBounds(_)
                | Detail::LimitMismatch(_),
            )
            | None => false,
        };
        if !cut {
            refusal.detail = None;
        }
    }
    refusal
}

/// Cuts a name of a detail; true: it was longer than that.
fn shorten(name: &mut String, maximum: usize) -> bool {
    let is_long = name.len() > maximum;
    if is_long {
        *name = clip(name, maximum);
    }
    is_long
}

fn short(name: &str) -> String {
    clip(name, NAME_BYTES_MAX)
}

/// The text, cut to at most `maximum` bytes at a character, with an ellipsis where it was cut.
pub(crate) fn clip(text: &str, maximum: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= maximum {
        return text.into();
    }
    let end = text.floor_char_boundary(maximum.saturating_sub(ELLIPSIS.len()));
    let (kept, _) = text.split_at(end);
    format!("{kept}{ELLIPSIS}")
}
