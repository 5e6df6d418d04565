//! Records: versioned values that agents share. Owns what a value and a record are, and the handle
//! on one key; leaves the judging of values to the server, which names the field.
//!
//! - `write`: puts, increments and deletes
//! - `modify`: read, compute, write if nobody was faster
//! - `many`: several at one moment, and pages
//! - `protect`: prefixes that only the holder of a lease may write to
//! - `refused`: the facts of refusals

mod many;
mod modify;
mod protect;
mod refused;
mod write;

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use singletrack_proto::v1::{
    self, operation::Operation, operation_reply::Reply, record_value::Kind,
};

pub(crate) use self::write::expectation;
pub use self::{
    many::{ListRecords, RecordPage, Records, Snapshot},
    modify::{MODIFY_ATTEMPTS, Modified},
    protect::{
        ListProtections, Protect, Protected, Protection, ProtectionPage, Unprotect, Unprotected,
    },
    refused::{FenceRequired, OutOfBounds, VersionMismatch},
    write::{BoundLease, Delete, Deleted, Increment, Incremented, Put, Written},
};
use crate::{
    Client, Error, Fence, Reason,
    facts::{duration_ms, present_text, present_token},
    lease::mismatch,
};

/// What a builder that is awaited becomes.
pub(crate) type Sending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What a record holds. The kind is part of the value: only a counter can be incremented.
///
/// ```
/// use singletrack::Value;
///
/// assert_eq!(Value::from("done").text(), Some("done"));
/// assert_eq!(Value::from(7).counter(), Some(7));
/// assert_eq!(Value::from(b"done").bytes(), Value::from("done").bytes());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes, at most 1 MiB.
    Data(Bytes),
    /// UTF-8, at most 1 MiB.
    Text(String),
    /// A number that can be incremented.
    Counter(i64),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its name.
    pub key: String,
    /// What it holds; `None` when it was not asked for, or left out for its size.
    pub value: Option<Value>,
    /// True when the value was left out because the reply had no more room: get it by itself.
    pub value_omitted: bool,
    /// Length of data and text, bytes; 0 for a counter.
    pub value_bytes: u64,
    /// As it was given; `None`: not said.
    pub content_type: Option<String>,
    /// The revision that wrote it last. No other write ever has the same.
    pub version: u64,
    /// The version with which it was created.
    pub created_at_version: u64,
    /// Who wrote it last; `None`: did not say.
    pub written_by: Option<String>,
    /// How long it lasts; `None`: until it is deleted, or as long as the lease it is bound to.
    pub remaining: Option<Duration>,
    /// The token of the lease that it is bound to.
    pub bound_token: Option<u64>,
}

/// One key: see [`Client::record`]. What is said of it holds for all that is done by it.
#[derive(Clone, Debug)]
pub struct RecordHandle {
    client: Client,
    key: String,
    fences: Vec<Fence>,
    holder: String,
    content_type: Option<String>,
    attempts: u32,
}

// === impl Client ===

impl Client {
    /// The record of this key, whether there is one or not: a `/`-path of 1..512 bytes.
    ///
    /// ```no_run
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let order = client.record("orders/7");
    /// let written = order.put("new").expect_absent().await?;
    /// order.put("paid").expect_version(written.version).await?;
    /// assert_eq!(order.get().await?.as_ref().and_then(|it| it.text()), Some("paid"));
    /// order.delete().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn record(&self, key: impl Into<String>) -> RecordHandle {
        RecordHandle {
            client: self.clone(),
            key: key.into(),
            fences: Vec::new(),
            holder: self.holder(),
            content_type: None,
            attempts: MODIFY_ATTEMPTS,
        }
    }

    /// Several records, and the protection of prefixes.
    #[must_use]
    pub fn records(&self) -> Records {
        Records::new(self.clone())
    }
}

// === impl RecordHandle ===

impl RecordHandle {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Only if this token is still current: of every write by this handle. May be given up to 16
    /// times.
    #[must_use]
    pub fn fence(mut self, fence: impl Into<Fence>) -> Self {
        self.fences.push(fence.into());
        self
    }

