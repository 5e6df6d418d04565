//! Random histories: the machine against the model, step by step, with the whole-state
//! invariants checked after each, what must hold whatever any model says, and restarts from the
//! log.
//!
//! `PROPTEST_CASES` sets how many, `SEED` where they begin: each has a seed of its own. A failure
//! is shrunk, and prints the steps that lead to it and the command that plays it again. With
//! `TALLY` set, what was met is printed.

mod pair;
mod records;
mod steps;
mod tally;
mod watch;

use std::{
    panic::{self, AssertUnwindSafe},
    thread,
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use self::{
    pair::Pair,
    records::record_step,
    steps::{Step, crowded_step, step},
    tally::Tally,
};
use crate::model::Met;

/// Steps of one history.
const STEPS_MAX: usize = 120;
/// So many histories meet everything.
const FULL_RUN: u64 = 5_000;
const THREADS: u64 = 2;

#[test]
fn the_machine_does_what_the_model_says() {
    let histories = number("PROPTEST_CASES", 10_000);
    let tally = play_all(histories, history, with_model);
    tally.show();
    if histories >= FULL_RUN {
        tally.check(Met::LEASES);
    }
}

#[test]
fn records_and_transactions_do_what_the_model_says() {
    let histories = number("PROPTEST_CASES", 10_000);
    let tally = play_all(histories, of_records, with_model);
    tally.show();
    if histories >= FULL_RUN {
        tally.check(Met::RECORDS);
    }
}

#[test]
fn no_record_is_wrong_while_much_is_left_for_later() {
    play_all(number("PROPTEST_CASES", 10_000) / 2, of_records, lazily);
}

#[test]
fn who_can_never_be_served_in_a_crowd_is_refused() {
    // Each is as much work as twenty others.
    play_all(number("PROPTEST_CASES", 10_000).div_ceil(20), crowd, with_model).show();
}

#[test]
fn nothing_is_wrong_while_much_is_left_for_later() {
    play_all(number("PROPTEST_CASES", 10_000) / 2, history, lazily);
}

fn with_model(steps: &[Step]) -> Tally {
    let mut pair =
        if steps.len().is_multiple_of(2) { Pair::new() } else { Pair::leaving_orphans() };
    steps.iter().for_each(|step| pair.play(step));
    pair.check_rows();
    pair.check_cuts();
    pair.tally
}

fn lazily(steps: &[Step]) -> Tally {
    let mut pair = Pair::lazy(steps.len() % 3);
    steps.iter().for_each(|step| pair.play(step));
    pair.finish();
    pair.check_cuts();
    pair.tally
}

/// Draws a history by a seed.
type Draw = fn(u64) -> Vec<Step>;
/// Plays a history.
type Play = fn(&[Step]) -> Tally;

/// Plays histories from `SEED` on; what they met.
fn play_all(histories: u64, what: Draw, how: Play) -> Tally {
    let first = number("SEED", 1);
    let each = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|at| {
                let seeds = (first..first + histories).filter(move |seed| seed % THREADS == at);
                scope.spawn(move || play_some(seeds, what, how))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let failed: Vec<u64> = each.iter().filter_map(|one| one.as_ref().err().copied()).collect();
    if let [seed, ..] = failed[..] {
        fail(seed, &failed, what, how);
    }
    let mut tally = Tally::default();
    each.iter().flatten().for_each(|met| tally.merge(met));
    tally
}

/// What the histories met, or the seed of one that failed.
fn play_some(seeds: impl Iterator<Item = u64>, what: Draw, how: Play) -> Result<Tally, u64> {
    let mut tally = Tally::default();
    for seed in seeds {
        match play(&what(seed), how) {
            Ok(met) => tally.merge(&met),
            Err(_) => return Err(seed),
        }
    }
    Ok(tally)
}

fn history(seed: u64) -> Vec<Step> {
    draw(seed, &prop::collection::vec(step(), 1..STEPS_MAX))
}

fn of_records(seed: u64) -> Vec<Step> {
    draw(seed, &prop::collection::vec(record_step(), 1..STEPS_MAX))
}

fn crowd(seed: u64) -> Vec<Step> {
    draw(seed, &prop::collection::vec(crowded_step(), 1..STEPS_MAX))
}

fn draw(seed: u64, strategy: &impl Strategy<Value = Vec<Step>>) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    strategy.new_tree(&mut runner).unwrap().current()
}

/// What it met, or why it failed.
fn play(steps: &[Step], how: Play) -> Result<Tally, String> {
    let played = panic::catch_unwind(AssertUnwindSafe(|| how(steps)));
    played.map_err(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic").to_owned(),
    })
}

/// Leaves out steps as long as it still fails, and says what is left, and which seeds failed.
fn fail(seed: u64, failed: &[u64], what: Draw, how: Play) -> ! {
    let mut steps = what(seed);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let before = steps.len();
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if play(&fewer, how).is_err() {
                steps = fewer;
            } else {
                at += size;
            }
        }
        if steps.len() == before || size > 1 {
            size /= 2;
        }
    }
    panic::set_hook(hook);
    let reason = play(&steps, how).err().unwrap_or_default();
    let lines: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
    panic!(
        "{reason}\nafter\n{}\nplay it again: SEED={seed} PROPTEST_CASES=1 \
         cargo test -p singletrack-core property (failed: {failed:?})",
        lines.join("\n")
    );
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
