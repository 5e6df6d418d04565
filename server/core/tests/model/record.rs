//! Records: decision 8, word for word, over a plain list. What a version is, the machine says;
//! that it is a new one, the test demands.

use std::collections::VecDeque;

use singletrack_core::{
    command::{LeaseRef, ListRecords},
    types::{LeaseId, RecordKey, Target, Token, Value},
};

use super::{
    Effect, Met, Model, Told,
    claims::is_below_or_same,
    told::{Mismatch, Number, Shown},
};

/// A record that is there.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(super) namespace: String,
    pub(super) key: String,
    value: Value,
    content_type: String,
    version: u64,
    created: u64,
    by: String,
    pub(super) until: Until,
}

/// How long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Deleted,
    /// On durable time.
    Moment(u64),
    Ended(LeaseId, Token),
}

/// A lifetime that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lasting {
    Endless,
    Ttl(u64),
    Bound(LeaseRef),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Any,
    Absent,
    Exists,
    Version(u64),
}

/// A write, in the model's words.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) expect: Expect,
    pub(super) what: What,
    pub(super) by: String,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Put { value: Value, content_type: String, lasting: Lasting, keep: bool },
    Increment { delta: i64, min: Option<i64>, max: Option<i64>, lasting: Lasting },
    Delete,
}

/// What became of a mutation that was not refused.
pub(super) enum Done {
    /// It had this effect.
    Now(Effect),
    /// There was nothing to do, and this is told by itself.
    Before(Told),
}

/// The versions that the machine gave in this step: namespace, key, version.
pub(crate) type Versions = VecDeque<(String, String, u64)>;

impl Model {
    /// Carries out a write over this state, with the claims that its fences stand for.
    pub(super) fn write(
        &mut self,
        namespace: &str,
        write: &Write,
        carried: &[Target],
    ) -> Result<Done, Told> {
        if let Some(told) = self.unprotected(namespace, &write.key, carried) {
            return Err(told);
        }
        self.expected(namespace, &write.key, write.expect)?;
        let old = self.record(namespace, &write.key).cloned();
        let (value, content_type, until) = match &write.what {
            What::Put { value, content_type, lasting, keep } => {
                let until = match &old {
                    Some(old) if *keep => old.until,
                    Some(_) | None => self.lasts(namespace, *lasting)?,
                };
                if *keep && old.is_some() {
                    self.met.push(Met::LifetimeKept);
                }
                (value.clone(), content_type.clone(), until)
            }
            What::Increment { delta, min, max, lasting } => {
                let value = count(&write.key, old.as_ref(), *delta, *min, *max)?;
                match &old {
                    Some(old) => {
                        self.met.push(Met::Counted);
                        (value, old.content_type.clone(), old.until)
                    }
                    None => (value, String::new(), self.lasts(namespace, *lasting)?),
                }
            }
            What::Delete => return Ok(self.delete(namespace, old)),
        };
        let version = self.next_version(namespace, &write.key);
        let created = old.as_ref().map_or(version, |old| old.created);
        self.note_write(namespace, write, old.as_ref(), until);
        self.remove_record(namespace, &write.key);
        let counted = match (&write.what, &value) {
            (What::Increment { .. }, Value::Counter(number)) => Some(*number),
            (_, _) => None,
        };
        self.records.push(Record {
            namespace: namespace.into(),
            key: write.key.clone(),
            value,
            content_type,
            version,
            created,
            by: write.by.clone(),
            until,
        });
        Ok(Done::Now(match counted {
            Some(value) => Effect::Incremented { value, version, created },
            None => Effect::Put { version, created },
        }))
    }

    fn delete(&mut self, namespace: &str, old: Option<Record>) -> Done {
        let Some(old) = old else {
            return Done::Before(Told::Deleted { existed: false, version: 0, replayed: false });
        };
        self.remove_record(namespace, &old.key);
        self.gone.push((namespace.into(), old.key));
        Done::Now(Effect::Deleted { version: old.version })
    }

