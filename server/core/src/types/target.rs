//! What a lease is for: resources, how each is shared, how far down it reaches; and what clashes.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::fmt;

use super::{Flaw, ResourceName, flaw};
use crate::limits;

/// How a lease shares its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Nobody else holds the resource.
    Exclusive,
    /// Any number of shared leases, no exclusive one.
    Shared,
    /// Some of a number of permits.
    Permits(Permits),
}

/// Some of a number of permits: 1 <= count <= limit <= [`limits::PERMITS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permits {
    count: u32,
    limit: u32,
}

/// How far down a target reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// The resource alone.
    #[default]
    Exact,
    /// The resource and everything below it.
    Subtree,
}

/// What a lease is asked for. Permits are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The resource.
    pub resource: ResourceName,
    /// How it is to be shared.
    pub mode: Mode,
    /// How far down it reaches.
    pub reach: Reach,
}

/// A target, borrowed: what a lease, or a waiter for one, claims of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The resource.
    pub resource: &'a ResourceName,
    /// How it is shared.
    pub mode: Mode,
    /// How far down it reaches.
    pub reach: Reach,
}

/// What a lease is asked for, all of it: 1..=[`limits::TARGETS_MAX`] targets of which no two
/// touch.
#[derive(Clone, PartialEq, Eq)]
pub struct Targets(Box<[Target]>);

// === impl Permits ===

impl Permits {
    /// The only one there is.
    pub(crate) const ONE: Self = Self { count: 1, limit: 1 };

    /// `count` of `limit` permits.
    ///
    /// # Errors
    /// When they are outside their bounds.
    pub fn parse(count: u32, limit: u32) -> Result<Self, Flaw> {
        let maximum = limits::PERMITS_MAX;
        if limit == 0 || limit > maximum {
            return Err(flaw(format!("a limit of permits is 1..{maximum}, found {limit}")));
        }
        if count == 0 || count > limit {
            return Err(flaw(format!("permits are 1..limit, found {count} of {limit}")));
        }
        Ok(Self { count, limit })
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Of how many.
    #[must_use]
    pub const fn limit(self) -> u32 {
        self.limit
    }
}

// === impl Target ===

impl Target {
    /// One resource, exactly.
    #[must_use]
    pub const fn exact(resource: ResourceName, mode: Mode) -> Self {
        Self { resource, mode, reach: Reach::Exact }
    }

    /// The same, borrowed.
    #[must_use]
    pub const fn claim(&self) -> Claim<'_> {
        Claim { resource: &self.resource, mode: self.mode, reach: self.reach }
    }
}

// === impl Claim ===

impl Claim<'_> {
    /// It is about `resource`, or about a subtree it is in.
    #[must_use]
    pub fn covers(&self, resource: &ResourceName) -> bool {
        match self.reach {
            Reach::Exact => self.resource == resource,
            Reach::Subtree => resource.is_within(self.resource),
        }
    }

    /// The two are, at least in part, about the same.
    #[must_use]
    pub fn touches(&self, other: Claim<'_>) -> bool {
        self.covers(other.resource) || other.covers(self.resource)
    }

    /// The two may not be held by different leases at once. (Permits have a sum beside that.)
    #[must_use]
    pub fn clashes(&self, other: Claim<'_>) -> bool {
        let shares = match (self.mode, other.mode) {
            (Mode::Shared, Mode::Shared) => true,
            (Mode::Permits(_), Mode::Permits(_)) => self.resource == other.resource,
            (Mode::Exclusive | Mode::Shared | Mode::Permits(_), _) => false,
        };
        !shares && self.touches(other)
    }

    /// As a target of its own.
    #[must_use]
    pub fn to_target(self) -> Target {
        Target { resource: self.resource.clone(), mode: self.mode, reach: self.reach }
    }

    pub(crate) const fn permits(&self) -> u64 {
        match self.mode {
            Mode::Permits(permits) => permits.count as u64,
            Mode::Exclusive | Mode::Shared => 0,
        }
    }
}

// === impl Targets ===

impl Targets {
    /// All of it.
    ///
    /// # Errors
    /// With the index of the target at fault: there are none or too many, a subtree of permits,
    /// two that touch, or too many bytes of names in all.
    pub fn parse(targets: Vec<Target>) -> Result<Self, (usize, Flaw)> {
        let maximum = limits::TARGETS_MAX;
        if targets.is_empty() {
            return Err((0, flaw(String::from("a target is required"))));
        }
        if targets.len() > maximum {
            let description = format!("at most {maximum} targets, found {}", targets.len());
            return Err((maximum, Flaw { description, too_large: true }));
        }
        let mut bytes = 0;
        for (index, target) in targets.iter().enumerate() {
            if target.reach == Reach::Subtree && matches!(target.mode, Mode::Permits(_)) {
                return Err((index, flaw(String::from("a subtree can't be divided into permits"))));
            }
            bytes += target.resource.as_str().len();
            if bytes > limits::TARGETS_BYTES_MAX {
                let maximum = limits::TARGETS_BYTES_MAX;
                let description = format!("the names of all targets have at most {maximum} bytes");
                return Err((index, Flaw { description, too_large: true }));
            }
        }
        let mut segments = 0;
        for (index, target) in targets.iter().enumerate() {
            segments += target.resource.as_str().split('/').count();
            if segments > limits::TARGETS_SEGMENTS_MAX {
                let maximum = limits::TARGETS_SEGMENTS_MAX;
                let description =
                    format!("the names of all targets have at most {maximum} segments");
                return Err((index, Flaw { description, too_large: true }));
            }
        }
        if let Some((index, first)) = touching(&targets) {
            return Err((index, flaw(format!("it touches targets[{first}]: name each part once"))));
        }
        Ok(Self(targets.into()))
    }

    /// One.
    #[must_use]
    pub fn one(target: Target) -> Self {
        Self([target].into())
    }

    /// Them.
    #[must_use]
    pub fn as_slice(&self) -> &[Target] {
        &self.0
    }

    /// Each as a claim.
    pub fn claims(&self) -> impl ExactSizeIterator<Item = Claim<'_>> {
        self.0.iter().map(Target::claim)
    }

    /// The first of them.
    #[must_use]
    pub fn first(&self) -> &Target {
        self.0.first().expect("there is one at least")
    }
}

/// Two targets that touch, the later one first.
fn touching(targets: &[Target]) -> Option<(usize, usize)> {
    // In the order of paths, segment by segment, what is below a path follows it at once.
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let segments = |index: &usize| {
        let name = targets.get(*index).map_or("", |target| target.resource.as_str());
        name.split('/').collect::<Vec<_>>()
    };
    order.sort_by_cached_key(segments);
    let mut subtree: Option<(usize, &Target)> = None;
    let mut before: Option<(usize, &Target)> = None;
    for index in order {
        let target = targets.get(index)?;
        for (other, known) in [subtree, before].into_iter().flatten() {
            if known.claim().touches(target.claim()) {
                return Some((index.max(other), index.min(other)));
            }
        }
        if target.reach == Reach::Subtree {
            subtree = Some((index, target));
        }
        before = Some((index, target));
    }
    None
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
