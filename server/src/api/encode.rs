//! Wire out: replies of the machine become messages.
//!
//! Owns nothing but the shape; refusals inside bulk replies come from `refuse`.

mod record;

use std::collections::BTreeMap;

use prost::Message;
use singletrack_core::{
    command::YieldAnswer,
    refusal::Refusal,
    reply::{
        AbandonedState, Attached, Checked, Found, Grant, LeaseInfo, LeaseStats, Notice, Renewed,
        Reply, SessionPage, WaiterInfo, YieldInfo, YieldStatus,
    },
    types::{Actor, Holder, Labels, LeaseId, Mode, Reach, SessionId, Target, Targets, Token},
};
use singletrack_proto::v1;

pub(crate) use self::record::{
    batch, found as record_found, incremented, protection_page, record_deleted, record_page,
    record_put, transacted, value, written_by,
};
use crate::api::{decode, refuse};

/// Bytes of the leases of one reply: what doesn't fit is on the next page, or counted only.
const LEASES_BYTES_MAX: usize = 3 << 19;
/// Bytes of what stands in the way of one waiter of a list, so that the largest page fits into a
/// message.
const BLOCKED_BY_BYTES_MAX: usize = 900;

/// The reply to an operation of a stream; `None`: it answers none.
pub(crate) fn operation(reply: &Reply) -> Option<v1::operation_reply::Reply> {
    use v1::operation_reply::Reply as Out;
    Some(match reply {
        Reply::Acquired(it) => Out::AcquireLease(grant(it)),
        Reply::Abandoned(state) => Out::AbandonLease(abandoned(*state)),
        Reply::Renewed(results) => Out::RenewLeases(renewed(results)),
        Reply::Released { replayed } => Out::ReleaseLease(released(*replayed)),
        Reply::Found(it) => Out::GetLease(found(it)),
        Reply::Page { leases, next } => Out::ListLeases(page(leases, *next)),
        Reply::Checked(it) => Out::CheckLease(checked(it)),
        Reply::ForceReleased { holder, replayed } => {
            Out::ForceReleaseLease(force_released(holder, *replayed))
        }
        Reply::Transferred(it) => Out::TransferLease(transferred(it)),
        Reply::YieldRequested(holders) => Out::RequestLeaseYield(yield_requested(holders)),
        Reply::YieldAnswered(count) => Out::AnswerLeaseYield(yield_answered(*count)),
        Reply::Waiters { waiters, next } => Out::ListLeaseWaiters(waiter_page(waiters, *next)),
        Reply::Stats(stats) => Out::GetLeaseStats(lease_stats(stats)),
        Reply::SessionKept(remaining_ms) => {
            Out::KeepSessionAlive(v1::KeepSessionAliveResponse { remaining_ms: *remaining_ms })
        }
        Reply::SessionClosed { replayed } => {
            Out::CloseSession(v1::CloseSessionResponse { replayed: *replayed })
        }
        Reply::SessionLeases(it) => Out::ListSessionLeases(session_leases(it)),
        Reply::Record(_)
        | Reply::Records { .. }
        | Reply::RecordPage { .. }
        | Reply::RecordPut { .. }
        | Reply::Incremented { .. }
        | Reply::RecordDeleted { .. }
        | Reply::PrefixProtected { .. }
        | Reply::PrefixUnprotected { .. }
        | Reply::Protections { .. }
        | Reply::Transacted(_) => return record::of(reply),
        Reply::Lost(refusal) => Out::Refusal(Box::new(refuse::machine(refusal))),
        Reply::SessionOpened { .. } | Reply::SessionAttached(_) | Reply::Notice(_) => return None,
    })
}

/// An opened session.
pub(crate) fn session_opened(session: SessionId, remaining_ms: u64) -> v1::OpenSessionResponse {
    v1::OpenSessionResponse { session_id: session.to_string(), remaining_ms }
}

/// A page of what a session holds.
pub(crate) fn session_leases(page: &SessionPage) -> v1::ListSessionLeasesResponse {
    v1::ListSessionLeasesResponse {
        leases: page.leases.iter().map(session_lease).collect(),
        next_page_token: page_token_after(page.next),
    }
}

/// The answer to hello.
pub(crate) fn welcome(attached: &Attached, resumed: bool) -> v1::Welcome {
    let page = session_leases(&attached.held);
    v1::Welcome {
        session_id: attached.session_id.to_string(),
        generation: attached.generation,
        ttl_ms: attached.ttl_ms,
        remaining_ms: attached.remaining_ms,
        resumed,
        held: page.leases,
        held_count: u32::try_from(attached.held_count).unwrap_or(u32::MAX),
        next_page_token: page.next_page_token,
    }
}

