//! What a caller asks for beside a lease, in words of this language. Owns the way from there to the
//! wire; leaves the judging of values to the server, which names the field.

use std::{collections::BTreeMap, time::Duration};

use singletrack_proto::v1;

use crate::{Lease, LeaseHandle};

/// "Only if this token is still current on this resource."
///
/// A lease that is held says it of itself: `&lease` is as good wherever a fence is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The resource.
    pub resource: String,
    /// The token.
    pub token: u64,
}

/// A lease to give back: see [`crate::Client::release`].
#[derive(Clone, Debug)]
#[must_use = "nothing is released until this is sent"]
pub struct Release {
    request_id: Option<String>,
    lease_id: String,
    token: u64,
    fences: Vec<(String, u64)>,
    age: Duration,
}

/// Somebody else's lease to end: see [`crate::Client::force_release`].
#[derive(Clone, Debug)]
#[must_use = "nothing is released until this is sent"]
pub struct ForceRelease {
    request_id: Option<String>,
    resource: String,
    token: u64,
    fences: Vec<(String, u64)>,
    age: Duration,
}

/// One lease to renew: see [`crate::Client::renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lease.
    pub lease_id: String,
    /// Its token.
    pub token: u64,
}

/// A lease to give to another: see [`crate::Client::transfer`].
#[derive(Clone, Debug)]
#[must_use = "nothing is given until this is sent"]
pub struct Transfer {
    request_id: Option<String>,
    lease_id: String,
    token: u64,
    to_holder: String,
    to_actor: String,
    ttl: Option<Duration>,
    fences: Vec<(String, u64)>,
    age: Duration,
}

/// Which of the live leases, and which page of them: see [`crate::Client::list`].
#[derive(Clone, Debug, Default)]
#[must_use = "a page is not asked for until this is sent"]
pub struct List {
    page_size: Option<u32>,
    page_token: String,
    holder: String,
    prefix: String,
    labels: BTreeMap<String, String>,
}

/// Which page of those who wait: see [`crate::Client::list_waiters`].
#[derive(Clone, Debug, Default)]
#[must_use = "a page is not asked for until this is sent"]
pub struct ListWaiters {
    page_size: Option<u32>,
    page_token: String,
}

// === impl Fence ===

impl Fence {
    /// Only if `token` is still current on `resource`.
    #[must_use]
    pub fn new(resource: impl Into<String>, token: u64) -> Self {
        Self { resource: resource.into(), token }
    }

    pub(crate) fn into_wire(self) -> v1::Fence {
        v1::Fence { target: Some(v1::fence::Target::Resource(self.resource)), token: self.token }
    }
}

impl From<&LeaseHandle> for Fence {
    fn from(lease: &LeaseHandle) -> Self {
        lease.fence()
    }
}

impl From<&Lease> for Fence {
    fn from(lease: &Lease) -> Self {
        lease.fence()
    }
}

impl<R: Into<String>> From<(R, u64)> for Fence {
    fn from((resource, token): (R, u64)) -> Self {
        Self::new(resource, token)
    }
}

// === impl Release ===

impl Release {
    /// Gives back the lease with this id and token.
    pub fn new(lease_id: impl Into<String>, token: u64) -> Self {
        Self {
            request_id: None,
            lease_id: lease_id.into(),
            token,
            fences: Vec::new(),
            age: Duration::ZERO,
        }
    }

    /// Gives back this lease.
    pub fn of(lease: &Lease) -> Self {
        Self::new(lease.lease_id.clone(), lease.token)
    }

    /// As [`crate::Acquire::request_id`].
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// As [`crate::Acquire::fence`].
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// As [`crate::Acquire::age`].
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(crate) fn into_wire(self) -> v1::ReleaseLeaseRequest {
        v1::ReleaseLeaseRequest {
            request_id: self.request_id.unwrap_or_default(),
            lease_id: self.lease_id,
            token: self.token,
            fences: wire_fences(self.fences),
            age_ms: milliseconds(self.age),
        }
    }
}

// === impl ForceRelease ===

impl ForceRelease {
    /// Ends the lease on `resource` that has this token.
    pub fn new(resource: impl Into<String>, token: u64) -> Self {
        Self {
            request_id: None,
            resource: resource.into(),
            token,
            fences: Vec::new(),
            age: Duration::ZERO,
        }
    }

