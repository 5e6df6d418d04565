//! LeaseService: decode, ask the track, encode.

use std::sync::Arc;

use singletrack_core::reply::Reply;
use singletrack_proto::v1::{self, lease_service_server::LeaseService};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        Ask,
        asking::{Asking, call},
        decode, encode, refuse,
    },
    telemetry::Metrics,
};

/// Leases over unary calls.
#[derive(Debug)]
pub(crate) struct Leases<A>(Asking<A>);

impl<A: Ask> Leases<A> {
    /// A service that asks `track`.
    pub(crate) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self(Asking::new(track, metrics))
    }
}

#[tonic::async_trait]
impl<A: Ask> LeaseService for Leases<A> {
    async fn acquire_lease(
        &self,
        request: Request<v1::AcquireLeaseRequest>,
    ) -> Result<Response<v1::AcquireLeaseResponse>, Status> {
        call!(self, request, decode::acquire_lease, Reply::Acquired(grant) => encode::grant(&grant))
    }

    async fn abandon_lease(
        &self,
        request: Request<v1::AbandonLeaseRequest>,
    ) -> Result<Response<v1::AbandonLeaseResponse>, Status> {
        call!(self, request, decode::abandon_lease, Reply::Abandoned(state) => encode::abandoned(state))
    }

    async fn renew_leases(
        &self,
        request: Request<v1::RenewLeasesRequest>,
    ) -> Result<Response<v1::RenewLeasesResponse>, Status> {
        call!(self, request, decode::renew_leases, Reply::Renewed(results) => {
            for refusal in results.iter().filter_map(|result| result.as_ref().err()) {
                self.0.metrics.refused(refuse::reason(refusal));
            }
            encode::renewed(&results)
        })
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        call!(self, request, decode::release_lease, Reply::Released { replayed } => encode::released(replayed))
    }

    async fn get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Result<Response<v1::GetLeaseResponse>, Status> {
        call!(self, request, decode::get_lease, Reply::Found(found) => encode::found(&found))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        call!(self, request, decode::list_leases, Reply::Page { leases, next } => encode::page(&leases, next))
    }

    async fn check_lease(
        &self,
        request: Request<v1::CheckLeaseRequest>,
    ) -> Result<Response<v1::CheckLeaseResponse>, Status> {
        call!(self, request, decode::check_lease, Reply::Checked(checked) => encode::checked(&checked))
    }

    async fn force_release_lease(
        &self,
        request: Request<v1::ForceReleaseLeaseRequest>,
    ) -> Result<Response<v1::ForceReleaseLeaseResponse>, Status> {
        call!(self, request, decode::force_release_lease, Reply::ForceReleased { holder, replayed } => {
            encode::force_released(&holder, replayed)
        })
    }

    async fn transfer_lease(
        &self,
        request: Request<v1::TransferLeaseRequest>,
    ) -> Result<Response<v1::TransferLeaseResponse>, Status> {
        call!(self, request, decode::transfer_lease, Reply::Transferred(grant) => encode::transferred(&grant))
    }

    async fn request_lease_yield(
        &self,
        request: Request<v1::RequestLeaseYieldRequest>,
    ) -> Result<Response<v1::RequestLeaseYieldResponse>, Status> {
        call!(self, request, decode::request_lease_yield, Reply::YieldRequested(holders) => encode::yield_requested(&holders))
    }

    async fn answer_lease_yield(
        &self,
        request: Request<v1::AnswerLeaseYieldRequest>,
    ) -> Result<Response<v1::AnswerLeaseYieldResponse>, Status> {
        call!(self, request, decode::answer_lease_yield, Reply::YieldAnswered(count) => encode::yield_answered(count))
    }

    async fn list_lease_waiters(
        &self,
        request: Request<v1::ListLeaseWaitersRequest>,
    ) -> Result<Response<v1::ListLeaseWaitersResponse>, Status> {
        call!(self, request, decode::list_lease_waiters, Reply::Waiters { waiters, next } => encode::waiter_page(&waiters, next))
    }

    async fn get_lease_stats(
        &self,
        request: Request<v1::GetLeaseStatsRequest>,
    ) -> Result<Response<v1::GetLeaseStatsResponse>, Status> {
        call!(self, request, decode::get_lease_stats, Reply::Stats(stats) => encode::lease_stats(&stats))
    }
}
