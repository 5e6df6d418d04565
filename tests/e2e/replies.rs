//! The Rust client behind a courier that loses and doubles calls, frames and answers, or has no
//! streams to offer: no logical call is applied twice, and every call comes to its end.

use std::time::Duration;

use singletrack::{Acquire, Client, HoldState, List, Release, Transport};
use tokio::task::JoinSet;

use crate::{
    agents::Agent,
    courier::{Courier, Fate, Place, Streams},
    oracle::{Event, History, judge},
    random::Random,
    rig::{Rig, soon},
};

const AGENTS: usize = 8;
const CYCLES: usize = 25;

/// How long all agents may take, however unlucky and however busy the machine.
const WHOLE_LOAD: Duration = Duration::from_secs(120);

fn client_of(courier: &Courier, transport: Transport) -> Client {
    Client::builder(format!("http://{}", courier.address))
        .holder("agent")
        .transport(transport)
        // One call may be unlucky again and again, and the machine busy.
        .timeout(Duration::from_secs(60))
        .session_ttl(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// Agents behind one courier; the oracle judges what they noted and what the server holds at last.
async fn judged(transport: Transport, foul: usize) -> Courier {
    let rig = Rig::start().await;
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let courier = Courier::to(rig.channel().await, foul, Streams::Carried, random.split()).await;
    let client = client_of(&courier, transport);
    let history = History::default();
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        let agent = Agent {
            name: format!("agent-{number}"),
            client: client.clone(),
            random: random.split(),
            history: history.clone(),
            with_session: false,
        };
        agents.spawn(agent.work(|cycle| cycle < CYCLES));
    }
    let all = async {
        while let Some(agent) = agents.join_next().await {
            agent.unwrap();
        }
    };
    tokio::time::timeout(WHOLE_LOAD, all).await.expect("the agents end");
    soon(courier.settle()).await;
    // Leases with a ttl of their own outlive the session; what was granted twice is still there.
    let live = rig.client().list(List::new().page_size(1_000)).await.unwrap();
    history.push(Event::Live { tokens: live.leases.iter().map(|lease| lease.token).collect() });
    let summary = match judge(&history.events()) {
        Ok(summary) => summary,
        Err(broken) => panic!("{broken}\nto choose so again: SINGLETRACK_SEED={seed}"),
    };
    assert!(summary.grants > AGENTS, "{summary:?}");
    soon(client.close()).await.unwrap();
    rig.stop().await;
    courier
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_that_are_lost_and_doubled_are_applied_once() {
    let courier = judged(Transport::Unary, 40).await;
    for fate in [Fate::Lost, Fate::Unheard, Fate::Twice, Fate::Late] {
        assert!(courier.met(fate) > 0, "{fate:?} was never met");
    }
    assert_eq!(courier.opened(), 0, "no stream was asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_lost_and_doubled_are_applied_once() {
    let courier = judged(Transport::Session, 10).await;
    for fate in [Fate::Lost, Fate::Unheard, Fate::Twice, Fate::Late] {
        assert!(courier.met(fate) > 0, "{fate:?} was never met");
    }
    assert!(courier.opened() > 1, "no stream was ever cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_cut_and_calls_in_their_place_are_applied_once() {
    let courier = judged(Transport::Auto, 20).await;
    assert!(courier.opened() > 1, "no stream was ever cut");
}

/// A cycle whose stream is cut before or after each of its frames, either way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_at_each_boundary_of_frames_a_cycle_is_done_once() {
    let rig = Rig::start().await;
    let channel = rig.channel().await;
    let watcher = rig.client();
    let mut last = 0;
    for to_server in [true, false] {
        for frame in 0..5 {
            for after in [false, true] {
                let place = Place { to_server, frame, after };
                let courier =
                    Courier::to(channel.clone(), 0, Streams::BreakAt(place), Random::new(1)).await;
                let client = client_of(&courier, Transport::Session);
                let working = tokio::spawn({
                    let client = client.clone();
                    async move { cycles(&client, 3).await }
                });
                // The second stream and those after it are whole.
                soon(async {
                    while courier.opened() < 1 {
                        tokio::task::yield_now().await;
                    }
                    courier.streams(Streams::Carried);
                })
                .await;
                for token in soon(working).await.unwrap() {
                    assert!(token > last, "{place:?}: {token} after {last}");
                    last = token;
                }
                assert!(watcher.list_all().await.unwrap().is_empty(), "{place:?}");
                soon(client.close()).await.unwrap();
            }
        }
    }
    rig.stop().await;
}

/// The tokens of so many cycles on one name, shared: a second grant would stay.
async fn cycles(client: &Client, count: usize) -> Vec<u64> {
    let mut tokens = Vec::new();
    for _ in 0..count {
        let wish = Acquire::new("name", "agent").shared();
        let lease = client.acquire(wish).await.unwrap();
        tokens.push(lease.token);
        client.release(Release::of(&lease)).await.unwrap();
    }
    tokens
}

async fn works_without_streams(streams: Streams) {
    let rig = Rig::start().await;
    let courier = Courier::to(rig.channel().await, 0, streams, Random::new(1)).await;
    let client = client_of(&courier, Transport::Auto);
    let tokens = soon(cycles(&client, 3)).await;
    assert!(tokens.is_sorted());
    // A lease that is kept has to be kept by unary calls too.
    let lease = soon(client.lease("kept").ttl(Duration::from_secs(1)).acquire()).await.unwrap();
    let bound = soon(client.lease("bound").acquire()).await.unwrap();
    let waiting = tokio::spawn(client.lease("kept").wait(Duration::from_secs(20)).acquire());
    rig.until_waiting("kept", 1).await;
    // Longer than its ttl, it is held without a gap.
    let gap = tokio::time::timeout(Duration::from_millis(1_500), lease.not_held()).await;
    assert!(gap.is_err(), "it was {gap:?}");
    assert_eq!(bound.state(), HoldState::Held);
    let watcher = rig.client();
    assert!(watcher.check("kept", lease.token()).await.unwrap().current);
    assert!(watcher.check("bound", bound.token()).await.unwrap().current);
    let before = lease.token();
    soon(lease.release()).await.unwrap();
    let next = soon(waiting).await.unwrap().unwrap();
    assert!(next.token() > before);
    soon(next.release()).await.unwrap();
    soon(bound.release()).await.unwrap();
    assert!(watcher.list_all().await.unwrap().is_empty());
    soon(client.close()).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_knows_no_streams_is_asked_by_unary_calls() {
    works_without_streams(Streams::Unknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_stream_is_ever_welcomed_unary_calls_do() {
    works_without_streams(Streams::BreakAtOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_every_stream_breaks_once_it_is_welcomed_unary_calls_do() {
    works_without_streams(Streams::BreakWelcomed).await;
}