    /// As [`crate::Acquire::request_id`].
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// As [`crate::Acquire::fence`].
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// As [`crate::Acquire::age`].
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(crate) fn into_wire(self) -> v1::ForceReleaseLeaseRequest {
        v1::ForceReleaseLeaseRequest {
            request_id: self.request_id.unwrap_or_default(),
            resource: self.resource,
            token: self.token,
            fences: wire_fences(self.fences),
            age_ms: milliseconds(self.age),
        }
    }
}

// === impl Transfer ===

impl Transfer {
    /// Gives the lease with this id and token to `to_holder`, a name of 1..256 characters.
    pub fn new(lease_id: impl Into<String>, token: u64, to_holder: impl Into<String>) -> Self {
        Self {
            request_id: None,
            lease_id: lease_id.into(),
            token,
            to_holder: to_holder.into(),
            to_actor: String::new(),
            ttl: None,
            fences: Vec::new(),
            age: Duration::ZERO,
        }
    }

    /// The actor of the one who gets it, as in [`crate::Acquire::actor`].
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.to_actor = actor.into();
        self
    }

    /// The ttl of the new lease, 1 s to 24 h; that of the old one if absent.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// As [`crate::Acquire::request_id`].
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// As [`crate::Acquire::fence`].
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// As [`crate::Acquire::age`].
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(crate) fn into_wire(self) -> v1::TransferLeaseRequest {
        v1::TransferLeaseRequest {
            request_id: self.request_id.unwrap_or_default(),
            lease_id: self.lease_id,
            token: self.token,
            to_holder: self.to_holder,
            to_actor: self.to_actor,
            ttl_ms: self.ttl.map(milliseconds),
            fences: wire_fences(self.fences),
            age_ms: milliseconds(self.age),
        }
    }
}

// === impl Renewal ===

impl Renewal {
    /// Renews the lease with this id and token.
    #[must_use]
    pub fn new(lease_id: impl Into<String>, token: u64) -> Self {
        Self { lease_id: lease_id.into(), token }
    }

    /// Renews this lease.
    #[must_use]
    pub fn of(lease: &Lease) -> Self {
        Self::new(lease.lease_id.clone(), lease.token)
    }

    pub(crate) fn into_wire(self) -> v1::LeaseRenewal {
        v1::LeaseRenewal { lease_id: self.lease_id, token: self.token }
    }
}

// === impl List ===

impl List {
    /// Most leases a page.
    pub(crate) const PAGE_SIZE_MAX: u32 = 1_000;

    /// The first page, of 100 leases, of all there are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of this holder.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// Only those with a target of this name or below it.
    pub fn prefix(mut self, resource: impl Into<String>) -> Self {
        self.prefix = resource.into();
        self
    }

    /// Only those with this label. Of several, at most 16, they must have all.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// 1 to 1,000 leases a page.
    pub const fn page_size(mut self, leases: u32) -> Self {
        self.page_size = Some(leases);
        self
    }

    /// The page after one that ended with [`crate::Page::next_page_token`].
    pub fn after(mut self, page_token: impl Into<String>) -> Self {
        self.page_token = page_token.into();
        self
    }

    pub(crate) fn into_wire(self) -> v1::ListLeasesRequest {
        v1::ListLeasesRequest {
            page_size: self.page_size,
            page_token: self.page_token,
            holder: self.holder,
            resource_prefix: self.prefix,
            labels: self.labels,
        }
    }
}

// === impl ListWaiters ===

impl ListWaiters {
    /// Most waiters a page.
    pub(crate) const PAGE_SIZE_MAX: u32 = 100;

    /// The first page, of 50 waiters.
    pub fn new() -> Self {
        Self::default()
    }

    /// 1 to 100 waiters a page.
    pub const fn page_size(mut self, waiters: u32) -> Self {
        self.page_size = Some(waiters);
        self
    }

    /// The page after one that ended with [`crate::WaiterPage::next_page_token`].
    pub fn after(mut self, page_token: impl Into<String>) -> Self {
        self.page_token = page_token.into();
        self
    }

    pub(crate) fn into_wire(self) -> v1::ListLeaseWaitersRequest {
        v1::ListLeaseWaitersRequest { page_size: self.page_size, page_token: self.page_token }
    }
}

pub(crate) fn wire_fences(fences: Vec<(String, u64)>) -> Vec<v1::Fence> {
    fences.into_iter().map(|fence| Fence::from(fence).into_wire()).collect()
}

/// A time for the wire.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
