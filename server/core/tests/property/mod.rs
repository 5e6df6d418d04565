//! Random histories: the machine against the model, step by step, with the whole-state
//! invariants checked after each, what must hold whatever any model says, and restarts from the
//! log.
//!
//! `HISTORIES` sets how many, `SEED` where they begin: each has a seed of its own. A failure is
//! shrunk, and prints the steps that lead to it and the command that plays it again.

mod pair;
mod steps;
mod tally;
mod watch;

use std::{cell::RefCell, thread};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use self::{pair::Pair, steps::step, tally::Tally};

/// Steps of one history.
const STEPS_MAX: usize = 80;
/// So many histories meet everything.
const FULL_RUN: u64 = 5_000;
const THREADS: u64 = 2;

#[test]
fn the_machine_does_what_the_model_says() {
    let histories = number("HISTORIES", 10_000);
    let first = number("SEED", 1);
    let each = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|at| {
                let seeds = (first..first + histories).filter(move |seed| seed % THREADS == at);
                scope.spawn(move || play_all(seeds))
            })
            .collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut tally = Tally::default();
    for one in each {
        match one.unwrap() {
            Ok(met) => tally.merge(&met),
            Err(failure) => panic!("{failure}"),
        }
    }
    if std::env::var_os("TALLY").is_some() {
        panic!("{tally:#?}");
    }
    if histories >= FULL_RUN {
        tally.check();
    }
}

fn play_all(seeds: impl Iterator<Item = u64>) -> Result<Tally, String> {
    let tally = RefCell::new(Tally::default());
    for seed in seeds {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let config = ProptestConfig {
            max_shrink_iters: 20_000,
            failure_persistence: None,
            ..ProptestConfig::with_cases(1)
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let history = prop::collection::vec(step(), 1..STEPS_MAX);
        let played = runner.run(&history, |steps| {
            let mut pair = Pair::new();
            for step in &steps {
                pair.play(step);
            }
            pair.check_rows();
            tally.borrow_mut().merge(&pair.tally);
            Ok(())
        });
        if let Err(failure) = played {
            return Err(format!(
                "{failure}\nplay it again: SEED={seed} HISTORIES=1 \
                 cargo test -p singletrack-core the_machine_does"
            ));
        }
    }
    Ok(tally.into_inner())
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
