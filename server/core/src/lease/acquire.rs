//! Taking a lease: replay, grant, queue or refusal.
//!
//! A newcomer is granted only if neither a holder nor an attached waiter before it stands in its
//! way, on any of its targets.

use alloc::{boxed::Box, sync::Arc};

use super::{
    claims::{self, Standing},
    deadlock::{self, Hypothesis},
    explain,
};

use crate::{
    change::{Change, Effect, LeaseGranted, NewLease},
    command::{AcquireLease, Lifetime, Request},
    decision::{Draft, Outcome, check_cap, check_fences},
    memory::Past,
    motion::{Motion, QueuedWaiter},
    overlay::View,
    refusal::{Cap, Refusal},
    replay,
    reply::{Grant, Reply},
    session::admit,
    tree::QueueKey,
    types::{LeaseId, RequestMark, SessionNumber, Token, Ttl},
};

/// Decides an acquire that may wait.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    acquire: &AcquireLease,
    draft: &mut Draft,
) -> Outcome {
    if let Some(mark) = request.mark {
        match earlier(view, request, mark)? {
            Earlier::Unknown => {}
            Earlier::Granted(grant) => return Ok(Some(Reply::Acquired(grant))),
            Earlier::Waits(waiter) => return attach(view, request, waiter, acquire, draft),
        }
    }
    check_fences(view, &request.fences)?;
    let life = life(view, acquire)?;
    claims::check_limits(view, &acquire.targets)?;
    let key = QueueKey::newcomer(acquire.priority.get());
    if let Standing::Free(dead) = claims::judge(view, &acquire.targets, key) {
        let asked = Asked { mark: request.mark, by: asked_by(view, request.mark, request, life) };
        return grant(view, asked, acquire, life, &dead, draft)
            .map(|reply| Some(Reply::Acquired(reply)));
    }
    if acquire.wait_ms == 0 {
        return Err(Refusal::Held(Box::new(explain::held(view, &acquire.targets, key, 0))));
    }
    deadlock::check(view, &Hypothesis::Newcomer(acquire))?;
    check_room(view, acquire)?;
    check_cap(Cap::Waiters, view.waiter_count(), 1, view.state.quotas.waiters)?;
    let queued = QueuedWaiter {
        namespace: view.namespace.clone(),
        mark: request.mark,
        asked_by: asked_by(view, request.mark, request, life),
        fences: request.fences.clone(),
        acquire: acquire.clone(),
        call: request.call,
        until: view.now.plus(acquire.wait_ms),
    };
    check_cap(Cap::Bytes, view.byte_count(), queued.bytes(), view.state.quotas.bytes)?;
    draft.motion(Motion::WaiterQueued(Box::new(queued)));
    Ok(None)
}

/// Decides an acquire within a transaction: now or not at all.
pub(crate) fn decide_within(
    view: View<'_>,
    acquire: &AcquireLease,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    let life = life(view, acquire)?;
    claims::check_limits(view, &acquire.targets)?;
    let key = QueueKey::newcomer(acquire.priority.get());
    let Standing::Free(dead) = claims::judge(view, &acquire.targets, key) else {
        return Err(Refusal::Held(Box::new(explain::held(view, &acquire.targets, key, 0))));
    };
    let grant = grant(view, Asked { mark: None, by: None }, acquire, life, &dead, draft)?;
    let effect = Effect::Acquired { lease_id: grant.lease_id, token: grant.token };
    Ok((Reply::Acquired(grant), effect))
}

/// What an earlier send of a request came to, unless it was refused.
enum Earlier {
    /// Nothing known; young enough to be executed.
    Unknown,
    /// It holds its lease.
    Granted(Grant),
    /// It waits.
    Waits(u32),
}

fn earlier(view: View<'_>, request: &Request, mark: RequestMark) -> Result<Earlier, Refusal> {
    let state = view.state;
    if let Some(slot) = state.find_lease_of(mark.id) {
        let granted = &state.lease(slot).granted;
        replay::same_command(granted.request.map(|known| known.command), mark.command)?;
        if !state.is_live(slot) {
            let ended = view.ended(granted.lease_id).expect("its session has ended");
            return Err(Refusal::LeaseLost { end: ended.end, token: ended.token });
        }
        return Ok(Earlier::Granted(Grant {
            lease_id: granted.lease_id,
            token: granted.token,
            remaining_ms: state.remaining_ms(slot, view.now),
            waited_ms: 0,
            replayed: true,
        }));
    }
    if let Some(waiter) = state.find_waiter_of(mark.id) {
        replay::same_command(state.waiter(waiter).mark.map(|known| known.command), mark.command)?;
        return Ok(Earlier::Waits(waiter));
    }
    match admit::past(view, request, mark) {
        None => admit::check_unknown(view, request).map(|()| Earlier::Unknown),
        Some(Past::Abandoned) => Err(Refusal::CancelledWait),
        Some(Past::LeaseEnded { command, end, token }) => {
            replay::same_command(Some(*command), mark.command)?;
            Err(Refusal::LeaseLost { end: *end, token: *token })
        }
        Some(Past::Effect { .. }) => Err(Refusal::RequestIdReused),
    }
}

