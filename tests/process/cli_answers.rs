//! What the command says and how it ends, against a fake server: what a real one won't do on
//! demand.

use std::{process::Stdio, time::Duration};

use prost::{Message as _, Name as _};
use prost_types::Any;
use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply, refusal::Detail},
};
use tonic::Status;
use tonic_types::pb;

use crate::{
    command::{Finished, client, run, singletrack},
    fake::{Answer, Fake},
};

/// A refusal as a server sends it.
pub(crate) fn refusal(reason: Reason, detail: Option<Detail>) -> Status {
    let refusal = v1::Refusal {
        reason: reason.to_wire().into(),
        message: "what happened".into(),
        next_step: "what to do".into(),
        detail,
        ..Default::default()
    };
    refusal_of(reason, &refusal)
}

/// As [`refusal`], whatever is said in it.
pub(crate) fn refusal_of(reason: Reason, refusal: &v1::Refusal) -> Status {
    let info = pb::ErrorInfo {
        reason: reason.name().into(),
        domain: "singletrack".into(),
        ..Default::default()
    };
    let any = |name: &str, value| Any { type_url: format!("type.googleapis.com/{name}"), value };
    let packed = pb::Status {
        code: reason.code() as i32,
        message: String::new(),
        details: vec![
            any("google.rpc.ErrorInfo", info.encode_to_vec()),
            any(&v1::Refusal::full_name(), refusal.encode_to_vec()),
        ],
    };
    Status::with_details(reason.code(), "what happened", packed.encode_to_vec().into())
}

fn held() -> Detail {
    let holder = v1::HeldBy {
        holder: "ada\u{1b}[31m".into(),
        token: 9_007_199_254_740_991,
        remaining_ms: 12_300,
        held_ms: 302_000,
        ..Default::default()
    };
    Detail::Held(v1::HeldDetail {
        resource: "r".into(),
        holders: vec![holder],
        holder_count: 1,
        queue_position: 2,
        ..Default::default()
    })
}

pub(crate) fn granted(token: u64) -> Reply {
    Reply::AcquireLease(v1::AcquireLeaseResponse {
        lease_id: "ab".repeat(16),
        token,
        remaining_ms: 30_000,
        waited_ms: 0,
        replayed: false,
    })
}

fn info() -> v1::LeaseInfo {
    v1::LeaseInfo {
        targets: vec![v1::LeaseTarget {
            resource: "r".into(),
            mode: v1::LeaseMode::Shared.into(),
            ..Default::default()
        }],
        holder: "ada".into(),
        token: 1,
        ttl_ms: 30_000,
        remaining_ms: 20_000,
        ..Default::default()
    }
}

fn acquires(fake: &Fake) -> Vec<v1::AcquireLeaseRequest> {
    let asked = fake.asked().into_iter();
    asked
        .filter_map(|asked| {
            let Operation::AcquireLease(request) = asked.operation else {
                return None;
            };
            Some(request)
        })
        .collect()
}

