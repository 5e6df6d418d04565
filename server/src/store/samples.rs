//! Entries for the tests of the store: small ones by hand, and any by proptest.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{collection, option, prelude::*};
use singletrack_core::{
    body::{Body, Digest},
    change::{
        Change, Effect, LeaseClosed, LeaseEnded, LeaseGranted, NewLease, Protection, RecordDeleted,
        RecordLife, RecordPut, RecordWritten, RequestOf, RequestRemembered, RowKey, SessionEnded,
        SessionOpened, Transaction,
    },
    command::Terms,
    limits::BODY_INLINE_MAX,
    refusal::{LeaseEnd, SessionEnd},
    types::{
        Actor, CommandHash, ContentType, DurableMs, Holder, Labels, LeaseId, LockDelay, MaxHold,
        Mode, Namespace, Permits, Reach, RecordKey, RecordTtl, RequestHash, RequestMark,
        ResourceName, Revision, SessionId, SessionNumber, Target, Targets, Token, Ttl, Value,
    },
};

use super::Entry;

/// A lease of that token, in the default namespace.
pub(super) fn granted(token: u64) -> Change {
    Change::LeaseGranted(Arc::new(LeaseGranted::new(lease(token))))
}

/// What it is made of.
pub(super) fn lease(token: u64) -> NewLease {
    let resource = ResourceName::parse(&format!("file/{token}")).unwrap();
    NewLease {
        namespace: Namespace::default(),
        lease_id: LeaseId([7; 16]),
        token: Token(token),
        holder: Holder::parse("agent").unwrap(),
        granted_at: DurableMs(0),
        targets: Targets::one(Target::exact(resource, Mode::Exclusive)),
        terms: None,
        ttl: Ttl::parse(30_000).unwrap(),
        session: None,
        is_bound: false,
        request: None,
    }
}

/// The lease of that token, over and closed.
pub(super) fn closed(token: u64, revision: u64) -> Change {
    let granted = Arc::new(LeaseGranted::new(lease(token)));
    let Change::LeaseEnded(ended) = ended(token, revision) else { unreachable!() };
    Change::LeaseClosed(Arc::new(LeaseClosed { granted, ended, until: DurableMs(9_000) }))
}

/// Its resources are open again.
pub(super) fn reopened(token: u64, revision: u64) -> Change {
    let namespace = Namespace::default();
    Change::LeaseReopened { namespace, token: Token(token), revision: Revision(revision) }
}

/// The end of the lease of that token.
pub(super) fn ended(token: u64, revision: u64) -> Change {
    Change::LeaseEnded(Arc::new(LeaseEnded {
        namespace: Namespace::default(),
        lease_id: LeaseId([7; 16]),
        token: Token(token),
        revision: Revision(revision),
        end: LeaseEnd::Expired,
        session: None,
        request: None,
        by: None,
    }))
}

/// An effect of that revision.
pub(super) fn remembered(revision: u64) -> Change {
    Change::RequestRemembered(Arc::new(RequestRemembered {
        mark: RequestMark { id: RequestHash([1; 16]), command: CommandHash([2; 16]) },
        of: None,
        revision: Revision(revision),
        effect: Effect::Released,
    }))
}

/// A session of that number.
pub(super) fn opened(number: u64) -> Change {
    Change::SessionOpened(Arc::new(SessionOpened {
        namespace: Namespace::default(),
        session_id: SessionId([8; 16]),
        number: SessionNumber::parse(number).unwrap(),
        holder: Holder::parse("agent").unwrap(),
        ttl: Ttl::parse(15_000).unwrap(),
        requests: RequestHash([3; 16]),
    }))
}

/// The end of a session.
pub(super) fn session_ended(opened: Arc<SessionOpened>, revision: u64) -> Change {
    let (revision, end) = (Revision(revision), SessionEnd::Expired);
    Change::SessionEnded(Arc::new(SessionEnded { opened, revision, end }))
}

