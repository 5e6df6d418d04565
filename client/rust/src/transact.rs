//! Several mutations as one, all or nothing: what is said of a transaction, and what came of it.
//! Leaves the judging to the server, which names the condition or the operation.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use singletrack_proto::v1::{
    self, operation::Operation, operation_reply::Reply, record_expectation::Expect,
    transact_condition::Condition,
};

use crate::{
    Acquire, Client, Delete, Deleted, Error, Fence, ForceRelease, ForceReleased, Increment,
    Incremented, Lease, LeaseHandle, Protect, Protected, Put, Release, Target, Transfer,
    Transferred, Transport, Unprotect, Unprotected, Value, Written,
    facts::duration_ms,
    lease::mismatch,
    life::Life,
    op,
    record::{Sending, expectation},
    request::milliseconds,
};

/// Several mutations as one: see [`Client::transact`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until this is awaited"]
pub struct Transact {
    client: Client,
    wire: v1::TransactRequest,
    /// What is asked for by operations that take a lease, by their index: it isn't told back.
    asked: BTreeMap<usize, (Vec<Target>, String)>,
    /// Leases that end with it, and how.
    ending: Vec<(Arc<Life>, v1::LeaseLostDetail)>,
}

/// A condition that is being said: see [`Transact::when`].
#[derive(Clone, Debug)]
#[must_use = "half a condition is none"]
pub struct When {
    transact: Transact,
    key: String,
}

/// One operation of a transaction: see [`Transact::with`]. It is made of what would do the same by
/// itself.
#[derive(Clone, Debug)]
pub struct TransactOperation {
    operation: Operation,
    asked: Option<(Vec<Target>, String)>,
}

/// All of a transaction happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transacted {
    /// One for each operation, in their order.
    pub replies: Vec<TransactReply>,
    /// Its last revision: with this it became visible, whole.
    pub commit_revision: u64,
    /// True when an earlier attempt with the same request id had done it.
    pub replayed: bool,
    /// The id under which it was done.
    pub request_id: String,
}

/// What came of one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransactReply {
    /// A lease was taken.
    Acquired(Lease),
    /// A lease was given back.
    Released,
    /// A lease was taken away.
    ForceReleased(ForceReleased),
    /// A lease was given to another.
    Transferred(Transferred),
    /// A record was written.
    Put(Written),
    /// A counter was added to.
    Incremented(Incremented),
    /// A record was deleted.
    Deleted(Deleted),
    /// A prefix was protected.
    Protected(Protected),
    /// A protection was taken back.
    Unprotected(Unprotected),
    /// In a replay: a lease that was taken, and has ended since. The transaction happened all the
    /// same.
    Lost {
        /// `LEASE_LOST`, or `NOT_FOUND` when its end is forgotten.
        reason: String,
        /// The same in words.
        message: String,
    },
}

// === impl Client ===

impl Client {
    /// Several mutations as one: all of them happen at the same moment, or none.
    ///
    /// ```no_run
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let lease = client.lease("orders/7").acquire().await?;
    /// let Some(order) = client.record("orders/7/state").get().await? else { return Ok(()) };
    /// let done = client
    ///     .transact()
    ///     .holding(&lease)
    ///     .when("orders/7/state")
    ///     .has_version(order.version)
    ///     .put("orders/7/state", "packed")
    ///     .increment("orders/packed", 1)
    ///     .release(&lease)
    ///     .await?;
    /// assert_eq!(done.put(0).map(|it| it.version <= done.commit_revision), Some(true));
    /// println!("{:?} packed so far", done.incremented(1).map(|it| it.value));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is awaited: whatever a condition or an operation is refused with, and then
    /// [`Error::condition_index`] or [`Error::operation_index`] says which; `ALREADY_DONE` for an
    /// operation that would have no effect; `TOO_LARGE`, `REQUEST_ID_REUSED`,
    /// `REQUEST_ID_FORGOTTEN`, `QUOTA`, and what every call may meet.
    pub fn transact(&self) -> Transact {
        Transact {
            client: self.clone(),
            wire: v1::TransactRequest::default(),
            asked: BTreeMap::new(),
            ending: Vec::new(),
        }
    }
}

