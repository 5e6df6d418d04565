//! `singletrack race`: the race is there each time, and so is each cure.

use serde_json::Value;

use crate::command::{run, singletrack};

/// Runs these cures, 4 agents 5 times each; what came of each of them.
async fn played(cures: &[&str]) -> Vec<Value> {
    let mut command = singletrack();
    command.args(["race", "counter", "--agents", "4", "--times", "5", "-o", "json"]);
    command.args(cures.iter().flat_map(|cure| ["--cure", cure]));
    let ended = run(&mut command).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let runs: Value = serde_json::from_str(&ended.stdout).unwrap();
    let runs = runs.as_array().unwrap().clone();
    assert_eq!(runs.iter().map(|run| &run["cure"]).collect::<Vec<_>>(), cures);
    for run in &runs {
        assert_eq!((&run["scenario"], &run["expected"]), (&"counter".into(), &20.into()));
        assert_eq!(run["duplicated"], 0);
        assert!(run["seconds"].as_f64().unwrap() >= 0.0);
        let lost = run["expected"].as_u64().unwrap() - run["actual"].as_u64().unwrap();
        assert_eq!(run["lost"], lost);
    }
    runs
}

fn number(run: &Value, key: &str) -> u64 {
    run[key].as_u64().unwrap_or_else(|| panic!("expected {key} in {run}"))
}

#[tokio::test]
async fn updates_are_lost_without_a_cure_and_none_with_one_every_time_of_twenty() {
    for round in 0..20 {
        let runs = played(&["none", "lease", "version", "increment"]).await;
        let [none, lease, version, increment] = runs.as_slice() else { panic!("{runs:?}") };
        assert!(number(none, "lost") > 0, "round {round}: {none}");
        for cured in [lease, version, increment] {
            assert_eq!(cured["lost"], 0, "round {round}: {cured}");
        }
        assert!(number(version, "refused") > 0, "round {round}: nobody was late: {version}");
        for run in [none, lease, increment] {
            assert_eq!(run["refused"], 0, "round {round}: {run}");
        }
    }
}

#[tokio::test]
async fn one_that_was_paused_overwrites_others_under_a_lease_alone_and_is_refused_with_a_fence() {
    for round in 0..5 {
        let runs = played(&["paused-lease", "fence"]).await;
        let [alone, fenced] = runs.as_slice() else { panic!("{runs:?}") };
        assert!(number(alone, "lost") > 0, "round {round}: {alone}");
        assert_eq!(alone["refused"], 0, "round {round}: {alone}");
        assert_eq!(fenced["lost"], 0, "round {round}: {fenced}");
        assert!(number(fenced, "refused") >= 1, "round {round}: {fenced}");
    }
}

#[tokio::test]
async fn one_cure_can_be_chosen_and_a_server_named_that_keeps_nothing_of_it() {
    let server = crate::server::Server::start().await;
    let url = server.url();
    for cure in ["lease", "version"] {
        let args = ["race", "--cure", cure, "--agents", "3", "--times", "3", "--server", &url];
        let ended = run(singletrack().args(args)).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 2, "a head and one run: {}", ended.stdout);
    }
    assert!(server.client().records().list("").all().await.unwrap().is_empty());
    let nobody = run(singletrack().args(["race", "--server", "nonsense"])).await;
    assert_eq!(nobody.code, 64, "{nobody:?}");
}
