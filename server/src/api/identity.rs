//! The identity of a logical call: what replay memory knows a request by.
//!
//! Both halves are SHA-256, cut to 128 bits. The id covers namespace, principal and
//! request_id. The command covers the *decoded* request with its defaults applied, without
//! what may differ between two sends of one call: wait_ms, keep_ms, age_ms and the lease id
//! drawn here. Every field has a fixed width or a length before it, so that no two requests
//! have the same bytes.

use sha2::{Digest, Sha256};
use singletrack_core::{
    body::Body,
    command::{
        AcquireLease, Command, Condition, Expectation, IncrementRecord, LeaseRef, Lifetime,
        Operation, Protect, PutRecord, RecordLifetime, Terms, Transact, TransferLease,
    },
    fence::{Fence, FenceTarget},
    limits,
    types::{
        Actor, CommandHash, Holder, Mode, Namespace, Reach, RecordKey, RequestHash, ResourceName,
        SessionId, Target, Token, Value,
    },
};

/// Who calls, as far as authentication knows: nobody in particular, until it is built.
const PRINCIPAL: &str = "";

/// Where a length or a ttl could stand, and never does.
const NO_TEXT: u64 = u64::MAX;

/// Numbers of the commands, as in `Operation`; never reused.
mod number {
    pub(super) const ACQUIRE_LEASE: u8 = 10;
    pub(super) const RELEASE_LEASE: u8 = 13;
    pub(super) const FORCE_RELEASE_LEASE: u8 = 17;
    pub(super) const TRANSFER_LEASE: u8 = 18;
    pub(super) const PUT_RECORD: u8 = 33;
    pub(super) const INCREMENT_RECORD: u8 = 34;
    pub(super) const DELETE_RECORD: u8 = 35;
    pub(super) const PROTECT_PREFIX: u8 = 36;
    pub(super) const UNPROTECT_PREFIX: u8 = 37;
    pub(super) const TRANSACT: u8 = 130;
}

/// The hash of who asks.
pub(crate) fn request(namespace: &Namespace, request_id: &str) -> RequestHash {
    RequestHash(
        Bytes::new().text(namespace.as_str()).text(PRINCIPAL).text(request_id).into_128_bits(),
    )
}

/// Where the identities of a session's operations begin: [`RequestHash::at`] has the others.
pub(crate) fn session(namespace: &Namespace, session: SessionId) -> RequestHash {
    let names = Bytes::new().text(namespace.as_str()).text(PRINCIPAL);
    // No text is so long, so no request id has these bytes.
    RequestHash(names.number(NO_TEXT).raw(&session.0).into_128_bits())
}

/// The operation that a request id names, if it has the form `<session_id>/<seq>` exactly.
pub(crate) fn operation_of(request_id: &str) -> Option<(SessionId, u64)> {
    let (session, seq) = request_id.split_once('/')?;
    let mut id = [0; 16];
    hex::decode_to_slice(session, &mut id).ok()?;
    let number: u64 = seq.parse().ok()?;
    let session_id = SessionId(id);
    // One operation, one text: no capitals, no signs, no leading zeros.
    let is_exact = session_id.to_string() == session && number.to_string() == seq;
    (is_exact && (1..=limits::SEQ_MAX).contains(&number)).then_some((session_id, number))
}

/// The hash of an acquire. What the first versions knew has the bytes that it had then.
pub(crate) fn acquire(command: &AcquireLease, fences: &[Fence]) -> CommandHash {
    let bytes = Bytes::new().number(number::ACQUIRE_LEASE.into());
    let AcquireLease { holder, targets, lifetime, priority, terms, .. } = command;
    let bytes = match (targets.as_slice(), terms) {
        ([only], None) if is_plain(only) => {
            bytes.text(holder.as_str()).text(only.resource.as_str()).mode(only.mode)
        }
        // No text is so long, so no plain acquire has these bytes.
        (targets, terms) => bytes
            .number(NO_TEXT)
            .text(holder.as_str())
            .targets(targets)
            .terms(terms.as_deref().unwrap_or(&Terms::default())),
    };
    CommandHash(
        bytes
            .lifetime(*lifetime)
            // Two's complement in 64 bits: one number, one pattern.
            .raw(&i64::from(priority.get()).to_le_bytes())
            .fences(fences)
            .into_128_bits(),
    )
}

