//! What the refusals of writes say: the facts of `VERSION_MISMATCH`, `FENCE_REQUIRED` and
//! `OUT_OF_BOUNDS`, as plain values.

use singletrack_proto::v1;

use super::{Record, Value};
use crate::facts::{present_text, present_token};

/// What the record is instead of what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionMismatch {
    /// The record.
    pub key: String,
    /// Its version; `None`: there is no such record.
    pub current_version: Option<u64>,
    /// What it holds, when that is a counter or has at most 1,024 bytes.
    pub value: Option<Value>,
    /// True when it holds more than that.
    pub value_omitted: bool,
    /// Who wrote it; `None`: did not say.
    pub written_by: Option<String>,
    /// Its content type; empty: not said. `None`: the server didn't tell.
    pub content_type: Option<String>,
}

/// What protects the record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FenceRequired {
    /// The prefix that is protected.
    pub prefix: String,
    /// The resource that must be held, exclusively.
    pub resource: String,
    /// Its newest current token; `None`: nobody holds it.
    pub current_token: Option<u64>,
    /// Who has that token.
    pub holder: Option<String>,
}

/// The bounds, one of which would be crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfBounds {
    /// The counter.
    pub key: String,
    /// What it is.
    pub value: i64,
    /// The least that it may become; `None`: any.
    pub min: Option<i64>,
    /// The most that it may become; `None`: any.
    pub max: Option<i64>,
}

// === impl VersionMismatch ===

impl VersionMismatch {
    pub(crate) fn from_wire(mismatch: v1::VersionMismatchDetail) -> Self {
        Self {
            key: mismatch.key,
            current_version: present_token(mismatch.current_version),
            value: mismatch.value.and_then(Value::from_wire),
            value_omitted: mismatch.value_omitted,
            written_by: present_text(mismatch.written_by),
            content_type: mismatch.content_type,
        }
    }

    /// The record as far as it was told, `None` inside: there is none. `None`: too little was told
    /// to write it again.
    pub(super) fn told(&self, content_type_known: bool) -> Option<Option<Record>> {
        let Some(version) = self.current_version else { return Some(None) };
        if self.content_type.is_none() && !content_type_known {
            return None;
        }
        let value = self.value.clone()?;
        Some(Some(Record {
            key: self.key.clone(),
            value_bytes: value.size(),
            value: Some(value),
            value_omitted: false,
            content_type: self.content_type.clone().and_then(present_text),
            version,
            created_at_version: 0,
            written_by: self.written_by.clone(),
            remaining: None,
            bound_token: None,
        }))
    }
}

// === impl FenceRequired ===

impl FenceRequired {
    pub(crate) fn from_wire(required: v1::FenceRequiredDetail) -> Self {
        Self {
            prefix: required.prefix,
            resource: required.resource,
            current_token: present_token(required.current_token),
            holder: present_text(required.holder),
        }
    }
}

// === impl OutOfBounds ===

impl OutOfBounds {
    pub(crate) fn from_wire(bounds: v1::OutOfBoundsDetail) -> Self {
        Self { key: bounds.key, value: bounds.value, min: bounds.min, max: bounds.max }
    }
}
