//! `singletrack status`: is the server there, and does it serve?

use serde_json::json;
use singletrack::{Client, Error, Health, Reason};

use crate::{
    args::ClientArgs,
    exit::{Exit, Failure},
    output,
};

/// Prints what it found, reachable or not, and fails unless the server serves.
pub(crate) async fn run(client: &Client, args: &ClientArgs) -> Result<(), Failure> {
    let ping = client.ping().await;
    let health = match &ping {
        Ok(_) => health(client).await,
        Err(_) => Health::Unknown,
    };
    let round_trip_ms = ping.as_ref().ok().map(|trip| trip.as_secs_f64() * 1_000.0);
    let as_json = || {
        json!({
            "server": args.server,
            "namespace": args.namespace,
            "reachable": ping.is_ok(),
            "round_trip_ms": round_trip_ms,
            "health": health.name(),
            "client_version": env!("CARGO_PKG_VERSION"),
        })
    };
    let as_table = || {
        let reachable = match round_trip_ms {
            Some(trip) => format!("yes, in {trip:.1}ms"),
            None => "no".to_owned(),
        };
        let rows = [
            ["server", &args.server],
            ["namespace", &args.namespace],
            ["reachable", &reachable],
            ["health", health.name()],
            ["client version", env!("CARGO_PKG_VERSION")],
        ];
        let lines = rows.map(|[name, value]| format!("{name:<16}{}\n", output::clean(value)));
        lines.concat()
    };
    output::print(args.output, as_json, as_table)?;
    ping.map_err(Failure::read)?;
    if health == Health::NotServing {
        return Err(Failure::Said {
            exit: Exit::TryAgain,
            message: "expected a server that serves, found one that is starting or stopping".into(),
            next_step: "try again in a moment; if it stays so, read the server's log".into(),
        });
    }
    Ok(())
}

/// A server may have no health service. It answered the ping, so that is no failure.
async fn health(client: &Client) -> Health {
    let not_now = |error: &Error| error.reason() == Some(Reason::ShuttingDown);
    match client.health().await {
        Ok(health) => health,
        Err(error) if not_now(&error) => Health::NotServing,
        Err(_) => Health::Unknown,
    }
}
