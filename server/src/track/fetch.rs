//! Values in the store: put into replies before these leave.
//!
//! A reply says which; the bytes are among the young or in the state. Where they are not, the
//! record was overwritten meanwhile, and the read is decided anew.

use std::sync::Arc;

use bytes::Bytes;
use singletrack_core::{
    reply::{RecordInfo, Reply, Showing},
    types::Revision,
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::CallError;
use crate::store::{StoreError, bodies::Bodies};

/// What a fetch has brought.
type Fetched = Vec<(Revision, Result<Option<Bytes>, StoreError>)>;

/// Times that a read is decided anew before its caller is asked to try again.
pub(super) const ATTEMPTS_MAX: u32 = 8;
/// When such a caller may.
const RETRY_AFTER_MS: u64 = 50;

/// What came of a fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// All values are there.
    Whole,
    /// One is gone: its record was overwritten or deleted.
    Gone,
    /// The server stops.
    Closed,
    /// The store could not be read, which is logged.
    Failed,
}

/// A fetch from the state, on a thread that may block.
pub(super) type Fetching = JoinHandle<Fetched>;

/// Puts those values in that are young; the revisions of the others.
pub(super) fn fill_young(bodies: &Bodies, reply: &mut Reply) -> Vec<Revision> {
    let mut rest = Vec::new();
    // By far the most reads are of one value that is at hand.
    if let Reply::Record(info) = reply
        && !is_wanting(info)
    {
        return rest;
    }
    for info in infos(reply).filter(|info| is_wanting(info)) {
        info.fetched = bodies.young(info.written.version);
        if info.fetched.is_none() {
            rest.push(info.written.version);
        }
    }
    rest
}

/// Begins to fetch values from the state.
pub(super) fn fetch(bodies: &Arc<Bodies>, wanted: Vec<Revision>) -> Fetching {
    let bodies = Arc::clone(bodies);
    spawn_blocking(move || {
        let one = |revision| (revision, bodies.fetch(revision));
        wanted.into_iter().map(one).collect()
    })
}

/// Puts in what a fetch has brought.
pub(super) fn fill(reply: &mut Reply, fetched: Fetched) -> Filled {
    for (revision, outcome) in fetched {
        let bytes = match outcome {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Filled::Gone,
            Err(StoreError::Closed) => return Filled::Closed,
            Err(error) => {
                tracing::error!(%error, revision = revision.0, "a stored value can't be read");
                return Filled::Failed;
            }
        };
        for info in infos(reply).filter(|info| info.written.version == revision) {
            info.fetched = Some(bytes.clone());
        }
    }
    Filled::Whole
}

/// Whoever reads is always too late.
pub(super) fn overtaken() -> CallError {
    CallError::Overloaded {
        limit: "attempts to read a value that is overwritten all the time",
        maximum: u64::from(ATTEMPTS_MAX),
        retry_after_ms: RETRY_AFTER_MS,
    }
}

/// About the bytes that a reply will have on the wire.
pub(super) fn bytes(reply: &mut Reply) -> usize {
    /// Of a record: versions and lengths. Of a lease or a waiter in a list: nearly all of them.
    const RECORD: usize = 64;
    const LEASE: usize = 1_024;
    if let Reply::Page { leases, .. } = reply {
        return LEASE * leases.len();
    }
    if let Reply::Waiters { waiters, .. } = reply {
        return LEASE * waiters.len();
    }
    let one = |info: &RecordInfo| {
        let shown = if info.showing == Showing::Shown { info.written.value.len() } else { 0 };
        RECORD + info.written.key.as_str().len() + shown
    };
    if let Reply::Record(info) = reply {
        return RECORD + one(info);
    }
    RECORD + infos(reply).map(|info| one(info)).sum::<usize>()
}

fn is_wanting(info: &RecordInfo) -> bool {
    let body = info.written.value.body();
    info.showing == Showing::Shown
        && info.fetched.is_none()
        && body.is_some_and(|body| body.bytes().is_none())
}

fn infos(reply: &mut Reply) -> Box<dyn Iterator<Item = &mut RecordInfo> + '_> {
    match reply {
        Reply::Record(info) => Box::new(std::iter::once(&mut **info)),
        Reply::Records { results, .. } => Box::new(results.iter_mut().flatten()),
        Reply::RecordPage { records, .. } => Box::new(records.iter_mut()),
        Reply::Acquired(_)
        | Reply::Abandoned(_)
        | Reply::Renewed(_)
        | Reply::Released { .. }
        | Reply::Found(_)
        | Reply::Page { .. }
        | Reply::Checked(_)
        | Reply::ForceReleased { .. }
        | Reply::Transferred(_)
        | Reply::YieldRequested(_)
        | Reply::YieldAnswered(_)
        | Reply::Waiters { .. }
        | Reply::Stats(_)
        | Reply::SessionOpened { .. }
        | Reply::SessionAttached(_)
        | Reply::SessionKept(_)
        | Reply::SessionClosed { .. }
        | Reply::SessionLeases(_)
        | Reply::Notice(_)
        | Reply::RecordPut { .. }
        | Reply::Incremented { .. }
        | Reply::RecordDeleted { .. }
        | Reply::PrefixProtected { .. }
        | Reply::PrefixUnprotected { .. }
        | Reply::Protections { .. }
        | Reply::Lost(_)
        | Reply::Transacted(_) => Box::new(std::iter::empty()),
    }
}
