//! The checker of histories, on recorded histories of an early etcd with known verdicts: a register
//! that is read, written and compared-and-set while its machines are cut off from each other.
//!
//! Histories and verdicts are in the tests of `todc-utils`, and stay there. Its own checker gives a
//! second opinion.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use todc_utils::{
    linearizability::WGLChecker,
    specifications::etcd::{EtcdSpecification, history_from_log},
};

use crate::linear::{Call, Model, check};

/// A register.
struct Register;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    Write(u32),
    CompareAndSet(u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Value(Option<u32>),
    Done,
    /// It held something else than was compared with.
    Differs,
}

impl Model for Register {
    type State = Option<u32>;
    type Operation = Operation;
    type Answer = Answer;

    fn start() -> Option<u32> {
        None
    }

    fn step(
        state: &Option<u32>,
        operation: &Operation,
        answer: Option<&Answer>,
    ) -> Vec<Option<u32>> {
        let (becomes, says) = match operation {
            Operation::Read => (*state, Answer::Value(*state)),
            Operation::Write(value) => (Some(*value), Answer::Done),
            Operation::CompareAndSet(old, new) if *state == Some(*old) => {
                (Some(*new), Answer::Done)
            }
            Operation::CompareAndSet(..) => (*state, Answer::Differs),
        };
        let may_be = answer.is_none_or(|answer| *answer == says);
        Vec::from_iter(may_be.then_some(becomes))
    }
}

/// Where the crate's recordings are.
fn recordings() -> PathBuf {
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let rustc = run("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Of one platform, so that nothing has to be fetched that was not built.
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&run(env!("CARGO"), &args)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "todc-utils").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    manifest.with_file_name("tests").join("linearizability")
}

/// Numbers of recordings and whether they are linearizable.
fn verdicts(folder: &Path) -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(folder.join("etcd.rs")).unwrap();
    let mut verdicts = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("test_")) {
        let (_, verdict) = line.split_once("(\"").unwrap();
        let (number, verdict) = verdict.split_once("\", ").unwrap();
        verdicts.push((number.to_owned(), verdict.starts_with("true")));
    }
    verdicts
}

/// The calls of a recording. What ended with `:info` is not known.
fn calls(text: &str) -> Vec<Call<Operation, Answer>> {
    let mut calls: Vec<Call<Operation, Answer>> = Vec::new();
    let mut open: Vec<(&str, usize)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["INFO", "jepsen.util", "-", process, event, name, ref values @ ..] = words[..] else {
            continue;
        };
        if process == ":nemesis" {
            continue;
        }
        let at = u64::try_from(at).unwrap();
        let value = |place: usize| values[place].trim_matches(['[', ']']).parse().unwrap();
        if event == ":invoke" {
            let operation = match name {
                ":read" => Operation::Read,
                ":write" => Operation::Write(value(0)),
                ":cas" => Operation::CompareAndSet(value(0), value(1)),
                other => panic!("{other}: {line}"),
            };
            open.push((process, calls.len()));
            calls.push(Call { operation, sent: at, answer: None });
            continue;
        }
        let place = open.iter().position(|(open, _)| *open == process).unwrap();
        let (_, call) = open.remove(place);
        let answer = match (event, name, values) {
            (":info", ..) | (":fail", _, [":timed-out"]) => continue,
            (":ok", ":read", ["nil"]) => Answer::Value(None),
            (":ok", ":read", _) => Answer::Value(Some(value(0))),
            (":ok", ..) => Answer::Done,
            (":fail", ":cas", _) => Answer::Differs,
            other => panic!("{other:?}: {line}"),
        };
        calls[call].answer = Some((at, answer));
    }
    calls
}

#[test]
fn recorded_histories_of_etcd_are_judged_as_is_known() {
    let folder = recordings();
    let verdicts = verdicts(&folder);
    assert!(verdicts.len() > 100, "{}", verdicts.len());
    assert!(verdicts.iter().any(|(_, verdict)| *verdict));
    for (number, verdict) in verdicts {
        let file = folder.join(format!("etcd/etcd_{number}.log"));
        let text = std::fs::read_to_string(&file).unwrap();
        let calls = calls(&text);
        assert!(calls.len() > 20, "{number}: {}", calls.len());
        let judged = check::<Register>(&calls);
        assert_eq!(judged.is_ok(), verdict, "{number}: {judged:?}");
        let history = history_from_log(file.to_str().unwrap().to_owned());
        let other = WGLChecker::<EtcdSpecification>::is_linearizable(history);
        assert_eq!(other, verdict, "{number}");
    }
}