/// What is left of a session after that.
pub(super) fn swept(opened: &SessionOpened, revision: u64) -> Change {
    let (namespace, number) = (opened.namespace.clone(), opened.number);
    Change::SessionSwept { namespace, number, revision: Revision(revision) }
}

/// Bytes of a value that is too large to be kept inline, other ones for each version.
pub(super) fn large(version: u64) -> Bytes {
    let bytes = version.to_le_bytes().into_iter().cycle().take(BODY_INLINE_MAX + 1);
    bytes.collect::<Vec<u8>>().into()
}

/// A value of these bytes; the digest means nothing.
pub(super) fn data(bytes: Bytes) -> Value {
    Value::Data(Body::new(&bytes, |bytes| Digest([bytes[0]; 16])))
}

/// A record of that version, created with it.
pub(super) fn written(key: &str, version: u64, value: Value, replaced: Option<u64>) -> Change {
    Change::RecordWritten(Arc::new(RecordWritten {
        namespace: Namespace::default(),
        key: RecordKey::parse(key).unwrap(),
        value,
        content_type: ContentType::default(),
        version: Revision(version),
        created_at: Revision(version),
        written_by: None,
        life: None,
        replaced: replaced.map(Revision),
    }))
}

/// The end of the record of that version; `stored`: its value is a body in the store.
pub(super) fn deleted(key: &str, version: u64, revision: u64, stored: bool) -> Change {
    Change::RecordDeleted(Arc::new(RecordDeleted {
        namespace: Namespace::default(),
        key: RecordKey::parse(key).unwrap(),
        revision: Revision(revision),
        version: Revision(version),
        replaced: stored.then_some(Revision(version)),
    }))
}

/// An entry of one transaction.
pub(super) fn entry(commit: u64, changes: Vec<Change>) -> Entry {
    Entry { transactions: vec![Transaction { commit: Revision(commit), changes }] }
}

/// The entry that grants a lease of that token.
pub(super) fn grant(token: u64) -> Entry {
    entry(token, vec![granted(token)])
}

/// The entry that ends it.
pub(super) fn end(token: u64, revision: u64) -> Entry {
    entry(revision, vec![ended(token, revision)])
}

/// The key of the row of [`granted`].
pub(super) fn key(token: u64) -> RowKey {
    RowKey::Lease(Namespace::default(), Token(token))
}

// === any ===

fn any_mark() -> impl Strategy<Value = RequestMark> {
    (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(id, command)| RequestMark {
        id: RequestHash(id),
        command: CommandHash(command),
    })
}

fn any_holder() -> impl Strategy<Value = Holder> {
    "[a-zé界 ]{1,40}".prop_map(|text| Holder::parse(&text).unwrap())
}

pub(super) fn any_namespace() -> impl Strategy<Value = Namespace> {
    "[A-Za-z0-9._-]{1,12}".prop_map(|text| Namespace::parse(&text).unwrap())
}

/// The key of any row.
pub(super) fn any_key() -> impl Strategy<Value = RowKey> {
    let paths = (any_path(), any_path());
    (any_namespace(), any_token(), paths, 0..9).prop_map(|(namespace, token, (key, name), kind)| {
        match kind {
            0 => RowKey::Clock,
            1 | 2 => RowKey::Session(namespace, SessionNumber::parse(token.0).unwrap()),
            3 | 4 => RowKey::Lease(namespace, token),
            5 | 6 => RowKey::Record(namespace, RecordKey::parse(&key).unwrap()),
            _ => {
                let resource = ResourceName::parse(&name).unwrap();
                RowKey::Protection(namespace, RecordKey::parse(&key).unwrap(), resource)
            }
        }
    })
}

/// A path, often one that another begins with.
fn any_path() -> impl Strategy<Value = String> {
    "[ab]{1,2}(/[ab.é界 ]{0,3}[ab]){0,2}"
}

pub(super) fn any_token() -> impl Strategy<Value = Token> {
    (1..1_u64 << 53).prop_map(Token)
}

