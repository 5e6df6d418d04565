//! The error of a call, in words and as JSON: what was refused, who is in the way, what to do next.
//!
//! Owns the shapes that `docs/cli.md` promises of errors. Prints nothing by itself.

use std::io::{self, Write};

use serde_json::{Value, json};
use singletrack::{
    Deadlock, DeadlockRelation, Error, Facts, FenceRequired, Held, HeldBy, HeldWaiter,
    LimitMismatch, OutOfBounds, Reason, VersionMismatch,
};

use crate::{
    duration,
    output::{clean, number},
    record::{value_json, value_words},
};

// === in words ===

pub(crate) fn write_error(out: &mut impl Write, error: &Error, next_step: &str) -> io::Result<()> {
    writeln!(out, "error: {}: {}", clean(error.reason_name()), clean(error.message()))?;
    if let Some(index) = error.condition_index() {
        writeln!(out, "  condition: {index}")?;
    }
    if let Some(index) = error.operation_index() {
        writeln!(out, "  operation: {index}")?;
    }
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
        Facts::Held(held) => held_lines(held).iter().try_for_each(|line| writeln!(out, "  {line}")),
        Facts::Deadlock(deadlock) => {
            cycle_lines(deadlock).iter().try_for_each(|line| writeln!(out, "  {line}"))
        }
        Facts::LimitMismatch(LimitMismatch { resource, limit, asked, .. }) => {
            let resource = clean(resource);
            writeln!(out, "  permits of {resource}: {limit} in all, not {asked}")
        }
        Facts::StaleFence { resource, presented_token, current_token, holder, .. } => {
            writeln!(out, "  fence: {} with token {presented_token}", clean(resource))?;
            writeln!(out, "  current: {}", current_words(*current_token, holder.as_deref()))
        }
        Facts::VersionMismatch(mismatch) => write_found(out, mismatch),
        Facts::FenceRequired(FenceRequired { prefix, resource, current_token, holder, .. }) => {
            writeln!(out, "  protected: {} by {}", clean(prefix), clean(resource))?;
            writeln!(out, "  current: {}", current_words(*current_token, holder.as_deref()))
        }
        Facts::OutOfBounds(OutOfBounds { key, value, min, max, .. }) => {
            write!(out, "  counter: {} is {value}", clean(key))?;
            min.map_or(Ok(()), |min| write!(out, ", at least {min}"))?;
            max.map_or(Ok(()), |max| write!(out, ", at most {max}"))?;
            writeln!(out)
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
        Facts::SessionLost { end, .. } => writeln!(out, "  session: {}", end.name()),
        // The client crate may learn facts that this command has no words for.
        _ => Ok(()),
    }
}

fn current_words(token: Option<u64>, holder: Option<&str>) -> String {
    match (token, holder) {
        (Some(token), Some(holder)) => format!("token {token}, held by {}", clean(holder)),
        (Some(token), None) => format!("token {token}"),
        (None, _) => "none, nobody holds it".to_owned(),
    }
}

/// What the record is instead.
fn write_found(out: &mut impl Write, mismatch: &VersionMismatch) -> io::Result<()> {
    let Some(version) = mismatch.current_version else {
        return writeln!(out, "  found: no such record");
    };
    match &mismatch.written_by {
        Some(writer) => writeln!(out, "  found: version {version}, written by {}", clean(writer))?,
        None => writeln!(out, "  found: version {version}")?,
    }
    match &mismatch.value {
        Some(value) => writeln!(out, "  value: {}", value_words(value)),
        None => Ok(()),
    }
}

