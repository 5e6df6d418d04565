//! Fences: "only if this token is still current".
//!
//! The list of targets is open: each noun that hands out tokens adds its own.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

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

impl Fence {
    /// About the bytes that it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        const FIXED: usize = 48;
        let FenceTarget::Resource(resource) = &self.target;
        FIXED + resource.as_str().len()
    }
}

/// The fences that count for one operation, and the state on which they are judged.
pub(crate) struct Fences<'a> {
    before: View<'a>,
    own: &'a [Fence],
    shared: Option<&'a Proofs<'a>>,
}

/// Fences that count for all operations of a transaction. What they prove is found out once for
/// each resource.
pub(crate) struct Proofs<'a> {
    before: View<'a>,
    fences: BTreeMap<Token, &'a Fence>,
    proven: RefCell<BTreeMap<ResourceName, bool>>,
}

impl<'a> Fences<'a> {
    /// Judged on this state, which has no overlay.
    pub(crate) const fn new(before: View<'a>, own: &'a [Fence]) -> Self {
        Self { before, own, shared: None }
    }

    /// The same, with those of the whole transaction.
    pub(crate) const fn within(before: View<'a>, own: &'a [Fence], all: &'a Proofs<'a>) -> Self {
        Self { before, own, shared: Some(all) }
    }

    /// One of them has the current token of a lease that holds this resource exclusive.
    pub(crate) fn prove(&self, resource: &ResourceName) -> bool {
        self.own.iter().any(|fence| proves(self.before, fence, resource))
            || self.shared.is_some_and(|all| all.prove(resource))
    }
}

impl<'a> Proofs<'a> {
    /// Judged on this state, which has no overlay.
    pub(crate) fn new(before: View<'a>, fences: impl Iterator<Item = &'a Fence>) -> Self {
        let fences = fences.map(|fence| (fence.token, fence)).collect();
        Self { before, fences, proven: RefCell::default() }
    }

    fn prove(&self, resource: &ResourceName) -> bool {
        let known = self.proven.borrow().get(resource).copied();
        known.unwrap_or_else(|| {
            let is_proven = self.fences.values().any(|fence| proves(self.before, fence, resource));
            self.proven.borrow_mut().insert(resource.clone(), is_proven);
            is_proven
        })
    }
}

/// The token alone says which lease it is.
fn proves(view: View<'_>, fence: &Fence, resource: &ResourceName) -> bool {
    view.holder(resource, fence.token).is_some_and(|known| {
        let mut claims = known.granted.claims();
        claims.any(|claim| claim.mode == Mode::Exclusive && claim.covers(resource))
    })
}
