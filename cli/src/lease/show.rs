//! `lease get`, `list`, `waiters`, `stats` and `check`: what there is, as tables and JSON.

use serde_json::{Value, json};
use singletrack::{Client, LeaseInfo, List, ListWaiters, Stats, WaiterInfo, YieldRequest};

use crate::{
    args::{Format, GetArgs, Label, ListArgs, WaitersArgs},
    duration,
    exit::{Exit, Failure},
    explain::{held_by, held_waiter},
    output::{self, clean, lease_json, lease_table, names, number, table, waiter_json},
};

// === get ===

pub(crate) async fn get(client: &Client, args: &GetArgs, format: Format) -> Result<(), Failure> {
    if let Some(lease_id) = &args.id {
        let lease = client.get_by_id(lease_id).await.map_err(Failure::read)?;
        let as_table = || {
            let asking: String = lease.yield_requests.iter().map(asking).collect();
            format!("{}{asking}", lease_table(std::slice::from_ref(&lease)))
        };
        output::print(format, || lease_json(&lease), as_table)?;
        return Ok(());
    }
    let resource = args.resource.as_deref().unwrap_or_default();
    let holders = client.get(resource).await.map_err(Failure::read)?;
    let as_json = || {
        json!({
            "resource": resource,
            "leases": leases_json(&holders.leases),
            "holder_count": holders.holder_count,
            "waiter_count": holders.waiter_count,
            "waiters": waiters_json(&holders.waiters),
            "closed_ms": number(holders.closed.as_millis()),
        })
    };
    let as_table = || {
        let mut text = String::new();
        if holders.leases.is_empty() {
            let state = match holders.closed.is_zero() {
                true => "free".to_owned(),
                false => format!("closed for {}", duration::show(holders.closed)),
            };
            text.push_str(&format!("{} is {state}, ", clean(resource)));
        } else {
            text.push_str(&lease_table(&holders.leases));
            let shown = u32::try_from(holders.leases.len()).unwrap_or(u32::MAX);
            let more = holders.holder_count.saturating_sub(shown);
            if more > 0 {
                text.push_str(&format!("{more} more holders, "));
            }
        }
        text.push_str(&format!("{} waiting\n", holders.waiter_count));
        if !holders.waiters.is_empty() {
            text.push_str(&queue_table(&holders.waiters));
        }
        text
    };
    output::print(format, as_json, as_table)?;
    Ok(())
}

/// Who asks for a lease, in a line.
fn asking(request: &YieldRequest) -> String {
    let reason = request.reason.as_deref().unwrap_or("no reason");
    let answer = match &request.answer {
        None => "no answer yet".to_owned(),
        Some(answer) => super::yields::answer_words(answer),
    };
    let (number, asked) = (request.number, duration::show(request.asked));
    let (holder, reason) = (clean(&request.holder), clean(reason));
    format!("asked to yield by {holder} {asked} ago: {reason} (number {number}, {answer})\n")
}

// === list ===

pub(crate) async fn list(client: &Client, args: &ListArgs, format: Format) -> Result<(), Failure> {
    let mut list = List::new();
    if let Some(holder) = &args.holder {
        list = list.holder(holder);
    }
    if let Some(prefix) = &args.prefix {
        list = list.prefix(prefix);
    }
    for Label { key, value } in &args.labels {
        list = list.label(key, value);
    }
    let (leases, next) = if args.all {
        (client.list_all_of(list).await.map_err(Failure::read)?, None)
    } else {
        list = list.page_size(args.page_size);
        if let Some(page_token) = &args.page_token {
            list = list.after(page_token);
        }
        let page = client.list(list).await.map_err(Failure::read)?;
        (page.leases, page.next_page_token)
    };
    let as_json = || json!({ "leases": leases_json(&leases), "next_page_token": next });
    let as_table = || format!("{}{}", lease_table(&leases), more(next.as_ref()));
    output::print(format, as_json, as_table)?;
    Ok(())
}

fn more(next: Option<&String>) -> String {
    match next {
        Some(page_token) => format!("more: --page-token {}, or --all\n", clean(page_token)),
        None => String::new(),
    }
}

fn leases_json(leases: &[LeaseInfo]) -> Vec<Value> {
    leases.iter().map(lease_json).collect()
}

// === waiters ===

