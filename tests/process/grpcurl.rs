//! Anybody with grpcurl can use the server: no proto files, readable refusals.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    command::{self, Finished},
    server::Server,
    tools,
};

async fn grpcurl(tool: &Path, server: &Server, before: &[&str], after: &[&str]) -> Finished {
    let mut command = Command::new(tool);
    command.args(["-plaintext", "-max-time", "20"]).args(before).arg(server.address().to_string());
    command::run(command.args(after)).await
}

/// A call with its request as JSON; the answer as JSON.
async fn call(tool: &Path, server: &Server, method: &str, request: &str) -> Value {
    let method = format!("singletrack.v1.{method}");
    grpcurl(tool, server, &["-d", request], &[&method]).await.ended_with(0).json()
}

#[tokio::test]
async fn grpcurl_lists_every_service_and_method() {
    let Some(tool) = tools::find("grpcurl") else {
        return;
    };
    let server = Server::start().await;
    let services = grpcurl(&tool, &server, &[], &["list"]).await.ended_with(0);
    for service in [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "singletrack.v1.LeaseService",
        "singletrack.v1.SessionService",
    ] {
        assert!(services.stdout.lines().any(|line| line == service), "{}", services.stdout);
    }
    let mut listed = BTreeSet::new();
    for service in ["singletrack.v1.LeaseService", "singletrack.v1.SessionService"] {
        let methods = grpcurl(&tool, &server, &[], &["list", service]).await.ended_with(0);
        listed.extend(methods.stdout.lines().map(str::to_owned));
    }
    let called = [
        "LeaseService.AcquireLease",
        "LeaseService.AbandonLease",
        "LeaseService.RenewLeases",
        "LeaseService.ReleaseLease",
        "LeaseService.GetLease",
        "LeaseService.ListLeases",
        "LeaseService.CheckLease",
        "LeaseService.ForceReleaseLease",
        "LeaseService.TransferLease",
        "LeaseService.RequestLeaseYield",
        "LeaseService.AnswerLeaseYield",
        "LeaseService.ListLeaseWaiters",
        "LeaseService.GetLeaseStats",
        "SessionService.CloseSession",
        "SessionService.Exchange",
        "SessionService.KeepSessionAlive",
        "SessionService.ListSessionLeases",
        "SessionService.OpenSession",
        "SessionService.Ping",
    ];
    // A new method must be called by one of the next tests too.
    assert_eq!(listed, called.map(|name| format!("singletrack.v1.{name}")).into());
}

