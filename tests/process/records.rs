//! Records and transactions by hand: the commands against a real server.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::{Finished, client},
    server::Server,
};

/// Runs a command with JSON output.
async fn told(server: &Server, args: &[&str]) -> Finished {
    client(&server.url(), &[args, &["-o", "json"]].concat()).await
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("expected {key} as a string in {object}"))
}

#[tokio::test]
async fn a_record_is_put_read_counted_listed_and_deleted() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let new = told(&server, &["put", "orders/7", "new", "--absent"]).await.ended_with(0).json();
    let late = told(&server, &["put", "orders/7", "x", "--absent"]).await.ended_with(94);
    let found = late.error_json()["detail"]["version_mismatch"].take();
    assert_eq!(
        (text(&found, "current_version"), text(&found["value"], "text")),
        (text(&new, "version"), "new")
    );
    let args =
        ["put", "orders/7", "packed", "--expect-version", text(&new, "version"), "--ttl", "1h"];
    let packed = told(&server, &args).await.ended_with(0).json();
    assert_eq!(text(&packed, "created_at_version"), text(&new, "version"));
    let got = client(&server.url(), &["get", "orders/7"]).await.ended_with(0);
    assert_eq!(got.stdout, "packed");
    let got = told(&server, &["get", "orders/7"]).await.ended_with(0).json();
    assert_eq!(text(&got, "version"), text(&packed, "version"));
    assert!(text(&got, "remaining_ms").parse::<u64>().unwrap() <= 3_600_000);

    let error = told(&server, &["incr", "orders/7"]).await.ended_with(1).error_json();
    assert_eq!(text(&error, "reason"), "NOT_A_COUNTER");
    let counted = client(&server.url(), &["incr", "orders/count", "5"]).await.ended_with(0);
    assert_eq!(counted.stdout, "5\n");
    let args = ["incr", "orders/count", "-6", "--min", "0"];
    let error = told(&server, &args).await.ended_with(1).error_json();
    assert_eq!(text(&error["detail"]["out_of_bounds"], "value"), "5");

    let listed = client(&server.url(), &["ls", "orders", "--keys"]).await.ended_with(0);
    assert_eq!(listed.stdout, "orders/7\norders/count\n");
    let listed = client(&server.url(), &["ls", "--limit", "1"]).await.ended_with(0);
    assert!(listed.stdout.lines().count() == 2 && listed.stdout.contains("packed"), "{listed:?}");
    told(&server, &["del", "orders/7", "--expect-version", "1"]).await.ended_with(94);
    let deleted = told(&server, &["del", "orders/7"]).await.ended_with(0).json();
    assert_eq!(text(&deleted, "deleted_version"), text(&packed, "version"));
    client(&server.url(), &["get", "orders/7"]).await.ended_with(1);
    let none = told(&server, &["del", "orders/7"]).await.ended_with(0).json();
    assert_eq!(none["existed"], false);
}

#[tokio::test]
async fn a_write_that_is_repeated_under_its_id_is_done_once() {
    let server = Server::start_with(&["--store", "memory"]).await;
    for replayed in [false, true] {
        let args = ["incr", "n", "3", "--request-id", "mine"];
        let counted = told(&server, &args).await.ended_with(0).json();
        assert_eq!((text(&counted, "value"), &counted["replayed"]), ("3", &replayed.into()));
    }
    let args = ["incr", "n", "4", "--request-id", "mine"];
    let error = told(&server, &args).await.ended_with(1).error_json();
    assert_eq!(text(&error, "reason"), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn below_a_protected_prefix_only_the_holder_writes_also_within_lock() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let protect = ["protect", "deploy/step", "deploy"];
    told(&server, &protect).await.ended_with(1);
    told(&server, &[&protect[..], &["--as-admin"]].concat()).await.ended_with(0);
    let shown =
        told(&server, &["protections", "--key", "deploy/step/2"]).await.ended_with(0).json();
    assert_eq!(text(&shown["protections"][0], "resource"), "deploy");
    let error = told(&server, &["put", "deploy/step/2", "x"]).await.ended_with(1).error_json();
    assert_eq!(text(&error["detail"]["fence_required"], "prefix"), "deploy/step");

    // As the documentation has it.
    let binary = env!("CARGO_BIN_EXE_singletrack");
    let script = format!("{binary} put deploy/step '2 of 5' --fence \"deploy=$SINGLETRACK_TOKEN\"");
    let args = ["lock", "deploy", "--", "sh", "-c", &script];
    let locked = client(&server.url(), &args).await.ended_with(0);
    assert!(locked.stdout.starts_with("created, version "), "{locked:?}");
    let args = ["put", "deploy/step", "late", "--fence", "deploy=17"];
    let error = told(&server, &args).await.ended_with(1).error_json();
    assert_eq!(text(&error, "reason"), "STALE_FENCE");
    told(&server, &["unprotect", "deploy/step", "deploy", "--as-admin"]).await.ended_with(0);
    told(&server, &["put", "deploy/step", "free"]).await.ended_with(0);
}

#[tokio::test]
async fn a_transaction_happens_once_and_whole() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let grant = told(&server, &["lease", "acquire", "orders/7"]).await.ended_with(0).json();
    let (id, token) = (text(&grant, "lease_id"), text(&grant, "token"));
    let args = ["put", "orders/7/bound", "x", "--bound-lease", &format!("{id}:{token}")];
    told(&server, &args).await.ended_with(0);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("t.json");
    let transaction = format!(
        r#"{{"conditions": [{{"fence": {{"resource": "orders/7", "token": "{token}"}}}},
            {{"record": {{"key": "orders/7/state", "expect": {{"absent": true}}}}}}],
          "operations": [
            {{"put_record": {{"key": "orders/7/state", "value": {{"text": "packed"}}}}}},
            {{"increment_record": {{"key": "orders/packed", "delta": 1}}}},
            {{"release_lease": {{"lease_id": "{id}", "token": "{token}"}}}}]}}"#
    );
    std::fs::write(&file, transaction).unwrap();
    let args = ["txn", file.to_str().unwrap(), "--request-id", "mine"];
    for replayed in [false, true] {
        let done = told(&server, &args).await.ended_with(0).json();
        assert_eq!(done["replayed"], replayed);
        assert_eq!(text(&done["replies"][1]["increment_record"], "value"), "1");
    }
    client(&server.url(), &["get", "orders/7/bound"]).await.ended_with(1);
    told(&server, &["lease", "check", "orders/7", token]).await.ended_with(1);
    let error = told(&server, &["txn", file.to_str().unwrap()]).await.ended_with(1).error_json();
    assert_eq!((&error["reason"], &error["condition_index"]), (&"STALE_FENCE".into(), &0.into()));
}
