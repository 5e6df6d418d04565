//! What a caller expects of a record.

use alloc::{boxed::Box, sync::Arc};

use crate::{
    change::RecordWritten,
    command::Expectation,
    overlay::View,
    refusal::{Refusal, VersionMismatch},
    types::RecordKey,
};

/// The record is as expected.
pub(crate) fn check(
    view: View<'_>,
    key: &RecordKey,
    expect: Option<Expectation>,
) -> Result<(), Refusal> {
    let current = view.record(key);
    let is_met = match expect {
        None => true,
        Some(Expectation::Absent) => current.is_none(),
        Some(Expectation::Exists) => current.is_some(),
        Some(Expectation::Version(version)) => {
            current.is_some_and(|written| written.version == version)
        }
    };
    if is_met { Ok(()) } else { Err(mismatch(key, current)) }
}

fn mismatch(key: &RecordKey, current: Option<&Arc<RecordWritten>>) -> Refusal {
    let (key, current) = (key.clone(), current.cloned());
    Refusal::VersionMismatch(Box::new(VersionMismatch { key, current }))
}
