//! Verbs of scripts about records, protections and transactions.

use singletrack_core::{
    body::{Body, Digest},
    command::{
        Command, Condition, Expectation, IncrementRecord, ListRecords, Operation, Protect,
        PutRecord, RecordLifetime, Transact,
    },
    limits,
    types::{ContentType, Holder, RecordKey, RecordTtl, ResourceName, Revision, Value},
};

use crate::scripts::{Stage, Verb, fence, fences, hash16, span};

impl Stage {
    /// `None`: it is a verb of another noun.
    pub(crate) fn record_command(&self, verb: &Verb<'_>) -> Option<Command> {
        let key = || self::key(verb.plain[0]);
        let count = || usize::try_from(verb.number("count", 100)).unwrap();
        let bytes = limits::VALUES_BYTES_MAX as u64;
        let max_bytes = || usize::try_from(verb.number("bytes", bytes)).unwrap();
        Some(match verb.name {
            "put" => Command::PutRecord(Box::new(PutRecord {
                key: key(),
                value: value(verb.plain[1]),
                content_type: ContentType::parse(verb.keyed.get("type").unwrap_or(&"")).unwrap(),
                expect: verb.keyed.get("expect").map(|text| expectation(text)),
                lifetime: self.record_lifetime(verb),
                written_by: by(verb),
            })),
            "incr" => Command::IncrementRecord(Box::new(IncrementRecord {
                key: key(),
                delta: verb.plain[1].parse().unwrap(),
                min: verb.keyed.get("min").map(|text| text.parse().unwrap()),
                max: verb.keyed.get("max").map(|text| text.parse().unwrap()),
                lifetime: self.record_lifetime(verb),
                written_by: by(verb),
            })),
            "del" => Command::DeleteRecord {
                key: key(),
                expect: verb.keyed.get("expect").map(|text| expectation(text)),
            },
            "protect" => Command::ProtectPrefix(protect(verb)),
            "unprotect" => Command::UnprotectPrefix(protect(verb)),
            "read" => Command::GetRecord(key()),
            "bget" => Command::BatchGetRecords {
                keys: verb.plain.iter().map(|text| self::key(text)).collect(),
                max_bytes: max_bytes(),
            },
            "records" => Command::ListRecords(Box::new(ListRecords {
                prefix: verb.keyed.get("prefix").map(|text| self::key(text)),
                after: verb.keyed.get("after").map(|text| self::key(text)),
                count: count(),
                with_values: !verb.plain.contains(&"keys"),
                max_bytes: max_bytes(),
            })),
            "protections" => Command::ListProtections {
                key: verb.plain.first().map(|text| self::key(text)),
                after: verb.keyed.get("after").map(|text| {
                    let (prefix, resource) = text.split_once(':').unwrap();
                    Box::new((self::key(prefix), ResourceName::parse(resource).unwrap()))
                }),
                count: count(),
            },
            _ => return None,
        })
    }

    /// Lines that begin with `?` are conditions, those that begin with `+` operations.
    pub(crate) fn transaction(&mut self, verb: &Verb<'_>, parts: &[Verb<'_>]) -> Command {
        let mut conditions: Vec<Condition> =
            fences(verb).into_iter().map(Condition::Fence).collect();
        let mut operations = Vec::new();
        for part in parts {
            match part.name {
                "fence" => conditions.push(Condition::Fence(fence(part.plain[0]))),
                "record" => conditions.push(Condition::Record {
                    key: key(part.plain[0]),
                    expect: expectation(part.plain[1]),
                }),
                _ => {
                    let command = self.command(part);
                    operations.push(Operation { fences: fences(part), command });
                }
            }
        }
        let (conditions, operations) = (conditions.into(), operations.into());
        Command::Transact(Box::new(Transact { conditions, operations }))
    }

    fn record_lifetime(&self, verb: &Verb<'_>) -> RecordLifetime {
        if verb.plain.contains(&"keep") {
            return RecordLifetime::Kept;
        }
        match (verb.keyed.get("ttl"), verb.keyed.get("bound")) {
            (Some(ttl), _) => RecordLifetime::Ttl(RecordTtl::parse(span(ttl)).unwrap()),
            (None, Some(lease)) => RecordLifetime::Bound(self.lease(lease)),
            (None, None) => RecordLifetime::Forever,
        }
    }
}

fn key(text: &str) -> RecordKey {
    RecordKey::parse(text).unwrap()
}

/// A number, `data:TEXT`, `TEXT`, or `TEXT*N` for N times that.
fn value(text: &str) -> Value {
    let body = |text: &str| {
        let text = match text.split_once('*') {
            Some((unit, times)) => unit.repeat(times.parse().unwrap()),
            None => text.to_owned(),
        };
        let digest = Digest(hash16(&text));
        Body::new(text.as_bytes(), |_| digest)
    };
    match (text.parse(), text.strip_prefix("data:")) {
        (Ok(number), _) => Value::Counter(number),
        (Err(_), Some(text)) => Value::Data(body(text)),
        (Err(_), None) => Value::Text(body(text)),
    }
}

/// `absent`, `exists` or a version.
fn expectation(text: &str) -> Expectation {
    match text {
        "absent" => Expectation::Absent,
        "exists" => Expectation::Exists,
        version => Expectation::Version(Revision(version.parse().unwrap())),
    }
}

fn protect(verb: &Verb<'_>) -> Box<Protect> {
    Box::new(Protect {
        prefix: key(verb.plain[0]),
        resource: ResourceName::parse(verb.plain[1]).unwrap(),
        as_admin: verb.plain.contains(&"admin"),
    })
}

fn by(verb: &Verb<'_>) -> Option<Holder> {
    verb.keyed.get("by").map(|text| Holder::parse(text).unwrap())
}
