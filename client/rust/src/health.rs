//! Is anybody there? Owns the ping and the health call of gRPC (`grpc.health.v1`), judges
//! neither.

use std::time::Duration;

use singletrack_proto::v1::{PingRequest, operation::Operation};
use tokio::time::Instant;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{Client, Error};

/// What the server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It runs, but takes no calls: it is starting or stopping.
    NotServing,
    /// It doesn't say.
    Unknown,
}

impl Health {
    /// The name as `grpc.health.v1` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl Client {
    /// Asks for an answer and tells how long it took, there and back.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let sent = Instant::now();
        self.call(Operation::Ping(PingRequest::default())).await?;
        Ok(sent.elapsed())
    }

    /// As [`Client::ping`], there and back with a payload of at most 4,096 bytes.
    ///
    /// # Errors
    /// `TOO_LARGE`, and what every call may meet.
    pub async fn ping_with(&self, payload: Vec<u8>) -> Result<Duration, Error> {
        let sent = Instant::now();
        self.call(Operation::Ping(PingRequest { payload: payload.into() })).await?;
        Ok(sent.elapsed())
    }

    /// Asks the server as a whole for its health.
    ///
    /// # Errors
    /// When the server can't be reached or doesn't offer the health service.
    pub async fn health(&self) -> Result<Health, Error> {
        let mut stub = HealthClient::new(self.channel());
        // An empty service name means the server as a whole.
        let request = self.request(HealthCheckRequest::default(), self.timeout());
        let reply = self.finish(self.timeout(), stub.check(request)).await?;
        Ok(match reply.status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing => Health::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Health::Unknown,
        })
    }
}