fn is_plain(target: &Target) -> bool {
    match (target.mode, target.reach) {
        (Mode::Exclusive | Mode::Shared, Reach::Exact) => true,
        (Mode::Permits(_), _) | (_, Reach::Subtree) => false,
    }
}

/// The hash of a release.
pub(crate) fn release(lease: LeaseRef, fences: &[Fence]) -> CommandHash {
    CommandHash(
        Bytes::new()
            .number(number::RELEASE_LEASE.into())
            .raw(&lease.lease_id.0)
            .number(lease.token.0)
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a forced release.
pub(crate) fn force_release(
    resource: &ResourceName,
    token: Token,
    fences: &[Fence],
) -> CommandHash {
    CommandHash(
        Bytes::new()
            .number(number::FORCE_RELEASE_LEASE.into())
            .text(resource.as_str())
            .number(token.0)
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a transfer.
pub(crate) fn transfer(command: &TransferLease, fences: &[Fence]) -> CommandHash {
    let TransferLease { lease, to, to_actor, ttl, .. } = command;
    CommandHash(
        Bytes::new()
            .number(number::TRANSFER_LEASE.into())
            .raw(&lease.lease_id.0)
            .number(lease.token.0)
            .text(to.as_str())
            .actor(to_actor.as_ref())
            // No ttl is 0.
            .number(ttl.map_or(0, |ttl| ttl.ms()))
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a put.
pub(crate) fn put(command: &PutRecord, fences: &[Fence]) -> CommandHash {
    let PutRecord { key, value, content_type, expect, lifetime, written_by } = command;
    CommandHash(
        Bytes::new()
            .number(number::PUT_RECORD.into())
            .text(key.as_str())
            .value(value)
            .text(content_type.as_str())
            .expectation(*expect)
            .record_lifetime(*lifetime)
            .holder(written_by.as_ref())
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of an increment.
pub(crate) fn increment(command: &IncrementRecord, fences: &[Fence]) -> CommandHash {
    let IncrementRecord { key, delta, min, max, lifetime, written_by } = command;
    CommandHash(
        Bytes::new()
            .number(number::INCREMENT_RECORD.into())
            .text(key.as_str())
            .raw(&delta.to_le_bytes())
            .bound(*min)
            .bound(*max)
            .record_lifetime(*lifetime)
            .holder(written_by.as_ref())
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a delete.
pub(crate) fn delete(
    key: &RecordKey,
    expect: Option<Expectation>,
    fences: &[Fence],
) -> CommandHash {
    CommandHash(
        Bytes::new()
            .number(number::DELETE_RECORD.into())
            .text(key.as_str())
            .expectation(expect)
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a protection.
pub(crate) fn protect(command: &Protect, fences: &[Fence]) -> CommandHash {
    protection(number::PROTECT_PREFIX, command, fences)
}

/// The hash of the end of one.
pub(crate) fn unprotect(command: &Protect, fences: &[Fence]) -> CommandHash {
    protection(number::UNPROTECT_PREFIX, command, fences)
}

fn protection(number: u8, command: &Protect, fences: &[Fence]) -> CommandHash {
    let Protect { prefix, resource, as_admin } = command;
    CommandHash(
        Bytes::new()
            .number(number.into())
            .text(prefix.as_str())
            .text(resource.as_str())
            .number((*as_admin).into())
            .fences(fences)
            .into_128_bits(),
    )
}

/// The hash of a transaction: of its conditions and of the hashes of its operations.
pub(crate) fn transact(command: &Transact) -> CommandHash {
    let Transact { conditions, operations } = command;
    let bytes = Bytes::new().number(number::TRANSACT.into()).number(conditions.len() as u64);
    let bytes = conditions.iter().fold(bytes, |bytes, condition| match condition {
        Condition::Fence(fence) => bytes.number(1).fences(std::slice::from_ref(fence)),
        Condition::Record { key, expect } => {
            bytes.number(2).text(key.as_str()).expectation(Some(*expect))
        }
    });
    let bytes = bytes.number(operations.len() as u64);
    let bytes = operations
        .iter()
        .fold(bytes, |bytes, Operation { fences, command }| bytes.raw(&of(command, fences).0));
    CommandHash(bytes.into_128_bits())
}

/// The hash of an operation of a transaction.
fn of(command: &Command, fences: &[Fence]) -> CommandHash {
    match command {
        Command::AcquireLease(command) => acquire(command, fences),
        Command::ReleaseLease(lease) => release(*lease, fences),
        Command::ForceReleaseLease { resource, token } => force_release(resource, *token, fences),
        Command::TransferLease(command) => transfer(command, fences),
        Command::PutRecord(command) => put(command, fences),
        Command::IncrementRecord(command) => increment(command, fences),
        Command::DeleteRecord { key, expect } => delete(key, *expect, fences),
        Command::ProtectPrefix(command) => protect(command, fences),
        Command::UnprotectPrefix(command) => unprotect(command, fences),
        Command::AbandonLease { .. }
        | Command::RenewLeases(_)
        | Command::GetLease(_)
        | Command::ListLeases { .. }
        | Command::CheckLease { .. }
        | Command::RequestLeaseYield(_)
        | Command::AnswerLeaseYield(_)
        | Command::ListLeaseWaiters { .. }
        | Command::GetLeaseStats
        | Command::OpenSession(_)
        | Command::AttachSession(_)
        | Command::KeepSessionAlive(_)
        | Command::CloseSession(_)
        | Command::ListSessionLeases { .. }
        | Command::AcknowledgeReplies { .. }
        | Command::CancelWaits(_)
        | Command::GetRecord(_)
        | Command::BatchGetRecords { .. }
        | Command::ListRecords(_)
        | Command::ListProtections { .. }
        | Command::Transact(_) => unreachable!("only mutations are decoded into a transaction"),
    }
}

/// The first 128 bits of the SHA-256 of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 16] {
    Bytes::new().raw(bytes).into_128_bits()
}

/// Canonical bytes on their way into the hash.
struct Bytes(Sha256);

// === impl Bytes ===

impl Bytes {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    fn number(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.number(text.len() as u64).raw(text.as_bytes())
    }

    fn mode(self, mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => self.number(1),
            Mode::Shared => self.number(2),
            Mode::Permits(permits) => {
                self.number(3).number(permits.count().into()).number(permits.limit().into())
            }
        }
    }

    fn targets(self, targets: &[Target]) -> Self {
        targets.iter().fold(self.number(targets.len() as u64), |bytes, target| {
            bytes.text(target.resource.as_str()).mode(target.mode).number(match target.reach {
                Reach::Exact => 1,
                Reach::Subtree => 2,
            })
        })
    }

    fn actor(self, actor: Option<&Actor>) -> Self {
        // No actor is empty.
        self.text(actor.map_or("", Actor::as_str))
    }

    fn terms(self, terms: &Terms) -> Self {
        let Terms { actor, labels, max_hold, lock_delay } = terms;
        let bytes = self.actor(actor.as_ref()).number(labels.iter().count() as u64);
        labels
            .iter()
            .fold(bytes, |bytes, (key, value)| bytes.text(key).text(value))
            // Neither is 0 when it is there.
            .number(max_hold.map_or(0, |hold| hold.ms()))
            .number(lock_delay.map_or(0, |delay| delay.ms()))
    }

    fn lifetime(self, lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Ttl(ttl) => self.number(ttl.ms()),
            Lifetime::Session(session) => self.number(NO_TEXT).raw(&session.0),
        }
    }

    fn value(self, value: &Value) -> Self {
        match value {
            Value::Data(body) => self.number(1).body(body),
            Value::Text(body) => self.number(2).body(body),
            Value::Counter(number) => self.number(3).raw(&number.to_le_bytes()),
        }
    }

    /// Of a large body its digest, which is at hand.
    fn body(self, body: &Body) -> Self {
        let bytes = self.number(body.len() as u64);
        match body {
            Body::Inline(inline) => bytes.raw(inline),
            Body::Carried { digest, .. } | Body::Stored { digest, .. } => bytes.raw(&digest.0),
        }
    }

    fn expectation(self, expect: Option<Expectation>) -> Self {
        match expect {
            None => self.number(0),
            Some(Expectation::Absent) => self.number(1),
            Some(Expectation::Exists) => self.number(2),
            Some(Expectation::Version(version)) => self.number(3).number(version.0),
        }
    }

    fn record_lifetime(self, lifetime: RecordLifetime) -> Self {
        match lifetime {
            RecordLifetime::Forever => self.number(0),
            RecordLifetime::Kept => self.number(1),
            RecordLifetime::Ttl(ttl) => self.number(2).number(ttl.ms()),
            RecordLifetime::Bound(lease) => {
                self.number(3).raw(&lease.lease_id.0).number(lease.token.0)
            }
        }
    }

    fn bound(self, bound: Option<i64>) -> Self {
        match bound {
            None => self.number(0),
            Some(bound) => self.number(1).raw(&bound.to_le_bytes()),
        }
    }

    fn holder(self, holder: Option<&Holder>) -> Self {
        // No holder is empty.
        self.text(holder.map_or("", Holder::as_str))
    }

    fn fences(self, fences: &[Fence]) -> Self {
        fences.iter().fold(self.number(fences.len() as u64), |bytes, fence| {
            match &fence.target {
                FenceTarget::Resource(resource) => bytes.number(1).text(resource.as_str()),
            }
            .number(fence.token.0)
        })
    }

    fn into_128_bits(self) -> [u8; 16] {
        let whole: [u8; 32] = self.0.finalize().into();
        let (half, _) =
            whole.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes, so 16 come first");
        *half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_text_of_an_operation_is_one() {
        let session = SessionId([0xab; 16]);
        let text = session.to_string();
        assert_eq!(operation_of(&format!("{text}/7")), Some((session, 7)));
        let most = i64::MAX;
        assert!(operation_of(&format!("{text}/{most}")).is_some());
        for other in [
            text.clone(),
            format!("{text}/"),
            format!("{text}/0"),
            format!("{text}/07"),
            format!("{text}/+7"),
            format!("{text}/7 "),
            format!("{text}/9223372036854775808"),
            format!("{}/7", text.to_uppercase()),
            format!("{}/7", &text[2..]),
            String::from("a/7"),
        ] {
            assert_eq!(operation_of(&other), None, "{other}");
        }
    }

    #[test]
    fn operations_of_sessions_are_not_those_of_others() {
        let (one, two) = (Namespace::default(), Namespace::parse("other").unwrap());
        let (a, b) = (SessionId([1; 16]), SessionId([2; 16]));
        assert_ne!(session(&one, a), session(&one, b));
        assert_ne!(session(&one, a), session(&two, a));
        assert_eq!(session(&one, a).at(9).seq_from(session(&one, a)), Some(9));
        assert_eq!(session(&one, a).at(9).seq_from(session(&one, b)), None);
    }

    #[test]
    fn parts_of_an_identity_cannot_slide_into_one_another() {
        let namespace = |text| Namespace::parse(text).unwrap();
        assert_eq!(request(&namespace("a"), "bc"), request(&namespace("a"), "bc"));
        assert_ne!(request(&namespace("a"), "bc"), request(&namespace("ab"), "c"));
    }
}
