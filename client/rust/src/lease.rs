//! The calls of the lease service and their results. Owns one method for each; how it travels
//! and how often is `retry`'s.

use std::time::Duration;

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use crate::{
    Acquire, Client, Error, ForceRelease, List, Mode, Release, Renewal, Transport,
    facts::{present_text, present_token},
};

/// A lease that this caller holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// What it is for.
    pub resource: String,
    /// Who holds it.
    pub holder: String,
    /// 32 hexadecimal digits that only the holder knows.
    pub lease_id: String,
    /// The fencing token: greater than every token granted before.
    pub token: u64,
    /// What was left of the ttl when the server answered.
    pub remaining: Duration,
    /// How long the call waited; zero in a replay.
    pub waited: Duration,
    /// True when an earlier attempt with the same request id had got the lease.
    pub replayed: bool,
    /// The id under which it was asked for.
    pub request_id: String,
}

/// A renewed lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renewed {
    /// What was left of the ttl when the server answered.
    pub remaining: Duration,
}

/// A lease was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// True when an earlier call had released it.
    pub replayed: bool,
}

/// A lease was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForceReleased {
    /// Who had held it.
    pub holder: String,
    /// True when an earlier attempt with the same request id had ended it.
    pub replayed: bool,
}

/// How far an abandoned call had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandoned {
    /// Nothing was known of it, or it had been refused.
    Nothing,
    /// It was waiting; it waits no more.
    Waiting,
    /// It held the lease; the lease is released.
    Held,
    /// It had held the lease, which had already ended.
    Ended,
    /// In a way that this version doesn't know.
    Other,
}

/// A live lease, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// What it is for.
    pub resource: String,
    /// How it shares that.
    pub mode: Mode,
    /// Who holds it.
    pub holder: String,
    /// Its fencing token.
    pub token: u64,
    /// Its ttl.
    pub ttl: Duration,
    /// How long it lasts without renewal.
    pub remaining: Duration,
}

/// Who holds a resource and who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holders {
    /// Oldest first, at most 64. Empty: the resource is free.
    pub leases: Vec<LeaseInfo>,
    /// How many leases there are in all.
    pub holder_count: u32,
    /// How many wait.
    pub waiter_count: u32,
}

/// A page of the live leases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their tokens.
    pub leases: Vec<LeaseInfo>,
    /// For [`List::after`]; `None`: this was the last page.
    pub next_page_token: Option<String>,
}

/// The verdict on a token. It was true when it left the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// True: a live lease on the resource has this token.
    pub current: bool,
    /// The newest current token; `None`: nobody holds the resource.
    pub current_token: Option<u64>,
    /// Who holds that token.
    pub holder: Option<String>,
    /// What is left of the lease with that token.
    pub remaining: Duration,
}

// === impl Client: taking, keeping and giving back ===

