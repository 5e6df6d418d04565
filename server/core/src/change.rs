//! What a decision does to durable state and to replay memory, and nothing else.
//!
//! A change is an absolute post-image: absorbing it twice is absorbing it once. Each noun has
//! its range of tags, the same as on the wire; a tag is never reused, as logs keep them:
//!
//! | tags | noun |
//! |---|---|
//! | 1..=9 | the machine itself and replay memory |
//! | 10..=29 | lease |
//! | 30..=49 | record |
//! | 50..=69 | idempotency key |
//! | 70..=99 | queue |
//! | 100..=129 | event |

mod record;

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use bytes::Bytes;

pub use self::record::{Protection, RecordDeleted, RecordLife, RecordPut, RecordWritten};
use crate::{
    command::Terms,
    refusal::{LeaseEnd, SessionEnd},
    types::{
        Actor, Claim, DurableMs, Holder, LeaseId, LockDelay, Mode, Namespace, Reach, RecordKey,
        RequestHash, RequestMark, ResourceName, Revision, SessionId, SessionNumber, Target,
        Targets, Token, Ttl,
    },
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Tag 1: the machine was opened, its counter stands here. Durable.
    Started {
        /// Where tokens go on from.
        revision: Revision,
    },
    /// Tag 2: an effect to be told again when its request is repeated. Replay memory.
    RequestRemembered(Arc<RequestRemembered>),
    /// Tag 3: a request that must not take effect any more. Replay memory.
    RequestAbandoned {
        /// Whose.
        id: RequestHash,
        /// When.
        revision: Revision,
    },
    /// Tag 4: a session is open. Durable; the whole row.
    SessionOpened(Arc<SessionOpened>),
    /// Tag 5: a session has ended; what it holds is gone to every check, and is ended in slices.
    /// Durable; the whole row.
    SessionEnded(Arc<SessionEnded>),
    /// Tag 6: nothing is left of what an ended session held. Durable: the row goes.
    SessionSwept {
        /// Where.
        namespace: Namespace,
        /// Which.
        number: SessionNumber,
        /// When.
        revision: Revision,
    },
    /// Tag 7: all replies of a session below this operation were acknowledged. Replay memory.
    SessionFloored {
        /// Which.
        number: SessionNumber,
        /// The first that was not.
        below: u64,
        /// When.
        revision: Revision,
    },
    /// Tag 8: so far durable time has come. Durable; one row.
    TimePassed {
        /// Durable time.
        at: DurableMs,
        /// When.
        revision: Revision,
    },
    /// Tag 10: a lease is held. Durable; the whole row.
    LeaseGranted(Arc<LeaseGranted>),
    /// Tag 11: a lease is no more. Durable: the row goes. Replay memory: how it ended.
    LeaseEnded(Arc<LeaseEnded>),
    /// Tag 12: a lease is no more, and keeps its resources closed for a while. Durable: the
    /// whole row. Replay memory: how it ended.
    LeaseClosed(Arc<LeaseClosed>),
    /// Tag 13: the resources of a closed lease are open again. Durable: the row goes.
    LeaseReopened {
        /// Where.
        namespace: Namespace,
        /// The token the lease had.
        token: Token,
        /// When.
        revision: Revision,
    },
    /// Tag 30: a record has this value. Durable; the whole row.
    RecordWritten(Arc<RecordWritten>),
    /// Tag 31: a record is no more. Durable: the row goes.
    RecordDeleted(Arc<RecordDeleted>),
    /// Tag 32: a prefix is protected by a resource. Durable; the whole row.
    PrefixProtected(Arc<Protection>),
    /// Tag 33: it is not any more. Durable: the row goes.
    PrefixUnprotected(Arc<Protection>),
}

/// A lease, as it is kept. A million of these are, so what nearly all have is flat and small, and
/// what few have is kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGranted {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token and the revision of this change.
    pub token: Token,
    /// Who holds it.
    pub holder: Holder,
    /// When it was granted.
    pub granted_at: DurableMs,
    /// What it is for, first of all.
    resource: ResourceName,
    form: Form,
    rare: Option<Box<Rare>>,
    /// How long it lasts without renewal: its own, or its session's.
    pub ttl: Ttl,
    /// The session that asked for it; `None`: it was asked for without one.
    pub session: Option<SessionNumber>,
    /// It lives with that session; else it has its own ttl.
    pub is_bound: bool,
    /// The request that asked for it.
    pub request: Option<RequestMark>,
}

