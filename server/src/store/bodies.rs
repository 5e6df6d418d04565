//! Values that are kept by themselves. (For now none can be read: the store's part follows.)

use bytes::Bytes;
use singletrack_core::types::Revision;

use super::StoreError;

/// Bodies that are durable.
#[derive(Debug, Default)]
pub struct Bodies {}

impl Bodies {
    /// One that is young.
    #[must_use]
    pub fn young(&self, _: Revision) -> Option<Bytes> {
        None
    }

    /// One that is young, or in the state.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn fetch(&self, _: Revision) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}
