//! Core types to and from `singletrack.storage.v1`, and the keys of rows: the one file that
//! knows both sides. Decides nothing, reads no file.
//!
//! A decoder trusts nothing: bytes that passed their checksum may still be from a version with
//! a bug. It parses into the same validated types as the edge does, and says [`Flawed`].

mod lease;
mod record;

use std::{ops::Range, sync::Arc};

use prost::Message;
use singletrack_core::{
    change::{
        Change, Effect, RequestOf, RequestRemembered, RowKey, SessionEnded, SessionOpened, Trace,
        Transaction,
    },
    limits::{REVISION_END, SEQ_MAX},
    refusal::SessionEnd,
    types::{
        CommandHash, DurableMs, Flaw, Holder, LeaseId, Namespace, RequestHash, RequestMark,
        Revision, SessionId, SessionNumber, Token, Ttl, parse_version,
    },
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Entry, wire};

/// Bytes that can't be what was written; says what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Flawed(pub(super) String);

impl From<Flaw> for Flawed {
    fn from(flaw: Flaw) -> Self {
        Self(flaw.description)
    }
}

impl From<prost::DecodeError> for Flawed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// The state's statement about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    /// The state holds everything up to and including this revision.
    pub(super) through: Revision,
    /// The log is known to reach at least this revision.
    pub(super) reached: Revision,
}

/// What a reader of all rows must find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// How many.
    pub(super) rows: u64,
    /// Wrapping sum of their checksums.
    pub(super) sum: u64,
}

// === entries ===

/// Encodes one entry that follows `after`, the commit revision of the one before it.
pub(super) fn encode_entry(after: Revision, entry: &Entry, out: &mut Vec<u8>) {
    let transactions = entry.transactions.iter().map(transaction_out).collect();
    // Encoding into a Vec can only fail for lack of memory, which aborts.
    wire::Entry { after: after.0, transactions }.encode(out).expect("a Vec grows");
}

/// Decodes one entry, and the commit revision of the entry before it.
///
/// # Errors
/// When the bytes can't be an entry.
pub(super) fn decode_entry(bytes: &[u8]) -> Result<(Revision, Entry), Flawed> {
    let entry = wire::Entry::decode(bytes)?;
    let mut before = entry.after;
    let mut transactions = Vec::with_capacity(entry.transactions.len());
    for transaction in entry.transactions {
        if transaction.commit <= before || transaction.commit >= REVISION_END {
            return Err(Flawed(format!("revision {} after {before}", transaction.commit)));
        }
        before = transaction.commit;
        transactions.push(transaction_in(transaction)?);
    }
    if transactions.is_empty() {
        return Err(Flawed(String::from("an entry without transactions")));
    }
    Ok((Revision(entry.after), Entry { transactions }))
}

fn transaction_out(transaction: &Transaction) -> wire::Transaction {
    wire::Transaction {
        commit: transaction.commit.0,
        changes: transaction.changes.iter().map(change_out).collect(),
    }
}

fn transaction_in(transaction: wire::Transaction) -> Result<Transaction, Flawed> {
    let changes: Vec<_> =
        transaction.changes.into_iter().map(change_in).collect::<Result<_, _>>()?;
    if changes.is_empty() {
        return Err(Flawed(String::from("a transaction without changes")));
    }
    if let Some(version) = changes.iter().find_map(record::stored) {
        return Err(Flawed(format!("version {version} of a record, logged without its value")));
    }
    Ok(Transaction { commit: Revision(transaction.commit), changes })
}

// === changes ===

