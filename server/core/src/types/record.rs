//! What records are written with: keys, content types, times to live, values.

use alloc::{format, string::String, sync::Arc};

use smol_str::SmolStr;

use super::{Flaw, below, check_path, flaw, is_within};
use crate::{body::Body, limits};

/// The key of a record: a `/`-path of 1..=512 bytes and at most 32 segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub(super) Arc<str>);

/// A media type, as its writer says: at most [`limits::CONTENT_TYPE_CHARS_MAX`] printable ASCII
/// characters; empty: not said.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ContentType(pub(super) SmolStr);

/// How long a record lasts, 1 s to 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordTtl(u64);

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes.
    Data(Body),
    /// UTF-8.
    Text(Body),
    /// A number.
    Counter(i64),
}

// === impl RecordKey ===

impl RecordKey {
    /// Parses a key.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        check_path(text, "a key", limits::RESOURCE_BYTES_MAX)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It and the keys above it, up to the first segment.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = &str> {
        let mut path = Some(self.as_str());
        core::iter::from_fn(move || {
            let here = path?;
            path = here.rsplit_once('/').map(|(above, _)| above);
            Some(here)
        })
    }

    /// Between which two the keys below it sort: from the first on, below the second.
    pub(crate) fn below(&self) -> (Self, Self) {
        let (from, to) = below(self.as_str());
        (Self(from), Self(to))
    }

    /// This key is `other`, or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        is_within(self.as_str(), other.as_str())
    }
}

impl core::borrow::Borrow<str> for RecordKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl ContentType ===

impl ContentType {
    /// Parses a content type.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let maximum = limits::CONTENT_TYPE_CHARS_MAX;
        let is_printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
        if let Some(c) = text.chars().find(|c| !is_printable(c)) {
            return Err(flaw(format!("a content type has printable ASCII alone, found {c:?}")));
        }
        if text.len() > maximum {
            let found = text.len();
            let description = format!(
                "a content type may have at most {maximum} characters, this one has {found}"
            );
            return Err(Flaw { description, too_large: true });
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl RecordTtl ===

impl RecordTtl {
    /// So many milliseconds.
    ///
    /// # Errors
    /// When that is too short or too long.
    pub fn parse(ms: u64) -> Result<Self, Flaw> {
        let (least, most) = (limits::RECORD_TTL_MS_MIN, limits::RECORD_TTL_MS_MAX);
        if (least..=most).contains(&ms) {
            Ok(Self(ms))
        } else {
            Err(flaw(format!("{least}..{most} ms are expected, found {ms}")))
        }
    }

    /// Milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }
}

// === impl Value ===

impl Value {
    /// Bytes of data and text; 0 for a counter.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body().map_or(0, Body::len)
    }

    /// Without bytes: also a counter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, unless it is a counter.
    #[must_use]
    pub const fn body(&self) -> Option<&Body> {
        match self {
            Self::Data(body) | Self::Text(body) => Some(body),
            Self::Counter(_) => None,
        }
    }

    /// As the machine keeps it: a large body is only named.
    #[must_use]
    pub fn to_kept(&self) -> Self {
        match self {
            Self::Data(body) => Self::Data(body.to_kept()),
            Self::Text(body) => Self::Text(body.to_kept()),
            Self::Counter(number) => Self::Counter(*number),
        }
    }
}

/// What is not legal about a value of so many bytes; `None`: nothing.
#[must_use]
pub fn value_flaw(bytes: usize) -> Option<Flaw> {
    let maximum = limits::VALUE_BYTES_MAX;
    (bytes > maximum).then(|| Flaw {
        description: format!("a value may have at most {maximum} bytes, this one has {bytes}"),
        too_large: true,
    })
}

/// The version of a record, or of a transaction, from the wire or the disk.
///
/// # Errors
/// When it is 0 or not below 2^53.
pub fn parse_version(version: u64) -> Result<super::Revision, Flaw> {
    match version {
        0 => Err(flaw(String::from("a version is required, and never 0"))),
        1..limits::REVISION_END => Ok(super::Revision(version)),
        _ => Err(flaw(format!("a version is below 2^53, found {version}"))),
    }
}