fn any_end() -> impl Strategy<Value = LeaseEnd> {
    prop_oneof![
        Just(LeaseEnd::Released),
        Just(LeaseEnd::Expired),
        Just(LeaseEnd::Forced),
        Just(LeaseEnd::Transferred),
        Just(LeaseEnd::MaxHold),
    ]
}

fn any_number() -> impl Strategy<Value = SessionNumber> {
    any_token().prop_map(|token| SessionNumber::parse(token.0).unwrap())
}

fn any_operation() -> impl Strategy<Value = (SessionNumber, u64)> {
    (any_number(), 1..1_u64 << 63)
}

fn any_opened() -> impl Strategy<Value = Arc<SessionOpened>> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>());
    (any_namespace(), any_holder(), any_number(), ids, 1_000..86_400_000_u64).prop_map(
        |(namespace, holder, number, (id, requests), ttl)| {
            Arc::new(SessionOpened {
                namespace,
                session_id: SessionId(id),
                number,
                holder,
                ttl: Ttl::parse(ttl).unwrap(),
                requests: RequestHash(requests),
            })
        },
    )
}

fn any_session_change() -> impl Strategy<Value = Change> {
    let end = prop_oneof![Just(SessionEnd::Closed), Just(SessionEnd::Expired)];
    let revision = || any::<u64>().prop_map(Revision);
    prop_oneof![
        any_opened().prop_map(Change::SessionOpened),
        (any_opened(), revision(), end).prop_map(|(opened, revision, end)| {
            Change::SessionEnded(Arc::new(SessionEnded { opened, revision, end }))
        }),
        (any_namespace(), any_number(), revision()).prop_map(|(namespace, number, revision)| {
            Change::SessionSwept { namespace, number, revision }
        }),
        (any_operation(), revision()).prop_map(|((number, below), revision)| {
            Change::SessionFloored { number, below, revision }
        }),
    ]
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let leaf = prop_oneof![
        Just(Effect::Released),
        any_holder().prop_map(|holder| Effect::ForceReleased { holder }),
        (any::<[u8; 16]>(), any_token())
            .prop_map(|(id, token)| Effect::Acquired { lease_id: LeaseId(id), token }),
        (any::<[u8; 16]>(), any_token())
            .prop_map(|(id, token)| Effect::Transferred { lease_id: LeaseId(id), token }),
        (any_end(), any_token()).prop_map(|(end, token)| Effect::LeaseEnded { end, token }),
        any_put().prop_map(Effect::RecordPut),
        (any::<i64>(), any_put()).prop_map(|(value, put)| Effect::Incremented { value, put }),
        any_version().prop_map(|version| Effect::RecordDeleted { version }),
        any_version().prop_map(|revision| Effect::PrefixProtected { revision }),
        Just(Effect::PrefixUnprotected),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        (any_version(), collection::vec(inner, 0..4))
            .prop_map(|(commit, effects)| Effect::Transacted { commit, effects })
    })
}

fn any_version() -> impl Strategy<Value = Revision> {
    any_token().prop_map(|token| token.revision())
}

fn any_put() -> impl Strategy<Value = RecordPut> {
    (any_version(), any_version())
        .prop_map(|(one, other)| RecordPut { version: one.max(other), created_at: one.min(other) })
}

fn any_value() -> impl Strategy<Value = Value> {
    let body = |bytes: Vec<u8>, digest| Body::new(&bytes, |_| Digest(digest));
    let length = || prop_oneof![9 => 0..40_usize, 1 => Just(4_096_usize), 3 => 4_097..4_200_usize];
    let data = (any::<u8>(), length(), any::<[u8; 16]>())
        .prop_map(move |(byte, length, digest)| Value::Data(body(vec![byte; length], digest)));
    let text = (length(), any::<[u8; 16]>()).prop_map(move |(length, digest)| {
        let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
        Value::Text(body(text.into_bytes(), digest))
    });
    prop_oneof![data, text, any::<i64>().prop_map(Value::Counter)]
}

