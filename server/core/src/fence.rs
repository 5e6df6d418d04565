//! Fences: "only if this token is still current".
//!
//! The list of targets is open: each noun that hands out tokens adds its own.

use crate::types::{ResourceName, Token};

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
