//! The durable state as the changes that would make it: for comparing two machines byte for
//! byte. Replay memory and volatile state are left out on purpose.

use alloc::{sync::Arc, vec::Vec};

use crate::{change::Change, machine::Machine};

impl Machine {
    /// One post-image per durable row: durable time, sessions, then leases, each by namespace and
    /// number.
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
        clock.into_iter().chain(sessions).chain(leases.into_iter().map(|(_, row)| row)).collect()
    }
}
