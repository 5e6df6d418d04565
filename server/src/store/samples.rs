//! Entries for the tests of the store: small ones by hand, and any by proptest.

use std::sync::Arc;

use proptest::{collection, option, prelude::*};
use singletrack_core::{
    change::{Change, Effect, LeaseEnded, LeaseGranted, RequestRemembered, RowKey, Transaction},
    refusal::LeaseEnd,
    types::{
        CommandHash, Holder, LeaseId, Mode, Namespace, RequestHash, RequestMark, ResourceName,
        Revision, Token, Ttl,
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
        request: None,
    }))
}

/// An effect of that revision.
pub(super) fn remembered(revision: u64) -> Change {
    Change::RequestRemembered(Arc::new(RequestRemembered {
        mark: RequestMark { id: RequestHash([1; 16]), command: CommandHash([2; 16]) },
        revision: Revision(revision),
        effect: Effect::Released,
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

pub(super) fn any_token() -> impl Strategy<Value = Token> {
    (1..1_u64 << 53).prop_map(Token)
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let leaf = prop_oneof![
        Just(Effect::Released),
        any_holder().prop_map(|holder| Effect::ForceReleased { holder }),
        (any::<[u8; 16]>(), any_token())
            .prop_map(|(id, token)| Effect::Acquired { lease_id: LeaseId(id), token }),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| collection::vec(inner, 0..4).prop_map(Effect::Transacted))
}

fn any_granted() -> impl Strategy<Value = Change> {
    let names = (any_namespace(), any_holder(), "[a-z]{1,9}(/[a-z]{1,9}){0,3}");
    let rest = (any::<[u8; 16]>(), any_token(), any::<bool>(), 1_000..86_400_000_u64);
    (names, rest, option::of(any_mark())).prop_map(|(names, rest, request)| {
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
            request,
        }))
    })
}

fn any_ended() -> impl Strategy<Value = Change> {
    let end =
        prop_oneof![Just(LeaseEnd::Released), Just(LeaseEnd::Expired), Just(LeaseEnd::Forced)];
    let ids = (any_namespace(), any::<[u8; 16]>(), any_token(), any::<u64>());
    (ids, end, option::of(any_mark())).prop_map(|(ids, end, request)| {
        let (namespace, id, token, revision) = ids;
        Change::LeaseEnded(Arc::new(LeaseEnded {
            namespace,
            lease_id: LeaseId(id),
            token,
            revision: Revision(revision),
            end,
            request,
        }))
    })
}

/// Any change at all.
pub(super) fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u64>().prop_map(|revision| Change::Started { revision: Revision(revision) }),
        (any_mark(), any::<u64>(), any_effect()).prop_map(|(mark, revision, effect)| {
            Change::RequestRemembered(Arc::new(RequestRemembered {
                mark,
                revision: Revision(revision),
                effect,
            }))
        }),
        (any::<[u8; 16]>(), any::<u64>()).prop_map(|(id, revision)| {
            Change::RequestAbandoned { id: RequestHash(id), revision: Revision(revision) }
        }),
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
