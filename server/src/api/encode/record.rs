//! Records, protections and transactions, on their way out.

use bytes::Bytes;
use singletrack_core::{
    change::{RecordLife, RecordPut, RecordWritten},
    reply::{ProtectionInfo, RecordInfo, Reply, Showing, Transacted},
    types::{RecordKey, Revision, Value},
};
use singletrack_proto::v1::{self, operation_reply::Reply as Out};

use super::operation;
use crate::api::decode;

/// The reply to an operation on records; `None`: it is another's.
pub(super) fn of(reply: &Reply) -> Option<Out> {
    Some(match reply {
        Reply::Record(info) => Out::GetRecord(found(info)),
        Reply::Records { results, revision } => Out::BatchGetRecords(batch(results, *revision)),
        Reply::RecordPage { records, next, revision } => {
            Out::ListRecords(record_page(records, next.as_ref(), *revision))
        }
        Reply::RecordPut { put, replayed } => Out::PutRecord(record_put(*put, *replayed)),
        Reply::Incremented { value, put, replayed } => {
            Out::IncrementRecord(incremented(*value, *put, *replayed))
        }
        Reply::RecordDeleted { version, replayed } => {
            Out::DeleteRecord(record_deleted(*version, *replayed))
        }
        Reply::PrefixProtected { revision, existed, replayed } => {
            Out::ProtectPrefix(v1::ProtectPrefixResponse {
                revision: revision.0,
                existed: *existed,
                replayed: *replayed,
            })
        }
        Reply::PrefixUnprotected { existed, replayed } => {
            Out::UnprotectPrefix(v1::UnprotectPrefixResponse {
                existed: *existed,
                replayed: *replayed,
            })
        }
        Reply::Protections { protections, more } => {
            Out::ListProtections(protection_page(protections, *more))
        }
        Reply::Transacted(it) => Out::Transact(transacted(it)?),
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
        | Reply::Lost(_)
        | Reply::Notice(_) => return None,
    })
}

/// A record that was found.
pub(crate) fn found(info: &RecordInfo) -> v1::GetRecordResponse {
    v1::GetRecordResponse { record: Some(record(info)) }
}

/// Several records.
pub(crate) fn batch(
    results: &[Option<RecordInfo>],
    revision: Revision,
) -> v1::BatchGetRecordsResponse {
    let result =
        |it: &Option<RecordInfo>| v1::BatchGetRecordsResult { record: it.as_ref().map(record) };
    v1::BatchGetRecordsResponse {
        results: results.iter().map(result).collect(),
        revision: revision.0,
    }
}

/// A page of records.
pub(crate) fn record_page(
    records: &[RecordInfo],
    next: Option<&RecordKey>,
    revision: Revision,
) -> v1::ListRecordsResponse {
    let behind = |key: &RecordKey| decode::page_token_behind(&[key.as_str()]);
    v1::ListRecordsResponse {
        records: records.iter().map(record).collect(),
        next_page_token: next.map(behind).unwrap_or_default(),
        revision: revision.0,
    }
}

/// A put.
pub(crate) const fn record_put(put: RecordPut, replayed: bool) -> v1::PutRecordResponse {
    v1::PutRecordResponse { version: put.version.0, created_at_version: put.created_at.0, replayed }
}

/// An increment.
pub(crate) const fn incremented(
    value: i64,
    put: RecordPut,
    replayed: bool,
) -> v1::IncrementRecordResponse {
    v1::IncrementRecordResponse {
        value,
        version: put.version.0,
        created_at_version: put.created_at.0,
        replayed,
    }
}

/// A delete.
pub(crate) fn record_deleted(
    version: Option<Revision>,
    replayed: bool,
) -> v1::DeleteRecordResponse {
    v1::DeleteRecordResponse {
        existed: version.is_some(),
        deleted_version: version.map_or(0, |version| version.0),
        replayed,
    }
}

/// A page of protections.
pub(crate) fn protection_page(
    protections: &[ProtectionInfo],
    more: bool,
) -> v1::ListProtectionsResponse {
    let one = |it: &ProtectionInfo| v1::Protection {
        prefix: it.prefix.to_string(),
        resource: it.resource.to_string(),
        revision: it.revision.0,
    };
    let behind = |it: &ProtectionInfo| {
        decode::page_token_behind(&[it.prefix.as_str(), it.resource.as_str()])
    };
    v1::ListProtectionsResponse {
        protections: protections.iter().map(one).collect(),
        next_page_token: protections.last().filter(|_| more).map(behind).unwrap_or_default(),
    }
}

/// A transaction; `None`: something that is no operation of one has answered.
pub(crate) fn transacted(it: &Transacted) -> Option<v1::TransactResponse> {
    let reply = |reply| Some(v1::OperationReply { seq: 0, reply: Some(operation(reply)?) });
    Some(v1::TransactResponse {
        replies: it.replies.iter().map(reply).collect::<Option<_>>()?,
        commit_revision: it.commit.0,
        replayed: it.replayed,
    })
}

fn record(info: &RecordInfo) -> v1::RecordInfo {
    let written = &info.written;
    let is_shown = info.showing == Showing::Shown;
    v1::RecordInfo {
        key: written.key.to_string(),
        value: is_shown.then(|| value(&written.value, info.fetched.as_ref())).flatten(),
        value_omitted: info.showing == Showing::Omitted,
        value_bytes: written.value.len() as u64,
        content_type: written.content_type.to_string(),
        version: written.version.0,
        created_at_version: written.created_at.0,
        written_by: written_by(written),
        remaining_ms: info.remaining_ms,
        bound_token: match written.life {
            Some(RecordLife::Bound(token)) => token.0,
            Some(RecordLife::Until { .. }) | None => 0,
        },
    }
}

/// Who wrote it; empty: did not say.
pub(crate) fn written_by(written: &RecordWritten) -> String {
    written.written_by.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A value whose bytes are here, or were fetched; `None`: they are not.
pub(crate) fn value(value: &Value, fetched: Option<&Bytes>) -> Option<v1::RecordValue> {
    use v1::record_value::Kind;
    let bytes = || value.body().and_then(|body| body.bytes()).or(fetched).cloned();
    let kind = match value {
        Value::Data(_) => Kind::Data(bytes()?),
        // It was UTF-8 when it came, and its checksum has been looked at since.
        Value::Text(_) => Kind::Text(String::from_utf8(bytes()?.into()).ok()?),
        Value::Counter(number) => Kind::Counter(*number),
    };
    Some(v1::RecordValue { kind: Some(kind) })
}
