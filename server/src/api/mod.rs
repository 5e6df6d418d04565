//! The edge: gRPC in, questions to the track; replies back, gRPC out.
//!
//! The only part of the server that knows tonic. Decodes and validates, hands over, encodes;
//! decides nothing.

pub(crate) mod accept;
mod asking;
pub(crate) mod deadline;
pub(crate) mod decode;
mod draw;
pub(crate) mod encode;
pub(crate) mod exchange;
pub(crate) mod flaws;
pub(crate) mod guests;
pub(crate) mod identity;
pub(crate) mod intake;
pub(crate) mod layer;
pub(crate) mod lease;
pub(crate) mod record;
pub(crate) mod refuse;
pub(crate) mod session;
pub(crate) mod status;

use singletrack_core::{reply::Reply, types::Namespace};

use crate::track::{CallError, Handle, Heard, Line, Question};

/// Whoever answers questions: the track, or a double of it in a test.
///
/// Dropping the future detaches the call.
pub trait Ask: Clone + Send + Sync + 'static {
    /// What a stream talks through.
    type Line: Converse;

    /// Opens a line for a stream.
    fn line(&self) -> Self::Line;

    /// Hands a question over and waits for its answer.
    fn ask(&self, question: Question) -> impl Future<Output = Result<Reply, CallError>> + Send;
}

/// A stream's way to the track. Dropping it detaches all its calls.
pub trait Converse: Send + 'static {
    /// Hands questions over, in this order. Each has a tag, not 0, that none under way has.
    /// What can't be taken is refused at once; the others are heard of later.
    ///
    /// A question with [`Command::AttachSession`](singletrack_core::command::Command) makes
    /// this line the session's: from then on notices of the session are heard here.
    fn submit(&mut self, questions: Vec<(u64, Question)>) -> Vec<(u64, CallError)>;

    /// Hands over what has no answer: acknowledgements of replies.
    fn tell(&mut self, question: Question);

    /// Ends the waits of these questions; those that are answered already are left as they are.
    fn cancel(&mut self, namespace: &Namespace, tags: &[u64]);

    /// Waits for what there is to hear: nearly always one batch of the track's; never empty.
    /// Nothing is lost when the future is dropped.
    fn hear(&mut self) -> impl Future<Output = Vec<Heard>> + Send;

    /// Questions that are not answered yet.
    fn under_way(&self) -> usize;
}

impl Converse for Line {
    fn submit(&mut self, questions: Vec<(u64, Question)>) -> Vec<(u64, CallError)> {
        Self::submit(self, questions)
    }

    fn tell(&mut self, question: Question) {
        Self::tell(self, question);
    }

    fn cancel(&mut self, namespace: &Namespace, tags: &[u64]) {
        Self::cancel(self, namespace, tags);
    }

    fn hear(&mut self) -> impl Future<Output = Vec<Heard>> + Send {
        Self::hear(self)
    }

    fn under_way(&self) -> usize {
        Self::under_way(self)
    }
}

impl Ask for Handle {
    type Line = Line;

    fn line(&self) -> Line {
        Self::line(self)
    }

    fn ask(&self, question: Question) -> impl Future<Output = Result<Reply, CallError>> + Send {
        self.call(question)
    }
}
