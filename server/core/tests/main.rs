//! Tests of the machine: scripts that show whole outcomes, and random histories against an
//! independent model.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

mod model;
mod property;
mod scripts;
mod show;
