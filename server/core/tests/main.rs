//! Tests of the machine.

mod scripts;
mod show;
