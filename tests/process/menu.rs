//! The whole menu of leases against a real server: by the command line, and by the client on the
//! stream of its session.

use std::time::Duration;

use serde_json::{Value, json};
use singletrack::{
    Acquire, Client, HoldState, LeaseEnd, Reason, RequestYield, Transport, YieldAnswer,
};

use crate::{
    command::{Finished, client},
    server::Server,
};

const SECOND: Duration = Duration::from_secs(1);

async fn started() -> Server {
    Server::start_with(&["--store", "memory"]).await
}

/// Runs a command with JSON output.
async fn json_of(server: &Server, line: &str) -> Finished {
    let args: Vec<_> = line.split(' ').chain(["-o", "json"]).collect();
    client(&server.url(), &args).await
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_else(|| panic!("expected {key} as a string in {object}"))
}

#[tokio::test]
async fn several_names_are_had_together_or_not_at_all() {
    let server = started().await;
    let grant =
        json_of(&server, "lease acquire src/a docs --holder ada").await.ended_with(0).json();
    let refused = json_of(&server, "lease acquire free src --subtree --holder bob").await;
    let error = refused.ended_with(1).error_json();
    let held = &error["detail"]["held"];
    assert_eq!(
        (&held["resource"], &held["holders"][0]["resource"]),
        (&json!("src"), &json!("src/a"))
    );
    assert_eq!(held["holders"][0]["token"], grant["token"]);
    let free = json_of(&server, "lease get free").await.ended_with(0).json();
    assert_eq!(free["holder_count"], 0, "what was free was not taken either");
    json_of(&server, "lease acquire free srcs --subtree --holder bob").await.ended_with(0);
}

#[tokio::test]
async fn permits_are_counted_and_their_number_is_one() {
    let server = started().await;
    for (line, code) in [
        ("lease acquire pool --permits 2/5 --holder a", 0),
        ("lease acquire pool --permits 3/5 --holder b", 0),
        ("lease acquire pool --permits 1/5 --holder c", 1),
        ("lease acquire pool --permits 1/6 --holder d", 64),
        ("lease acquire pool --holder e", 1),
    ] {
        json_of(&server, line).await.ended_with(code);
    }
}

#[tokio::test]
async fn a_lock_within_a_lock_on_the_same_is_a_deadlock_and_beside_it_is_not() {
    let server = started().await;
    let binary = env!("CARGO_BIN_EXE_singletrack");
    let inner = format!("{binary} lock a/b --wait 50s -- echo ran");
    let nested = |outer: &[&str]| {
        let args = [&["lock"], outer, &["--", "sh", "-c", &inner]].concat();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let url = server.url();
        async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            client(&url, &args).await
        }
    };
    let ended = nested(&["a", "--subtree"]).await.ended_with(93);
    assert!(ended.stderr.contains("which is held by") && ended.stdout.is_empty(), "{ended:?}");
    let ended = nested(&["a"]).await.ended_with(0);
    assert_eq!(ended.stdout, "ran\n");
}

#[tokio::test]
async fn a_longest_hold_stops_the_command_that_renews() {
    let server = started().await;
    let args = ["lock", "a", "--ttl", "10s", "--max-hold", "4s", "--", "sleep", "30"];
    client(&server.url(), &args).await.ended_with(92);
    let left = server.client().get("a").await.unwrap().leases.len();
    assert_eq!(left, 1, "it is gone before the server could give the lease to another");
}

#[tokio::test]
async fn what_was_taken_away_stays_closed_for_its_lock_delay() {
    let server = started().await;
    json_of(&server, "lease acquire a --lock-delay 30s --holder ada").await.ended_with(0);
    json_of(&server, "lease force-release a").await.ended_with(0);
    let error = json_of(&server, "lease acquire a --holder bob").await.ended_with(1).error_json();
    let closed: u64 = text(&error["detail"]["held"], "closed_ms").parse().unwrap();
    assert!((20_000..=30_000).contains(&closed), "{error}");
    let shown = json_of(&server, "lease get a").await.ended_with(0).json();
    assert_ne!(shown["closed_ms"], "0");
    assert_eq!(json_of(&server, "lease stats").await.ended_with(0).json()["closed"], "1");
}

