//! The whole menu of leases on the command line, against a fake server: what is sent, what is said,
//! and how it ends.

use serde_json::json;
use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply, refusal::Detail},
};

use crate::{
    cli_answers::{granted, refusal},
    command::{client, run, singletrack},
    fake::Fake,
};

fn asked(fake: &Fake) -> Operation {
    fake.asked().remove(0).operation
}

fn acquired(fake: &Fake) -> v1::AcquireLeaseRequest {
    let Operation::AcquireLease(asked) = asked(fake) else { panic!("expected an acquire") };
    asked
}

fn held() -> v1::HeldDetail {
    v1::HeldDetail {
        resource: "a/b".into(),
        holders: vec![v1::HeldBy {
            holder: "ada".into(),
            token: 7,
            remaining_ms: 12_300,
            resource: "a".into(),
            subtree: true,
            held_ms: 302_000,
            hold_remaining_ms: Some(3_600_000),
            actor: "ada/1".into(),
            yield_answer: "in 5 s".into(),
            ..Default::default()
        }],
        holder_count: 3,
        queue_position: 1,
        waiters: vec![v1::HeldWaiter {
            holder: "bob".into(),
            actor: "bob/1".into(),
            priority: 5,
            waited_ms: 4_200,
            resource: "a/b/c".into(),
        }],
        closed_ms: 9_000,
        permits_used: 3,
        permits_wanted: 2,
        blocked_targets: 2,
        ..Default::default()
    }
}

fn deadlock() -> Detail {
    let step = |actor: &str, resource: &str, relation: v1::DeadlockRelation| v1::DeadlockStep {
        actor: actor.into(),
        holder: format!("{actor}@forge"),
        resource: resource.into(),
        relation: relation.into(),
    };
    Detail::Deadlock(v1::DeadlockDetail {
        cycle: vec![
            step("one", "a", v1::DeadlockRelation::Holds),
            step("two", "b", v1::DeadlockRelation::WaitsBefore),
            step("three", "", v1::DeadlockRelation::Child),
        ],
        step_count: 5,
    })
}

