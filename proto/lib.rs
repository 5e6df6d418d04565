//! The wire of Singletrack: generated messages and stubs, their codec, and the refusal table.
//!
//! Owns nothing else: validation is the server's, retrying the client's.

mod codec;
mod reason;

pub use codec::{UNDECODABLE, WireCodec, WireDecoder, WireEncoder};
pub use reason::{DOMAIN, Reason, Retry};

/// Messages and stubs of package `singletrack.v1`, as `proto/singletrack/v1` documents them.
#[expect(clippy::allow_attributes, reason = "tonic generates allow attributes")]
pub mod v1 {
    tonic::include_proto!("singletrack.v1");
}

/// The compiled `.proto` files with their comments, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/singletrack.bin"));
