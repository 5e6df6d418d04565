//! The ends of leases: released, taken away, abandoned, expired.

use alloc::sync::Arc;

use crate::{
    change::{Change, Effect, LeaseClosed, LeaseEnded, LeaseGranted, RequestOf},
    command::{LeaseRef, Request},
    decision::{Draft, check_cap, check_fences},
    memory::Past,
    motion::Motion,
    overlay::{Known, View},
    refusal::{Cap, LeaseEnd, Refusal},
    replay,
    reply::{AbandonedState, Notice, Reply},
    session::admit,
    state::State,
    types::{Ms, RequestHash, ResourceName, SessionId, Token},
};

/// Decides a release.
pub(crate) fn release(
    view: View<'_>,
    request: &Request,
    lease: LeaseRef,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    let by = request.mark.and_then(|mark| {
        let (session, seq) = admit::operation(view, request)?;
        Some(RequestOf { session, seq, mark })
    });
    let reply = release_one(view, lease, by, draft)?;
    // One that an earlier call had released is remembered as the lease's end already, and a
    // session's operation with the end that it brings about.
    if by.is_none() && reply == (Reply::Released { replayed: false }) {
        replay::remember(view, request, Effect::Released, draft);
    }
    Ok(reply)
}

/// Decides a release within a transaction, where an earlier release is no effect.
pub(crate) fn release_within(
    view: View<'_>,
    lease: LeaseRef,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    let reply = release_one(view, lease, None, draft)?;
    if reply == (Reply::Released { replayed: true }) {
        return Err(Refusal::AlreadyDone);
    }
    Ok((reply, Effect::Released))
}

fn release_one(
    view: View<'_>,
    lease: LeaseRef,
    by: Option<RequestOf>,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    match find_own(view, lease) {
        Ok(known) => {
            end_by(view.state, view.now, known.granted, LeaseEnd::Released, by, draft);
            Ok(Reply::Released { replayed: false })
        }
        Err(Refusal::LeaseLost { end: LeaseEnd::Released, .. }) => {
            Ok(Reply::Released { replayed: true })
        }
        Err(refusal) => Err(refusal),
    }
}

