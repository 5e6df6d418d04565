//! What is shown: one resource, lists, counts.

use singletrack_core::{command::LeaseFilter, limits, types::Token};

use super::{
    Lease, Model, Told,
    claims::{self, is_below_or_same},
    told::Info,
};

impl Model {
    fn info(&self, lease: &Lease) -> Info {
        Info {
            holder: lease.holder.clone(),
            token: lease.token,
            remaining_ms: self.remaining(lease),
            held_ms: self.durable() - lease.granted_at,
            hold_remaining_ms: self.hold_remaining(lease),
            yields: lease.yields.clone(),
        }
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Told {
        let holders = self.holders(namespace, name);
        let mut queue = self.queue(namespace);
        queue.retain(|it| it.targets().iter().any(|it| it.resource.as_str() == name));
        let shown = queue.iter().filter(|it| it.is_attached()).take(limits::WAITERS_SHOWN_MAX);
        let closed = self.closed.iter().filter(|it| it.namespace == namespace);
        let closed = closed.filter(|it| it.targets.iter().any(|it| claims::covers(it, name)));
        Told::Found {
            leases: holders.iter().map(|it| self.info(it)).collect(),
            holders: u32::try_from(holders.len()).unwrap(),
            waiters: u32::try_from(queue.len()).unwrap(),
            shown: shown.map(|it| it.acquire.holder.to_string()).collect(),
            closed_ms: closed.map(|it| it.until - self.durable()).max().unwrap_or(0),
        }
    }

    pub(super) fn list(
        &self,
        namespace: &str,
        after: u64,
        count: usize,
        filter: &LeaseFilter,
    ) -> Told {
        let fits = |it: &&Lease| {
            let within = filter.within.as_ref().is_none_or(|name| {
                it.targets.iter().any(|it| is_below_or_same(it.resource.as_str(), name.as_str()))
            });
            let labels: Vec<(&str, &str)> = it.terms.labels.iter().collect();
            it.token.0 > after
                && filter.holder.as_ref().is_none_or(|holder| holder.as_str() == it.holder)
                && within
                && filter.labels.iter().all(|label| labels.contains(&label))
        };
        let mut all: Vec<&Lease> = self.leases_in(namespace).filter(fits).collect();
        all.sort_by_key(|it| it.token);
        all.truncate(count);
        Told::Page(all.iter().map(|it| self.info(it)).collect())
    }

    pub(super) fn check(&self, namespace: &str, name: &str, token: Token) -> Told {
        let holders = self.holders(namespace, name);
        Told::Checked {
            current: holders.iter().any(|it| it.token == token),
            newest: holders.last().map(|it| it.token),
        }
    }

    pub(super) fn list_waiters(&self, namespace: &str) -> Told {
        let mut all = self.queue(namespace);
        all.sort_by_key(|it| it.seq);
        let each = all.iter().map(|it| {
            let name = it.acquire.holder.to_string();
            (name, it.is_attached(), self.now - it.queued, !self.is_served(it))
        });
        Told::Waiters(each.collect())
    }

    pub(super) fn stats(&self, namespace: &str) -> Told {
        let count = |all: usize| all as u64;
        let sessions = self.sessions.iter();
        Told::Stats {
            leases: count(self.leases_in(namespace).count()),
            waiters: count(self.queue(namespace).len()),
            closed: count(self.closed.iter().filter(|it| it.namespace == namespace).count()),
            // Ended ones too, as long as they are remembered.
            sessions: count(sessions.filter(|it| it.namespace == namespace).count()),
        }
    }
}