fn any_life() -> impl Strategy<Value = RecordLife> {
    prop_oneof![
        (any::<u64>(), 1_000..=31_536_000_000_u64).prop_map(|(at, ttl)| RecordLife::Until {
            at: DurableMs(at),
            ttl: RecordTtl::parse(ttl).unwrap(),
        }),
        any_token().prop_map(RecordLife::Bound),
    ]
}

fn any_record_change() -> impl Strategy<Value = Change> {
    let names = (any_namespace(), any_path(), "[ -~]{0,20}", option::of(any_holder()));
    let record = (names, any_value(), any_put(), option::of(any_life()), any::<bool>());
    let written = record.prop_map(|(names, value, put, life, replaces)| {
        let (namespace, key, content_type, written_by) = names;
        let before = Revision(put.version.0 - 1);
        Change::RecordWritten(Arc::new(RecordWritten {
            namespace,
            key: RecordKey::parse(&key).unwrap(),
            value,
            content_type: ContentType::parse(&content_type).unwrap(),
            version: put.version,
            created_at: put.created_at,
            written_by,
            life,
            replaced: (replaces && before.0 > 0).then_some(before),
        }))
    });
    let versions = (any_version(), 1..9_u64, any::<bool>());
    let deleted = (any_namespace(), any_path(), versions).prop_map(|(namespace, key, it)| {
        let (revision, step, is_stored) = it;
        let (revision, version) = (Revision(revision.0.max(10)), revision.0.max(10) - step);
        Change::RecordDeleted(Arc::new(RecordDeleted {
            namespace,
            key: RecordKey::parse(&key).unwrap(),
            revision,
            version: Revision(version),
            replaced: is_stored.then_some(Revision(version)),
        }))
    });
    let protection = (any_namespace(), any_path(), any_path(), any_version(), any::<bool>());
    let protection = protection.prop_map(|(namespace, prefix, resource, revision, is_taken)| {
        let (prefix, resource) = (RecordKey::parse(&prefix), ResourceName::parse(&resource));
        let (prefix, resource) = (prefix.unwrap(), resource.unwrap());
        let protection = Arc::new(Protection { namespace, prefix, resource, revision });
        match is_taken {
            true => Change::PrefixUnprotected(protection),
            false => Change::PrefixProtected(protection),
        }
    });
    prop_oneof![3 => written, 1 => deleted, 1 => protection]
}

fn any_mode() -> impl Strategy<Value = (Mode, Reach)> {
    let permits = (1..=1_000_000_u32)
        .prop_flat_map(|limit| (1..=limit, Just(limit)))
        .prop_map(|(count, limit)| Mode::Permits(Permits::parse(count, limit).unwrap()));
    let reach = prop_oneof![Just(Reach::Exact), Just(Reach::Subtree)];
    prop_oneof![
        (prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)], reach),
        permits.prop_map(|mode| (mode, Reach::Exact)),
    ]
}

/// Each in a tree of its own, so that no two touch.
fn any_targets() -> impl Strategy<Value = Targets> {
    let target = || ("[a-z]{1,9}(/[a-z]{1,9}){0,3}", any_mode());
    let some = prop_oneof![collection::vec(target(), 1..2), collection::vec(target(), 2..6)];
    some.prop_map(|targets| {
        let targets = targets.into_iter().enumerate().map(|(i, (name, (mode, reach)))| {
            let resource = ResourceName::parse(&format!("{i}/{name}")).unwrap();
            Target { resource, mode, reach }
        });
        Targets::parse(targets.collect()).unwrap()
    })
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let labels = collection::btree_map("[a-zé界]{1,20}", "[a-zé界 ]{0,30}", 0..4);
    let times = (option::of(1_000..31_536_000_000_u64), 0..=3_600_000_u64);
    (option::of("[a-z]{1,9}(/[a-z]{1,9}){0,3}"), labels, times).prop_map(
        |(actor, labels, (max_hold, lock_delay))| Terms {
            actor: actor.map(|actor| Actor::parse(&actor).unwrap()),
            labels: Labels::parse(labels.iter().map(|(k, v)| (&**k, &**v))).unwrap(),
            max_hold: max_hold.map(|ms| MaxHold::parse(ms).unwrap()),
            lock_delay: LockDelay::parse(lock_delay).unwrap(),
        },
    )
}