#[tokio::test]
async fn grpcurl_calls_every_method_of_leases() {
    let Some(tool) = tools::find("grpcurl") else {
        return;
    };
    let server = Server::start().await;
    let (tool, server) = (tool.as_path(), &server);

    let wish = r#"{"request_id": "one", "holder": "ada", "targets": [{"resource": "a/b"}]}"#;
    let lease = call(tool, server, "LeaseService/AcquireLease", wish).await;
    let (lease_id, token) = (lease["leaseId"].as_str().unwrap(), lease["token"].as_str().unwrap());
    assert_eq!(lease_id.len(), 32);

    let key = format!(r#"{{"lease_id": "{lease_id}", "token": "{token}"}}"#);
    let renewals = format!(r#"{{"renewals": [{key}]}}"#);
    let renewed = call(tool, server, "LeaseService/RenewLeases", &renewals).await;
    assert!(renewed["results"][0]["renewed"]["remainingMs"].is_string(), "{renewed}");

    let holders = call(tool, server, "LeaseService/GetLease", r#"{"resource": "a/b"}"#).await;
    assert_eq!(holders["leases"][0]["holder"], "ada");
    let all = call(tool, server, "LeaseService/ListLeases", "{}").await;
    assert_eq!(all["leases"][0]["token"], token);

    let on = format!(r#"{{"resource": "a/b", "token": "{token}"}}"#);
    let check = call(tool, server, "LeaseService/CheckLease", &on).await;
    assert_eq!(check["current"], true);

    call(tool, server, "LeaseService/ReleaseLease", &key).await;
    let wish = r#"{"request_id": "two", "holder": "ada", "targets": [{"resource": "a/b"}]}"#;
    let lease = call(tool, server, "LeaseService/AcquireLease", wish).await;
    let on = format!(r#"{{"resource": "a/b", "token": {}}}"#, lease["token"]);
    let forced = call(tool, server, "LeaseService/ForceReleaseLease", &on).await;
    assert_eq!(forced["holder"], "ada");

    let unknown = r#"{"abandoned_request_id": "three"}"#;
    let abandoned = call(tool, server, "LeaseService/AbandonLease", unknown).await;
    assert_eq!(abandoned["state"], "ABANDONED_STATE_NOTHING");
}

#[tokio::test]
async fn grpcurl_calls_every_method_of_the_whole_menu() {
    let Some(tool) = tools::find("grpcurl") else {
        return;
    };
    let server = Server::start().await;
    let (tool, server) = (tool.as_path(), &server);

    let wish = r#"{"holder": "ada", "actor": "ada/1", "labels": {"task": "T-1"},
        "max_hold_ms": "600000", "lock_delay_ms": "1000", "targets": [
            {"resource": "repo", "reach": "LEASE_REACH_SUBTREE"},
            {"resource": "pool", "mode": "LEASE_MODE_PERMITS", "permits": 2, "limit": 5}]}"#;
    let lease = call(tool, server, "LeaseService/AcquireLease", wish).await;

    let ask = r#"{"resource": "repo/src", "holder": "bob", "reason": "a hot fix"}"#;
    let asked = call(tool, server, "LeaseService/RequestLeaseYield", ask).await;
    assert_eq!(asked["holders"][0]["token"], lease["token"], "{asked}");
    let answer = format!(
        r#"{{"lease_id": {}, "token": {}, "will_yield": true, "within_ms": "5000"}}"#,
        lease["leaseId"], lease["token"]
    );
    let answered = call(tool, server, "LeaseService/AnswerLeaseYield", &answer).await;
    assert_eq!(answered["answered"], 1, "{answered}");

    let give = format!(
        r#"{{"lease_id": {}, "token": {}, "to_holder": "heir"}}"#,
        lease["leaseId"], lease["token"]
    );
    let given = call(tool, server, "LeaseService/TransferLease", &give).await;
    assert_ne!(given["leaseId"], lease["leaseId"], "{given}");
    let list = r#"{"holder": "heir", "resource_prefix": "repo", "labels": {"task": "T-1"}}"#;
    let all = call(tool, server, "LeaseService/ListLeases", list).await;
    assert_eq!(all["leases"][0]["token"], given["token"], "{all}");
    assert_eq!(all["leases"][0]["targets"][1]["permits"], 2, "{all}");

    // Its wait ends, its place is kept.
    let wish = r#"{"request_id": "w", "holder": "bob", "wait_ms": "10", "keep_ms": "60000",
        "targets": [{"resource": "repo/src"}]}"#;
    let method = ["singletrack.v1.LeaseService/AcquireLease"];
    let refused = grpcurl(tool, server, &["-d", wish], &method).await;
    assert!(refused.stderr.contains("STILL_WAITING"), "{}", refused.stderr);
    let waiters = call(tool, server, "LeaseService/ListLeaseWaiters", "{}").await;
    let waiter = &waiters["waiters"][0];
    assert_eq!(waiter["holder"], "bob", "{waiters}");
    assert_eq!(waiter["blockedBy"]["holders"][0]["resource"], "repo", "{waiters}");
    let stats = call(tool, server, "LeaseService/GetLeaseStats", "{}").await;
    assert_eq!((&stats["leases"], &stats["waiters"]), (&"1".into(), &"1".into()), "{stats}");
}

#[tokio::test]
async fn grpcurl_calls_every_method_of_sessions() {
    let Some(tool) = tools::find("grpcurl") else {
        return;
    };
    let server = Server::start().await;
    let (tool, server) = (tool.as_path(), &server);

    let pong = call(tool, server, "SessionService/Ping", r#"{"payload": "aGVsbG8="}"#).await;
    assert_eq!(pong["payload"], "aGVsbG8=");

    let opened = call(tool, server, "SessionService/OpenSession", r#"{"holder": "ada"}"#).await;
    let session = opened["sessionId"].as_str().unwrap();
    let its = format!(r#"{{"session_id": "{session}"}}"#);
    let kept = call(tool, server, "SessionService/KeepSessionAlive", &its).await;
    assert!(kept["remainingMs"].is_string(), "{kept}");

    // Frame by frame, as JSON one after the other.
    let frames = format!(
        r#"{{"hello": {its}}}
        {{"operations": [{{"seq": 1, "acquire_lease": {{
            "holder": "ada", "targets": [{{"resource": "a/b"}}]}}}}]}}"#
    );
    let method = ["singletrack.v1.SessionService/Exchange"];
    let finished = grpcurl(tool, server, &["-d", &frames], &method).await.ended_with(0);
    let frames: Vec<Value> = serde_json::Deserializer::from_str(&finished.stdout)
        .into_iter()
        .map(|frame| frame.unwrap_or_else(|error| panic!("{error}: {}", finished.stdout)))
        .collect();
    assert_eq!(frames[0]["welcome"]["sessionId"], session, "{frames:?}");
    // What is ready at the same moment comes in the same frame.
    let reply = frames.iter().find_map(|frame| frame["replies"].get(0)).expect("a reply");
    let token = &reply["acquireLease"]["token"];
    assert!(token.is_string(), "{frames:?}");

    let held = call(tool, server, "SessionService/ListSessionLeases", &its).await;
    assert_eq!(&held["leases"][0]["token"], token, "{held}");
    call(tool, server, "SessionService/CloseSession", &its).await;
    let all = call(tool, server, "LeaseService/ListLeases", "{}").await;
    assert_eq!(all["leases"], Value::Null, "{all}");
}

#[tokio::test]
async fn a_wrong_call_shows_its_details_in_grpcurl() {
    let Some(tool) = tools::find("grpcurl") else {
        return;
    };
    let server = Server::start().await;
    let wrong = r#"{"holder": "ada", "targets": [{"resource": "a//b"}]}"#;
    let before = ["-format-error", "-d", wrong];
    let method = ["singletrack.v1.LeaseService/AcquireLease"];
    let refused = grpcurl(&tool, &server, &before, &method).await;
    assert_ne!(refused.code, 0);
    let status: Value = serde_json::from_str(&refused.stderr)
        .unwrap_or_else(|error| panic!("expected JSON, found {error}: {}", refused.stderr));
    assert_eq!(status["code"], 3, "{status}");
    let details = status["details"].as_array().unwrap();
    let detail = |name: &str| {
        let named = |detail: &&Value| detail["@type"].as_str().unwrap().ends_with(name);
        details.iter().find(named).unwrap_or_else(|| panic!("no {name} in {status}"))
    };
    let info = detail("google.rpc.ErrorInfo");
    assert_eq!((&info["reason"], &info["domain"]), (&"MALFORMED".into(), &"singletrack".into()));
    let violation = &detail("google.rpc.BadRequest")["fieldViolations"][0];
    assert_eq!(violation["field"], "targets[0].resource");
    let refusal = detail("singletrack.v1.Refusal");
    assert_eq!(refusal["reason"], "REFUSAL_REASON_MALFORMED");
    assert_eq!(refusal["malformed"]["violations"][0]["field"], "targets[0].resource");
    assert!(!refusal["nextStep"].as_str().unwrap().is_empty());
}