    /// A record is as a write, or a condition, expects.
    pub(super) fn expected(
        &mut self,
        namespace: &str,
        key: &str,
        expect: Expect,
    ) -> Result<(), Told> {
        let record = self.record(namespace, key);
        let is_so = match (expect, record) {
            (Expect::Any, _) | (Expect::Absent, None) | (Expect::Exists, Some(_)) => true,
            (Expect::Version(version), Some(record)) => record.version == version,
            (Expect::Absent | Expect::Exists | Expect::Version(_), _) => false,
        };
        if is_so {
            return Ok(());
        }
        let told = self.not_as_expected(namespace, key);
        self.met.push(match (expect, record) {
            (Expect::Absent, _) => Met::NotAbsent,
            (_, None) => Met::NotThere,
            (_, Some(_)) => Met::OtherVersion,
        });
        Err(told)
    }

    /// What the record is instead.
    pub(super) fn not_as_expected(&self, namespace: &str, key: &str) -> Told {
        let record = self.record(namespace, key);
        Told::VersionMismatch(Box::new(Mismatch {
            key: key.into(),
            version: Number(record.map_or(0, |it| it.version)),
            value: record.map(|it| it.value.clone()),
            by: record.map_or_else(String::new, |it| it.by.clone()),
        }))
    }

    /// Until when a record lasts that asks for this, from now on.
    fn lasts(&self, namespace: &str, lasting: Lasting) -> Result<Until, Told> {
        match lasting {
            Lasting::Endless => Ok(Until::Deleted),
            Lasting::Ttl(ms) => Ok(Until::Moment(self.durable() + ms)),
            Lasting::Bound(lease) => {
                let token = self.known_by_id(namespace, lease)?;
                Ok(Until::Ended(lease.lease_id, token))
            }
        }
    }

    /// What was bound to a lease goes with it.
    pub(super) fn end_bound(&mut self, lease: LeaseId) {
        let is_bound = |it: &Record| matches!(it.until, Until::Ended(id, _) if id == lease);
        if self.records.iter().any(is_bound) {
            self.met.push(Met::BoundEnded);
        }
        let gone = self.records.iter().filter(|it| is_bound(it));
        self.gone.extend(gone.map(|it| (it.namespace.clone(), it.key.clone())));
        self.records.retain(|it| !is_bound(it));
    }

    /// What has lasted long enough is deleted.
    pub(super) fn end_records(&mut self) {
        let durable = self.durable();
        let is_over = |it: &Record| matches!(it.until, Until::Moment(at) if at <= durable);
        if self.records.iter().any(is_over) {
            self.met.push(Met::TtlEnded);
        }
        let gone = self.records.iter().filter(|it| is_over(it));
        self.gone.extend(gone.map(|it| (it.namespace.clone(), it.key.clone())));
        self.records.retain(|it| !is_over(it));
    }

    /// Moments of durable time at which a record goes by itself.
    pub(super) fn record_ends(&self) -> impl Iterator<Item = u64> {
        self.records.iter().filter_map(|it| match it.until {
            Until::Moment(at) => Some(at),
            Until::Deleted | Until::Ended(..) => None,
        })
    }

    fn record(&self, namespace: &str, key: &str) -> Option<&Record> {
        self.records.iter().find(|it| it.namespace == namespace && it.key == key)
    }

    fn remove_record(&mut self, namespace: &str, key: &str) {
        self.records.retain(|it| it.namespace != namespace || it.key != key);
    }

    /// The version that the machine gave this write, if it gave one.
    pub(super) fn next_version(&mut self, namespace: &str, key: &str) -> u64 {
        let at = self.versions.iter().position(|it| it.0 == namespace && it.1 == key);
        at.and_then(|at| self.versions.remove(at)).map_or(Number::UNKNOWN.0, |it| it.2)
    }

    fn note_write(&mut self, namespace: &str, write: &Write, old: Option<&Record>, until: Until) {
        if old.is_some() {
            self.met.push(Met::Overwritten);
        }
        let was = |it: &&(String, String)| it.0 == namespace && it.1 == write.key;
        if old.is_none() && self.gone.iter().any(|it| was(&it)) {
            self.met.push(Met::CreatedAnew);
        }
        match until {
            Until::Deleted => {}
            Until::Moment(_) => self.met.push(Met::WrittenWithTtl),
            Until::Ended(..) => self.met.push(Met::WrittenBound),
        }
        if write.expect != Expect::Any {
            self.met.push(Met::ExpectationHeld);
        }
    }

