//! Leases: the right to a resource until a deadline, with a fencing token.

pub(crate) mod acquire;
pub(crate) mod end;
pub(crate) mod keep;
pub(crate) mod show;
pub(crate) mod wait;
