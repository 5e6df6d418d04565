//! Messages of sessions.

use singletrack_core::{
    command::{Command, OpenSession},
    limits,
    types::{Holder, Namespace, SessionId, Ttl},
};
use singletrack_proto::v1;

use super::{
    Context,
    fields::{page_size, page_token, session_id_text},
};
use crate::{
    api::{draw, flaws::Flaws, identity},
    track::Question,
};

/// Bytes of a ping's payload.
pub(crate) const PING_BYTES_MAX: usize = 4_096;

/// Notes what is not legal about a ping.
pub(crate) fn ping(message: &v1::PingRequest, flaws: &mut Flaws) {
    let length = message.payload.len();
    if length > PING_BYTES_MAX {
        flaws.add_too_large(
            format_args!("payload"),
            format!("a payload may have at most {PING_BYTES_MAX} bytes, this one has {length}"),
        );
    }
}

/// Decodes an opening of a session; its id is drawn here.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn open_session(
    context: Context,
    message: &v1::OpenSessionRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let open = opening(&context.namespace, &message.holder, message.ttl_ms, flaws)?;
    Ok(context.read_only(Command::OpenSession(open)))
}

/// What is asked for with a new session.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn opening(
    namespace: &Namespace,
    holder: &str,
    ttl_ms: Option<u64>,
    mut flaws: Flaws,
) -> Result<OpenSession, Flaws> {
    let holder = flaws.take(format_args!("holder"), Holder::parse(holder));
    let ttl = Ttl::parse(ttl_ms.unwrap_or(limits::TTL_MS_DEFAULT));
    let ttl = flaws.take(format_args!("ttl_ms"), ttl);
    let (Some(holder), Some(ttl)) = (holder, ttl) else { return Err(flaws) };
    let session_id = SessionId(draw::id());
    let requests = identity::session(namespace, session_id);
    Ok(OpenSession { session_id, holder, ttl, requests })
}

/// Decodes a keep-alive.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn keep_session_alive(
    context: Context,
    message: &v1::KeepSessionAliveRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::KeepSessionAlive(session)))
}

/// Decodes a close.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn close_session(
    context: Context,
    message: &v1::CloseSessionRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::CloseSession(session)))
}

/// Decodes a list of what a session holds.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_session_leases(
    context: Context,
    message: &v1::ListSessionLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = page_size(message.page_size, limits::PAGE_MAX, limits::PAGE_MAX, &mut flaws);
    let after = page_token(&message.page_token, &mut flaws);
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::ListSessionLeases { session, after, count }))
}

/// The session that a message names; on a session's stream it is that one, named or not.
fn own_session(context: &Context, text: &str, mut flaws: Flaws) -> Result<SessionId, Flaws> {
    let field = format_args!("session_id");
    let session = match context.on_stream {
        Some(on) if text.is_empty() => Some(on.session),
        Some(_) | None => flaws.take(field, session_id_text(text)),
    };
    if let (Some(on), Some(named)) = (context.on_stream, session)
        && on.session != named
    {
        flaws.add(field, "the session of this stream is expected, or none, found another");
    }
    session.filter(|_| flaws.is_empty()).ok_or(flaws)
}