/// Attaches a call to its waiter. One that won't wait is attached only if it is served at once,
/// else told how things stand.
fn attach(
    view: View<'_>,
    request: &Request,
    waiter: u32,
    acquire: &AcquireLease,
    draft: &mut Draft,
) -> Outcome {
    let state = view.state;
    if acquire.wait_ms == 0 && !super::wait::is_next(view, waiter) {
        draft.motion(Motion::WaiterKept { waiter, keep_ms: acquire.keep_ms });
        let held = explain::held_of(state, view.now, waiter, 0);
        return Err(Refusal::StillWaiting(Box::new(held)));
    }
    if !state.waiter(waiter).is_attached() {
        deadlock::check(view, &Hypothesis::Attached(waiter))?;
    }
    draft.motion(Motion::CallAttached {
        waiter,
        call: request.call,
        until: view.now.plus(acquire.wait_ms),
        keep_ms: acquire.keep_ms,
    });
    super::wait::bound_calls(state, view.now, waiter, draft);
    Ok(None)
}

/// How long a lease would last, judged now.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) ttl: Ttl,
    /// The session it lives with.
    pub(crate) session: Option<SessionNumber>,
    pub(crate) remaining_ms: u64,
}

impl Life {
    /// What is left of a new lease: no more than it may be held.
    pub(crate) fn remaining_ms_of(self, granted: &LeaseGranted) -> u64 {
        let hold = granted.terms().and_then(|terms| terms.max_hold);
        self.remaining_ms.min(hold.map_or(u64::MAX, |hold| hold.ms()))
    }
}

/// Who asked for a lease.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) mark: Option<RequestMark>,
    /// The session whose operation that is.
    pub(crate) by: Option<SessionNumber>,
}

/// Its own ttl, or the rest of a session that is alive.
pub(crate) fn life(view: View<'_>, acquire: &AcquireLease) -> Result<Life, Refusal> {
    match acquire.lifetime {
        Lifetime::Ttl(ttl) => Ok(Life { ttl, session: None, remaining_ms: ttl.ms() }),
        Lifetime::Session(id) => {
            let slot = view.live_session(id)?;
            let opened = &view.state.session(slot).opened;
            let remaining_ms = view.state.session_remaining_ms(slot, view.now);
            Ok(Life { ttl: opened.ttl, session: Some(opened.number), remaining_ms })
        }
    }
}

fn asked_by(
    view: View<'_>,
    mark: Option<RequestMark>,
    request: &Request,
    life: Life,
) -> Option<SessionNumber> {
    let asked = mark.and_then(|_| admit::operation(view, request)).map(|(session, _)| session);
    life.session.or(asked)
}

/// Grants, if there is room; what dead sessions have left in the way goes first.
fn grant(
    view: View<'_>,
    asked: Asked,
    acquire: &AcquireLease,
    life: Life,
    dead: &[u32],
    draft: &mut Draft,
) -> Result<Grant, Refusal> {
    deadlock::check_grant(view, acquire)?;
    check_room(view, acquire)?;
    end_dead(view, dead, draft);
    let granted = granted(view, asked, acquire, life, Token(draft.take_revision().0));
    let reply = Grant {
        lease_id: granted.lease_id,
        token: granted.token,
        remaining_ms: life.remaining_ms_of(&granted),
        waited_ms: 0,
        replayed: false,
    };
    draft.change(Change::LeaseGranted(Arc::new(granted)));
    Ok(reply)
}

pub(crate) fn granted(
    view: View<'_>,
    asked: Asked,
    acquire: &AcquireLease,
    life: Life,
    token: Token,
) -> LeaseGranted {
    LeaseGranted::new(NewLease {
        namespace: view.own_namespace(),
        lease_id: acquire.lease_id,
        token,
        holder: acquire.holder.clone(),
        granted_at: view.state.durable_now(view.now),
        targets: acquire.targets.clone(),
        terms: acquire.terms.clone(),
        ttl: life.ttl,
        // What lives with a session is that session's, whoever asked.
        session: life.session.or(asked.by),
        is_bound: life.session.is_some(),
        request: asked.mark,
    })
}

/// Ends leases of dead sessions that would be in the way of a grant, unless the draft did.
pub(crate) fn end_dead(view: View<'_>, dead: &[u32], draft: &mut Draft) {
    let state = view.state;
    for slot in dead {
        let granted = &state.lease(*slot).granted;
        let session = state.session_of(*slot).map(|session| state.session(session));
        let ended = session.and_then(|session| session.ended.as_ref());
        let end = ended.expect("its session has ended").end.of_leases();
        if !draft.has_ended(granted.token) {
            super::end::end(state, view.now, granted, end, draft);
        }
    }
}

/// A waiter may become a lease, so both count against every cap.
fn check_room(view: View<'_>, acquire: &AcquireLease) -> Result<(), Refusal> {
    let quotas = &view.state.quotas;
    view.check_namespaces()?;
    let used = view.lease_count() + view.waiter_count();
    check_cap(Cap::Leases, used, 1, quotas.leases)?;
    check_bytes(view, acquire.bytes())
}

/// So many more bytes fit, of names and of what will be remembered of the end, with a request id or
/// without.
pub(crate) fn check_bytes(view: View<'_>, more: u64) -> Result<(), Refusal> {
    let quotas = &view.state.quotas;
    check_cap(Cap::Bytes, view.byte_count(), more, quotas.bytes)?;
    check_cap(Cap::Memory, view.state.memory.bytes(), 1, quotas.memory_bytes)
}

/// The grant again that a remembered request had got.
pub(crate) fn again(view: View<'_>, lease_id: LeaseId, token: Token) -> Result<Grant, Refusal> {
    match view.lease_by_id(lease_id) {
        Some(known) => Ok(Grant {
            lease_id,
            token,
            remaining_ms: known.remaining_ms,
            waited_ms: 0,
            replayed: true,
        }),
        None => match view.ended(lease_id) {
            Some(ended) => Err(Refusal::LeaseLost { end: ended.end, token: ended.token }),
            None => Err(Refusal::NotFound),
        },
    }
}
