//! The durable state as the changes that would make it: for comparing two machines byte for
//! byte. Replay memory and volatile state are left out on purpose.

use alloc::{sync::Arc, vec::Vec};

use crate::{
    change::{Change, Protection},
    machine::Machine,
};

impl Machine {
    /// One post-image per durable row: durable time, sessions, leases, records, then protections,
    /// each by namespace and number or name.
    #[must_use]
    pub fn rows(&self) -> Vec<Change> {
        let state = self.state();
        let mut sessions: Vec<_> = state
            .session_numbers
            .values()
            .map(|slot| state.session(*slot))
            .filter(|session| !session.is_swept)
            .collect();
        sessions.sort_by(|a, b| a.opened.namespace.cmp(&b.opened.namespace));
        let sessions = sessions.into_iter().map(|session| match &session.ended {
            None => Change::SessionOpened(Arc::clone(&session.opened)),
            Some(ended) => Change::SessionEnded(Arc::clone(ended)),
        });
        let live = state.space_names.values().flat_map(|slot| state.space(*slot).leases.values());
        let live = live.map(|slot| Change::LeaseGranted(Arc::clone(&state.lease(*slot).granted)));
        let closed = state.closed.values();
        let closed = closed.map(|known| Change::LeaseClosed(Arc::clone(&known.closed)));
        let mut leases: Vec<_> = live.chain(closed).map(|row| (row.trace(), row)).collect();
        leases.sort_by(|(a, _), (b, _)| a.key().cmp(&b.key()));
        let clock = state.clock_row.map(|(at, revision)| Change::TimePassed { at, revision });
        let spaces = || state.space_names.values().map(|slot| state.space(*slot));
        let records = spaces().flat_map(|space| space.records.values());
        let records =
            records.map(|slot| Change::RecordWritten(Arc::clone(&state.record(*slot).written)));
        let protections = spaces().flat_map(|space| {
            space.protections.iter().flat_map(move |(prefix, of)| {
                of.iter().map(move |(resource, revision)| {
                    Change::PrefixProtected(Arc::new(Protection {
                        namespace: space.name.clone(),
                        prefix: prefix.clone(),
                        resource: resource.clone(),
                        revision: *revision,
                    }))
                })
            })
        });
        let leases = leases.into_iter().map(|(_, row)| row);
        clock.into_iter().chain(sessions).chain(leases).chain(records).chain(protections).collect()
    }
}
