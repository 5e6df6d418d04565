//! What few leases are asked for with: actor, labels, longest hold, lock delay; and words of callers.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use smol_str::SmolStr;

use super::{Flaw, below, bounded, check_path, flaw, is_within, without_control};
use crate::limits;

/// The thread of control that asks: a `/`-path of at most [`limits::ACTOR_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub(super) Arc<str>);

/// Labels of a lease, by key: at most [`limits::LABELS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(SmolStr, SmolStr)]>);

/// Words of a caller, shown to others: at most [`limits::WORDS_CHARS_MAX`] characters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Words(pub(super) Box<str>);

/// How long a lease may be held at most, 1 s to 365 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxHold(u64);

/// How long resources stay closed after an involuntary end, 1 ms to 1 h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockDelay(u32);

// === impl Actor ===

impl Actor {
    /// Parses an actor.
    ///
    /// # Errors
    /// Says what is not legal about it.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        check_path(text, "an actor", limits::ACTOR_BYTES_MAX)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// It and those above it, up to the first segment.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = Self> {
        let mut path = Some(self.as_str());
        core::iter::from_fn(move || {
            let here = path?;
            path = here.rsplit_once('/').map(|(above, _)| above);
            Some(Self(here.into()))
        })
    }

    /// Between which two its descendants sort: from the first on, below the second.
    pub(crate) fn descendants(&self) -> (Self, Self) {
        let (from, to) = below(self.as_str());
        (Self(from), Self(to))
    }

    /// This actor is `other`, or a descendant of it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        is_within(self.as_str(), other.as_str())
    }
}

// === impl Labels ===

impl Labels {
    /// Parses labels.
    ///
    /// # Errors
    /// With the key at fault, or none when there are too many: what is not legal about it.
    pub fn parse<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, (Option<String>, Flaw)> {
        let mut parsed: Vec<(SmolStr, SmolStr)> = Vec::new();
        let mut bytes = 0;
        for (key, value) in labels {
            let at = |flaw| (Some(String::from(key)), flaw);
            let (key_max, value_max) = (limits::LABEL_KEY_CHARS_MAX, limits::LABEL_CHARS_MAX);
            bounded(key, "a label's key", key.chars().count(), key_max, "characters")
                .map_err(at)?;
            without_control(key, "a label's key").map_err(at)?;
            if !value.is_empty() {
                let length = value.chars().count();
                bounded(value, "a label", length, value_max, "characters").map_err(at)?;
                without_control(value, "a label").map_err(at)?;
            }
            bytes += key.len() + value.len();
            parsed.push((key.into(), value.into()));
        }
        if parsed.len() > limits::LABELS_MAX || bytes > limits::LABELS_BYTES_MAX {
            let description = format!(
                "at most {} labels of {} bytes in all, found {} of {bytes}",
                limits::LABELS_MAX,
                limits::LABELS_BYTES_MAX,
                parsed.len()
            );
            return Err((None, Flaw { description, too_large: true }));
        }
        parsed.sort_unstable();
        if parsed.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return Err((None, flaw(String::from("a label may be given once"))));
        }
        Ok(Self(parsed.into()))
    }

    /// By key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of `others` are among these.
    #[must_use]
    pub fn contain(&self, others: &Self) -> bool {
        others.0.iter().all(|label| self.0.contains(label))
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

// === impl Words ===

impl Words {
    /// Parses words; there may be none.
    ///
    /// # Errors
    /// Says what is not legal about them.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        if !text.is_empty() {
            let length = text.chars().count();
            bounded(text, "a text", length, limits::WORDS_CHARS_MAX, "characters")?;
            without_control(text, "a text")?;
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl MaxHold ===

impl MaxHold {
    /// A longest hold in milliseconds, 1,000..=31,536,000,000.
    ///
    /// # Errors
    /// When it is outside its bounds.
    pub fn parse(ms: u64) -> Result<Self, Flaw> {
        let (least, most) = (limits::MAX_HOLD_MS_MIN, limits::MAX_HOLD_MS_MAX);
        if (least..=most).contains(&ms) {
            Ok(Self(ms))
        } else {
            Err(flaw(format!("a longest hold is {least}..{most} ms, found {ms}")))
        }
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }
}

// === impl LockDelay ===

impl LockDelay {
    /// A lock delay in milliseconds, 0..=3,600,000; 0 is none.
    ///
    /// # Errors
    /// When it is outside its bounds.
    pub fn parse(ms: u64) -> Result<Option<Self>, Flaw> {
        match u32::try_from(ms) {
            Ok(0) => Ok(None),
            Ok(short) if ms <= limits::LOCK_DELAY_MS_MAX => Ok(Some(Self(short))),
            _ => {
                let most = limits::LOCK_DELAY_MS_MAX;
                Err(flaw(format!("a lock delay is 0..{most} ms, found {ms}")))
            }
        }
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 as u64
    }
}