/// How the only target of a lease shares its resource, and how far down it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Exclusive,
    Shared,
    ExclusiveSubtree,
    SharedSubtree,
    /// The targets are kept apart.
    Rare,
}

/// What few leases have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rare {
    /// All targets; `None`: there is one, whose form says all.
    targets: Option<Targets>,
    terms: Option<Box<Terms>>,
}

/// What a lease is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLease {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token and the revision of its grant.
    pub token: Token,
    /// Who holds it.
    pub holder: Holder,
    /// When it was granted.
    pub granted_at: DurableMs,
    /// What it is for.
    pub targets: Targets,
    /// What few have.
    pub terms: Option<Box<Terms>>,
    /// How long it lasts without renewal: its own, or its session's.
    pub ttl: Ttl,
    /// The session that asked for it.
    pub session: Option<SessionNumber>,
    /// It lives with that session.
    pub is_bound: bool,
    /// The request that asked for it.
    pub request: Option<RequestMark>,
}

/// A lease that has ended and keeps its resources closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseClosed {
    /// What it was.
    pub granted: Arc<LeaseGranted>,
    /// Its end.
    pub ended: Arc<LeaseEnded>,
    /// Until when its resources are closed.
    pub until: DurableMs,
}

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpened {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub session_id: SessionId,
    /// Its number and the revision of this change.
    pub number: SessionNumber,
    /// Whose it is.
    pub holder: Holder,
    /// How long it lasts without being kept alive.
    pub ttl: Ttl,
    /// Where the identities of its operations begin.
    pub requests: RequestHash,
}

/// A session that has ended and may still have leases to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnded {
    /// What it was.
    pub opened: Arc<SessionOpened>,
    /// The revision of this change.
    pub revision: Revision,
    /// How.
    pub end: SessionEnd,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseEnded {
    /// Where.
    pub namespace: Namespace,
    /// Its id.
    pub lease_id: LeaseId,
    /// Its token.
    pub token: Token,
    /// The revision of this change.
    pub revision: Revision,
    /// How.
    pub end: LeaseEnd,
    /// The session that had asked for it.
    pub session: Option<SessionNumber>,
    /// The request that had asked for the lease.
    pub request: Option<RequestMark>,
    /// The session's operation that released it, to be remembered until its reply is
    /// acknowledged; `None`: it ended in another way.
    pub by: Option<RequestOf>,
}

/// The identity of an operation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOf {
    /// Which session.
    pub session: SessionNumber,
    /// Its number there.
    pub seq: u64,
    /// What it is known by.
    pub mark: RequestMark,
}

/// An effect that is not visible in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRemembered {
    /// Whose.
    pub mark: RequestMark,
    /// The session and its operation that this was: remembered until its reply is acknowledged.
    /// `None`: remembered for [`crate::limits::MEMORY_MS`].
    pub of: Option<(SessionNumber, u64)>,
    /// When.
    pub revision: Revision,
    /// What to tell again.
    pub effect: Effect,
}

/// What a remembered request had achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It released its lease.
    Released,
    /// It took a lease away.
    ForceReleased {
        /// From whom.
        holder: Holder,
    },
    /// A transaction.
    Transacted {
        /// Its last revision.
        commit: Revision,
        /// The effects of its operations.
        effects: Vec<Effect>,
    },
    /// It wrote a record.
    RecordPut(RecordPut),
    /// It added to a counter.
    Incremented {
        /// What the counter then was.
        value: i64,
        /// The record that this is.
        put: RecordPut,
    },
    /// It deleted a record.
    RecordDeleted {
        /// The version that it had.
        version: Revision,
    },
    /// It protected a prefix.
    PrefixProtected {
        /// When.
        revision: Revision,
    },
    /// It took a protection back.
    PrefixUnprotected,
    /// It gave a lease to another holder.
    Transferred {
        /// The new lease.
        lease_id: LeaseId,
        /// Its token.
        token: Token,
    },
    /// It acquired a lease within a transaction.
    Acquired {
        /// The lease.
        lease_id: LeaseId,
        /// Its token.
        token: Token,
    },
    /// It had acquired a lease that has ended.
    LeaseEnded {
        /// How.
        end: LeaseEnd,
        /// The token it had.
        token: Token,
    },
}

