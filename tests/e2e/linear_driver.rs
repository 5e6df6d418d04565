//! Two thousand random histories, each of one record with four clients, against a server in this
//! process: calls that have hardly any time, calls that are dropped, connections that are cut.
//! Every one of them must be linearizable. With `kill -9`: `tests/process/linear_kills.rs`.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    linear::{
        drive::{Driver, Reach},
        file::judge_text,
    },
    random::Random,
    rig::Rig,
    road::Road,
};

const HISTORIES: usize = 2_000;
/// So many at once.
const AT_ONCE: usize = 100;
/// So many share a road, and its fate.
const ON_A_ROAD: usize = 10;
const WHOLE_TEST: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_histories_of_records_are_linearizable() {
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} \
         cargo test -p singletrack-proto --test e2e linear_driver"
    );
    let (rig, driver, mut random) = (Rig::start().await, Driver::new(), Random::new(seed));
    let all = histories(&rig, &driver, &mut random);
    let done = tokio::time::timeout(WHOLE_TEST, all).await;
    done.unwrap_or_else(|_| panic!("not done in {WHOLE_TEST:?}\n{again}"));
    let unforeseen = driver.unforeseen.lock().unwrap().clone();
    assert!(unforeseen.is_empty(), "{unforeseen:#?}\n{again}");
    let summary = judge_text(&driver.lines.text()).unwrap_or_else(|it| panic!("{it}\n{again}"));
    assert_eq!(summary.records, HISTORIES, "{summary:?}\n{again}");
    let few = [summary.unknown, summary.mismatches, summary.written].into_iter().min();
    assert!(few >= Some(HISTORIES / 2), "there was too little of something: {summary:?}\n{again}");
    rig.stop().await;
}

async fn histories(rig: &Rig, driver: &Driver, random: &mut Random) {
    let (mut running, mut ways) = (JoinSet::new(), Vec::new());
    let url = format!("http://{}", rig.address);
    for number in 0..HISTORIES / ON_A_ROAD {
        let road = Arc::new(Road::to(rig.address).await);
        let (way, reach) = watch::channel(Reach::new(&url, road));
        ways.push(way);
        for place in 0..ON_A_ROAD {
            let key = format!("road-{number}/{place}");
            running.spawn(driver.clone().drive(key, random.split(), reach.clone()));
        }
        while running.len() > AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}
