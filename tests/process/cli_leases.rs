//! The life of a lease by hand: every lease command against a real server.

use serde_json::Value;

use crate::{
    command::{Finished, client},
    server::Server,
};

/// Runs a lease command with JSON output.
async fn lease(server: &Server, args: &[&str]) -> Finished {
    client(&server.url(), &[&["lease", "-o", "json"], args].concat()).await
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("expected {key} as a string in {object}"))
}

#[tokio::test]
async fn status_of_a_running_server_is_serving_and_of_a_killed_one_unreachable() {
    let mut server = Server::start_with(&["--store", "memory"]).await;
    let status = client(&server.url(), &["status", "-o", "json"]).await.ended_with(0).json();
    assert_eq!((&status["reachable"], &status["health"]), (&true.into(), &"SERVING".into()));
    server.kill().await;
    client(&server.url(), &["status"]).await.ended_with(69);
}

#[tokio::test]
async fn a_lease_is_taken_renewed_shown_checked_and_given_back() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let args = ["acquire", "a/b", "--holder", "ada", "--ttl", "60s"];
    let grant = lease(&server, &args).await.ended_with(0).json();
    let (id, token) = (text(&grant, "lease_id"), text(&grant, "token"));
    assert_eq!((grant["replayed"].as_bool(), text(&grant, "holder")), (Some(false), "ada"));

    let refused = lease(&server, &["acquire", "a/b", "--holder", "bob"]).await.ended_with(1);
    let error = refused.error_json();
    assert_eq!(text(&error, "reason"), "HELD");
    assert_eq!(text(&error["detail"]["held"]["holders"][0], "token"), token);

    lease(&server, &["renew", id, token]).await.ended_with(0);
    let shown = lease(&server, &["get", "--id", id]).await.ended_with(0).json();
    assert_eq!((text(&shown, "resource"), text(&shown, "token")), ("a/b", token));
    let holders = lease(&server, &["get", "a/b"]).await.ended_with(0).json();
    assert_eq!(holders["holder_count"], 1);
    let listed = lease(&server, &["list", "--all"]).await.ended_with(0).json();
    assert_eq!(text(&listed["leases"][0], "holder"), "ada");
    assert!(listed["next_page_token"].is_null());
    lease(&server, &["check", "a/b", token]).await.ended_with(0);

    let released = lease(&server, &["release", id, token]).await.ended_with(0).json();
    assert_eq!(released["replayed"], false);
    let released = lease(&server, &["release", id, token]).await.ended_with(0).json();
    assert_eq!(released["replayed"], true);
    lease(&server, &["check", "a/b", token]).await.ended_with(1);
    let error = lease(&server, &["renew", id, token]).await.ended_with(1).error_json();
    assert_eq!(text(&error, "reason"), "LEASE_LOST");
}

#[tokio::test]
async fn a_repeated_acquire_gets_the_same_lease() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let args = ["acquire", "r", "--request-id", "mine"];
    let first = lease(&server, &args).await.ended_with(0).json();
    let second = lease(&server, &args).await.ended_with(0).json();
    assert_eq!(text(&first, "lease_id"), text(&second, "lease_id"));
    assert_eq!(text(&first, "token"), text(&second, "token"));
    assert_eq!((&first["replayed"], &second["replayed"]), (&false.into(), &true.into()));
}

#[tokio::test]
async fn an_abandoned_acquire_holds_nothing() {
    let server = Server::start_with(&["--store", "memory"]).await;
    lease(&server, &["acquire", "r", "--request-id", "mine"]).await.ended_with(0);
    for (request_id, state) in [("mine", "HELD"), ("mine", "NOTHING"), ("never sent", "NOTHING")] {
        let abandoned = lease(&server, &["abandon", request_id]).await.ended_with(0).json();
        assert_eq!(
            (text(&abandoned, "state"), text(&abandoned, "request_id")),
            (state, request_id)
        );
    }
    lease(&server, &["acquire", "r", "--holder", "bob"]).await.ended_with(0);
}