/// The key of a durable row: one per thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// How far durable time has come; one row.
    Clock,
    /// A session. Before what is taken under it.
    Session(Namespace, SessionNumber),
    /// A lease.
    Lease(Namespace, Token),
    /// A record. After what it may be bound to.
    Record(Namespace, RecordKey),
    /// A protection.
    Protection(Namespace, RecordKey, ResourceName),
}

/// What a change leaves in the durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A row that never was before.
    Created(RowKey),
    /// A row that may have been before.
    Written(RowKey),
    /// A row that is gone.
    Removed(RowKey),
    /// Nothing: the change is about replay memory or the counter alone.
    None,
}

impl Trace {
    /// The row it is about.
    #[must_use]
    pub const fn key(&self) -> Option<&RowKey> {
        match self {
            Self::Created(key) | Self::Written(key) | Self::Removed(key) => Some(key),
            Self::None => None,
        }
    }
}

/// The changes of one command: they become visible together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The last revision taken; those of the changes end here.
    pub commit: Revision,
    /// In the order decided; never empty.
    pub changes: Vec<Change>,
}

// === impl LeaseGranted ===

impl LeaseGranted {
    /// A lease.
    #[must_use]
    pub fn new(new: NewLease) -> Self {
        let (resource, form) = match new.targets.as_slice() {
            [only] => (only.resource.clone(), Form::of(only)),
            _ => (new.targets.first().resource.clone(), Form::Rare),
        };
        let targets = (form == Form::Rare).then_some(new.targets);
        let terms = new.terms.filter(|terms| **terms != Terms::default());
        let is_rare = targets.is_some() || terms.is_some();
        Self {
            namespace: new.namespace,
            lease_id: new.lease_id,
            token: new.token,
            holder: new.holder,
            granted_at: new.granted_at,
            resource,
            form,
            rare: is_rare.then(|| Box::new(Rare { targets, terms })),
            ttl: new.ttl,
            session: new.session,
            is_bound: new.is_bound,
            request: new.request,
        }
    }

    /// What it claims.
    pub fn claims(&self) -> impl ExactSizeIterator<Item = Claim<'_>> {
        let many = self.many();
        let count = many.map_or(1, <[Target]>::len);
        (0..count).map(move |index| match many.and_then(|many| many.get(index)) {
            Some(target) => target.claim(),
            None => {
                Claim { resource: &self.resource, mode: self.form.mode(), reach: self.form.reach() }
            }
        })
    }

    /// Its only claim, unless it has several.
    pub(crate) fn only_claim(&self) -> Option<Claim<'_>> {
        let mut claims = self.claims();
        claims.next().filter(|_| claims.len() == 0)
    }

    /// The first resource it is for.
    #[must_use]
    pub const fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// What it is for, as it was asked.
    #[must_use]
    pub fn targets(&self) -> Targets {
        match self.rare.as_deref().and_then(|rare| rare.targets.as_ref()) {
            Some(targets) => targets.clone(),
            None => Targets::one(Target {
                resource: self.resource.clone(),
                mode: self.form.mode(),
                reach: self.form.reach(),
            }),
        }
    }

    /// What few leases have.
    #[must_use]
    pub fn terms(&self) -> Option<&Terms> {
        self.rare.as_deref()?.terms.as_deref()
    }

    /// The actor that holds it.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.terms()?.actor.as_ref()
    }

    /// Its end, of that kind, would leave its resources closed.
    pub(crate) fn would_close(&self, end: LeaseEnd) -> bool {
        end.is_involuntary() && self.terms().is_some_and(|terms| terms.lock_delay.is_some())
    }

    /// Until when it may be held at most.
    #[must_use]
    pub fn hold_end(&self) -> Option<DurableMs> {
        let max_hold = self.terms()?.max_hold?;
        Some(self.granted_at.plus(max_hold.ms()))
    }

    fn weight(&self) -> usize {
        let names: usize = self.claims().map(|claim| 32 + claim.resource.as_str().len()).sum();
        let terms = self.terms().map_or(0, |terms| {
            let actor = terms.actor.as_ref().map_or(0, |actor| actor.as_str().len());
            let labels: usize = terms.labels.iter().map(|(k, v)| 16 + k.len() + v.len()).sum();
            64 + actor + labels
        });
        160 + self.namespace.as_str().len() + self.holder.as_str().len() + names + terms
    }

    fn many(&self) -> Option<&[Target]> {
        Some(self.rare.as_deref()?.targets.as_ref()?.as_slice())
    }
}

