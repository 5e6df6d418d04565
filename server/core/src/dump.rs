//! The durable state as the changes that would make it: for comparing two machines byte for
//! byte. Replay memory and volatile state are left out on purpose.

use alloc::{sync::Arc, vec::Vec};

use crate::{change::Change, machine::Machine};

impl Machine {
    /// One post-image per durable row: sessions, then leases, each by namespace and number.
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
        let spaces = state.space_names.values().map(|slot| state.space(*slot));
        let leases = spaces
            .flat_map(|space| space.leases.values())
            .map(|slot| Change::LeaseGranted(Arc::clone(&state.lease(*slot).granted)));
        sessions.chain(leases).collect()
    }
}
