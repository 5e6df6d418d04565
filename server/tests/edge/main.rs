//! The edge over real sockets, with a double in the track's place: what goes in, what comes
//! out, and how a server lives and ends. Knows nothing of the machine.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod calls;
mod exchange;
mod harness;
mod lifecycle;
mod refusals;
mod wire;