// === impl Form ===

impl Form {
    const fn of(target: &Target) -> Self {
        match (target.mode, target.reach) {
            (Mode::Exclusive, Reach::Exact) => Self::Exclusive,
            (Mode::Shared, Reach::Exact) => Self::Shared,
            (Mode::Exclusive, Reach::Subtree) => Self::ExclusiveSubtree,
            (Mode::Shared, Reach::Subtree) => Self::SharedSubtree,
            (Mode::Permits(_), _) => Self::Rare,
        }
    }

    const fn mode(self) -> Mode {
        match self {
            Self::Shared | Self::SharedSubtree => Mode::Shared,
            Self::Exclusive | Self::ExclusiveSubtree | Self::Rare => Mode::Exclusive,
        }
    }

    const fn reach(self) -> Reach {
        match self {
            Self::ExclusiveSubtree | Self::SharedSubtree => Reach::Subtree,
            Self::Exclusive | Self::Shared | Self::Rare => Reach::Exact,
        }
    }
}

// === impl LeaseClosed ===

impl LeaseClosed {
    /// When it was closed.
    #[must_use]
    pub fn closed_at(&self) -> DurableMs {
        let delay = self.granted.terms().and_then(|terms| terms.lock_delay);
        DurableMs(self.until.0.saturating_sub(delay.map_or(0, LockDelay::ms)))
    }
}

// === impl SessionOpened ===

impl SessionOpened {
    fn key(&self) -> RowKey {
        RowKey::Session(self.namespace.clone(), self.number)
    }

    fn weight(&self) -> usize {
        112 + self.namespace.as_str().len() + self.holder.as_str().len()
    }
}

// === impl Change ===

