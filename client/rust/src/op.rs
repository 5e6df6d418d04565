//! One operation, whichever way it goes: its identity and age, and the unary call that is the same.

use std::time::Duration;

use singletrack_proto::v1::{
    self, lease_service_client::LeaseServiceClient, operation::Operation, operation_reply::Reply,
    record_service_client::RecordServiceClient, session_service_client::SessionServiceClient,
    transact_service_client::TransactServiceClient,
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
        Operation::PutRecord(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::IncrementRecord(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::DeleteRecord(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::ProtectPrefix(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::UnprotectPrefix(it) => Some((&mut it.request_id, &mut it.age_ms)),
        Operation::Transact(it) => Some((&mut it.request_id, &mut it.age_ms)),
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
        | Operation::GetLeaseStats(_)
        | Operation::GetRecord(_)
        | Operation::BatchGetRecords(_)
        | Operation::ListRecords(_)
        | Operation::ListProtections(_) => None,
    }
}

/// The request id of a call that has one of its own.
pub(crate) fn own_id(op: &Operation) -> Option<String> {
    let id = match op {
        Operation::AcquireLease(it) => &it.request_id,
        Operation::ReleaseLease(it) => &it.request_id,
        Operation::ForceReleaseLease(it) => &it.request_id,
        Operation::TransferLease(it) => &it.request_id,
        Operation::PutRecord(it) => &it.request_id,
        Operation::IncrementRecord(it) => &it.request_id,
        Operation::DeleteRecord(it) => &it.request_id,
        Operation::ProtectPrefix(it) => &it.request_id,
        Operation::UnprotectPrefix(it) => &it.request_id,
        Operation::Transact(it) => &it.request_id,
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
        | Operation::GetLeaseStats(_)
        | Operation::GetRecord(_)
        | Operation::BatchGetRecords(_)
        | Operation::ListRecords(_)
        | Operation::ListProtections(_) => return None,
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
        | Operation::GetLeaseStats(_)
        | Operation::GetRecord(_)
        | Operation::BatchGetRecords(_)
        | Operation::ListRecords(_)
        | Operation::ListProtections(_)
        | Operation::PutRecord(_)
        | Operation::IncrementRecord(_)
        | Operation::DeleteRecord(_)
        | Operation::ProtectPrefix(_)
        | Operation::UnprotectPrefix(_)
        | Operation::Transact(_) => Duration::ZERO,
    }
}

/// It asks for a lease that lives with a session.
pub(crate) fn needs_session(op: &Operation) -> bool {
    acquires(op).any(|acquire| acquire.ttl_ms.is_none())
}

/// Names the session that the leases live with which it asks for, where the stream said it before.
pub(crate) fn bind(op: &mut Operation, session_id: &str) {
    let bind = |acquire: &mut v1::AcquireLeaseRequest| {
        if acquire.ttl_ms.is_none() {
            session_id.clone_into(&mut acquire.session_id);
        }
    };
    if let Operation::AcquireLease(acquire) = op {
        bind(acquire);
    } else if let Operation::Transact(transact) = op {
        for part in &mut transact.operations {
            if let Some(Operation::AcquireLease(acquire)) = &mut part.operation {
                bind(acquire);
            }
        }
    }
}

fn acquires(op: &Operation) -> impl Iterator<Item = &v1::AcquireLeaseRequest> {
    parts(op).filter_map(|part| {
        if let Operation::AcquireLease(acquire) = part { Some(acquire) } else { None }
    })
}

/// The leases that it gives back or away.
pub(crate) fn gives_up(op: &Operation) -> impl Iterator<Item = &str> {
    parts(op).filter_map(|part| {
        if let Operation::ReleaseLease(v1::ReleaseLeaseRequest { lease_id, .. })
        | Operation::TransferLease(v1::TransferLeaseRequest { lease_id, .. }) = part
        {
            Some(lease_id.as_str())
        } else {
            None
        }
    })
}

/// The operation, or what a transaction is made of.
fn parts(op: &Operation) -> impl Iterator<Item = &Operation> {
    let many = if let Operation::Transact(it) = op { it.operations.as_slice() } else { &[] };
    let one = many.is_empty().then_some(op);
    one.into_iter().chain(many.iter().filter_map(|part| part.operation.as_ref()))
}

/// The leases that an answer gives.
pub(crate) fn grants(reply: Reply) -> Vec<v1::AcquireLeaseResponse> {
    if let Reply::AcquireLease(grant) = reply {
        return vec![grant];
    }
    let Reply::Transact(transacted) = reply else { return Vec::new() };
    let replies = transacted.replies.into_iter();
    replies.filter_map(|part| part.reply).flat_map(grants).collect()
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
    macro_rules! call {
        ($stub:ident.$method:ident($message:ident) as $reply:ident) => {{
            let request = client.request($message, deadline);
            let mut stub = $stub::new(channel);
            client.finish(deadline, stub.$method(request)).await.map(Reply::$reply)
        }};
    }
    use {
        LeaseServiceClient as Leases, RecordServiceClient as Records,
        SessionServiceClient as Sessions, TransactServiceClient as Transactions,
    };
    match op {
        Operation::Ping(m) => call!(Sessions.ping(m) as Ping),
        Operation::KeepSessionAlive(m) => {
            call!(Sessions.keep_session_alive(m) as KeepSessionAlive)
        }
        Operation::CloseSession(m) => call!(Sessions.close_session(m) as CloseSession),
        Operation::ListSessionLeases(m) => {
            call!(Sessions.list_session_leases(m) as ListSessionLeases)
        }
        Operation::AcquireLease(m) => call!(Leases.acquire_lease(m) as AcquireLease),
        Operation::AbandonLease(m) => call!(Leases.abandon_lease(m) as AbandonLease),
        Operation::RenewLeases(m) => call!(Leases.renew_leases(m) as RenewLeases),
        Operation::ReleaseLease(m) => call!(Leases.release_lease(m) as ReleaseLease),
        Operation::GetLease(m) => call!(Leases.get_lease(m) as GetLease),
        Operation::ListLeases(m) => call!(Leases.list_leases(m) as ListLeases),
        Operation::CheckLease(m) => call!(Leases.check_lease(m) as CheckLease),
        Operation::ForceReleaseLease(m) => {
            call!(Leases.force_release_lease(m) as ForceReleaseLease)
        }
        Operation::TransferLease(m) => call!(Leases.transfer_lease(m) as TransferLease),
        Operation::RequestLeaseYield(m) => {
            call!(Leases.request_lease_yield(m) as RequestLeaseYield)
        }
        Operation::AnswerLeaseYield(m) => {
            call!(Leases.answer_lease_yield(m) as AnswerLeaseYield)
        }
        Operation::ListLeaseWaiters(m) => {
            call!(Leases.list_lease_waiters(m) as ListLeaseWaiters)
        }
        Operation::GetLeaseStats(m) => call!(Leases.get_lease_stats(m) as GetLeaseStats),
        Operation::GetRecord(m) => call!(Records.get_record(m) as GetRecord),
        Operation::BatchGetRecords(m) => call!(Records.batch_get_records(m) as BatchGetRecords),
        Operation::ListRecords(m) => call!(Records.list_records(m) as ListRecords),
        Operation::PutRecord(m) => call!(Records.put_record(m) as PutRecord),
        Operation::IncrementRecord(m) => call!(Records.increment_record(m) as IncrementRecord),
        Operation::DeleteRecord(m) => call!(Records.delete_record(m) as DeleteRecord),
        Operation::ProtectPrefix(m) => call!(Records.protect_prefix(m) as ProtectPrefix),
        Operation::UnprotectPrefix(m) => call!(Records.unprotect_prefix(m) as UnprotectPrefix),
        Operation::ListProtections(m) => call!(Records.list_protections(m) as ListProtections),
        Operation::Transact(m) => call!(Transactions.transact(m) as Transact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(ttl_ms: Option<u64>) -> Operation {
        Operation::AcquireLease(v1::AcquireLeaseRequest { ttl_ms, ..Default::default() })
    }

    fn transact(parts: Vec<Operation>) -> Operation {
        let part = |part| v1::Operation { operation: Some(part), ..Default::default() };
        let operations = parts.into_iter().map(part).collect();
        Operation::Transact(v1::TransactRequest { operations, ..Default::default() })
    }

    fn sessions(op: &Operation) -> Vec<&str> {
        acquires(op).map(|acquire| &*acquire.session_id).collect()
    }

    #[test]
    fn what_lives_with_a_session_is_told_its_name_in_a_transaction_too() {
        let put = || Operation::PutRecord(v1::PutRecordRequest::default());
        let mut op = transact(vec![put(), acquire(None), acquire(Some(5))]);
        assert!(needs_session(&op));
        bind(&mut op, "5e");
        assert_eq!(sessions(&op), ["5e", ""]);
        let mut op = acquire(None);
        bind(&mut op, "5e");
        assert_eq!(sessions(&op), ["5e"]);
        for op in [transact(vec![]), transact(vec![put()]), acquire(Some(5)), put()] {
            assert!(!needs_session(&op), "{op:?}");
        }
    }

    #[test]
    fn leases_that_are_given_up_are_found_in_a_transaction_too() {
        let release = |id: &str| {
            Operation::ReleaseLease(v1::ReleaseLeaseRequest {
                lease_id: id.into(),
                ..Default::default()
            })
        };
        let transfer = Operation::TransferLease(v1::TransferLeaseRequest {
            lease_id: "b".into(),
            ..Default::default()
        });
        let op = transact(vec![release("a"), acquire(None), transfer]);
        assert_eq!(gives_up(&op).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(gives_up(&release("c")).collect::<Vec<_>>(), ["c"]);
    }
}