fn change_out(change: &Change) -> wire::Change {
    use wire::change::Change as Out;
    let change = match change {
        Change::Started { revision } => Out::Started(wire::Started { revision: revision.0 }),
        Change::RequestRemembered(remembered) => Out::RequestRemembered(wire::RequestRemembered {
            mark: Some(mark_out(&remembered.mark)),
            revision: remembered.revision.0,
            effect: Some(effect_out(&remembered.effect)),
            session: number_out(remembered.of.map(|(session, _)| session)),
            seq: remembered.of.map_or(0, |(_, seq)| seq),
        }),
        Change::RequestAbandoned { id, revision } => {
            Out::RequestAbandoned(wire::RequestAbandoned {
                id: id.0.to_vec(),
                revision: revision.0,
            })
        }
        Change::SessionOpened(opened) => Out::SessionOpened(opened_out(opened)),
        Change::SessionEnded(ended) => Out::SessionEnded(session_ended_out(ended)),
        Change::SessionSwept { namespace, number, revision } => {
            Out::SessionSwept(wire::SessionSwept {
                namespace: namespace.as_str().to_owned(),
                number: number.revision().0,
                revision: revision.0,
            })
        }
        Change::SessionFloored { number, below, revision } => {
            Out::SessionFloored(wire::SessionFloored {
                number: number.revision().0,
                below: *below,
                revision: revision.0,
            })
        }
        Change::TimePassed { at, revision } => {
            Out::TimePassed(wire::TimePassed { at: at.0, revision: revision.0 })
        }
        Change::LeaseGranted(granted) => Out::LeaseGranted(lease::granted_out(granted)),
        Change::LeaseEnded(ended) => Out::LeaseEnded(lease::ended_out(ended)),
        Change::LeaseClosed(closed) => Out::LeaseClosed(lease::closed_out(closed)),
        Change::LeaseReopened { namespace, token, revision } => {
            Out::LeaseReopened(wire::LeaseReopened {
                namespace: namespace.as_str().to_owned(),
                token: token.0,
                revision: revision.0,
            })
        }
        Change::RecordWritten(written) => Out::RecordWritten(record::written_out(written)),
        Change::RecordDeleted(deleted) => Out::RecordDeleted(record::deleted_out(deleted)),
        Change::PrefixProtected(protection) => {
            Out::PrefixProtected(record::protection_out(protection))
        }
        Change::PrefixUnprotected(protection) => {
            Out::PrefixUnprotected(record::protection_out(protection))
        }
    };
    wire::Change { change: Some(change) }
}

fn change_in(change: wire::Change) -> Result<Change, Flawed> {
    use wire::change::Change as In;
    Ok(match required(change.change, "a change of a kind that this version knows")? {
        In::Started(started) => Change::Started { revision: Revision(started.revision) },
        In::RequestRemembered(remembered) => {
            Change::RequestRemembered(Arc::new(RequestRemembered {
                mark: mark_in(required(remembered.mark, "the mark of a request")?)?,
                of: of_in(remembered.session, remembered.seq)?,
                revision: Revision(remembered.revision),
                effect: effect_in(required(remembered.effect, "an effect")?)?,
            }))
        }
        In::RequestAbandoned(abandoned) => Change::RequestAbandoned {
            id: RequestHash(hash(&abandoned.id)?),
            revision: Revision(abandoned.revision),
        },
        In::SessionOpened(opened) => Change::SessionOpened(Arc::new(opened_in(opened)?)),
        In::SessionEnded(ended) => Change::SessionEnded(Arc::new(session_ended_in(ended)?)),
        In::SessionSwept(swept) => Change::SessionSwept {
            namespace: Namespace::parse(&swept.namespace)?,
            number: SessionNumber::parse(swept.number)?,
            revision: Revision(swept.revision),
        },
        In::SessionFloored(floored) => Change::SessionFloored {
            number: SessionNumber::parse(floored.number)?,
            below: floored.below,
            revision: Revision(floored.revision),
        },
        In::TimePassed(passed) => {
            Change::TimePassed { at: DurableMs(passed.at), revision: Revision(passed.revision) }
        }
        In::LeaseGranted(granted) => Change::LeaseGranted(Arc::new(lease::granted_in(granted)?)),
        In::LeaseEnded(ended) => Change::LeaseEnded(Arc::new(lease::ended_in(ended)?)),
        In::LeaseClosed(closed) => Change::LeaseClosed(Arc::new(lease::closed_in(closed)?)),
        In::LeaseReopened(reopened) => Change::LeaseReopened {
            namespace: Namespace::parse(&reopened.namespace)?,
            token: Token::parse(reopened.token)?,
            revision: Revision(reopened.revision),
        },
        In::RecordWritten(written) => Change::RecordWritten(Arc::new(record::written_in(written)?)),
        In::RecordDeleted(deleted) => Change::RecordDeleted(Arc::new(record::deleted_in(deleted)?)),
        In::PrefixProtected(protection) => {
            Change::PrefixProtected(record::protection_in(protection)?)
        }
        In::PrefixUnprotected(protection) => {
            Change::PrefixUnprotected(record::protection_in(protection)?)
        }
    })
}