fn any_lease() -> impl Strategy<Value = Arc<LeaseGranted>> {
    let names = (any_namespace(), any_holder(), any_targets(), option::of(any_terms()));
    let rest = (any::<[u8; 16]>(), any_token(), any::<u64>(), 1_000..86_400_000_u64);
    let origin = (option::of(any_mark()), option::of((any_number(), any::<bool>())));
    (names, rest, origin).prop_map(|(names, rest, (request, session))| {
        let (namespace, holder, targets, terms) = names;
        let (id, token, granted_at, ttl) = rest;
        Arc::new(LeaseGranted::new(NewLease {
            namespace,
            lease_id: LeaseId(id),
            token,
            holder,
            granted_at: DurableMs(granted_at),
            targets,
            terms: terms.map(Box::new),
            ttl: Ttl::parse(ttl).unwrap(),
            session: session.map(|(number, _)| number),
            is_bound: session.is_some_and(|(_, bound)| bound),
            request,
        }))
    })
}

fn any_ended() -> impl Strategy<Value = LeaseEnded> {
    let ids = (any_namespace(), any::<[u8; 16]>(), any_token(), any::<u64>());
    let by = option::of((any_operation(), any_mark()));
    let origin = (option::of(any_mark()), option::of(any_number()), by);
    (ids, any_end(), origin).prop_map(|(ids, end, (request, session, by))| {
        let (namespace, id, token, revision) = ids;
        LeaseEnded {
            namespace,
            lease_id: LeaseId(id),
            token,
            revision: Revision(revision),
            end,
            session,
            request,
            by: by.map(|((session, seq), mark)| RequestOf { session, seq, mark }),
        }
    })
}

fn any_closed() -> impl Strategy<Value = LeaseClosed> {
    (any_lease(), any_ended(), any::<u64>()).prop_map(|(granted, ended, until)| LeaseClosed {
        ended: Arc::new(LeaseEnded {
            namespace: granted.namespace.clone(),
            token: granted.token,
            ..ended
        }),
        granted,
        until: DurableMs(until),
    })
}

/// Any change at all.
pub(super) fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u64>().prop_map(|revision| Change::Started { revision: Revision(revision) }),
        (any_mark(), option::of(any_operation()), any::<u64>(), any_effect()).prop_map(
            |(mark, of, revision, effect)| {
                Change::RequestRemembered(Arc::new(RequestRemembered {
                    mark,
                    of,
                    revision: Revision(revision),
                    effect,
                }))
            }
        ),
        (any::<[u8; 16]>(), any::<u64>()).prop_map(|(id, revision)| {
            Change::RequestAbandoned { id: RequestHash(id), revision: Revision(revision) }
        }),
        any_session_change(),
        (any::<u64>(), any::<u64>()).prop_map(|(at, revision)| {
            Change::TimePassed { at: DurableMs(at), revision: Revision(revision) }
        }),
        any_lease().prop_map(Change::LeaseGranted),
        any_ended().prop_map(|ended| Change::LeaseEnded(Arc::new(ended))),
        any_closed().prop_map(|closed| Change::LeaseClosed(Arc::new(closed))),
        (any_namespace(), any_token(), any::<u64>()).prop_map(|(namespace, token, revision)| {
            Change::LeaseReopened { namespace, token, revision: Revision(revision) }
        }),
        any_record_change(),
    ]
}

/// Any entry at all, commit revisions from 1 on.
pub(super) fn any_entry() -> impl Strategy<Value = Entry> {
    let changes = collection::vec(any_change(), 1..4);
    collection::vec((1..1_000_u64, changes), 1..5).prop_map(|transactions| {
        let mut commit = 0;
        let transactions = transactions
            .into_iter()
            .map(|(step, changes)| {
                commit += step;
                Transaction { commit: Revision(commit), changes }
            })
            .collect();
        Entry { transactions }
    })
}
