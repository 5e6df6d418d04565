//! What is not legal about a message: a list of fields, each with what was expected and what
//! was found.
//!
//! Owns the collecting and its bounds; decides nothing about what is legal.

use std::{borrow::Cow, fmt};

use singletrack_core::types::Flaw;

/// Fields named in one refusal; the rest are counted.
pub(crate) const FLAWS_MAX: usize = 16;

/// One field that is not legal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldFlaw {
    /// Its path, as in `targets[0].resource`; empty: the whole message.
    pub(crate) field: String,
    /// What was expected and what was found.
    pub(crate) description: String,
}

/// All that is not legal about a message. Empty while it is read; never empty as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaws {
    prefix: Cow<'static, str>,
    fields: Vec<FieldFlaw>,
    left_out: usize,
    all_too_large: bool,
}

// === impl Flaws ===

impl Flaws {
    /// Begins a list; `prefix` comes before each path and is empty or ends with a dot.
    pub(crate) const fn under(prefix: &'static str) -> Self {
        Self::within(Cow::Borrowed(prefix))
    }

    /// The same, with a path that is made up as it goes.
    pub(crate) const fn within(prefix: Cow<'static, str>) -> Self {
        Self { prefix, fields: Vec::new(), left_out: 0, all_too_large: true }
    }

    /// A list of one.
    pub(crate) fn of(field: fmt::Arguments<'_>, description: impl Into<String>) -> Self {
        let mut flaws = Self::under("");
        flaws.add(field, description);
        flaws
    }

    /// A list of one whose only fault is the size.
    pub(crate) fn too_large(field: fmt::Arguments<'_>, description: impl Into<String>) -> Self {
        let mut flaws = Self::under("");
        flaws.push(field, description.into(), true);
        flaws
    }

    /// Notes that a field is not legal.
    pub(crate) fn add(&mut self, field: fmt::Arguments<'_>, description: impl Into<String>) {
        self.push(field, description.into(), false);
    }

    /// Notes that a field is larger than its bound.
    pub(crate) fn add_too_large(&mut self, field: fmt::Arguments<'_>, description: String) {
        self.push(field, description, true);
    }

    /// Adds those of a part of the message.
    pub(crate) fn extend(&mut self, part: Self) {
        self.all_too_large &= part.is_empty() || part.all_too_large;
        self.left_out += part.left_out;
        for flaw in part.fields {
            if self.fields.len() < FLAWS_MAX {
                self.fields.push(flaw);
            } else {
                self.left_out += 1;
            }
        }
    }

    /// The parsed value, or `None` and a note of what is wrong with it.
    pub(crate) fn take<T>(
        &mut self,
        field: fmt::Arguments<'_>,
        parsed: Result<T, Flaw>,
    ) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(flaw) => {
                self.push(field, flaw.description, flaw.too_large);
                None
            }
        }
    }

    fn push(&mut self, field: fmt::Arguments<'_>, description: String, too_large: bool) {
        self.all_too_large &= too_large;
        if self.fields.len() < FLAWS_MAX {
            self.fields.push(FieldFlaw { field: format!("{}{field}", self.prefix), description });
        } else {
            self.left_out += 1;
        }
    }

    /// The fields, in the order found.
    pub(crate) fn fields(&self) -> &[FieldFlaw] {
        &self.fields
    }

    /// How many more there were.
    pub(crate) const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Nothing is wrong with anything but sizes.
    pub(crate) const fn all_too_large(&self) -> bool {
        self.all_too_large
    }

    /// Nothing was found.
    pub(crate) const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}
