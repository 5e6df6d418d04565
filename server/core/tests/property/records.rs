//! Steps about records, and the requests that they become.

use std::sync::Arc;

use proptest::prelude::*;
use singletrack_core::{
    body::{Body, Digest},
    change::{Change, Protection},
    command::{
        Command, Condition, Expectation, IncrementRecord, LeaseRef, ListRecords, Operation,
        Protect, PutRecord, RecordLifetime, Request, Transact,
    },
    fence::{Fence, FenceTarget},
    limits,
    types::{
        CallId, ContentType, Holder, Mode, Namespace, RecordKey, RecordTtl, ResourceName, Revision,
        Token, Value,
    },
};

use super::{
    pair::{Pair, name, namespace, recent},
    steps::{self, NAMES, Place, Step},
};
use crate::model::claims::{covers, is_below_or_same};

/// Some sort between others in the order of bytes, and are not below them.
const KEYS: [&str; 7] = ["a", "a-b", "a/b", "a/b/c", "a0", "ab", "e"];

/// A write of a record or of a protection.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put {
        key: u8,
        value: WantedValue,
        expect: Wanted,
        life: Life,
        by: Option<u8>,
    },
    Increment {
        key: u8,
        delta: i64,
        min: Option<i64>,
        max: Option<i64>,
        life: Life,
    },
    Delete {
        key: u8,
        expect: Wanted,
    },
    Protect {
        prefix: u8,
        resource: Resource,
        as_admin: bool,
        is_back: bool,
    },
    /// One of many of one prefix.
    ProtectMuch {
        which: u8,
        is_back: bool,
    },
    /// A protection that there is, if any.
    Unprotect {
        which: u8,
        as_admin: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WantedValue {
    Data(usize),
    Text(usize),
    Counter(i64),
}

/// What a record has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Anything,
    Absent,
    Exists,
    /// Of the version that it has.
    Current,
    /// Of a version that some record had.
    Known(u8),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Forever,
    Kept,
    Ttl(u64),
    Bound { lease: u8, wrong_token: bool },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    Named(u8),
    /// One that this lease is for.
    Of(u8),
}

/// Who writes brings this along.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brought {
    /// The tokens that the protections demand, as far as anybody has them.
    pub(super) owns: bool,
    /// The token of some lease.
    pub(super) other: Option<u8>,
}

#[derive(Clone, Debug)]
pub(super) enum WantedCondition {
    Fence { lease: u8, elsewhere: Option<u8> },
    Record { key: u8, expect: Wanted },
}

/// A read.
#[derive(Clone, Debug)]
pub(super) enum Look {
    Get {
        key: u8,
    },
    Batch {
        keys: Vec<u8>,
        max_bytes: usize,
    },
    List {
        prefix: Option<u8>,
        after: Option<u8>,
        count: usize,
        with_values: bool,
        max_bytes: usize,
    },
    Protections {
        key: Option<u8>,
        after: Option<(u8, u8)>,
        count: usize,
    },
}

// === requests ===

impl Pair {
    pub(super) fn write(&mut self, place: &Place, brought: Brought, write: &Write) -> Operation {
        let namespace = namespace(place.namespace);
        let command = self.write_command(&namespace, write);
        let mut fences = self.placed_fence(place);
        let key = match &command {
            Command::PutRecord(it) => Some(&it.key),
            Command::IncrementRecord(it) => Some(&it.key),
            Command::DeleteRecord { key, .. } => Some(key),
            Command::ProtectPrefix(it) | Command::UnprotectPrefix(it) => {
                if brought.owns {
                    fences.extend(self.owner(&namespace, &it.resource));
                }
                None
            }
            other => unreachable!("no write: {other:?}"),
        };
        if let Some(key) = key.filter(|_| brought.owns) {
            let covering = self
                .protections(&namespace)
                .filter(|it| is_below_or_same(key.as_str(), it.prefix.as_str()));
            fences.extend(covering.filter_map(|it| self.owner(&namespace, &it.resource)));
        }
        if let Some(which) = brought.other {
            let known = self.lease(which);
            let target = FenceTarget::Resource(known.resource);
            fences.push(Fence { target, token: known.lease.token });
        }
        fences.truncate(limits::FENCES_MAX);
        Operation { fences: fences.into(), command }
    }

