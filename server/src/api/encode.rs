//! Wire out: replies of the machine become messages.
//!
//! Owns nothing but the shape; refusals inside bulk replies come from `refuse`.

use singletrack_core::{
    refusal::Refusal,
    reply::{
        AbandonedState, Attached, Checked, Found, Grant, LeaseInfo, Notice, Reply, SessionPage,
    },
    types::{Holder, LeaseId, Mode, SessionId, Target, Token},
};
use singletrack_proto::v1;

use crate::api::{decode, refuse};

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
        Reply::SessionKept(remaining_ms) => {
            Out::KeepSessionAlive(v1::KeepSessionAliveResponse { remaining_ms: *remaining_ms })
        }
        Reply::SessionClosed { replayed } => {
            Out::CloseSession(v1::CloseSessionResponse { replayed: *replayed })
        }
        Reply::SessionLeases(it) => Out::ListSessionLeases(session_leases(it)),
        Reply::SessionOpened { .. }
        | Reply::SessionAttached(_)
        | Reply::Notice(_)
        | Reply::Transacted(_) => return None,
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
        next_page_token: page.next.map(decode::page_token_after).unwrap_or_default(),
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
pub(crate) fn renewed(results: &[Result<u64, Refusal>]) -> v1::RenewLeasesResponse {
    use v1::renew_lease_result::Result as Outcome;
    let results = results
        .iter()
        .map(|result| v1::RenewLeaseResult {
            result: Some(match result {
                Ok(remaining_ms) => {
                    Outcome::Renewed(v1::RenewedLease { remaining_ms: *remaining_ms })
                }
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

/// What get found.
pub(crate) fn found(found: &Found) -> v1::GetLeaseResponse {
    v1::GetLeaseResponse {
        leases: found.leases.iter().map(lease_info).collect(),
        holder_count: found.holder_count,
        waiter_count: found.waiter_count,
    }
}

/// A page of a list.
pub(crate) fn page(leases: &[LeaseInfo], next: Option<Token>) -> v1::ListLeasesResponse {
    v1::ListLeasesResponse {
        leases: leases.iter().map(lease_info).collect(),
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

fn lease_info(lease: &LeaseInfo) -> v1::LeaseInfo {
    v1::LeaseInfo {
        targets: vec![target(&lease.target)],
        holder: lease.holder.to_string(),
        token: lease.token.0,
        ttl_ms: lease.ttl_ms,
        remaining_ms: lease.remaining_ms,
    }
}

fn target(target: &Target) -> v1::LeaseTarget {
    let mode = match target.mode {
        Mode::Exclusive => v1::LeaseMode::Exclusive,
        Mode::Shared => v1::LeaseMode::Shared,
    };
    v1::LeaseTarget { resource: target.resource.to_string(), mode: mode.into() }
}
