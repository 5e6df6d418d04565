//! Replays: what earlier requests had achieved, and what a request of the same id is told.

use singletrack_core::{
    command::Request,
    types::{LeaseId, RequestMark},
};

use super::{Met, Model, Told, is};

/// What a remembered request had achieved.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Released,
    Forced { from: String },
    Transferred { lease_id: LeaseId },
    Acquired { lease_id: LeaseId },
    Put { version: u64, created: u64 },
    Incremented { value: i64, version: u64, created: u64 },
    Deleted { version: u64 },
    Protected { revision: u64 },
    Unprotected,
    Transacted(Vec<Effect>),
}

/// What a request asks, as far as replays care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Acquire,
    Release,
    Force,
    Transfer,
    Put,
    Increment,
    Delete,
    Protect,
    Unprotect,
    Transact,
}

impl Model {
    /// What a call other than an acquire finds under its own request id.
    pub(super) fn before_effect(&mut self, request: &Request, kind: Kind) -> Option<Told> {
        let mark = request.mark?;
        let taken = self.leases.iter().any(|it| is(it.mark, mark.id))
            || self.waiters.iter().any(|it| is(it.mark, mark.id));
        if taken {
            return Some(Told::Reused);
        }
        self.past(mark, kind).or_else(|| (request.age_ms > 30_000).then_some(Told::Forgotten))
    }

    /// What replay memory says of a request id.
    pub(super) fn past(&mut self, mark: RequestMark, kind: Kind) -> Option<Told> {
        if self.abandoned.iter().any(|(id, _)| *id == mark.id) {
            return Some(Told::Cancelled);
        }
        if let Some((known, effect, _)) = self.effects.iter().find(|it| it.0.id == mark.id) {
            if known.command != mark.command || effect.kind() != kind {
                return Some(Told::Reused);
            }
            let told = self.told_again(&effect.clone());
            let is_lost = |told: &Told| matches!(told, Told::Lost(_));
            self.met.push(match (&told, kind) {
                (Told::Lost(_), _) => Met::ReplayOfLost,
                (Told::Transacted { each, .. }, _) if each.iter().any(is_lost) => Met::ReplayOfLost,
                (_, Kind::Transact) => Met::TransactionReplayed,
                (_, _) => Met::WriteReplayed,
            });
            return Some(told);
        }
        let ended = self.ended.iter().find(|it| is(it.lease.mark, mark.id))?;
        let same = ended.lease.mark.unwrap().command == mark.command;
        Some(if kind == Kind::Acquire && same { Told::Lost(ended.end) } else { Told::Reused })
    }

    pub(super) fn remember(&mut self, request: &Request, effect: Effect) {
        if let Some(mark) = request.mark {
            self.effects.push((mark, effect, self.now));
        }
    }

    /// An effect once more, with what is left of times computed anew.
    pub(super) fn told_again(&self, effect: &Effect) -> Told {
        match effect {
            Effect::Transferred { lease_id } => self.held_again(*lease_id, true),
            Effect::Acquired { lease_id } => self.held_again(*lease_id, false),
            Effect::Transacted(effects) => self.transacted_again(effects),
            other => other.told(true),
        }
    }

    fn held_again(&self, lease_id: LeaseId, is_transfer: bool) -> Told {
        let Some(lease) = self.leases.iter().find(|it| it.id == lease_id) else {
            let ended = self.ended.iter().find(|it| it.lease.id == lease_id);
            return Told::Lost(ended.expect("it is remembered as long").end);
        };
        let (remaining_ms, replayed) = (self.remaining(lease), true);
        if is_transfer {
            Told::Transferred { lease_id, remaining_ms, replayed }
        } else {
            Told::Granted { lease_id, remaining_ms, waited_ms: 0, replayed }
        }
    }
}

impl Effect {
    fn kind(&self) -> Kind {
        match self {
            Self::Released => Kind::Release,
            Self::Forced { .. } => Kind::Force,
            Self::Transferred { .. } => Kind::Transfer,
            Self::Acquired { .. } => Kind::Acquire,
            Self::Put { .. } => Kind::Put,
            Self::Incremented { .. } => Kind::Increment,
            Self::Deleted { .. } => Kind::Delete,
            Self::Protected { .. } => Kind::Protect,
            Self::Unprotected => Kind::Unprotect,
            Self::Transacted(_) => Kind::Transact,
        }
    }

    /// What its call is told; grants are told with what is left of them.
    pub(super) fn told(&self, replayed: bool) -> Told {
        match self {
            Self::Released => Told::Released { replayed },
            Self::Forced { from } => Told::ForceReleased { from: from.clone(), replayed },
            Self::Put { version, created } => {
                Told::Put { version: *version, created: *created, replayed }
            }
            Self::Incremented { value, version, created } => {
                Told::Incremented { value: *value, version: *version, created: *created, replayed }
            }
            Self::Deleted { version } => {
                Told::Deleted { existed: true, version: *version, replayed }
            }
            Self::Protected { revision } => {
                Told::Protected { revision: *revision, existed: false, replayed }
            }
            Self::Unprotected => Told::Unprotected { existed: true, replayed },
            Self::Transferred { .. } | Self::Acquired { .. } | Self::Transacted(_) => {
                unreachable!("told by what is there now")
            }
        }
    }
}
