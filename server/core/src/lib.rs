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
pub mod fence;
pub mod limits;
pub mod refusal;
pub mod reply;
pub mod types;
