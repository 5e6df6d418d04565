//! Frames on a terminal that is a buffer.

use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend};

use super::{super::samples, *};
use crate::top::model::Key;

const SECOND: Duration = Duration::from_secs(1);

async fn model() -> Model {
    let mut model = Model {
        server: "http://h:1".into(),
        namespace: "default".into(),
        interval: SECOND,
        ..Model::default()
    };
    model.saw(samples::small().await, SECOND);
    model
}

/// The frame as lines, blanks at their ends left out.
fn shown(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// One blank in place of several.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn leases_are_drawn_with_what_is_told_of_one() {
    let lines = shown(&model().await, 120, 24);
    assert_eq!(lines[0], "http://h:1, namespace default, every 1.0s: reached");
    assert_eq!(lines[1], "3 leases, 3 waiters, 0 closed, 1 sessions");
    assert_eq!(lines[2], "no rates yet");
    assert_eq!(squeezed(&lines[3]), "Leases 3 Waiters 3 Blockers 3 by token");
    assert_eq!(squeezed(&lines[4]), "RESOURCE MODE HOLDER TOKEN HELD AT MOST LEFT");
    assert_eq!(squeezed(&lines[5]), "a exclusive ada 1 1m40s 20.0s");
    assert_eq!(squeezed(&lines[6]), "b exclusive bob 2 50.0s 20.0s");
    assert!(lines[16].contains("of this row"), "{lines:#?}");
    assert!(lines[17].contains("a (exclusive)"), "{lines:#?}");
    assert_eq!(lines[23], HELP);
}

#[tokio::test]
async fn waiters_and_blockers_say_who_is_in_the_way() {
    let mut model = model().await;
    model.press(Key::NextPane);
    let lines = shown(&model, 160, 24);
    assert_eq!(squeezed(&lines[4]), "RESOURCE HOLDER PRIO WAITING BLOCKED BY");
    assert!(
        squeezed(&lines[5]).starts_with("b eve 0 1m00s bob for 5m02s, 12.3s left"),
        "{lines:#?}"
    );
    assert!(lines[17].contains("wants b (exclusive)"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("behind: dan")), "{lines:#?}");
    model.press(Key::NextPane);
    let lines = shown(&model, 160, 24);
    assert_eq!(squeezed(&lines[5]), "ada holds it for 5m02s a 2 4.2s dan, bob");
    assert_eq!(squeezed(&lines[6]), "dan waits before b 1 1m00s eve");
}

#[tokio::test]
async fn the_row_that_is_looked_at_is_always_drawn() {
    let leases = (1..=40).map(|token| samples::lease(&format!("r{token}"), "ada", token)).collect();
    let mut model = Model::default();
    model.saw(samples::snapshot(Default::default(), leases, Vec::new()).await, SECOND);
    let drawn = |model: &Model| {
        let lines = shown(model, 100, 12);
        lines[5..11].iter().map(|line| squeezed(line)).collect::<Vec<_>>()
    };
    assert!(drawn(&model)[0].starts_with("r1 "));
    model.press(Key::End);
    let lines = drawn(&model);
    assert!(lines[5].starts_with("r40 ") && lines[0].starts_with("r35 "), "{lines:#?}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_above_what_was_seen() {
    let mut model = model().await;
    model.missed("UNAVAILABLE: gone".into(), 5 * SECOND);
    model.now = 9 * SECOND;
    let lines = shown(&model, 120, 24);
    assert!(lines[0].ends_with("not reached for 4.0s"), "{}", lines[0]);
    assert_eq!(lines[2], "UNAVAILABLE: gone");
    assert!(lines[5].starts_with("a "), "{lines:#?}");
}

#[tokio::test]
async fn a_name_cannot_steer_the_terminal() {
    let leases = vec![samples::lease("a\u{1b}[2J", "ada\u{7}", 1)];
    let mut model = Model::default();
    model.saw(samples::snapshot(Default::default(), leases, Vec::new()).await, SECOND);
    let text = shown(&model, 120, 24).concat();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.contains("a\\u{1b}[2J"), "{text:?}");
}

#[tokio::test]
async fn what_is_typed_stands_at_the_bottom_and_any_size_will_do() {
    let mut model = model().await;
    model.press(Key::Filter);
    model.press(Key::Char('x'));
    assert!(shown(&model, 60, 24)[23].starts_with("prefix: x_"));
    for (width, height) in [(1, 1), (10, 3), (3, 10), (200, 5), (80, 19), (80, 20)] {
        for _ in 0..3 {
            shown(&model, width, height);
            model.pane = Pane::Waiters;
        }
    }
}
