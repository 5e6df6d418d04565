//! One record, as decision 8 has it: what a call to it does, and what it can be answered.
//!
//! Knows no lifetimes, protections and fences: a record under test has none. A write without an
//! answer gets a version that nobody knows until somebody reads it.

use std::fmt;

use super::{Call, Fault, Model, check};

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Counter(i64),
    Text(String),
    /// Bytes, as hex digits.
    Data(String),
    /// Text or data that is too long to write down. Whoever shortens a value always does it so.
    Digest(String),
}

/// What a write expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Any,
    Absent,
    Exists,
    Version(u64),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Put { value: Value, expect: Expect },
    Increment { delta: i64, min: Option<i64>, max: Option<i64> },
    Delete { expect: Expect },
}

/// What it is answered. What a history leaves out isn't judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a read.
    Found { value: Option<Value>, version: u64, created: Option<u64> },
    /// To a read: there is none.
    NotFound,
    /// To a write; with what a counter has become.
    Written { version: u64, created: Option<u64>, value: Option<Value> },
    /// To a delete; 0: there was none.
    Deleted { version: u64 },
    /// It is not as expected: its version, 0 for none, and what it holds, if that was told.
    Mismatch { version: u64, value: Option<Value> },
    /// It is no counter.
    NotACounter,
    /// The counter, which is so much, would cross a bound.
    OutOfBounds { value: i64 },
    /// A refusal that says nothing of the record.
    Refused,
}

/// What there may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// No version up to this one comes again.
    floor: u64,
    record: Option<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    value: Value,
    /// Absent: above the floor, and nobody has seen it.
    version: Option<u64>,
    created: Created,
}

/// The version of the write that made the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Created {
    Known(u64),
    /// That is the last one.
    Last,
    /// Above this one and below that one, and below the last.
    Between(u64, u64),
}

/// A record under test.
pub(crate) struct Record;

/// A call to a record.
pub(crate) type RecordCall = Call<Operation, Answer>;

/// A broken promise: a history that can't be.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    fault: Fault<State>,
    /// The shortest beginning that is so: all calls that were sent before the answer that nothing
    /// explains, with what they were answered, then or later.
    pub(crate) prefix: Vec<RecordCall>,
}

/// Judges the history of one record, which was absent before.
pub(crate) fn judge(calls: &[RecordCall]) -> Result<(), Box<Broken>> {
    check::<Record>(calls).map_err(|fault| {
        let (Fault::Unexplained { call, .. } | Fault::Undecided { call }) = fault;
        let end = calls[call].answer.as_ref().map_or(u64::MAX, |(at, _)| *at);
        let mut prefix: Vec<_> = calls.iter().filter(|call| call.sent <= end).cloned().collect();
        prefix.sort_by_key(|call| call.sent);
        Box::new(Broken { fault, prefix })
    })
}

// === impl Record ===

impl Model for Record {
    type State = State;
    type Operation = Operation;
    type Answer = Answer;

    fn start() -> State {
        State { floor: 0, record: None }
    }

    fn step(state: &State, operation: &Operation, answer: Option<&Answer>) -> Vec<State> {
        match (answer, operation) {
            (Some(Answer::Refused), _) => vec![state.clone()],
            (_, Operation::Get) => state.get(answer).into_iter().collect(),
            (_, Operation::Put { value, expect }) => state.put(value, *expect, answer),
            (_, Operation::Increment { delta, min, max }) => {
                state.increment(*delta, (*min, *max), answer).into_iter().collect()
            }
            (_, Operation::Delete { expect }) => state.delete(*expect, answer),
        }
    }
}

// === impl State ===

impl State {
    fn get(&self, answer: Option<&Answer>) -> Option<Self> {
        let Some(answer) = answer else { return Some(self.clone()) };
        if let Answer::Found { value, version, created } = answer {
            return self.holds(value.as_ref()).then(|| self.seen(*version, *created))?;
        }
        self.absent().filter(|_| *answer == Answer::NotFound)
    }

    fn put(&self, value: &Value, expect: Expect, answer: Option<&Answer>) -> Vec<Self> {
        let written = self.met(expect).and_then(|met| {
            let Some(answer) = answer else { return met.written(value, None) };
            let Answer::Written { version, created, .. } = answer else { return None };
            met.written(value, Some((*version, *created)))
        });
        written.into_iter().chain(self.mismatched(expect, answer)).collect()
    }

    fn delete(&self, expect: Expect, answer: Option<&Answer>) -> Vec<Self> {
        let deleted = self.met(expect).and_then(|met| {
            let Some(answer) = answer else { return Some(met.gone()) };
            let Answer::Deleted { version } = answer else { return None };
            if met.record.is_none() {
                (*version == 0).then_some(met)
            } else {
                met.seen(*version, None).map(Self::gone)
            }
        });
        deleted.into_iter().chain(self.mismatched(expect, answer)).collect()
    }