// === impl Transact: conditions ===

impl Transact {
    /// Only while this token is current. It counts for the protections of all operations.
    pub fn holding(self, fence: impl Into<Fence>) -> Self {
        self.on_condition(Condition::Fence(fence.into().into_wire()))
    }

    /// Only if the record of this key is as is said next.
    pub fn when(self, key: impl Into<String>) -> When {
        When { transact: self, key: key.into() }
    }

    fn on_condition(mut self, condition: Condition) -> Self {
        self.wire.conditions.push(v1::TransactCondition { condition: Some(condition) });
        self
    }
}

// === impl When ===

impl When {
    /// There is no such record.
    #[expect(clippy::wrong_self_convention, reason = "it goes on with the sentence")]
    pub fn is_absent(self) -> Transact {
        self.is(Expect::Absent(true))
    }

    /// There is such a record.
    pub fn exists(self) -> Transact {
        self.is(Expect::Exists(true))
    }

    /// The record has this version.
    pub fn has_version(self, version: u64) -> Transact {
        self.is(Expect::Version(version))
    }

    fn is(self, expect: Expect) -> Transact {
        let condition = v1::RecordCondition { key: self.key, expect: expectation(expect) };
        self.transact.on_condition(Condition::Record(condition))
    }
}

// === impl Transact: operations ===

impl Transact {
    /// Writes a value: as [`crate::RecordHandle::put`]. More of it can be said in
    /// [`Transact::with`].
    pub fn put(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let put = self.client.record(key).put(value);
        self.with(put)
    }

    /// Adds to a counter: as [`crate::RecordHandle::increment`].
    pub fn increment(self, key: impl Into<String>, delta: i64) -> Self {
        let increment = self.client.record(key).increment(delta);
        self.with(increment)
    }

    /// Deletes a record, which must be there: as [`crate::RecordHandle::delete`].
    pub fn delete(self, key: impl Into<String>) -> Self {
        let delete = self.client.record(key).delete();
        self.with(delete)
    }

    /// Takes a lease, which must be free, as nothing waits in a transaction. It is in
    /// [`Transacted::lease`], and the caller's to keep: a lease with a ttl with [`Client::adopt`];
    /// one that lives with the session lives while the client does. If the answer is never heard,
    /// nobody keeps it: better a ttl of its own.
    pub fn acquire(self, wish: Acquire) -> Self {
        self.with(wish)
    }

    /// Gives a lease back, and the handle knows it when it has happened. Its token is current for
    /// the other operations all the same.
    pub fn release(mut self, lease: &LeaseHandle) -> Self {
        self.ends(lease, v1::LeaseEnd::Released);
        self.with(Release::new(lease.lease_id(), lease.token()))
    }

    /// Gives a lease to another holder, as [`LeaseHandle::transfer`]: the new id and token, in
    /// [`Transacted::transferred`], are to be passed on.
    pub fn transfer(mut self, lease: &LeaseHandle, to_holder: impl Into<String>) -> Self {
        self.ends(lease, v1::LeaseEnd::Transferred);
        self.with(Transfer::new(lease.lease_id(), lease.token(), to_holder))
    }

    /// Ends somebody else's lease: as [`Client::force_release`].
    pub fn force_release(self, resource: impl Into<String>, token: u64) -> Self {
        self.with(ForceRelease::new(resource, token))
    }

    /// Protects a prefix: as [`crate::Records::protect`].
    pub fn protect(self, prefix: impl Into<String>, resource: impl Into<String>) -> Self {
        let protect = self.client.records().protect(prefix, resource);
        self.with(protect)
    }

    /// Takes a protection back: as [`crate::Records::unprotect`].
    pub fn unprotect(self, prefix: impl Into<String>, resource: impl Into<String>) -> Self {
        let unprotect = self.client.records().unprotect(prefix, resource);
        self.with(unprotect)
    }

