//! Opens the store and starts the track, as configured.
//!
//! The one place where edge, track and store meet.

use std::{io, sync::Arc};

use crate::{
    config::Config, server::Running, store::StoreError, telemetry::Metrics, track::Handle,
};

/// Opens the store and starts the track.
///
/// # Errors
/// When the store can't be opened.
pub fn start_track(config: &Config, metrics: &Arc<Metrics>) -> Result<Running<Handle>, StoreError> {
    let _ = (config, metrics);
    Err(StoreError::Io {
        what: "this build has no store yet".into(),
        source: io::Error::from(io::ErrorKind::Unsupported),
    })
}