impl Client {
    /// Takes a lease, at once or after a wait. `Ok` means: you hold it.
    ///
    /// # Errors
    /// `HELD`, `STILL_WAITING` (repeat with the same request id to go on waiting),
    /// `CANCELLED_WAIT`, `STALE_FENCE`, `LEASE_LOST` (a replay of a grant that has ended),
    /// `REQUEST_ID_REUSED`, `REQUEST_ID_FORGOTTEN`, `QUOTA`, and what every call may meet.
    pub async fn acquire(&self, wish: Acquire) -> Result<Lease, Error> {
        if wish.is_bound() && self.transport() == Transport::Unary {
            return Err(Error::usage(
                "expected a client with a session for a lease that lives with one",
                "build the client with another transport, or give the lease a ttl",
            ));
        }
        let (resource, holder) = (wish.resource.clone(), wish.holder.clone());
        let answered = self.call(Operation::AcquireLease(wish.into_wire())).await?;
        let Reply::AcquireLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Lease {
            resource,
            holder,
            lease_id: reply.lease_id,
            token: reply.token,
            remaining: Duration::from_millis(reply.remaining_ms),
            waited: Duration::from_millis(reply.waited_ms),
            replayed: reply.replayed,
            request_id: answered.request_id,
        })
    }

    /// Gives up an acquire of unknown outcome: its waiter is dropped, a lease it got is
    /// released, and if it arrives later it is refused.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when that id was not an acquire, and what every call may meet.
    pub async fn abandon(&self, request_id: impl Into<String>) -> Result<Abandoned, Error> {
        let message = v1::AbandonLeaseRequest { abandoned_request_id: request_id.into() };
        let answered = self.call(Operation::AbandonLease(message)).await?;
        let Reply::AbandonLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(match reply.state() {
            v1::AbandonedState::Unspecified => Abandoned::Other,
            v1::AbandonedState::Nothing => Abandoned::Nothing,
            v1::AbandonedState::Waiting => Abandoned::Waiting,
            v1::AbandonedState::Held => Abandoned::Held,
            v1::AbandonedState::Ended => Abandoned::Ended,
        })
    }

    /// Extends leases to a full ttl from now; one result for each, in the same order.
    /// At most 1,000 in one call.
    ///
    /// # Errors
    /// Of the call as a whole: what every call may meet. Of one item: `LEASE_LOST`,
    /// `NOT_HOLDER` or `NOT_FOUND`.
    pub async fn renew(
        &self,
        renewals: impl IntoIterator<Item = Renewal>,
    ) -> Result<Vec<Result<Renewed, Error>>, Error> {
        let renewals: Vec<_> = renewals.into_iter().map(Renewal::into_wire).collect();
        let expected = renewals.len();
        let message = v1::RenewLeasesRequest { renewals };
        let answered = self.call(Operation::RenewLeases(message)).await?;
        let Reply::RenewLeases(reply) = answered.reply else { return Err(mismatch()) };
        if reply.results.len() != expected {
            return Err(Error::unreadable(format!(
                "expected {expected} results of a renewal, found {}",
                reply.results.len()
            )));
        }
        Ok(reply.results.into_iter().map(renewed_from_wire).collect())
    }

    /// Extends one lease to a full ttl from now.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_HOLDER`, `NOT_FOUND`, and what every call may meet.
    pub async fn renew_one(
        &self,
        lease_id: impl Into<String>,
        token: u64,
    ) -> Result<Renewed, Error> {
        let mut results = self.renew([Renewal::new(lease_id, token)]).await?;
        results.pop().expect("renew answers with as many results as it was given renewals")
    }

    /// Gives a lease back. Repeating it is harmless for 60 s.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_HOLDER`, `NOT_FOUND`, `STALE_FENCE`, `REQUEST_ID_REUSED`,
    /// `REQUEST_ID_FORGOTTEN`, and what every call may meet.
    pub async fn release(&self, release: Release) -> Result<Released, Error> {
        let answered = self.call(Operation::ReleaseLease(release.into_wire())).await?;
        let Reply::ReleaseLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Released { replayed: reply.replayed })
    }

    /// Ends somebody else's lease.
    ///
    /// # Errors
    /// `NOT_FOUND` when no live lease of that resource has that token, `STALE_FENCE`,
    /// `REQUEST_ID_REUSED`, `REQUEST_ID_FORGOTTEN`, and what every call may meet.
    pub async fn force_release(&self, release: ForceRelease) -> Result<ForceReleased, Error> {
        let answered = self.call(Operation::ForceReleaseLease(release.into_wire())).await?;
        let Reply::ForceReleaseLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(ForceReleased { holder: reply.holder, replayed: reply.replayed })
    }
}

// === impl Client: looking ===

impl Client {
    /// Shows who holds a resource and how many wait for it.
    ///
    /// # Errors
    /// What every call may meet. A free resource is no error.
    pub async fn get(&self, resource: impl Into<String>) -> Result<Holders, Error> {
        let key = v1::get_lease_request::Key::Resource(resource.into());
        let reply = self.get_by(key).await?;
        Ok(Holders {
            leases: infos_from_wire(reply.leases)?,
            holder_count: reply.holder_count,
            waiter_count: reply.waiter_count,
        })
    }

