//! `singletrack race`: the race is there each time, and so is the cure.

use serde_json::Value;

use crate::command::{run, singletrack};

#[tokio::test]
async fn updates_are_lost_without_a_lease_and_none_with_it_every_time_of_twenty() {
    for round in 0..20 {
        let command = ["race", "counter", "--agents", "4", "--times", "5", "-o", "json"];
        let ended = run(singletrack().args(command)).await;
        assert_eq!(ended.code, 0, "round {round}: {ended:?}");
        let runs: Value = serde_json::from_str(&ended.stdout).unwrap();
        let [none, lease] = runs.as_array().unwrap().as_slice() else { panic!("{runs}") };
        for (run, cure) in [(none, "none"), (lease, "lease")] {
            assert_eq!((&run["scenario"], &run["cure"]), (&"counter".into(), &cure.into()));
            assert_eq!(run["expected"], 20);
            assert_eq!(run["duplicated"], 0);
            assert!(run["seconds"].as_f64().unwrap() > 0.0);
            let lost = run["expected"].as_u64().unwrap() - run["actual"].as_u64().unwrap();
            assert_eq!(run["lost"], lost);
        }
        assert!(none["lost"].as_u64().unwrap() > 0, "round {round}: {none}");
        assert_eq!(lease["lost"], 0, "round {round}: {lease}");
    }
}

#[tokio::test]
async fn one_cure_can_be_chosen_and_a_server_named() {
    let server = crate::server::Server::start().await;
    let url = server.url();
    let args = ["race", "--cure", "lease", "--agents", "3", "--times", "3", "--server", &url];
    let ended = run(singletrack().args(args)).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 2, "a head and one run: {}", ended.stdout);
    let nobody = run(singletrack().args(["race", "--server", "nonsense"])).await;
    assert_eq!(nobody.code, 64, "{nobody:?}");
}