#[tokio::test]
async fn everything_that_is_said_of_a_lease_is_sent() {
    let fake = Fake::start().await;
    for command in [&["lease", "acquire", "a", "b"][..], &["lock", "a", "b"]] {
        let menu = "--permits 2/5 --max-hold 10m --lock-delay 5s --label team=red --label k=a=b \
                    --actor x/y --priority -3 --holder ada";
        let mut args = [command, &menu.split_whitespace().collect::<Vec<_>>()].concat();
        fake.say(granted(7));
        if command[0] == "lock" {
            fake.say(Reply::ReleaseLease(v1::ReleaseLeaseResponse::default()));
            args.extend(["--", "sh", "-c", "test $SINGLETRACK_ACTOR = x/y"]);
        }
        client(&fake.url(), &args).await.ended_with(0);
        let asked = acquired(&fake);
        let names: Vec<_> = asked.targets.iter().map(|it| it.resource.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for target in &asked.targets {
            assert_eq!(
                (target.mode(), target.reach()),
                (v1::LeaseMode::Permits, v1::LeaseReach::Exact)
            );
            assert_eq!((target.permits, target.limit), (2, 5));
        }
        assert_eq!((asked.max_hold_ms, asked.lock_delay_ms), (Some(600_000), 5_000));
        assert_eq!((&*asked.labels["team"], &*asked.labels["k"]), ("red", "a=b"));
        assert_eq!((&*asked.actor, asked.priority, &*asked.holder), ("x/y", -3, "ada"));
    }
    fake.say(granted(7));
    let args = ["lease", "acquire", "a", "--shared", "--subtree", "-o", "json"];
    let grant = client(&fake.url(), &args).await.ended_with(0).json();
    let expected = json!([{ "resource": "a", "mode": "SHARED", "permits": null, "limit": null,
        "reach": "SUBTREE" }]);
    assert_eq!((&grant["resource"], &grant["targets"]), (&json!("a"), &expected));
    let target = acquired(&fake).targets.remove(0);
    assert_eq!((target.mode(), target.reach()), (v1::LeaseMode::Shared, v1::LeaseReach::Subtree));
}

#[tokio::test]
async fn a_refusal_tells_a_person_everything_that_is_in_the_way() {
    let fake = Fake::start().await;
    let lines = "  held by: ada, token 7, on a and all below, actor ada/1, held for 5m02s, 12.3s \
                 left unless renewed, 1h00m at most
    asked to yield, it said: in 5 s
  held by: 2 more
  closed: for 9.0s, its last holder was lost
  permits: 3 in use, 2 wanted by those before you
  behind: bob, actor bob/1, priority 5, wants a/b/c, waiting for 4.2s
  not to be had: 2 of what is asked for
  waiting before you: 1
";
    fake.refuse(refusal(Reason::Held, Some(Detail::Held(held()))));
    let finished = client(&fake.url(), &["lease", "acquire", "a/b"]).await.ended_with(1);
    let expected = format!("error: HELD: what happened\n{lines}  next: what to do\n");
    assert_eq!(finished.stderr, expected);

    fake.refuse(refusal(Reason::Held, Some(Detail::Held(held()))));
    let finished = client(&fake.url(), &["lock", "a/b", "--", "echo", "ran"]).await.ended_with(91);
    assert!(finished.stderr.contains(lines) && finished.stdout.is_empty(), "{finished:?}");
    assert!(finished.stderr.contains("next: the command was not run; "), "{finished:?}");

    fake.refuse(refusal(Reason::Held, Some(Detail::Held(held()))));
    let args = ["lock", "a/b", "-o", "json", "--", "echo", "ran"];
    let error = client(&fake.url(), &args).await.ended_with(91).error_json();
    assert_eq!((&error["exit_code"], &error["reason"]), (&json!(91), &json!("HELD")));
    assert_eq!(error["detail"]["held"]["waiters"][0]["waited_ms"], "4200");
    assert_eq!(error["detail"]["held"]["holders"][0]["hold_remaining_ms"], "3600000");
}

#[tokio::test]
async fn a_deadlock_is_told_as_the_cycle_that_it_is_and_ends_with_93() {
    let fake = Fake::start().await;
    let cycle = "  the cycle that it would close:
    one (one@forge) waits for a, which is held by
    two (two@forge) waits for b, and before it waits
    three (three@forge) waits for its child
    … 2 more …
    one again
";
    for (args, next) in [
        (&["lease", "acquire", "a"][..], "  next: what to do\n"),
        (&["lock", "a", "--", "echo", "ran"], "  next: the command was not run; what to do\n"),
    ] {
        fake.refuse(refusal(Reason::Deadlock, Some(deadlock())));
        let finished = client(&fake.url(), args).await.ended_with(93);
        assert_eq!(finished.stderr, format!("error: DEADLOCK: what happened\n{cycle}{next}"));
        assert!(finished.stdout.is_empty(), "{finished:?}");
    }
    fake.refuse(refusal(Reason::Deadlock, Some(deadlock())));
    let args = ["lease", "acquire", "a", "-o", "json"];
    let error = client(&fake.url(), &args).await.ended_with(93).error_json();
    let detail = &error["detail"]["deadlock"];
    assert_eq!((&detail["step_count"], &detail["cycle"][1]["actor"]), (&json!(5), &json!("two")));
    assert_eq!(
        detail["cycle"][2],
        json!({ "actor": "three", "holder": "three@forge",
        "resource": null, "relation": "CHILD" })
    );
}

#[tokio::test]
async fn another_number_of_permits_is_a_value_that_is_not_legal() {
    let fake = Fake::start().await;
    let mismatch = v1::LimitMismatchDetail { resource: "r".into(), limit: 5, asked: 6 };
    for args in [
        &["lease", "acquire", "r", "--permits", "1/6"][..],
        &["lock", "r", "--permits", "1/6", "--", "echo", "ran"],
    ] {
        let detail = Detail::LimitMismatch(mismatch.clone());
        fake.refuse(refusal(Reason::LimitMismatch, Some(detail)));
        let finished = client(&fake.url(), args).await.ended_with(64);
        assert!(finished.stderr.contains("  permits of r: 5 in all, not 6\n"), "{finished:?}");
        assert!(finished.stdout.is_empty(), "{finished:?}");
    }
}

#[tokio::test]
async fn a_lock_within_a_lock_is_a_child_of_its_actor() {
    let fake = Fake::start().await;
    let lock = async |outer: Option<&str>| {
        fake.say(granted(7)).say(Reply::ReleaseLease(v1::ReleaseLeaseResponse::default()));
        let mut command = singletrack();
        command.args(["lock", "a", "--", "sh", "-c", "echo $SINGLETRACK_ACTOR"]);
        command.env("SINGLETRACK_SERVER", fake.url());
        if let Some(outer) = outer {
            command.env("SINGLETRACK_ACTOR", outer);
        }
        let inner = run(&mut command).await.ended_with(0).stdout.trim().to_owned();
        (inner, acquired(&fake).actor)
    };
    let (first, told) = lock(None).await;
    assert!(!first.contains('/') && first == told, "{first:?} {told:?}");
    let (second, told) = lock(Some("one/two")).await;
    assert!(second.starts_with("one/two/") && second == told, "{second:?} {told:?}");
    // More than the server takes: no detection, and no failure.
    for deep in ["x/".repeat(31) + "x", "x".repeat(250)] {
        let (inner, told) = lock(Some(&deep)).await;
        assert!(inner.starts_with(&deep) && told.is_empty(), "{told:?}");
    }
    // `lease acquire` asks as the lock around it.
    fake.say(granted(7));
    let mut command = singletrack();
    command.args(["lease", "acquire", "b"]).env("SINGLETRACK_SERVER", fake.url());
    run(command.env("SINGLETRACK_ACTOR", "one/two")).await.ended_with(0);
    assert_eq!(acquired(&fake).actor, "one/two");
}

#[tokio::test]
async fn a_transfer_tells_what_is_to_be_passed_on() {
    let fake = Fake::start().await;
    let given = v1::TransferLeaseResponse {
        lease_id: "cd".repeat(16),
        token: 8,
        remaining_ms: 5_000,
        replayed: false,
    };
    fake.say(Reply::TransferLease(given));
    let line = "lease transfer ab 7 --to bob --to-actor bob/1 --ttl 5s --request-id mine --fence \
                x=3 -o json";
    let args: Vec<_> = line.split_whitespace().collect();
    let given = client(&fake.url(), &args).await.ended_with(0).json();
    let expected = json!({ "holder": "bob", "lease_id": "cd".repeat(16), "token": "8",
        "remaining_ms": "5000", "replayed": false, "request_id": "mine" });
    assert_eq!(given, expected);
    let Operation::TransferLease(asked) = asked(&fake) else { panic!("expected a transfer") };
    assert_eq!((&*asked.to_holder, &*asked.to_actor, asked.ttl_ms), ("bob", "bob/1", Some(5_000)));
    assert_eq!((asked.fences.len(), &*asked.lease_id, asked.token), (1, "ab", 7));

    fake.refuse(refusal(Reason::Deadlock, Some(deadlock())));
    client(&fake.url(), &["lease", "transfer", "ab", "7", "--to", "bob"]).await.ended_with(93);
}

fn status(answer: Option<v1::YieldAnswer>) -> Reply {
    let status =
        v1::YieldStatus { holder: "ada".into(), token: 7, remaining_ms: 1_000, told: true, answer };
    Reply::RequestLeaseYield(v1::RequestLeaseYieldResponse { holders: vec![status] })
}

fn yes() -> v1::YieldAnswer {
    v1::YieldAnswer { will_yield: true, within_ms: 5_000, message: "after this test".into() }
}

#[tokio::test]
async fn holders_are_asked_once_or_until_they_answer() {
    let fake = Fake::start().await;
    let ask = ["lease", "yield", "r", "--reason", "a hotfix", "--holder", "bob"];
    fake.say(status(None));
    let finished = client(&fake.url(), &ask).await.ended_with(0);
    assert!(finished.stdout.contains("was told, no answer yet"), "{finished:?}");
    let Operation::RequestLeaseYield(asked) = asked(&fake) else { panic!("expected a request") };
    let expected = v1::RequestLeaseYieldRequest {
        resource: "r".into(),
        token: 0,
        holder: "bob".into(),
        reason: "a hotfix".into(),
    };
    assert_eq!(asked, expected);

    let wait = [&ask[..], &["--wait", "30s", "--token", "7"]].concat();
    fake.say(status(None)).say(status(None)).say(status(Some(yes())));
    let finished = client(&fake.url(), &wait).await.ended_with(0);
    assert!(finished.stdout.contains("yields within 5.0s: after this test"), "{finished:?}");
    assert_eq!(fake.asked().len(), 3);

    let gone = || refusal(Reason::NotFound, None);
    let as_json = [&wait[..], &["-o", "json"]].concat();
    fake.say(status(None)).refuse(gone());
    let told = client(&fake.url(), &as_json).await.ended_with(0).json();
    assert_eq!(told, json!({ "resource": "r", "holders": [], "given_up": true }));

    fake.refuse(gone());
    client(&fake.url(), &as_json).await.ended_with(1);

    let no = v1::YieldAnswer { will_yield: false, ..Default::default() };
    fake.say(status(Some(no)));
    let told = client(&fake.url(), &as_json).await.ended_with(1).json();
    let expected = json!({ "will_yield": false, "within_ms": "0", "message": null });
    assert_eq!(told["holders"][0]["answer"], expected);
}

#[tokio::test]
async fn who_is_asked_answers_all_or_one() {
    let fake = Fake::start().await;
    for (line, expected) in [
        (
            "lease answer ab 7 --yield-within 5s --message soon",
            v1::AnswerLeaseYieldRequest {
                will_yield: true,
                within_ms: 5_000,
                message: "soon".into(),
                ..Default::default()
            },
        ),
        (
            "lease answer ab 7 --decline --number 4",
            v1::AnswerLeaseYieldRequest { number: 4, ..Default::default() },
        ),
    ] {
        fake.say(Reply::AnswerLeaseYield(v1::AnswerLeaseYieldResponse { answered: 2 }));
        let args: Vec<_> = line.split(' ').collect();
        let finished = client(&fake.url(), &args).await.ended_with(0);
        assert_eq!(finished.stdout, "answered 2\n");
        let Operation::AnswerLeaseYield(asked) = asked(&fake) else { panic!("expected an answer") };
        let expected = v1::AnswerLeaseYieldRequest { lease_id: "ab".into(), token: 7, ..expected };
        assert_eq!(asked, expected);
    }
}

fn info() -> v1::LeaseInfo {
    let target = |resource: &str, mode: v1::LeaseMode, reach: v1::LeaseReach| v1::LeaseTarget {
        resource: resource.into(),
        mode: mode.into(),
        reach: reach.into(),
        ..Default::default()
    };
    v1::LeaseInfo {
        targets: vec![
            target("a", v1::LeaseMode::Shared, v1::LeaseReach::Subtree),
            v1::LeaseTarget {
                permits: 2,
                limit: 5,
                ..target("b", v1::LeaseMode::Permits, v1::LeaseReach::Exact)
            },
        ],
        holder: "ada".into(),
        token: 7,
        ttl_ms: 30_000,
        remaining_ms: 20_000,
        actor: "ada/1".into(),
        labels: [("k".to_owned(), "v".to_owned()), ("team".to_owned(), "red".to_owned())].into(),
        held_ms: 302_000,
        hold_remaining_ms: Some(600_000),
        lock_delay_ms: 5_000,
        yield_requests: vec![v1::YieldInfo {
            number: 4,
            holder: "bob".into(),
            reason: "a hotfix".into(),
            asked_ms: 1_000,
            answer: Some(yes()),
        }],
    }
}

#[tokio::test]
async fn a_list_is_filtered_and_shows_each_resource() {
    let fake = Fake::start().await;
    let page = v1::ListLeasesResponse { leases: vec![info()], ..Default::default() };
    fake.say(Reply::ListLeases(page.clone())).say(Reply::ListLeases(page));
    let line = "lease list --holder ada --prefix a --label k=v --label team=red";
    let args: Vec<_> = line.split(' ').collect();
    let finished = client(&fake.url(), &args).await.ended_with(0);
    let expected = "\
RESOURCE  MODE            HOLDER  TOKEN  TTL    REMAINING  HELD                  LABELS
a         shared subtree  ada     7      30.0s  20.0s      5m02s, 10m00s at most  k=v team=red
b         2/5
";
    let squeezed = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&finished.stdout), squeezed(expected));
    let Operation::ListLeases(asked) = asked(&fake) else { panic!("expected a list") };
    assert_eq!((&*asked.holder, &*asked.resource_prefix, asked.labels.len()), ("ada", "a", 2));

    let args = ["lease", "list", "--all", "-o", "json"];
    let lease = client(&fake.url(), &args).await.ended_with(0).json()["leases"][0].take();
    assert_eq!((&lease["resource"], &lease["mode"]), (&json!("a"), &json!("SHARED")));
    assert_eq!(
        lease["targets"][1],
        json!({ "resource": "b", "mode": "PERMITS", "permits": 2,
        "limit": 5, "reach": "EXACT" })
    );
    assert_eq!((&lease["held_ms"], &lease["labels"]["team"]), (&json!("302000"), &json!("red")));
    assert_eq!(lease["yield_requests"][0]["answer"]["within_ms"], "5000");
}

