//! Tests that start real processes: the command line, the server, and both under faults.
//!
//! They belong to the package of the binary, as only there cargo builds it for them. Every
//! wait in here is bounded in time, and every process ends with its test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test says what it skipped and what it measured")]

#[path = "../support/agents.rs"]
mod agents;
#[path = "../support/fake.rs"]
mod fake;
#[path = "../support/linear/mod.rs"]
mod linear;
#[path = "../support/locks_oracle.rs"]
mod locks_oracle;
#[path = "../support/oracle.rs"]
mod oracle;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/road.rs"]
mod road;

mod command;
mod postgres;
mod server;
mod tools;

mod bench;
mod cli_answers;
mod cli_leases;
mod cli_menu;
mod cli_records;
mod examples;
mod fencing;
mod grpcurl;
mod kill_records;
mod kill_rounds;
mod kill_sessions;
mod linear_kills;
mod lock;
mod lock_models;
mod menu;
mod pauses;
mod race;
mod readme;
mod records;
