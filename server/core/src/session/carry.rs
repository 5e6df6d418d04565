//! Replies that a session's client has not acknowledged must outlive the log that says so: what
//! only the part to be freed says is said again.

use alloc::{sync::Arc, vec::Vec};

use super::{Session, replies::Kept};
use crate::{
    change::{Change, Effect, LeaseEnded, RequestOf, RequestRemembered},
    decision::Draft,
    limits,
    memory::Past,
    refusal::LeaseEnd,
    state::State,
    types::{CommandHash, RequestMark, Revision},
};

/// Where a walk over the replies of all sessions stands: a session's number and an operation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarryCursor {
    session: u64,
    seq: u64,
}

/// Says again what the log last said at or before `through`, looking at no more than a slice of
/// sessions and replies; where to go on, `None`: that was all.
pub(crate) fn carry(
    state: &State,
    through: Revision,
    mut at: CarryCursor,
    draft: &mut Draft,
) -> Option<CarryCursor> {
    let (mut left, mut bytes) = (limits::SLICE_MAX, 0);
    loop {
        let (number, slot) = state.session_from(at.session)?;
        let session = state.session(slot);
        let number = number.revision().0;
        let from = if number == at.session { at.seq } else { 0 };
        if from == 0 {
            carry_floor(session, through, draft);
        }
        let looked: Vec<_> = session.replies.from(from).take(left).collect();
        for (seq, kept) in looked.iter().filter(|(_, kept)| kept.logged <= through) {
            say_again(state, session, *seq, kept, draft);
            bytes += draft.decision.changes.last().map_or(0, Change::weight);
            if bytes > limits::CARRY_BYTES_MAX {
                return Some(CarryCursor { session: number, seq: seq + 1 });
            }
        }
        if looked.len() == left {
            let last = looked.last().map_or(from, |(seq, _)| *seq);
            return Some(CarryCursor { session: number, seq: last + 1 });
        }
        left -= looked.len() + 1;
        at = CarryCursor { session: number + 1, seq: 0 };
        if left == 0 {
            return Some(at);
        }
    }
}

/// The floor keeps what was acknowledged from being executed when nothing else is left of it.
fn carry_floor(session: &Session, through: Revision, draft: &mut Draft) {
    let below = session.replies.below();
    let (floored, logged) = session.replies.floored;
    if session.is_live() && below > 1 && (below > floored || logged <= through) {
        let (number, revision) = (session.opened.number, draft.take_revision());
        draft.change(Change::SessionFloored { number, below, revision });
    }
}

fn say_again(state: &State, session: &Session, seq: u64, kept: &Kept, draft: &mut Draft) {
    let number = session.opened.number;
    let mark = |command: CommandHash| RequestMark { id: session.opened.requests.at(seq), command };
    let (mark, effect) = match &kept.past {
        Past::Effect { command, effect } => (mark(*command), effect.clone()),
        Past::LeaseEnded { command, end, token } => {
            (mark(*command), Effect::LeaseEnded { end: *end, token: *token })
        }
        // Kept by its own id, for its own time.
        Past::Abandoned => return,
    };
    let namespace = &session.opened.namespace;
    let released =
        kept.lease.and_then(|id| state.memory.lease(namespace, id).map(|ended| (id, ended)));
    let revision = draft.take_revision();
    draft.change(match released {
        Some((lease_id, ended)) => Change::LeaseEnded(Arc::new(LeaseEnded {
            namespace: namespace.clone(),
            lease_id,
            token: ended.token,
            revision,
            end: LeaseEnd::Released,
            session: None,
            request: None,
            by: Some(RequestOf { session: number, seq, mark }),
        })),
        None => Change::RequestRemembered(Arc::new(RequestRemembered {
            mark,
            of: Some((number, seq)),
            revision,
            effect,
        })),
    });
}