fn opened_out(opened: &SessionOpened) -> wire::SessionOpened {
    wire::SessionOpened {
        namespace: opened.namespace.as_str().to_owned(),
        session_id: opened.session_id.0.to_vec(),
        number: opened.number.revision().0,
        holder: opened.holder.as_str().to_owned(),
        ttl_ms: u32::try_from(opened.ttl.ms()).expect("a ttl is kept in 32 bits"),
        requests: opened.requests.0.to_vec(),
    }
}

fn opened_in(opened: wire::SessionOpened) -> Result<SessionOpened, Flawed> {
    Ok(SessionOpened {
        namespace: Namespace::parse(&opened.namespace)?,
        session_id: SessionId(hash(&opened.session_id)?),
        number: SessionNumber::parse(opened.number)?,
        holder: Holder::parse(&opened.holder)?,
        ttl: Ttl::parse(u64::from(opened.ttl_ms))?,
        requests: RequestHash(hash(&opened.requests)?),
    })
}

fn session_ended_out(ended: &SessionEnded) -> wire::SessionEnded {
    let end = match ended.end {
        SessionEnd::Closed => wire::SessionEndKind::Closed,
        SessionEnd::Expired => wire::SessionEndKind::Expired,
    };
    wire::SessionEnded {
        opened: Some(opened_out(&ended.opened)),
        revision: ended.revision.0,
        end: end.into(),
    }
}

fn session_ended_in(ended: wire::SessionEnded) -> Result<SessionEnded, Flawed> {
    let end = match wire::SessionEndKind::try_from(ended.end) {
        Ok(wire::SessionEndKind::Closed) => SessionEnd::Closed,
        Ok(wire::SessionEndKind::Expired) => SessionEnd::Expired,
        Ok(wire::SessionEndKind::Unspecified) | Err(_) => {
            return Err(Flawed(format!("an end of a session of kind {}", ended.end)));
        }
    };
    let opened = Arc::new(opened_in(required(ended.opened, "what a session was")?)?);
    Ok(SessionEnded { opened, revision: Revision(ended.revision), end })
}

fn by_in(by: wire::RequestOf) -> Result<RequestOf, Flawed> {
    let mark = mark_in(required(by.mark, "the mark of an operation")?)?;
    match of_in(by.session, by.seq)? {
        Some((session, seq)) => Ok(RequestOf { session, seq, mark }),
        None => Err(Flawed(String::from("an operation of no session"))),
    }
}

fn number_out(number: Option<SessionNumber>) -> u64 {
    number.map_or(0, |number| number.revision().0)
}

fn number_in(number: u64) -> Result<Option<SessionNumber>, Flawed> {
    if number == 0 { Ok(None) } else { Ok(Some(SessionNumber::parse(number)?)) }
}

fn of_in(session: u64, seq: u64) -> Result<Option<(SessionNumber, u64)>, Flawed> {
    match (number_in(session)?, seq) {
        (None, 0) => Ok(None),
        (Some(session), 1..=SEQ_MAX) => Ok(Some((session, seq))),
        (None | Some(_), _) => Err(Flawed(format!("operation {seq} of session {session}"))),
    }
}

fn effect_out(effect: &Effect) -> wire::Effect {
    use wire::effect::Effect as Out;
    let effect = match effect {
        Effect::Released => Out::Released(wire::Released {}),
        Effect::ForceReleased { holder } => {
            Out::ForceReleased(wire::ForceReleased { holder: holder.as_str().to_owned() })
        }
        Effect::Transacted { commit, effects } => Out::Transacted(wire::Transacted {
            effects: effects.iter().map(effect_out).collect(),
            commit: commit.0,
        }),
        Effect::Acquired { lease_id, token } => {
            Out::Acquired(wire::Acquired { lease_id: lease_id.0.to_vec(), token: token.0 })
        }
        Effect::Transferred { lease_id, token } => {
            Out::Transferred(wire::Transferred { lease_id: lease_id.0.to_vec(), token: token.0 })
        }
        Effect::LeaseEnded { end, token } => Out::AcquiredEnded(wire::AcquiredEnded {
            end: lease::end_out(*end).into(),
            token: token.0,
        }),
        Effect::RecordPut(put) => Out::RecordPut(record::put_out(*put)),
        Effect::Incremented { value, put } => Out::RecordIncremented(wire::RecordIncremented {
            value: *value,
            put: Some(record::put_out(*put)),
        }),
        Effect::RecordDeleted { version } => {
            Out::RecordDeleted(wire::RecordGone { version: version.0 })
        }
        Effect::PrefixProtected { revision } => {
            Out::PrefixProtected(wire::Protected { revision: revision.0 })
        }
        Effect::PrefixUnprotected => Out::PrefixUnprotected(wire::Unprotected {}),
    };
    wire::Effect { effect: Some(effect) }
}