#[tokio::test]
async fn waiters_and_counts_are_shown() {
    let fake = Fake::start().await;
    let waiter = v1::WaiterInfo {
        holder: "eve".into(),
        targets: info().targets,
        priority: 2,
        waited_ms: 4_200,
        attached: true,
        blocked_by: Some(held()),
        ..Default::default()
    };
    let page = |next: &str| {
        Reply::ListLeaseWaiters(v1::ListLeaseWaitersResponse {
            waiters: vec![waiter.clone()],
            next_page_token: next.into(),
        })
    };
    fake.say(page("p2")).say(page("p2")).say(page(""));
    let finished = client(&fake.url(), &["lease", "waiters"]).await.ended_with(0);
    let row = "eve     2         4.2s     yes       ada, token 7, on a and all below, actor ada/1, \
               held for 5m02s, 12.3s left unless renewed, 1h00m at most; 3 more";
    assert!(finished.stdout.contains(row), "{}", finished.stdout);
    assert!(finished.stdout.ends_with("more: --page-token p2, or --all\n"), "{}", finished.stdout);
    let args = ["lease", "waiters", "--all", "-o", "json"];
    let told = client(&fake.url(), &args).await.ended_with(0).json();
    assert_eq!(told["waiters"][1]["blocked_by"]["holders"][0]["holder"], "ada");

    let stats =
        v1::GetLeaseStatsResponse { leases: 3, granted_total: 1 << 60, ..Default::default() };
    fake.say(Reply::GetLeaseStats(stats)).say(Reply::GetLeaseStats(stats));
    let told = client(&fake.url(), &["lease", "stats", "-o", "json"]).await.ended_with(0).json();
    assert_eq!(
        (&told["leases"], &told["granted_total"]),
        (&json!("3"), &json!("1152921504606846976"))
    );
    let finished = client(&fake.url(), &["lease", "stats"]).await.ended_with(0);
    assert!(finished.stdout.contains("leases          3\n"), "{}", finished.stdout);
}