/// The live lease that its holder names.
pub(crate) fn find_own(view: View<'_>, lease: LeaseRef) -> Result<Known<'_>, Refusal> {
    if let Some(known) = view.lease_by_id(lease.lease_id) {
        let is_own = known.granted.token == lease.token;
        return if is_own { Ok(known) } else { Err(Refusal::NotHolder) };
    }
    let ended = view.ended(lease.lease_id).ok_or(Refusal::NotFound)?;
    if ended.token != lease.token {
        return Err(Refusal::NotHolder);
    }
    Err(Refusal::LeaseLost { end: ended.end, token: ended.token })
}

/// Decides a forced release.
pub(crate) fn force(
    view: View<'_>,
    request: &Request,
    resource: &ResourceName,
    token: Token,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    let (reply, effect) = force_within(view, resource, token, draft)?;
    replay::remember(view, request, effect, draft);
    Ok(reply)
}

/// Decides a forced release within a transaction.
pub(crate) fn force_within(
    view: View<'_>,
    resource: &ResourceName,
    token: Token,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    let is_named =
        |known: &Known<'_>| known.granted.claims().any(|claim| claim.resource == resource);
    let known = view.holder(resource, token).filter(is_named).ok_or(Refusal::NotFound)?;
    end(view.state, view.now, known.granted, LeaseEnd::Forced, draft);
    tell_session(view.state, known.granted, LeaseEnd::Forced, draft);
    let holder = known.granted.holder.clone();
    let effect = Effect::ForceReleased { holder: holder.clone() };
    Ok((Reply::ForceReleased { holder, replayed: false }, effect))
}

/// Decides an abandon.
pub(crate) fn abandon(
    view: View<'_>,
    abandoned: RequestHash,
    of: Option<(SessionId, u64)>,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let state = view.state;
    let known = if let Some(slot) = state.find_lease_of(abandoned)
        && state.is_live(slot)
    {
        end(state, view.now, &state.lease(slot).granted, LeaseEnd::Released, draft);
        AbandonedState::Held
    } else if let Some(waiter) = state.find_waiter_of(abandoned) {
        super::wait::cancel(state, waiter, draft);
        AbandonedState::Waiting
    } else {
        match admit::past_of(view, of, abandoned) {
            Some(Past::Effect { .. }) => return Err(Refusal::RequestIdReused),
            Some(Past::Abandoned) => return Ok(Reply::Abandoned(AbandonedState::Nothing)),
            Some(Past::LeaseEnded { .. }) => AbandonedState::Ended,
            None => {
                check_cap(Cap::Memory, state.memory.bytes(), 1, state.quotas.memory_bytes)?;
                AbandonedState::Nothing
            }
        }
    };
    let revision = draft.shared_revision();
    draft.change(Change::RequestAbandoned { id: abandoned, revision });
    Ok(Reply::Abandoned(known))
}

/// Ends a lease whose deadline has come, or moves the deadline to where it truly is; opens the
/// resources of one that is closed.
pub(crate) fn expire(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let lease = state.lease(slot);
    let granted = &lease.granted;
    if lease.is_closed() {
        reopen(state, now, slot, draft);
        return;
    }
    let at = state.lease_deadline(slot);
    if at > now {
        draft.motion(Motion::LeaseRearmed { lease: slot, at });
        return;
    }
    let is_held_out = state.hold_remaining_ms(granted, now) == Some(0);
    let how = if is_held_out { LeaseEnd::MaxHold } else { LeaseEnd::Expired };
    // What a dead session has left is ended with the session.
    if state.is_live(slot) {
        end(state, now, granted, how, draft);
        tell_session(state, granted, how, draft);
    } else {
        let session =
            state.session_of(slot).and_then(|session| state.session(session).ended.as_ref());
        let how = session.map_or(how, |ended| ended.end.of_leases());
        end(state, now, granted, how, draft);
    }
}

fn reopen(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let granted = &state.lease(slot).granted;
    let closed = state.closed.get(&granted.token).expect("a closed lease is known as such");
    let at = state.volatile(closed.closed.until);
    if at > now {
        draft.motion(Motion::LeaseRearmed { lease: slot, at });
        return;
    }
    let revision = draft.take_revision();
    let (namespace, token) = (granted.namespace.clone(), granted.token);
    draft.change(Change::LeaseReopened { namespace, token, revision });
}

/// Writes down that a lease has ended.
pub(crate) fn end(
    state: &State,
    now: Ms,
    granted: &Arc<LeaseGranted>,
    end: LeaseEnd,
    draft: &mut Draft,
) {
    end_by(state, now, granted, end, None, draft);
}

/// Tells the session that asked for a lease that it has ended, if it lives and has a stream.
fn tell_session(state: &State, granted: &LeaseGranted, end: LeaseEnd, draft: &mut Draft) {
    let slot = granted.session.and_then(|number| state.find_session(number));
    let session = slot.map(|slot| state.session(slot)).filter(|session| session.is_live());
    let Some(stream) = session.and_then(|session| session.stream) else { return };
    let (lease_id, token) = (granted.lease_id, granted.token);
    draft.answer(stream, Ok(Reply::Notice(Notice::LeaseLost { lease_id, token, end })));
}

fn end_by(
    state: &State,
    now: Ms,
    granted: &Arc<LeaseGranted>,
    end: LeaseEnd,
    by: Option<RequestOf>,
    draft: &mut Draft,
) {
    let revision = draft.take_revision();
    let ended = Arc::new(LeaseEnded {
        namespace: granted.namespace.clone(),
        lease_id: granted.lease_id,
        token: granted.token,
        revision,
        end,
        session: granted.session,
        request: granted.request,
        by,
    });
    let delay = granted.terms().and_then(|terms| terms.lock_delay);
    draft.change(match delay.filter(|_| end.is_involuntary()) {
        None => Change::LeaseEnded(ended),
        Some(delay) => Change::LeaseClosed(Arc::new(LeaseClosed {
            granted: Arc::clone(granted),
            ended,
            until: state.durable_now(now).plus(delay.ms()),
        })),
    });
}
