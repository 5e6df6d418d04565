//! Keys, sorting, rates and blockers, without server and terminal.

use std::time::Duration;

use singletrack_proto::v1;

use super::{super::samples, *};

const SECOND: Duration = Duration::from_secs(1);

async fn model() -> Model {
    let mut model = Model::default();
    model.saw(samples::small().await, SECOND);
    model
}

fn tokens(model: &Model) -> Vec<u64> {
    model
        .snapshot
        .as_ref()
        .map_or_else(Vec::new, |it| it.leases.iter().map(|it| it.token).collect())
}

fn waiting(model: &Model) -> Vec<&str> {
    let waiters = model.snapshot.as_ref().map_or(&[][..], |it| &it.waiters);
    waiters.iter().map(|it| it.holder.as_str()).collect()
}

fn press(model: &mut Model, text: &str) -> Wanted {
    text.chars().fold(Wanted::Nothing, |_, c| model.press(Key::Char(c)))
}

#[tokio::test]
async fn each_pane_is_sorted_by_its_columns_in_turn() {
    let lease = |resource, holder, token, held_ms, remaining_ms| v1::LeaseInfo {
        held_ms,
        remaining_ms,
        ..samples::lease(resource, holder, token)
    };
    let leases = vec![lease("b", "z", 3, 9, 5), lease("c", "x", 1, 7, 6), lease("a", "y", 2, 8, 7)];
    let mut model = Model::default();
    model.saw(samples::snapshot(Default::default(), leases, Vec::new()).await, SECOND);
    assert_eq!((model.sorted_by(Pane::Leases), tokens(&model)), ("token", vec![1, 2, 3]));
    for (by, order) in [
        ("resource", [2, 3, 1]),
        ("holder", [1, 2, 3]),
        ("held", [3, 2, 1]),
        ("remaining", [3, 1, 2]),
        ("token", [1, 2, 3]),
    ] {
        assert_eq!(model.press(Key::Sort), Wanted::Nothing);
        assert_eq!((model.sorted_by(Pane::Leases), tokens(&model)), (by, order.to_vec()));
    }
    model.saw(samples::small().await, SECOND);
    model.press(Key::NextPane);
    assert_eq!(waiting(&model), ["eve", "dan", "bob"], "the one that waits longest first");
    model.press(Key::Sort);
    assert_eq!(
        (model.sorted_by(Pane::Waiters), waiting(&model)),
        ("resource", vec!["dan", "bob", "eve"])
    );
    // A new look keeps what was chosen.
    model.saw(samples::small().await, 2 * SECOND);
    assert_eq!(waiting(&model), ["dan", "bob", "eve"]);
}

#[tokio::test]
async fn who_blocks_whom_is_told_by_the_blocker() {
    let model = model().await;
    let told: Vec<_> = model
        .blockers
        .iter()
        .map(|it| (it.holder.as_str(), it.blocked.join(" "), it.waits_for.as_deref()))
        .collect();
    let expected = [
        ("ada", "dan bob".to_owned(), None),
        ("dan", "eve".to_owned(), Some("a")),
        ("bob", "eve".to_owned(), Some("a")),
    ];
    assert_eq!(told, expected);
    assert!(model.blockers[0].by.is_some() && model.blockers[1].by.is_none());
    assert_eq!((&*model.blockers[2].resource, model.blockers[2].longest), ("b", 60 * SECOND));
}

#[tokio::test]
async fn keys_move_within_the_rows_of_a_pane() {
    let mut model = model().await;
    for (key, at) in [
        (Key::Up, 0),
        (Key::Down, 1),
        (Key::Down, 2),
        (Key::Down, 2),
        (Key::Home, 0),
        (Key::PageDown, 2),
        (Key::PageUp, 0),
        (Key::End, 2),
    ] {
        model.press(key);
        assert_eq!(model.selected(), at, "{key:?}");
    }
    model.press(Key::NextPane);
    assert_eq!((model.pane, model.selected()), (Pane::Waiters, 0));
    model.press(Key::NextPane);
    model.press(Key::NextPane);
    assert_eq!((model.pane, model.selected()), (Pane::Leases, 2), "each pane has its row");
    // Rows that are gone are not looked at.
    let empty = samples::snapshot(Default::default(), Vec::new(), Vec::new()).await;
    model.saw(empty, 2 * SECOND);
    assert_eq!(model.selected(), 0);
    for key in [Key::Down, Key::End, Key::Sort, Key::PageDown] {
        model.press(key);
    }
    assert_eq!(model.press(Key::Quit), Wanted::ToQuit);
}

#[tokio::test]
async fn a_prefix_is_typed_taken_or_dropped() {
    let mut model = model().await;
    model.press(Key::Filter);
    press(&mut model, "qs/x");
    model.press(Key::Backspace);
    assert_eq!(model.typing.as_deref(), Some("qs/"), "letters are letters here");
    assert_eq!(model.press(Key::Enter), Wanted::ToLook);
    assert_eq!((model.prefix.as_str(), &model.typing), ("qs", &None));
    model.press(Key::Filter);
    press(&mut model, "more");
    model.press(Key::Escape);
    assert_eq!((model.prefix.as_str(), &model.typing), ("qs", &None));
    model.press(Key::Filter);
    assert_eq!(model.press(Key::Quit), Wanted::ToQuit);
}

#[tokio::test]
async fn waiters_are_filtered_by_whole_segments() {
    for (prefix, expected) in [("", 3), ("a", 2), ("b", 1), ("a/b", 0), ("c", 0)] {
        let mut model = Model { prefix: prefix.into(), ..Model::default() };
        model.saw(samples::small().await, SECOND);
        assert_eq!(model.rows(Pane::Waiters), expected, "{prefix}");
    }
}

#[tokio::test]
async fn rates_are_of_the_time_between_two_looks() {
    let stats = |granted_total, revision| v1::GetLeaseStatsResponse {
        granted_total,
        revision,
        ..Default::default()
    };
    let look = async |granted, revision| {
        samples::snapshot(stats(granted, revision), Vec::new(), Vec::new()).await
    };
    let mut model = Model::default();
    model.saw(look(10, 100).await, SECOND);
    assert_eq!(model.rates, None, "it takes two");
    model.saw(look(30, 140).await, 3 * SECOND);
    let rates = model.rates.unwrap_or_default();
    assert_eq!((rates.granted, rates.revisions), (10.0, 20.0));
    model.saw(look(5, 200).await, 4 * SECOND);
    assert_eq!(model.rates, None, "the server counts anew");
    model.saw(look(7, 200).await, 4 * SECOND);
    assert_eq!(model.rates, None, "no time has passed");
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_forgotten_when_it_is_back() {
    let mut model = model().await;
    model.missed("gone".into(), 5 * SECOND);
    model.missed("still gone".into(), 9 * SECOND);
    assert_eq!(model.trouble, Some((5 * SECOND, "still gone".into())));
    assert_eq!(tokens(&model), [1, 2, 3], "what was seen stays");
    model.saw(samples::small().await, 12 * SECOND);
    assert_eq!((&model.trouble, model.rates), (&None, None), "nothing is counted across");
}
