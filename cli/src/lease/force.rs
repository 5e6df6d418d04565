//! `lease force-release`: finds the token of the lease to end, and never guesses whom it hits.

use serde_json::json;
use singletrack::{Client, ForceRelease, Reason};

use crate::{
    args::{ForceReleaseArgs, Format},
    exit::{Exit, Failure},
    output::{self, clean, number},
};

pub(crate) async fn force_release(
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