fn effect_in(effect: wire::Effect) -> Result<Effect, Flawed> {
    use wire::effect::Effect as In;
    Ok(match required(effect.effect, "an effect of a kind that this version knows")? {
        In::Released(wire::Released {}) => Effect::Released,
        In::ForceReleased(forced) => {
            Effect::ForceReleased { holder: Holder::parse(&forced.holder)? }
        }
        In::Transacted(transacted) => Effect::Transacted {
            // That of a format before 4 is not known; no server wrote any.
            commit: Revision(transacted.commit),
            effects: transacted.effects.into_iter().map(effect_in).collect::<Result<_, _>>()?,
        },
        In::Acquired(acquired) => Effect::Acquired {
            lease_id: LeaseId(hash(&acquired.lease_id)?),
            token: Token::parse(acquired.token)?,
        },
        In::Transferred(transferred) => Effect::Transferred {
            lease_id: LeaseId(hash(&transferred.lease_id)?),
            token: Token::parse(transferred.token)?,
        },
        In::AcquiredEnded(ended) => {
            Effect::LeaseEnded { end: lease::end_in(ended.end)?, token: Token::parse(ended.token)? }
        }
        In::RecordPut(put) => Effect::RecordPut(record::put_in(put)?),
        In::RecordIncremented(incremented) => Effect::Incremented {
            value: incremented.value,
            put: record::put_in(required(incremented.put, "the counter that was added to")?)?,
        },
        In::RecordDeleted(gone) => Effect::RecordDeleted { version: parse_version(gone.version)? },
        In::PrefixProtected(protected) => {
            Effect::PrefixProtected { revision: parse_version(protected.revision)? }
        }
        In::PrefixUnprotected(wire::Unprotected {}) => Effect::PrefixUnprotected,
    })
}

fn mark_out(mark: &RequestMark) -> wire::RequestMark {
    wire::RequestMark { id: mark.id.0.to_vec(), command: mark.command.0.to_vec() }
}

fn mark_in(mark: wire::RequestMark) -> Result<RequestMark, Flawed> {
    Ok(RequestMark { id: RequestHash(hash(&mark.id)?), command: CommandHash(hash(&mark.command)?) })
}

fn hash(bytes: &[u8]) -> Result<[u8; 16], Flawed> {
    bytes.try_into().map_err(|_| Flawed(format!("{} bytes in place of 16", bytes.len())))
}

fn required<T>(field: Option<T>, what: &str) -> Result<T, Flawed> {
    field.ok_or_else(|| Flawed(format!("{what} is missing")))
}

// === rows of the state ===

/// First byte of the key of a row that is a statement about the others.
const META: u8 = 0;
/// The key of the clock, the first row there is.
const CLOCK: u8 = 1;
/// First byte of the key of a session: the tag of its change.
const SESSION: u8 = 4;
/// First byte of the key of a lease: the tag of its change.
const LEASE: u8 = 10;
/// First byte of the key of a record: the tag of its change.
const RECORD: u8 = 30;
/// First byte of the key of a protection: the tag of its change.
const PROTECTION: u8 = 32;
/// First byte of the key of a body; behind all rows.
const BODY: u8 = 0xb0;
/// Ends a text within a key; no text has it, so keys sort as their parts do.
const END: u8 = 0;

/// Key of the [`Marker`].
pub(super) const MARKER_KEY: &[u8] = &[META, 1];
/// Key of the [`Digest`].
pub(super) const DIGEST_KEY: &[u8] = &[META, 2];
/// The keys that rows can have.
pub(super) const ROW_KEYS: Range<&[u8]> = &[META + 1]..&[BODY];

