//! Reading leases. Never shows a lease id to anyone but its holder.

use crate::{
    command::LeaseKey,
    limits,
    overlay::{Known, View},
    refusal::Refusal,
    reply::{Checked, Found, Reply},
    state::Resource,
    types::{LeaseId, ResourceName, Token},
};

/// Decides a get.
pub(crate) fn get(view: View<'_>, key: &LeaseKey) -> Result<Reply, Refusal> {
    match key {
        LeaseKey::Id(id) => by_id(view, *id),
        LeaseKey::Resource(name) => Ok(Reply::Found(found(view, name))),
    }
}

fn by_id(view: View<'_>, id: LeaseId) -> Result<Reply, Refusal> {
    if let Some(known) = view.lease_by_id(id) {
        let mut found = found(view, &known.granted.resource);
        found.leases = [known.lease_info()].into();
        return Ok(Reply::Found(found));
    }
    match view.ended(id) {
        Some(ended) => Err(Refusal::LeaseLost { end: ended.end, token: ended.token }),
        None => Err(Refusal::NotFound),
    }
}

fn found(view: View<'_>, name: &ResourceName) -> Found {
    let holders = view.holder_count(name);
    let waiters = view.resource(name).and_then(Resource::queue).map_or(0, |queue| queue.total);
    let shown = view.holders(name).take(limits::HOLDERS_SHOWN_MAX);
    Found {
        leases: shown.map(Known::lease_info).collect(),
        holder_count: u32::try_from(holders).unwrap_or(u32::MAX),
        waiter_count: waiters,
    }
}

/// Decides a page of the list.
pub(crate) fn list(view: View<'_>, after: u64, count: usize) -> Reply {
    assert!((1..=limits::PAGE_MAX).contains(&count), "the edge bounds pages");
    let from = core::ops::Bound::Excluded(Token(after));
    let space = view.space.map(|space| view.state.space(space));
    let mut slots =
        space.into_iter().flat_map(|space| space.leases.range((from, core::ops::Bound::Unbounded)));
    let looked: alloc::vec::Vec<_> = slots.by_ref().take(count).collect();
    // Those of dead sessions are passed over; the next page goes on behind what was looked at.
    let next = looked.last().map(|(token, _)| **token).filter(|_| slots.next().is_some());
    let known = looked.into_iter().filter_map(|(_, slot)| view.known(*slot));
    let leases = known.map(Known::lease_info).collect();
    Reply::Page { leases, next }
}

/// Decides a check.
pub(crate) fn check(view: View<'_>, resource: &ResourceName, token: Token) -> Reply {
    Reply::Checked(Checked {
        current: view.holder(resource, token).is_some(),
        newest: view.newest_holder(resource).map(Known::holder_info),
    })
}
