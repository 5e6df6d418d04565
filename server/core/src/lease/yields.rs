//! Asking holders to yield: who asks, why, and what the holder says. Forces nothing.
//!
//! Volatile, like waiters: forgotten at a restart, and with the lease.

use alloc::{boxed::Box, vec::Vec};

use super::end::find_own;
use crate::{
    command::{AnswerLeaseYield, RequestLeaseYield, YieldAnswer},
    decision::{Draft, check_cap},
    limits,
    motion::Motion,
    overlay::{Known, View},
    refusal::{Cap, Refusal},
    reply::{Notice, Reply, YieldInfo, YieldStatus},
    types::{Holder, Ms, Words},
};

/// Requests to yield one lease, oldest first; one for each who asks.
#[derive(Debug, Default)]
pub(crate) struct Yields {
    requests: Vec<YieldRequest>,
    last_answer: Option<YieldAnswer>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct YieldRequest {
    pub(crate) number: u64,
    pub(crate) from: Holder,
    pub(crate) reason: Words,
    pub(crate) at: Ms,
    pub(crate) answer: Option<YieldAnswer>,
}

// === impl Yields ===

impl Yields {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &YieldRequest> {
        self.requests.iter()
    }

    pub(crate) fn of(&self, from: &Holder) -> Option<&YieldRequest> {
        self.requests.iter().find(|request| request.from == *from)
    }

    /// What the holder said last, to anybody.
    pub(crate) const fn last_answer(&self) -> Option<&YieldAnswer> {
        self.last_answer.as_ref()
    }

    /// Requests without an answer.
    pub(crate) fn open_count(&self) -> usize {
        self.requests.iter().filter(|request| request.answer.is_none()).count()
    }

    pub(crate) fn ask(&mut self, number: u64, at: Ms, from: &Holder, reason: &Words) {
        self.requests.retain(|request| request.from != *from);
        let (from, reason) = (from.clone(), reason.clone());
        self.requests.push(YieldRequest { number, from, reason, at, answer: None });
    }

    pub(crate) fn answer(&mut self, number: Option<u64>, answer: &YieldAnswer) {
        for request in &mut self.requests {
            if number.is_none_or(|number| number == request.number) {
                request.answer = Some(answer.clone());
                self.last_answer = Some(answer.clone());
            }
        }
    }
}

/// Decides a request to yield.
pub(crate) fn request(
    view: View<'_>,
    asked: &RequestLeaseYield,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let holders = match asked.token {
        Some(token) => view.holder(&asked.resource, token).into_iter().collect(),
        None => view.holders(&asked.resource, limits::HOLDERS_SHOWN_MAX),
    };
    if holders.is_empty() {
        return Err(Refusal::NotFound);
    }
    // The first that is full refuses the whole: nobody is asked.
    for known in &holders {
        if let Some(yields) = view.state.yields.get(&known.granted.token)
            && yields.of(&asked.from).is_none()
        {
            let (used, most) = (yields.requests.len() as u64, limits::YIELDS_MAX as u64);
            check_cap(Cap::Yields, used, 1, most)?;
        }
    }
    let kept: usize = view.state.yields.values().map(|yields| yields.requests.len()).sum();
    let is_new = |known: &&Known<'_>| {
        let yields = view.state.yields.get(&known.granted.token);
        yields.is_none_or(|yields| yields.of(&asked.from).is_none())
    };
    let more = holders.iter().filter(is_new).count();
    check_cap(Cap::Yields, kept as u64, more as u64, limits::YIELDS_ALL_MAX as u64)?;
    // Numbers are given when the motions are carried out, in this order.
    let mut number = view.state.next_seq;
    let mut statuses = Vec::with_capacity(holders.len());
    for known in holders {
        statuses.push(ask(view, known, asked, &mut number, draft));
    }
    Ok(Reply::YieldRequested(statuses))
}

/// Asks one holder, unless it was asked just that already.
fn ask(
    view: View<'_>,
    known: Known<'_>,
    asked: &RequestLeaseYield,
    number: &mut u64,
    draft: &mut Draft,
) -> YieldStatus {
    let granted = known.granted;
    let stream = granted.session.and_then(|session| {
        let session = view.state.session(view.state.find_session(session)?);
        session.stream.filter(|_| session.is_live())
    });
    let before = view.state.yields.get(&granted.token).and_then(|yields| yields.of(&asked.from));
    let mut answer = None;
    if let Some(same) = before.filter(|before| before.reason == asked.reason) {
        answer = same.answer.clone();
    } else {
        draft.motion(Motion::YieldRequested {
            token: granted.token,
            from: asked.from.clone(),
            reason: asked.reason.clone(),
        });
        if let Some(stream) = stream {
            let request = Box::new(YieldInfo {
                number: *number,
                from: asked.from.clone(),
                reason: asked.reason.clone(),
                asked_ms: 0,
                answer: None,
            });
            let (lease_id, token) = (granted.lease_id, granted.token);
            let notice = Notice::YieldRequested { lease_id, token, request };
            draft.answer(stream, Ok(Reply::Notice(notice)));
        }
        *number += 1;
    }
    YieldStatus {
        holder: granted.holder.clone(),
        token: granted.token,
        remaining_ms: known.remaining_ms,
        is_told: stream.is_some(),
        answer,
    }
}

/// Decides a holder's answer.
pub(crate) fn answer(
    view: View<'_>,
    said: &AnswerLeaseYield,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let known = find_own(view, said.lease)?;
    let token = known.granted.token;
    let yields = view.state.yields.get(&token);
    let is_meant = |request: &&YieldRequest| said.number.is_none_or(|n| n == request.number);
    let count = yields.map_or(0, |yields| yields.iter().filter(is_meant).count());
    if said.number.is_some() && count == 0 {
        return Err(Refusal::NotFound);
    }
    if count > 0 {
        draft.motion(Motion::YieldAnswered {
            token,
            number: said.number,
            answer: said.answer.clone(),
        });
    }
    Ok(Reply::YieldAnswered(u32::try_from(count).expect("requests are few")))
}
