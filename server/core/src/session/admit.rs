//! Whether an operation of a session may be decided at all: the first of all checks.

use crate::{
    command::{Origin, Request},
    decision::check_age,
    memory::Past,
    overlay::View,
    refusal::Refusal,
    types::{RequestHash, RequestMark, SessionId, SessionNumber},
};

/// What becomes of a call before it is decided.
pub(crate) enum Admission {
    /// It is decided.
    Decided,
    /// It came on a stream that its session has left behind: nobody is told anything.
    Dropped,
    /// It is refused.
    Refused(Refusal),
}

/// Judges a call by the session it belongs to.
pub(crate) fn admit(view: View<'_>, request: &Request) -> Admission {
    let Some(origin) = request.origin else { return Admission::Decided };
    let session = view.session(origin.session).map(|slot| view.state.session(slot));
    if let Some(stream) = origin.stream {
        let Some(session) = session else {
            return Admission::Refused(Refusal::SessionLost { end: None });
        };
        if session.stream != Some(stream) {
            return Admission::Dropped;
        }
        if let Some(ended) = &session.ended {
            return Admission::Refused(Refusal::SessionLost { end: Some(ended.end) });
        }
    }
    let seen = |seq| session.is_some_and(|session| session.replies.is_seen(seq));
    if origin.seq.is_some_and(seen) {
        return Admission::Refused(Refusal::RequestIdForgotten);
    }
    Admission::Decided
}

/// What is remembered of an earlier send of this request.
pub(crate) fn past<'a>(view: View<'a>, request: &Request, mark: RequestMark) -> Option<&'a Past> {
    let of = request.origin.and_then(|Origin { session, seq, .. }| Some((session, seq?)));
    past_of(view, of, mark.id)
}

/// The same, by the identity alone. What was abandoned is so whatever it had come to.
pub(crate) fn past_of(
    view: View<'_>,
    of: Option<(SessionId, u64)>,
    id: RequestHash,
) -> Option<&Past> {
    let remembered = view.state.memory.request(id);
    if remembered == Some(&Past::Abandoned) {
        return remembered;
    }
    let kept =
        of.and_then(|(session, seq)| view.state.session(view.session(session)?).replies.get(seq));
    kept.or(remembered)
}

/// An unknown request may be executed while it can't have been forgotten. A live session
/// remembers all that was not acknowledged, so what it doesn't know was never executed.
pub(crate) fn check_unknown(view: View<'_>, request: &Request) -> Result<(), Refusal> {
    if operation(view, request).is_some() { Ok(()) } else { check_age(request.age_ms) }
}

/// The live session and the operation that a request is.
pub(crate) fn operation(view: View<'_>, request: &Request) -> Option<(SessionNumber, u64)> {
    let origin = request.origin?;
    let session = view.state.session(view.session(origin.session)?);
    session.is_live().then_some(())?;
    Some((session.opened.number, origin.seq?))
}