    /// Who writes, shown to others as [`Record::written_by`]; the client's holder if absent.
    #[must_use]
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// The media type of whatever is put by this handle, at most 128 printable ASCII characters.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// How often [`RecordHandle::modify`] tries before it gives up: at least once,
    /// [`MODIFY_ATTEMPTS`] times if absent.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The record; `None`: there is none. Sees every write that was answered before.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn get(&self) -> Result<Option<Record>, Error> {
        let message = v1::GetRecordRequest { key: self.key.clone() };
        let answered = match self.client.call(Operation::GetRecord(message)).await {
            Ok(answered) => answered,
            Err(error) if error.reason() == Some(Reason::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Reply::GetRecord(reply) = answered.reply else { return Err(mismatch()) };
        let record = reply.record.map(Record::from_wire).filter(|it| it.value.is_some());
        record.map(Some).ok_or_else(|| Error::unreadable("expected a record with a value"))
    }
}

// === impl Record ===

impl Record {
    /// Its text, if it holds one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.value.as_ref().and_then(Value::text)
    }

    /// Its data, if it holds some.
    #[must_use]
    pub fn data(&self) -> Option<&Bytes> {
        self.value.as_ref().and_then(Value::data)
    }

    /// Its number, if it is a counter.
    #[must_use]
    pub fn counter(&self) -> Option<i64> {
        self.value.as_ref().and_then(Value::counter)
    }

    /// The bytes of its data or text.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.value.as_ref().and_then(Value::bytes)
    }

    fn from_wire(record: v1::RecordInfo) -> Self {
        Self {
            key: record.key,
            value: record.value.and_then(Value::from_wire),
            value_omitted: record.value_omitted,
            value_bytes: record.value_bytes,
            content_type: present_text(record.content_type),
            version: record.version,
            created_at_version: record.created_at_version,
            written_by: present_text(record.written_by),
            remaining: record.remaining_ms.map(duration_ms),
            bound_token: present_token(record.bound_token),
        }
    }
}

// === impl Value ===

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Data(_) | Self::Counter(_) => None,
        }
    }

    /// The data, if it is some.
    #[must_use]
    pub const fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Data(data) => Some(data),
            Self::Text(_) | Self::Counter(_) => None,
        }
    }

    /// The number, if it is a counter.
    #[must_use]
    pub const fn counter(&self) -> Option<i64> {
        match self {
            Self::Counter(number) => Some(*number),
            Self::Data(_) | Self::Text(_) => None,
        }
    }

    /// The bytes of data or text.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Data(data) => Some(data),
            Self::Text(text) => Some(text.as_bytes()),
            Self::Counter(_) => None,
        }
    }

    pub(crate) fn into_wire(self) -> v1::RecordValue {
        let kind = match self {
            Self::Data(data) => Kind::Data(data),
            Self::Text(text) => Kind::Text(text),
            Self::Counter(number) => Kind::Counter(number),
        };
        v1::RecordValue { kind: Some(kind) }
    }

    /// `None`: a kind that this version doesn't know.
    pub(crate) fn from_wire(value: v1::RecordValue) -> Option<Self> {
        Some(match value.kind? {
            Kind::Data(data) => Self::Data(data),
            Kind::Text(text) => Self::Text(text),
            Kind::Counter(number) => Self::Counter(number),
        })
    }

    fn size(&self) -> u64 {
        self.bytes().map_or(0, |bytes| bytes.len() as u64)
    }
}

impl From<Bytes> for Value {
    fn from(data: Bytes) -> Self {
        Self::Data(data)
    }
}

impl From<Vec<u8>> for Value {
    fn from(data: Vec<u8>) -> Self {
        Self::Data(data.into())
    }
}

impl From<&[u8]> for Value {
    fn from(data: &[u8]) -> Self {
        Self::Data(Bytes::copy_from_slice(data))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(data: &[u8; N]) -> Self {
        Self::from(data.as_slice())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Counter(number)
    }
}
