//! Single writes and transactions: all of it, each operation on what the ones before it left,
//! or nothing.

use singletrack_core::{
    command::{Command, Condition, Operation, Protect, RecordLifetime, Request, Transact},
    fence::Fence,
    types::Target,
};

use super::{
    Effect, Kind, Met, Model, Told, Waiter, ask,
    record::Done,
    told::{Lacking, Number, OneOf},
};

impl Model {
    /// A write of a record, or of a protection, by itself.
    pub(super) fn mutate(&mut self, namespace: &str, request: &Request) -> Told {
        if let Some(told) = self.before_effect(request, kind_of(&request.command)) {
            return told;
        }
        if let Some(index) = self.stale(namespace, &request.fences) {
            return Told::StaleFence(index);
        }
        let carried = self.carried(namespace, &request.fences);
        let done = match ask::write(&request.command) {
            Some(write) => self.write(namespace, &write, &carried),
            None => self.protect_or_not(namespace, &request.command, &carried),
        };
        match done {
            Ok(Done::Now(effect)) => {
                let told = effect.told(false);
                self.remember(request, effect);
                told
            }
            Ok(Done::Before(told)) | Err(told) => told,
        }
    }

    fn protect_or_not(
        &mut self,
        namespace: &str,
        command: &Command,
        carried: &[Target],
    ) -> Result<Done, Told> {
        let (Protect { prefix, resource, as_admin }, is_back) = match command {
            Command::ProtectPrefix(protect) => (&**protect, false),
            Command::UnprotectPrefix(protect) => (&**protect, true),
            other => panic!("not generated: {other:?}"),
        };
        let what = (prefix.as_str(), resource.as_str());
        self.protect(namespace, what, *as_admin, is_back, carried)
    }

    /// All of it or nothing.
    pub(super) fn transact(
        &mut self,
        namespace: &str,
        request: &Request,
        transact: &Transact,
    ) -> Told {
        assert!(request.fences.is_empty(), "the fences of a transaction are conditions");
        if let Some(told) = self.before_effect(request, Kind::Transact) {
            return told;
        }
        let mut fences: Vec<Fence> = Vec::new();
        for (index, condition) in transact.conditions.iter().enumerate() {
            let refused = match condition {
                Condition::Fence(fence) => {
                    fences.push(fence.clone());
                    self.stale(namespace, std::slice::from_ref(fence)).map(Told::StaleFence)
                }
                Condition::Record { key, expect } => {
                    self.expected(namespace, key.as_str(), ask::expect(*expect)).err()
                }
            };
            if let Some(refused) = refused {
                self.met.push(Met::ConditionRefused);
                return Told::Condition(index, Box::new(refused));
            }
        }
        if !transact.conditions.is_empty() {
            self.met.push(Met::ConditionsHeld);
        }
        let mut after = self.clone();
        let mut effects = Vec::new();
        let mut told = Vec::new();
        for (index, operation) in transact.operations.iter().enumerate() {
            match self.operate(&mut after, request, operation, &fences) {
                Ok((effect, one)) => {
                    effects.push(effect);
                    told.push(one);
                }
                Err(refused) => {
                    self.refused = after.refused;
                    self.met = after.met;
                    self.met.push(Met::TransactionRefused);
                    if index > 0 {
                        self.met.push(Met::LaterOperationRefused);
                    }
                    let refused = self.as_before(namespace, within(refused));
                    return Told::Operation(index, Box::new(refused));
                }
            }
        }
        *self = after;
        self.met.push(Met::Transacted);
        self.note_transaction(&transact.operations);
        self.remember(request, Effect::Transacted(effects));
        Told::Transacted { each: told, replayed: false }
    }

