//! `lease acquire`: repeats a wait longer than one call may last, and gives up at Ctrl-C.

use serde_json::{Value, json};
use singletrack::{Acquire, Client, Error, Lease, MAX_WAIT, Reason, new_request_id};
use tokio::time::Instant;

use crate::{
    actor,
    args::{AcquireArgs, Fence, Format, Label},
    duration,
    exit::Failure,
    output::{self, clean, names, number, table, target_json},
};

pub(crate) async fn acquire(
    client: &Client,
    args: &AcquireArgs,
    format: Format,
) -> Result<(), Failure> {
    let request_id = match &args.request_id {
        Some(given) => given.clone(),
        None => new_request_id().map_err(Failure::write)?,
    };
    let wish = wish(args, &request_id);
    let lease = tokio::select! {
        result = acquire_until(client, wish, args) => result.map_err(Failure::write)?,
        _ = tokio::signal::ctrl_c() => return Err(give_up(client, args, &request_id).await),
    };
    output::print(format, || granted_json(&lease), || granted_table(&lease))?;
    Ok(())
}

fn wish(args: &AcquireArgs, request_id: &str) -> Acquire {
    let said = &args.wish;
    let holder = said.holder.clone().unwrap_or_else(default_holder);
    let mut wish = Acquire::on(said.targets(&args.resources), holder)
        .ttl(said.ttl)
        .priority(said.priority)
        .lock_delay(said.lock_delay)
        .request_id(request_id);
    let surrounding = || actor::outer().and_then(|outer| actor::told(&outer));
    if let Some(actor) = args.actor.clone().or_else(surrounding) {
        wish = wish.actor(actor);
    }
    if let Some(max_hold) = said.max_hold {
        wish = wish.max_hold(max_hold);
    }
    if let Some(keep) = args.keep {
        wish = wish.keep(keep);
    }
    for Label { key, value } in &said.labels {
        wish = wish.label(key, value);
    }
    for Fence { resource, token } in &args.fences {
        wish = wish.fence(resource, *token);
    }
    wish
}

/// A wait longer than one call may last is the same call again.
async fn acquire_until(client: &Client, wish: Acquire, args: &AcquireArgs) -> Result<Lease, Error> {
    let started = Instant::now();
    let mut left = args.wish.wait;
    loop {
        let sent = started.elapsed();
        let mut attempt = wish.clone().wait(left.min(MAX_WAIT));
        // An attempt before this command may have been lost; it grows older while this one waits.
        if !args.age.is_zero() {
            attempt = attempt.age(args.age.saturating_add(sent));
        }
        match client.acquire(attempt).await {
            Err(error) if error.reason() == Some(Reason::StillWaiting) => {
                left = args.wish.wait.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(error);
                }
            }
            Ok(mut lease) => {
                // The way of the answer is no part of it: `remaining` begins when the server
                // answers, so a reader's deadline would come too late.
                lease.waited = lease.waited.saturating_add(sent);
                return Ok(lease);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Drops the place in the queue, unless the caller named the call and can come back to it.
async fn give_up(client: &Client, args: &AcquireArgs, request_id: &str) -> Failure {
    if args.request_id.is_some() {
        let message =
            "the place in the queue is kept for a while; repeat the command to go on waiting";
        return Failure::Interrupted { message: message.to_owned() };
    }
    match client.abandon(request_id).await {
        Ok(_) => {
            let message = "the acquire was abandoned, nothing is held".to_owned();
            Failure::Interrupted { message }
        }
        Err(error) => Failure::NotAbandoned { error, request_id: request_id.to_owned() },
    }
}

/// The same for each command of one person on one machine, so that a repeated call is the same.
pub(crate) fn default_holder() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host())
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

fn granted_json(lease: &Lease) -> Value {
    let targets: Vec<_> = lease.targets.iter().map(target_json).collect();
    json!({
        "resource": lease.resource(),
        "targets": targets,
        "holder": lease.holder,
        "lease_id": lease.lease_id,
        "token": number(lease.token),
        "remaining_ms": number(lease.remaining.as_millis()),
        "waited_ms": number(lease.waited.as_millis()),
        "replayed": lease.replayed,
        "request_id": lease.request_id,
    })
}

fn granted_table(lease: &Lease) -> String {
    let row = [
        names(&lease.targets),
        clean(&lease.lease_id).into_owned(),
        lease.token.to_string(),
        duration::show(lease.remaining),
        duration::show(lease.waited),
    ];
    table(["RESOURCE", "LEASE ID", "TOKEN", "REMAINING", "WAITED"], &[row])
}
