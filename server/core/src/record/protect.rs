//! Protected prefixes: who writes there must hold a resource, exclusive.

use alloc::{boxed::Box, sync::Arc};

use crate::{
    change::{Change, Effect, Protection},
    command::{Protect, Request},
    decision::{Draft, check_cap},
    fence::Fences,
    limits,
    overlay::View,
    record,
    refusal::{Cap, FenceRequired, Refusal},
    reply::Reply,
    types::{RecordKey, ResourceName},
};

/// Whoever writes this record holds all that protects it.
pub(crate) fn check(view: View<'_>, key: &RecordKey, fences: &Fences<'_>) -> Result<(), Refusal> {
    if !view.has_protections() {
        return Ok(());
    }
    for prefix in key.ancestry() {
        for (prefix, resource, _) in view.protections_of(prefix) {
            if !fences.prove(resource) {
                return Err(required(view, prefix, resource));
            }
        }
    }
    Ok(())
}

fn required(view: View<'_>, prefix: &RecordKey, resource: &ResourceName) -> Refusal {
    let newest = view.newest_holder(resource);
    Refusal::FenceRequired(Box::new(FenceRequired {
        prefix: prefix.clone(),
        resource: resource.clone(),
        current: newest.map(|known| (known.granted.token, known.granted.holder.clone())),
    }))
}

/// Decides a protection.
pub(crate) fn protect(
    view: View<'_>,
    request: &Request,
    protect: &Protect,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let told = record::decide_once(view, request, draft, |fences, draft| {
        protect_within(view, protect, fences, draft)
    });
    match told {
        Err(Refusal::AlreadyDone) => {
            let since = view.protection(&protect.prefix, &protect.resource);
            let revision = since.expect("it is there already");
            Ok(Reply::PrefixProtected { revision, existed: true, replayed: false })
        }
        told => told,
    }
}

/// Decides a protection within a transaction, where one that is there is no effect.
pub(crate) fn protect_within(
    view: View<'_>,
    protect: &Protect,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    check_right(view, protect, fences)?;
    let Protect { prefix, resource, .. } = protect;
    if view.protection(prefix, resource).is_some() {
        return Err(Refusal::AlreadyDone);
    }
    let quotas = &view.state.quotas;
    let (of_prefix, most) =
        (view.protections_of(prefix.as_str()).count() as u64, limits::PROTECTIONS_MAX);
    check_cap(Cap::PrefixProtections, of_prefix, 1, most as u64)?;
    check_cap(Cap::Protections, view.protection_count(), 1, quotas.protections)?;
    view.check_namespaces()?;
    let revision = draft.take_revision();
    let protection = Protection {
        namespace: view.own_namespace(),
        prefix: prefix.clone(),
        resource: resource.clone(),
        revision,
    };
    check_cap(Cap::Bytes, view.byte_count(), protection.bytes(), quotas.bytes)?;
    draft.change(Change::PrefixProtected(Arc::new(protection)));
    let reply = Reply::PrefixProtected { revision, existed: false, replayed: false };
    Ok((reply, Effect::PrefixProtected { revision }))
}

/// Decides the end of a protection.
pub(crate) fn unprotect(
    view: View<'_>,
    request: &Request,
    protect: &Protect,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let told = record::decide_once(view, request, draft, |fences, draft| {
        unprotect_within(view, protect, fences, draft)
    });
    match told {
        Err(Refusal::AlreadyDone) => {
            Ok(Reply::PrefixUnprotected { existed: false, replayed: false })
        }
        told => told,
    }
}

/// Decides the end of a protection within a transaction, where one of what is not protected is
/// no effect.
pub(crate) fn unprotect_within(
    view: View<'_>,
    protect: &Protect,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    check_right(view, protect, fences)?;
    let Protect { prefix, resource, .. } = protect;
    if view.protection(prefix, resource).is_none() {
        return Err(Refusal::AlreadyDone);
    }
    let revision = draft.take_revision();
    draft.change(Change::PrefixUnprotected(Arc::new(Protection {
        namespace: view.own_namespace(),
        prefix: prefix.clone(),
        resource: resource.clone(),
        revision,
    })));
    let reply = Reply::PrefixUnprotected { existed: true, replayed: false };
    Ok((reply, Effect::PrefixUnprotected))
}

/// Whoever protects or unprotects holds the resource, or is an administrator.
fn check_right(view: View<'_>, protect: &Protect, fences: &Fences<'_>) -> Result<(), Refusal> {
    if protect.as_admin || fences.prove(&protect.resource) {
        return Ok(());
    }
    Err(required(view, &protect.prefix, &protect.resource))
}