    fn protections<'a>(
        &'a self,
        namespace: &'a Namespace,
    ) -> impl Iterator<Item = &'a Arc<Protection>> {
        self.rows().filter_map(move |row| match row {
            Change::PrefixProtected(it) if it.namespace == *namespace => Some(it),
            _ => None,
        })
    }

    /// The token of whoever holds a resource EXCLUSIVE.
    fn owner(&self, namespace: &Namespace, resource: &ResourceName) -> Option<Fence> {
        let leases = self.rows().filter_map(|row| match row {
            Change::LeaseGranted(it) if it.namespace == *namespace => Some(it),
            _ => None,
        });
        let mut owners = leases.filter(|it| {
            let targets = it.targets();
            let mut claims = targets.as_slice().iter();
            claims.any(|it| it.mode == Mode::Exclusive && covers(it, resource.as_str()))
        });
        let owner = owners.next()?;
        let target = FenceTarget::Resource(owner.resource().clone());
        Some(Fence { target, token: owner.token })
    }

    fn write_command(&self, namespace: &Namespace, write: &Write) -> Command {
        match write {
            Write::Put { key, value, expect, life, by } => {
                let key = self::key(*key);
                Command::PutRecord(Box::new(PutRecord {
                    expect: self.expectation(namespace, &key, *expect),
                    key,
                    value: value.value(),
                    content_type: ContentType::parse(if by.is_some() { "text/x" } else { "" })
                        .unwrap(),
                    lifetime: self.lifetime(*life),
                    written_by: by.map(|by| Holder::parse(&format!("w{by}")).unwrap()),
                }))
            }
            Write::Increment { key, delta, min, max, life } => {
                Command::IncrementRecord(Box::new(IncrementRecord {
                    key: self::key(*key),
                    delta: *delta,
                    min: *min,
                    max: *max,
                    lifetime: self.lifetime(*life),
                    written_by: None,
                }))
            }
            Write::Delete { key, expect } => {
                let key = self::key(*key);
                let expect = self.expectation(namespace, &key, *expect);
                let expect = expect.filter(|it| *it != Expectation::Absent);
                Command::DeleteRecord { key, expect }
            }
            Write::Protect { prefix, resource, as_admin, is_back } => {
                let protect = Box::new(Protect {
                    prefix: key(*prefix),
                    resource: match resource {
                        Resource::Named(which) => name(*which),
                        Resource::Of(lease) => self.lease(*lease).resource,
                    },
                    as_admin: *as_admin,
                });
                if *is_back {
                    Command::UnprotectPrefix(protect)
                } else {
                    Command::ProtectPrefix(protect)
                }
            }
            Write::ProtectMuch { which, is_back } => {
                let protect = Box::new(Protect {
                    prefix: RecordKey::parse("z").unwrap(),
                    resource: ResourceName::parse(&format!("r{which}")).unwrap(),
                    as_admin: true,
                });
                if *is_back {
                    Command::UnprotectPrefix(protect)
                } else {
                    Command::ProtectPrefix(protect)
                }
            }
            Write::Unprotect { which, as_admin } => {
                let all: Vec<_> = self.protections(namespace).collect();
                let known = recent(&all, *which);
                let prefix = known.map_or_else(|| key(0), |it| it.prefix.clone());
                let resource = known.map_or_else(|| name(0), |it| it.resource.clone());
                let as_admin = *as_admin;
                Command::UnprotectPrefix(Box::new(Protect { prefix, resource, as_admin }))
            }
        }
    }

    fn lifetime(&self, life: Life) -> RecordLifetime {
        match life {
            Life::Forever => RecordLifetime::Forever,
            Life::Kept => RecordLifetime::Kept,
            Life::Ttl(ms) => RecordLifetime::Ttl(RecordTtl::parse(ms).unwrap()),
            Life::Bound { lease, wrong_token } => {
                let LeaseRef { lease_id, token } = self.lease(lease).lease;
                let token = Token(token.0 + u64::from(wrong_token));
                RecordLifetime::Bound(LeaseRef { lease_id, token })
            }
        }
    }

    fn expectation(
        &self,
        namespace: &Namespace,
        key: &RecordKey,
        wanted: Wanted,
    ) -> Option<Expectation> {
        let own = self.rows().find_map(|row| match row {
            Change::RecordWritten(it) if it.namespace == *namespace && it.key == *key => {
                Some(it.version)
            }
            _ => None,
        });
        match wanted {
            Wanted::Anything => None,
            Wanted::Absent => Some(Expectation::Absent),
            Wanted::Exists => Some(Expectation::Exists),
            Wanted::Current => Some(own.map_or(Expectation::Absent, Expectation::Version)),
            Wanted::Known(which) => {
                let version = recent(self.known_versions(), which).copied();
                Some(Expectation::Version(version.unwrap_or(Revision((1 << 53) - 2))))
            }
        }
    }

    pub(super) fn transaction(
        &mut self,
        call: CallId,
        at: &Place,
        conditions: &[WantedCondition],
        operations: &[Step],
    ) -> Request {
        let namespace = namespace(at.namespace);
        let mut all: Vec<Condition> =
            self.placed_fence(at).into_iter().map(Condition::Fence).collect();
        for condition in conditions {
            all.push(match condition {
                WantedCondition::Fence { lease, elsewhere } => {
                    let known = self.lease(*lease);
                    let resource = elsewhere.map_or(known.resource, name);
                    let target = FenceTarget::Resource(resource);
                    Condition::Fence(Fence { target, token: known.lease.token })
                }
                WantedCondition::Record { key, expect } => {
                    let key = self::key(*key);
                    let expect = self.expectation(&namespace, &key, *expect);
                    Condition::Record { key, expect: expect.unwrap_or(Expectation::Absent) }
                }
            });
        }
        let operations = operations.iter().map(|step| match step {
            Step::Write { at: own, brought, write } => {
                let own = Place { namespace: at.namespace, ..own.clone() };
                self.write(&own, *brought, write)
            }
            other => {
                let command = self.operation(call, other);
                Operation { fences: self.placed_fence(other.place()).into(), command }
            }
        });
        let transact = Transact { operations: operations.collect(), conditions: all.into() };
        let plain = Place { fence: None, ..at.clone() };
        self.placed(call, &plain, Command::Transact(Box::new(transact)))
    }

    pub(super) fn look(&self, look: &Look) -> Command {
        match look {
            Look::Get { key } => Command::GetRecord(self::key(*key)),
            Look::Batch { keys, max_bytes } => Command::BatchGetRecords {
                keys: keys.iter().map(|it| key(*it)).collect(),
                max_bytes: *max_bytes,
            },
            Look::List { prefix, after, count, with_values, max_bytes } => {
                let prefix = prefix.map(key);
                let is_within = |it: &RecordKey| {
                    prefix
                        .as_ref()
                        .is_none_or(|prefix| is_below_or_same(it.as_str(), prefix.as_str()))
                };
                Command::ListRecords(Box::new(ListRecords {
                    after: after.map(key).filter(is_within),
                    prefix,
                    count: *count,
                    with_values: *with_values,
                    max_bytes: *max_bytes,
                }))
            }
            Look::Protections { key, after, count } => Command::ListProtections {
                key: key.map(self::key),
                after: after
                    .map(|(prefix, resource)| Box::new((self::key(prefix), name(resource)))),
                count: *count,
            },
        }
    }
}

