//! The pure machine of Singletrack.
//!
//! Commands go in, outcomes and changes come out. `no_std`: no clock, thread, file,
//! randomness or unordered iteration exists here, so the compiler guards what a reviewer
//! would have to.

#![no_std]

extern crate alloc;

pub mod body;
pub mod change;
pub mod command;
pub mod decision;
pub mod fence;
pub mod limits;
pub mod machine;
pub mod memory;
pub mod motion;
pub mod refusal;
pub mod reply;
pub mod session;
pub mod state;
pub mod table;
pub mod types;

mod absorb;
mod deadline;
mod dump;
mod invariant;
mod lease;
mod overlay;
mod record;
mod replay;
mod shift;
mod transact;
mod tree;