#[tokio::test]
async fn a_resource_shows_who_waits_and_whether_it_is_closed() {
    let fake = Fake::start().await;
    fake.say(Reply::GetLease(v1::GetLeaseResponse { closed_ms: 9_000, ..Default::default() }));
    let finished = client(&fake.url(), &["lease", "get", "r"]).await.ended_with(0);
    assert_eq!(finished.stdout, "r is closed for 9.0s, 0 waiting\n");

    fake.say(Reply::GetLease(v1::GetLeaseResponse { leases: vec![info()], ..Default::default() }));
    let finished = client(&fake.url(), &["lease", "get", "--id", "ab"]).await.ended_with(0);
    let line = "asked to yield by bob 1.0s ago: a hotfix (number 4, yields within 5.0s: after this \
                test)\n";
    assert!(finished.stdout.ends_with(line), "{}", finished.stdout);
}

#[tokio::test]
async fn top_prints_one_frame_when_nobody_looks_at_a_terminal() {
    let fake = Fake::start().await;
    let stats = |granted_total| {
        let stats = v1::GetLeaseStatsResponse { leases: 1, granted_total, ..Default::default() };
        Reply::GetLeaseStats(stats)
    };
    let waiter = v1::WaiterInfo {
        holder: "eve".into(),
        targets: info().targets,
        waited_ms: 4_200,
        blocked_by: Some(held()),
        ..Default::default()
    };
    let frame = || {
        fake.say(stats(1)).say(stats(1_001));
        fake.say(Reply::ListLeases(v1::ListLeasesResponse {
            leases: vec![info()],
            ..Default::default()
        }));
        fake.say(Reply::ListLeaseWaiters(v1::ListLeaseWaitersResponse {
            waiters: vec![waiter.clone()],
            ..Default::default()
        }));
    };
    frame();
    let args = ["top", "--interval", "100ms"];
    let text = client(&fake.url(), &args).await.ended_with(0).stdout;
    assert!(text.contains("1 leases, 0 waiters, 0 closed, 0 sessions\n"), "{text}");
    assert!(text.contains(" granted/s, 0.0 released/s"), "{text}");
    assert!(text.contains("\nLEASES\nRESOURCE") && text.contains("\nWAITERS\nRESOURCE"), "{text}");
    assert!(text.contains("ada     holds it for 5m02s, 1h00m at most  a "), "{text}");
    assert!(!text.contains('\u{1b}'), "nothing that steers a terminal");

    frame();
    let args = ["top", "--interval", "100ms", "--prefix", "a", "-o", "json"];
    let frame = client(&fake.url(), &args).await.ended_with(0).json();
    assert_eq!((&frame["stats"]["leases"], &frame["prefix"]), (&json!("1"), &json!("a")));
    let rate = frame["rates_per_s"]["granted"].as_f64().unwrap();
    assert!(rate > 0.0 && rate <= 10_000.0, "1,000 in at least 100 ms: {rate}");
    let blocker = &frame["blockers"][0];
    assert_eq!((&blocker["holder"], &blocker["blocked"]), (&json!("bob"), &json!(["eve"])));

    client("http://127.0.0.1:1", &["top", "--once"]).await.ended_with(69);
    client(&fake.url(), &["top", "--interval", "5ms"]).await.ended_with(64);
}
