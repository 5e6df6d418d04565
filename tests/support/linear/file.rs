//! Histories of records as text, one line for each sending and each answer, as
//! docs/history-format.md has it: written, read back, and judged from the text alone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use serde_json::{Value as Json, json};

use super::record::{Answer, Broken, Expect, Operation, RecordCall, Value, judge};

/// A history that many clients write.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    text: String,
    calls: u64,
}

/// What a history without a broken promise had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) records: usize,
    pub(crate) calls: usize,
    /// Writes that nobody knows the outcome of.
    pub(crate) unknown: usize,
    /// Writes that took effect, as far as their callers know.
    pub(crate) written: usize,
    /// Refusals because a record was not as expected.
    pub(crate) mismatches: usize,
}

/// The history of one record that can't be.
#[derive(Debug)]
pub(crate) struct Condemned {
    pub(crate) record: String,
    pub(crate) broken: Box<Broken>,
    /// Its lines.
    pub(crate) lines: String,
}

// === impl Lines ===

impl Lines {
    /// A call begins; its number.
    pub(crate) fn invoke(&self, slot: u64, at_us: u64, key: &str, operation: &Operation) -> u64 {
        let mut written = self.0.lock().unwrap();
        written.calls += 1;
        let call = written.calls;
        let mut line = json!({
            "event": "invoke", "call": call, "slot": slot, "at_us": at_us,
            "op": name(operation), "resource": key,
        });
        let expects = match operation {
            Operation::Get => Expect::Any,
            Operation::Put { value, expect } => {
                line["value"] = value_to(value);
                *expect
            }
            Operation::Increment { delta, min, max } => {
                line["delta"] = delta.to_string().into();
                for (key, bound) in [("min", min), ("max", max)] {
                    line[key] = bound.map(|bound| bound.to_string()).into();
                }
                Expect::Any
            }
            Operation::Delete { expect } => *expect,
        };
        line["expect"] = match expects {
            Expect::Any => Json::Null,
            Expect::Absent => "absent".into(),
            Expect::Exists => "exists".into(),
            Expect::Version(version) => version.to_string().into(),
        };
        written.write(&line);
        call
    }

    /// It has ended. Without an answer nobody knows what became of it.
    pub(crate) fn returned(
        &self,
        (slot, call, at_us): (u64, u64, u64),
        key: &str,
        operation: &Operation,
        answer: Option<&Answer>,
        result: &str,
    ) {
        let event = if answer.is_some() { "return" } else { "unknown" };
        let mut line = json!({
            "event": event, "call": call, "slot": slot, "at_us": at_us,
            "op": name(operation), "resource": key, "result": result,
        });
        let (value, version, created) = match answer {
            None | Some(Answer::NotFound | Answer::NotACounter | Answer::Refused) => {
                (None, None, None)
            }
            Some(Answer::Found { value, version, created }) => {
                (value.as_ref().map(value_to), Some(*version), *created)
            }
            Some(Answer::Written { version, created, value }) => {
                (value.as_ref().map(value_to), Some(*version), *created)
            }
            Some(Answer::Deleted { version }) => (None, Some(*version), None),
            Some(Answer::Mismatch { version, value }) => {
                (value.as_ref().map(value_to), Some(*version), None)
            }
            Some(Answer::OutOfBounds { value }) => {
                (Some(value_to(&Value::Counter(*value))), None, None)
            }
        };
        line["value"] = value.into();
        line["version"] = version.map(|version| version.to_string()).into();
        line["created_at_version"] = created.map(|created| created.to_string()).into();
        self.0.lock().unwrap().write(&line);
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().text.clone()
    }
}

impl Written {
    fn write(&mut self, line: &Json) {
        writeln!(self.text, "{line}").expect("a string has room");
    }
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Get => "get",
        Operation::Put { .. } => "put",
        Operation::Increment { .. } => "increment",
        Operation::Delete { .. } => "delete",
    }
}

fn value_to(value: &Value) -> Json {
    match value {
        Value::Counter(value) => json!({ "counter": value.to_string() }),
        Value::Text(text) => json!({ "text": text }),
        Value::Data(digits) => json!({ "data": digits }),
        Value::Digest(digest) => json!({ "digest": digest }),
    }
}

// === reading ===