impl Change {
    /// The tag under which the log and the state keep it.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        match self {
            Self::Started { .. } => 1,
            Self::RequestRemembered(_) => 2,
            Self::RequestAbandoned { .. } => 3,
            Self::SessionOpened(_) => 4,
            Self::SessionEnded(_) => 5,
            Self::SessionSwept { .. } => 6,
            Self::SessionFloored { .. } => 7,
            Self::TimePassed { .. } => 8,
            Self::LeaseGranted(_) => 10,
            Self::LeaseEnded(_) => 11,
            Self::LeaseClosed(_) => 12,
            Self::LeaseReopened { .. } => 13,
            Self::RecordWritten(_) => 30,
            Self::RecordDeleted(_) => 31,
            Self::PrefixProtected(_) => 32,
            Self::PrefixUnprotected(_) => 33,
        }
    }

    /// The revision it took.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Started { revision }
            | Self::RequestAbandoned { revision, .. }
            | Self::SessionSwept { revision, .. }
            | Self::SessionFloored { revision, .. }
            | Self::TimePassed { revision, .. }
            | Self::LeaseReopened { revision, .. } => *revision,
            Self::LeaseClosed(closed) => closed.ended.revision,
            Self::SessionOpened(opened) => opened.number.revision(),
            Self::SessionEnded(ended) => ended.revision,
            Self::RequestRemembered(remembered) => remembered.revision,
            Self::LeaseGranted(granted) => granted.token.revision(),
            Self::LeaseEnded(ended) => ended.revision,
            Self::RecordWritten(written) => written.version,
            Self::RecordDeleted(deleted) => deleted.revision,
            Self::PrefixProtected(protection) | Self::PrefixUnprotected(protection) => {
                protection.revision
            }
        }
    }

    /// What it leaves in the durable state.
    #[must_use]
    pub fn trace(&self) -> Trace {
        match self {
            Self::Started { .. }
            | Self::RequestRemembered(_)
            | Self::RequestAbandoned { .. }
            | Self::SessionFloored { .. } => Trace::None,
            Self::SessionOpened(opened) => Trace::Created(opened.key()),
            Self::SessionEnded(ended) => Trace::Written(ended.opened.key()),
            Self::SessionSwept { namespace, number, .. } => {
                Trace::Removed(RowKey::Session(namespace.clone(), *number))
            }
            Self::LeaseGranted(granted) => {
                Trace::Created(RowKey::Lease(granted.namespace.clone(), granted.token))
            }
            Self::LeaseEnded(ended) => {
                Trace::Removed(RowKey::Lease(ended.namespace.clone(), ended.token))
            }
            Self::LeaseClosed(closed) => {
                let granted = &closed.granted;
                Trace::Written(RowKey::Lease(granted.namespace.clone(), granted.token))
            }
            Self::LeaseReopened { namespace, token, .. } => {
                Trace::Removed(RowKey::Lease(namespace.clone(), *token))
            }
            Self::TimePassed { .. } => Trace::Written(RowKey::Clock),
            // One that was created anew may have a row of before.
            Self::RecordWritten(written) => Trace::Written(written.row_key()),
            Self::RecordDeleted(deleted) => {
                Trace::Removed(RowKey::Record(deleted.namespace.clone(), deleted.key.clone()))
            }
            Self::PrefixProtected(protection) => Trace::Written(protection.row_key()),
            Self::PrefixUnprotected(protection) => Trace::Removed(protection.row_key()),
        }
    }

    /// The body that it carries into the store, under its revision.
    #[must_use]
    pub fn carried(&self) -> Option<(Revision, &Bytes)> {
        let Self::RecordWritten(written) = self else { return None };
        Some((written.version, written.value.body()?.carried()?))
    }

    /// The body in the store that nobody needs after it.
    #[must_use]
    pub fn replaced(&self) -> Option<Revision> {
        if let Self::RecordWritten(written) = self {
            return written.replaced;
        }
        if let Self::RecordDeleted(deleted) = self {
            return deleted.replaced;
        }
        None
    }

    /// As a row: without what goes to the store by itself.
    #[must_use]
    pub fn to_row(&self) -> Self {
        if let Self::RecordWritten(written) = self {
            return Self::RecordWritten(written.to_kept());
        }
        self.clone()
    }

    /// An upper bound of its size in the log, bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Started { .. }
            | Self::RequestAbandoned { .. }
            | Self::SessionFloored { .. }
            | Self::TimePassed { .. } => 48,
            Self::RequestRemembered(remembered) => 96 + remembered.effect.weight(),
            Self::SessionOpened(opened) => opened.weight(),
            Self::SessionEnded(ended) => 32 + ended.opened.weight(),
            Self::SessionSwept { namespace, .. } => 48 + namespace.as_str().len(),
            Self::LeaseGranted(granted) => granted.weight(),
            Self::LeaseEnded(ended) => 208 + ended.namespace.as_str().len(),
            Self::LeaseClosed(closed) => {
                240 + closed.granted.weight() + closed.ended.namespace.as_str().len()
            }
            Self::LeaseReopened { namespace, .. } => 48 + namespace.as_str().len(),
            Self::RecordWritten(written) => written.weight(),
            Self::RecordDeleted(deleted) => {
                64 + deleted.namespace.as_str().len() + deleted.key.as_str().len()
            }
            Self::PrefixProtected(protection) | Self::PrefixUnprotected(protection) => {
                48 + protection.namespace.as_str().len()
                    + protection.prefix.as_str().len()
                    + protection.resource.as_str().len()
            }
        }
    }
}

impl Effect {
    /// An upper bound of its size in the log, bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Released | Self::LeaseEnded { .. } => 32,
            Self::ForceReleased { holder } => 16 + holder.as_str().len(),
            Self::Transacted { effects, .. } => {
                24 + effects.iter().map(Self::weight).sum::<usize>()
            }
            Self::Acquired { .. } | Self::Transferred { .. } | Self::Incremented { .. } => 48,
            Self::RecordPut(_)
            | Self::RecordDeleted { .. }
            | Self::PrefixProtected { .. }
            | Self::PrefixUnprotected => 32,
        }
    }
}
