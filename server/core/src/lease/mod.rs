//! Leases: the right to a resource until a deadline, with a fencing token.

pub(crate) mod acquire;
pub(crate) mod blockers;
pub(crate) mod claims;
pub(crate) mod deadlock;
pub(crate) mod end;
pub(crate) mod explain;
pub(crate) mod keep;
pub(crate) mod show;
pub(crate) mod transfer;
pub(crate) mod wait;
pub(crate) mod yields;