pub(crate) async fn waiters(
    client: &Client,
    args: &WaitersArgs,
    format: Format,
) -> Result<(), Failure> {
    let (waiters, next) = if args.all {
        (client.list_all_waiters().await.map_err(Failure::read)?, None)
    } else {
        let mut list = ListWaiters::new().page_size(args.page_size);
        if let Some(page_token) = &args.page_token {
            list = list.after(page_token);
        }
        let page = client.list_waiters(list).await.map_err(Failure::read)?;
        (page.waiters, page.next_page_token)
    };
    let as_json = || json!({ "waiters": waiters_json(&waiters), "next_page_token": next });
    let as_table = || format!("{}{}", waiter_table(&waiters), more(next.as_ref()));
    output::print(format, as_json, as_table)?;
    Ok(())
}

fn waiters_json(waiters: &[WaiterInfo]) -> Vec<Value> {
    waiters.iter().map(waiter_json).collect()
}

/// Those who wait, and the foremost of what is in the way of each.
pub(crate) fn waiter_table(waiters: &[WaiterInfo]) -> String {
    let rows: Vec<_> = waiters
        .iter()
        .map(|waiter| {
            [
                names(&waiter.targets),
                clean(&waiter.holder).into_owned(),
                waiter.priority.to_string(),
                duration::show(waiter.waited),
                if waiter.attached { "yes" } else { "no" }.to_owned(),
                blocker(waiter),
            ]
        })
        .collect();
    table(["RESOURCE", "HOLDER", "PRIORITY", "WAITING", "ATTACHED", "BLOCKED BY"], &rows)
}

/// Those who wait, in the order in which they will be served.
fn queue_table(waiters: &[WaiterInfo]) -> String {
    let rows: Vec<_> = waiters
        .iter()
        .map(|waiter| {
            [
                clean(&waiter.holder).into_owned(),
                names(&waiter.targets),
                waiter.priority.to_string(),
                duration::show(waiter.waited),
                if waiter.attached { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    table(["WAITS", "FOR", "PRIORITY", "SINCE", "ATTACHED"], &rows)
}

/// The foremost of what stands in the way of a waiter, and how much more there is.
fn blocker(waiter: &WaiterInfo) -> String {
    let Some(held) = &waiter.blocked_by else { return String::new() };
    let holders = usize::try_from(held.holder_count).unwrap_or(usize::MAX).max(held.holders.len());
    let (foremost, others) = match (held.holders.first(), held.waiters.first()) {
        (Some(by), _) => (held_by(by), (holders - 1).saturating_add(held.waiters.len())),
        (None, Some(waiter)) => (format!("behind {}", held_waiter(waiter)), held.waiters.len() - 1),
        (None, None) if !held.closed.is_zero() => {
            (format!("closed for {}", duration::show(held.closed)), 0)
        }
        (None, None) => return String::new(),
    };
    if others == 0 { foremost } else { format!("{foremost}; {others} more") }
}

// === stats ===

pub(crate) async fn stats(client: &Client, format: Format) -> Result<(), Failure> {
    let stats = client.stats().await.map_err(Failure::read)?;
    let as_table = || counts(&stats).map(|(name, count)| format!("{name:<16}{count}\n")).concat();
    output::print(format, || stats_json(&stats), as_table)?;
    Ok(())
}

/// Counts of a namespace.
pub(crate) fn stats_json(stats: &Stats) -> Value {
    counts(stats).into_iter().map(|(name, count)| (name, number(count))).collect()
}

const fn counts(stats: &Stats) -> [(&'static str, u64); 9] {
    [
        ("leases", stats.leases),
        ("waiters", stats.waiters),
        ("closed", stats.closed),
        ("sessions", stats.sessions),
        ("granted_total", stats.granted_total),
        ("released_total", stats.released_total),
        ("lost_total", stats.lost_total),
        ("queued_total", stats.queued_total),
        ("revision", stats.revision),
    ]
}

// === check ===

pub(crate) async fn check(
    client: &Client,
    resource: &str,
    token: u64,
    format: Format,
) -> Result<(), Failure> {
    let check = client.check(resource, token).await.map_err(Failure::read)?;
    let as_json = || {
        json!({
            "current": check.current,
            "current_token": check.current_token.map(number),
            "holder": check.holder,
            "remaining_ms": number(check.remaining.as_millis()),
        })
    };
    let as_table = || {
        let verdict = if check.current { "current" } else { "stale" };
        let holder = clean(check.holder.as_deref().unwrap_or("somebody")).into_owned();
        let left = duration::show(check.remaining);
        match check.current_token {
            Some(newest) => {
                format!("{verdict}: the newest token is {newest}, held by {holder}, {left} left\n")
            }
            None => format!("{verdict}: nobody holds {}\n", clean(resource)),
        }
    };
    output::print(format, as_json, as_table)?;
    if check.current { Ok(()) } else { Err(Failure::Shown(Exit::Refused)) }
}
