//! `singletrack race`: races made visible, and what cures them.
//!
//! A scenario is a module of this folder and a line in [`play`]. Every run counts what should have
//! come of it and what did.

mod counter;

use std::{process::ExitCode, time::Duration};

use clap::ValueEnum as _;
use serde_json::{Value, json};

use crate::{
    args::{Cure, RaceArgs, Scenario},
    end,
    exit::{Exit, Failure},
    output,
    own_server::{self, Keeps},
};

/// What came of one run.
pub(super) struct Outcome {
    scenario: Scenario,
    cure: Cure,
    expected: u64,
    actual: u64,
    /// Effects that should be there and are not.
    lost: u64,
    /// Effects that are there more than once.
    duplicated: u64,
    /// Stale writes that the server refused, each of which was done anew.
    refused: u64,
    took: Duration,
}

/// Runs a race.
pub(crate) fn run(args: &RaceArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::no_runtime(&error)),
        Ok(runtime) => runtime.block_on(race(args)),
    };
    end(result, args.output)
}

async fn race(args: &RaceArgs) -> Result<(), Failure> {
    let (url, own) = own_server::given_or_own(args.server.as_ref(), &Keeps::InMemory).await?;
    let cures = if args.cures.is_empty() { Cure::value_variants() } else { &args.cures };
    let mut outcomes = Vec::new();
    for cure in cures {
        outcomes.push(play(args, *cure, &url).await?);
    }
    if let Some(own) = own {
        own.stop().await;
    }
    output::print(
        args.output,
        || Value::Array(outcomes.iter().map(Outcome::to_json).collect()),
        || to_table(&outcomes),
    )?;
    match outcomes.iter().find(|outcome| outcome.is_broken()) {
        None => Ok(()),
        Some(broken) => Err(Failure::Said {
            exit: Exit::Refused,
            message: format!(
                "the cure `{}` lost {} and duplicated {}",
                name(broken.cure),
                broken.lost,
                broken.duplicated
            ),
            next_step: "this is a bug of singletrack: report it with the log of the server".into(),
        }),
    }
}

async fn play(args: &RaceArgs, cure: Cure, url: &str) -> Result<Outcome, Failure> {
    match args.scenario {
        Scenario::Counter => counter::play(args, cure, url).await,
    }
}

// === impl Outcome ===

impl Outcome {
    /// It should have been cured and was not.
    fn is_broken(&self) -> bool {
        match self.cure {
            Cure::None | Cure::PausedLease => false,
            Cure::Lease | Cure::Fence | Cure::Version | Cure::Increment => {
                self.lost > 0 || self.duplicated > 0
            }
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "scenario": name(self.scenario),
            "cure": name(self.cure),
            "expected": self.expected,
            "actual": self.actual,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "refused": self.refused,
            "seconds": (self.took.as_secs_f64() * 1_000.0).round() / 1_000.0,
        })
    }
}

fn to_table(outcomes: &[Outcome]) -> String {
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            [
                name(outcome.scenario),
                name(outcome.cure),
                outcome.expected.to_string(),
                outcome.actual.to_string(),
                outcome.lost.to_string(),
                outcome.duplicated.to_string(),
                outcome.refused.to_string(),
                format!("{:.2}", outcome.took.as_secs_f64()),
            ]
        })
        .collect();
    output::table(
        ["SCENARIO", "CURE", "EXPECTED", "ACTUAL", "LOST", "DUPLICATED", "REFUSED", "SECONDS"],
        &rows,
    )
}

/// As it is said on the command line.
fn name(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default()
}
