//! Bodies: values the machine carries without reading them.
//!
//! A small one is kept inline; a larger one is only named here and lives in the store, so
//! that payloads don't fill the memory.

use bytes::Bytes;

use crate::limits::BODY_INLINE_MAX;

/// A value: its length and digest, and the bytes themselves while they are few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    len: u64,
    digest: Digest,
    kept: Kept,
}

/// First 128 bits of the SHA-256 of a body; computed at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

/// Where the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Here: at most [`BODY_INLINE_MAX`] bytes.
    Inline(Bytes),
    /// In the store, under the digest.
    Stored,
}

impl Body {
    /// A body of these bytes: inline up to [`BODY_INLINE_MAX`], else only named.
    ///
    /// A caller that gets a [`Kept::Stored`] body hands the bytes to the store itself.
    #[must_use]
    pub fn new(bytes: Bytes, digest: Digest) -> Self {
        let len = bytes.len() as u64;
        let kept = if bytes.len() <= BODY_INLINE_MAX { Kept::Inline(bytes) } else { Kept::Stored };
        Self { len, digest, kept }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True when there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the bytes hash to.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Where the bytes are.
    #[must_use]
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }
}
