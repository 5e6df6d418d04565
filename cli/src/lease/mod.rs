//! `singletrack lease …`: what a command adds to its call.
//!
//! - `acquire`: repeating a long wait, giving up at Ctrl-C
//! - `force`: finding the token for a forced release
//! - `show`: tables
//! - `yields`: asking until there is an answer

mod acquire;
mod force;
mod show;
mod yields;

use serde_json::json;
use singletrack::{Abandoned, Client, Release, Transfer};

pub(crate) use self::{
    acquire::default_holder,
    show::{stats_json, waiter_table},
};
use crate::{
    args::{Fence, Format, LeaseCommand, LeaseKey, ReleaseArgs, TransferArgs},
    duration,
    exit::Failure,
    output::{self, clean, number, table},
};

pub(crate) async fn run(
    client: &Client,
    command: &LeaseCommand,
    format: Format,
) -> Result<(), Failure> {
    match command {
        LeaseCommand::Acquire(args) => acquire::acquire(client, args, format).await,
        LeaseCommand::Abandon { request_id } => abandon(client, request_id, format).await,
        LeaseCommand::Renew(args) => renew(client, args, format).await,
        LeaseCommand::Release(args) => release(client, args, format).await,
        LeaseCommand::Transfer(args) => transfer(client, args, format).await,
        LeaseCommand::Yield(args) => yields::ask(client, args, format).await,
        LeaseCommand::Answer(args) => yields::answer(client, args, format).await,
        LeaseCommand::Get(args) => show::get(client, args, format).await,
        LeaseCommand::List(args) => show::list(client, args, format).await,
        LeaseCommand::Waiters(args) => show::waiters(client, args, format).await,
        LeaseCommand::Stats => show::stats(client, format).await,
        LeaseCommand::Check { resource, token } => {
            show::check(client, resource, *token, format).await
        }
        LeaseCommand::ForceRelease(args) => force::force_release(client, args, format).await,
    }
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
    let (left, asking) = (renewed.remaining, renewed.yield_requests);
    let as_json = || json!({ "remaining_ms": number(left.as_millis()), "yield_requests": asking });
    let as_table = || {
        let asked = match asking {
            0 => String::new(),
            _ => format!("{asking} ask you to yield: see `lease get --id`, then `lease answer`\n"),
        };
        format!("renewed, {} left\n{asked}", duration::show(left))
    };
    output::print(format, as_json, as_table)?;
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

// === transfer ===

async fn transfer(client: &Client, args: &TransferArgs, format: Format) -> Result<(), Failure> {
    let mut transfer =
        Transfer::new(&args.lease.lease_id, args.lease.token, &args.to).age(args.age);
    if let Some(actor) = &args.to_actor {
        transfer = transfer.actor(actor);
    }
    if let Some(ttl) = args.ttl {
        transfer = transfer.ttl(ttl);
    }
    if let Some(request_id) = &args.request_id {
        transfer = transfer.request_id(request_id);
    }
    for Fence { resource, token } in &args.fences {
        transfer = transfer.fence(resource, *token);
    }
    let given = client.transfer(transfer).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "holder": args.to,
            "lease_id": given.lease_id,
            "token": number(given.token),
            "remaining_ms": number(given.remaining.as_millis()),
            "replayed": given.replayed,
            "request_id": given.request_id,
        })
    };
    let as_table = || {
        let row = [
            clean(&args.to).into_owned(),
            clean(&given.lease_id).into_owned(),
            given.token.to_string(),
            duration::show(given.remaining),
        ];
        table(["HOLDER", "LEASE ID", "TOKEN", "REMAINING"], &[row])
    };
    output::print(format, as_json, as_table)?;
    Ok(())
}
