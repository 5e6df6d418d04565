//! Records and protections as a decision sees them.

use alloc::{collections::BTreeMap, string::String, sync::Arc};

use crate::{
    change::{Change, Protection, RecordLife, RecordWritten},
    decision::check_cap,
    overlay::View,
    refusal::{Cap, Refusal},
    types::{RecordKey, ResourceName, Revision},
};

/// Of a transaction so far: what it does to records and protections.
#[derive(Debug, Default)]
pub(crate) struct Over {
    /// `None`: deleted.
    records: BTreeMap<RecordKey, Option<Arc<RecordWritten>>>,
    /// Since when; `None`: not any more. What stands here is hidden in the state.
    protections: BTreeMap<(RecordKey, ResourceName), Option<Revision>>,
    /// What came and what went: records, protections, and their bytes.
    came: Counts,
    went: Counts,
}

/// How much of what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    records: u64,
    protections: u64,
    pub(crate) bytes: u64,
}

// === impl Over ===

impl Over {
    /// Lays a write over the others.
    pub(crate) fn write(&mut self, view: View<'_>, written: &Arc<RecordWritten>) {
        self.leave(view, &written.key);
        self.came.records += 1;
        self.came.bytes += written.bytes();
        self.records.insert(written.key.clone(), Some(Arc::clone(written)));
    }

    /// Lays a delete over the others.
    pub(crate) fn delete(&mut self, view: View<'_>, key: &RecordKey) {
        self.leave(view, key);
        self.records.insert(key.clone(), None);
    }

    /// The row that there is, is no more.
    fn leave(&mut self, view: View<'_>, key: &RecordKey) {
        let row = match self.records.get(key) {
            Some(over) => over.as_ref(),
            None => view.record_row_in_state(key),
        };
        if let Some(row) = row {
            self.went.records += 1;
            self.went.bytes += row.bytes();
        }
    }

    /// Lays a protection over the others.
    pub(crate) fn protect(&mut self, protection: &Protection) {
        let key = (protection.prefix.clone(), protection.resource.clone());
        self.protections.insert(key, Some(protection.revision));
        self.came.protections += 1;
        self.came.bytes += protection.bytes();
    }

    /// Lays the end of one over the others.
    pub(crate) fn unprotect(&mut self, protection: &Protection) {
        let key = (protection.prefix.clone(), protection.resource.clone());
        self.protections.insert(key, None);
        self.went.protections += 1;
        self.went.bytes += protection.bytes();
    }

    pub(crate) const fn came(&self) -> Counts {
        self.came
    }

    pub(crate) const fn went(&self) -> Counts {
        self.went
    }
}

// === impl View ===

impl<'a> View<'a> {
    /// The record, unless it is gone to every check.
    pub(crate) fn record(self, key: &RecordKey) -> Option<&'a Arc<RecordWritten>> {
        self.record_row(key).filter(|row| self.is_there(row))
    }

    /// What there is of a record, gone or not.
    pub(crate) fn record_row(self, key: &RecordKey) -> Option<&'a Arc<RecordWritten>> {
        match self.over().and_then(|over| over.records.get(key)) {
            Some(over) => over.as_ref(),
            None => self.record_row_in_state(key),
        }
    }

    fn record_row_in_state(self, key: &RecordKey) -> Option<&'a Arc<RecordWritten>> {
        let slot = self.state.find_record(self.space?, key)?;
        Some(&self.state.record(slot).written)
    }

    /// A row is that of a record: what it is bound to lives.
    pub(crate) fn is_there(self, row: &RecordWritten) -> bool {
        match row.life {
            None | Some(RecordLife::Until { .. }) => true,
            Some(RecordLife::Bound(token)) => self.lease_by_token(token).is_some(),
        }
    }

    /// Records of the namespace, with those that are gone and not yet deleted.
    pub(crate) fn record_count(self) -> u64 {
        let base = self.space.map_or(0, |space| self.state.space(space).records.len() as u64);
        let (came, went) = self.moved();
        base + came.records - went.records
    }

    /// Protections of the namespace.
    pub(crate) fn protection_count(self) -> u64 {
        let base = self.space.map_or(0, |space| self.state.space(space).protection_count);
        let (came, went) = self.moved();
        base + came.protections - went.protections
    }

    pub(crate) fn has_protections(self) -> bool {
        self.protection_count() > 0
    }

    fn moved(self) -> (Counts, Counts) {
        self.over().map_or_else(Default::default, |over| (over.came, over.went))
    }

    /// What protects exactly this prefix: in the order of resources, later ones of a transaction
    /// behind.
    pub(crate) fn protections_of(
        self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a RecordKey, &'a ResourceName, Revision)> {
        let space = self.space.map(|space| self.state.space(space));
        let base = space.and_then(|space| space.protections.get_key_value(prefix));
        let base = base
            .into_iter()
            .flat_map(|(prefix, of)| of.iter().map(move |(name, since)| (prefix, name, *since)));
        let over = self.over();
        let is_hidden = move |prefix: &RecordKey, name: &ResourceName| {
            over.is_some_and(|over| over.protections.contains_key(&(prefix.clone(), name.clone())))
        };
        let laid = over.into_iter().flat_map(|over| &over.protections);
        let prefix = String::from(prefix);
        let laid = laid
            .filter(move |((of, _), _)| of.as_str() == prefix)
            .filter_map(|((prefix, name), since)| Some((prefix, name, (*since)?)));
        base.filter(move |(prefix, name, _)| !is_hidden(prefix, name)).chain(laid)
    }

    /// Since when a prefix is protected by a resource; `None`: it is not.
    pub(crate) fn protection(
        self,
        prefix: &RecordKey,
        resource: &ResourceName,
    ) -> Option<Revision> {
        let mut of = self.protections_of(prefix.as_str());
        of.find(|(_, name, _)| *name == resource).map(|(_, _, since)| since)
    }

    /// There is room for the namespace, if nothing is in it yet.
    pub(crate) fn check_namespaces(self) -> Result<(), Refusal> {
        if self.space.is_some() {
            return Ok(());
        }
        let spaces = self.state.spaces.len() as u64;
        check_cap(Cap::Namespaces, spaces, 1, self.state.quotas.namespaces)
    }
}

/// What a change of records and protections lays over those before it.
pub(crate) fn lay(over: &mut Over, view: View<'_>, change: &Change) {
    if let Change::RecordWritten(written) = change {
        over.write(view, written);
    } else if let Change::RecordDeleted(deleted) = change {
        over.delete(view, &deleted.key);
    } else if let Change::PrefixProtected(protection) = change {
        over.protect(protection);
    } else if let Change::PrefixUnprotected(protection) = change {
        over.unprotect(protection);
    }
}