    /// Shows a lease to its holder.
    ///
    /// # Errors
    /// `NOT_FOUND`, `LEASE_LOST`, and what every call may meet.
    pub async fn get_by_id(&self, lease_id: impl Into<String>) -> Result<LeaseInfo, Error> {
        let key = v1::get_lease_request::Key::LeaseId(lease_id.into());
        let leases = infos_from_wire(self.get_by(key).await?.leases)?;
        let found = leases.len();
        leases
            .into_iter()
            .next()
            .ok_or_else(|| Error::unreadable(format!("expected one lease, found {found}")))
    }

    async fn get_by(&self, key: v1::get_lease_request::Key) -> Result<v1::GetLeaseResponse, Error> {
        let message = v1::GetLeaseRequest { key: Some(key) };
        let answered = self.call(Operation::GetLease(message)).await?;
        let Reply::GetLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(reply)
    }

    /// A page of the live leases of the namespace.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn list(&self, list: List) -> Result<Page, Error> {
        let answered = self.call(Operation::ListLeases(list.into_wire())).await?;
        let Reply::ListLeases(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Page {
            leases: infos_from_wire(reply.leases)?,
            next_page_token: present_text(reply.next_page_token),
        })
    }

    /// All live leases of the namespace, page after page. They are not one snapshot: leases
    /// come and go between the pages. Keeps them all in memory.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn list_all(&self) -> Result<Vec<LeaseInfo>, Error> {
        const PAGE_SIZE: u32 = 1_000;
        let mut leases = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut list = List::new().page_size(PAGE_SIZE);
            if let Some(page_token) = &after {
                list = list.after(page_token.clone());
            }
            let page = self.list(list).await?;
            leases.extend(page.leases);
            match page.next_page_token {
                None => return Ok(leases),
                next if next == after => {
                    return Err(Error::unreadable("expected a further page, found the same again"));
                }
                next => after = next,
            }
        }
    }

    /// Says whether a token is current.
    ///
    /// # Errors
    /// What every call may meet. A stale token is no error.
    pub async fn check(&self, resource: impl Into<String>, token: u64) -> Result<Check, Error> {
        let message = v1::CheckLeaseRequest { resource: resource.into(), token };
        let answered = self.call(Operation::CheckLease(message)).await?;
        let Reply::CheckLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Check {
            current: reply.current,
            current_token: present_token(reply.current_token),
            holder: present_text(reply.holder),
            remaining: Duration::from_millis(reply.remaining_ms),
        })
    }
}

// === from the wire ===

fn mismatch() -> Error {
    Error::unreadable("expected the answer to another call")
}

fn renewed_from_wire(result: v1::RenewLeaseResult) -> Result<Renewed, Error> {
    use v1::renew_lease_result::Result as Item;
    match result.result {
        Some(Item::Renewed(renewed)) => {
            Ok(Renewed { remaining: Duration::from_millis(renewed.remaining_ms) })
        }
        Some(Item::Refusal(refusal)) => Err(Error::from_refusal(refusal)),
        None => Err(Error::unreadable("expected a renewal or a refusal, found neither")),
    }
}

fn infos_from_wire(infos: Vec<v1::LeaseInfo>) -> Result<Vec<LeaseInfo>, Error> {
    infos.into_iter().map(info_from_wire).collect()
}

fn info_from_wire(info: v1::LeaseInfo) -> Result<LeaseInfo, Error> {
    let mut targets = info.targets;
    let target = targets.pop().filter(|_| targets.is_empty()).ok_or_else(|| {
        Error::unreadable("expected a lease on one resource, found another number")
    })?;
    let mode = match target.mode() {
        v1::LeaseMode::Shared => Mode::Shared,
        v1::LeaseMode::Exclusive | v1::LeaseMode::Unspecified => Mode::Exclusive,
    };
    Ok(LeaseInfo {
        resource: target.resource,
        mode,
        holder: info.holder,
        token: info.token,
        ttl: Duration::from_millis(info.ttl_ms),
        remaining: Duration::from_millis(info.remaining_ms),
    })
}
