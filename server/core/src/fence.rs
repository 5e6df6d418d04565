//! Fences: "only if this token is still current".
//!
//! The list of targets is open: each noun that hands out tokens adds its own.

use alloc::vec::Vec;

use crate::{
    overlay::View,
    types::{Mode, ResourceName, Token},
};

/// One precondition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// What the token was granted for.
    pub target: FenceTarget,
    /// The token that must be current.
    pub token: Token,
}

/// What a token can be granted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FenceTarget {
    /// A leased resource. The token of any live holder is current.
    Resource(ResourceName),
}

/// The fences that count for one operation, and the state on which they are judged.
pub(crate) struct Fences<'a> {
    before: View<'a>,
    all: Vec<&'a Fence>,
}

impl<'a> Fences<'a> {
    /// Judged on this state, which has no overlay.
    pub(crate) fn new(before: View<'a>, all: impl IntoIterator<Item = &'a Fence>) -> Self {
        Self { before, all: all.into_iter().collect() }
    }

    /// One of them has the current token of a lease that holds this resource exclusive.
    pub(crate) fn prove(&self, resource: &ResourceName) -> bool {
        self.all.iter().any(|fence| {
            self.before.holder(resource, fence.token).is_some_and(|known| {
                let mut claims = known.granted.claims();
                claims.any(|claim| claim.mode == Mode::Exclusive && claim.covers(resource))
            })
        })
    }
}