    // === reads ===

    pub(super) fn get_record(&self, namespace: &str, key: &str) -> Told {
        match self.record(namespace, key) {
            Some(record) => Told::Record(Box::new(self.show_record(record))),
            None => Told::NotFound,
        }
    }

    /// The first value always fits, and what no longer does is left out.
    pub(super) fn get_records(
        &mut self,
        namespace: &str,
        keys: &[RecordKey],
        max_bytes: usize,
    ) -> Told {
        let mut left = max_bytes;
        let mut is_first = true;
        let mut results = Vec::new();
        for key in keys {
            let Some(record) = self.record(namespace, key.as_str()) else {
                results.push(None);
                continue;
            };
            let mut shown = self.show_record(record);
            let bytes = record.value.len();
            if bytes <= left || is_first {
                left = left.saturating_sub(bytes);
                is_first = false;
            } else {
                shown.value = None;
                shown.is_omitted = true;
                self.met.push(Met::ValueOmitted);
            }
            results.push(Some(shown));
        }
        Told::Records(results)
    }

    /// A page always has one record, and ends before the one that would be too much.
    pub(super) fn list_records(&mut self, namespace: &str, list: &ListRecords) -> Told {
        let prefix = list.prefix.as_ref().map(|it| it.as_str());
        let mut all = self.records_in(namespace, prefix);
        all.retain(|it| list.after.as_ref().is_none_or(|after| it.key.as_str() > after.as_str()));
        let mut left = list.max_bytes;
        let mut page: Vec<Shown> = Vec::new();
        let mut is_full = false;
        for record in &all {
            let bytes = if list.with_values { record.value.len() } else { 0 };
            is_full = bytes > left && !page.is_empty();
            if page.len() == list.count || is_full {
                break;
            }
            left = left.saturating_sub(bytes);
            let mut shown = self.show_record(record);
            if !list.with_values {
                shown.value = None;
            }
            page.push(shown);
        }
        let is_last = page.len() == all.len();
        if is_full {
            self.met.push(Met::PageFull);
        }
        Told::RecordPage { records: page, is_last }
    }

    /// All of a namespace, in the order of the bytes of their keys.
    fn records_in(&self, namespace: &str, prefix: Option<&str>) -> Vec<&Record> {
        let mut all: Vec<&Record> = self
            .records
            .iter()
            .filter(|it| it.namespace == namespace)
            .filter(|it| prefix.is_none_or(|prefix| is_below_or_same(&it.key, prefix)))
            .collect();
        all.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        all
    }

    /// Everything of a namespace, as it is shown.
    pub(crate) fn all_records(&self, namespace: &str) -> Vec<Shown> {
        self.records_in(namespace, None).into_iter().map(|it| self.show_record(it)).collect()
    }

    fn show_record(&self, record: &Record) -> Shown {
        Shown {
            key: record.key.clone(),
            value: Some(record.value.clone()),
            is_omitted: false,
            content_type: record.content_type.clone(),
            version: record.version,
            created: record.created,
            by: record.by.clone(),
            remaining_ms: match record.until {
                Until::Moment(at) => Some(at - self.durable()),
                Until::Deleted | Until::Ended(..) => None,
            },
            bound: match record.until {
                Until::Ended(_, token) => Some(token),
                Until::Deleted | Until::Moment(_) => None,
            },
        }
    }
}

/// What a counter becomes.
fn count(
    key: &str,
    old: Option<&Record>,
    delta: i64,
    min: Option<i64>,
    max: Option<i64>,
) -> Result<Value, Told> {
    let value = match old.map(|it| &it.value) {
        None => 0,
        Some(Value::Counter(value)) => *value,
        Some(Value::Data(_) | Value::Text(_)) => return Err(Told::NotACounter),
    };
    let sum = value.checked_add(delta);
    let is_within = |it: &i64| min.is_none_or(|min| *it >= min) && max.is_none_or(|max| *it <= max);
    match sum.filter(is_within) {
        Some(sum) => Ok(Value::Counter(sum)),
        None => Err(Told::OutOfBounds { key: key.into(), value, min, max }),
    }
}