    /// Any of the operations, with all that can be said of it but a request id, an age and a wait.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use singletrack::Acquire;
    ///
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let hour = Duration::from_secs(3_600);
    /// let done = client
    ///     .transact()
    ///     .with(client.record("jobs/7").put("taken").expect_absent().ttl(hour))
    ///     .with(Acquire::new("machines/3", "agent-7").ttl(Duration::from_secs(30)))
    ///     .await?;
    /// if let Some(grant) = done.lease(1) {
    ///     let machine = client.adopt(grant.lease_id.as_str(), grant.token).await?;
    ///     # machine.release().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(mut self, operation: impl Into<TransactOperation>) -> Self {
        let TransactOperation { operation, asked } = operation.into();
        if let Some(asked) = asked {
            self.asked.insert(self.wire.operations.len(), asked);
        }
        let operation = v1::Operation { operation: Some(operation), ..Default::default() };
        self.wire.operations.push(operation);
        self
    }

    fn ends(&mut self, lease: &LeaseHandle, end: v1::LeaseEnd) {
        let lost = v1::LeaseLostDetail { end: end.into(), token: lease.token() };
        self.ending.push((Arc::clone(lease.life()), lost));
    }
}

// === impl Transact: the call ===

impl Transact {
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

    async fn send(mut self) -> Result<Transacted, Error> {
        let operations = self.wire.operations.len();
        let op = Operation::Transact(self.wire);
        if op::needs_session(&op) && self.client.transport() == Transport::Unary {
            return Err(Error::usage(
                "expected a client with a session for a lease that lives with one",
                "build the client with another transport, or give the lease a ttl",
            ));
        }
        let answered = self.client.call(op).await?;
        let Reply::Transact(reply) = answered.reply else { return Err(mismatch()) };
        for (life, lost) in self.ending {
            life.lose(Error::lease_lost(Some(lost)));
        }
        if reply.replies.len() != operations {
            return Err(Error::unreadable(format!(
                "expected {operations} replies, found {}",
                reply.replies.len()
            )));
        }
        let mut replies = Vec::with_capacity(operations);
        for (index, part) in reply.replies.into_iter().enumerate() {
            let asked = self.asked.remove(&index);
            replies.push(TransactReply::from_wire(part, asked, &answered.request_id)?);
        }
        Ok(Transacted {
            replies,
            commit_revision: reply.commit_revision,
            replayed: reply.replayed,
            request_id: answered.request_id,
        })
    }
}

