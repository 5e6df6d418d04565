//! Records and transactions on the command line, against a fake server: what is sent, what is said,
//! and how it ends.

use serde_json::json;
use singletrack_proto::{
    Reason,
    v1::{
        self, operation::Operation, operation_reply::Reply, record_expectation::Expect,
        record_lifetime::Lifetime, record_value::Kind, refusal::Detail,
    },
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    cli_answers::refusal,
    command::{Finished, client, run, singletrack},
    fake::Fake,
};

fn asked(fake: &Fake) -> Operation {
    fake.asked().remove(0).operation
}

fn asked_put(fake: &Fake) -> v1::PutRecordRequest {
    let Operation::PutRecord(asked) = asked(fake) else { panic!("expected a put") };
    asked
}

fn put(version: u64) -> Reply {
    Reply::PutRecord(v1::PutRecordResponse { version, created_at_version: 7, replayed: false })
}

fn value(kind: Kind) -> v1::RecordValue {
    v1::RecordValue { kind: Some(kind) }
}

fn text(text: &str) -> Kind {
    Kind::Text(text.into())
}

fn info(key: &str, kind: Kind) -> v1::RecordInfo {
    v1::RecordInfo {
        key: key.into(),
        value: Some(value(kind)),
        value_bytes: 5,
        content_type: "text/plain".into(),
        version: 9_007_199_254_740_991,
        created_at_version: 7,
        written_by: "ada\u{1b}[31m".into(),
        remaining_ms: Some(12_300),
        ..Default::default()
    }
}

fn fence(resource: &str, token: u64) -> v1::Fence {
    v1::Fence { target: Some(v1::fence::Target::Resource(resource.into())), token }
}

/// Runs it with a file on standard input.
async fn fed(fake: &Fake, args: &str, bytes: &[u8]) -> Finished {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("in");
    std::fs::write(&file, bytes).unwrap();
    let script = format!("exec \"$0\" {args} < \"$1\"");
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &script, env!("CARGO_BIN_EXE_singletrack")]).arg(&file);
    run(shell.env("SINGLETRACK_SERVER", fake.url()).env("SINGLETRACK_HOLDER", "ada")).await
}

#[tokio::test]
async fn everything_that_is_said_of_a_put_is_sent() {
    let fake = Fake::start().await;
    fake.say(put(9));
    let args = "put a/b word --expect-version 8 --ttl 5m --content-type text/plain --holder ada \
                --fence r=5 --fence x=y=6 --request-id mine --age 2s -o json";
    let args: Vec<_> = args.split_whitespace().collect();
    let written = client(&fake.url(), &args).await.ended_with(0).json();
    let expected = json!({ "key": "a/b", "version": "9", "created_at_version": "7",
        "replayed": false, "request_id": "mine" });
    assert_eq!(written, expected);
    let expected = v1::PutRecordRequest {
        request_id: "mine".into(),
        key: "a/b".into(),
        value: Some(value(text("word"))),
        content_type: "text/plain".into(),
        expect: Some(v1::RecordExpectation { expect: Some(Expect::Version(8)) }),
        lifetime: Some(v1::RecordLifetime { lifetime: Some(Lifetime::TtlMs(300_000)) }),
        keep_lifetime: false,
        holder: "ada".into(),
        fences: vec![fence("r", 5), fence("x=y", 6)],
        age_ms: 2_000,
    };
    assert_eq!(asked_put(&fake), expected);

    fake.say(put(9)).say(put(7));
    let args = ["put", "k", "v", "--exists", "--bound-lease", "5e:17"];
    let written = client(&fake.url(), &args).await.ended_with(0);
    assert_eq!(written.stdout, "written, version 9\n");
    let asked = asked_put(&fake);
    assert_eq!(asked.expect.unwrap().expect, Some(Expect::Exists(true)));
    let lease = v1::BoundLease { lease_id: "5e".into(), token: 17 };
    assert_eq!(asked.lifetime.unwrap().lifetime, Some(Lifetime::BoundLease(lease.clone())));
    assert!(asked.holder.contains('@'), "{}", asked.holder);

    let mut command = singletrack();
    command.args(["put", "k", "v", "--absent", "--bound-lease", "-", "--server", &fake.url()]);
    command.env("SINGLETRACK_LEASE_ID", "5e").env("SINGLETRACK_TOKEN", "17");
    let written = run(&mut command).await.ended_with(0);
    assert_eq!(written.stdout, "created, version 7\n");
    let asked = asked_put(&fake);
    assert_eq!(asked.expect.unwrap().expect, Some(Expect::Absent(true)));
    assert_eq!(asked.lifetime.unwrap().lifetime, Some(Lifetime::BoundLease(lease)));
}

