//! What may be asked for: targets that don't touch, and the bounds of what comes with them.

use proptest::prelude::*;
use singletrack_core::{
    limits,
    types::{
        Actor, Labels, LockDelay, MaxHold, Mode, Permits, Reach, ResourceName, Target, Targets,
        Words,
    },
};

use crate::model::claims::touch;

fn target(name: &str, mode: Mode, reach: Reach) -> Target {
    Target { resource: ResourceName::parse(name).unwrap(), mode, reach }
}

fn exclusive(name: &str) -> Target {
    target(name, Mode::Exclusive, Reach::Exact)
}

fn permits() -> Mode {
    Mode::Permits(Permits::parse(1, 2).unwrap())
}

proptest! {
    #[test]
    fn targets_are_refused_exactly_when_two_touch(
        names in prop::collection::vec("[ab](/[ab!]){0,3}", 1..7),
        subtrees in prop::collection::vec(any::<bool>(), 7),
    ) {
        let all: Vec<Target> = names
            .iter()
            .zip(subtrees)
            .map(|(name, subtree)| {
                target(name, Mode::Shared, if subtree { Reach::Subtree } else { Reach::Exact })
            })
            .collect();
        let first = (0..all.len()).find(|at| all[..*at].iter().any(|it| touch(it, &all[*at])));
        match (Targets::parse(all.clone()), first) {
            (Ok(targets), None) => prop_assert_eq!(targets.as_slice(), &all[..]),
            (Err((index, _)), Some(_)) => {
                // The later one of two that touch, not always the first such.
                prop_assert!(all[..index].iter().any(|it| touch(it, &all[index])));
            }
            (parsed, first) => prop_assert!(false, "{parsed:?} where {first:?} touches"),
        }
    }
}

#[test]
fn a_request_has_1_to_128_targets_and_permits_are_exact() {
    assert_eq!(Targets::parse(Vec::new()).unwrap_err().0, 0);
    let many = |count: usize| (0..count).map(|at| exclusive(&format!("r{at}"))).collect::<Vec<_>>();
    assert!(Targets::parse(many(limits::TARGETS_MAX)).is_ok());
    let (index, flaw) = Targets::parse(many(limits::TARGETS_MAX + 1)).unwrap_err();
    assert_eq!((index, flaw.too_large), (limits::TARGETS_MAX, true));
    let subtree = vec![exclusive("a"), target("b", permits(), Reach::Subtree)];
    assert_eq!(Targets::parse(subtree).unwrap_err().0, 1);
    assert!(Targets::parse(vec![target("b", permits(), Reach::Exact)]).is_ok());
}

#[test]
fn names_of_all_targets_have_a_bound_together() {
    let long = |at: usize| exclusive(&format!("{at:0>500}"));
    let fit = limits::TARGETS_BYTES_MAX / 500;
    assert!(Targets::parse((0..fit).map(long).collect()).is_ok());
    let (_, flaw) = Targets::parse((0..=fit).map(long).collect()).unwrap_err();
    assert!(flaw.too_large, "{flaw:?}");
}

#[test]
fn names_that_only_look_alike_do_not_touch() {
    let subtree = |name| target(name, Mode::Exclusive, Reach::Subtree);
    assert!(Targets::parse(vec![subtree("a"), exclusive("ab"), exclusive("a!/b")]).is_ok());
    assert!(Targets::parse(vec![exclusive("a/b"), exclusive("a"), exclusive("a/b/c")]).is_ok());
    assert_eq!(Targets::parse(vec![exclusive("a/b"), subtree("a")]).unwrap_err().0, 1);
    // `!` sorts before `/`: what is below `a` doesn't follow it at once as text.
    let apart = vec![subtree("a"), exclusive("a!"), exclusive("a/b")];
    assert_eq!(Targets::parse(apart).unwrap_err().0, 2);
}

#[test]
fn permits_are_1_to_limit_to_a_million() {
    assert!(Permits::parse(1, 1).is_ok());
    assert!(Permits::parse(limits::PERMITS_MAX, limits::PERMITS_MAX).is_ok());
    for (count, limit) in [(0, 1), (2, 1), (1, 0), (1, limits::PERMITS_MAX + 1)] {
        assert!(Permits::parse(count, limit).is_err(), "{count} of {limit}");
    }
}

#[test]
fn actors_are_paths_with_descendants() {
    let actor = |text| Actor::parse(text).unwrap();
    assert!(actor("p/1/x").is_within(&actor("p")));
    assert!(actor("p").is_within(&actor("p")));
    assert!(!actor("p1").is_within(&actor("p")));
    assert!(!actor("p").is_within(&actor("p/1")));
    for text in ["", "/p", "p/", "p//q", "p/../q", "p\u{7}"] {
        assert!(Actor::parse(text).is_err(), "{text:?}");
    }
    assert!(Actor::parse(&"p".repeat(limits::ACTOR_BYTES_MAX)).is_ok());
    assert!(Actor::parse(&"p".repeat(limits::ACTOR_BYTES_MAX + 1)).is_err());
}

#[test]
fn labels_have_bounds_and_are_given_once() {
    let labels = |all: &[(&str, &str)]| Labels::parse(all.iter().copied());
    let both = labels(&[("b", "2"), ("a", "")]).unwrap();
    assert_eq!(both.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
    assert!(both.contain(&labels(&[("b", "2")]).unwrap()));
    assert!(both.contain(&Labels::default()));
    assert!(!both.contain(&labels(&[("b", "")]).unwrap()));
    assert!(labels(&[("a", "1"), ("a", "2")]).is_err());
    assert!(labels(&[("", "1")]).is_err());
    assert!(labels(&[("a", "1\n")]).is_err());
    let keys: Vec<String> = (0..=limits::LABELS_MAX).map(|at| format!("k{at}")).collect();
    let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    assert!(labels(&many[1..]).is_ok());
    assert!(labels(&many).unwrap_err().1.too_large);
    let long = "v".repeat(limits::LABEL_CHARS_MAX);
    assert!(labels(&[("a", &long)]).is_ok());
    assert!(labels(&[("a", &format!("{long}v"))]).is_err());
}

#[test]
fn spans_and_words_have_bounds() {
    assert_eq!(LockDelay::parse(0), Ok(None));
    assert_eq!(LockDelay::parse(1).unwrap().unwrap().ms(), 1);
    assert!(LockDelay::parse(limits::LOCK_DELAY_MS_MAX).is_ok());
    assert!(LockDelay::parse(limits::LOCK_DELAY_MS_MAX + 1).is_err());
    assert!(LockDelay::parse(u64::MAX).is_err());
    assert!(MaxHold::parse(limits::MAX_HOLD_MS_MIN - 1).is_err());
    assert!(MaxHold::parse(limits::MAX_HOLD_MS_MAX).is_ok());
    assert!(MaxHold::parse(limits::MAX_HOLD_MS_MAX + 1).is_err());
    assert_eq!(Words::parse("").unwrap().as_str(), "");
    assert!(Words::parse(&"ä".repeat(limits::WORDS_CHARS_MAX)).is_ok());
    assert!(Words::parse(&"ä".repeat(limits::WORDS_CHARS_MAX + 1)).is_err());
    assert!(Words::parse("a\tb").is_err());
}