#[tokio::test]
async fn each_reason_has_its_exit_code() {
    let fake = Fake::start().await;
    for (reason, code) in [
        (Reason::Held, 1),
        (Reason::Deadlock, 93),
        (Reason::LimitMismatch, 64),
        (Reason::StaleFence, 1),
        (Reason::FenceRequired, 1),
        (Reason::AlreadyDone, 1),
        (Reason::NotACounter, 1),
        (Reason::OutOfBounds, 1),
        (Reason::NotFound, 1),
        (Reason::VersionMismatch, 94),
        (Reason::RequestIdReused, 1),
        (Reason::Malformed, 64),
        (Reason::Internal, 70),
        (Reason::Overloaded, 75),
        (Reason::Quota, 75),
        (Reason::ShuttingDown, 75),
        (Reason::DeadlineExceeded, 76),
        (Reason::OutcomeUnknown, 76),
    ] {
        fake.refuse(refusal(reason, None));
        let finished = client(&fake.url(), &["lease", "acquire", "r"]).await.ended_with(code);
        assert!(finished.stdout.is_empty(), "{}", finished.stdout);
        let expected = format!("error: {}: what happened\n", reason.name());
        assert!(finished.stderr.starts_with(&expected), "{}", finished.stderr);
        assert!(finished.stderr.ends_with("  next: what to do\n"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_refusal_tells_a_person_who_holds_it() {
    let fake = Fake::start().await;
    fake.refuse(refusal(Reason::Held, Some(held())));
    let finished = client(&fake.url(), &["lease", "acquire", "r"]).await.ended_with(1);
    let expected = "error: HELD: what happened\n  \
                    held by: ada\\u{1b}[31m, token 9007199254740991, held for 5m02s, 12.3s left unless renewed\n  \
                    waiting before you: 2\n  next: what to do\n";
    assert_eq!(finished.stderr, expected);
}

#[tokio::test]
async fn a_refusal_tells_a_program_the_same() {
    let fake = Fake::start().await;
    fake.refuse(refusal(Reason::Held, Some(held())));
    let args = ["lease", "acquire", "r", "--request-id", "mine", "-o", "json"];
    let error = client(&fake.url(), &args).await.ended_with(1).error_json();
    let expected = serde_json::json!({
        "reason": "HELD",
        "message": "what happened",
        "next_step": "what to do",
        "retry": "higher-level",
        "may_have_happened": false,
        "from_server": true,
        "retry_after_ms": null,
        "request_id": "mine",
        "condition_index": null,
        "operation_index": null,
        "exit_code": 1,
        "detail": { "held": {
            "resource": "r",
            "holders": [{
                "holder": "ada\u{1b}[31m",
                "token": "9007199254740991",
                "remaining_ms": "12300",
                "shared": false,
                "resource": null,
                "subtree": false,
                "permits": 0,
                "held_ms": "302000",
                "hold_remaining_ms": null,
                "actor": null,
                "yield_answer": null,
            }],
            "holder_count": 1,
            "queue_position": 2,
            "waited_ms": "0",
            "waiters": [],
            "closed_ms": "0",
            "permits_used": 0,
            "permits_wanted": 0,
            "blocked_targets": 0,
        }},
    });
    assert_eq!(error, expected);
}

#[tokio::test]
async fn an_unknown_outcome_names_the_request_id_to_repeat_it_with() {
    let fake = Fake::start().await;
    fake.refuse(Status::unavailable("connection reset"));
    let finished = client(&fake.url(), &["lease", "acquire", "r"]).await.ended_with(76);
    let request_id = acquires(&fake).remove(0).request_id;
    let expected = format!("  request id: {request_id}\n");
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
    // A read has no outcome to be unknown.
    fake.refuse(Status::unavailable("connection reset"));
    client(&fake.url(), &["lease", "get", "r"]).await.ended_with(69);
}

#[tokio::test]
async fn a_wait_goes_on_with_the_same_request_id() {
    let fake = Fake::start().await;
    fake.refuse(refusal(Reason::StillWaiting, None))
        .refuse(refusal(Reason::StillWaiting, None))
        .say(granted(7));
    let args = ["lease", "acquire", "r", "--wait", "10m", "--holder", "ada", "-o", "json"];
    let grant = client(&fake.url(), &args).await.ended_with(0).json();
    assert_eq!((&grant["token"], &grant["holder"]), (&"7".into(), &"ada".into()));
    let sent = acquires(&fake);
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|one| one.request_id == sent[0].request_id && one.wait_ms <= 50_000));
    assert_eq!(grant["request_id"], sent[0].request_id.as_str());
}

#[tokio::test]
async fn the_way_of_the_answer_is_no_waiting() {
    let fake = Fake::start().await;
    fake.say(granted(7));
    let args = ["lease", "acquire", "r", "--wait", "10m", "-o", "json"];
    let grant = client(&fake.url(), &args).await.ended_with(0).json();
    assert_eq!(grant["waited_ms"], "0");
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over() {
    let fake = Fake::start().await;
    for _ in 0..1_000 {
        fake.refuse(refusal(Reason::StillWaiting, Some(held())));
    }
    let args = ["lease", "acquire", "r", "--wait", "5ms"];
    let finished = client(&fake.url(), &args).await.ended_with(1);
    assert!(finished.stderr.starts_with("error: STILL_WAITING"), "{}", finished.stderr);
    assert!(finished.stderr.contains("  request id: "), "{}", finished.stderr);
}

/// Waits for a lease that never comes, gets Ctrl-C, and ends.
async fn interrupted(fake: &Fake) -> (v1::AcquireLeaseRequest, Finished) {
    let mut command = singletrack();
    command.args(["lease", "acquire", "r", "--wait", "5m", "-o", "json", "--server", &fake.url()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let acquire = loop {
        if let Some(acquire) = acquires(fake).pop() {
            break acquire;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let id = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let finished = Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    (acquire, finished)
}

fn abandoned(state: v1::AbandonedState) -> Reply {
    Reply::AbandonLease(v1::AbandonLeaseResponse { state: state.into() })
}

#[tokio::test]
async fn ctrl_c_abandons_a_wait() {
    let fake = Fake::start().await;
    fake.will(Answer::Nothing).say(abandoned(v1::AbandonedState::Waiting));
    let (acquire, finished) = interrupted(&fake).await;
    finished.ended_with(130);
    let Operation::AbandonLease(abandon) = fake.asked().remove(0).operation else {
        panic!("expected an abandon");
    };
    assert_eq!(abandon.abandoned_request_id, acquire.request_id);
}

#[tokio::test]
async fn a_wait_that_could_not_be_abandoned_is_named_and_abandoned_later() {
    let fake = Fake::start().await;
    fake.will(Answer::Nothing).refuse(Status::unavailable("connection reset"));
    let (acquire, finished) = interrupted(&fake).await;
    let error = finished.ended_with(76).error_json();
    assert_eq!(error["request_id"], acquire.request_id.as_str());
    assert!(error["next_step"].as_str().unwrap().contains(&acquire.request_id), "{error}");

    fake.asked();
    fake.say(abandoned(v1::AbandonedState::Held));
    let args = ["lease", "abandon", &acquire.request_id, "-o", "json"];
    assert_eq!(client(&fake.url(), &args).await.ended_with(0).json()["state"], "HELD");
    let Operation::AbandonLease(abandon) = fake.asked().remove(0).operation else {
        panic!("expected an abandon");
    };
    assert_eq!(abandon.abandoned_request_id, acquire.request_id);
    // To repeat it is harmless.
    fake.refuse(Status::unavailable("connection reset"));
    client(&fake.url(), &args).await.ended_with(75);
}

#[tokio::test]
async fn the_id_of_a_lease_may_come_from_the_environment() {
    let fake = Fake::start().await;
    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: false }));
    let mut command = singletrack();
    command.args(["lease", "release", "-", "-"]).env("SINGLETRACK_SERVER", fake.url());
    command.env("SINGLETRACK_LEASE_ID", "ab").env("SINGLETRACK_TOKEN", "7");
    run(&mut command).await.ended_with(0);
    let Operation::ReleaseLease(asked) = fake.asked().remove(0).operation else {
        panic!("expected a release");
    };
    assert_eq!((asked.lease_id.as_str(), asked.token), ("ab", 7));

    for (args, fault) in [
        (["lease", "renew", "-", "7"], "SINGLETRACK_LEASE_ID"),
        (["lease", "renew", "ab", "-"], "SINGLETRACK_TOKEN"),
        (["lease", "renew", "ab", "x"], "expected a token"),
    ] {
        let finished = client(&fake.url(), &args).await.ended_with(64);
        assert!(finished.stderr.contains(fault), "{}", finished.stderr);
    }
    assert!(fake.asked().is_empty());
}

#[tokio::test]
async fn the_age_of_a_repeated_call_is_sent() {
    let fake = Fake::start().await;
    fake.refuse(refusal(Reason::RequestIdForgotten, None));
    let repeated = ["--request-id", "mine", "--age", "5m"];
    let args = [&["lease", "acquire", "r"], &repeated[..]].concat();
    client(&fake.url(), &args).await.ended_with(76);
    let age = acquires(&fake).remove(0).age_ms;
    assert!((300_000..360_000).contains(&age), "{age}");

    fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse { replayed: true }));
    let args = [&["lease", "release", "ab", "7"], &repeated[..]].concat();
    client(&fake.url(), &args).await.ended_with(0);
    let Operation::ReleaseLease(asked) = fake.asked().remove(0).operation else {
        panic!("expected a release");
    };
    assert_eq!(asked.age_ms, 300_000);
}

#[tokio::test]
async fn a_renewal_without_an_answer_may_be_repeated() {
    let fake = Fake::start().await;
    fake.refuse(Status::unavailable("connection reset"));
    let finished = client(&fake.url(), &["lease", "renew", "ab", "7"]).await.ended_with(75);
    let expected = "  next: repeat it: a renewal is harmless\n";
    assert!(finished.stderr.ends_with(expected), "{}", finished.stderr);
}

#[tokio::test]
async fn a_forced_release_that_fails_midway_tells_what_it_ended() {
    let fake = Fake::start().await;
    let lease = |token| v1::LeaseInfo { token, ..info() };
    fake.say(Reply::GetLease(v1::GetLeaseResponse {
        leases: vec![lease(7), lease(8)],
        holder_count: 2,
        ..Default::default()
    }));
    fake.say(Reply::ForceReleaseLease(v1::ForceReleaseLeaseResponse {
        holder: "ada".into(),
        replayed: false,
    }));
    fake.refuse(Status::unavailable("connection reset"));
    let args = ["lease", "force-release", "r", "--all", "-o", "json"];
    let finished = client(&fake.url(), &args).await.ended_with(76);
    let ended = serde_json::json!([{ "token": "7", "holder": "ada" }]);
    assert_eq!(finished.json()["ended"], ended);
    let error = finished.error_json();
    let request_id = error["request_id"].as_str().unwrap();
    let expected = format!("repeat it with --token 8 --request-id {request_id}");
    assert_eq!(error["next_step"], expected.as_str());

    fake.asked();
    fake.say(Reply::ForceReleaseLease(v1::ForceReleaseLeaseResponse::default()));
    let args = ["lease", "force-release", "r", "--token", "8", "--request-id", request_id];
    client(&fake.url(), &args).await.ended_with(0);
    let Operation::ForceReleaseLease(asked) = fake.asked().remove(0).operation else {
        panic!("expected a forced release");
    };
    assert_eq!((asked.token, asked.request_id.as_str()), (8, request_id));
}

#[tokio::test]
async fn server_and_namespace_come_from_flags_or_the_environment() {
    let fake = Fake::start().await;
    for (flags, environment, expected) in [
        (vec![], None, "default"),
        (vec![], Some("env"), "env"),
        (vec!["--namespace", "flag"], Some("env"), "flag"),
    ] {
        fake.say(Reply::CheckLease(v1::CheckLeaseResponse { current: true, ..Default::default() }));
        let mut command = singletrack();
        command.args(["lease", "check", "r", "1"]).args(&flags);
        command.env("SINGLETRACK_SERVER", fake.url());
        if let Some(namespace) = environment {
            command.env("SINGLETRACK_NAMESPACE", namespace);
        }
        run(&mut command).await.ended_with(0);
        let asked = fake.asked().remove(0);
        assert_eq!(asked.namespace.as_deref(), Some(expected));
        // What this side needed before it was sent is off.
        let timeout = asked.timeout.unwrap();
        assert!(timeout <= Duration::from_secs(10) && timeout > Duration::from_secs(9));
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_an_answer() {
    // Port 1 is reserved and nobody listens there.
    let url = "http://127.0.0.1:1";
    let finished = client(url, &["lease", "acquire", "r"]).await.ended_with(69);
    assert!(finished.stderr.contains("next: check that the server runs"), "{}", finished.stderr);
    let finished = client(url, &["status", "-o", "json"]).await.ended_with(69);
    assert_eq!(finished.json()["reachable"], false);
    assert_eq!(finished.error_json()["exit_code"], 69);
}

#[tokio::test]
async fn status_of_a_server_without_a_health_service_is_told_by_its_ping() {
    let fake = Fake::start().await;
    fake.say(Reply::Ping(v1::PingResponse::default()));
    let status = client(&fake.url(), &["status", "-o", "json"]).await.ended_with(0).json();
    assert_eq!((&status["reachable"], &status["health"]), (&true.into(), &"UNKNOWN".into()));
}

#[tokio::test]
async fn wrong_usage_ends_with_64_and_help_with_0() {
    for args in [
        &["lease"][..],
        &["lease", "acquire"],
        &["lease", "acquire", "r", "--ttl", "30"],
        &["lease", "acquire", "r", "--fence", "x"],
        &["lease", "renew", "id", "not-a-token"],
        &["status", "--server", "localhost:7420"],
        &["status", "--namespace", "a b"],
        &["fly"],
    ] {
        let finished = run(singletrack().args(args)).await.ended_with(64);
        assert!(finished.stdout.is_empty() && !finished.stderr.is_empty(), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["lease", "acquire", "--help"]] {
        run(singletrack().args(args)).await.ended_with(0);
    }
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let finished = run(singletrack().args(["completions", shell])).await.ended_with(0);
        assert!(finished.stdout.contains("force-release"), "{shell}");
    }
}

#[tokio::test]
async fn a_closed_pipe_is_not_a_failure() {
    let binary = env!("CARGO_BIN_EXE_singletrack");
    let script = format!("{{ {binary} completions bash; echo $? >&2; }} | true");
    let finished = run(tokio::process::Command::new("sh").args(["-c", &script])).await;
    assert_eq!(finished.stderr, "0\n");
}
