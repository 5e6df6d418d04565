//! Changes of leases.

use std::sync::Arc;

use singletrack_core::{
    change::{LeaseClosed, LeaseEnded, LeaseGranted, NewLease},
    command::Terms,
    refusal::LeaseEnd,
    types::{
        Actor, Claim, DurableMs, Holder, Labels, LeaseId, LockDelay, MaxHold, Mode, Namespace,
        Permits, Reach, ResourceName, Revision, Target, Targets, Token, Ttl,
    },
};

use super::{Flawed, by_in, hash, mark_in, mark_out, number_in, number_out, required};
use crate::store::wire;

pub(super) fn granted_out(granted: &LeaseGranted) -> wire::LeaseGranted {
    let mut targets = granted.claims().map(target_out);
    wire::LeaseGranted {
        namespace: granted.namespace.as_str().to_owned(),
        lease_id: granted.lease_id.0.to_vec(),
        token: granted.token.0,
        holder: granted.holder.as_str().to_owned(),
        target: targets.next(),
        further_targets: targets.collect(),
        ttl_ms: u32::try_from(granted.ttl.ms()).expect("a ttl is kept in 32 bits"),
        request: granted.request.as_ref().map(mark_out),
        session: number_out(granted.session),
        is_bound: granted.is_bound,
        granted_at: granted.granted_at.0,
        terms: granted.terms().map(terms_out),
    }
}

pub(super) fn granted_in(granted: wire::LeaseGranted) -> Result<LeaseGranted, Flawed> {
    let first = target_in(required(granted.target, "a target")?)?;
    let further = granted.further_targets.into_iter().map(target_in);
    let targets: Vec<_> = std::iter::once(Ok(first)).chain(further).collect::<Result<_, _>>()?;
    let targets = Targets::parse(targets)
        .map_err(|(index, flaw)| Flawed(format!("target {index}: {}", flaw.description)))?;
    let session = number_in(granted.session)?;
    if granted.is_bound && session.is_none() {
        return Err(Flawed(String::from("a lease that lives with no session")));
    }
    Ok(LeaseGranted::new(NewLease {
        namespace: Namespace::parse(&granted.namespace)?,
        lease_id: LeaseId(hash(&granted.lease_id)?),
        token: Token::parse(granted.token)?,
        holder: Holder::parse(&granted.holder)?,
        granted_at: DurableMs(granted.granted_at),
        targets,
        terms: granted.terms.map(terms_in).transpose()?.map(Box::new),
        ttl: Ttl::parse(u64::from(granted.ttl_ms))?,
        session,
        is_bound: granted.is_bound,
        request: granted.request.map(mark_in).transpose()?,
    }))
}

fn target_out(claim: Claim<'_>) -> wire::Target {
    let (mode, permits, limit) = match claim.mode {
        Mode::Exclusive => (wire::LeaseMode::Exclusive, 0, 0),
        Mode::Shared => (wire::LeaseMode::Shared, 0, 0),
        Mode::Permits(permits) => (wire::LeaseMode::Permits, permits.count(), permits.limit()),
    };
    let reach = match claim.reach {
        Reach::Exact => wire::LeaseReach::Unspecified,
        Reach::Subtree => wire::LeaseReach::Subtree,
    };
    wire::Target {
        resource: claim.resource.as_str().to_owned(),
        mode: mode.into(),
        permits,
        limit,
        reach: reach.into(),
    }
}

fn target_in(target: wire::Target) -> Result<Target, Flawed> {
    let wire::Target { resource, mode, permits, limit, reach } = target;
    let mode = match (wire::LeaseMode::try_from(mode), permits, limit) {
        (Ok(wire::LeaseMode::Exclusive), 0, 0) => Mode::Exclusive,
        (Ok(wire::LeaseMode::Shared), 0, 0) => Mode::Shared,
        (Ok(wire::LeaseMode::Permits), permits, limit) => {
            Mode::Permits(Permits::parse(permits, limit)?)
        }
        (Ok(wire::LeaseMode::Exclusive | wire::LeaseMode::Shared), _, _) => {
            return Err(Flawed(format!("{permits} of {limit} permits of a lease of mode {mode}")));
        }
        (Ok(wire::LeaseMode::Unspecified) | Err(_), _, _) => {
            return Err(Flawed(format!("a lease of mode {mode}")));
        }
    };
    let reach = match wire::LeaseReach::try_from(reach) {
        Ok(wire::LeaseReach::Unspecified) => Reach::Exact,
        Ok(wire::LeaseReach::Subtree) => Reach::Subtree,
        Err(_) => return Err(Flawed(format!("a target of reach {reach}"))),
    };
    Ok(Target { resource: ResourceName::parse(&resource)?, mode, reach })
}

