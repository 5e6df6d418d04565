//! Tests of the machine: scripts that show whole outcomes, and random histories against an
//! independent model.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a panic fails the test"
)]

mod body;
mod model;
mod property;
mod scripts;
mod show;
mod targets;
mod verbs;
