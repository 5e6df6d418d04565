//! The Singletrack server: track, store and gRPC services around the machine.
//!
//! Arrows: `api` → `track` → `store` → core types. Only `api` knows tonic; only `store`
//! knows files; only `clock` reads the time.

pub mod admin;
pub mod api;
pub mod clock;
pub mod config;
mod files;
pub mod run;
pub mod server;
pub mod start;
pub mod store;
pub mod telemetry;
pub mod track;