    /// One operation: fences are judged on this state, all else on what the ones before left.
    fn operate(
        &mut self,
        after: &mut Self,
        request: &Request,
        operation: &Operation,
        conditions: &[Fence],
    ) -> Result<(Effect, Told), Told> {
        let namespace = request.namespace.as_str();
        if let Some(index) = self.stale(namespace, &operation.fences) {
            return Err(Told::StaleFence(index));
        }
        let command = &operation.command;
        let plain = Request {
            mark: None,
            fences: Box::default(),
            command: command.clone(),
            ..request.clone()
        };
        let all: Vec<Fence> = conditions.iter().chain(&operation.fences).cloned().collect();
        let carried = self.carried(namespace, &all);
        let done = match command {
            Command::AcquireLease(acquire) => {
                let newcomer = Waiter::new(namespace, &plain, acquire, self.seq + 1, self.now);
                let told = after.try_at_once(&newcomer)?;
                return Ok((Effect::Acquired { lease_id: acquire.lease_id }, told));
            }
            Command::ReleaseLease(lease) => match after.release(namespace, &plain, *lease) {
                Told::Released { replayed: true } => return Err(Told::AlreadyDone),
                Told::Released { .. } => Done::Now(Effect::Released),
                refused => return Err(refused),
            },
            Command::ForceReleaseLease { resource, token } => {
                match after.force(namespace, &plain, resource.as_str(), *token) {
                    Told::ForceReleased { from, .. } => Done::Now(Effect::Forced { from }),
                    refused => return Err(refused),
                }
            }
            Command::TransferLease(transfer) => match after.transfer(namespace, &plain, transfer) {
                told @ Told::Transferred { lease_id, .. } => {
                    return Ok((Effect::Transferred { lease_id }, told));
                }
                refused => return Err(refused),
            },
            other => match ask::write(other) {
                Some(write) => after.write(namespace, &write, &carried)?,
                None => after.protect_or_not(namespace, other, &carried)?,
            },
        };
        match done {
            Done::Now(effect) => {
                let told = effect.told(false);
                Ok((effect, told))
            }
            Done::Before(_) => {
                after.met.push(Met::AlreadyDone);
                Err(Told::AlreadyDone)
            }
        }
    }

    fn note_transaction(&mut self, operations: &[Operation]) {
        let mut counters = Vec::new();
        let mut bound = Vec::new();
        for operation in operations {
            match &operation.command {
                Command::IncrementRecord(it) if counters.contains(&&it.key) => {
                    self.met.push(Met::CountedTwiceWithin);
                }
                Command::IncrementRecord(it) => counters.push(&it.key),
                Command::PutRecord(it) => {
                    if let RecordLifetime::Bound(lease) = it.lifetime {
                        bound.push(lease);
                    }
                }
                Command::ReleaseLease(lease) if bound.contains(lease) => {
                    self.met.push(Met::BoundEndedWithin);
                }
                _ => {}
            }
        }
    }

    /// A refusal tells no number that the refused transaction would have given.
    fn as_before(&self, namespace: &str, refused: Told) -> Told {
        match refused {
            Told::VersionMismatch(it) if it.version.0 == Number::UNKNOWN.0 => {
                self.not_as_expected(namespace, &it.key)
            }
            Told::FenceRequired(OneOf(lacking)) => Told::FenceRequired(OneOf(
                lacking.into_iter().map(|it| self.lacks(namespace, it)).collect(),
            )),
            other => other,
        }
    }

    fn lacks(&self, namespace: &str, (prefix, resource, current): Lacking) -> Lacking {
        let is_unknown = current.as_ref().is_some_and(|(token, _)| token.0 == Number::UNKNOWN.0);
        if !is_unknown {
            return (prefix, resource, current);
        }
        let newest = self.holders(namespace, &resource).last().copied();
        let current = newest.map(|it| (Number(it.token.0), it.holder.clone()));
        (prefix, resource, current)
    }

    /// The replies of a transaction once more.
    pub(super) fn transacted_again(&self, effects: &[Effect]) -> Told {
        // What was granted and has ended since is told as lost; the rest stands.
        let each = effects.iter().map(|effect| self.told_again(effect)).collect();
        Told::Transacted { each, replayed: true }
    }
}

/// What of the refusal of an operation is compared.
fn within(refused: Told) -> Told {
    match refused {
        Told::Held(_) => Told::HeldWithin,
        other => other,
    }
}

fn kind_of(command: &Command) -> Kind {
    match command {
        Command::PutRecord(_) => Kind::Put,
        Command::IncrementRecord(_) => Kind::Increment,
        Command::DeleteRecord { .. } => Kind::Delete,
        Command::ProtectPrefix(_) => Kind::Protect,
        Command::UnprotectPrefix(_) => Kind::Unprotect,
        other => panic!("not generated: {other:?}"),
    }
}
