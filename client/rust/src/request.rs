//! What a caller asks for, in words of this language. Owns the way from there to the wire;
//! leaves the judging of values to the server, which names the field.

use std::time::Duration;

use singletrack_proto::v1;

use crate::Lease;

/// How a lease shares its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Nobody else holds the resource.
    Exclusive,
    /// Any number of shared leases, no exclusive one.
    Shared,
}

/// A wish for a lease: see [`crate::Client::acquire`].
#[derive(Clone, Debug)]
#[must_use = "a wish does nothing until it is sent"]
pub struct Acquire {
    request_id: Option<String>,
    pub(crate) resource: String,
    pub(crate) holder: String,
    mode: Mode,
    life: Lives,
    wait: Duration,
    keep: Option<Duration>,
    priority: i32,
    fences: Vec<(String, u64)>,
    age: Duration,
}

/// How long a lease is to last.
#[derive(Clone, Copy, Debug)]
enum Lives {
    Ttl(Duration),
    WithSession,
}

/// How long a lease lasts without renewal, unless the wish says otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// "Only if this token is still current on this resource."
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

/// Which page of the live leases: see [`crate::Client::list`].
#[derive(Clone, Debug, Default)]
#[must_use = "a page is not asked for until this is sent"]
pub struct List {
    page_size: Option<u32>,
    page_token: String,
}

// === impl Acquire ===

impl Acquire {
    /// `holder` wants `resource` for itself: ttl 30 s, no waiting.
    ///
    /// A resource is a `/`-path of 1..512 bytes; a holder is a stable name of 1..256 characters.
    pub fn new(resource: impl Into<String>, holder: impl Into<String>) -> Self {
        Self {
            request_id: None,
            resource: resource.into(),
            holder: holder.into(),
            mode: Mode::Exclusive,
            life: Lives::Ttl(DEFAULT_TTL),
            wait: Duration::ZERO,
            keep: None,
            priority: 0,
            fences: Vec::new(),
            age: Duration::ZERO,
        }
    }

    /// How long the lease lasts without renewal: 1 s to 24 h.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.life = Lives::Ttl(ttl);
        self
    }

    /// The lease lives as long as the client's session, whose keep-alive holds it.
    pub const fn with_session(mut self) -> Self {
        self.life = Lives::WithSession;
        self
    }

    pub(crate) const fn is_bound(&self) -> bool {
        matches!(self.life, Lives::WithSession)
    }

    /// How long this call may wait for the lease, at most [`crate::MAX_WAIT`] of it.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Together with other shared leases.
    pub const fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// How the lease shares its resource.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Higher goes first, -100 to 100.
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// How long the place in the queue is kept while no call is attached: 1 ms to 60 s.
    pub const fn keep(mut self, keep: Duration) -> Self {
        self.keep = Some(keep);
        self
    }

    /// The identity of this call for life. Give the one of the first attempt to repeat it;
    /// a new one is minted otherwise.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// Only if `token` is still current on `resource`. May be given up to 16 times.
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed.
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(crate) fn into_wire(self) -> v1::AcquireLeaseRequest {
        let mode = match self.mode {
            Mode::Exclusive => v1::LeaseMode::Exclusive,
            Mode::Shared => v1::LeaseMode::Shared,
        };
        let ttl_ms = match self.life {
            Lives::Ttl(ttl) => Some(milliseconds(ttl)),
            Lives::WithSession => None,
        };
        v1::AcquireLeaseRequest {
            request_id: self.request_id.unwrap_or_default(),
            holder: self.holder,
            targets: vec![v1::LeaseTarget { resource: self.resource, mode: mode.into() }],
            ttl_ms,
            wait_ms: milliseconds(self.wait),
            keep_ms: self.keep.map(milliseconds),
            priority: self.priority,
            fences: wire_fences(self.fences),
            age_ms: milliseconds(self.age),
            session_id: String::new(),
        }
    }
}

// === impl Fence ===

impl Fence {
    /// Only if `token` is still current on `resource`.
    #[must_use]
    pub fn new(resource: impl Into<String>, token: u64) -> Self {
        Self { resource: resource.into(), token }
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

    /// As [`Acquire::request_id`].
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// As [`Acquire::fence`].
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// As [`Acquire::age`].
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

    /// As [`Acquire::request_id`].
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// As [`Acquire::fence`].
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// As [`Acquire::age`].
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
    /// The first page, of 100 leases.
    pub fn new() -> Self {
        Self::default()
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
        v1::ListLeasesRequest { page_size: self.page_size, page_token: self.page_token }
    }
}

fn wire_fences(fences: Vec<(String, u64)>) -> Vec<v1::Fence> {
    fences
        .into_iter()
        .map(|(resource, token)| v1::Fence {
            target: Some(v1::fence::Target::Resource(resource)),
            token,
        })
        .collect()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
