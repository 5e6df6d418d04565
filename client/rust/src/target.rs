//! What a lease is for: resources, each with how it is shared and how far down it reaches. Owns
//! both ways between these words and the wire; leaves the judging of values to the server.

use singletrack_proto::v1;

/// How a lease shares its resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Nobody else holds the resource.
    #[default]
    Exclusive,
    /// Any number of shared leases, no exclusive one.
    Shared,
    /// Some of a number of permits: a semaphore.
    Permits {
        /// How many are asked for, 1 to `limit`.
        count: u32,
        /// How many there are in all, 1 to 1,000,000. The first live holder or waiter sets it.
        limit: u32,
    },
}

/// How far down a lease reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// The resource of this name alone.
    #[default]
    Exact,
    /// The resource and everything below it: `a` covers `a/b`, not `ab`.
    Subtree,
}

/// One resource that a lease is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Target {
    /// A `/`-path of 1..512 bytes.
    pub resource: String,
    /// How it is shared.
    pub mode: Mode,
    /// How far down it reaches.
    pub reach: Reach,
}

// === impl Target ===

impl Target {
    /// `resource` alone, for oneself.
    #[must_use]
    pub fn new(resource: impl Into<String>) -> Self {
        Self { resource: resource.into(), mode: Mode::Exclusive, reach: Reach::Exact }
    }

    /// Together with other shared leases.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// `count` of `limit` permits.
    #[must_use]
    pub fn permits(mut self, count: u32, limit: u32) -> Self {
        self.mode = Mode::Permits { count, limit };
        self
    }

    /// With everything below it.
    #[must_use]
    pub fn subtree(mut self) -> Self {
        self.reach = Reach::Subtree;
        self
    }

    pub(crate) fn into_wire(self) -> v1::LeaseTarget {
        let (mode, permits, limit) = match self.mode {
            Mode::Exclusive => (v1::LeaseMode::Exclusive, 0, 0),
            Mode::Shared => (v1::LeaseMode::Shared, 0, 0),
            Mode::Permits { count, limit } => (v1::LeaseMode::Permits, count, limit),
        };
        let reach = match self.reach {
            Reach::Exact => v1::LeaseReach::Exact,
            Reach::Subtree => v1::LeaseReach::Subtree,
        };
        v1::LeaseTarget {
            resource: self.resource,
            mode: mode.into(),
            permits,
            limit,
            reach: reach.into(),
        }
    }

    pub(crate) fn from_wire(target: v1::LeaseTarget) -> Self {
        let mode = match target.mode() {
            v1::LeaseMode::Shared => Mode::Shared,
            v1::LeaseMode::Permits => Mode::Permits { count: target.permits, limit: target.limit },
            v1::LeaseMode::Exclusive | v1::LeaseMode::Unspecified => Mode::Exclusive,
        };
        let reach = match target.reach() {
            v1::LeaseReach::Subtree => Reach::Subtree,
            v1::LeaseReach::Exact | v1::LeaseReach::Unspecified => Reach::Exact,
        };
        Self { resource: target.resource, mode, reach }
    }
}

pub(crate) fn targets_from_wire(targets: Vec<v1::LeaseTarget>) -> Vec<Target> {
    targets.into_iter().map(Target::from_wire).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_the_same_there_and_back() {
        for target in [
            Target::new("a/b"),
            Target::new("a/b").shared(),
            Target::new("a/b").permits(2, 5),
            Target::new("a").subtree(),
            Target::new("a").shared().subtree(),
        ] {
            assert_eq!(Target::from_wire(target.clone().into_wire()), target);
        }
    }
}