#[tokio::test]
async fn a_lease_is_given_to_another() {
    let server = started().await;
    let grant = json_of(&server, "lease acquire a --holder ada --ttl 60s").await.json();
    let (id, token) = (text(&grant, "lease_id"), text(&grant, "token"));
    let line = format!("lease transfer {id} {token} --to bob --request-id mine");
    let given = json_of(&server, &line).await.ended_with(0).json();
    let again = json_of(&server, &line).await.ended_with(0).json();
    assert_eq!((&again["lease_id"], &again["replayed"]), (&given["lease_id"], &json!(true)));
    let lost =
        json_of(&server, &format!("lease renew {id} {token}")).await.ended_with(1).error_json();
    assert_eq!(text(&lost["detail"]["lease_lost"], "end"), "TRANSFERRED");
    let (id, token) = (text(&given, "lease_id"), text(&given, "token"));
    json_of(&server, &format!("lease renew {id} {token}")).await.ended_with(0);
    let shown = json_of(&server, "lease get a").await.json();
    assert_eq!(text(&shown["leases"][0], "holder"), "bob");
}

#[tokio::test]
async fn a_holder_is_asked_answers_and_its_answer_is_told() {
    let server = started().await;
    let grant = json_of(&server, "lease acquire a --holder ada --ttl 60s").await.json();
    let (id, token) = (text(&grant, "lease_id"), text(&grant, "token"));
    let ask = "lease yield a --reason hotfix --holder bob";
    let asked = json_of(&server, ask).await.ended_with(0).json();
    assert_eq!(
        (&asked["holders"][0]["holder"], &asked["holders"][0]["answer"]),
        (&json!("ada"), &Value::Null)
    );
    let renewed = json_of(&server, &format!("lease renew {id} {token}")).await.json();
    assert_eq!(renewed["yield_requests"], 1);
    let shown = json_of(&server, &format!("lease get --id {id}")).await.ended_with(0).json();
    assert_eq!(text(&shown["yield_requests"][0], "reason"), "hotfix");

    let answer = format!("lease answer {id} {token} --yield-within 5s --message soon");
    assert_eq!(json_of(&server, &answer).await.ended_with(0).json()["answered"], 1);
    let asked = json_of(&server, &format!("{ask} --wait 10s")).await.ended_with(0).json();
    assert_eq!(text(&asked["holders"][0]["answer"], "message"), "soon");
    let error = json_of(&server, "lease acquire a --holder bob").await.ended_with(1).error_json();
    assert!(error["detail"]["held"]["holders"][0]["yield_answer"].is_string(), "{error}");
    json_of(&server, "lease yield nothing --reason hotfix").await.ended_with(1);
}

#[tokio::test]
async fn lists_are_filtered_and_waiters_say_what_is_in_their_way() {
    let server = started().await;
    for line in [
        "lease acquire src/a --holder ada --label team=red --label k=v",
        "lease acquire src/b --holder bob --label team=red",
        "lease acquire srcs --holder ada",
    ] {
        json_of(&server, line).await.ended_with(0);
    }
    for (filter, expected) in [
        ("--holder ada", vec!["src/a", "srcs"]),
        ("--prefix src", vec!["src/a", "src/b"]),
        ("--label team=red", vec!["src/a", "src/b"]),
        ("--label team=red --label k=v --all", vec!["src/a"]),
        ("--holder ada --prefix srcs", vec!["srcs"]),
    ] {
        let listed = json_of(&server, &format!("lease list {filter}")).await.ended_with(0).json();
        let names: Vec<_> =
            listed["leases"].as_array().unwrap().iter().map(|it| text(it, "resource")).collect();
        assert_eq!(names, expected, "{filter}");
    }
    let eve = server.client();
    let wish = Acquire::new("src", "eve").subtree().wait(10 * SECOND);
    let waiting = tokio::spawn(async move { eve.acquire(wish).await });
    let waiter = loop {
        let listed = json_of(&server, "lease waiters --all").await.ended_with(0).json();
        if let Some(waiter) = listed["waiters"].get(0) {
            break waiter.clone();
        }
    };
    assert_eq!((text(&waiter, "holder"), text(&waiter["targets"][0], "reach")), ("eve", "SUBTREE"));
    assert_eq!(waiter["blocked_by"]["holder_count"], 2);
    let frame = json_of(&server, "top --interval 100ms").await.ended_with(0).json();
    let blockers: Vec<_> =
        frame["blockers"].as_array().unwrap().iter().map(|it| text(it, "holder")).collect();
    assert_eq!(blockers, ["ada", "bob"]);
    for resource in ["src/a", "src/b"] {
        json_of(&server, &format!("lease force-release {resource}")).await.ended_with(0);
    }
    waiting.await.unwrap().unwrap();
}

