//! The durable state as the changes that would make it: for comparing two machines byte for
//! byte. Replay memory and volatile state are left out on purpose.

use alloc::{sync::Arc, vec::Vec};

use crate::{change::Change, machine::Machine};

impl Machine {
    /// One post-image per durable row, by namespace and token.
    #[must_use]
    pub fn rows(&self) -> Vec<Change> {
        let state = self.state();
        let spaces = state.space_names.values().map(|slot| state.space(*slot));
        spaces
            .flat_map(|space| space.leases.values())
            .map(|slot| Change::LeaseGranted(Arc::clone(&state.lease(*slot).granted)))
            .collect()
    }
}
