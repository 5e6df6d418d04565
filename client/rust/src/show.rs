//! Looking at leases, and at who waits for them: one method for each call, and its result.
//! Changes nothing.

use std::{collections::BTreeMap, time::Duration};

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use crate::{
    Client, Error, Held, List, ListWaiters, Target, YieldRequest,
    facts::{duration_ms, present_text, present_token},
    lease::mismatch,
    target::targets_from_wire,
};

/// A live lease, as anybody may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// What it is for, at least one.
    pub targets: Vec<Target>,
    /// Who holds it.
    pub holder: String,
    /// Its fencing token.
    pub token: u64,
    /// Its ttl.
    pub ttl: Duration,
    /// How long it lasts without renewal.
    pub remaining: Duration,
    /// The actor that holds it.
    pub actor: Option<String>,
    /// As they were given.
    pub labels: BTreeMap<String, String>,
    /// Since when it is held; time in which the server was down doesn't count.
    pub held: Duration,
    /// How long it lasts at most, renewed or not; `None`: no bound.
    pub hold_remaining: Option<Duration>,
    /// For how long it keeps its resources closed after an involuntary end.
    pub lock_delay: Duration,
    /// Who asks the holder to yield, oldest first, at most 8.
    pub yield_requests: Vec<YieldRequest>,
}

/// Somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// Who.
    pub holder: String,
    /// Its actor.
    pub actor: Option<String>,
    /// What it waits for, at least one.
    pub targets: Vec<Target>,
    /// Its priority.
    pub priority: i32,
    /// How long it has been queued.
    pub waited: Duration,
    /// True: a call waits for it. False: its place is kept, and passed over.
    pub attached: bool,
    /// What stands in its way; told by [`Client::list_waiters`] alone.
    pub blocked_by: Option<Held>,
}

/// Who holds a resource and who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holders {
    /// Oldest first, at most 64. Empty: the resource is free, or closed.
    pub leases: Vec<LeaseInfo>,
    /// How many leases there are in all.
    pub holder_count: u32,
    /// How many wait for the resource itself.
    pub waiter_count: u32,
    /// The first of them in the order in which they will be served, at most 16.
    pub waiters: Vec<WaiterInfo>,
    /// For so long the resource stays closed after an involuntary end; zero: it is not.
    pub closed: Duration,
}

/// A page of the live leases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// In the order of their tokens. May be few or none while there are more.
    pub leases: Vec<LeaseInfo>,
    /// For [`List::after`]; `None`: this was the last page.
    pub next_page_token: Option<String>,
}

/// A page of those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaiterPage {
    /// In the order in which they were queued.
    pub waiters: Vec<WaiterInfo>,
    /// For [`ListWaiters::after`]; `None`: this was the last page.
    pub next_page_token: Option<String>,
}

/// The verdict on a token. It was true when it left the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// True: a live lease on the resource, or on a subtree that covers it, has this token.
    pub current: bool,
    /// The newest current token; `None`: nobody holds the resource.
    pub current_token: Option<u64>,
    /// Who holds that token.
    pub holder: Option<String>,
    /// What is left of the lease with that token.
    pub remaining: Duration,
}

/// Counts of the namespace. Totals count from the start of the server, and from when the namespace
/// last was empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Live leases, those of dead sessions included until they are ended.
    pub leases: u64,
    /// Waiters, detached ones included.
    pub waiters: u64,
    /// Leases that keep their resources closed after an involuntary end.
    pub closed: u64,
    /// Sessions.
    pub sessions: u64,
    /// Leases granted.
    pub granted_total: u64,
    /// Leases ended by their holders: released, transferred, session closed.
    pub released_total: u64,
    /// Leases lost: expired, forced, longest hold.
    pub lost_total: u64,
    /// Calls that had to wait.
    pub queued_total: u64,
    /// The last revision taken, by anything in any namespace.
    pub revision: u64,
}

// === impl Client ===