/// The calls to each record. Lines of other calls are passed over.
pub(crate) fn read(text: &str) -> BTreeMap<String, Vec<RecordCall>> {
    let mut records: BTreeMap<String, Vec<RecordCall>> = BTreeMap::new();
    // Where each call that has no end yet is.
    let mut open: BTreeMap<u64, (String, usize)> = BTreeMap::new();
    for line in text.lines() {
        let line: Json =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let call = line["call"].as_u64().unwrap_or_else(|| panic!("no call: {line}"));
        let at = line["at_us"].as_u64().unwrap_or_else(|| panic!("no time: {line}"));
        if line["event"] == "invoke" {
            let Some(operation) = operation(&line) else { continue };
            let key = text_of(&line, "resource").unwrap_or_else(|| panic!("no resource: {line}"));
            let calls = records.entry(key.to_owned()).or_default();
            let before = open.insert(call, (key.to_owned(), calls.len()));
            assert!(before.is_none(), "a call begins once: {line}");
            calls.push(RecordCall { operation, sent: at, answer: None });
        } else if let Some((key, index)) = open.remove(&call) {
            let began = records.get_mut(&key).and_then(|calls| calls.get_mut(index));
            let began = began.expect("an open call is where it was put");
            if line["event"] == "return" {
                began.answer = Some((at, answer(&line, &began.operation)));
            }
        }
    }
    records
}

fn text_of<'a>(line: &'a Json, key: &str) -> Option<&'a str> {
    line[key].as_str()
}

fn number<T: std::str::FromStr>(line: &Json, key: &str) -> Option<T> {
    text_of(line, key).map(|text| text.parse().unwrap_or_else(|_| panic!("{key}: {line}")))
}

/// What a line asks, if it is about a record.
fn operation(line: &Json) -> Option<Operation> {
    let expect = match text_of(line, "expect") {
        None => Expect::Any,
        Some("absent") => Expect::Absent,
        Some("exists") => Expect::Exists,
        Some(version) => Expect::Version(version.parse().unwrap()),
    };
    Some(match text_of(line, "op")? {
        "get" => Operation::Get,
        "put" => Operation::Put { value: value(line).expect("a put has a value"), expect },
        "increment" => Operation::Increment {
            delta: number(line, "delta").expect("an increment has a delta"),
            min: number(line, "min"),
            max: number(line, "max"),
        },
        "delete" => Operation::Delete { expect },
        _other => return None,
    })
}

fn value(line: &Json) -> Option<Value> {
    let (kind, value) = line["value"].as_object()?.iter().next()?;
    let text = value.as_str().unwrap_or_else(|| panic!("no value: {line}"));
    Some(match kind.as_str() {
        "counter" => Value::Counter(text.parse().unwrap()),
        "text" => Value::Text(text.to_owned()),
        "data" => Value::Data(text.to_owned()),
        "digest" => Value::Digest(text.to_owned()),
        _other => panic!("no value: {line}"),
    })
}

/// What a line answers.
fn answer(line: &Json, to: &Operation) -> Answer {
    let version = number(line, "version");
    let known = || version.unwrap_or_else(|| panic!("no version: {line}"));
    let (created, value) = (number(line, "created_at_version"), value(line));
    match text_of(line, "result").unwrap_or_else(|| panic!("no result: {line}")) {
        "OK" => match (to, version) {
            (Operation::Get, None) => Answer::NotFound,
            (Operation::Get, Some(version)) => Answer::Found { value, version, created },
            (Operation::Put { .. } | Operation::Increment { .. }, _) => {
                Answer::Written { version: known(), created, value }
            }
            (Operation::Delete { .. }, _) => Answer::Deleted { version: known() },
        },
        "NOT_FOUND" => Answer::NotFound,
        "VERSION_MISMATCH" => Answer::Mismatch { version: known(), value },
        "NOT_A_COUNTER" => Answer::NotACounter,
        "OUT_OF_BOUNDS" => match value {
            Some(Value::Counter(value)) => Answer::OutOfBounds { value },
            Some(Value::Text(_) | Value::Data(_) | Value::Digest(_)) | None => {
                panic!("no counter: {line}")
            }
        },
        _other => Answer::Refused,
    }
}

/// Judges the history of every record in a text.
pub(crate) fn judge_text(text: &str) -> Result<Summary, Condemned> {
    let mut summary = Summary::default();
    for (record, calls) in read(text) {
        summary.records += 1;
        summary.calls += calls.len();
        for call in &calls {
            match &call.answer {
                None => summary.unknown += usize::from(call.operation != Operation::Get),
                Some((_, Answer::Written { .. })) => summary.written += 1,
                Some((_, Answer::Deleted { version })) => {
                    summary.written += usize::from(*version > 0);
                }
                Some((_, Answer::Mismatch { .. })) => summary.mismatches += 1,
                Some((
                    _,
                    Answer::Found { .. }
                    | Answer::NotFound
                    | Answer::NotACounter
                    | Answer::OutOfBounds { .. }
                    | Answer::Refused,
                )) => {}
            }
        }
        judge(&calls).map_err(|broken| {
            let of_it = |line: &&str| {
                let line: Json = serde_json::from_str(line).unwrap_or_default();
                line["resource"] == *record
            };
            let lines = text.lines().filter(of_it).map(|line| format!("{line}\n")).collect();
            Condemned { record, broken, lines }
        })?;
    }
    Ok(summary)
}

impl std::fmt::Display for Condemned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {}: {}its whole history:\n{}", self.record, self.broken, self.lines)
    }
}
