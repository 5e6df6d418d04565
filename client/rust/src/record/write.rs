//! Writing one record: what is said of a write, and what came of it. Nothing is sent before it is
//! awaited.

use std::time::Duration;

use singletrack_proto::v1::{
    self, operation::Operation, operation_reply::Reply, record_expectation::Expect,
    record_lifetime::Lifetime,
};

use super::{RecordHandle, Sending, Value};
use crate::{Client, Error, Fence, Lease, LeaseHandle, lease::mismatch, request::milliseconds};

/// A lease as its holder names it, for a record to live with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundLease {
    /// The lease.
    pub lease_id: String,
    /// Its token.
    pub token: u64,
}

/// A value to be written: see [`RecordHandle::put`].
#[derive(Clone, Debug)]
#[must_use = "nothing is written until this is awaited"]
pub struct Put {
    client: Client,
    pub(crate) wire: v1::PutRecordRequest,
}

/// A counter to be added to: see [`RecordHandle::increment`].
#[derive(Clone, Debug)]
#[must_use = "nothing is added until this is awaited"]
pub struct Increment {
    client: Client,
    pub(crate) wire: v1::IncrementRecordRequest,
}

/// A record to be deleted: see [`RecordHandle::delete`].
#[derive(Clone, Debug)]
#[must_use = "nothing is deleted until this is awaited"]
pub struct Delete {
    client: Client,
    pub(crate) wire: v1::DeleteRecordRequest,
}

/// A record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Its version.
    pub version: u64,
    /// The version with which it was created; the same when this write created it.
    pub created_at_version: u64,
    /// True when an earlier attempt with the same request id had written it.
    pub replayed: bool,
    /// The id under which it was written.
    pub request_id: String,
}

/// A counter was added to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incremented {
    /// What the counter was after it.
    pub value: i64,
    /// Its version.
    pub version: u64,
    /// The version with which it was created; the same when this call created it.
    pub created_at_version: u64,
    /// True when an earlier attempt with the same request id had added it.
    pub replayed: bool,
    /// The id under which it was added.
    pub request_id: String,
}

/// A record is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The version it had; `None`: there was no record, and nothing happened.
    pub version: Option<u64>,
    /// True when an earlier attempt with the same request id had deleted it.
    pub replayed: bool,
    /// The id under which it was deleted.
    pub request_id: String,
}

/// What every write may say of itself as a call.
macro_rules! a_call {
    ($builder:ident -> $result:ident) => {
        impl $builder {
            /// As [`crate::Acquire::request_id`].
            pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
                self.wire.request_id = request_id.into();
                self
            }

            /// As [`crate::Acquire::age`].
            pub fn age(mut self, age: Duration) -> Self {
                self.wire.age_ms = milliseconds(age);
                self
            }

            /// Only if this token is still current. May be given up to 16 times.
            pub fn fence(mut self, fence: impl Into<Fence>) -> Self {
                self.wire.fences.push(fence.into().into_wire());
                self
            }
        }

        impl IntoFuture for $builder {
            type Output = Result<$result, Error>;
            type IntoFuture = Sending<$result>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}
pub(super) use a_call;

a_call!(Put -> Written);
a_call!(Increment -> Incremented);
a_call!(Delete -> Deleted);

// === impl RecordHandle ===

impl RecordHandle {
    /// Writes a value, its kind with it. The record is as new: without a lifetime, unless this says
    /// one.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let lease = client.lease("orders/7").acquire().await?;
    /// client
    ///     .record("orders/7/state")
    ///     .put(r#"{"state": "packing"}"#)
    ///     .content_type("application/json")
    ///     .fence(&lease)
    ///     .ttl(Duration::from_secs(86_400))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is awaited: `VERSION_MISMATCH`, `STALE_FENCE`, `FENCE_REQUIRED`; `LEASE_LOST`,
    /// `NOT_HOLDER` or `NOT_FOUND` (the lease to bind it to); `TOO_LARGE`, `QUOTA`,
    /// `REQUEST_ID_REUSED`, `REQUEST_ID_FORGOTTEN`, and what every call may meet.
    pub fn put(&self, value: impl Into<Value>) -> Put {
        let wire = v1::PutRecordRequest {
            key: self.key.clone(),
            value: Some(value.into().into_wire()),
            content_type: self.content_type.clone().unwrap_or_default(),
            holder: self.holder.clone(),
            fences: self.wire_fences(),
            ..Default::default()
        };
        Put { client: self.client.clone(), wire }
    }

    /// Adds to a counter; one that is absent counts as 0. `delta` is not 0.
    ///
    /// ```no_run
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let left = client.record("stock/screws").increment(-3).min(0).await?.value;
    /// println!("{left} left");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is awaited: `NOT_A_COUNTER`, `OUT_OF_BOUNDS`, or as [`RecordHandle::put`].
    pub fn increment(&self, delta: i64) -> Increment {
        let wire = v1::IncrementRecordRequest {
            key: self.key.clone(),
            delta,
            holder: self.holder.clone(),
            fences: self.wire_fences(),
            ..Default::default()
        };
        Increment { client: self.client.clone(), wire }
    }

    /// Deletes the record. That there is none is no error, unless something was expected.
    ///
    /// # Errors
    /// When it is awaited: `VERSION_MISMATCH`, `STALE_FENCE`, `FENCE_REQUIRED`,
    /// `REQUEST_ID_REUSED`, `REQUEST_ID_FORGOTTEN`, and what every call may meet.
    pub fn delete(&self) -> Delete {
        let (key, fences) = (self.key.clone(), self.wire_fences());
        let wire = v1::DeleteRecordRequest { key, fences, ..Default::default() };
        Delete { client: self.client.clone(), wire }
    }

    fn wire_fences(&self) -> Vec<v1::Fence> {
        self.fences.iter().cloned().map(Fence::into_wire).collect()
    }
}

// === impl Put ===

impl Put {
    /// Only if there is no such record.
    pub fn expect_absent(self) -> Self {
        self.expect(Expect::Absent(true))
    }

    /// Only if there is such a record.
    pub fn expect_exists(self) -> Self {
        self.expect(Expect::Exists(true))
    }

    /// Only if the record has this version.
    pub fn expect_version(self, version: u64) -> Self {
        self.expect(Expect::Version(version))
    }

    fn expect(mut self, expect: Expect) -> Self {
        self.wire.expect = expectation(expect);
        self
    }

    /// How long the record lasts, restarts included: 1 s to 365 days. Time in which the server is
    /// down doesn't count.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.wire.lifetime = lasts(ttl);
        self
    }

    /// The record lives as long as this lease, and is gone at the same moment.
    pub fn bound_to(mut self, lease: impl Into<BoundLease>) -> Self {
        self.wire.lifetime = bound(lease.into());
        self
    }

    /// The record lasts as long as the one that it replaces would have.
    pub const fn keep_lifetime(mut self) -> Self {
        self.wire.keep_lifetime = true;
        self
    }

    /// Its media type, at most 128 printable ASCII characters.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.wire.content_type = content_type.into();
        self
    }

    /// As [`RecordHandle::holder`].
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.wire.holder = holder.into();
        self
    }

    async fn send(self) -> Result<Written, Error> {
        let answered = self.client.call(Operation::PutRecord(self.wire)).await?;
        let Reply::PutRecord(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Written::from_wire(&reply, answered.request_id))
    }
}

