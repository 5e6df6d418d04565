//! Reading leases and waiters. Never shows a lease id to anyone but its holder.

use core::ops::Bound;

use alloc::vec::Vec;

use super::explain::{self, holder_info, lease_info, waiter_info};
use crate::{
    command::{LeaseFilter, LeaseKey},
    limits,
    overlay::{Known, View},
    refusal::Refusal,
    reply::{Checked, Found, LeaseStats, Reply},
    tree::{Class, QueueKey},
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
        let mut found = found(view, known.granted.resource());
        found.leases = [lease_info(view, known)].into();
        return Ok(Reply::Found(found));
    }
    match view.ended(id) {
        Some(ended) => Err(Refusal::LeaseLost { end: ended.end, token: ended.token }),
        None => Err(Refusal::NotFound),
    }
}

fn found(view: View<'_>, name: &ResourceName) -> Found {
    let state = view.state;
    let holders = view.holder_count(name);
    let queue = view.node(name).and_then(|node| node.queue());
    let mut first: Vec<(QueueKey, u32)> = Vec::new();
    for class in Class::ALL {
        let waiters = queue.into_iter().flat_map(|queue| queue.before(class, QueueKey::LAST));
        let waiters = waiters.take(limits::WAITERS_SHOWN_MAX);
        first.extend(waiters.map(|((_, key), queued)| (*key, queued.waiter)));
    }
    first.sort_unstable();
    first.truncate(limits::WAITERS_SHOWN_MAX);
    let shown = view.holders(name, limits::HOLDERS_SHOWN_MAX);
    Found {
        leases: shown.into_iter().map(|known| lease_info(view, known)).collect(),
        holder_count: u32::try_from(holders).unwrap_or(u32::MAX),
        waiter_count: queue.map_or(0, |queue| queue.total),
        waiters: first
            .into_iter()
            .map(|(_, waiter)| waiter_info(state, view.now, waiter, false))
            .collect(),
        closed_ms: closed_ms(view, name),
    }
}

/// For how long a resource, or a subtree it is in, is closed.
fn closed_ms(view: View<'_>, name: &ResourceName) -> u64 {
    let state = view.state;
    let Some(space) = view.space else { return 0 };
    let mut longest = 0;
    for (slot, is_all) in state.walk(space, name.as_str()) {
        let holders = state.holders_at(slot, !is_all).take(limits::SLICE_MAX);
        let closed = holders.filter_map(|lease| explain::closed_ms(view, lease));
        longest = closed.max().unwrap_or_default().max(longest);
    }
    longest
}

/// Decides a page of the list.
pub(crate) fn list(view: View<'_>, after: u64, count: usize, filter: &LeaseFilter) -> Reply {
    assert!((1..=limits::PAGE_MAX).contains(&count), "the edge bounds pages");
    let from = (Bound::Excluded(Token(after)), Bound::Unbounded);
    let space = view.space.map(|space| view.state.space(space));
    let mut slots = space.into_iter().flat_map(|space| space.leases.range(from));
    let mut leases = Vec::new();
    let mut last = None;
    // The next page goes on behind what was looked at, whatever of it was listed.
    for (token, slot) in slots.by_ref().take(limits::LIST_SCAN_MAX) {
        last = Some(*token);
        if let Some(known) = view.known(*slot).filter(|known| fits(known, filter)) {
            leases.push(lease_info(view, known));
        }
        if leases.len() == count {
            break;
        }
    }
    let next = last.filter(|_| slots.next().is_some());
    Reply::Page { leases, next }
}

fn fits(known: &Known<'_>, filter: &LeaseFilter) -> bool {
    let granted = known.granted;
    filter.holder.as_ref().is_none_or(|holder| granted.holder == *holder)
        && filter
            .within
            .as_ref()
            .is_none_or(|within| granted.claims().any(|claim| claim.resource.is_within(within)))
        && (filter.labels.is_empty()
            || granted.terms().is_some_and(|terms| terms.labels.contain(&filter.labels)))
}

/// Decides a check.
pub(crate) fn check(view: View<'_>, resource: &ResourceName, token: Token) -> Reply {
    let newest = view.newest_holder(resource);
    let told = newest.and_then(|known| {
        let claim = known.granted.claims().find(|claim| claim.covers(resource))?;
        Some(holder_info(view, known, claim, resource))
    });
    Reply::Checked(Checked { current: view.holder(resource, token).is_some(), newest: told })
}

/// Decides a page of waiters.
pub(crate) fn waiters(view: View<'_>, after: u64, count: usize) -> Reply {
    assert!((1..=limits::WAITERS_PAGE_MAX).contains(&count), "the edge bounds pages");
    let space = view.space.map(|space| view.state.space(space));
    // Numbers begin at 0, pages behind one.
    let mut queued = space.into_iter().flat_map(|space| space.waiters.range(after..));
    let page: Vec<_> = queued.by_ref().take(count).collect();
    let next = page.last().map(|(seq, _)| **seq + 1).filter(|_| queued.next().is_some());
    let shown = page.into_iter().map(|(_, slot)| waiter_info(view.state, view.now, *slot, true));
    Reply::Waiters { waiters: shown.collect(), next }
}

/// Decides a count.
pub(crate) fn stats(view: View<'_>) -> Reply {
    let Some(space) = view.space.map(|space| view.state.space(space)) else {
        return Reply::Stats(LeaseStats { revision: view.state.revision, ..LeaseStats::default() });
    };
    Reply::Stats(LeaseStats {
        leases: space.leases.len() as u64,
        waiters: space.waiters.len() as u64,
        closed: space.closed,
        sessions: space.sessions,
        granted_total: space.totals.granted,
        released_total: space.totals.released,
        lost_total: space.totals.lost,
        queued_total: space.totals.queued,
        revision: view.state.revision,
    })
}
