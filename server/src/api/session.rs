//! SessionService over unary calls: decode, ask the track, encode. Its stream is `exchange`'s.

use std::{pin::Pin, sync::Arc};

use singletrack_core::reply::Reply;
use singletrack_proto::v1::{self, session_service_server::SessionService};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::{Ask, asking::Asking, decode, encode, flaws::Flaws, refuse, status},
    telemetry::Metrics,
};

/// Sessions over unary calls.
#[derive(Debug)]
pub(crate) struct Sessions<A>(Asking<A>);

impl<A: Ask> Sessions<A> {
    /// A service that asks `track`.
    pub(crate) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self(Asking::new(track, metrics))
    }
}

#[tonic::async_trait]
impl<A: Ask> SessionService for Sessions<A> {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let reply = self.0.ask(&request, decode::open_session).await?;
        let Reply::SessionOpened { session_id, remaining_ms } = reply else {
            return Err(self.0.mismatch());
        };
        Ok(Response::new(encode::session_opened(session_id, remaining_ms)))
    }

    async fn keep_session_alive(
        &self,
        request: Request<v1::KeepSessionAliveRequest>,
    ) -> Result<Response<v1::KeepSessionAliveResponse>, Status> {
        let reply = self.0.ask(&request, decode::keep_session_alive).await?;
        let Reply::SessionKept(remaining_ms) = reply else { return Err(self.0.mismatch()) };
        Ok(Response::new(v1::KeepSessionAliveResponse { remaining_ms }))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        let reply = self.0.ask(&request, decode::close_session).await?;
        let Reply::SessionClosed { replayed } = reply else { return Err(self.0.mismatch()) };
        Ok(Response::new(v1::CloseSessionResponse { replayed }))
    }

    async fn list_session_leases(
        &self,
        request: Request<v1::ListSessionLeasesRequest>,
    ) -> Result<Response<v1::ListSessionLeasesResponse>, Status> {
        let reply = self.0.ask(&request, decode::list_session_leases).await?;
        let Reply::SessionLeases(page) = reply else { return Err(self.0.mismatch()) };
        Ok(Response::new(encode::session_leases(&page)))
    }

    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingResponse>, Status> {
        let flaws = match self.0.context(&request) {
            Ok(_) => {
                let mut flaws = Flaws::under("");
                decode::ping(request.get_ref(), &mut flaws);
                flaws
            }
            Err(flaws) => flaws,
        };
        if !flaws.is_empty() {
            return Err(status::of_flaws(&flaws, &self.0.metrics));
        }
        Ok(Response::new(v1::PingResponse { payload: request.into_inner().payload }))
    }

    /// Never reached: the layer gives streams to `exchange`, whose codec refuses a frame that
    /// can't be read without ending the stream, which a generated method can't have.
    async fn exchange(
        &self,
        _: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(status::of(refuse::unimplemented(""), &self.0.metrics))
    }
}