impl WantedValue {
    fn value(self) -> Value {
        let body = |bytes: usize| {
            let digest = Digest([u8::try_from(bytes % 251).unwrap(); 16]);
            Body::new(&vec![b'x'; bytes], |_| digest)
        };
        match self {
            Self::Data(bytes) => Value::Data(body(bytes)),
            Self::Text(bytes) => Value::Text(body(bytes)),
            Self::Counter(number) => Value::Counter(number),
        }
    }
}

pub(super) fn key(which: u8) -> RecordKey {
    RecordKey::parse(KEYS[usize::from(which) % KEYS.len()]).unwrap()
}

// === how they are drawn ===

fn any_key() -> impl Strategy<Value = u8> {
    0..u8::try_from(KEYS.len()).unwrap()
}

fn any_name() -> impl Strategy<Value = u8> {
    0..u8::try_from(NAMES.len()).unwrap()
}

fn value() -> impl Strategy<Value = WantedValue> {
    // Beyond 4 KiB they are stored.
    let bytes = || prop_oneof![6 => 0..9_usize, 2 => 1_000..1_050_usize, 2 => 4_090..4_110_usize];
    prop_oneof![
        2 => bytes().prop_map(WantedValue::Data),
        2 => bytes().prop_map(WantedValue::Text),
        3 => (-3..4_i64).prop_map(WantedValue::Counter),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(WantedValue::Counter),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        9 => Just(Wanted::Anything),
        1 => Just(Wanted::Absent),
        1 => Just(Wanted::Exists),
        4 => Just(Wanted::Current),
        1 => any::<u8>().prop_map(Wanted::Known),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        3 => Just(Life::Forever),
        2 => Just(Life::Kept),
        3 => (1_000..9_000_u64).prop_map(Life::Ttl),
        4 => (any::<u8>(), prop::bool::weighted(0.05))
            .prop_map(|(lease, wrong_token)| Life::Bound { lease, wrong_token }),
    ]
}

fn brought() -> impl Strategy<Value = Brought> {
    (prop::bool::weighted(0.6), prop_oneof![12 => Just(None), 1 => any::<u8>().prop_map(Some)])
        .prop_map(|(owns, other)| Brought { owns, other })
}

