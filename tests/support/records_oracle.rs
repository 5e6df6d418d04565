//! The part of the oracle that knows the promises of records and transactions: each write once,
//! nothing acknowledged lost, sums exact, transactions whole.
//!
//! Counters are judged by their whole history: by version, each value is the one before it plus
//! what was added, so an addition that was lost, done twice, or never asked for shows.

use std::collections::BTreeMap;

/// What a client was told of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordEvent {
    /// An increment, by itself or in a transaction, was acknowledged.
    Added { call: String, key: String, delta: i64, value: i64, version: u64, replayed: bool },
    /// A value was written to a record that nobody else writes.
    Put { call: String, key: String, value: String, version: u64, replayed: bool },
    /// That record was deleted; `None`: there was none.
    Deleted { call: String, key: String, version: Option<u64>, replayed: bool },
    /// That record was read, with nothing of it under way: its value and version.
    Got { key: String, found: Option<(String, u64)> },
    /// Accounts between which amounts are moved were read at one moment: what they sum up to.
    Summed { total: i64 },
    /// A counter at the end, when every call has its answer; `None`: there is none.
    Counter { key: String, found: Option<(i64, u64)> },
}

/// Which promise was broken, and what that is about.
pub(crate) type Fault = (&'static str, Vec<String>);

/// Everything known of records so far.
#[derive(Default)]
pub(crate) struct RecordJudge {
    /// What each call came to on each key.
    calls: BTreeMap<(String, String), Effect>,
    /// Which call took a version.
    versions: BTreeMap<u64, String>,
    counters: BTreeMap<String, BTreeMap<u64, Addition>>,
    owned: BTreeMap<String, Owned>,
    pub(crate) writes: usize,
    /// Writes that were first told to a repeated call, as the first answer was lost.
    pub(crate) recovered: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Added { value: i64, version: u64 },
    Put { version: u64 },
    Deleted { version: Option<u64> },
}

struct Addition {
    delta: i64,
    value: i64,
}

#[derive(Default)]
struct Owned {
    now: Option<(String, u64)>,
    highest: u64,
}

// === impl RecordJudge ===

impl RecordJudge {
    pub(crate) fn take(&mut self, event: &RecordEvent) -> Result<(), Fault> {
        match event {
            RecordEvent::Added { call, key, delta, value, version, replayed } => {
                let effect = Effect::Added { value: *value, version: *version };
                if !self.is_first(call, key, effect, *replayed)? {
                    return Ok(());
                }
                self.take_version(*version, call)?;
                let addition = Addition { delta: *delta, value: *value };
                self.counters.entry(key.clone()).or_default().insert(*version, addition);
                Ok(())
            }
            RecordEvent::Put { call, key, value, version, replayed } => {
                if !self.is_first(call, key, Effect::Put { version: *version }, *replayed)? {
                    return Ok(());
                }
                self.take_version(*version, call)?;
                let owned = self.owned.entry(key.clone()).or_default();
                let rises = *version > owned.highest;
                owned.highest = *version;
                owned.now = Some((value.clone(), *version));
                require(rises, "versions of a record rise, over deletes too", &[key, call])
            }
            RecordEvent::Deleted { call, key, version, replayed } => {
                if !self.is_first(call, key, Effect::Deleted { version: *version }, *replayed)? {
                    return Ok(());
                }
                let owned = self.owned.entry(key.clone()).or_default();
                let was = owned.now.take().map(|(_, version)| version);
                require(was == *version, "what is deleted is what was written last", &[key, call])
            }
            RecordEvent::Got { key, found } => {
                let now = self.owned.get(key).and_then(|owned| owned.now.as_ref());
                require(now == found.as_ref(), "a read finds what was written last", &[key])
            }
            RecordEvent::Summed { total } => {
                require(*total == 0, "nobody sees half of a transaction", &[&total.to_string()])
            }
            RecordEvent::Counter { key, found } => self.add_up(key, *found),
        }
    }

    /// False: it was told before, and now again as it must be.
    fn is_first(
        &mut self,
        call: &str,
        key: &str,
        effect: Effect,
        replayed: bool,
    ) -> Result<bool, Fault> {
        let of = (call.to_owned(), key.to_owned());
        if let Some(earlier) = self.calls.get(&of) {
            require(*earlier == effect, "a repeated write has one effect", &[call, key])?;
            let is_none = effect == Effect::Deleted { version: None };
            require(replayed || is_none, "a repeated write says that it was replayed", &[call])?;
            return Ok(false);
        }
        self.calls.insert(of, effect);
        self.writes += 1;
        self.recovered += usize::from(replayed);
        Ok(true)
    }

    fn take_version(&mut self, version: u64, call: &str) -> Result<(), Fault> {
        match self.versions.insert(version, call.to_owned()) {
            None => Ok(()),
            Some(other) => require(false, "a version is used once", &[call, &other]),
        }
    }

    /// Each value follows from the one before it, and the last one is there.
    fn add_up(&mut self, key: &str, found: Option<(i64, u64)>) -> Result<(), Fault> {
        let (mut sum, mut last) = (0, None);
        for (version, Addition { delta, value }) in self.counters.entry(key.to_owned()).or_default()
        {
            sum += *delta;
            let promise = "each acknowledged addition is in the counter once, and no other is";
            require(*value == sum, promise, &[key, &version.to_string()])?;
            last = Some((sum, *version));
        }
        require(found == last, "a counter is the sum of what was added", &[key])
    }
}

fn require(kept: bool, promise: &'static str, about: &[&str]) -> Result<(), Fault> {
    if kept {
        return Ok(());
    }
    Err((promise, about.iter().map(|&name| name.to_owned()).collect()))
}

impl RecordEvent {
    /// It has to do with this call, key or version.
    pub(crate) fn concerns(&self, name: &str) -> bool {
        let is = |text: &str| text == name;
        match self {
            Self::Added { call, key, version, .. } => {
                is(call) || is(key) || is(&version.to_string())
            }
            Self::Put { call, key, .. } | Self::Deleted { call, key, .. } => is(call) || is(key),
            Self::Got { key, .. } | Self::Counter { key, .. } => is(key),
            Self::Summed { total } => is(&total.to_string()),
        }
    }
}
