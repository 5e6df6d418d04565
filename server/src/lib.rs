//! The Singletrack server: track, store and gRPC services around the machine.
//!
//! Arrows: `api` → `track` → `store` → core types. Only `api` knows tonic; only `store`
//! knows files; only `clock` reads the time.

pub mod clock;
pub mod store;
pub mod track;