fn write() -> impl Strategy<Value = Step> {
    let bound = || prop::option::of(-3..4_i64);
    let delta = prop_oneof![
        8 => (1..3_i64, any::<bool>()).prop_map(|(by, down)| if down { -by } else { by }),
        1 => Just(i64::MAX),
        1 => Just(i64::MIN),
    ];
    let resource = prop_oneof![
        1 => any_name().prop_map(Resource::Named),
        3 => any::<u8>().prop_map(Resource::Of),
    ];
    let by = prop::option::of(0..3_u8);
    let write = prop_oneof![
        8 => (any_key(), value(), wanted(), life(), by).prop_map(|(key, value, expect, life, by)| {
            Write::Put { key, value, expect, life, by }
        }),
        5 => (any_key(), delta, bound(), bound(), life()).prop_map(|(key, delta, min, max, life)| {
            Write::Increment { key, delta, min, max, life }
        }),
        3 => (any_key(), wanted()).prop_map(|(key, expect)| Write::Delete { key, expect }),
        2 => (any_key(), resource, prop::bool::weighted(0.3), prop::bool::weighted(0.1)).prop_map(
            |(prefix, resource, as_admin, is_back)| {
                Write::Protect { prefix, resource, as_admin, is_back }
            },
        ),
        2 => (any::<u8>(), prop::bool::weighted(0.3))
            .prop_map(|(which, as_admin)| Write::Unprotect { which, as_admin }),
        2 => (0..10_u8, prop::bool::weighted(0.2))
            .prop_map(|(which, is_back)| Write::ProtectMuch { which, is_back }),
    ];
    (steps::place(), brought(), write).prop_map(|(at, brought, write)| Step::Write {
        at,
        brought,
        write,
    })
}

fn condition() -> impl Strategy<Value = WantedCondition> {
    prop_oneof![
        2 => (any::<u8>(), prop_oneof![5 => Just(None), 1 => any_name().prop_map(Some)])
            .prop_map(|(lease, elsewhere)| WantedCondition::Fence { lease, elsewhere }),
        3 => (any_key(), wanted()).prop_map(|(key, expect)| {
            WantedCondition::Record { key, expect }
        }),
    ]
}

fn transact() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![
        12 => write(),
        2 => steps::plain_acquire(),
        3 => steps::release(),
        1 => steps::force(),
        1 => steps::transfer(),
    ];
    let conditions = prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(condition(), 1..4),
    ];
    (steps::place(), conditions, prop::collection::vec(operation, 1..7))
        .prop_map(|(at, conditions, operations)| Step::Transact { at, conditions, operations })
}

/// Several protections of one prefix at once, or one given anew and others behind it.
fn protect_much() -> impl Strategy<Value = Step> {
    let all = prop_oneof![
        1 => (5..9_u8).prop_map(|count| (0..count).map(|which| (which, false)).collect()),
        1 => (0..8_u8, 0..10_u8).prop_map(|(which, other)| {
            vec![(which, true), (which, false), (other, false)]
        }),
    ];
    (steps::place(), all).prop_map(|(at, all): (Place, Vec<(u8, bool)>)| {
        let operations = all.into_iter().map(|(which, is_back)| Step::Write {
            at: Place { fence: None, ..at.clone() },
            brought: Brought { owns: false, other: None },
            write: Write::ProtectMuch { which, is_back },
        });
        Step::Transact { operations: operations.collect(), conditions: Vec::new(), at }
    })
}

fn look() -> impl Strategy<Value = Look> {
    let max_bytes =
        || prop_oneof![Just(1), Just(1_030), Just(5_000), Just(limits::VALUES_BYTES_MAX)];
    let list = (
        prop::option::of(any_key()),
        prop::option::of(any_key()),
        1..6_usize,
        prop::bool::weighted(0.8),
        max_bytes(),
    );
    let after = prop::option::of((any_key(), any_name()));
    prop_oneof![
        1 => any_key().prop_map(|key| Look::Get { key }),
        1 => (prop::collection::vec(any_key(), 1..6), max_bytes())
            .prop_map(|(keys, max_bytes)| Look::Batch { keys, max_bytes }),
        2 => list.prop_map(|(prefix, after, count, with_values, max_bytes)| {
            Look::List { prefix, after, count, with_values, max_bytes }
        }),
        1 => (prop::option::of(any_key()), after, 1..4_usize)
            .prop_map(|(key, after, count)| Look::Protections { key, after, count }),
    ]
}

/// Of a history of records, and of the leases and sessions that they depend on.
pub(super) fn record_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => write(),
        14 => transact(),
        3 => protect_much(),
        5 => look().prop_map(Step::Look),
        8 => any::<u8>().prop_map(|which| Step::Repeat { which }),
        14 => steps::plain_acquire(),
        1 => any::<u8>().prop_map(|which| Step::Abandon { which }),
        3 => prop::collection::vec(any::<u8>(), 1..4).prop_map(|leases| Step::Renew { leases }),
        4 => steps::release(),
        1 => steps::force(),
        2 => steps::transfer(),
        5 => steps::session(),
        9 => prop_oneof![8 => 1..1_500_u64, 3 => 1..9_000_u64, 1 => 1..70_000_u64]
            .prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Stall),
        2 => Just(Step::Restart),
    ]
}
