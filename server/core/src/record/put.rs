//! Writing records.

use alloc::sync::Arc;

use super::{expect, protect};
use crate::{
    change::{Change, Effect, RecordLife, RecordPut, RecordWritten},
    command::{PutRecord, RecordLifetime, Request},
    decision::{Draft, check_cap},
    fence::Fences,
    lease,
    overlay::View,
    record,
    refusal::{Cap, Refusal},
    reply::Reply,
    types::{ContentType, Holder, RecordKey, Value},
};

/// Decides a put.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    put: &PutRecord,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    record::decide_once(view, request, draft, |fences, draft| {
        decide_within(view, request, put, fences, draft)
    })
}

/// Decides a put within a transaction.
pub(crate) fn decide_within(
    view: View<'_>,
    request: &Request,
    put: &PutRecord,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    protect::check(view, &put.key, fences)?;
    expect::check(view, &put.key, put.expect)?;
    let before = view.record(&put.key);
    let life = life(view, put.lifetime, before.and_then(|before| before.life))?;
    let new = NewRecord {
        key: &put.key,
        value: put.value.clone(),
        content_type: put.content_type.clone(),
        written_by: writer(view, request, put.written_by.as_ref()),
        life,
    };
    let put = write(view, new, draft)?;
    Ok((Reply::RecordPut { put, replayed: false }, Effect::RecordPut(put)))
}

/// What a record is to be.
pub(super) struct NewRecord<'a> {
    pub(super) key: &'a RecordKey,
    pub(super) value: Value,
    pub(super) content_type: ContentType,
    pub(super) written_by: Option<Holder>,
    pub(super) life: Option<RecordLife>,
}

/// Writes a record, if there is room for it.
pub(super) fn write(
    view: View<'_>,
    new: NewRecord<'_>,
    draft: &mut Draft,
) -> Result<RecordPut, Refusal> {
    // What is gone to every check may still have its row.
    let row = view.record_row(new.key);
    let live = row.filter(|row| view.is_there(row));
    let version = draft.take_revision();
    let created_at = live.map_or(version, |live| live.created_at);
    let written = RecordWritten {
        // The names that are in use, as rows share them.
        namespace: view.own_namespace(),
        key: row.map_or(new.key, |row| &row.key).clone(),
        value: new.value,
        content_type: new.content_type,
        version,
        created_at,
        written_by: new.written_by,
        life: new.life,
        replaced: row.and_then(|row| row.stored()),
    };
    let quotas = &view.state.quotas;
    if row.is_none() {
        check_cap(Cap::Records, view.record_count(), 1, quotas.records)?;
        view.check_namespaces()?;
    }
    let added = written.bytes().saturating_sub(row.map_or(0, |row| row.bytes()));
    if added > 0 {
        check_cap(Cap::Bytes, view.byte_count(), added, quotas.bytes)?;
    }
    draft.change(Change::RecordWritten(Arc::new(written)));
    Ok(RecordPut { version, created_at })
}

/// How long a record is to last.
pub(super) fn life(
    view: View<'_>,
    asked: RecordLifetime,
    before: Option<RecordLife>,
) -> Result<Option<RecordLife>, Refusal> {
    match asked {
        RecordLifetime::Forever => Ok(None),
        RecordLifetime::Kept => Ok(before),
        RecordLifetime::Ttl(ttl) => {
            let at = view.state.durable_now(view.now).plus(ttl.ms());
            Ok(Some(RecordLife::Until { at, ttl }))
        }
        RecordLifetime::Bound(lease) => {
            let known = lease::end::find_own(view, lease)?;
            Ok(Some(RecordLife::Bound(known.granted.token)))
        }
    }
}

/// Who writes: whoever the call names, or the session's holder.
pub(super) fn writer(view: View<'_>, request: &Request, named: Option<&Holder>) -> Option<Holder> {
    if named.is_some() {
        return named.cloned();
    }
    let session = view.session(request.origin?.session)?;
    Some(view.state.session(session).opened.holder.clone())
}