    fn increment(
        &self,
        delta: i64,
        (min, max): (Option<i64>, Option<i64>),
        answer: Option<&Answer>,
    ) -> Option<Self> {
        let is = match self.record.as_ref().map(|record| &record.value) {
            None => 0,
            Some(Value::Counter(value)) => *value,
            Some(Value::Text(_) | Value::Data(_) | Value::Digest(_)) => {
                let may_be = matches!(answer, None | Some(Answer::NotACounter));
                return may_be.then(|| self.clone());
            }
        };
        let within = |value: &i64| {
            min.is_none_or(|min| *value >= min) && max.is_none_or(|max| *value <= max)
        };
        let Some(becomes) = is.checked_add(delta).filter(within) else {
            let may_be = answer.is_none_or(|answer| *answer == Answer::OutOfBounds { value: is });
            return may_be.then(|| self.clone());
        };
        let becomes = Value::Counter(becomes);
        let Some(answer) = answer else { return self.written(&becomes, None) };
        let Answer::Written { version, created, value } = answer else { return None };
        let fits = value.as_ref().is_none_or(|told| *told == becomes);
        fits.then(|| self.written(&becomes, Some((*version, *created))))?
    }

    /// With what is known if it is as expected; absent: it isn't.
    fn met(&self, expect: Expect) -> Option<Self> {
        match expect {
            Expect::Any => Some(self.clone()),
            Expect::Absent => self.absent(),
            Expect::Exists => self.record.is_some().then(|| self.clone()),
            Expect::Version(version) => self.seen(version, None),
        }
    }

    /// With what is known if it is not as expected, and that is answered; absent: it can't be.
    fn mismatched(&self, expect: Expect, answer: Option<&Answer>) -> Option<Self> {
        let known = match answer {
            None => self.clone(),
            Some(answer) => {
                let Answer::Mismatch { version, value } = answer else { return None };
                let holds = *version == 0 || self.holds(value.as_ref());
                let known = if *version == 0 { self.absent() } else { self.seen(*version, None) };
                known.filter(|_| holds)?
            }
        };
        let version = known.record.as_ref().map(|record| record.version);
        let may_differ = match expect {
            Expect::Any => false,
            Expect::Absent => version.is_some(),
            Expect::Exists => version.is_none(),
            // A version that nobody has seen may be another one.
            Expect::Version(expected) => version != Some(Some(expected)),
        };
        may_differ.then_some(known)
    }

    fn absent(&self) -> Option<Self> {
        self.record.is_none().then(|| self.clone())
    }

    /// It holds this, or whatever if that isn't said.
    fn holds(&self, value: Option<&Value>) -> bool {
        let same = |record: &Held| value.is_none_or(|value| record.value == *value);
        self.record.as_ref().is_some_and(same)
    }

    /// With what is known if the record has this version, and was created with that one; absent:
    /// it can't have.
    fn seen(&self, version: u64, created: Option<u64>) -> Option<Self> {
        let record = self.record.as_ref()?;
        let fits = match record.version {
            Some(known) => known == version,
            None => version > self.floor,
        };
        let made = match (record.created, created) {
            (Created::Known(known), None) => Created::Known(known),
            (Created::Between(above, below), None) => {
                let below = below.min(version);
                (above + 1 < below).then_some(Created::Between(above, below))?
            }
            (Created::Last, None) => Created::Known(version),
            (known, Some(created)) => {
                let fits = match known {
                    Created::Known(known) => known == created,
                    Created::Last => version == created,
                    Created::Between(above, below) => {
                        (above + 1..below.min(version)).contains(&created)
                    }
                };
                fits.then_some(Created::Known(created))?
            }
        };
        let record = Held { version: Some(version), created: made, ..record.clone() };
        fits.then_some(Self { floor: version, record: Some(record) })
    }

    /// After a write, with its version and that of the creation where they are known; absent: they
    /// can't be these.
    fn written(&self, value: &Value, told: Option<(u64, Option<u64>)>) -> Option<Self> {
        let made = match self.record.as_ref() {
            None => Created::Last,
            Some(Held { created: Created::Last, version, .. }) => {
                version.map_or(Created::Between(self.floor, u64::MAX), Created::Known)
            }
            Some(Held { created, .. }) => *created,
        };
        // As if nobody had seen the version, and then somebody does.
        let record = Held { value: value.clone(), version: None, created: made };
        let unseen = Self { floor: self.floor, record: Some(record) };
        match told {
            None => Some(unseen),
            Some((version, created)) => unseen.seen(version, created),
        }
    }

    fn gone(self) -> Self {
        Self { record: None, ..self }
    }
}

// === what a failure says ===

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        match &self.fault {
            Fault::Unexplained { before, .. } => {
                writeln!(f, "not linearizable: the last answer can't be; before it there was")?;
                for state in before {
                    writeln!(f, "  {state:?}")?;
                }
            }
            Fault::Undecided { .. } => {
                writeln!(f, "not decided: too many orders are possible at the last answer")?;
            }
        }
        writeln!(f, "the shortest beginning that is so (sent, answered, call, answer):")?;
        let hidden = self.prefix.len().saturating_sub(SHOWN);
        if hidden > 0 {
            writeln!(f, "  ... {hidden} earlier calls")?;
        }
        for Call { operation, sent, answer } in self.prefix.iter().skip(hidden) {
            match answer {
                Some((at, answer)) => writeln!(f, "  {sent:>9} {at:>9} {operation:?}: {answer:?}")?,
                None => writeln!(f, "  {sent:>9}         - {operation:?}: not known")?,
            }
        }
        Ok(())
    }
}
