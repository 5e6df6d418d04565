//! What every service over unary calls does: read the metadata, decode, ask the track.

use std::sync::Arc;

use singletrack_core::{reply::Reply, types::Namespace};
use tonic::{Request, Status};

use crate::{
    api::{Ask, decode::Context, flaws::Flaws, status},
    telemetry::Metrics,
    track::{CallError, Question},
};

/// A service's way to the track.
#[derive(Debug)]
pub(super) struct Asking<A> {
    track: A,
    pub(super) metrics: Arc<Metrics>,
    default: Namespace,
}

impl<A: Ask> Asking<A> {
    /// Asks `track`.
    pub(super) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self { track, metrics, default: Namespace::default() }
    }

    /// What a call speaks beside its message.
    pub(super) fn context<M>(&self, request: &Request<M>) -> Result<Context, Flaws> {
        Context::read(request.metadata().as_ref(), &self.default)
    }

    /// Decodes a call and asks what it asks.
    pub(super) async fn ask<M>(
        &self,
        request: &Request<M>,
        decode: impl FnOnce(Context, &M, Flaws) -> Result<Question, Flaws>,
    ) -> Result<Reply, Status> {
        let question = self
            .context(request)
            .and_then(|context| decode(context, request.get_ref(), Flaws::under("")));
        self.put(question).await
    }

    /// The same, with the message itself.
    pub(super) async fn ask_with<M>(
        &self,
        request: Request<M>,
        decode: impl FnOnce(Context, M, Flaws) -> Result<Question, Flaws>,
    ) -> Result<Reply, Status> {
        let context = self.context(&request);
        let question =
            context.and_then(|context| decode(context, request.into_inner(), Flaws::under("")));
        self.put(question).await
    }

    async fn put(&self, question: Result<Question, Flaws>) -> Result<Reply, Status> {
        let question = question.map_err(|flaws| status::of_flaws(&flaws, &self.metrics))?;
        self.track.ask(question).await.map_err(|error| status::of_call(&error, &self.metrics))
    }

    /// A reply to another question than was asked.
    pub(super) fn mismatch(&self) -> Status {
        status::of_call(&CallError::Internal, &self.metrics)
    }
}

/// Asks, and encodes the one reply that fits the question.
macro_rules! call {
    ($self:ident, $request:ident, $decode:path, $pattern:pat => $encode:expr) => {{
        let $pattern = $self.0.ask(&$request, $decode).await? else {
            return Err($self.0.mismatch());
        };
        Ok(::tonic::Response::new($encode))
    }};
}
pub(super) use call;