#[tokio::test]
async fn a_value_is_what_was_given_in_words_in_a_file_or_on_standard_input() {
    let fake = Fake::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, b"\xff\x00\n").unwrap();
    let from_file = format!("@{}", file.display());
    let data = |bytes: &'static [u8]| Kind::Data(bytes.into());
    for (args, expected) in [
        (vec!["word"], text("word")),
        (vec![""], text("")),
        (vec!["-5"], text("-5")),
        (vec!["-5", "--counter"], Kind::Counter(-5)),
        (vec!["word", "--data"], data(b"word")),
        (vec![&from_file], data(b"\xff\x00\n")),
    ] {
        fake.say(put(9));
        let args = [&["put", "k"][..], &args].concat();
        client(&fake.url(), &args).await.ended_with(0);
        assert_eq!(asked_put(&fake).value.unwrap().kind, Some(expected), "{args:?}");
    }
    for (args, given, expected) in [
        ("put k -", &b"a\nb\n"[..], text("a\nb\n")),
        ("put k - --counter", b" 17\n", Kind::Counter(17)),
        ("put k - --keep-lifetime", b"\xff", data(b"\xff")),
    ] {
        fake.say(put(9));
        fed(&fake, args, given).await.ended_with(0);
        let asked = asked_put(&fake);
        assert_eq!(asked.value.unwrap().kind, Some(expected), "{args:?}");
        assert_eq!(asked.keep_lifetime, args.contains("keep-lifetime"));
    }

    let too_much = vec![b'x'; (1 << 20) + 1];
    for (args, given, fault) in [
        ("put k - --counter", &b"x"[..], "expected a 64-bit number"),
        ("put k - --counter", b"\xff", "found data"),
        ("put k -", &too_much, "at most 1048576 bytes"),
    ] {
        let finished = fed(&fake, args, given).await.ended_with(64);
        assert!(finished.stderr.contains(fault), "{finished:?}");
    }
    let finished = client(&fake.url(), &["put", "k", "@/no/such/file"]).await.ended_with(64);
    assert!(finished.stderr.contains("expected a value in /no/such/file"), "{finished:?}");
    assert!(fake.asked().is_empty(), "nothing is sent that is not whole");
}

#[tokio::test]
async fn one_record_prints_its_value_and_nothing_else() {
    let fake = Fake::start().await;
    let got = |kind| Reply::GetRecord(v1::GetRecordResponse { record: Some(info("k", kind)) });
    fake.say(got(text("a\nb")))
        .say(got(Kind::Counter(-3)))
        .say(got(Kind::Data((&b"\x1b!"[..]).into())));
    for expected in ["a\nb", "-3\n", "\u{1b}!"] {
        let got = client(&fake.url(), &["get", "k"]).await.ended_with(0);
        assert_eq!(got.stdout, expected, "as it was put: it is no terminal");
    }
    fake.say(got(text("a")));
    let record = client(&fake.url(), &["get", "k", "-o", "json"]).await.ended_with(0).json();
    let expected = json!({
        "key": "k", "value": { "text": "a" }, "value_omitted": false, "value_bytes": "5",
        "content_type": "text/plain", "version": "9007199254740991", "created_at_version": "7",
        "written_by": "ada\u{1b}[31m", "remaining_ms": "12300", "bound_token": null,
    });
    assert_eq!(record, expected);

    fake.refuse(refusal(Reason::NotFound, None));
    let none = client(&fake.url(), &["get", "k"]).await.ended_with(1);
    assert!(none.stdout.is_empty() && none.stderr.contains("found none"), "{none:?}");
}

