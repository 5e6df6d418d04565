//! Giving a lease to another holder: it ends and begins anew in one transaction, and nobody gets in
//! between.

use alloc::sync::Arc;

use super::{
    acquire::check_bytes,
    deadlock::{self, Hypothesis},
    end,
};
use crate::{
    change::{Change, Effect, LeaseGranted, NewLease},
    command::{Request, Terms, TransferLease},
    decision::{Draft, check_fences},
    overlay::View,
    refusal::{LeaseEnd, Refusal},
    replay,
    reply::{Grant, Reply},
    types::Token,
};

/// Decides a transfer.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    transfer: &TransferLease,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    let (reply, effect) = decide_within(view, transfer, draft)?;
    replay::remember(view, request, effect, draft);
    Ok(reply)
}

/// Decides a transfer within a transaction.
pub(crate) fn decide_within(
    view: View<'_>,
    transfer: &TransferLease,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    let known = end::find_own(view, transfer.lease)?;
    let old = known.granted;
    if let Some(actor) = &transfer.to_actor
        && old.actor() != Some(actor)
    {
        deadlock::check(view, &Hypothesis::Transferred(old, actor, &transfer.to))?;
    }
    let terms = old.terms().cloned().unwrap_or_default();
    let terms = Terms { actor: transfer.to_actor.clone(), ..terms };
    let ttl = transfer.ttl.unwrap_or(old.ttl);
    end::end(view.state, view.now, old, LeaseEnd::Transferred, draft);
    let token = Token(draft.take_revision().0);
    let new = LeaseGranted::new(NewLease {
        namespace: old.namespace.clone(),
        lease_id: transfer.new_id,
        token,
        holder: transfer.to.clone(),
        granted_at: view.state.durable_now(view.now),
        targets: old.targets(),
        terms: Some(terms.into()),
        ttl,
        session: None,
        is_bound: false,
        request: None,
    });
    check_bytes(view, new.bytes().saturating_sub(old.bytes()))?;
    let hold = new.terms().and_then(|terms| terms.max_hold);
    let remaining_ms = ttl.ms().min(hold.map_or(u64::MAX, |hold| hold.ms()));
    draft.change(Change::LeaseGranted(Arc::new(new)));
    let lease_id = transfer.new_id;
    let grant = Grant { lease_id, token, remaining_ms, waited_ms: 0, replayed: false };
    Ok((Reply::Transferred(grant), Effect::Transferred { lease_id, token }))
}
