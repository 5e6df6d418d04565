//! What changes of records do to the state; a part of `absorb`, and bound by its laws.

use alloc::sync::Arc;

use crate::{
    absorb::slot_of,
    change::{Protection, RecordDeleted, RecordLife, RecordWritten},
    deadline::Due,
    state::{State, UNARMED},
    types::{DurableMs, Ms, RecordKey, Revision, Token},
};

/// A record: what is durable of it.
pub(crate) struct Record {
    pub(crate) written: Arc<RecordWritten>,
    pub(crate) space: u32,
    /// Where it stands in the table of deadlines; [`UNARMED`]: it has no ttl.
    pub(crate) armed: Ms,
}

impl State {
    pub(crate) fn record(&self, slot: u32) -> &Record {
        self.records.get(slot as usize).expect("slots of records are kept true")
    }

    /// The row of a record, gone to every check or not.
    pub(crate) fn find_record(&self, space: u32, key: &RecordKey) -> Option<u32> {
        let is = |slot: &u32| {
            let record = self.record(*slot);
            record.space == space && record.written.key == *key
        };
        self.record_keys.find(self.hasher.hash(key.as_str()), is).copied()
    }

    pub(crate) fn absorb_record(&mut self, now: Ms, written: &Arc<RecordWritten>) {
        if let Some(RecordLife::Until { at, ttl }) = written.life {
            self.pass_time(now, DurableMs(at.0.saturating_sub(ttl.ms())));
        }
        let space = self.ensure_space(&written.namespace);
        let written = written.to_kept();
        let bytes = written.bytes();
        let slot = match self.find_record(space, &written.key) {
            Some(slot) => {
                self.unlink_record(slot);
                let record = self.records.get_mut(slot as usize).expect("it was found");
                let before = core::mem::replace(&mut record.written, written);
                self.space_mut(space).bytes -= before.bytes();
                slot
            }
            None => self.insert_record(space, written),
        };
        self.space_mut(space).bytes += bytes;
        self.link_record(slot);
    }

    fn insert_record(&mut self, space: u32, written: Arc<RecordWritten>) -> u32 {
        let key = written.key.clone();
        let slot = slot_of(self.records.insert(Record { written, space, armed: UNARMED }));
        let (records, hasher) = (&self.records, &self.hasher);
        self.record_keys.insert(hasher.hash(key.as_str()), slot, |at| {
            let known = records.get(*at as usize).expect("slots of records are kept true");
            hasher.hash(known.written.key.as_str())
        });
        self.space_mut(space).records.insert(key, slot);
        slot
    }

    pub(crate) fn absorb_record_end(&mut self, deleted: &RecordDeleted) {
        let Some(space) = self.find_space(&deleted.namespace) else { return };
        let Some(slot) = self.find_record(space, &deleted.key) else { return };
        // A later write of the same key is not what was deleted.
        if self.record(slot).written.version > deleted.revision {
            return;
        }
        self.unlink_record(slot);
        let hash = self.hasher.hash(deleted.key.as_str());
        let known = self.record_keys.remove(hash, |at| *at == slot);
        assert!(known.is_some(), "every record is found by its key");
        let record = self.records.remove(slot as usize);
        let held = self.space_mut(space);
        held.records.remove(&deleted.key);
        held.bytes -= record.written.bytes();
        self.drop_space_if_idle(space);
    }

    /// What its lifetime leads to, leads to it.
    fn link_record(&mut self, slot: u32) {
        let written = Arc::clone(&self.record(slot).written);
        match written.life {
            None => {}
            Some(RecordLife::Until { at, .. }) => {
                self.durable_timers += 1;
                let at = self.volatile(at);
                self.deadlines.arm(at, Due::Record(slot));
                self.record_mut(slot).armed = at;
            }
            Some(RecordLife::Bound(token)) => {
                let bound = self.bound.entry(token).or_default();
                bound.insert(written.key.clone(), slot);
            }
        }
    }

