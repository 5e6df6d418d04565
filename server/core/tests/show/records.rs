//! How scripts show records, protections and what is said about them.

use singletrack_core::{
    body::Body,
    change::{Change, Effect, RecordLife, RecordPut, RecordWritten},
    refusal::Refusal,
    reply::{RecordInfo, Reply, Showing},
    types::Value,
};

use super::{again, list, nonzero, optional};

pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Record(record) => format!("record {}", info(record)),
        Reply::Records { results, revision } => {
            let each = list(results, |it| it.as_ref().map_or_else(|| "none".into(), info));
            format!("records [{each}] revision={revision}")
        }
        Reply::RecordPage { records, next, revision } => {
            let next = next.as_ref().map(|it| it.as_str());
            format!("page [{}] revision={revision} next={next:?}", list(records, info))
        }
        Reply::RecordPut { put, replayed } => format!("put {}{}", self::put(put), again(*replayed)),
        Reply::Incremented { value, put, replayed } => {
            format!("incremented to {value} {}{}", self::put(put), again(*replayed))
        }
        Reply::RecordDeleted { version: Some(version), replayed } => {
            format!("deleted version={version}{}", again(*replayed))
        }
        Reply::RecordDeleted { version: None, replayed } => {
            format!("deleted nothing{}", again(*replayed))
        }
        Reply::PrefixProtected { revision, existed, replayed } => {
            let existed = if *existed { " existed" } else { "" };
            format!("protected revision={revision}{existed}{}", again(*replayed))
        }
        Reply::PrefixUnprotected { existed, replayed } => {
            let existed = if *existed { "" } else { " nothing" };
            format!("unprotected{existed}{}", again(*replayed))
        }
        Reply::Protections { protections, more } => {
            let each = list(protections, |it| {
                format!("{} by {} revision={}", it.prefix.as_str(), it.resource, it.revision)
            });
            format!("protections [{each}]{}", if *more { " and more" } else { "" })
        }
        other => unreachable!("of another noun: {other:?}"),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::VersionMismatch(it) => {
            let current = it.current.as_deref().map_or_else(|| "none".into(), written);
            format!("VERSION_MISMATCH {} current={current}", it.key.as_str())
        }
        Refusal::FenceRequired(it) => format!(
            "FENCE_REQUIRED prefix={} resource={} current={:?}",
            it.prefix.as_str(),
            it.resource,
            it.current
        ),
        Refusal::NotACounter { key } => format!("NOT_A_COUNTER {}", key.as_str()),
        Refusal::OutOfBounds(it) => format!(
            "OUT_OF_BOUNDS {} value={}{}{}",
            it.key.as_str(),
            it.value,
            optional("min", it.min),
            optional("max", it.max)
        ),
        Refusal::TooLarge { bytes, maximum } => format!("TOO_LARGE {bytes} maximum={maximum}"),
        other => unreachable!("of another noun: {other:?}"),
    }
}

pub(super) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::RecordPut(it) => format!("put {}", put(it)),
        Effect::Incremented { value, put } => format!("incremented to {value} {}", self::put(put)),
        Effect::RecordDeleted { version } => format!("deleted version={version}"),
        Effect::PrefixProtected { revision } => format!("protected revision={revision}"),
        Effect::PrefixUnprotected => "unprotected".into(),
        other => unreachable!("of another noun: {other:?}"),
    }
}

pub(super) fn change(change: &Change) -> String {
    match change {
        Change::RecordWritten(it) => format!(
            "record-written {}/{}{}",
            it.namespace,
            written(it),
            optional("replaced", it.replaced)
        ),
        Change::RecordDeleted(it) => format!(
            "record-deleted {}/{} revision={} version={}{}",
            it.namespace,
            it.key.as_str(),
            it.revision,
            it.version,
            optional("replaced", it.replaced)
        ),
        Change::PrefixProtected(it) => format!(
            "prefix-protected {}/{} by {} revision={}",
            it.namespace,
            it.prefix.as_str(),
            it.resource,
            it.revision
        ),
        Change::PrefixUnprotected(it) => format!(
            "prefix-unprotected {}/{} by {} revision={}",
            it.namespace,
            it.prefix.as_str(),
            it.resource,
            it.revision
        ),
        other => unreachable!("of another noun: {other:?}"),
    }
}

fn put(put: &RecordPut) -> String {
    format!("version={} created={}", put.version, put.created_at)
}

fn info(info: &RecordInfo) -> String {
    let showing = match info.showing {
        Showing::Shown => "",
        Showing::Unasked => " (value not asked for)",
        Showing::Omitted => " (value omitted)",
    };
    assert!(info.fetched.is_none(), "the machine has no store");
    format!("{}{}{showing}", written(&info.written), optional("remaining", info.remaining_ms))
}

fn written(it: &RecordWritten) -> String {
    let life = match it.life {
        Some(RecordLife::Until { at, ttl }) => format!(" until={at} ttl={}", ttl.ms()),
        Some(RecordLife::Bound(token)) => format!(" bound={token}"),
        None => String::new(),
    };
    let kind = Some(it.content_type.as_str()).filter(|it| !it.is_empty());
    format!(
        "{}={} version={}{}{}{}{life}",
        it.key.as_str(),
        value(&it.value),
        it.version,
        nonzero("created", if it.created_at == it.version { 0 } else { it.created_at.0 }),
        optional("type", kind),
        optional("by", it.written_by.as_ref())
    )
}

fn value(value: &Value) -> String {
    match value {
        Value::Data(body) => format!("data {}", self::body(body)),
        Value::Text(body) => self::body(body),
        Value::Counter(number) => number.to_string(),
    }
}

/// Short ones whole.
fn body(body: &Body) -> String {
    match body {
        Body::Inline(bytes) if bytes.len() <= 40 => format!("{:?}", String::from_utf8_lossy(bytes)),
        Body::Inline(bytes) => format!("{} bytes", bytes.len()),
        Body::Carried { bytes, .. } => format!("{} bytes carried", bytes.len()),
        Body::Stored { len, .. } => format!("{len} bytes stored"),
    }
}