// === impl Increment ===

impl Increment {
    /// The result may not be less.
    pub const fn min(mut self, min: i64) -> Self {
        self.wire.min = Some(min);
        self
    }

    /// The result may not be more.
    pub const fn max(mut self, max: i64) -> Self {
        self.wire.max = Some(max);
        self
    }

    /// How long a counter lasts that this creates; one that was there keeps its own lifetime.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.wire.lifetime = lasts(ttl);
        self
    }

    /// A counter that this creates lives as long as this lease.
    pub fn bound_to(mut self, lease: impl Into<BoundLease>) -> Self {
        self.wire.lifetime = bound(lease.into());
        self
    }

    /// As [`RecordHandle::holder`].
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.wire.holder = holder.into();
        self
    }

    async fn send(self) -> Result<Incremented, Error> {
        let answered = self.client.call(Operation::IncrementRecord(self.wire)).await?;
        let Reply::IncrementRecord(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Incremented::from_wire(&reply, answered.request_id))
    }
}

// === impl Delete ===

impl Delete {
    /// Only if there is such a record.
    pub fn expect_exists(self) -> Self {
        self.expect(Expect::Exists(true))
    }

    /// Only if the record has this version.
    pub fn expect_version(self, version: u64) -> Self {
        self.expect(Expect::Version(version))
    }

    fn expect(mut self, expect: Expect) -> Self {
        self.wire.expect = expectation(expect);
        self
    }

    async fn send(self) -> Result<Deleted, Error> {
        let answered = self.client.call(Operation::DeleteRecord(self.wire)).await?;
        let Reply::DeleteRecord(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Deleted::from_wire(&reply, answered.request_id))
    }
}

// === impl BoundLease ===

impl BoundLease {
    /// The lease with this id and token.
    #[must_use]
    pub fn new(lease_id: impl Into<String>, token: u64) -> Self {
        Self { lease_id: lease_id.into(), token }
    }
}

impl From<&LeaseHandle> for BoundLease {
    fn from(lease: &LeaseHandle) -> Self {
        Self::new(lease.lease_id(), lease.token())
    }
}

impl From<&Lease> for BoundLease {
    fn from(lease: &Lease) -> Self {
        Self::new(lease.lease_id.clone(), lease.token)
    }
}

// === to the wire and from it ===

#[expect(clippy::unnecessary_wraps, reason = "as the wire has it")]
pub(crate) const fn expectation(expect: Expect) -> Option<v1::RecordExpectation> {
    Some(v1::RecordExpectation { expect: Some(expect) })
}

fn lasts(ttl: Duration) -> Option<v1::RecordLifetime> {
    let lifetime = Lifetime::TtlMs(milliseconds(ttl));
    Some(v1::RecordLifetime { lifetime: Some(lifetime) })
}

fn bound(lease: BoundLease) -> Option<v1::RecordLifetime> {
    let lease = v1::BoundLease { lease_id: lease.lease_id, token: lease.token };
    Some(v1::RecordLifetime { lifetime: Some(Lifetime::BoundLease(lease)) })
}

impl Written {
    pub(crate) const fn from_wire(reply: &v1::PutRecordResponse, request_id: String) -> Self {
        Self {
            version: reply.version,
            created_at_version: reply.created_at_version,
            replayed: reply.replayed,
            request_id,
        }
    }
}

impl Incremented {
    pub(crate) const fn from_wire(reply: &v1::IncrementRecordResponse, request_id: String) -> Self {
        Self {
            value: reply.value,
            version: reply.version,
            created_at_version: reply.created_at_version,
            replayed: reply.replayed,
            request_id,
        }
    }
}

impl Deleted {
    pub(crate) fn from_wire(reply: &v1::DeleteRecordResponse, request_id: String) -> Self {
        let version = reply.existed.then_some(reply.deleted_version);
        Self { version, replayed: reply.replayed, request_id }
    }
}