fn terms_out(terms: &Terms) -> wire::Terms {
    let Terms { actor, labels, max_hold, lock_delay } = terms;
    wire::Terms {
        actor: actor.as_ref().map(Actor::to_string).unwrap_or_default(),
        labels: labels
            .iter()
            .map(|(key, value)| wire::Label { key: key.to_owned(), value: value.to_owned() })
            .collect(),
        max_hold_ms: max_hold.map_or(0, MaxHold::ms),
        lock_delay_ms: lock_delay.map_or(0, LockDelay::ms),
    }
}

fn terms_in(terms: wire::Terms) -> Result<Terms, Flawed> {
    let wire::Terms { actor, labels, max_hold_ms, lock_delay_ms } = terms;
    let labels = labels.iter().map(|label| (&*label.key, &*label.value));
    Ok(Terms {
        actor: if actor.is_empty() { None } else { Some(Actor::parse(&actor)?) },
        labels: Labels::parse(labels).map_err(|(_, flaw)| flaw)?,
        max_hold: if max_hold_ms == 0 { None } else { Some(MaxHold::parse(max_hold_ms)?) },
        lock_delay: LockDelay::parse(lock_delay_ms)?,
    })
}

pub(super) fn closed_out(closed: &LeaseClosed) -> wire::LeaseClosed {
    wire::LeaseClosed {
        granted: Some(granted_out(&closed.granted)),
        ended: Some(ended_out(&closed.ended)),
        until: closed.until.0,
    }
}

pub(super) fn closed_in(closed: wire::LeaseClosed) -> Result<LeaseClosed, Flawed> {
    let granted = granted_in(required(closed.granted, "what a lease was")?)?;
    let ended = ended_in(required(closed.ended, "how a lease ended")?)?;
    if (granted.token, &granted.namespace) != (ended.token, &ended.namespace) {
        let what = format!("the end of lease {} for that of lease {}", ended.token, granted.token);
        return Err(Flawed(what));
    }
    let (granted, ended) = (Arc::new(granted), Arc::new(ended));
    Ok(LeaseClosed { granted, ended, until: DurableMs(closed.until) })
}

pub(super) fn end_out(end: LeaseEnd) -> wire::LeaseEndKind {
    match end {
        LeaseEnd::Released => wire::LeaseEndKind::Released,
        LeaseEnd::Expired => wire::LeaseEndKind::Expired,
        LeaseEnd::Forced => wire::LeaseEndKind::Forced,
        LeaseEnd::Transferred => wire::LeaseEndKind::Transferred,
        LeaseEnd::MaxHold => wire::LeaseEndKind::MaxHold,
    }
}

pub(super) fn end_in(end: i32) -> Result<LeaseEnd, Flawed> {
    match wire::LeaseEndKind::try_from(end) {
        Ok(wire::LeaseEndKind::Released) => Ok(LeaseEnd::Released),
        Ok(wire::LeaseEndKind::Expired) => Ok(LeaseEnd::Expired),
        Ok(wire::LeaseEndKind::Forced) => Ok(LeaseEnd::Forced),
        Ok(wire::LeaseEndKind::Transferred) => Ok(LeaseEnd::Transferred),
        Ok(wire::LeaseEndKind::MaxHold) => Ok(LeaseEnd::MaxHold),
        Ok(wire::LeaseEndKind::Unspecified) | Err(_) => {
            Err(Flawed(format!("an end of kind {end}")))
        }
    }
}

pub(super) fn ended_out(ended: &LeaseEnded) -> wire::LeaseEnded {
    wire::LeaseEnded {
        namespace: ended.namespace.as_str().to_owned(),
        lease_id: ended.lease_id.0.to_vec(),
        token: ended.token.0,
        revision: ended.revision.0,
        end: end_out(ended.end).into(),
        request: ended.request.as_ref().map(mark_out),
        session: number_out(ended.session),
        by: ended.by.map(|by| wire::RequestOf {
            session: by.session.revision().0,
            seq: by.seq,
            mark: Some(mark_out(&by.mark)),
        }),
    }
}

pub(super) fn ended_in(ended: wire::LeaseEnded) -> Result<LeaseEnded, Flawed> {
    Ok(LeaseEnded {
        namespace: Namespace::parse(&ended.namespace)?,
        lease_id: LeaseId(hash(&ended.lease_id)?),
        token: Token::parse(ended.token)?,
        revision: Revision(ended.revision),
        end: end_in(ended.end)?,
        session: number_in(ended.session)?,
        request: ended.request.map(mark_in).transpose()?,
        by: ended.by.map(by_in).transpose()?,
    })
}
