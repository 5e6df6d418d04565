//! Taking, keeping and giving away leases: one method for each call, and its result. How a call
//! travels and how often is `retry`'s; the calls that only look are `show`'s.

use std::time::Duration;

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use crate::{
    Acquire, Client, Error, Fence, ForceRelease, Release, Renewal, Target, Transfer, Transport,
    facts::duration_ms,
};

/// A lease that this caller holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// What it is for, at least one.
    pub targets: Vec<Target>,
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
    /// What was left when the server answered: of the ttl, or of the longest hold.
    pub remaining: Duration,
    /// How many ask the holder to yield and have no answer yet.
    pub yield_requests: u32,
}

/// A lease that was given to another: to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// 32 hexadecimal digits that only the giver knows until it passes them on.
    pub lease_id: String,
    /// The new fencing token; greater than the old one.
    pub token: u64,
    /// What was left of the new ttl when the server answered.
    pub remaining: Duration,
    /// True when an earlier attempt with the same request id had given it.
    pub replayed: bool,
    /// The id under which it was given.
    pub request_id: String,
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

// === impl Lease ===

impl Lease {
    /// The first resource that it is for.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.targets.first().map_or("", |target| &target.resource)
    }

    /// "Only if I still hold this": to be given to any mutating call.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence::new(self.resource(), self.token)
    }

    pub(crate) fn from_wire(
        reply: v1::AcquireLeaseResponse,
        targets: Vec<Target>,
        holder: String,
        request_id: String,
    ) -> Self {
        Self {
            targets,
            holder,
            lease_id: reply.lease_id,
            token: reply.token,
            remaining: duration_ms(reply.remaining_ms),
            waited: duration_ms(reply.waited_ms),
            replayed: reply.replayed,
            request_id,
        }
    }
}

// === impl Client ===

impl Client {
    /// Takes a lease, at once or after a wait. `Ok` means: you hold it.
    ///
    /// # Errors
    /// `HELD`, `STILL_WAITING` (repeat with the same request id to go on waiting),
    /// `CANCELLED_WAIT`, `DEADLOCK`, `LIMIT_MISMATCH`, `STALE_FENCE`, `LEASE_LOST` (a replay of a grant that has ended),
    /// `REQUEST_ID_REUSED`, `REQUEST_ID_FORGOTTEN`, `QUOTA`, and what every call may meet.
    pub async fn acquire(&self, wish: Acquire) -> Result<Lease, Error> {
        if wish.is_bound() && self.transport() == Transport::Unary {
            return Err(Error::usage(
                "expected a client with a session for a lease that lives with one",
                "build the client with another transport, or give the lease a ttl",
            ));
        }
        let (targets, holder) = (wish.targets().to_vec(), wish.holder.clone());
        let answered = self.call(Operation::AcquireLease(wish.into_wire())).await?;
        let Reply::AcquireLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Lease::from_wire(reply, targets, holder, answered.request_id))
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

    /// Gives a lease back. Repeating it is harmless for 60 s; on a session's stream, until the answer was acknowledged.
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

    /// Gives a lease to another holder: the old id and token end at once, and nobody gets in
    /// between. The new ones are for the giver to pass on.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_HOLDER`, `NOT_FOUND`, `DEADLOCK`, `STALE_FENCE`, `REQUEST_ID_REUSED`,
    /// `REQUEST_ID_FORGOTTEN`, `QUOTA`, and what every call may meet.
    pub async fn transfer(&self, transfer: Transfer) -> Result<Transferred, Error> {
        let answered = self.call(Operation::TransferLease(transfer.into_wire())).await?;
        let Reply::TransferLease(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Transferred {
            lease_id: reply.lease_id,
            token: reply.token,
            remaining: duration_ms(reply.remaining_ms),
            replayed: reply.replayed,
            request_id: answered.request_id,
        })
    }
}

// === from the wire ===

pub(crate) fn mismatch() -> Error {
    Error::unreadable("expected the answer to another call")
}

fn renewed_from_wire(result: v1::RenewLeaseResult) -> Result<Renewed, Error> {
    use v1::renew_lease_result::Result as Item;
    match result.result {
        Some(Item::Renewed(renewed)) => Ok(Renewed {
            remaining: duration_ms(renewed.remaining_ms),
            yield_requests: renewed.yield_requests,
        }),
        Some(Item::Refusal(refusal)) => Err(Error::from_refusal(refusal)),
        None => Err(Error::unreadable("expected a renewal or a refusal, found neither")),
    }
}
