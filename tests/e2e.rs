//! End to end: a real server in this process, its real sockets and its real disk, asked by the
//! generated stubs and by the Rust client.
//!
//! What one part does by itself is tested beside that part; what processes do is tested in
//! `tests/process`. Every wait in here is bounded.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

#[path = "support/agents.rs"]
mod agents;
#[path = "support/linear/mod.rs"]
mod linear;
#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/random.rs"]
mod random;
#[path = "support/road.rs"]
mod road;

#[path = "e2e/courier.rs"]
mod courier;
#[path = "e2e/rig.rs"]
mod rig;

#[path = "e2e/field.rs"]
mod field;
#[path = "e2e/field_recipes.rs"]
mod field_recipes;
#[path = "e2e/fields.rs"]
mod fields;
#[path = "e2e/leases.rs"]
mod leases;
#[path = "e2e/linear_driver.rs"]
mod linear_driver;
#[path = "e2e/linear_etcd.rs"]
mod linear_etcd;
#[path = "e2e/linear_records.rs"]
mod linear_records;
#[path = "e2e/menu.rs"]
mod menu;
#[path = "e2e/records.rs"]
mod records;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/replies.rs"]
mod replies;
#[path = "e2e/restart.rs"]
mod restart;
#[path = "e2e/service.rs"]
mod service;
#[path = "e2e/sessions.rs"]
mod sessions;
#[path = "e2e/tidy.rs"]
mod tidy;
