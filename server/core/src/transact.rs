//! Transactions: several mutations, all or nothing, each deciding over the overlay of those
//! before it. Fences are judged on the state before; every operation must itself take effect.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    change::Effect,
    command::{Command, Request},
    decision::{Draft, check_cap, check_fences},
    lease,
    overlay::{Overlay, View},
    refusal::{Cap, Refusal},
    reply::Reply,
};

/// Decides a transaction.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    operations: &[Command],
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = lease::end::replay(view, request)? {
        return replayed(view, effect);
    }
    check_fences(view, &request.fences)?;
    let mut overlay = Overlay::default();
    let mut replies = Vec::with_capacity(operations.len());
    let mut effects = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let done = draft.decision.changes.len();
        let (reply, effect) = decide_one(view.under(&overlay), operation, draft)
            .map_err(|refusal| refused(index, refusal))?;
        for change in draft.decision.changes.iter().skip(done) {
            overlay.lay(view, change);
        }
        replies.push(reply);
        effects.push(effect);
    }
    if request.mark.is_some() {
        check_cap(Cap::Memory, view.state.memory.bytes(), 1, view.state.quotas.memory_bytes)?;
        lease::end::remember(view, request, Effect::Transacted(effects), draft);
    }
    Ok(Reply::Transacted(replies.into()))
}

fn decide_one(
    view: View<'_>,
    operation: &Command,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    match operation {
        Command::AcquireLease(acquire) => lease::acquire::decide_within(view, acquire, draft),
        Command::ReleaseLease(lease) => lease::end::release_within(view, *lease, draft),
        Command::ForceReleaseLease { resource, token } => {
            lease::end::force_within(view, resource, *token, draft)
        }
        Command::TransferLease(transfer) => lease::transfer::decide_within(view, transfer, draft),
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
        | Command::Transact(_) => unreachable!("the edge lets only mutations into a transaction"),
    }
}

fn refused(index: usize, refusal: Refusal) -> Refusal {
    let index = u32::try_from(index).expect("operations are few");
    Refusal::Operation { index, refusal: Box::new(refusal) }
}

/// The replies again, from what was remembered.
fn replayed(view: View<'_>, effect: &Effect) -> Result<Reply, Refusal> {
    let Effect::Transacted(effects) = effect else { return Err(Refusal::RequestIdReused) };
    let replies: Result<Vec<_>, _> = effects
        .iter()
        .enumerate()
        .map(|(index, effect)| replay_one(view, effect).map_err(|no| refused(index, no)))
        .collect();
    Ok(Reply::Transacted(replies?.into()))
}

fn replay_one(view: View<'_>, effect: &Effect) -> Result<Reply, Refusal> {
    match effect {
        Effect::Released => Ok(Reply::Released { replayed: true }),
        Effect::ForceReleased { holder } => {
            Ok(Reply::ForceReleased { holder: holder.clone(), replayed: true })
        }
        Effect::Transacted(_) | Effect::LeaseEnded { .. } => {
            unreachable!("no operation of a transaction leaves this")
        }
        Effect::Acquired { lease_id, token } => {
            lease::acquire::again(view, *lease_id, *token).map(Reply::Acquired)
        }
        Effect::Transferred { lease_id, token } => {
            lease::acquire::again(view, *lease_id, *token).map(Reply::Transferred)
        }
    }
}
