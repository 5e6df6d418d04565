//! The words of the machine: validated newtypes that can only hold legal values.
//!
//! Owns what a name, an id, a token and a span of time may look like. The edge parses into
//! these; past the edge nothing is checked again.

mod record;
mod target;
mod terms;

use alloc::{format, string::String, sync::Arc};
use core::{fmt, num::NonZeroU64};

use smol_str::SmolStr;

pub use self::{
    record::{ContentType, RecordKey, RecordTtl, Value, parse_version, value_flaw},
    target::{Claim, Mode, Permits, Reach, Target, Targets},
    terms::{Actor, Labels, LockDelay, MaxHold, Words},
};
use crate::limits;

/// Why a text is not a legal name: what was expected, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// In words for the caller, lower case, no full stop.
    pub description: String,
    /// True when the only fault is the size.
    pub too_large: bool,
}

/// A namespace: 1..=128 characters of `[A-Za-z0-9._-]`.
/// One pointer wide, as every lease has one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<SmolStr>);

/// The name of a resource: a `/`-path of 1..=512 bytes and at most 32 segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(Arc<str>);

/// Who acts: a stable agent name of 1..=256 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(SmolStr);

/// The id of a lease: 128 random bits, drawn outside the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub [u8; 16]);

/// The id of a session: 128 random bits, drawn outside the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What a session is kept under: the revision at which it was opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(NonZeroU64);

/// 128-bit hash of namespace, principal and request id: the identity of a logical call. Those of
/// a session's operations stand in a row: see [`RequestHash::at`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHash(pub [u8; 16]);

/// 128-bit hash of the decoded command without its wait and age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandHash(pub [u8; 16]);

/// What replay memory knows a request by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMark {
    /// Who asks: the logical call.
    pub id: RequestHash,
    /// What was asked.
    pub command: CommandHash,
}

/// A revision: the one counter behind tokens, versions and offsets. Below 2^53.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A fencing token: the revision of a grant. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Durable machine time: milliseconds for which this store has been served, restarts included.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurableMs(pub u64);

/// Volatile machine time: monotonic milliseconds since the start of this process, less
/// whatever was not charged.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ms(pub u64);

/// The times a decision may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Volatile machine time: leases and waits.
    pub ms: Ms,
}

/// One call of one caller, numbered by the server; never 0, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Lease time to live, 1 s to 24 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

/// Priority of a waiter, -100..=100; higher goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i8);

// === parsing ===

fn flaw(description: String) -> Flaw {
    Flaw { description, too_large: false }
}

fn bounded(text: &str, what: &str, length: usize, maximum: usize, unit: &str) -> Result<(), Flaw> {
    if text.is_empty() {
        return Err(flaw(format!("{what} is required")));
    }
    if length > maximum {
        let description =
            format!("{what} may have at most {maximum} {unit}, this one has {length}");
        return Err(Flaw { description, too_large: true });
    }
    Ok(())
}

fn without_control(text: &str, what: &str) -> Result<(), Flaw> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(flaw(format!("{what} may not have control characters, found {c:?}"))),
    }
}

// === impl Namespace ===

impl Namespace {
    /// Parses a namespace.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let length = text.chars().count();
        bounded(text, "a namespace", length, limits::NAMESPACE_CHARS_MAX, "characters")?;
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            None => Ok(Self(Arc::new(text.into()))),
            Some(c) => Err(flaw(format!(
                "a namespace has only letters, digits, `.`, `_`, `-`; found {c:?}"
            ))),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(Arc::new(SmolStr::new_static("default")))
    }
}

// === impl ResourceName ===

impl ResourceName {
    /// Parses the name of a resource.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        check_path(text, "a resource name", limits::RESOURCE_BYTES_MAX)?;
        Ok(Self(text.into()))
    }

    /// The same name, or one of a resource above it, as the text that this one shares.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Of a part of a legal name.
    pub(crate) fn of(text: &str) -> Self {
        Self(text.into())
    }

    /// Between which two the names below it sort: from the first on, below the second.
    pub(crate) fn below(&self) -> (Self, Self) {
        let (from, to) = below(self.as_str());
        (Self(from), Self(to))
    }

    /// This resource is `other`, or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        is_within(self.as_str(), other.as_str())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `/`-paths of resources and actors.
