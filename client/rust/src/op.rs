//! One operation, whichever way it goes: its identity and age, and the unary call that is the same.

use std::time::Duration;

use singletrack_proto::v1::{
    lease_service_client::LeaseServiceClient, operation::Operation, operation_reply::Reply,
    session_service_client::SessionServiceClient,
};
use tonic::transport::Channel;

use crate::{Client, Error};

/// What is known by a request id: everything with an effect that is remembered.
pub(crate) fn identity(op: &mut Operation) -> Option<(&mut String, &mut u64)> {
    match op {
        Operation::AcquireLease(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::ReleaseLease(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::ForceReleaseLease(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::TransferLease(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::Ping(_)
        | Operation::KeepSessionAlive(_)
        | Operation::CloseSession(_)
        | Operation::ListSessionLeases(_)
        | Operation::AbandonLease(_)
        | Operation::RenewLeases(_)
        | Operation::GetLease(_)
        | Operation::ListLeases(_)
        | Operation::CheckLease(_)
        | Operation::RequestLeaseYield(_)
        | Operation::AnswerLeaseYield(_)
        | Operation::ListLeaseWaiters(_)
        | Operation::GetLeaseStats(_) => None,
    }
}

/// The request id of a call that has one of its own.
pub(crate) fn own_id(op: &Operation) -> Option<String> {
    let id = match op {
        Operation::AcquireLease(it) => &it.request_id,
        Operation::ReleaseLease(it) => &it.request_id,
        Operation::ForceReleaseLease(it) => &it.request_id,
        Operation::TransferLease(it) => &it.request_id,
        Operation::Ping(_)
        | Operation::KeepSessionAlive(_)
        | Operation::CloseSession(_)
        | Operation::ListSessionLeases(_)
        | Operation::AbandonLease(_)
        | Operation::RenewLeases(_)
        | Operation::GetLease(_)
        | Operation::ListLeases(_)
        | Operation::CheckLease(_)
        | Operation::RequestLeaseYield(_)
        | Operation::AnswerLeaseYield(_)
        | Operation::ListLeaseWaiters(_)
        | Operation::GetLeaseStats(_) => return None,
    };
    (!id.is_empty()).then(|| id.clone())
}

/// Says how old a call is: nothing for one that has no age.
pub(crate) fn set_age(op: &mut Operation, age: Duration) {
    if let Some((_, age_ms)) = identity(op) {
        *age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    }
}

/// How long the server may let it wait.
pub(crate) fn wait(op: &Operation) -> Duration {
    match op {
        Operation::AcquireLease(it) => Duration::from_millis(it.wait_ms).min(crate::MAX_WAIT),
        Operation::ReleaseLease(_)
        | Operation::ForceReleaseLease(_)
        | Operation::TransferLease(_)
        | Operation::Ping(_)
        | Operation::KeepSessionAlive(_)
        | Operation::CloseSession(_)
        | Operation::ListSessionLeases(_)
        | Operation::AbandonLease(_)
        | Operation::RenewLeases(_)
        | Operation::GetLease(_)
        | Operation::ListLeases(_)
        | Operation::CheckLease(_)
        | Operation::RequestLeaseYield(_)
        | Operation::AnswerLeaseYield(_)
        | Operation::ListLeaseWaiters(_)
        | Operation::GetLeaseStats(_) => Duration::ZERO,
    }
}

/// Its bytes on a stream.
pub(crate) fn size(op: &Operation) -> usize {
    // Room for the number and the age, which it has only when it is sent.
    const NUMBERS: usize = 32;
    op.encoded_len() + NUMBERS
}

/// Sends it once, as a unary call.
pub(crate) async fn unary(
    client: &Client,
    channel: Channel,
    op: Operation,
    deadline: Duration,
) -> Result<Reply, Error> {
    let mut leases = LeaseServiceClient::new(channel.clone());
    let mut sessions = SessionServiceClient::new(channel);
    macro_rules! call {
        ($stub:ident.$method:ident($message:ident) as $reply:ident) => {{
            let request = client.request($message, deadline);
            client.finish(deadline, $stub.$method(request)).await.map(Reply::$reply)
        }};
    }
    match op {
        Operation::Ping(m) => call!(sessions.ping(m) as Ping),
        Operation::KeepSessionAlive(m) => {
            call!(sessions.keep_session_alive(m) as KeepSessionAlive)
        }
        Operation::CloseSession(m) => call!(sessions.close_session(m) as CloseSession),
        Operation::ListSessionLeases(m) => {
            call!(sessions.list_session_leases(m) as ListSessionLeases)
        }
        Operation::AcquireLease(m) => call!(leases.acquire_lease(m) as AcquireLease),
        Operation::AbandonLease(m) => call!(leases.abandon_lease(m) as AbandonLease),
        Operation::RenewLeases(m) => call!(leases.renew_leases(m) as RenewLeases),
        Operation::ReleaseLease(m) => call!(leases.release_lease(m) as ReleaseLease),
        Operation::GetLease(m) => call!(leases.get_lease(m) as GetLease),
        Operation::ListLeases(m) => call!(leases.list_leases(m) as ListLeases),
        Operation::CheckLease(m) => call!(leases.check_lease(m) as CheckLease),
        Operation::ForceReleaseLease(m) => {
            call!(leases.force_release_lease(m) as ForceReleaseLease)
        }
        Operation::TransferLease(m) => call!(leases.transfer_lease(m) as TransferLease),
        Operation::RequestLeaseYield(m) => {
            call!(leases.request_lease_yield(m) as RequestLeaseYield)
        }
        Operation::AnswerLeaseYield(m) => {
            call!(leases.answer_lease_yield(m) as AnswerLeaseYield)
        }
        Operation::ListLeaseWaiters(m) => {
            call!(leases.list_lease_waiters(m) as ListLeaseWaiters)
        }
        Operation::GetLeaseStats(m) => call!(leases.get_lease_stats(m) as GetLeaseStats),
    }
}