#[tokio::test]
async fn several_records_are_a_table_or_a_list_and_one_that_is_absent_is_told() {
    let fake = Fake::start().await;
    let omitted = v1::RecordInfo {
        value: None,
        value_omitted: true,
        remaining_ms: None,
        bound_token: 17,
        ..info("big", text(""))
    };
    let bare = v1::RecordInfo {
        key: "n".into(),
        value: Some(value(Kind::Counter(4))),
        version: 3,
        ..Default::default()
    };
    let results = [Some(info("k", text("a\nb"))), None, Some(omitted), Some(bare)];
    let results: Vec<_> = results.map(|record| v1::BatchGetRecordsResult { record }).into();
    let reply = Reply::BatchGetRecords(v1::BatchGetRecordsResponse { results, revision: 20 });
    fake.say(reply.clone()).say(reply);
    let keys = ["get", "k", "none", "big", "n"];
    let table = client(&fake.url(), &keys).await.ended_with(1);
    let expected = "\
KEY  VERSION           BYTES  TYPE        WRITTEN BY     LASTS          VALUE
k    9007199254740991  5      text/plain  ada\\u{1b}[31m  12.3s          a\\nb
big  9007199254740991  5      text/plain  ada\\u{1b}[31m  with token 17  (left out for its size)
n    3                 0      -           -              -              4
";
    assert_eq!(table.stdout, expected);
    assert!(table.stderr.contains("found none of none"), "{}", table.stderr);
    let Operation::BatchGetRecords(asked) = asked(&fake) else { panic!("expected a batch") };
    assert_eq!(asked.keys, ["k", "none", "big", "n"]);

    let list = client(&fake.url(), &[&keys[..], &["-o", "json"]].concat()).await.ended_with(1);
    let list = list.json();
    assert_eq!((&list["revision"], &list["records"][1]), (&json!("20"), &json!(null)));
    assert_eq!(list["records"][2]["bound_token"], "17");
    assert_eq!(list["records"][3]["value"], json!({ "counter": "4" }));
}

#[tokio::test]
async fn a_counter_is_added_to_and_a_record_deleted() {
    let fake = Fake::start().await;
    let added = v1::IncrementRecordResponse { value: -3, version: 9, ..Default::default() };
    fake.say(Reply::IncrementRecord(added)).say(Reply::IncrementRecord(added));
    let args = "incr n -4 --min -5 --max 5 --ttl 5s --fence r=1 --request-id mine";
    let args: Vec<_> = args.split_whitespace().collect();
    let counted = client(&fake.url(), &args).await.ended_with(0);
    assert_eq!(counted.stdout, "-3\n");
    let Operation::IncrementRecord(asked_for) = asked(&fake) else { panic!("an increment") };
    assert_eq!((asked_for.delta, asked_for.min, asked_for.max), (-4, Some(-5), Some(5)));
    assert_eq!((&*asked_for.request_id, &asked_for.fences), ("mine", &vec![fence("r", 1)]));
    assert_eq!(asked_for.lifetime.unwrap().lifetime, Some(Lifetime::TtlMs(5_000)));
    let counted = client(&fake.url(), &["incr", "n", "-o", "json"]).await.ended_with(0).json();
    assert_eq!((&counted["value"], &counted["version"]), (&json!("-3"), &json!("9")));
    let Operation::IncrementRecord(asked_for) = asked(&fake) else { panic!("an increment") };
    assert_eq!(asked_for.delta, 1);

    for (existed, deleted_version, words, json) in
        [(true, 9, "deleted, version 9\n", json!("9")), (false, 0, "there was none\n", json!(null))]
    {
        let reply = v1::DeleteRecordResponse { existed, deleted_version, replayed: false };
        fake.say(Reply::DeleteRecord(reply)).say(Reply::DeleteRecord(reply));
        let deleted = client(&fake.url(), &["del", "n", "--expect-version", "9"]).await;
        assert_eq!(deleted.ended_with(0).stdout, words);
        let Operation::DeleteRecord(asked) = asked(&fake) else { panic!("a delete") };
        assert_eq!(asked.expect.unwrap().expect, Some(Expect::Version(9)));
        let deleted = client(&fake.url(), &["del", "n", "-o", "json"]).await.ended_with(0).json();
        assert_eq!((&deleted["existed"], &deleted["deleted_version"]), (&existed.into(), &json));
        fake.asked();
    }
}

#[tokio::test]
async fn records_are_listed_page_after_page_until_there_are_enough() {
    let fake = Fake::start().await;
    let page = |keys: &[&str], next: &str| {
        Reply::ListRecords(v1::ListRecordsResponse {
            records: keys.iter().map(|key| info(key, text(&"long".repeat(50)))).collect(),
            next_page_token: next.into(),
            revision: 9,
        })
    };
    fake.say(page(&["a/1"], "p2")).say(page(&["a/2", "a/3"], ""));
    let listed = client(&fake.url(), &["ls", "a", "-o", "json"]).await.ended_with(0).json();
    let keys: Vec<_> = listed["records"].as_array().unwrap().iter().map(|it| &it["key"]).collect();
    assert_eq!(keys, ["a/1", "a/2", "a/3"]);
    assert_eq!(listed["records"][0]["value"]["text"], "long".repeat(50));
    let Operation::ListRecords(asked) = asked(&fake) else { panic!("a list") };
    assert_eq!((&*asked.prefix, asked.keys_only), ("a", false));

    fake.asked();
    fake.say(page(&["a", "b", "c"], "p2"));
    let listed = client(&fake.url(), &["ls", "--keys", "--limit", "2"]).await.ended_with(0);
    assert_eq!(listed.stdout, "a\nb\n");
    let asked = fake.asked();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    let Operation::ListRecords(asked) = &asked.operation else { panic!("{asked:?}") };
    assert_eq!((&*asked.prefix, asked.keys_only, asked.page_size), ("", true, Some(2)));

    fake.say(page(&["a"], ""));
    let listed = client(&fake.url(), &["ls"]).await.ended_with(0);
    assert!(listed.stdout.contains("longlong…\n"), "{}", listed.stdout);
}

#[tokio::test]
async fn a_prefix_is_protected_and_its_protection_shown_and_taken_back() {
    let fake = Fake::start().await;
    let reply = v1::ProtectPrefixResponse { revision: 6, ..Default::default() };
    fake.say(Reply::ProtectPrefix(reply)).say(Reply::ProtectPrefix(reply));
    let args = ["protect", "p", "r", "--fence", "r=5"];
    assert_eq!(client(&fake.url(), &args).await.ended_with(0).stdout, "protected\n");
    let Operation::ProtectPrefix(asked_for) = asked(&fake) else { panic!("a protection") };
    assert_eq!((&*asked_for.prefix, &*asked_for.resource, asked_for.as_admin), ("p", "r", false));
    assert_eq!(asked_for.fences, [fence("r", 5)]);
    let args = ["protect", "p", "r", "--as-admin", "-o", "json"];
    let done = client(&fake.url(), &args).await.ended_with(0).json();
    assert_eq!((&done["revision"], &done["existed"]), (&json!("6"), &json!(false)));
    fake.asked();

    let protection = v1::Protection { prefix: "p".into(), resource: "r".into(), revision: 6 };
    let page = Reply::ListProtections(v1::ListProtectionsResponse {
        protections: vec![protection],
        next_page_token: String::new(),
    });
    fake.say(page.clone()).say(page);
    let shown = client(&fake.url(), &["protections", "--key", "p/a"]).await.ended_with(0);
    assert_eq!(shown.stdout, "PREFIX  RESOURCE  REVISION\np       r         6\n");
    let Operation::ListProtections(asked_for) = asked(&fake) else { panic!("a list") };
    assert_eq!(asked_for.key, "p/a");
    let shown = client(&fake.url(), &["protections", "-o", "json"]).await.ended_with(0).json();
    let expected = json!([{ "prefix": "p", "resource": "r", "revision": "6" }]);
    assert_eq!(shown["protections"], expected);
    fake.asked();

    let reply = v1::UnprotectPrefixResponse { existed: false, replayed: false };
    fake.say(Reply::UnprotectPrefix(reply));
    let done = client(&fake.url(), &["unprotect", "p", "r", "--as-admin"]).await.ended_with(0);
    assert_eq!(done.stdout, "it was not protected\n");
    let Operation::UnprotectPrefix(asked) = asked(&fake) else { panic!("its end") };
    assert!(asked.as_admin);
}

#[tokio::test]
async fn a_refused_write_tells_what_it_met() {
    let fake = Fake::start().await;
    let mismatch = |current_version, kind: Option<Kind>| {
        Detail::VersionMismatch(v1::VersionMismatchDetail {
            key: "k".into(),
            current_version,
            value: kind.map(value),
            written_by: "bob".into(),
            content_type: Some("a/b".into()),
            ..Default::default()
        })
    };
    let required = Detail::FenceRequired(v1::FenceRequiredDetail {
        prefix: "p".into(),
        resource: "r".into(),
        current_token: 17,
        holder: "bob".into(),
    });
    let bounds = v1::OutOfBoundsDetail { key: "n".into(), value: 5, min: Some(-1), max: Some(6) };
    let bounds = Detail::OutOfBounds(bounds);
    for (reason, detail, code, lines, detail_json) in [
        (
            Reason::VersionMismatch,
            mismatch(9, Some(text("x\n"))),
            94,
            "  found: version 9, written by bob\n  value: x\\n\n",
            json!({ "version_mismatch": {
                "key": "k", "current_version": "9", "value": { "text": "x\n" },
                "value_omitted": false, "written_by": "bob", "content_type": "a/b" } }),
        ),
        (
            Reason::VersionMismatch,
            mismatch(0, None),
            94,
            "  found: no such record\n",
            json!({ "version_mismatch": {
                "key": "k", "current_version": null, "value": null,
                "value_omitted": false, "written_by": "bob", "content_type": "a/b" } }),
        ),
        (
            Reason::FenceRequired,
            required,
            1,
            "  protected: p by r\n  current: token 17, held by bob\n",
            json!({ "fence_required": {
                "prefix": "p", "resource": "r", "current_token": "17", "holder": "bob" } }),
        ),
        (
            Reason::OutOfBounds,
            bounds,
            1,
            "  counter: n is 5, at least -1, at most 6\n",
            json!({ "out_of_bounds": { "key": "n", "value": "5", "min": "-1", "max": "6" } }),
        ),
    ] {
        fake.refuse(refusal(reason, Some(detail.clone()))).refuse(refusal(reason, Some(detail)));
        let refused = client(&fake.url(), &["put", "k", "v"]).await.ended_with(code);
        let name = reason.name();
        let expected = format!("error: {name}: what happened\n{lines}  next: what to do\n");
        assert_eq!(refused.stderr, expected);
        let refused = client(&fake.url(), &["put", "k", "v", "-o", "json"]).await;
        let error = refused.ended_with(code).error_json();
        assert_eq!((&error["reason"], &error["detail"]), (&json!(name), &detail_json));
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_names_the_id_to_repeat_it_with() {
    let fake = Fake::start().await;
    fake.refuse(tonic::Status::unavailable("the connection broke"));
    let unknown = client(&fake.url(), &["put", "k", "v", "--request-id", "mine"]).await;
    let unknown = unknown.ended_with(76);
    assert!(unknown.stderr.contains("  request id: mine\n"), "{}", unknown.stderr);
    fake.refuse(tonic::Status::unavailable("the connection broke"));
    client(&fake.url(), &["get", "k"]).await.ended_with(69);
}

const TRANSACTION: &str = r#"{
  "request_id": "of the file",
  "conditions": [
    {"fence": {"resource": "orders/7", "token": "17"}},
    {"record": {"key": "orders/7/state", "expect": {"version": "12"}}},
    {"record": {"key": "orders/8", "expect": {"absent": true}}}
  ],
  "operations": [
    {"put_record": {"key": "orders/7/state", "value": {"text": "packed"}, "content_type": "text/plain",
      "expect": {"exists": true}, "lifetime": {"ttl_ms": "60000"}, "fences": [{"resource": "x", "token": 3}]}},
    {"put_record": {"key": "orders/7/label", "value": {"data": "/wA="}, "holder": "eve",
      "lifetime": {"bound_lease": {"lease_id": "5e", "token": "17"}}}},
    {"increment_record": {"key": "orders/packed", "delta": "2", "max": 10}},
    {"delete_record": {"key": "orders/7/open", "expect": {"version": "5"}}},
    {"acquire_lease": {"targets": [{"resource": "machines", "mode": "PERMITS", "permits": 1, "limit": 2}],
      "ttl_ms": "5000", "labels": {"team": "red"}}},
    {"release_lease": {"lease_id": "5e", "token": "17"}},
    {"force_release_lease": {"resource": "y", "token": "4"}},
    {"transfer_lease": {"lease_id": "6e", "token": "18", "to_holder": "bob"}},
    {"protect_prefix": {"prefix": "p", "resource": "r", "as_admin": true}},
    {"unprotect_prefix": {"prefix": "q", "resource": "r", "as_admin": true}}
  ]
}"#;

fn transacted() -> Reply {
    let lease = v1::AcquireLeaseResponse {
        lease_id: "7e".into(),
        token: 30,
        remaining_ms: 5_000,
        ..Default::default()
    };
    let given =
        v1::TransferLeaseResponse { lease_id: "8e".into(), token: 31, ..Default::default() };
    let forced = v1::ForceReleaseLeaseResponse { holder: "bob".into(), replayed: false };
    let replies = [
        put(27),
        put(28),
        Reply::IncrementRecord(v1::IncrementRecordResponse {
            value: 4,
            version: 29,
            ..Default::default()
        }),
        Reply::DeleteRecord(v1::DeleteRecordResponse {
            existed: true,
            deleted_version: 5,
            replayed: false,
        }),
        Reply::AcquireLease(lease),
        Reply::ReleaseLease(v1::ReleaseLeaseResponse::default()),
        Reply::ForceReleaseLease(forced),
        Reply::TransferLease(given),
        Reply::ProtectPrefix(v1::ProtectPrefixResponse { revision: 32, ..Default::default() }),
        Reply::UnprotectPrefix(v1::UnprotectPrefixResponse { existed: true, replayed: false }),
    ];
    let reply = |reply| v1::OperationReply { reply: Some(reply), ..Default::default() };
    Reply::Transact(v1::TransactResponse {
        replies: replies.map(reply).into(),
        commit_revision: 33,
        replayed: false,
    })
}

#[tokio::test]
async fn a_transaction_is_read_from_a_file_and_its_replies_are_told() {
    let fake = Fake::start().await;
    fake.say(transacted()).say(transacted());
    let done = fed(&fake, "txn - -o json", TRANSACTION.as_bytes()).await.ended_with(0).json();
    assert_eq!(
        (&done["commit_revision"], &done["request_id"]),
        (&json!("33"), &json!("of the file"))
    );
    assert_eq!(
        done["replies"][1],
        json!({ "put_record": { "version": "28", "created_at_version": "7" } })
    );
    assert_eq!(done["replies"][2]["increment_record"]["value"], "4");
    assert_eq!(done["replies"][4]["acquire_lease"]["token"], "30");
    assert_eq!(done["replies"][5], json!({ "release_lease": {} }));
    assert_eq!(done["replies"][7]["transfer_lease"]["lease_id"], "8e");

    let Operation::Transact(asked) = asked(&fake) else { panic!("a transaction") };
    assert_eq!(asked.conditions.len(), 3);
    let operations: Vec<_> = asked.operations.into_iter().filter_map(|it| it.operation).collect();
    let [
        Operation::PutRecord(first),
        Operation::PutRecord(second),
        Operation::IncrementRecord(increment),
        Operation::DeleteRecord(delete),
        Operation::AcquireLease(acquire),
        Operation::ReleaseLease(release),
        Operation::ForceReleaseLease(force),
        Operation::TransferLease(transfer),
        Operation::ProtectPrefix(protect),
        Operation::UnprotectPrefix(_),
    ] = operations.as_slice()
    else {
        panic!("{operations:?}")
    };
    assert_eq!((&*first.holder, &first.fences), ("ada", &vec![fence("x", 3)]));
    assert_eq!(first.expect.unwrap().expect, Some(Expect::Exists(true)));
    assert_eq!(first.lifetime.clone().unwrap().lifetime, Some(Lifetime::TtlMs(60_000)));
    assert_eq!(
        (&*second.holder, second.value.clone()),
        ("eve", Some(value(Kind::Data((&b"\xff\0"[..]).into()))))
    );
    assert_eq!((increment.delta, increment.min, increment.max), (2, None, Some(10)));
    assert_eq!(delete.expect.unwrap().expect, Some(Expect::Version(5)));
    assert_eq!(
        (&*acquire.holder, acquire.ttl_ms, acquire.targets[0].limit),
        ("ada", Some(5_000), 2)
    );
    assert_eq!((&*release.lease_id, force.token, &*transfer.to_holder), ("5e", 4, "bob"));
    assert!(protect.as_admin);

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("t.json");
    std::fs::write(&file, TRANSACTION).unwrap();
    let args = ["txn", file.to_str().unwrap(), "--request-id", "mine"];
    let done = client(&fake.url(), &args).await.ended_with(0);
    for line in [
        "0  put_record           orders/7/state  version 27\n",
        "2  increment_record     orders/packed   4, version 29\n",
        "4  acquire_lease        machines        lease 7e with token 30, 5.0s left\n",
        "6  force_release_lease  y               taken from bob\n",
        "done, at revision 33\n",
    ] {
        assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
    }
    let Operation::Transact(asked) = fake.asked().remove(0).operation else { panic!() };
    assert_eq!(asked.request_id, "mine");
}

#[tokio::test]
async fn a_transaction_that_can_not_be_read_is_not_sent_and_a_refusal_names_its_part() {
    let fake = Fake::start().await;
    let finished = fed(&fake, "txn -", b"{\"operations\": [{\"put\": {}}]}").await.ended_with(64);
    assert!(finished.stderr.contains("unknown variant `put`"), "{finished:?}");
    client(&fake.url(), &["txn", "/no/such/file"]).await.ended_with(64);
    assert!(fake.asked().is_empty());

    let refused = |condition_index, operation_index| {
        let refusal = v1::Refusal {
            reason: Reason::AlreadyDone.to_wire().into(),
            message: "what happened".into(),
            next_step: "what to do".into(),
            condition_index,
            operation_index,
            ..Default::default()
        };
        crate::cli_answers::refusal_of(Reason::AlreadyDone, &refusal)
    };
    fake.refuse(refused(None, Some(3))).refuse(refused(Some(0), None));
    let one = "{\"operations\": [{\"delete_record\": {\"key\": \"k\"}}]}";
    let finished = fed(&fake, "txn -", one.as_bytes()).await.ended_with(1);
    let expected = "error: ALREADY_DONE: what happened\n  operation: 3\n  next: what to do\n";
    assert_eq!(finished.stderr, expected);
    let error = fed(&fake, "txn - -o json", one.as_bytes()).await.ended_with(1).error_json();
    assert_eq!((&error["condition_index"], &error["operation_index"]), (&json!(0), &json!(null)));
}