fn check_path(text: &str, what: &str, bytes_max: usize) -> Result<(), Flaw> {
    bounded(text, what, text.len(), bytes_max, "bytes")?;
    without_control(text, what)?;
    let mut depth = 0;
    for segment in text.split('/') {
        depth += 1;
        if segment.is_empty() {
            return Err(flaw(format!(
                "{what} may not begin or end with `/` or have an empty segment"
            )));
        }
        if matches!(segment, "." | "..") {
            return Err(flaw(format!("`{segment}` may not be a segment of {what}")));
        }
    }
    if depth > limits::RESOURCE_DEPTH_MAX {
        let maximum = limits::RESOURCE_DEPTH_MAX;
        let description =
            format!("{what} may have at most {maximum} segments, this one has {depth}");
        return Err(Flaw { description, too_large: true });
    }
    Ok(())
}

/// Between which two texts the paths below one sort: `/` and what follows it.
fn below(path: &str) -> (Arc<str>, Arc<str>) {
    // `0` is what follows `/`.
    (format!("{path}/").into(), format!("{path}0").into())
}

/// The path `inner` is `outer`, or below it.
pub(crate) fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

// === impl Holder ===

impl Holder {
    /// Parses a holder's name.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let length = text.chars().count();
        bounded(text, "a holder", length, limits::HOLDER_CHARS_MAX, "characters")?;
        without_control(text, "a holder")?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl Token ===

impl Token {
    /// A token from the wire.
    ///
    /// # Errors
    /// When it is 0 or not below 2^53.
    pub fn parse(token: u64) -> Result<Self, Flaw> {
        if token == 0 {
            return Err(flaw(String::from("a token is required, and never 0")));
        }
        if token >= limits::REVISION_END {
            return Err(flaw(format!("a token is below 2^53, found {token}")));
        }
        Ok(Self(token))
    }

    /// The revision that this token is.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.0)
    }
}

// === impl SessionNumber ===

impl SessionNumber {
    /// The number of the session that was opened at a revision.
    ///
    /// # Errors
    /// When that is 0 or not below 2^53.
    pub fn parse(revision: u64) -> Result<Self, Flaw> {
        match NonZeroU64::new(revision) {
            Some(number) if revision < limits::REVISION_END => Ok(Self(number)),
            _ => Err(flaw(format!("the number of a session is 1..2^53-1, found {revision}"))),
        }
    }

    /// The revision that it is.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.0.get())
    }
}

// === impl RequestHash ===

impl RequestHash {
    /// The identity of a session's operation, of the session whose row begins here.
    #[must_use]
    pub const fn at(self, seq: u64) -> Self {
        let (high, low) = self.halves();
        let bytes = ((high as u128) << 64 | low.wrapping_add(seq) as u128).to_be_bytes();
        Self(bytes)
    }

    /// Which operation this is of the session whose row begins at `base`; `None`: of another, or
    /// none.
    #[must_use]
    pub const fn seq_from(self, base: Self) -> Option<u64> {
        let ((high, low), (base_high, base_low)) = (self.halves(), base.halves());
        let seq = low.wrapping_sub(base_low);
        if high == base_high && seq >= 1 && seq <= limits::SEQ_MAX { Some(seq) } else { None }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    const fn halves(self) -> (u64, u64) {
        let bits = u128::from_be_bytes(self.0);
        ((bits >> 64) as u64, bits as u64)
    }
}

// === impl Ttl ===

impl Ttl {
    /// A ttl in milliseconds, 1,000..=86,400,000.
    ///
    /// # Errors
    /// When it is outside its bounds.
    pub fn parse(ms: u64) -> Result<Self, Flaw> {
        match u32::try_from(ms) {
            Ok(short) if (limits::TTL_MS_MIN..=limits::TTL_MS_MAX).contains(&ms) => Ok(Self(short)),
            _ => Err(flaw(format!(
                "a ttl is {}..{} ms, found {ms}",
                limits::TTL_MS_MIN,
                limits::TTL_MS_MAX
            ))),
        }
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 as u64
    }
}

// === impl Priority ===

impl Priority {
    /// A priority, -100..=100.
    ///
    /// # Errors
    /// When it is outside its bounds.
    pub fn parse(priority: i32) -> Result<Self, Flaw> {
        match i8::try_from(priority) {
            Ok(short) if short.unsigned_abs() <= limits::PRIORITY_ABS_MAX => Ok(Self(short)),
            _ => Err(flaw(format!("a priority is -100..100, found {priority}"))),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

// === impl Ms ===

impl Ms {
    /// This instant, `ms` later. Saturates.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant, 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

// === impl DurableMs ===

impl DurableMs {
    /// This moment, `ms` later. Saturates.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

// === impl Revision ===

impl Revision {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

// === texts ===

macro_rules! shows_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
shows_text!(Namespace, ResourceName, Holder, Actor, Words, RecordKey, ContentType);

macro_rules! shows_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
shows_hex!(LeaseId, SessionId, RequestHash, CommandHash);

macro_rules! shows_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}
shows_number!(Revision, Token, SessionNumber, Ms, DurableMs);
