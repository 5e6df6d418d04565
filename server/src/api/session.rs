//! SessionService over unary calls: decode, ask the track, encode. Its stream is `exchange`'s.

use std::{pin::Pin, sync::Arc};

use singletrack_core::{reply::Reply, types::Namespace};
use singletrack_proto::v1::{self, session_service_server::SessionService};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::{
        Ask,
        decode::{self, Context},
        encode,
        flaws::Flaws,
        refuse, status,
    },
    telemetry::Metrics,
    track::{CallError, Question},
};

/// Sessions over unary calls.
#[derive(Debug)]
pub(crate) struct Sessions<A> {
    track: A,
    metrics: Arc<Metrics>,
    default: Namespace,
}

// === impl Sessions ===

impl<A: Ask> Sessions<A> {
    /// A service that asks `track`.
    pub(crate) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self { track, metrics, default: Namespace::default() }
    }

    async fn ask<M>(
        &self,
        request: &Request<M>,
        decode: impl FnOnce(Context, &M, Flaws) -> Result<Question, Flaws>,
    ) -> Result<Reply, Status> {
        let question = Context::read(request.metadata().as_ref(), &self.default)
            .and_then(|context| decode(context, request.get_ref(), Flaws::under("")))
            .map_err(|flaws| status::of_flaws(&flaws, &self.metrics))?;
        self.track.ask(question).await.map_err(|error| status::of_call(&error, &self.metrics))
    }

    /// A reply to another question than was asked.
    fn mismatch(&self) -> Status {
        status::of_call(&CallError::Internal, &self.metrics)
    }
}

#[tonic::async_trait]
impl<A: Ask> SessionService for Sessions<A> {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let reply = self.ask(&request, decode::open_session).await?;
        let Reply::SessionOpened { session_id, remaining_ms } = reply else {
            return Err(self.mismatch());
        };
        Ok(Response::new(encode::session_opened(session_id, remaining_ms)))
    }

    async fn keep_session_alive(
        &self,
        request: Request<v1::KeepSessionAliveRequest>,
    ) -> Result<Response<v1::KeepSessionAliveResponse>, Status> {
        let reply = self.ask(&request, decode::keep_session_alive).await?;
        let Reply::SessionKept(remaining_ms) = reply else { return Err(self.mismatch()) };
        Ok(Response::new(v1::KeepSessionAliveResponse { remaining_ms }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let reply = self.ask(&request, decode::close_session).await?;
        let Reply::SessionClosed { replayed } = reply else { return Err(self.mismatch()) };
        Ok(Response::new(v1::CloseSessionResponse { replayed }))
    }

    async fn list_session_leases(
        &self,
        request: Request<v1::ListSessionLeasesRequest>,
    ) -> Result<Response<v1::ListSessionLeasesResponse>, Status> {
        let reply = self.ask(&request, decode::list_session_leases).await?;
        let Reply::SessionLeases(page) = reply else { return Err(self.mismatch()) };
        Ok(Response::new(encode::session_leases(&page)))
    }

    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingResponse>, Status> {
        let flaws = match Context::read(request.metadata().as_ref(), &self.default) {
            Ok(_) => {
                let mut flaws = Flaws::under("");
                decode::ping(request.get_ref(), &mut flaws);
                flaws
            }
            Err(flaws) => flaws,
        };
        if !flaws.is_empty() {
            return Err(status::of_flaws(&flaws, &self.metrics));
        }
        Ok(Response::new(v1::PingResponse { payload: request.into_inner().payload }))
    }

    /// Never reached: the layer gives streams to `exchange`, whose codec refuses a frame that
    /// can't be read without ending the stream, which a generated method can't have.
    async fn exchange(
        &self,
        _: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(status::of(refuse::unimplemented(""), &self.metrics))
    }
}
