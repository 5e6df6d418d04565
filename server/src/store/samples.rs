//! Entries for the tests of the store: small ones by hand, and any by proptest.

use std::sync::Arc;

use proptest::{collection, option, prelude::*};
use singletrack_core::{
    change::{
        Change, Effect, LeaseEnded, LeaseGranted, RequestOf, RequestRemembered, RowKey,
        SessionEnded, SessionOpened, Transaction,
    },
    refusal::{LeaseEnd, SessionEnd},
    types::{
        CommandHash, Holder, LeaseId, Mode, Namespace, RequestHash, RequestMark, ResourceName,
        Revision, SessionId, SessionNumber, Token, Ttl,
    },
};

use super::Entry;

/// A lease of that token, in the default namespace.
pub(super) fn granted(token: u64) -> Change {
    Change::LeaseGranted(Arc::new(LeaseGranted {
        namespace: Namespace::default(),
        lease_id: LeaseId([7; 16]),
        token: Token(token),
        holder: Holder::parse("agent").unwrap(),
        resource: ResourceName::parse(&format!("file/{token}")).unwrap(),
        mode: Mode::Exclusive,
        ttl: Ttl::parse(30_000).unwrap(),
        session: None,
        is_bound: false,
        request: None,
    }))
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
    (any_namespace(), any_token(), any::<bool>()).prop_map(|(namespace, token, session)| {
        if session {
            RowKey::Session(namespace, SessionNumber::parse(token.0).unwrap())
        } else {
            RowKey::Lease(namespace, token)
        }
    })
}

pub(super) fn any_token() -> impl Strategy<Value = Token> {
    (1..1_u64 << 53).prop_map(Token)
}

fn any_end() -> impl Strategy<Value = LeaseEnd> {
    prop_oneof![Just(LeaseEnd::Released), Just(LeaseEnd::Expired), Just(LeaseEnd::Forced)]
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
        (any_end(), any_token()).prop_map(|(end, token)| Effect::LeaseEnded { end, token }),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| collection::vec(inner, 0..4).prop_map(Effect::Transacted))
}

fn any_granted() -> impl Strategy<Value = Change> {
    let names = (any_namespace(), any_holder(), "[a-z]{1,9}(/[a-z]{1,9}){0,3}");
    let rest = (any::<[u8; 16]>(), any_token(), any::<bool>(), 1_000..86_400_000_u64);
    let origin = (option::of(any_mark()), option::of((any_number(), any::<bool>())));
    (names, rest, origin).prop_map(|(names, rest, (request, session))| {
        let (namespace, holder, resource) = names;
        let (id, token, shared, ttl) = rest;
        let mode = if shared { Mode::Shared } else { Mode::Exclusive };
        Change::LeaseGranted(Arc::new(LeaseGranted {
            namespace,
            lease_id: LeaseId(id),
            token,
            holder,
            resource: ResourceName::parse(&resource).unwrap(),
            mode,
            ttl: Ttl::parse(ttl).unwrap(),
            session: session.map(|(number, _)| number),
            is_bound: session.is_some_and(|(_, bound)| bound),
            request,
        }))
    })
}

fn any_ended() -> impl Strategy<Value = Change> {
    let ids = (any_namespace(), any::<[u8; 16]>(), any_token(), any::<u64>());
    let by = option::of((any_operation(), any_mark()));
    let origin = (option::of(any_mark()), option::of(any_number()), by);
    (ids, any_end(), origin).prop_map(|(ids, end, (request, session, by))| {
        let (namespace, id, token, revision) = ids;
        Change::LeaseEnded(Arc::new(LeaseEnded {
            namespace,
            lease_id: LeaseId(id),
            token,
            revision: Revision(revision),
            end,
            session,
            request,
            by: by.map(|((session, seq), mark)| RequestOf { session, seq, mark }),
        }))
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
        any_granted(),
        any_ended(),
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
