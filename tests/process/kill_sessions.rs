//! `kill -9` under load, seen through the client's sessions: it carries calls over the dead server,
//! resumes its session on the next one, and neither loses, doubles nor imagines a lease.
//!
//! Clients reach the server by a road, as each server has another port.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use singletrack::{Acquire, Client, HoldState, Reason, Transport};
use tokio::task::JoinSet;

use crate::{
    agents::{Agent, LONG},
    oracle::{Event, History, judge},
    random::Random,
    road::Road,
    server::Server,
};

const CLIENTS: usize = 4;
const AGENTS_OF_A_CLIENT: usize = 8;
const ROUNDS: u64 = 20;
const WHOLE_TEST: Duration = Duration::from_secs(180);
/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn client_over(road: &Road, holder: &str, session_ttl: Duration) -> Client {
    Client::builder(road.url())
        .holder(holder)
        .transport(Transport::Session)
        .session_ttl(session_ttl)
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_kills_under_load_and_no_lease_is_lost_or_doubled() {
    let seed = Random::seed();
    let again = format!(
        "to make the same choices again, at other instants: SINGLETRACK_SEED={seed} \
         cargo test -p singletrack-cli --test process kill_sessions"
    );
    let history = History::default();
    let outcome = tokio::time::timeout(WHOLE_TEST, rounds_of_kills(seed, &history)).await;
    let events = history.events();
    let Ok(log) = outcome else {
        panic!("not done in {WHOLE_TEST:?}, after {} events\n{again}", events.len());
    };
    let summary = match judge(&events) {
        Ok(summary) => summary,
        Err(broken) => {
            let is_odd = |event: &&Event| matches!(event, Event::Unexpected { .. });
            let odd: Vec<_> = events.iter().filter(is_odd).take(20).collect();
            panic!("{broken}\n{odd:#?}\nthe server said:\n{log}\n{again}");
        }
    };
    assert!(
        summary.grants >= 10 * summary.kills,
        "there was too little load: {summary:?}\n{again}"
    );
    assert!(summary.recovered > 0, "no answer was ever lost: {summary:?}\n{again}");
    eprintln!("{summary:?}, {} events, seed {seed}", events.len());
}

/// Runs the load and the kills to their end; tells what the server last printed.
async fn rounds_of_kills(seed: u64, history: &History) -> String {
    let mut random = Random::new(seed);
    let mut server = Server::start().await;
    let road = Road::to(server.address()).await;
    let running = Arc::new(AtomicBool::new(true));
    let mut agents = JoinSet::new();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = client_over(&road, &format!("client-{number}"), LONG);
        for place in 0..AGENTS_OF_A_CLIENT {
            let agent = Agent {
                name: format!("agent-{number}-{place}"),
                client: client.clone(),
                random: random.split(),
                history: history.clone(),
                // Those with a ttl of their own outlive the session, if they were granted twice.
                with_session: place % 2 == 0,
            };
            let running = Arc::clone(&running);
            agents.spawn(agent.work(move |_| running.load(Ordering::SeqCst)));
        }
        clients.push(client);
    }
    // One lease of each session is held all the time.
    let mut kept = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        kept.push(client.lease(format!("kept/{number}")).acquire().await.unwrap());
    }
    let sessions: Vec<_> = clients.iter().map(Client::session_id).collect();
    for _ in 0..ROUNDS {
        // The instant of a kill is what this test is about: no event to wait for.
        tokio::time::sleep(Duration::from_millis(random.within(10..350))).await;
        history.push(Event::Killed);
        server.kill().await;
        server.restart().await;
        // The next connections may be cut as well, wherever that falls.
        let cut_after = if random.percent(50) { random.within(100..20_000) } else { 0 };
        road.cut_after.store(cut_after, Ordering::SeqCst);
        road.to.send_replace(server.address());
        history.push(Event::Restarted);
    }
    road.cut_after.store(0, Ordering::SeqCst);
    running.store(false, Ordering::SeqCst);
    while let Some(agent) = agents.join_next().await {
        agent.expect("an agent notes what is wrong instead of panicking");
    }
    assert!(road.connections.load(Ordering::SeqCst) > CLIENTS, "no stream was begun anew");
    assert_eq!(clients.iter().map(Client::session_id).collect::<Vec<_>>(), sessions);
    for lease in kept {
        assert_eq!(lease.state(), HoldState::Held, "{} is held through it all", lease.resource());
        let check = server.client().check(lease.resource(), lease.token()).await.unwrap();
        assert!(check.current, "{}", lease.resource());
        lease.release().await.unwrap();
    }
    let live = server.client().list_all().await.unwrap();
    history.push(Event::Live { tokens: live.iter().map(|lease| lease.token).collect() });
    server.log()
}

/// A server is killed and comes back while a holder hears nothing: the next one to hold its lease
/// never gets it while the holder still believes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_hears_nothing_stops_believing_before_another_has_it() {
    let mut server = Server::start().await;
    let (deaf_road, road) = (Road::to(server.address()).await, Road::to(server.address()).await);
    let deaf = client_over(&deaf_road, "deaf", Duration::from_secs(2));
    let other = client_over(&road, "other", Duration::from_secs(60));
    let lease = deaf.lease("kept").acquire().await.unwrap();
    let bound = deaf.acquire(Acquire::new("bound", "deaf").with_session()).await.unwrap();
    deaf_road.swallows.send_replace(true);
    let taking = tokio::spawn(async move {
        let next = other.lease("kept").wait(SOON).acquire().await.unwrap();
        (next.token(), next)
    });
    server.kill().await;
    server.restart().await;
    for road in [&deaf_road, &road] {
        road.to.send_replace(server.address());
    }
    let ended = tokio::time::timeout(SOON, lease.not_held()).await.unwrap();
    assert_eq!(ended, HoldState::Uncertain, "nobody has said that it is lost");
    assert!(!taking.is_finished(), "the holder stops believing before another has it");
    let (token, next) = tokio::time::timeout(SOON, taking).await.unwrap().unwrap();
    assert!(token > lease.token());
    // The road is mended: the server's word comes through.
    deaf_road.swallows.send_replace(false);
    deaf_road.cut();
    let lost = tokio::time::timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!(lost.reason(), Some(Reason::SessionLost), "{lost}");
    let check = server.client().check("bound", bound.token).await.unwrap();
    assert!(!check.current, "all that lived with the session is gone");
    next.release().await.unwrap();
}