/// Who is in the way, since when, for how long at most, and the place in the queue: a line each.
pub(crate) fn held_lines(held: &Held) -> Vec<String> {
    let mut lines = Vec::new();
    for by in &held.holders {
        lines.push(format!("held by: {}", held_by(by)));
        if let Some(answer) = &by.yield_answer {
            lines.push(format!("  asked to yield, it said: {}", clean(answer)));
        }
    }
    let all = usize::try_from(held.holder_count).unwrap_or(usize::MAX);
    if all > held.holders.len() {
        lines.push(format!("held by: {} more", all - held.holders.len()));
    }
    if !held.closed.is_zero() {
        lines
            .push(format!("closed: for {}, its last holder was lost", duration::show(held.closed)));
    }
    if held.permits_used > 0 || held.permits_wanted > 0 {
        let (used, wanted) = (held.permits_used, held.permits_wanted);
        lines.push(format!("permits: {used} in use, {wanted} wanted by those before you"));
    }
    lines.extend(held.waiters.iter().map(|waiter| format!("behind: {}", held_waiter(waiter))));
    if held.blocked_targets > 1 {
        lines.push(format!("not to be had: {} of what is asked for", held.blocked_targets));
    }
    let position = held.queue_position;
    let position = if position < 1_000 { position.to_string() } else { "1000 or more".into() };
    lines.push(format!("waiting before you: {position}"));
    lines
}

/// One holder in a line.
pub(crate) fn held_by(by: &HeldBy) -> String {
    let mut text = format!("{}, token {}", clean(&by.holder), by.token);
    if by.shared {
        text.push_str(", shared");
    }
    if by.permits > 0 {
        text.push_str(&format!(", {} permits", by.permits));
    }
    match (&by.resource, by.subtree) {
        (Some(resource), true) => {
            text.push_str(&format!(", on {} and all below", clean(resource)));
        }
        (Some(resource), false) => text.push_str(&format!(", on {}", clean(resource))),
        (None, true) => text.push_str(", and all below"),
        (None, false) => {}
    }
    if let Some(actor) = &by.actor {
        text.push_str(&format!(", actor {}", clean(actor)));
    }
    let (held, left) = (duration::show(by.held), duration::show(by.remaining));
    text.push_str(&format!(", held for {held}, {left} left unless renewed"));
    if let Some(most) = by.hold_remaining {
        text.push_str(&format!(", {} at most", duration::show(most)));
    }
    text
}

/// One earlier waiter in a line.
pub(crate) fn held_waiter(waiter: &HeldWaiter) -> String {
    let mut text = clean(&waiter.holder).into_owned();
    if let Some(actor) = &waiter.actor {
        text.push_str(&format!(", actor {}", clean(actor)));
    }
    if waiter.priority != 0 {
        text.push_str(&format!(", priority {}", waiter.priority));
    }
    if let Some(resource) = &waiter.resource {
        text.push_str(&format!(", wants {}", clean(resource)));
    }
    text.push_str(&format!(", waiting for {}", duration::show(waiter.waited)));
    text
}

/// A cycle, a line an actor: each depends on the next, and the last on the first.
pub(crate) fn cycle_lines(deadlock: &Deadlock) -> Vec<String> {
    let mut lines = vec!["the cycle that it would close:".to_owned()];
    for step in &deadlock.cycle {
        let (actor, holder) = (clean(&step.actor), clean(&step.holder));
        let resource = step.resource.as_deref().map(clean).unwrap_or_default();
        let depends = match step.relation {
            DeadlockRelation::Holds => format!("waits for {resource}, which is held by"),
            DeadlockRelation::WaitsBefore => format!("waits for {resource}, and before it waits"),
            DeadlockRelation::Child => "waits for its child".to_owned(),
            DeadlockRelation::Unknown | _ => format!("waits for {resource}, and so for"),
        };
        lines.push(format!("  {actor} ({holder}) {depends}"));
    }
    let all = usize::try_from(deadlock.step_count).unwrap_or(usize::MAX);
    if all > deadlock.cycle.len() {
        lines.push(format!("  … {} more …", all - deadlock.cycle.len()));
    }
    if let Some(first) = deadlock.cycle.first() {
        lines.push(format!("  {} again", clean(&first.actor)));
    }
    lines
}

// === as JSON ===

