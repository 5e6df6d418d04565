//! Bodies: values the machine carries without reading them.
//!
//! A small one is kept inline. A larger one is carried by its change into the log, and from then
//! on only named: it lives in the store, so that payloads don't fill the memory.

use bytes::Bytes;

use crate::limits::{BODY_INLINE_MAX, VALUE_BYTES_MAX};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// At most [`BODY_INLINE_MAX`] bytes, kept here.
    Inline(Bytes),
    /// More, on their way to the store.
    Carried {
        /// The bytes.
        bytes: Bytes,
        /// What they hash to.
        digest: Digest,
    },
    /// More, in the store, under the revision of the change that carried them.
    Stored {
        /// How many bytes.
        len: u32,
        /// What they hash to.
        digest: Digest,
    },
}

/// First 128 bits of the SHA-256 of a body; computed at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 16]);

impl Body {
    /// A body of these bytes, copied: shared ones would keep alive what they are a part of. Of a
    /// larger one `digest` is asked.
    pub fn new(bytes: &[u8], digest: impl FnOnce(&[u8]) -> Digest) -> Self {
        let copy = Bytes::copy_from_slice(bytes);
        if bytes.len() <= BODY_INLINE_MAX {
            return Self::Inline(copy);
        }
        Self::Carried { bytes: copy, digest: digest(bytes) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) | Self::Carried { bytes, .. } => bytes.len(),
            Self::Stored { len, .. } => *len as usize,
        }
    }

    /// True when there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are here.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Inline(bytes) | Self::Carried { bytes, .. } => Some(bytes),
            Self::Stored { .. } => None,
        }
    }

    /// The bytes that are on their way to the store.
    #[must_use]
    pub const fn carried(&self) -> Option<&Bytes> {
        match self {
            Self::Carried { bytes, .. } => Some(bytes),
            Self::Inline(_) | Self::Stored { .. } => None,
        }
    }

    /// It is in the store, or on its way there.
    #[must_use]
    pub const fn is_large(&self) -> bool {
        match self {
            Self::Inline(_) => false,
            Self::Carried { .. } | Self::Stored { .. } => true,
        }
    }

    /// As the machine keeps it: a large one is only named.
    #[must_use]
    pub fn to_kept(&self) -> Self {
        match self {
            Self::Inline(bytes) => Self::Inline(bytes.clone()),
            Self::Carried { bytes, digest } => {
                let len = u32::try_from(bytes.len()).expect("the edge bounds values");
                Self::Stored { len, digest: *digest }
            }
            Self::Stored { len, digest } => Self::Stored { len: *len, digest: *digest },
        }
    }
}

const _: () = assert!(VALUE_BYTES_MAX <= u32::MAX as usize, "a length is kept in 32 bits");
