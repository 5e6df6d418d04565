//! The ends of records: deleted, run out, or gone with the lease they were bound to.

use alloc::sync::Arc;

use super::{expect, protect};
use crate::{
    change::{Change, Effect, RecordDeleted, RecordLife, RecordWritten},
    command::{Expectation, Request},
    decision::Draft,
    fence::Fences,
    limits,
    overlay::View,
    record,
    refusal::Refusal,
    reply::Reply,
    state::State,
    types::{Ms, RecordKey},
};

/// Decides a delete.
pub(crate) fn delete(
    view: View<'_>,
    request: &Request,
    key: &RecordKey,
    expect: Option<Expectation>,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    let told = record::decide_once(view, request, draft, |fences, draft| {
        delete_within(view, key, expect, fences, draft)
    });
    match told {
        Err(Refusal::AlreadyDone) => Ok(Reply::RecordDeleted { version: None, replayed: false }),
        told => told,
    }
}

/// Decides a delete within a transaction, where one of what is absent is no effect.
pub(crate) fn delete_within(
    view: View<'_>,
    key: &RecordKey,
    expect: Option<Expectation>,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    protect::check(view, key, fences)?;
    expect::check(view, key, expect)?;
    let written = view.record(key).ok_or(Refusal::AlreadyDone)?;
    end(written, draft);
    let version = written.version;
    let reply = Reply::RecordDeleted { version: Some(version), replayed: false };
    Ok((reply, Effect::RecordDeleted { version }))
}

/// Ends a record whose time has come.
pub(crate) fn expire(state: &State, now: Ms, slot: u32, draft: &mut Draft) {
    let written = &state.record(slot).written;
    let is_due = match written.life {
        Some(RecordLife::Until { at, .. }) => state.volatile(at) <= now,
        Some(RecordLife::Bound(_)) | None => false,
    };
    assert!(is_due, "a record is armed for when it runs out");
    end(written, draft);
}

/// Decides a slice of the ends of what was bound to leases that are no more; `None`: there is
/// nothing.
pub(crate) fn sweep(state: &State, most: usize) -> Option<Draft> {
    let token = state.orphaned.first()?;
    let bound = state.bound.get(token).expect("orphans were bound");
    let mut draft = Draft::new(state.revision);
    for slot in bound.values().take(most) {
        if draft.weight() > limits::SLICE_BYTES_MAX {
            break;
        }
        end(&state.record(*slot).written, &mut draft);
    }
    Some(draft)
}

fn end(written: &Arc<RecordWritten>, draft: &mut Draft) {
    let revision = draft.take_revision();
    draft.change(Change::RecordDeleted(Arc::new(RecordDeleted {
        namespace: written.namespace.clone(),
        key: written.key.clone(),
        revision,
        version: written.version,
        replaced: written.stored(),
    })));
}
