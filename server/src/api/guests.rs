//! Services of others on our port: health and reflection.
//!
//! Owns which there are and what they are told; their behaviour is tonic's.

use singletrack_proto::{
    DESCRIPTOR_SET,
    v1::{lease_service_server, session_service_server},
};
use tonic::server::NamedService;
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_reflection::server::Builder;
use tower::util::BoxCloneSyncService;

use crate::api::layer::{Guest, MESSAGE_BYTES_MAX};

/// Names whose health is told; the empty one is the whole server's.
pub(crate) const SERVICES: [&str; 3] =
    ["", lease_service_server::SERVICE_NAME, session_service_server::SERVICE_NAME];

/// Health always; both versions of reflection, as old tools know the older one only.
pub(crate) fn all(reflection: bool) -> (HealthReporter, Vec<(&'static str, Guest)>) {
    let (reporter, health) = health_reporter();
    let mut guests = vec![guest(health.max_decoding_message_size(MESSAGE_BYTES_MAX))];
    if reflection {
        let known = "every registered descriptor set is compiled into this program";
        guests.push(guest(described().build_v1().expect(known)));
        guests.push(guest(described().build_v1alpha().expect(known)));
    }
    (reporter, guests)
}

/// Our services, health, and the types of refusal details.
fn described() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

fn guest<S>(service: S) -> (&'static str, Guest)
where
    S: NamedService
        + tower::Service<
            http::Request<tonic::body::Body>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    (S::NAME, BoxCloneSyncService::new(service))
}
