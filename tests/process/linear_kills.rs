//! Random histories of records while the server is killed with `kill -9` and comes back on the same
//! folder: every one of them must be linearizable. Without kills, and thousands of them:
//! `tests/e2e/linear_driver.rs`. And so must be what a benchmark writes down, judged from the file.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    command::{run, singletrack},
    linear::{
        drive::{Driver, Reach},
        file::judge_text,
    },
    random::Random,
    road::Road,
    server::Server,
};

const KILLS: u64 = 25;
/// Histories that are begun before a kill.
const HISTORIES: u64 = 40;
const WHOLE_TEST: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_records_are_linearizable_while_the_server_is_killed() {
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} \
         cargo test -p singletrack-cli --test process linear_kills"
    );
    let driver = Driver::new();
    let log = tokio::time::timeout(WHOLE_TEST, rounds_of_kills(seed, &driver)).await;
    let log = log.unwrap_or_else(|_| panic!("not done in {WHOLE_TEST:?}\n{again}"));
    let unforeseen = driver.unforeseen.lock().unwrap().clone();
    assert!(unforeseen.is_empty(), "{unforeseen:#?}\nthe server said:\n{log}\n{again}");
    let summary = judge_text(&driver.lines.text())
        .unwrap_or_else(|it| panic!("{it}\nthe server said:\n{log}\n{again}"));
    let histories = usize::try_from(KILLS * HISTORIES).unwrap();
    assert_eq!(summary.records, histories, "{summary:?}\n{again}");
    let few = [summary.unknown, summary.mismatches, summary.written].into_iter().min();
    assert!(few >= Some(histories / 2), "there was too little of something: {summary:?}\n{again}");
    eprintln!("{summary:?}, seed {seed}");
}

/// Begins histories and kills the server meanwhile, until all have ended; tells what the server
/// last printed.
async fn rounds_of_kills(seed: u64, driver: &Driver) -> String {
    let mut random = Random::new(seed);
    // Snapshots come and go while the server is killed.
    let mut server = Server::start_with(&["--snapshot-after-bytes", "1MiB"]).await;
    let road = Arc::new(Road::to(server.address()).await);
    let (announce, reach) = watch::channel(Reach::new(&server.url(), Arc::clone(&road)));
    let mut running = JoinSet::new();
    for round in 0..KILLS {
        for place in 0..HISTORIES {
            let key = format!("round-{round}/{place}");
            running.spawn(driver.clone().drive(key, random.split(), reach.clone()));
        }
        // The instant of a kill is what this test is about: no event to wait for.
        tokio::time::sleep(Duration::from_millis(random.within(5..120))).await;
        server.kill().await;
        server.restart().await;
        road.to.send_replace(server.address());
        announce.send_replace(Reach::new(&server.url(), Arc::clone(&road)));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    server.log()
}

#[tokio::test]
async fn what_a_benchmark_of_records_writes_down_is_linearizable() {
    for op in ["put", "get", "increment"] {
        let folder = TempDir::new().unwrap();
        let history = folder.path().join("history.jsonl");
        let ended = run(singletrack()
            .args(["bench", "record", "--op", op, "--value-size", "300", "--inflight", "4"])
            .args(["--connections", "2", "--seconds", "1", "--history"])
            .arg(&history))
        .await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let text = std::fs::read_to_string(&history).unwrap();
        let summary = judge_text(&text).unwrap_or_else(|it| panic!("{it}"));
        assert!(summary.records == 16 && summary.calls > 100, "{op}: {summary:?}");
        assert!(summary.written > 0 && summary.unknown == 0, "{op}: {summary:?}");
        // And the judge would have seen it: a version that nobody wrote, or that is old.
        let last = text.lines().rfind(|line| line.contains("\"return\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(last).unwrap();
        let spoiled = last.replace(line["version"].as_str().unwrap(), "1");
        judge_text(&text.replace(last, &spoiled)).unwrap_err();
    }
}
