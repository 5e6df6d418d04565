//! Results on standard output: a table for people, one JSON object for programs.
//!
//! Owns the shapes that `docs/cli.md` promises. Never lets a name from the server steer a
//! terminal.

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use serde_json::{Value, json};
use singletrack::{LeaseInfo, Mode, Reach, Target, WaiterInfo, YieldAnswer, YieldRequest};

use crate::{args::Format, duration, explain::held_json};

/// A 64-bit number for JSON: a string, as proto3 has it, since many readers round numbers.
pub(crate) fn number(number: impl ToString) -> Value {
    Value::String(number.to_string())
}

/// A text whose control characters are shown instead of obeyed.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(show).collect::<String>().into()
}

/// Prints the same result in one of the two forms.
pub(crate) fn print(
    format: Format,
    as_json: impl FnOnce() -> Value,
    as_table: impl FnOnce() -> String,
) -> io::Result<()> {
    let text = match format {
        Format::Table => as_table(),
        Format::Json => format!("{}\n", as_json()),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns as wide as what is in them.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let headers = headers.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&headers).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&headers).chain(rows) {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Leases as anybody may see them. Of several resources each has a line.
pub(crate) fn lease_table(leases: &[LeaseInfo]) -> String {
    let rows: Vec<_> = leases.iter().flat_map(lease_rows).collect();
    table(["RESOURCE", "MODE", "HOLDER", "TOKEN", "TTL", "REMAINING", "HELD", "LABELS"], &rows)
}

fn lease_rows(lease: &LeaseInfo) -> Vec<[String; 8]> {
    let mut rows: Vec<[String; 8]> = Vec::new();
    for target in &lease.targets {
        let mut row = <[String; 8]>::default();
        let [resource, mode, holder, token, ttl, remaining, held, labels] = &mut row;
        *resource = clean(&target.resource).into_owned();
        *mode = mode_words(target);
        if rows.is_empty() {
            *holder = clean(&lease.holder).into_owned();
            *token = lease.token.to_string();
            *ttl = duration::show(lease.ttl);
            *remaining = duration::show(lease.remaining);
            *held = held_words(lease);
            *labels = label_words(lease);
        }
        rows.push(row);
    }
    rows
}

/// Since when it is held, and for how long at most.
pub(crate) fn held_words(lease: &LeaseInfo) -> String {
    let held = duration::show(lease.held);
    match lease.hold_remaining {
        Some(most) => format!("{held}, {} at most", duration::show(most)),
        None => held,
    }
}

/// Labels as they were given.
pub(crate) fn label_words(lease: &LeaseInfo) -> String {
    let label = |(key, value): (&String, &String)| format!("{}={}", clean(key), clean(value));
    lease.labels.iter().map(label).collect::<Vec<_>>().join(" ")
}

/// How a lease shares a resource and how far it reaches.
pub(crate) fn mode_words(target: &Target) -> String {
    let mode = match target.mode {
        Mode::Permits { count, limit } => format!("{count}/{limit}"),
        mode @ (Mode::Exclusive | Mode::Shared | _) => mode_name(mode).to_lowercase(),
    };
    match target.reach {
        Reach::Subtree => format!("{mode} subtree"),
        Reach::Exact | _ => mode,
    }
}

/// The names of what a lease is for.
pub(crate) fn names(targets: &[Target]) -> String {
    let names: Vec<_> = targets.iter().map(|target| clean(&target.resource)).collect();
    names.join(", ")
}

/// One lease as anybody may see it. `resource` and `mode` are those of the first of `targets`.
pub(crate) fn lease_json(lease: &LeaseInfo) -> Value {
    let targets: Vec<_> = lease.targets.iter().map(target_json).collect();
    let asking: Vec<_> = lease.yield_requests.iter().map(yield_json).collect();
    json!({
        "resource": lease.resource(),
        "mode": lease.targets.first().map(|target| mode_name(target.mode)),
        "targets": targets,
        "holder": lease.holder,
        "token": number(lease.token),
        "ttl_ms": number(lease.ttl.as_millis()),
        "remaining_ms": number(lease.remaining.as_millis()),
        "actor": lease.actor,
        "labels": lease.labels,
        "held_ms": number(lease.held.as_millis()),
        "hold_remaining_ms": lease.hold_remaining.map(|most| number(most.as_millis())),
        "lock_delay_ms": number(lease.lock_delay.as_millis()),
        "yield_requests": asking,
    })
}

/// One resource of a lease.
pub(crate) fn target_json(target: &Target) -> Value {
    let (permits, limit) = match target.mode {
        Mode::Permits { count, limit } => (Some(count), Some(limit)),
        Mode::Exclusive | Mode::Shared | _ => (None, None),
    };
    let reach = match target.reach {
        Reach::Exact => "EXACT",
        Reach::Subtree => "SUBTREE",
        _ => "UNKNOWN",
    };
    json!({
        "resource": target.resource,
        "mode": mode_name(target.mode),
        "permits": permits,
        "limit": limit,
        "reach": reach,
    })
}

fn yield_json(request: &YieldRequest) -> Value {
    json!({
        "number": number(request.number),
        "holder": request.holder,
        "reason": request.reason,
        "asked_ms": number(request.asked.as_millis()),
        "answer": request.answer.as_ref().map(answer_json),
    })
}

/// A holder's answer to a request to yield.
pub(crate) fn answer_json(answer: &YieldAnswer) -> Value {
    json!({
        "will_yield": answer.will_yield,
        "within_ms": number(answer.within.as_millis()),
        "message": answer.message,
    })
}

/// Somebody who waits, and what is in its way.
pub(crate) fn waiter_json(waiter: &WaiterInfo) -> Value {
    let targets: Vec<_> = waiter.targets.iter().map(target_json).collect();
    json!({
        "holder": waiter.holder,
        "actor": waiter.actor,
        "targets": targets,
        "priority": waiter.priority,
        "waited_ms": number(waiter.waited.as_millis()),
        "attached": waiter.attached,
        "blocked_by": waiter.blocked_by.as_ref().map(held_json),
    })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "EXCLUSIVE",
        Mode::Shared => "SHARED",
        Mode::Permits { .. } => "PERMITS",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, table};

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = [["a".into(), "long cell".into()], ["äöü".into(), "x".into()]];
        assert_eq!(table(["H", "K"], &rows), "H    K\na    long cell\näöü  x\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(clean("\u{1b}[2J\u{7}evil\n\u{9b}1m"), "\\u{1b}[2J\\u{7}evil\\n\\u{9b}1m");
        assert_eq!(clean("ada@höst"), "ada@höst");
    }
}