#[tokio::test]
async fn a_stale_fence_is_refused_with_what_is_current() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let grant = lease(&server, &["acquire", "leader"]).await.ended_with(0).json();
    let token: u64 = text(&grant, "token").parse().unwrap();
    let fence = format!("leader={token}");
    lease(&server, &["acquire", "job/1", "--fence", &fence]).await.ended_with(0);
    let stale = format!("leader={}", token + 1_000);
    let error =
        lease(&server, &["acquire", "job/2", "--fence", &stale]).await.ended_with(1).error_json();
    assert_eq!(text(&error, "reason"), "STALE_FENCE");
    let detail = &error["detail"]["stale_fence"];
    assert_eq!(text(detail, "current_token"), text(&grant, "token"));
}

#[tokio::test]
async fn pages_of_a_list_follow_each_other() {
    let server = Server::start_with(&["--store", "memory"]).await;
    for resource in ["a", "b", "c"] {
        lease(&server, &["acquire", resource]).await.ended_with(0);
    }
    let first = lease(&server, &["list", "--page-size", "2"]).await.ended_with(0).json();
    assert_eq!(first["leases"].as_array().unwrap().len(), 2);
    let args = ["list", "--page-size", "2", "--page-token", text(&first, "next_page_token")];
    let second = lease(&server, &args).await.ended_with(0).json();
    assert_eq!(text(&second["leases"][0], "resource"), "c");
    assert!(second["next_page_token"].is_null());
}

#[tokio::test]
async fn a_forced_release_never_guesses_whom_it_hits() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let error = lease(&server, &["force-release", "r"]).await.ended_with(1).error_json();
    assert!(text(&error, "message").contains("found none"), "{error}");

    lease(&server, &["acquire", "r", "--holder", "ada"]).await.ended_with(0);
    let forced = lease(&server, &["force-release", "r"]).await.ended_with(0).json();
    assert_eq!(text(&forced["ended"][0], "holder"), "ada");

    let mut tokens = Vec::new();
    for holder in ["ada", "bob", "eve"] {
        let args = ["acquire", "r", "--shared", "--holder", holder];
        let grant = lease(&server, &args).await.ended_with(0).json();
        tokens.push(text(&grant, "token").to_owned());
    }
    let error = lease(&server, &["force-release", "r"]).await.ended_with(1).error_json();
    assert!(text(&error, "next_step").contains("--all"), "{error}");
    let forced =
        lease(&server, &["force-release", "r", "--token", &tokens[1]]).await.ended_with(0).json();
    assert_eq!(text(&forced["ended"][0], "holder"), "bob");
    let forced = lease(&server, &["force-release", "r", "--all"]).await.ended_with(0).json();
    assert_eq!(forced["ended"].as_array().unwrap().len(), 2);
    let error = lease(&server, &["force-release", "r", "--token", &tokens[0]])
        .await
        .ended_with(1)
        .error_json();
    assert_eq!(text(&error, "reason"), "NOT_FOUND");
}

#[tokio::test]
async fn namespaces_see_nothing_of_each_other() {
    let server = Server::start_with(&["--store", "memory"]).await;
    lease(&server, &["acquire", "r", "--namespace", "one"]).await.ended_with(0);
    lease(&server, &["acquire", "r", "--namespace", "two"]).await.ended_with(0);
    let listed = lease(&server, &["list"]).await.ended_with(0).json();
    assert_eq!(listed["leases"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn what_was_acquired_on_disk_is_there_after_a_stop_and_a_start() {
    let mut server = Server::start().await;
    let grant = lease(&server, &["acquire", "r", "--ttl", "10m"]).await.ended_with(0).json();
    assert_eq!(server.stop().await, Some(0), "{}", server.log());
    server.restart().await;
    let (id, token) = (text(&grant, "lease_id"), text(&grant, "token"));
    lease(&server, &["renew", id, token]).await.ended_with(0);
}
