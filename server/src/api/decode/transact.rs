//! Transactions: conditions, and operations that are decoded as they are by themselves.

use singletrack_core::{
    command::{Command, Condition, Operation, Transact},
    limits,
};
use singletrack_proto::v1::{self, operation::Operation as Op};

use super::{
    Asked, Context,
    fields::{fence, request_id},
    record::{expectation, key},
};
use crate::{
    api::{flaws::Flaws, identity},
    track::Question,
};

/// Decodes a transaction.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn transact(
    context: Context,
    message: v1::TransactRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let v1::TransactRequest { request_id, conditions, operations, age_ms } = message;
    let (found, maximum) = (conditions.len(), limits::CONDITIONS_MAX);
    if found > maximum {
        let description = format!("at most {maximum} conditions are expected, found {found}");
        flaws.add_too_large(format_args!("conditions"), description);
        return Err(flaws);
    }
    let (found, maximum) = (operations.len(), limits::OPERATIONS_MAX);
    if found > maximum {
        let description = format!("1..{maximum} operations are expected, found {found}");
        flaws.add_too_large(format_args!("operations"), description);
        return Err(flaws);
    }
    if found == 0 {
        let description = format!("1..{maximum} operations are expected, found none");
        flaws.add(format_args!("operations"), description);
    }
    let conditions: Vec<_> =
        conditions.iter().enumerate().filter_map(|(i, it)| condition(i, it, &mut flaws)).collect();
    let operations: Vec<_> = operations
        .into_iter()
        .enumerate()
        .filter_map(|(i, it)| operation(&context, i, it, &mut flaws))
        .collect();
    check_sums(&conditions, &operations, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let transact = Transact { conditions: conditions.into(), operations: operations.into() };
    let identity = context.identify(&request_id, || identity::transact(&transact));
    let command = Command::Transact(Box::new(transact));
    Ok(context.question(identity, age_ms, Box::default(), command))
}

/// What all parts of a transaction have together: it is decided at one stroke.
fn check_sums(conditions: &[Condition], operations: &[Operation], flaws: &mut Flaws) {
    let is_fence = |it: &&Condition| matches!(it, Condition::Fence(_));
    let fences = conditions.iter().filter(is_fence).count()
        + operations.iter().map(|it| it.fences.len()).sum::<usize>();
    let (mut targets, mut actors) = (0, 0);
    for operation in operations {
        if let Command::AcquireLease(acquire) = &operation.command {
            targets += acquire.targets.claims().len();
            actors += usize::from(acquire.terms.as_ref().is_some_and(|it| it.actor.is_some()));
        } else if let Command::TransferLease(transfer) = &operation.command {
            actors += usize::from(transfer.to_actor.is_some());
        }
    }
    for (what, found, maximum) in [
        ("fences", fences, limits::TRANSACT_FENCES_MAX),
        ("targets", targets, limits::TRANSACT_TARGETS_MAX),
        ("operations with an actor", actors, limits::TRANSACT_ACTORS_MAX),
    ] {
        if found > maximum {
            let description =
                format!("at most {maximum} {what} are expected in all, found {found}");
            flaws.add_too_large(format_args!("operations"), description);
        }
    }
}

fn condition(i: usize, message: &v1::TransactCondition, flaws: &mut Flaws) -> Option<Condition> {
    use v1::transact_condition::Condition as In;
    match &message.condition {
        Some(In::Fence(it)) => {
            fence(format_args!("conditions[{i}].fence"), it, flaws).map(Condition::Fence)
        }
        Some(In::Record(record)) => {
            let key = key(format_args!("conditions[{i}].record.key"), &record.key, flaws);
            let field = format_args!("conditions[{i}].record.expect");
            if record.expect.is_none() {
                flaws.add(field, "absent, exists or a version is required");
            }
            let expect = expectation(field, record.expect.as_ref(), flaws);
            Some(Condition::Record { key: key?, expect: expect? })
        }
        None => {
            flaws.add(format_args!("conditions[{i}]"), "a fence or a record is required");
            None
        }
    }
}

fn operation(
    context: &Context,
    i: usize,
    message: v1::Operation,
    flaws: &mut Flaws,
) -> Option<Operation> {
    if message.seq != 0 {
        let description = format!("none is expected in a transaction, found {}", message.seq);
        flaws.add(format_args!("operations[{i}].seq"), description);
    }
    if let Err(Rejected { field, description }) = check(message.operation.as_ref()) {
        flaws.add(format_args!("operations[{i}].{field}"), description);
        return None;
    }
    // Its identity is the transaction's, but what it takes from its session it takes.
    let decoded = super::operation_within(context.clone(), message, &format!("operations[{i}]."));
    match decoded {
        Ok(Asked::Track(Question { fences, command, .. })) => Some(Operation { fences, command }),
        Ok(Asked::Ping(_)) => None,
        Err(of_operation) => {
            flaws.extend(of_operation);
            None
        }
    }
}

/// Why an operation can't be one of a transaction.
struct Rejected {
    field: String,
    description: &'static str,
}

/// It is a mutation that may be in a transaction, with nothing that only a call by itself has.
fn check(operation: Option<&Op>) -> Result<(), Rejected> {
    const ID: &str = "none is expected in a transaction, which has its own";
    let (name, request_id, age_ms) = match operation {
        None => {
            let description = "an operation is required";
            return Err(Rejected { field: "operation".into(), description });
        }
        Some(Op::AcquireLease(m)) if m.wait_ms != 0 => {
            let description = "an operation of a transaction doesn't wait";
            return Err(Rejected { field: "acquire_lease.wait_ms".into(), description });
        }
        Some(Op::AcquireLease(m)) => ("acquire_lease", &m.request_id, m.age_ms),
        Some(Op::ReleaseLease(m)) => ("release_lease", &m.request_id, m.age_ms),
        Some(Op::ForceReleaseLease(m)) => ("force_release_lease", &m.request_id, m.age_ms),
        Some(Op::TransferLease(m)) => ("transfer_lease", &m.request_id, m.age_ms),
        Some(Op::PutRecord(m)) => ("put_record", &m.request_id, m.age_ms),
        Some(Op::IncrementRecord(m)) => ("increment_record", &m.request_id, m.age_ms),
        Some(Op::DeleteRecord(m)) => ("delete_record", &m.request_id, m.age_ms),
        Some(Op::ProtectPrefix(m)) => ("protect_prefix", &m.request_id, m.age_ms),
        Some(Op::UnprotectPrefix(m)) => ("unprotect_prefix", &m.request_id, m.age_ms),
        Some(
            Op::Ping(_)
            | Op::KeepSessionAlive(_)
            | Op::CloseSession(_)
            | Op::ListSessionLeases(_)
            | Op::AbandonLease(_)
            | Op::RenewLeases(_)
            | Op::GetLease(_)
            | Op::ListLeases(_)
            | Op::CheckLease(_)
            | Op::RequestLeaseYield(_)
            | Op::AnswerLeaseYield(_)
            | Op::ListLeaseWaiters(_)
            | Op::GetLeaseStats(_)
            | Op::GetRecord(_)
            | Op::BatchGetRecords(_)
            | Op::ListRecords(_)
            | Op::ListProtections(_)
            | Op::Transact(_),
        ) => {
            let description = "a mutation of leases or records is expected in a transaction, found something else";
            return Err(Rejected { field: "operation".into(), description });
        }
    };
    if !request_id.is_empty() {
        return Err(Rejected { field: format!("{name}.request_id"), description: ID });
    }
    if age_ms != 0 {
        return Err(Rejected { field: format!("{name}.age_ms"), description: ID });
    }
    Ok(())
}
