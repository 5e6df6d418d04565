//! `singletrack bench`: every key is there, and the history is whole.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{run, singletrack};

const KEYS: [&str; 11] = [
    "workload",
    "transport",
    "inflight",
    "connections",
    "seconds",
    "cycles",
    "cycles_per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "server_cpu_us_per_cycle",
];

#[tokio::test]
async fn every_workload_on_every_transport_prints_every_key() {
    let record = |op| vec!["record", "--op", op, "--value-size", "300"];
    for workload in [
        vec!["ping"],
        vec!["lock"],
        record("put"),
        record("get"),
        record("increment"),
        record("transact"),
    ] {
        for transport in ["unary", "session"] {
            let folder = TempDir::new().unwrap();
            let args = ["--transport", transport, "--inflight", "16"];
            let ended = run(singletrack()
                .arg("bench")
                .args(&workload)
                .args(args)
                .args(["--connections", "2", "--seconds", "1", "-o", "json", "--data-dir"])
                .arg(folder.path()))
            .await;
            assert_eq!(ended.code, 0, "{ended:?}");
            let one: Value = serde_json::from_str(&ended.stdout).unwrap();
            for key in KEYS {
                assert!(one.get(key).is_some_and(|value| !value.is_null()), "{key}: {one}");
            }
            assert_eq!(
                (&one["workload"], &one["transport"]),
                (&workload[0].into(), &transport.into())
            );
            let (op, bytes) = match workload.get(2) {
                Some(&op) => (op.into(), 300.into()),
                None => (Value::Null, Value::Null),
            };
            assert_eq!((&one["op"], &one["value_bytes"]), (&op, &bytes));
            assert!(one["cycles"].as_u64().unwrap() > 0, "{one}");
            let left = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 0, "its data folder is gone with it");
        }
    }
}

#[tokio::test]
async fn an_op_belongs_to_records_alone() {
    let ended = run(singletrack().args(["bench", "lock", "--op", "put"])).await;
    assert_eq!(ended.code, 64, "{ended:?}");
}

#[tokio::test]
async fn in_a_history_each_call_that_began_has_ended_once() {
    let folder = TempDir::new().unwrap();
    let history = folder.path().join("history.jsonl");
    let ended = run(singletrack()
        .args(["bench", "lock", "--inflight", "8", "--connections", "2", "--seconds", "1"])
        .arg("--history")
        .arg(&history))
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut open = BTreeMap::new();
    let mut tokens = BTreeMap::new();
    for line in std::fs::read_to_string(&history).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let call = line["call"].as_u64().unwrap();
        match line["event"].as_str().unwrap() {
            "invoke" => assert!(open.insert(call, line).is_none(), "call {call} began once"),
            "return" => {
                let began = open.remove(&call).unwrap_or_else(|| panic!("{line}"));
                assert_eq!(began["op"], line["op"]);
                assert!(began["at_us"].as_u64() <= line["at_us"].as_u64());
                assert_eq!(line["result"], "OK");
                if line["op"] == "acquire" {
                    let token: u64 = line["token"].as_str().unwrap().parse().unwrap();
                    assert!(tokens.insert(token, call).is_none(), "no token is given twice");
                }
            }
            other => panic!("{other}: {line}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!tokens.is_empty());
}

#[tokio::test]
async fn a_history_of_records_says_which_version_was_written() {
    let folder = TempDir::new().unwrap();
    let history = folder.path().join("history.jsonl");
    let ended = run(singletrack()
        .args(["bench", "record", "--op", "put", "--inflight", "4", "--seconds", "1", "--history"])
        .arg(&history))
    .await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut versions = std::collections::BTreeSet::new();
    for line in std::fs::read_to_string(&history).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["event"] == "return" {
            assert_eq!((&line["op"], &line["result"]), (&"put".into(), &"OK".into()), "{line}");
            assert!(line["resource"].as_str().is_some_and(|key| key.starts_with("bench/slot-")));
            let version: u64 = line["version"].as_str().unwrap().parse().unwrap();
            assert!(versions.insert(version), "no version is given twice");
        }
    }
    assert!(!versions.is_empty());
}
