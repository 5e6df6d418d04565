//! The edge: gRPC in, questions to the track; replies back, gRPC out.
//!
//! The only part of the server that knows tonic. Decodes and validates, hands over, encodes;
//! decides nothing.

pub(crate) mod accept;
pub(crate) mod deadline;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod flaws;
pub(crate) mod guests;
pub(crate) mod identity;
pub(crate) mod intake;
pub(crate) mod layer;
pub(crate) mod lease;
pub(crate) mod refuse;
pub(crate) mod session;
pub(crate) mod status;

use singletrack_core::reply::Reply;

use crate::track::{CallError, Handle, Question};

/// Whoever answers questions: the track, or a double of it in a test.
///
/// Dropping the future detaches the call.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Hands a question over and waits for its answer.
    fn ask(&self, question: Question) -> impl Future<Output = Result<Reply, CallError>> + Send;
}

impl Ask for Handle {
    fn ask(&self, question: Question) -> impl Future<Output = Result<Reply, CallError>> + Send {
        self.call(question)
    }
}