impl Client {
    /// Shows who holds a resource and who waits for it.
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
            waiters: reply.waiters.into_iter().map(WaiterInfo::from_wire).collect(),
            closed: duration_ms(reply.closed_ms),
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
        self.list_all_of(List::new()).await
    }

    /// As [`Client::list_all`], of those that `list` asks for, and from the page on that it names.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn list_all_of(&self, list: List) -> Result<Vec<LeaseInfo>, Error> {
        let mut leases = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut list = list.clone().page_size(List::PAGE_SIZE_MAX);
            if let Some(page_token) = &after {
                list = list.after(page_token.clone());
            }
            let page = self.list(list).await?;
            leases.extend(page.leases);
            match page.next_page_token {
                None => return Ok(leases),
                next if next == after => return Err(same_page()),
                next => after = next,
            }
        }
    }

    /// A page of those who wait for leases of the namespace, and what stands in the way of each.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn list_waiters(&self, list: ListWaiters) -> Result<WaiterPage, Error> {
        let answered = self.call(Operation::ListLeaseWaiters(list.into_wire())).await?;
        let Reply::ListLeaseWaiters(reply) = answered.reply else { return Err(mismatch()) };
        Ok(WaiterPage {
            waiters: reply.waiters.into_iter().map(WaiterInfo::from_wire).collect(),
            next_page_token: present_text(reply.next_page_token),
        })
    }

    /// All who wait for leases of the namespace, page after page. They are not one snapshot. Keeps
    /// them all in memory.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn list_all_waiters(&self) -> Result<Vec<WaiterInfo>, Error> {
        let mut waiters = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut list = ListWaiters::new().page_size(ListWaiters::PAGE_SIZE_MAX);
            if let Some(page_token) = &after {
                list = list.after(page_token.clone());
            }
            let page = self.list_waiters(list).await?;
            waiters.extend(page.waiters);
            match page.next_page_token {
                None => return Ok(waiters),
                next if next == after => return Err(same_page()),
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
            remaining: duration_ms(reply.remaining_ms),
        })
    }

    /// Counts of the namespace.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let message = v1::GetLeaseStatsRequest {};
        let answered = self.call(Operation::GetLeaseStats(message)).await?;
        let Reply::GetLeaseStats(stats) = answered.reply else { return Err(mismatch()) };
        Ok(Stats {
            leases: stats.leases,
            waiters: stats.waiters,
            closed: stats.closed,
            sessions: stats.sessions,
            granted_total: stats.granted_total,
            released_total: stats.released_total,
            lost_total: stats.lost_total,
            queued_total: stats.queued_total,
            revision: stats.revision,
        })
    }
}

fn same_page() -> Error {
    Error::unreadable("expected a further page, found the same again")
}

// === impl LeaseInfo ===

impl LeaseInfo {
    /// The first resource that it is for.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.targets.first().map_or("", |target| &target.resource)
    }

    fn from_wire(info: v1::LeaseInfo) -> Result<Self, Error> {
        if info.targets.is_empty() {
            return Err(Error::unreadable("expected a lease on something, found one on nothing"));
        }
        Ok(Self {
            targets: targets_from_wire(info.targets),
            holder: info.holder,
            token: info.token,
            ttl: duration_ms(info.ttl_ms),
            remaining: duration_ms(info.remaining_ms),
            actor: present_text(info.actor),
            labels: info.labels,
            held: duration_ms(info.held_ms),
            hold_remaining: info.hold_remaining_ms.map(duration_ms),
            lock_delay: duration_ms(info.lock_delay_ms),
            yield_requests: info.yield_requests.into_iter().map(YieldRequest::from_wire).collect(),
        })
    }
}

fn infos_from_wire(infos: Vec<v1::LeaseInfo>) -> Result<Vec<LeaseInfo>, Error> {
    infos.into_iter().map(LeaseInfo::from_wire).collect()
}

// === impl WaiterInfo ===

impl WaiterInfo {
    fn from_wire(waiter: v1::WaiterInfo) -> Self {
        Self {
            holder: waiter.holder,
            actor: present_text(waiter.actor),
            targets: targets_from_wire(waiter.targets),
            priority: waiter.priority,
            waited: duration_ms(waiter.waited_ms),
            attached: waiter.attached,
            blocked_by: waiter.blocked_by.map(Held::from_wire),
        }
    }
}
