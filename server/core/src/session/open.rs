//! Opening a session, and giving it a stream.

use alloc::{boxed::Box, sync::Arc};

use super::show;
use crate::{
    change::{Change, SessionOpened},
    command::OpenSession,
    decision::{Draft, check_cap},
    limits,
    motion::Motion,
    overlay::View,
    refusal::{Cap, Refusal},
    reply::{Attached, Notice, Reply},
    types::{CallId, SessionId, SessionNumber},
};

/// Decides an opening.
pub(crate) fn open(
    view: View<'_>,
    open: &OpenSession,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let quotas = &view.state.quotas;
    view.check_namespaces()?;
    check_cap(Cap::Sessions, view.session_count(), 1, quotas.sessions)?;
    let number = SessionNumber::parse(draft.take_revision().0).expect("revisions begin above 0");
    let opened = SessionOpened {
        namespace: view.own_namespace(),
        session_id: open.session_id,
        number,
        holder: open.holder.clone(),
        ttl: open.ttl,
        requests: open.requests,
    };
    check_cap(Cap::Bytes, view.byte_count(), opened.bytes(), quotas.bytes)?;
    draft.change(Change::SessionOpened(Arc::new(opened)));
    Ok(Reply::SessionOpened { session_id: open.session_id, remaining_ms: open.ttl.ms() })
}

/// Decides that a session has a new stream; whoever had it before is told.
pub(crate) fn attach(
    view: View<'_>,
    id: SessionId,
    stream: CallId,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let slot = view.live_session(id)?;
    let session = view.state.session(slot);
    if let Some(before) = session.stream.filter(|before| *before != stream) {
        draft.answer(before, Ok(Reply::Notice(Notice::Superseded)));
    }
    draft.motion(Motion::SessionAttached { session: slot, stream });
    Ok(Reply::SessionAttached(Box::new(Attached {
        session_id: id,
        generation: session.generation + 1,
        ttl_ms: session.opened.ttl.ms(),
        // An attachment is a keep-alive.
        remaining_ms: session.opened.ttl.ms(),
        held: show::page(view, slot, 0, limits::PAGE_MAX),
        held_count: session.leases.len(),
    })))
}
