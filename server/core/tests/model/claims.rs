//! What touches, what clashes, who may be granted: decision 7, word for word, by looking at
//! everything.

use singletrack_core::types::{Mode, Reach, Target};

/// `inner` is `outer` or below it, by segments.
pub(crate) fn is_below_or_same(inner: &str, outer: &str) -> bool {
    let inner: Vec<&str> = inner.split('/').collect();
    let outer: Vec<&str> = outer.split('/').collect();
    inner.len() >= outer.len() && inner[..outer.len()] == outer[..]
}

/// The target is about this resource, or about a subtree it is in.
pub(crate) fn covers(target: &Target, name: &str) -> bool {
    match target.reach {
        Reach::Exact => target.resource.as_str() == name,
        Reach::Subtree => is_below_or_same(name, target.resource.as_str()),
    }
}

pub(crate) fn touch(a: &Target, b: &Target) -> bool {
    covers(a, b.resource.as_str()) || covers(b, a.resource.as_str())
}

pub(crate) fn clash(a: &Target, b: &Target) -> bool {
    if !touch(a, b) {
        return false;
    }
    match (a.mode, b.mode) {
        (Mode::Shared, Mode::Shared) => false,
        (Mode::Permits(_), Mode::Permits(_)) => a.resource != b.resource,
        (Mode::Exclusive | Mode::Shared | Mode::Permits(_), _) => true,
    }
}

pub(crate) fn any_clash(a: &[Target], b: &[Target]) -> bool {
    a.iter().any(|a| b.iter().any(|b| clash(a, b)))
}

/// How many permits of a resource are in these targets.
pub(crate) fn permits_of(targets: &[Target], name: &str) -> u64 {
    let of = targets.iter().filter(|it| it.resource.as_str() == name);
    of.map(|it| match it.mode {
        Mode::Permits(permits) => u64::from(permits.count()),
        Mode::Exclusive | Mode::Shared => 0,
    })
    .sum()
}

/// The limit that these targets say of a resource.
pub(crate) fn limit_of(targets: &[Target], name: &str) -> Option<u32> {
    targets.iter().filter(|it| it.resource.as_str() == name).find_map(|it| match it.mode {
        Mode::Permits(permits) => Some(permits.limit()),
        Mode::Exclusive | Mode::Shared => None,
    })
}

/// How one target stands: what is in its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Obstacles {
    /// Something clashes.
    pub(crate) is_clashing: bool,
    /// Permits don't fit.
    pub(crate) is_short: bool,
    /// Live leases that clash, or have permits of the same: indices.
    pub(crate) leases: Vec<usize>,
    /// Attached waiters before that clash, or ask for permits of the same: indices.
    pub(crate) waiters: Vec<usize>,
    pub(crate) is_closed: bool,
    pub(crate) permits_used: u64,
    pub(crate) permits_wanted: u64,
}

impl Obstacles {
    pub(crate) fn is_free(&self) -> bool {
        !self.is_clashing && !self.is_short
    }
}

/// Judges one target against live leases, attached waiters before it, and closed claims.
pub(crate) fn obstacles(
    target: &Target,
    leases: &[&[Target]],
    before: &[&[Target]],
    closed: &[&[Target]],
) -> Obstacles {
    let name = target.resource.as_str();
    let clashing = |all: &[&[Target]]| -> Vec<usize> {
        (0..all.len()).filter(|at| all[*at].iter().any(|it| clash(it, target))).collect()
    };
    let is_clashing = [leases, before, closed].into_iter().any(|all| !clashing(all).is_empty());
    let mut found = Obstacles {
        is_clashing,
        leases: clashing(leases),
        waiters: clashing(before),
        is_closed: !clashing(closed).is_empty(),
        ..Obstacles::default()
    };
    let sum = |all: &[&[Target]]| all.iter().map(|it| permits_of(it, name)).sum::<u64>();
    // What is closed is as good as held.
    found.permits_used = sum(leases) + sum(closed);
    if let Mode::Permits(permits) = target.mode {
        found.permits_wanted = sum(before);
        let all = found.permits_used + found.permits_wanted + u64::from(permits.count());
        found.is_short = all > u64::from(permits.limit());
        // Who has permits, or asks for some before, is told of too.
        let with = |all: &[&[Target]]| -> Vec<usize> {
            (0..all.len()).filter(|at| permits_of(all[*at], name) > 0).collect()
        };
        found.leases.extend(with(leases));
        found.waiters.extend(with(before));
        found.leases.sort_unstable();
        found.waiters.sort_unstable();
    }
    found
}
