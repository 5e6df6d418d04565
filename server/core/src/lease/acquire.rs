//! Taking a lease: replay, grant, queue or refusal.
//!
//! A later compatible request never overtakes an earlier conflicting one: a newcomer is
//! granted only if neither a holder nor an attached waiter before it conflicts.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use crate::{
    change::{Change, Effect, LeaseGranted},
    command::{AcquireLease, Lifetime, Request},
    decision::{Draft, Outcome, check_cap, check_fences},
    limits,
    memory::Past,
    motion::{Motion, QueuedWaiter},
    overlay::{Known, View},
    refusal::{Cap, Held, Refusal},
    reply::{Grant, Reply},
    session::admit,
    state::{Level, Resource},
    types::{CommandHash, Mode, RequestMark, ResourceName, SessionNumber, Token, Ttl},
};

/// Decides an acquire that may wait.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    acquire: &AcquireLease,
    draft: &mut Draft,
) -> Outcome {
    if let Some(mark) = request.mark {
        match replay(view, request, mark)? {
            Earlier::Unknown => {}
            Earlier::Granted(grant) => return Ok(Some(Reply::Acquired(grant))),
            Earlier::Waits(waiter) => return attach(view, request, waiter, acquire, draft),
        }
    }
    check_fences(view, &request.fences)?;
    let life = life(view, acquire)?;
    let ahead = conflicts(view, acquire);
    if ahead.is_none() {
        let asked = Asked { mark: request.mark, by: asked_by(view, request.mark, request, life) };
        return grant(view, asked, acquire, life, draft).map(|reply| Some(Reply::Acquired(reply)));
    }
    if acquire.wait_ms == 0 {
        return Err(Refusal::Held(Box::new(held(view, acquire, ahead.unwrap_or_default()))));
    }
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
    if let Some(ahead) = conflicts(view, acquire) {
        return Err(Refusal::Held(Box::new(held(view, acquire, ahead))));
    }
    let grant = grant(view, Asked { mark: None, by: None }, acquire, life, draft)?;
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

fn replay(view: View<'_>, request: &Request, mark: RequestMark) -> Result<Earlier, Refusal> {
    let state = view.state;
    if let Some(slot) = state.find_lease_of(mark.id) {
        let granted = &state.lease(slot).granted;
        same_command(granted.request.map(|known| known.command), mark.command)?;
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
        same_command(state.waiter(waiter).mark.map(|known| known.command), mark.command)?;
        return Ok(Earlier::Waits(waiter));
    }
    match admit::past(view, request, mark) {
        None => admit::check_unknown(view, request).map(|()| Earlier::Unknown),
        Some(Past::Abandoned) => Err(Refusal::CancelledWait),
        Some(Past::LeaseEnded { command, end, token }) => {
            same_command(Some(*command), mark.command)?;
            Err(Refusal::LeaseLost { end: *end, token: *token })
        }
        Some(Past::Effect { .. }) => Err(Refusal::RequestIdReused),
    }
}

pub(crate) fn same_command(known: Option<CommandHash>, asked: CommandHash) -> Result<(), Refusal> {
    if known == Some(asked) { Ok(()) } else { Err(Refusal::RequestIdReused) }
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
    if acquire.wait_ms == 0 && !super::wait::is_next(state, waiter) {
        draft.motion(Motion::WaiterKept { waiter, keep_ms: acquire.keep_ms });
        return Err(Refusal::StillWaiting(Box::new(super::wait::held_of(
            state, view.now, waiter, 0,
        ))));
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

/// `None`: nothing stands in the way; else how many attached waiters are ahead.
fn conflicts(view: View<'_>, acquire: &AcquireLease) -> Option<Level> {
    let resource = &acquire.target.resource;
    let queue = view.resource(resource).and_then(Resource::queue);
    let ahead =
        queue.map(|queue| queue.ahead_of_newcomer(acquire.priority.get())).unwrap_or_default();
    let mut holders = view.holders(resource);
    let blocked = match acquire.target.mode {
        Mode::Exclusive => {
            ahead.total() > 0 || holders.next().is_some() || is_crowded(view, resource)
        }
        Mode::Shared => {
            // All holders are of one mode.
            let held = holders.next().map(|known| known.granted.mode);
            ahead.exclusive > 0 || held == Some(Mode::Exclusive)
        }
    };
    blocked.then_some(ahead)
}

/// Grants, if there is room.
fn grant(
    view: View<'_>,
    asked: Asked,
    acquire: &AcquireLease,
    life: Life,
    draft: &mut Draft,
) -> Result<Grant, Refusal> {
    check_room(view, acquire)?;
    end_dead_holders(view, acquire, draft);
    let granted = granted(view, asked, acquire, life, Token(draft.take_revision().0));
    let reply = Grant {
        lease_id: granted.lease_id,
        token: granted.token,
        remaining_ms: life.remaining_ms,
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
    LeaseGranted {
        namespace: view.own_namespace(),
        lease_id: acquire.lease_id,
        token,
        holder: acquire.holder.clone(),
        resource: acquire.target.resource.clone(),
        mode: acquire.target.mode,
        ttl: life.ttl,
        // What lives with a session is that session's, whoever asked.
        session: life.session.or(asked.by),
        is_bound: life.session.is_some(),
        request: asked.mark,
    }
}

/// So many leases of dead sessions are left on a resource that ending them is not in proportion
/// to one command: whoever wants it for itself waits until that is done.
fn is_crowded(view: View<'_>, name: &ResourceName) -> bool {
    view.resource(name).is_some_and(|it| it.holders().len() > limits::HOLDERS_SHOWN_MAX)
}

/// What dead sessions have left on a resource goes before a grant that can't share with it.
fn end_dead_holders(view: View<'_>, acquire: &AcquireLease, draft: &mut Draft) {
    let Some(resource) = view.resource(&acquire.target.resource) else { return };
    let state = view.state;
    for slot in resource.holders().iter().take(limits::HOLDERS_SHOWN_MAX) {
        let granted = &state.lease(slot).granted;
        if granted.mode == Mode::Shared && acquire.target.mode == Mode::Shared {
            return;
        }
        if let Some(session) = state.session_of(slot).map(|session| state.session(session))
            && let Some(ended) = &session.ended
            && !view.has_ended(granted.token)
        {
            super::end::end(granted, ended.end.of_leases(), draft);
        }
    }
}

/// A waiter may become a lease, so both count against every cap.
fn check_room(view: View<'_>, acquire: &AcquireLease) -> Result<(), Refusal> {
    let quotas = &view.state.quotas;
    if view.space.is_none() {
        let spaces = view.state.spaces.len() as u64;
        check_cap(Cap::Namespaces, spaces, 1, quotas.namespaces)?;
    }
    let used = view.lease_count() + view.waiter_count();
    check_cap(Cap::Leases, used, 1, quotas.leases)?;
    check_cap(Cap::Bytes, view.byte_count(), acquire.bytes(), quotas.bytes)?;
    // Its end will be remembered, with a request id or without.
    check_cap(Cap::Memory, view.state.memory.bytes(), 1, quotas.memory_bytes)
}

/// Why a newcomer isn't granted.
fn held(view: View<'_>, acquire: &AcquireLease, ahead: Level) -> Held {
    let resource = &acquire.target.resource;
    let count = view.holder_count(resource);
    let told = view.holders(resource).take(limits::HOLDERS_TOLD_MAX);
    let holders: Vec<_> = told.map(Known::holder_info).collect();
    Held {
        resource: resource.clone(),
        holder_count: u32::try_from(count).unwrap_or(u32::MAX),
        holders,
        queue_position: ahead.total().min(u32::try_from(limits::POSITION_MAX).unwrap_or(u32::MAX)),
        waited_ms: 0,
    }
}
