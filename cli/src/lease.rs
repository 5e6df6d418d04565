//! `singletrack lease …`. Owns what a command adds to its call: repeating a long wait, giving
//! up at Ctrl-C, finding the token for a forced release.

use serde_json::{Value, json};
use singletrack::{
    Abandoned, Acquire, Client, Error, ForceRelease, Lease, LeaseInfo, List, MAX_WAIT, Reason,
    Release, new_request_id,
};
use tokio::time::Instant;

use crate::{
    args::{
        AcquireArgs, Fence, ForceReleaseArgs, Format, GetArgs, LeaseCommand, LeaseKey, ListArgs,
        ReleaseArgs,
    },
    duration,
    exit::{Exit, Failure},
    output::{self, clean, lease_json, lease_table, number, table},
};

pub(crate) async fn run(
    client: &Client,
    command: &LeaseCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        LeaseCommand::Acquire(args) => acquire(client, args, format).await,
        LeaseCommand::Abandon { request_id } => abandon(client, request_id, format).await,
        LeaseCommand::Renew(args) => renew(client, args, format).await,
        LeaseCommand::Release(args) => release(client, args, format).await,
        LeaseCommand::Get(args) => get(client, args, format).await,
        LeaseCommand::List(args) => list(client, args, format).await,
        LeaseCommand::Check { resource, token } => check(client, resource, *token, format).await,
        LeaseCommand::ForceRelease(args) => force_release(client, args, format).await,
    }
}

// === acquire ===

async fn acquire(client: &Client, args: &AcquireArgs, format: Format) -> Result<(), Failure> {
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
    let holder = args.holder.clone().unwrap_or_else(default_holder);
    let mut wish = Acquire::new(&args.resource, holder)
        .ttl(args.ttl)
        .priority(args.priority)
        .request_id(request_id);
    if args.shared {
        wish = wish.shared();
    }
    if let Some(keep) = args.keep {
        wish = wish.keep(keep);
    }
    for Fence { resource, token } in &args.fences {
        wish = wish.fence(resource, *token);
    }
    wish
}