/// The key of a row as bytes; they sort as [`RowKey`] does.
#[must_use]
pub(super) fn encode_key(key: &RowKey) -> Vec<u8> {
    match key {
        RowKey::Clock => vec![CLOCK],
        RowKey::Session(namespace, number) => {
            key_of(SESSION, namespace, &[&number.revision().0.to_be_bytes()])
        }
        RowKey::Lease(namespace, token) => key_of(LEASE, namespace, &[&token.0.to_be_bytes()]),
        RowKey::Record(namespace, key) => key_of(RECORD, namespace, &[key.as_str().as_bytes()]),
        RowKey::Protection(namespace, prefix, resource) => {
            let (prefix, resource) = (prefix.as_str().as_bytes(), resource.as_str().as_bytes());
            key_of(PROTECTION, namespace, &[prefix, resource])
        }
    }
}

fn key_of(kind: u8, namespace: &Namespace, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10 + namespace.as_str().len());
    bytes.push(kind);
    bytes.extend_from_slice(namespace.as_str().as_bytes());
    for part in parts {
        bytes.push(END);
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The value of a row under its encoded key: a checksum of both, then the change.
#[must_use]
pub(super) fn encode_row(key: &[u8], row: &Change) -> Vec<u8> {
    sealed(key, &change_out(row))
}

/// The key, the change and the checksum of a row.
///
/// # Errors
/// When value or key are not what was written.
pub(super) fn decode_row(key: &[u8], value: &[u8]) -> Result<(RowKey, Change, u64), Flawed> {
    let (change, sum) = unsealed::<wire::Change>(key, value)?;
    let change = change_in(change)?;
    let row_key = match change.trace() {
        Trace::Created(key) | Trace::Written(key) => key,
        Trace::Removed(_) | Trace::None => {
            return Err(Flawed(format!("a row that holds a change of tag {}", change.tag())));
        }
    };
    if change.carried().is_some() {
        return Err(Flawed(String::from("a row that holds a large value itself")));
    }
    if encode_key(&row_key) != key {
        return Err(Flawed(String::from("a row under another row's key")));
    }
    Ok((row_key, change, sum))
}

/// The checksum that a row's value begins with, unchecked; what [`Digest::sum`] adds up.
///
/// # Errors
/// When there is none.
pub(super) fn row_sum(value: &[u8]) -> Result<u64, Flawed> {
    let (sum, _) = value
        .split_first_chunk()
        .ok_or_else(|| Flawed(String::from("a row shorter than its checksum")))?;
    Ok(u64::from_le_bytes(*sum))
}

/// The marker as a value.
#[must_use]
pub(super) fn encode_marker(marker: Marker) -> Vec<u8> {
    sealed(MARKER_KEY, &wire::Marker { through: marker.through.0, reached: marker.reached.0 })
}

/// The marker.
///
/// # Errors
/// When the value is not what was written.
pub(super) fn decode_marker(value: &[u8]) -> Result<Marker, Flawed> {
    let (marker, _) = unsealed::<wire::Marker>(MARKER_KEY, value)?;
    Ok(Marker { through: Revision(marker.through), reached: Revision(marker.reached) })
}

/// The digest as a value.
#[must_use]
pub(super) fn encode_digest(digest: Digest) -> Vec<u8> {
    sealed(DIGEST_KEY, &wire::Digest { rows: digest.rows, sum: digest.sum })
}

/// The digest.
///
/// # Errors
/// When the value is not what was written.
pub(super) fn decode_digest(value: &[u8]) -> Result<Digest, Flawed> {
    let (digest, _) = unsealed::<wire::Digest>(DIGEST_KEY, value)?;
    Ok(Digest { rows: digest.rows, sum: digest.sum })
}

fn sealed(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut value = vec![0; 8];
    message.encode(&mut value).expect("a Vec grows");
    let sum = checksum(key, value.get(8..).unwrap_or_default());
    if let Some(head) = value.first_chunk_mut() {
        *head = sum.to_le_bytes();
    }
    value
}

fn unsealed<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<(M, u64), Flawed> {
    let sum = row_sum(value)?;
    let message = value.get(8..).unwrap_or_default();
    if checksum(key, message) != sum {
        return Err(Flawed(String::from("a checksum that doesn't match")));
    }
    Ok((M::decode(message)?, sum))
}

/// Of key and message together, so that a value under the wrong key is found.
fn checksum(key: &[u8], message: &[u8]) -> u64 {
    xxh3_64_with_seed(message, xxh3_64(key))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
