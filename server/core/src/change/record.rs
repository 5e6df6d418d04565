//! What is kept of records and of what protects them.

use alloc::sync::Arc;

use bytes::Bytes;

use super::RowKey;
use crate::{
    body::Body,
    types::{
        ContentType, DurableMs, Holder, Namespace, RecordKey, RecordTtl, ResourceName, Revision,
        Token, Value,
    },
};

/// A record, as it is kept. In a change a large value is carried; in a row and in the machine it is
/// only named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWritten {
    /// Where.
    pub namespace: Namespace,
    /// Its name.
    pub key: RecordKey,
    /// What it holds.
    pub value: Value,
    /// As its writer said.
    pub content_type: ContentType,
    /// Its version and the revision of this change.
    pub version: Revision,
    /// The version with which it was created.
    pub created_at: Revision,
    /// Who wrote it, as far as known.
    pub written_by: Option<Holder>,
    /// How long it lasts; `None`: until it is deleted.
    pub life: Option<RecordLife>,
    /// The version of what it replaces, if that has its value in the store.
    pub replaced: Option<Revision>,
}

/// How long a record lasts that does not last for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordLife {
    /// Until a moment.
    Until {
        /// Which.
        at: DurableMs,
        /// How long that was when it was said.
        ttl: RecordTtl,
    },
    /// As long as the lease with this token.
    Bound(Token),
}

/// The end of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDeleted {
    /// Where.
    pub namespace: Namespace,
    /// Its name.
    pub key: RecordKey,
    /// The revision of this change.
    pub revision: Revision,
    /// The version that it had.
    pub version: Revision,
    /// The same, if that has its value in the store.
    pub replaced: Option<Revision>,
}

/// A prefix that is, or was, protected by a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Where.
    pub namespace: Namespace,
    /// The key from which on.
    pub prefix: RecordKey,
    /// What a writer must hold, exclusive.
    pub resource: ResourceName,
    /// The revision of this change.
    pub revision: Revision,
}

/// A record that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPut {
    /// Its version.
    pub version: Revision,
    /// The version with which it was created.
    pub created_at: Revision,
}

// === impl RecordWritten ===

impl RecordWritten {
    /// As the machine and its row keep it: a large value is only named.
    #[must_use]
    pub fn to_kept(self: &Arc<Self>) -> Arc<Self> {
        match self.value.body().and_then(|body| body.carried()) {
            None => Arc::clone(self),
            Some(_) => Arc::new(Self { value: self.value.to_kept(), ..(**self).clone() }),
        }
    }

    /// Its version, if its value is in the store, or on its way there.
    #[must_use]
    pub fn stored(&self) -> Option<Revision> {
        self.value.body().filter(|body| body.is_large()).map(|_| self.version)
    }

    pub(super) fn row_key(&self) -> RowKey {
        RowKey::Record(self.namespace.clone(), self.key.clone())
    }

    pub(super) fn weight(&self) -> usize {
        let value = self.value.body().and_then(Body::bytes).map_or(0, Bytes::len);
        let by = self.written_by.as_ref().map_or(0, |by| by.as_str().len());
        let names = self.namespace.as_str().len() + self.key.as_str().len();
        144 + names + self.content_type.as_str().len() + by + value
    }
}

// === impl Protection ===

impl Protection {
    pub(super) fn row_key(&self) -> RowKey {
        let (prefix, resource) = (self.prefix.clone(), self.resource.clone());
        RowKey::Protection(self.namespace.clone(), prefix, resource)
    }
}
