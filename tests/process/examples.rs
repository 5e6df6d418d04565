//! The examples of the client, run against a server, and the pages that quote them.

use crate::server::Server;

#[path = "../../client/rust/examples/barrier.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod barrier;
#[path = "../../client/rust/examples/file_reservation.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod file_reservation;
#[path = "../../client/rust/examples/leader_election.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod leader_election;
#[path = "../../client/rust/examples/semaphore.rs"]
#[expect(dead_code, reason = "its main is for people")]
mod semaphore;

async fn started() -> Server {
    Server::start_with(&["--store", "memory"]).await
}

/// What an example said, for a test that fails.
fn said(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn one_node_leads_at_a_time_and_each_with_a_higher_token() {
    let (server, mut out) = (started().await, Vec::new());
    let terms = leader_election::run(&server.url(), &mut out).await.unwrap();
    let out = said(out);
    let nodes: Vec<_> = terms.iter().map(|term| term.node.as_str()).collect();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"], "{out}");
    assert!(terms.windows(2).all(|two| two[0].token < two[1].token), "{out}");
    assert_eq!((terms[0].steps, terms[2].steps), (3, 5), "{out}");
    assert!(out.contains("node-2 leads with token") && out.contains("deposed"), "{out}");
}

#[tokio::test]
async fn no_more_licences_are_used_than_there_are() {
    let (server, mut out) = (started().await, Vec::new());
    let peak = semaphore::run(&server.url(), &mut out).await.unwrap();
    assert!((2..=semaphore::LIMIT).contains(&peak), "{}", said(out));
}

#[tokio::test]
async fn nobody_goes_on_before_all_have_arrived() {
    let (server, mut out) = (started().await, Vec::new());
    let seen = barrier::run(&server.url(), &mut out).await.unwrap();
    assert_eq!(seen, [5; 5], "{}", said(out));
}

#[tokio::test]
async fn a_file_is_had_by_one_agent_who_yields_when_asked() {
    let (server, mut out) = (started().await, Vec::new());
    let asked = file_reservation::run(&server.url(), &mut out).await.unwrap();
    let out = said(out);
    assert_eq!(asked, "eve", "{out}");
    assert!(out.contains("eve has to wait for ada"), "{out}");
}

#[test]
fn what_the_recipes_quote_is_in_their_examples() {
    for (page, example) in [
        (
            include_str!("../../docs/recipes/leader-election.md"),
            include_str!("../../client/rust/examples/leader_election.rs"),
        ),
        (
            include_str!("../../docs/recipes/semaphore.md"),
            include_str!("../../client/rust/examples/semaphore.rs"),
        ),
        (
            include_str!("../../docs/recipes/barrier.md"),
            include_str!("../../client/rust/examples/barrier.rs"),
        ),
        (
            include_str!("../../docs/recipes/file-reservation.md"),
            include_str!("../../client/rust/examples/file_reservation.rs"),
        ),
    ] {
        let blocks = page.split("```").skip(1).step_by(2);
        let quoted: Vec<_> = blocks.filter_map(|block| block.strip_prefix("rust\n")).collect();
        assert!(!quoted.is_empty(), "no code in {page}");
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        for code in quoted {
            assert!(plain(example).contains(&plain(code)), "not in the example:\n{code}");
        }
    }
}