impl IntoFuture for Transact {
    type Output = Result<Transacted, Error>;
    type IntoFuture = Sending<Transacted>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

// === impl Transacted ===

/// The reply of one operation, if it is of this kind.
macro_rules! reply {
    ($(#[doc = $doc:literal] $name:ident: $kind:ident($result:ident);)*) => {
        impl Transacted {
            $(#[doc = $doc]
            #[must_use]
            pub fn $name(&self, index: usize) -> Option<&$result> {
                if let Some(TransactReply::$kind(it)) = self.replies.get(index) {
                    Some(it)
                } else {
                    None
                }
            })*
        }
    };
}

reply! {
    #[doc = "The lease that the operation with this index took, from 0; `None`: it takes none."]
    lease: Acquired(Lease);
    #[doc = "What the operation with this index wrote, from 0; `None`: it is no put."]
    put: Put(Written);
    #[doc = "What the counter of the operation with this index is, from 0; `None`: it has none."]
    incremented: Incremented(Incremented);
    #[doc = "What the operation with this index deleted, from 0; `None`: it deletes nothing."]
    deleted: Deleted(Deleted);
    #[doc = "Whom the operation with this index took a lease from, from 0; `None`: from nobody."]
    force_released: ForceReleased(ForceReleased);
    #[doc = "The new lease of the operation with this index, from 0; `None`: it is no transfer."]
    transferred: Transferred(Transferred);
    #[doc = "What the operation with this index protected, from 0; `None`: it protects nothing."]
    protected: Protected(Protected);
    #[doc = "The protection that the operation with this index took back, from 0, if it does."]
    unprotected: Unprotected(Unprotected);
}

// === impl TransactReply ===

impl TransactReply {
    fn from_wire(
        part: v1::OperationReply,
        asked: Option<(Vec<Target>, String)>,
        request_id: &str,
    ) -> Result<Self, Error> {
        let id = || request_id.to_owned();
        Ok(match part.reply.ok_or_else(mismatch)? {
            Reply::AcquireLease(reply) => {
                let (targets, holder) = asked.ok_or_else(mismatch)?;
                Self::Acquired(Lease::from_wire(reply, targets, holder, id()))
            }
            Reply::ReleaseLease(_) => Self::Released,
            Reply::ForceReleaseLease(reply) => Self::ForceReleased(ForceReleased {
                holder: reply.holder,
                replayed: reply.replayed,
            }),
            Reply::TransferLease(reply) => Self::Transferred(Transferred {
                lease_id: reply.lease_id,
                token: reply.token,
                remaining: duration_ms(reply.remaining_ms),
                replayed: reply.replayed,
                request_id: id(),
            }),
            Reply::PutRecord(reply) => Self::Put(Written::from_wire(&reply, id())),
            Reply::IncrementRecord(reply) => {
                Self::Incremented(Incremented::from_wire(&reply, id()))
            }
            Reply::DeleteRecord(reply) => Self::Deleted(Deleted::from_wire(&reply, id())),
            Reply::ProtectPrefix(reply) => Self::Protected(Protected::from_wire(&reply, id())),
            Reply::UnprotectPrefix(reply) => {
                Self::Unprotected(Unprotected::from_wire(&reply, id()))
            }
            Reply::Ping(_)
            | Reply::KeepSessionAlive(_)
            | Reply::CloseSession(_)
            | Reply::ListSessionLeases(_)
            | Reply::AbandonLease(_)
            | Reply::RenewLeases(_)
            | Reply::GetLease(_)
            | Reply::ListLeases(_)
            | Reply::CheckLease(_)
            | Reply::RequestLeaseYield(_)
            | Reply::AnswerLeaseYield(_)
            | Reply::ListLeaseWaiters(_)
            | Reply::GetLeaseStats(_)
            | Reply::GetRecord(_)
            | Reply::BatchGetRecords(_)
            | Reply::ListRecords(_)
            | Reply::ListProtections(_)
            | Reply::Transact(_) => return Err(mismatch()),
            Reply::Refusal(refusal) => {
                let error = Error::from_refusal(*refusal);
                Self::Lost { reason: error.reason_name().to_owned(), message: error.to_string() }
            }
        })
    }
}

// === impl TransactOperation ===

impl From<Acquire> for TransactOperation {
    fn from(wish: Acquire) -> Self {
        let asked = Some((wish.targets().to_vec(), wish.holder.clone()));
        Self { operation: Operation::AcquireLease(wish.into_wire()), asked }
    }
}

/// What is sent as it is.
macro_rules! from_wire_of {
    ($($kind:ident => $operation:ident: $wire:expr;)*) => {
        $(impl From<$kind> for TransactOperation {
            fn from(it: $kind) -> Self {
                let wire: fn($kind) -> _ = $wire;
                Self { operation: Operation::$operation(wire(it)), asked: None }
            }
        })*
    };
}

from_wire_of! {
    Release => ReleaseLease: Release::into_wire;
    ForceRelease => ForceReleaseLease: ForceRelease::into_wire;
    Transfer => TransferLease: Transfer::into_wire;
    Put => PutRecord: |it| it.wire;
    Increment => IncrementRecord: |it| it.wire;
    Delete => DeleteRecord: |it| it.wire;
    Protect => ProtectPrefix: |it| it.wire;
    Unprotect => UnprotectPrefix: |it| it.wire;
}