    fn unlink_record(&mut self, slot: u32) {
        let written = Arc::clone(&self.record(slot).written);
        match written.life {
            None => {}
            Some(RecordLife::Until { .. }) => {
                self.durable_timers -= 1;
                let armed = core::mem::replace(&mut self.record_mut(slot).armed, UNARMED);
                self.deadlines.disarm(armed, Due::Record(slot));
            }
            Some(RecordLife::Bound(token)) => self.unbind(token, &written.key),
        }
    }

    fn unbind(&mut self, token: Token, key: &RecordKey) {
        let bound = self.bound.get_mut(&token).expect("what is bound is known by its lease");
        bound.remove(key);
        if bound.is_empty() {
            self.bound.remove(&token);
            self.orphaned.remove(&token);
        }
    }

    /// A lease is no more: what is bound to it is to be deleted.
    pub(crate) fn orphan(&mut self, token: Token) {
        if self.bound.contains_key(&token) {
            self.orphaned.insert(token);
        }
    }

    /// Everything durable is there again: what ran out is due by the clock as it now is, and what
    /// was bound to leases that are no more is to be deleted.
    pub(crate) fn start_records_over(&mut self) {
        let timed: alloc::vec::Vec<(u32, DurableMs)> = self
            .records
            .iter()
            .filter_map(|(index, record)| match record.written.life {
                Some(RecordLife::Until { at, .. }) => Some((slot_of(index), at)),
                Some(RecordLife::Bound(_)) | None => None,
            })
            .collect();
        for (slot, at) in timed {
            self.deadlines.disarm(self.record(slot).armed, Due::Record(slot));
            let at = self.volatile(at);
            self.deadlines.arm(at, Due::Record(slot));
            self.record_mut(slot).armed = at;
        }
        let is_live = |token: &Token, of: &alloc::collections::BTreeMap<RecordKey, u32>| {
            let slot = of.values().next().expect("a lease is known by what is bound to it");
            self.space(self.record(*slot).space).leases.contains_key(token)
        };
        self.orphaned = self
            .bound
            .iter()
            .filter(|(token, of)| !is_live(token, of))
            .map(|(token, _)| *token)
            .collect();
    }

    fn record_mut(&mut self, slot: u32) -> &mut Record {
        self.records.get_mut(slot as usize).expect("slots of records are kept true")
    }

    pub(crate) fn absorb_protection(&mut self, protection: &Protection) {
        let space = self.ensure_space(&protection.namespace);
        let (prefix, resource) = (&protection.prefix, &protection.resource);
        let held = self.space_mut(space);
        let of = held.protections.entry(prefix.clone()).or_default();
        if of.insert(resource.clone(), protection.revision).is_none() {
            held.protection_count += 1;
            held.bytes += protection.bytes();
        }
    }

    pub(crate) fn absorb_unprotection(&mut self, protection: &Protection) {
        let Some(space) = self.find_space(&protection.namespace) else { return };
        let held = self.space_mut(space);
        let Some(of) = held.protections.get_mut(&protection.prefix) else { return };
        let is_older = |since: &Revision| *since <= protection.revision;
        if of.get(&protection.resource).is_none_or(|since| !is_older(since)) {
            return;
        }
        of.remove(&protection.resource);
        if of.is_empty() {
            held.protections.remove(&protection.prefix);
        }
        held.protection_count -= 1;
        held.bytes -= protection.bytes();
        self.drop_space_if_idle(space);
    }
}

impl RecordWritten {
    /// What it counts against its namespace's bytes.
    pub(crate) fn bytes(&self) -> u64 {
        const FIXED: usize = 320;
        let by = self.written_by.as_ref().map_or(0, |by| by.as_str().len());
        let names = 2 * self.key.as_str().len() + self.content_type.as_str().len() + by;
        (FIXED + names + self.value.len()) as u64
    }
}

impl Protection {
    /// What it counts against its namespace's bytes.
    pub(crate) fn bytes(&self) -> u64 {
        const FIXED: usize = 160;
        (FIXED + self.prefix.as_str().len() + self.resource.as_str().len()) as u64
    }
}