/// What a stream is told without having asked; `None`: nothing is pushed.
pub(crate) fn push(notice: &Notice) -> Option<v1::Push> {
    use v1::push::Push as Out;
    let push = match notice {
        Notice::Superseded => return None,
        Notice::SessionLost(end) => Out::SessionLost(refuse::session_end(Some(*end))),
        Notice::LeaseLost { lease_id, token, end } => Out::LeaseLost(v1::LeaseLostPush {
            lease_id: lease_id.to_string(),
            lost: Some(refuse::lease_end(*end, *token)),
        }),
        Notice::YieldRequested { lease_id, token, request } => {
            Out::LeaseYield(v1::LeaseYieldPush {
                lease_id: lease_id.to_string(),
                token: token.0,
                request: Some(yield_info(request)),
            })
        }
    };
    Some(v1::Push { seq: 0, push: Some(push) })
}

fn session_lease((lease_id, token): &(LeaseId, Token)) -> v1::SessionLease {
    v1::SessionLease { lease_id: lease_id.to_string(), token: token.0 }
}

/// A grant.
pub(crate) fn grant(grant: &Grant) -> v1::AcquireLeaseResponse {
    v1::AcquireLeaseResponse {
        lease_id: grant.lease_id.to_string(),
        token: grant.token.0,
        remaining_ms: grant.remaining_ms,
        waited_ms: grant.waited_ms,
        replayed: grant.replayed,
    }
}

/// What an abandoned call had reached.
pub(crate) fn abandoned(state: AbandonedState) -> v1::AbandonLeaseResponse {
    let state = match state {
        AbandonedState::Nothing => v1::AbandonedState::Nothing,
        AbandonedState::Waiting => v1::AbandonedState::Waiting,
        AbandonedState::Held => v1::AbandonedState::Held,
        AbandonedState::Ended => v1::AbandonedState::Ended,
    };
    v1::AbandonLeaseResponse { state: state.into() }
}

/// Results of renewals, in their order.
pub(crate) fn renewed(results: &[Result<Renewed, Refusal>]) -> v1::RenewLeasesResponse {
    use v1::renew_lease_result::Result as Outcome;
    let results = results
        .iter()
        .map(|result| v1::RenewLeaseResult {
            result: Some(match result {
                Ok(renewed) => Outcome::Renewed(v1::RenewedLease {
                    remaining_ms: renewed.remaining_ms,
                    yield_requests: renewed.yield_requests,
                }),
                Err(refusal) => Outcome::Refusal(refuse::machine(refusal)),
            }),
        })
        .collect();
    v1::RenewLeasesResponse { results }
}

/// A release.
pub(crate) const fn released(replayed: bool) -> v1::ReleaseLeaseResponse {
    v1::ReleaseLeaseResponse { replayed }
}

/// What get found. Leases that don't fit into a message are counted only.
pub(crate) fn found(found: &Found) -> v1::GetLeaseResponse {
    v1::GetLeaseResponse {
        leases: fitting(&found.leases),
        holder_count: found.holder_count,
        waiter_count: found.waiter_count,
        waiters: found.waiters.iter().map(waiter_info).collect(),
        closed_ms: found.closed_ms,
    }
}

/// A page of a list. Leases that don't fit into a message are on the next.
pub(crate) fn page(leases: &[LeaseInfo], next: Option<Token>) -> v1::ListLeasesResponse {
    let fitting = fitting(leases);
    let next = match fitting.last() {
        Some(last) if fitting.len() < leases.len() => Some(Token(last.token)),
        Some(_) | None => next,
    };
    v1::ListLeasesResponse { leases: fitting, next_page_token: page_token_after(next) }
}

/// The first of the leases, at least one, as many as a message has room for.
fn fitting(leases: &[LeaseInfo]) -> Vec<v1::LeaseInfo> {
    let mut bytes = 0;
    let mut fitting = Vec::with_capacity(leases.len());
    for lease in leases {
        let lease = lease_info(lease);
        bytes += lease.encoded_len() + 8;
        if bytes > LEASES_BYTES_MAX && !fitting.is_empty() {
            break;
        }
        fitting.push(lease);
    }
    fitting
}

/// A page of those who wait.
pub(crate) fn waiter_page(
    waiters: &[WaiterInfo],
    next: Option<u64>,
) -> v1::ListLeaseWaitersResponse {
    v1::ListLeaseWaitersResponse {
        waiters: waiters.iter().map(waiter_info).collect(),
        next_page_token: next.map(decode::page_token_after).unwrap_or_default(),
    }
}

/// A verdict.
pub(crate) fn checked(checked: &Checked) -> v1::CheckLeaseResponse {
    let newest = checked.newest.as_ref();
    v1::CheckLeaseResponse {
        current: checked.current,
        current_token: newest.map_or(0, |holder| holder.token.0),
        holder: newest.map(|holder| holder.holder.to_string()).unwrap_or_default(),
        remaining_ms: newest.map_or(0, |holder| holder.remaining_ms),
    }
}

