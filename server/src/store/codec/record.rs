//! Changes of records and protections, and what is remembered of them.

use std::sync::Arc;

use bytes::Bytes;
use singletrack_core::{
    body::{self, Body},
    change::{Change, Protection, RecordDeleted, RecordLife, RecordPut, RecordWritten},
    limits::BODY_INLINE_MAX,
    types::{
        ContentType, DurableMs, Holder, Namespace, RecordKey, RecordTtl, ResourceName, Revision,
        Token, Value, parse_version, value_flaw,
    },
};

use super::{Flawed, hash, required};
use crate::store::wire::{self, record_written as parts};

pub(super) fn written_out(written: &RecordWritten) -> wire::RecordWritten {
    let value = match &written.value {
        Value::Data(body) => parts::Value::Data(body_out(body)),
        Value::Text(body) => parts::Value::Text(body_out(body)),
        Value::Counter(number) => parts::Value::Counter(*number),
    };
    let life = written.life.map(|life| match life {
        RecordLife::Until { at, ttl } => {
            parts::Life::Until(wire::RecordUntil { at: at.0, ttl_ms: ttl.ms() })
        }
        RecordLife::Bound(token) => parts::Life::BoundToken(token.0),
    });
    wire::RecordWritten {
        namespace: written.namespace.as_str().to_owned(),
        key: written.key.as_str().to_owned(),
        value: Some(value),
        content_type: written.content_type.as_str().to_owned(),
        version: written.version.0,
        created_at: written.created_at.0,
        written_by: written.written_by.as_ref().map(Holder::to_string).unwrap_or_default(),
        life,
        replaced: written.replaced.map_or(0, |version| version.0),
    }
}

pub(super) fn written_in(written: wire::RecordWritten) -> Result<RecordWritten, Flawed> {
    let version = parse_version(written.version)?;
    let created_at = parse_version(written.created_at)?;
    if created_at > version {
        return Err(Flawed(format!("version {version} of a record created at {created_at}")));
    }
    let replaced = version_in(written.replaced)?;
    if let Some(replaced) = replaced.filter(|replaced| *replaced >= version) {
        return Err(Flawed(format!("version {version} of a record that replaces {replaced}")));
    }
    let by = &written.written_by;
    Ok(RecordWritten {
        namespace: Namespace::parse(&written.namespace)?,
        key: RecordKey::parse(&written.key)?,
        value: value_in(required(written.value, "the value of a record")?)?,
        content_type: ContentType::parse(&written.content_type)?,
        version,
        created_at,
        written_by: if by.is_empty() { None } else { Some(Holder::parse(by)?) },
        life: written.life.map(life_in).transpose()?,
        replaced,
    })
}

fn value_in(value: parts::Value) -> Result<Value, Flawed> {
    Ok(match value {
        parts::Value::Data(body) => Value::Data(body_in(body)?),
        parts::Value::Text(body) => {
            let body = body_in(body)?;
            if std::str::from_utf8(body.bytes().map_or(&[], Bytes::as_ref)).is_err() {
                return Err(Flawed(String::from("a text that is no UTF-8")));
            }
            Value::Text(body)
        }
        parts::Value::Counter(number) => Value::Counter(number),
    })
}

fn life_in(life: parts::Life) -> Result<RecordLife, Flawed> {
    Ok(match life {
        parts::Life::Until(until) => {
            RecordLife::Until { at: DurableMs(until.at), ttl: RecordTtl::parse(until.ttl_ms)? }
        }
        parts::Life::BoundToken(token) => RecordLife::Bound(Token::parse(token)?),
    })
}

fn body_out(body: &Body) -> wire::Body {
    match body {
        Body::Inline(bytes) => wire::Body { bytes: bytes.clone(), ..wire::Body::default() },
        Body::Carried { bytes, digest } => {
            wire::Body { bytes: bytes.clone(), digest: digest.0.to_vec(), stored_bytes: 0 }
        }
        Body::Stored { len, digest } => {
            wire::Body { bytes: Bytes::new(), digest: digest.0.to_vec(), stored_bytes: *len }
        }
    }
}

fn body_in(body: wire::Body) -> Result<Body, Flawed> {
    let wire::Body { bytes, digest, stored_bytes: len } = body;
    let (here, there) = (bytes.len(), usize::try_from(len).unwrap_or(usize::MAX));
    if let Some(flaw) = value_flaw(here.max(there)) {
        return Err(flaw.into());
    }
    if digest.is_empty() && there == 0 && here <= BODY_INLINE_MAX {
        return Ok(Body::Inline(bytes));
    }
    let digest = body::Digest(hash(&digest)?);
    if there == 0 && here > BODY_INLINE_MAX {
        return Ok(Body::Carried { bytes, digest });
    }
    if here == 0 && there > BODY_INLINE_MAX {
        return Ok(Body::Stored { len, digest });
    }
    Err(Flawed(format!("a large body of {here} bytes, and {there} in the store")))
}

/// The body in the store that a change names and doesn't bring.
pub(super) fn stored(change: &Change) -> Option<Revision> {
    let Change::RecordWritten(written) = change else { return None };
    written.stored().filter(|_| change.carried().is_none())
}

fn version_in(version: u64) -> Result<Option<Revision>, Flawed> {
    if version == 0 { Ok(None) } else { Ok(Some(parse_version(version)?)) }
}

pub(super) fn deleted_out(deleted: &RecordDeleted) -> wire::RecordDeleted {
    wire::RecordDeleted {
        namespace: deleted.namespace.as_str().to_owned(),
        key: deleted.key.as_str().to_owned(),
        revision: deleted.revision.0,
        version: deleted.version.0,
        replaced: deleted.replaced.map_or(0, |version| version.0),
    }
}

pub(super) fn deleted_in(deleted: wire::RecordDeleted) -> Result<RecordDeleted, Flawed> {
    let version = parse_version(deleted.version)?;
    let revision = parse_version(deleted.revision)?;
    if version >= revision {
        return Err(Flawed(format!("version {version} of a record deleted at {revision}")));
    }
    let replaced = version_in(deleted.replaced)?;
    if let Some(replaced) = replaced.filter(|replaced| *replaced != version) {
        return Err(Flawed(format!("version {version} of a record with the body of {replaced}")));
    }
    Ok(RecordDeleted {
        namespace: Namespace::parse(&deleted.namespace)?,
        key: RecordKey::parse(&deleted.key)?,
        revision,
        version,
        replaced,
    })
}

pub(super) fn protection_out(protection: &Protection) -> wire::Protection {
    wire::Protection {
        namespace: protection.namespace.as_str().to_owned(),
        prefix: protection.prefix.as_str().to_owned(),
        resource: protection.resource.as_str().to_owned(),
        revision: protection.revision.0,
    }
}

pub(super) fn protection_in(protection: wire::Protection) -> Result<Arc<Protection>, Flawed> {
    Ok(Arc::new(Protection {
        namespace: Namespace::parse(&protection.namespace)?,
        prefix: RecordKey::parse(&protection.prefix)?,
        resource: ResourceName::parse(&protection.resource)?,
        revision: parse_version(protection.revision)?,
    }))
}

pub(super) fn put_out(put: RecordPut) -> wire::RecordPut {
    wire::RecordPut { version: put.version.0, created_at: put.created_at.0 }
}

pub(super) fn put_in(put: wire::RecordPut) -> Result<RecordPut, Flawed> {
    let (version, created_at) = (parse_version(put.version)?, parse_version(put.created_at)?);
    if created_at > version {
        return Err(Flawed(format!("version {version} of a record created at {created_at}")));
    }
    Ok(RecordPut { version, created_at })
}
