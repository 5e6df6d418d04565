//! A server that says what a test told it to say, and notes what it was asked.
//!
//! Owns no semantics at all: it is for what a real server won't do on demand, such
//! as reasons of the future, broken answers and silence.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use singletrack_proto::v1::{
    self, lease_service_server::LeaseService, operation::Operation, operation_reply::Reply,
    record_service_server::RecordService, session_service_server::SessionService,
    transact_service_server::TransactService,
};
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status, Streaming, metadata::MetadataMap, transport::server::TcpIncoming,
};

/// A fake that listens. Its server ends with the runtime.
#[derive(Clone)]
pub(crate) struct Fake {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<Asked>,
}

/// What to say to one call.
pub(crate) enum Answer {
    /// This.
    Say(Reply),
    /// No, for this reason.
    Refuse(Status),
    /// Nothing, ever.
    Nothing,
}

/// One call as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    pub(crate) namespace: Option<String>,
    pub(crate) timeout: Option<Duration>,
}

// === impl Fake ===

impl Fake {
    /// Starts one on a free port of this machine.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let fake = Self { address, script: Arc::default() };
        let server = tonic::transport::Server::builder()
            .add_service(v1::lease_service_server::LeaseServiceServer::new(fake.clone()))
            .add_service(v1::record_service_server::RecordServiceServer::new(fake.clone()))
            .add_service(v1::session_service_server::SessionServiceServer::new(fake.clone()))
            .add_service(v1::transact_service_server::TransactServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        fake
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next call that has no answer yet.
    pub(crate) fn will(&self, answer: Answer) -> &Self {
        self.script().answers.push_back(answer);
        self
    }

    /// As [`Fake::will`], with an answer.
    pub(crate) fn say(&self, reply: Reply) -> &Self {
        self.will(Answer::Say(reply))
    }

    /// As [`Fake::will`], with a refusal.
    pub(crate) fn refuse(&self, status: Status) -> &Self {
        self.will(Answer::Refuse(status))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("nobody panicked with it")
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.script().asked)
    }

    async fn answer(&self, operation: Operation, metadata: &MetadataMap) -> Result<Reply, Status> {
        let text = |key| metadata.get(key).map(|value| value.to_str().expect("text").to_owned());
        let asked = Asked {
            operation,
            namespace: text("singletrack-namespace"),
            timeout: text("grpc-timeout").map(|value| parse_timeout(&value)),
        };
        let answer = {
            let mut script = self.script();
            script.asked.push(asked);
            script.answers.pop_front()
        };
        match answer {
            Some(Answer::Say(reply)) => Ok(reply),
            Some(Answer::Refuse(status)) => Err(status),
            Some(Answer::Nothing) => std::future::pending().await,
            None => Err(Status::internal("the test gave this fake no answer")),
        }
    }
}

/// `grpc-timeout` is digits and one letter for the unit.
fn parse_timeout(value: &str) -> Duration {
    let (digits, unit) = value.split_at(value.len() - 1);
    let number: u64 = digits.parse().expect("digits");
    match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("expected a unit of grpc-timeout, found {unit:?}"),
    }
}

/// The whole `impl`, as the attribute must see the methods.
macro_rules! fake_service {
    ($service:ident: $($method:ident($request:ident) -> $response:ident as $operation:ident;)*) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $(async fn $method(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                let (metadata, _, message) = request.into_parts();
                match self.answer(Operation::$operation(message), &metadata).await? {
                    Reply::$operation(reply) => Ok(Response::new(reply)),
                    other => Err(Status::internal(format!(
                        "the test gave this fake an answer to another call: {other:?}"
                    ))),
                }
            })*
        }
    };
}

fake_service! { LeaseService:
    acquire_lease(AcquireLeaseRequest) -> AcquireLeaseResponse as AcquireLease;
    abandon_lease(AbandonLeaseRequest) -> AbandonLeaseResponse as AbandonLease;
    renew_leases(RenewLeasesRequest) -> RenewLeasesResponse as RenewLeases;
    release_lease(ReleaseLeaseRequest) -> ReleaseLeaseResponse as ReleaseLease;
    get_lease(GetLeaseRequest) -> GetLeaseResponse as GetLease;
    list_leases(ListLeasesRequest) -> ListLeasesResponse as ListLeases;
    check_lease(CheckLeaseRequest) -> CheckLeaseResponse as CheckLease;
    force_release_lease(ForceReleaseLeaseRequest) -> ForceReleaseLeaseResponse as ForceReleaseLease;
    transfer_lease(TransferLeaseRequest) -> TransferLeaseResponse as TransferLease;
    request_lease_yield(RequestLeaseYieldRequest) -> RequestLeaseYieldResponse as RequestLeaseYield;
    answer_lease_yield(AnswerLeaseYieldRequest) -> AnswerLeaseYieldResponse as AnswerLeaseYield;
    list_lease_waiters(ListLeaseWaitersRequest) -> ListLeaseWaitersResponse as ListLeaseWaiters;
    get_lease_stats(GetLeaseStatsRequest) -> GetLeaseStatsResponse as GetLeaseStats;
}

fake_service! { RecordService:
    get_record(GetRecordRequest) -> GetRecordResponse as GetRecord;
    batch_get_records(BatchGetRecordsRequest) -> BatchGetRecordsResponse as BatchGetRecords;
    list_records(ListRecordsRequest) -> ListRecordsResponse as ListRecords;
    put_record(PutRecordRequest) -> PutRecordResponse as PutRecord;
    increment_record(IncrementRecordRequest) -> IncrementRecordResponse as IncrementRecord;
    delete_record(DeleteRecordRequest) -> DeleteRecordResponse as DeleteRecord;
    protect_prefix(ProtectPrefixRequest) -> ProtectPrefixResponse as ProtectPrefix;
    unprotect_prefix(UnprotectPrefixRequest) -> UnprotectPrefixResponse as UnprotectPrefix;
    list_protections(ListProtectionsRequest) -> ListProtectionsResponse as ListProtections;
}

fake_service! { TransactService:
    transact(TransactRequest) -> TransactResponse as Transact;
}

/// Streams are for a real server: this one has none, so that clients fall back to unary calls.
#[tonic::async_trait]
impl SessionService for Fake {
    type ExchangeStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let answer = self.answer(Operation::Ping(message), &metadata).await?;
        let Reply::Ping(reply) = answer else {
            return Err(Status::internal(format!("an answer to another call: {answer:?}")));
        };
        Ok(Response::new(reply))
    }

    async fn open_session(
        &self,
        _: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        Err(Status::unimplemented("this fake has no sessions"))
    }

    async fn keep_session_alive(
        &self,
        _: Request<v1::KeepSessionAliveRequest>,
    ) -> Result<Response<v1::KeepSessionAliveResponse>, Status> {
        Err(Status::unimplemented("this fake has no sessions"))
    }

    async fn close_session(
        &self,
        _: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("this fake has no sessions"))
    }

    async fn list_session_leases(
        &self,
        _: Request<v1::ListSessionLeasesRequest>,
    ) -> Result<Response<v1::ListSessionLeasesResponse>, Status> {
        Err(Status::unimplemented("this fake has no sessions"))
    }

    async fn exchange(
        &self,
        _: Request<Streaming<v1::ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        Err(Status::unimplemented("this fake has no sessions"))
    }
}