/// A forced release.
pub(crate) fn force_released(holder: &Holder, replayed: bool) -> v1::ForceReleaseLeaseResponse {
    v1::ForceReleaseLeaseResponse { holder: holder.to_string(), replayed }
}

/// A transfer.
pub(crate) fn transferred(grant: &Grant) -> v1::TransferLeaseResponse {
    v1::TransferLeaseResponse {
        lease_id: grant.lease_id.to_string(),
        token: grant.token.0,
        remaining_ms: grant.remaining_ms,
        replayed: grant.replayed,
    }
}

/// Whom a request to yield reached.
pub(crate) fn yield_requested(holders: &[YieldStatus]) -> v1::RequestLeaseYieldResponse {
    let status = |status: &YieldStatus| v1::YieldStatus {
        holder: status.holder.to_string(),
        token: status.token.0,
        remaining_ms: status.remaining_ms,
        told: status.is_told,
        answer: status.answer.as_ref().map(yield_answer),
    };
    v1::RequestLeaseYieldResponse { holders: holders.iter().map(status).collect() }
}

/// An answer to such.
pub(crate) const fn yield_answered(answered: u32) -> v1::AnswerLeaseYieldResponse {
    v1::AnswerLeaseYieldResponse { answered }
}

/// Counts.
pub(crate) const fn lease_stats(stats: &LeaseStats) -> v1::GetLeaseStatsResponse {
    v1::GetLeaseStatsResponse {
        leases: stats.leases,
        waiters: stats.waiters,
        closed: stats.closed,
        sessions: stats.sessions,
        granted_total: stats.granted_total,
        released_total: stats.released_total,
        lost_total: stats.lost_total,
        queued_total: stats.queued_total,
        revision: stats.revision.0,
    }
}

fn page_token_after(next: Option<Token>) -> String {
    next.map(|token| decode::page_token_after(token.0)).unwrap_or_default()
}

fn lease_info(lease: &LeaseInfo) -> v1::LeaseInfo {
    v1::LeaseInfo {
        targets: targets(&lease.targets),
        holder: lease.holder.to_string(),
        token: lease.token.0,
        ttl_ms: lease.ttl_ms,
        remaining_ms: lease.remaining_ms,
        actor: actor(lease.actor.as_ref()),
        labels: labels(&lease.labels),
        held_ms: lease.held_ms,
        hold_remaining_ms: lease.hold_remaining_ms,
        lock_delay_ms: lease.lock_delay_ms,
        yield_requests: lease.yield_requests.iter().map(yield_info).collect(),
    }
}

fn waiter_info(waiter: &WaiterInfo) -> v1::WaiterInfo {
    v1::WaiterInfo {
        holder: waiter.holder.to_string(),
        actor: actor(waiter.actor.as_ref()),
        targets: targets(&waiter.targets),
        priority: waiter.priority.into(),
        waited_ms: waiter.waited_ms,
        attached: waiter.is_attached,
        blocked_by: waiter
            .blocked_by
            .as_deref()
            .map(|held| refuse::held_detail(held, BLOCKED_BY_BYTES_MAX)),
    }
}

fn yield_info(request: &YieldInfo) -> v1::YieldInfo {
    v1::YieldInfo {
        number: request.number,
        holder: request.from.to_string(),
        reason: request.reason.to_string(),
        asked_ms: request.asked_ms,
        answer: request.answer.as_ref().map(yield_answer),
    }
}

fn yield_answer(answer: &YieldAnswer) -> v1::YieldAnswer {
    v1::YieldAnswer {
        will_yield: answer.within_ms.is_some(),
        within_ms: answer.within_ms.unwrap_or(0),
        message: answer.message.to_string(),
    }
}

fn actor(actor: Option<&Actor>) -> String {
    actor.map(Actor::to_string).unwrap_or_default()
}

fn labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn targets(targets: &Targets) -> Vec<v1::LeaseTarget> {
    targets.as_slice().iter().map(target).collect()
}

fn target(target: &Target) -> v1::LeaseTarget {
    let (mode, permits, limit) = match target.mode {
        Mode::Exclusive => (v1::LeaseMode::Exclusive, 0, 0),
        Mode::Shared => (v1::LeaseMode::Shared, 0, 0),
        Mode::Permits(permits) => (v1::LeaseMode::Permits, permits.count(), permits.limit()),
    };
    let reach = match target.reach {
        Reach::Exact => v1::LeaseReach::Exact,
        Reach::Subtree => v1::LeaseReach::Subtree,
    };
    v1::LeaseTarget {
        resource: target.resource.to_string(),
        mode: mode.into(),
        permits,
        limit,
        reach: reach.into(),
    }
}
