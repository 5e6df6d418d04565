//! Records: versioned values. Writes may demand a version, a fence, or both.

pub(crate) mod absorb;
pub(crate) mod end;
pub(crate) mod expect;
pub(crate) mod increment;
pub(crate) mod protect;
pub(crate) mod put;
pub(crate) mod show;
pub(crate) mod view;
