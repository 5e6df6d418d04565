//! What a session holds, for its owner.

use alloc::vec::Vec;
use core::ops::Bound;

use crate::{
    limits,
    overlay::View,
    refusal::Refusal,
    reply::{Reply, SessionPage},
    types::{SessionId, Token},
};

/// Decides a list.
pub(crate) fn list(
    view: View<'_>,
    id: SessionId,
    after: u64,
    count: usize,
) -> Result<Reply, Refusal> {
    let slot = view.live_session(id)?;
    Ok(Reply::SessionLeases(page(view, slot, after, count)))
}

/// A page of a session's leases.
pub(crate) fn page(view: View<'_>, slot: u32, after: u64, count: usize) -> SessionPage {
    assert!((1..=limits::PAGE_MAX).contains(&count), "the edge bounds pages");
    let from = (Bound::Excluded(Token(after)), Bound::Unbounded);
    let mut held = view.state.session(slot).leases.range(from);
    let lease =
        |(token, lease): (&Token, &u32)| (view.state.lease(*lease).granted.lease_id, *token);
    let leases: Vec<_> = held.by_ref().take(count).map(lease).collect();
    let next = leases.last().map(|(_, token)| *token).filter(|_| held.next().is_some());
    SessionPage { leases, next }
}