pub(crate) fn error_json(error: &Error, next_step: &str, exit_code: u8) -> Value {
    json!({
        "reason": error.reason_name(),
        "message": error.message(),
        "next_step": next_step,
        "retry": error.retry().name(),
        "may_have_happened": error.may_have_happened(),
        "from_server": error.is_from_server(),
        "retry_after_ms": error.retry_after().map(|delay| number(delay.as_millis())),
        "request_id": error.request_id(),
        "condition_index": error.condition_index(),
        "operation_index": error.operation_index(),
        "detail": error.refusal().map(facts_json),
        "exit_code": exit_code,
    })
}

fn facts_json(facts: &Facts) -> Value {
    match facts {
        Facts::Held(held) => json!({ "held": held_json(held) }),
        Facts::Deadlock(deadlock) => json!({ "deadlock": deadlock_json(deadlock) }),
        Facts::LimitMismatch(LimitMismatch { resource, limit, asked, .. }) => {
            json!({ "limit_mismatch": { "resource": resource, "limit": limit, "asked": asked } })
        }
        Facts::StaleFence { index, resource, presented_token, current_token, holder, .. } => {
            json!({ "stale_fence": {
                "index": index, "resource": resource,
                "presented_token": number(*presented_token),
                "current_token": current_token.map(number), "holder": holder,
            }})
        }
        Facts::VersionMismatch(mismatch) => {
            json!({ "version_mismatch": version_mismatch_json(mismatch) })
        }
        Facts::FenceRequired(FenceRequired { prefix, resource, current_token, holder, .. }) => {
            json!({ "fence_required": {
                "prefix": prefix, "resource": resource,
                "current_token": current_token.map(number), "holder": holder,
            }})
        }
        Facts::OutOfBounds(OutOfBounds { key, value, min, max, .. }) => {
            json!({ "out_of_bounds": {
                "key": key, "value": number(value), "min": min.map(number), "max": max.map(number),
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
        Facts::SessionLost { end, .. } => json!({ "session_lost": { "end": end.name() } }),
        _ => Value::Null,
    }
}

fn version_mismatch_json(mismatch: &VersionMismatch) -> Value {
    json!({
        "key": mismatch.key,
        "current_version": mismatch.current_version.map(number),
        "value": mismatch.value.as_ref().map(value_json),
        "value_omitted": mismatch.value_omitted,
        "written_by": mismatch.written_by,
        "content_type": mismatch.content_type,
    })
}

/// Who is in the way.
pub(crate) fn held_json(held: &Held) -> Value {
    let holders: Vec<_> = held.holders.iter().map(held_by_json).collect();
    let waiters: Vec<_> = held
        .waiters
        .iter()
        .map(|waiter| {
            json!({
                "holder": waiter.holder,
                "actor": waiter.actor,
                "priority": waiter.priority,
                "waited_ms": number(waiter.waited.as_millis()),
                "resource": waiter.resource,
            })
        })
        .collect();
    json!({
        "resource": held.resource,
        "holders": holders,
        "holder_count": held.holder_count,
        "queue_position": held.queue_position,
        "waited_ms": number(held.waited.as_millis()),
        "waiters": waiters,
        "closed_ms": number(held.closed.as_millis()),
        "permits_used": held.permits_used,
        "permits_wanted": held.permits_wanted,
        "blocked_targets": held.blocked_targets,
    })
}

fn held_by_json(by: &HeldBy) -> Value {
    json!({
        "holder": by.holder,
        "token": number(by.token),
        "remaining_ms": number(by.remaining.as_millis()),
        "shared": by.shared,
        "resource": by.resource,
        "subtree": by.subtree,
        "permits": by.permits,
        "held_ms": number(by.held.as_millis()),
        "hold_remaining_ms": by.hold_remaining.map(|most| number(most.as_millis())),
        "actor": by.actor,
        "yield_answer": by.yield_answer,
    })
}

fn deadlock_json(deadlock: &Deadlock) -> Value {
    let cycle: Vec<_> = deadlock
        .cycle
        .iter()
        .map(|step| {
            json!({
                "actor": step.actor,
                "holder": step.holder,
                "resource": step.resource,
                "relation": step.relation.name(),
            })
        })
        .collect();
    json!({ "cycle": cycle, "step_count": deadlock.step_count })
}
