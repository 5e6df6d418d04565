//! The model as text for a pipe, and as JSON. Owns the shapes that `docs/cli.md` promises.

use serde_json::{Value, json};

use super::model::{Blocker, Model, Rates, Snapshot};
use crate::{
    duration,
    lease::{stats_json, waiter_table},
    output::{clean, lease_json, lease_table, number, table, waiter_json},
};

/// One frame as lines of text.
pub(super) fn to_text(model: &Model) -> String {
    let none = Snapshot::default();
    let snapshot = model.snapshot.as_ref().unwrap_or(&none);
    let mut text = headlines(model).into_iter().map(|line| line + "\n").collect::<String>();
    text.push_str("\nLEASES\n");
    text.push_str(&lease_table(&snapshot.leases));
    text.push_str(if snapshot.has_more_leases { "and more\n" } else { "" });
    text.push_str("\nWAITERS\n");
    text.push_str(&waiter_table(&snapshot.waiters));
    text.push_str(if snapshot.has_more_waiters { "and more\n" } else { "" });
    text.push_str("\nBLOCKERS\n");
    let rows: Vec<_> = model
        .blockers
        .iter()
        .map(|it| {
            [
                clean(&it.holder).into_owned(),
                how(it),
                clean(&it.resource).into_owned(),
                it.blocked.len().to_string(),
                duration::show(it.longest),
                blocked(it),
            ]
        })
        .collect();
    text.push_str(&table(["HOLDER", "HOW", "RESOURCE", "BLOCKS", "LONGEST", "WHOM"], &rows));
    text
}

/// What stands above everything: where, how many, how fast.
pub(super) fn headlines(model: &Model) -> Vec<String> {
    let prefix = match model.prefix.as_str() {
        "" => String::new(),
        prefix => format!(", below {}", clean(prefix)),
    };
    let state = match &model.trouble {
        Some((since, _)) => {
            format!("not reached for {}", duration::show(model.now.saturating_sub(*since)))
        }
        None if model.snapshot.is_none() => "not reached yet".to_owned(),
        None => "reached".to_owned(),
    };
    let (server, namespace) = (clean(&model.server), clean(&model.namespace));
    let every = duration::show(model.interval);
    let stats = model.snapshot.as_ref().map(|it| it.stats).unwrap_or_default();
    vec![
        format!("{server}, namespace {namespace}{prefix}, every {every}: {state}"),
        format!(
            "{} leases, {} waiters, {} closed, {} sessions",
            stats.leases, stats.waiters, stats.closed, stats.sessions
        ),
        match &model.trouble {
            Some((_, error)) => clean(error).into_owned(),
            None => rates(model.rates.as_ref()),
        },
    ]
}

fn rates(rates: Option<&Rates>) -> String {
    match rates {
        Some(it) => format!(
            "{:.1} granted/s, {:.1} released/s, {:.1} lost/s, {:.1} queued/s, {:.1} revisions/s",
            it.granted, it.released, it.lost, it.queued, it.revisions
        ),
        None => "no rates yet".to_owned(),
    }
}

/// In what way somebody is in the way.
pub(super) fn how(blocker: &Blocker) -> String {
    let mut words = match &blocker.by {
        Some(by) => {
            let most = by.hold_remaining.map(|most| format!(", {} at most", duration::show(most)));
            format!("holds it for {}{}", duration::show(by.held), most.unwrap_or_default())
        }
        None => "waits before".to_owned(),
    };
    if let Some(resource) = blocker.waits_for.as_ref().filter(|_| blocker.by.is_some()) {
        words.push_str(&format!(", waits for {}", clean(resource)));
    }
    words
}

/// Whom somebody blocks, the first few by name.
pub(super) fn blocked(blocker: &Blocker) -> String {
    const NAMED: usize = 4;
    let names: Vec<_> = blocker.blocked.iter().take(NAMED).map(|it| clean(it)).collect();
    match blocker.blocked.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{}, {more} more", names.join(", ")),
    }
}

/// The same for programs.
pub(super) fn to_json(model: &Model) -> Value {
    let none = Snapshot::default();
    let snapshot = model.snapshot.as_ref().unwrap_or(&none);
    let blockers: Vec<_> = model
        .blockers
        .iter()
        .map(|it| {
            json!({
                "holder": it.holder,
                "token": it.by.as_ref().map(|by| number(by.token)),
                "resource": it.resource,
                "blocked": it.blocked,
                "longest_ms": number(it.longest.as_millis()),
                "waits_for": it.waits_for,
            })
        })
        .collect();
    let rates = model.rates.as_ref().map(|it| {
        json!({
            "granted": it.granted,
            "released": it.released,
            "lost": it.lost,
            "queued": it.queued,
            "revisions": it.revisions,
        })
    });
    json!({
        "server": model.server,
        "namespace": model.namespace,
        "prefix": model.prefix,
        "stats": stats_json(&snapshot.stats),
        "rates_per_s": rates,
        "leases": snapshot.leases.iter().map(lease_json).collect::<Vec<_>>(),
        "has_more_leases": snapshot.has_more_leases,
        "waiters": snapshot.waiters.iter().map(waiter_json).collect::<Vec<_>>(),
        "has_more_waiters": snapshot.has_more_waiters,
        "blockers": blockers,
    })
}
