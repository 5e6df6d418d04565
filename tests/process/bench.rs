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
    for workload in ["ping", "lock"] {
        for transport in ["unary", "session"] {
            let folder = TempDir::new().unwrap();
            let args = ["bench", workload, "--transport", transport, "--inflight", "16"];
            let ended = run(singletrack()
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
                (&workload.into(), &transport.into())
            );
            assert!(one["cycles"].as_u64().unwrap() > 0, "{one}");
            let left = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(left, 0, "its data folder is gone with it");
        }
    }
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
