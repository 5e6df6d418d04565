//! RecordService and TransactService: decode, ask the track, encode.

use std::sync::Arc;

use singletrack_core::reply::Reply;
use singletrack_proto::v1::{
    self, record_service_server::RecordService, transact_service_server::TransactService,
};
use tonic::{Request, Response, Status};

use crate::{
    api::{
        Ask,
        asking::{Asking, call},
        decode, encode,
    },
    telemetry::Metrics,
};

/// Records over unary calls.
#[derive(Debug)]
pub(crate) struct Records<A>(Asking<A>);

/// Transactions over unary calls.
#[derive(Debug)]
pub(crate) struct Transactions<A>(Asking<A>);

impl<A: Ask> Records<A> {
    /// A service that asks `track`.
    pub(crate) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self(Asking::new(track, metrics))
    }
}

impl<A: Ask> Transactions<A> {
    /// A service that asks `track`.
    pub(crate) fn new(track: A, metrics: Arc<Metrics>) -> Self {
        Self(Asking::new(track, metrics))
    }
}

#[tonic::async_trait]
impl<A: Ask> RecordService for Records<A> {
    async fn get_record(
        &self,
        request: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        call!(self, request, decode::get_record, Reply::Record(info) => encode::record_found(&info))
    }

    async fn batch_get_records(
        &self,
        request: Request<v1::BatchGetRecordsRequest>,
    ) -> Result<Response<v1::BatchGetRecordsResponse>, Status> {
        call!(self, request, decode::batch_get_records, Reply::Records { results, revision } => {
            encode::batch(&results, revision)
        })
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        call!(self, request, decode::list_records, Reply::RecordPage { records, next, revision } => {
            encode::record_page(&records, next.as_ref(), revision)
        })
    }

    async fn put_record(
        &self,
        request: Request<v1::PutRecordRequest>,
    ) -> Result<Response<v1::PutRecordResponse>, Status> {
        call!(self, request, decode::put_record, Reply::RecordPut { put, replayed } => {
            encode::record_put(put, replayed)
        })
    }

    async fn increment_record(
        &self,
        request: Request<v1::IncrementRecordRequest>,
    ) -> Result<Response<v1::IncrementRecordResponse>, Status> {
        call!(self, request, decode::increment_record, Reply::Incremented { value, put, replayed } => {
            encode::incremented(value, put, replayed)
        })
    }

    async fn delete_record(
        &self,
        request: Request<v1::DeleteRecordRequest>,
    ) -> Result<Response<v1::DeleteRecordResponse>, Status> {
        call!(self, request, decode::delete_record, Reply::RecordDeleted { version, replayed } => {
            encode::record_deleted(version, replayed)
        })
    }

    async fn protect_prefix(
        &self,
        request: Request<v1::ProtectPrefixRequest>,
    ) -> Result<Response<v1::ProtectPrefixResponse>, Status> {
        call!(self, request, decode::protect_prefix, Reply::PrefixProtected { revision, existed, replayed } => {
            v1::ProtectPrefixResponse { revision: revision.0, existed, replayed }
        })
    }

    async fn unprotect_prefix(
        &self,
        request: Request<v1::UnprotectPrefixRequest>,
    ) -> Result<Response<v1::UnprotectPrefixResponse>, Status> {
        call!(self, request, decode::unprotect_prefix, Reply::PrefixUnprotected { existed, replayed } => {
            v1::UnprotectPrefixResponse { existed, replayed }
        })
    }

    async fn list_protections(
        &self,
        request: Request<v1::ListProtectionsRequest>,
    ) -> Result<Response<v1::ListProtectionsResponse>, Status> {
        call!(self, request, decode::list_protections, Reply::Protections { protections, more } => {
            encode::protection_page(&protections, more)
        })
    }
}

#[tonic::async_trait]
impl<A: Ask> TransactService for Transactions<A> {
    async fn transact(
        &self,
        request: Request<v1::TransactRequest>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        let reply = self.0.ask_with(request, decode::transact).await?;
        let Reply::Transacted(transacted) = reply else { return Err(self.0.mismatch()) };
        encode::transacted(&transacted).map(Response::new).ok_or_else(|| self.0.mismatch())
    }
}
