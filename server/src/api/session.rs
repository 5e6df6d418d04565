//! SessionService: so far, Ping.

use std::sync::Arc;

use singletrack_core::types::Namespace;
use singletrack_proto::v1::{self, session_service_server::SessionService};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        decode::{self, Context},
        flaws::Flaws,
        status,
    },
    telemetry::Metrics,
};

/// Answers without the machine and without the disk.
#[derive(Debug)]
pub(crate) struct Sessions {
    metrics: Arc<Metrics>,
    default: Namespace,
}

// === impl Sessions ===

impl Sessions {
    /// The service.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, default: Namespace::default() }
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
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
}
