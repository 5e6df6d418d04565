//! Transactions: several mutations, all or nothing, each deciding over the overlay of those
//! before it. Fences and conditions are judged on the state before; every operation must itself
//! take effect.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    change::Effect,
    command::{Command, Condition, Operation, Request, Transact},
    decision::{Draft, check_fences},
    fence::{Fence, Fences, Proofs},
    lease, limits,
    overlay::{Overlay, View},
    record,
    refusal::Refusal,
    replay,
    reply::{Reply, Transacted},
    types::Token,
};

/// Decides a transaction.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    transact: &Transact,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    for (index, condition) in transact.conditions.iter().enumerate() {
        check(view, condition).map_err(|refusal| of_condition(index, refusal))?;
    }
    let proofs = Proofs::new(view, transact.conditions.iter().filter_map(Condition::fence));
    let mut overlay = Overlay::default();
    let mut replies = Vec::with_capacity(transact.operations.len());
    let mut effects = Vec::with_capacity(transact.operations.len());
    for (index, operation) in transact.operations.iter().enumerate() {
        let done = draft.decision.changes.len();
        let refused = |refusal| replay::of_operation(index, as_before(view, refusal));
        check_fences(view, &operation.fences).map_err(refused)?;
        let fences = Fences::within(view, &operation.fences, &proofs);
        let over = view.under(&overlay);
        let (reply, effect) =
            decide_one(over, request, operation, &fences, draft).map_err(refused)?;
        for change in draft.decision.changes.iter().skip(done) {
            overlay.lay(view, change);
        }
        replies.push(reply);
        effects.push(effect);
    }
    let commit = draft.last();
    replay::remember(view, request, Effect::Transacted { commit, effects }, draft);
    let (bytes, maximum) = (draft.weight() as u64, limits::TRANSACTION_BYTES_MAX as u64);
    if bytes > maximum {
        return Err(Refusal::TooLarge { bytes, maximum });
    }
    replay::check_room(view, request)?;
    let replies = replies.into();
    Ok(Reply::Transacted(Box::new(Transacted { replies, commit, replayed: false })))
}

fn check(view: View<'_>, condition: &Condition) -> Result<(), Refusal> {
    match condition {
        Condition::Fence(fence) => check_fences(view, core::slice::from_ref(fence)),
        Condition::Record { key, expect } => record::expect::check(view, key, Some(*expect)),
    }
}

fn decide_one(
    view: View<'_>,
    request: &Request,
    operation: &Operation,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    match &operation.command {
        Command::AcquireLease(acquire) => lease::acquire::decide_within(view, acquire, draft),
        Command::ReleaseLease(lease) => lease::end::release_within(view, *lease, draft),
        Command::ForceReleaseLease { resource, token } => {
            lease::end::force_within(view, resource, *token, draft)
        }
        Command::TransferLease(transfer) => lease::transfer::decide_within(view, transfer, draft),
        Command::PutRecord(put) => record::put::decide_within(view, request, put, fences, draft),
        Command::IncrementRecord(increment) => {
            record::increment::decide_within(view, request, increment, fences, draft)
        }
        Command::DeleteRecord { key, expect } => {
            record::end::delete_within(view, key, *expect, fences, draft)
        }
        Command::ProtectPrefix(protect) => {
            record::protect::protect_within(view, protect, fences, draft)
        }
        Command::UnprotectPrefix(protect) => {
            record::protect::unprotect_within(view, protect, fences, draft)
        }
        Command::AbandonLease { .. }
        | Command::RenewLeases(_)
        | Command::GetLease(_)
        | Command::ListLeases { .. }
        | Command::CheckLease { .. }
        | Command::RequestLeaseYield(_)
        | Command::AnswerLeaseYield(_)
        | Command::ListLeaseWaiters { .. }
        | Command::GetLeaseStats
        | Command::OpenSession(_)
        | Command::AttachSession(_)
        | Command::KeepSessionAlive(_)
        | Command::CloseSession(_)
        | Command::ListSessionLeases { .. }
        | Command::AcknowledgeReplies { .. }
        | Command::CancelWaits(_)
        | Command::GetRecord(_)
        | Command::BatchGetRecords { .. }
        | Command::ListRecords(_)
        | Command::ListProtections { .. }
        | Command::Transact(_) => unreachable!("the edge lets only mutations into a transaction"),
    }
}

/// The refusal without revisions that the transaction had taken: as it is refused, they are
/// somebody else's next.
fn as_before(view: View<'_>, mut refusal: Refusal) -> Refusal {
    let last = view.state.revision;
    if let Refusal::VersionMismatch(mismatch) = &mut refusal
        && mismatch.current.as_ref().is_some_and(|written| written.version > last)
    {
        mismatch.current = view.record(&mismatch.key).cloned();
    } else if let Refusal::FenceRequired(required) = &mut refusal
        && required.current.as_ref().is_some_and(|(token, _)| token.revision() > last)
    {
        let newest = view.newest_holder(&required.resource);
        required.current = newest.map(|known| (known.granted.token, known.granted.holder.clone()));
    } else if let Refusal::Held(held) = &mut refusal {
        for holder in held.holders.iter_mut().filter(|it| it.token.revision() > last) {
            holder.token = Token(0);
        }
    }
    refusal
}

fn of_condition(index: usize, refusal: Refusal) -> Refusal {
    let index = u32::try_from(index).expect("conditions are few");
    Refusal::Condition { index, refusal: Box::new(refusal) }
}

impl Condition {
    const fn fence(&self) -> Option<&Fence> {
        match self {
            Self::Fence(fence) => Some(fence),
            Self::Record { .. } => None,
        }
    }
}