/// A wait longer than one call may last is the same call again.
async fn acquire_until(client: &Client, wish: Acquire, args: &AcquireArgs) -> Result<Lease, Error> {
    let started = Instant::now();
    let mut left = args.wait;
    loop {
        let sent = started.elapsed();
        let mut attempt = wish.clone().wait(left.min(MAX_WAIT));
        // An attempt before this command may have been lost; it grows older while this one waits.
        if !args.age.is_zero() {
            attempt = attempt.age(args.age.saturating_add(sent));
        }
        match client.acquire(attempt).await {
            Err(error) if error.reason() == Some(Reason::StillWaiting) => {
                left = args.wait.saturating_sub(started.elapsed());
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
    json!({
        "resource": lease.resource,
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
        clean(&lease.resource).into_owned(),
        clean(&lease.lease_id).into_owned(),
        lease.token.to_string(),
        duration::show(lease.remaining),
        duration::show(lease.waited),
    ];
    table(["RESOURCE", "LEASE ID", "TOKEN", "REMAINING", "WAITED"], &[row])
}

// === abandon ===

async fn abandon(client: &Client, request_id: &str, format: Format) -> Result<(), Failure> {
    let state = client.abandon(request_id).await.map_err(|error| {
        Failure::repeat(error, "repeat it: to abandon a call twice is harmless")
    })?;
    let (name, words) = match state {
        Abandoned::Nothing => ("NOTHING", "nothing was known of it, or it was abandoned before"),
        Abandoned::Waiting => ("WAITING", "it was waiting and waits no more"),
        Abandoned::Held => ("HELD", "it held the lease, which is released"),
        Abandoned::Ended => ("ENDED", "its lease had already ended"),
        Abandoned::Other => ("UNKNOWN", "in a way that this version doesn't know"),
        _ => ("UNKNOWN", "in a way that this command doesn't know"),
    };
    let as_json = || json!({ "request_id": request_id, "state": name });
    output::print(format, as_json, || format!("abandoned: {words}\n"))?;
    Ok(())
}

// === renew, release ===

async fn renew(client: &Client, args: &LeaseKey, format: Format) -> Result<(), Failure> {
    let renewed = client
        .renew_one(&args.lease_id, args.token)
        .await
        .map_err(|error| Failure::repeat(error, "repeat it: a renewal is harmless"))?;
    let left = renewed.remaining;
    let as_json = || json!({ "remaining_ms": number(left.as_millis()) });
    output::print(format, as_json, || format!("renewed, {} left\n", duration::show(left)))?;
    Ok(())
}

async fn release(client: &Client, args: &ReleaseArgs, format: Format) -> Result<(), Failure> {
    let mut release = Release::new(&args.lease.lease_id, args.lease.token).age(args.age);
    if let Some(request_id) = &args.request_id {
        release = release.request_id(request_id);
    }
    for Fence { resource, token } in &args.fences {
        release = release.fence(resource, *token);
    }
    let replayed = client.release(release).await.map_err(Failure::write)?.replayed;
    let words = if replayed { "released before\n" } else { "released\n" };
    output::print(format, || json!({ "replayed": replayed }), || words.to_owned())?;
    Ok(())
}

// === get, list, check ===

async fn get(client: &Client, args: &GetArgs, format: Format) -> Result<(), Failure> {
    if let Some(lease_id) = &args.id {
        let lease = client.get_by_id(lease_id).await.map_err(Failure::read)?;
        let as_table = || lease_table(std::slice::from_ref(&lease));
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
        })
    };
    let as_table = || {
        let waiting = format!("{} waiting\n", holders.waiter_count);
        if holders.leases.is_empty() {
            return format!("{} is free, {waiting}", clean(resource));
        }
        let shown = u32::try_from(holders.leases.len()).unwrap_or(u32::MAX);
        let more = holders.holder_count.saturating_sub(shown);
        let more = if more > 0 { format!("{more} more holders, ") } else { String::new() };
        format!("{}{more}{waiting}", lease_table(&holders.leases))
    };
    output::print(format, as_json, as_table)?;
    Ok(())
}

async fn list(client: &Client, args: &ListArgs, format: Format) -> Result<(), Failure> {
    let (leases, next) = if args.all {
        (client.list_all().await.map_err(Failure::read)?, None)
    } else {
        let mut list = List::new().page_size(args.page_size);
        if let Some(page_token) = &args.page_token {
            list = list.after(page_token);
        }
        let page = client.list(list).await.map_err(Failure::read)?;
        (page.leases, page.next_page_token)
    };
    let as_json = || json!({ "leases": leases_json(&leases), "next_page_token": next });
    let as_table = || {
        let more = match &next {
            Some(page_token) => format!("more: --page-token {}, or --all\n", clean(page_token)),
            None => String::new(),
        };
        format!("{}{more}", lease_table(&leases))
    };
    output::print(format, as_json, as_table)?;
    Ok(())
}

fn leases_json(leases: &[LeaseInfo]) -> Vec<Value> {
    leases.iter().map(lease_json).collect()
}

async fn check(client: &Client, resource: &str, token: u64, format: Format) -> Result<(), Failure> {
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

// === force-release ===

async fn force_release(
    client: &Client,
    args: &ForceReleaseArgs,
    format: Format,
) -> Result<(), Failure> {
    let mut ended = Vec::new();
    let result = end_leases(client, args, &mut ended).await;
    if result.is_err() && ended.is_empty() {
        return result;
    }
    let as_json = || {
        let ended: Vec<_> = ended
            .iter()
            .map(|(token, holder)| json!({ "token": number(token), "holder": holder }))
            .collect();
        json!({ "resource": args.resource, "ended": ended })
    };
    let as_table = || {
        let line = |(token, holder): &(u64, String)| {
            format!("ended token {token}, held by {}\n", clean(holder))
        };
        ended.iter().map(line).collect()
    };
    // What was ended is told even if the next one failed.
    let printed = output::print(format, as_json, as_table);
    result?;
    Ok(printed?)
}

/// Ends what is meant, and notes each as soon as it has ended.
async fn end_leases(
    client: &Client,
    args: &ForceReleaseArgs,
    ended: &mut Vec<(u64, String)>,
) -> Result<(), Failure> {
    if let Some(token) = args.token {
        ended.push((token, end_lease(client, args, token).await?));
        return Ok(());
    }
    // A round shows at most 64 of them. New ones may come, so the rounds are bounded.
    for round in 0..1_000 {
        let tokens = tokens_to_end(client, args, round).await?;
        if tokens.is_empty() {
            break;
        }
        for token in tokens {
            match end_lease(client, args, token).await {
                Ok(holder) => ended.push((token, holder)),
                // It ended by itself in between.
                Err(Failure::Call { error, .. })
                    if args.all && error.reason() == Some(Reason::NotFound) => {}
                Err(failure) => return Err(failure),
            }
        }
        if !args.all {
            break;
        }
    }
    Ok(())
}

async fn end_lease(
    client: &Client,
    args: &ForceReleaseArgs,
    token: u64,
) -> Result<String, Failure> {
    let mut release = ForceRelease::new(&args.resource, token);
    if let Some(request_id) = &args.request_id {
        release = release.request_id(request_id);
    }
    let forced = client.force_release(release).await.map_err(|error| {
        Failure::write(error).advised(|error| {
            let request_id = error.request_id()?;
            Some(format!("repeat it with --token {token} --request-id {request_id}"))
        })
    })?;
    Ok(forced.holder)
}

/// The tokens of those who hold the resource; refuses to guess which of several is meant.
async fn tokens_to_end(
    client: &Client,
    args: &ForceReleaseArgs,
    rounds: u32,
) -> Result<Vec<u64>, Failure> {
    let holders = client.get(&args.resource).await.map_err(Failure::read)?;
    let refuse = |message: String, next_step: &str| {
        Err(Failure::Said { exit: Exit::Refused, message, next_step: next_step.to_owned() })
    };
    if holders.leases.is_empty() && rounds == 0 {
        return refuse(
            format!("expected a lease on {:?}, found none", args.resource),
            "nothing needs to be done: the resource is free",
        );
    }
    if holders.holder_count > 1 && !args.all {
        return refuse(
            format!("expected one lease on {:?}, found {}", args.resource, holders.holder_count),
            "name one with --token, as `lease get` shows them, or end all with --all",
        );
    }
    Ok(holders.leases.iter().map(|lease| lease.token).collect())
}