// === the client, on the stream of its session and over unary calls ===

fn of(server: &Server, transport: Transport) -> Client {
    let client = Client::builder(server.url()).transport(transport).session_ttl(3 * SECOND);
    client.holder("ada").build().unwrap()
}

#[tokio::test]
async fn a_holder_on_a_stream_is_told_that_somebody_asks() {
    let server = started().await;
    let (ada, bob) = (of(&server, Transport::Session), server.client());
    let lease = ada.lease("a").acquire().await.unwrap();
    let ask = || RequestYield::new("a", "bob").reason("a hotfix");
    assert!(bob.request_yield(ask()).await.unwrap()[0].told);
    let limit = 10 * SECOND;
    let request = tokio::time::timeout(limit, lease.yield_requested()).await.unwrap().unwrap();
    assert_eq!((&*request.holder, request.reason.as_deref()), ("bob", Some("a hotfix")));
    lease.answer_yield(&request, YieldAnswer::within(5 * SECOND)).await.unwrap();
    let status = bob.request_yield(ask()).await.unwrap().remove(0);
    assert_eq!(status.answer, Some(YieldAnswer::within(5 * SECOND)));
    assert_eq!(lease.yield_requests().await.unwrap().len(), 1);
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_lease_is_not_believed_beyond_its_longest_hold_and_tells_its_end() {
    let server = started().await;
    for transport in [Transport::Session, Transport::Unary] {
        let client = of(&server, transport);
        let mut wish = client.lease("a").max_hold(2 * SECOND);
        if transport == Transport::Unary {
            wish = wish.ttl(10 * SECOND);
        }
        let lease = wish.acquire().await.unwrap();
        assert!(lease.remaining() <= 2 * SECOND - Duration::from_millis(20), "{transport:?}");
        assert_ne!(lease.not_held().await, HoldState::Held);
        let lost = tokio::time::timeout(10 * SECOND, lease.lost()).await.unwrap();
        assert_eq!(
            (lost.lease_end(), lease.end()),
            (Some(LeaseEnd::MaxHold), Some(LeaseEnd::MaxHold))
        );
    }
}

#[tokio::test]
async fn a_lease_is_transferred_and_adopted() {
    let server = started().await;
    for transport in [Transport::Session, Transport::Unary] {
        let (ada, bob) = (of(&server, transport), of(&server, Transport::Auto));
        let lease = ada.lease("a").ttl(5 * SECOND).acquire().await.unwrap();
        let old = lease.token();
        let given = lease.transfer("bob").await.unwrap();
        assert!(given.token > old);
        let kept = bob.adopt(given.lease_id, given.token).await.unwrap();
        assert_eq!((kept.state(), kept.resource()), (HoldState::Held, "a"));
        assert_eq!(bob.get("a").await.unwrap().leases[0].holder, "bob");
        kept.release().await.unwrap();
    }
}

#[tokio::test]
async fn two_agents_that_would_wait_for_each_other_are_told() {
    let server = started().await;
    for transport in [Transport::Session, Transport::Unary] {
        let (ada, bob) = (of(&server, transport), of(&server, transport));
        let a = ada.lease("a").actor("ada").acquire().await.unwrap();
        let b = bob.lease("b").actor("bob").holder("bob").acquire().await.unwrap();
        let waiting = ada.lease("b").actor("ada").wait(30 * SECOND);
        let waiting = tokio::spawn(waiting.acquire());
        while ada.get("b").await.unwrap().waiter_count == 0 {}
        let error = bob.lease("a").actor("bob").wait(30 * SECOND).acquire().await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::Deadlock), "{error}");
        let cycle = &error.deadlock().unwrap().cycle;
        let actors: Vec<_> = cycle.iter().map(|step| step.actor.as_str()).collect();
        assert_eq!(actors, ["bob", "ada"]);
        // What it is told to do.
        b.release().await.unwrap();
        let b = waiting.await.unwrap().unwrap();
        b.release().await.unwrap();
        a.release().await.unwrap();
    }
}
