//! Reading records.

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::ops::Bound;

use crate::{
    change::{RecordLife, RecordWritten},
    command::ListRecords,
    limits,
    overlay::View,
    refusal::Refusal,
    reply::{ProtectionInfo, RecordInfo, Reply, Showing},
    types::{RecordKey, ResourceName},
};

/// Decides a get.
pub(crate) fn get(view: View<'_>, key: &RecordKey) -> Result<Reply, Refusal> {
    let written = view.record(key).ok_or(Refusal::NotFound)?;
    Ok(Reply::Record(Box::new(info(view, written, Showing::Shown))))
}

/// Decides a get of several.
pub(crate) fn batch_get(view: View<'_>, keys: &[RecordKey], max_bytes: usize) -> Reply {
    assert!((1..=limits::BATCH_GET_MAX).contains(&keys.len()), "the edge bounds batches");
    let mut room = Room::new(max_bytes);
    let result = |key| {
        let written = view.record(key)?;
        let showing =
            if room.take(written.value.len()) { Showing::Shown } else { Showing::Omitted };
        Some(info(view, written, showing))
    };
    Reply::Records { results: keys.iter().map(result).collect(), revision: view.state.revision }
}

/// Decides a page of the list.
pub(crate) fn list(view: View<'_>, list: &ListRecords) -> Reply {
    assert!((1..=limits::PAGE_MAX).contains(&list.count), "the edge bounds pages");
    let revision = view.state.revision;
    let mut room = Room::new(list.max_bytes);
    let (mut records, mut names): (Vec<RecordInfo>, usize) = (Vec::new(), 0);
    let mut last: Option<&RecordKey> = None;
    let mut slots = within(view, list.prefix.as_ref(), list.after.as_ref()).peekable();
    let showing = if list.with_values { Showing::Shown } else { Showing::Unasked };
    // The next page goes on behind what was looked at, whatever of it was listed.
    for _ in 0..limits::LIST_SCAN_MAX {
        let Some((key, slot)) = slots.peek().copied() else { break };
        let written = &view.state.record(slot).written;
        if view.is_there(written) {
            if list.with_values && !room.take(written.value.len()) {
                break;
            }
            records.push(info(view, written, showing));
            names += written.names();
        }
        last = Some(key);
        slots.next();
        if records.len() == list.count || names > limits::NAMES_BYTES_MAX {
            break;
        }
    }
    let next = last.cloned().filter(|_| slots.next().is_some());
    Reply::RecordPage { records, next, revision }
}

/// Rows of a key and of those below it, behind another.
fn within<'a>(
    view: View<'a>,
    prefix: Option<&RecordKey>,
    after: Option<&RecordKey>,
) -> impl Iterator<Item = (&'a RecordKey, u32)> {
    let space = view.space.map(|space| view.state.space(space));
    let below = prefix.map(RecordKey::below);
    // The key itself comes first; between it and those below it sort others.
    let own = prefix.filter(|_| after.is_none());
    let own = space.zip(own).and_then(|(space, key)| space.records.get_key_value(key));
    let from = match (&below, after) {
        (Some((from, _)), Some(after)) if after >= from => Bound::Excluded(after.clone()),
        (Some((from, _)), _) => Bound::Included(from.clone()),
        (None, Some(after)) => Bound::Excluded(after.clone()),
        (None, None) => Bound::Unbounded,
    };
    let to = below.map_or(Bound::Unbounded, |(_, to)| Bound::Excluded(to));
    let rest =
        space.into_iter().flat_map(move |space| space.records.range((from.clone(), to.clone())));
    own.into_iter().chain(rest).map(|(key, slot)| (key, *slot))
}

/// Decides a page of protections.
pub(crate) fn protections(
    view: View<'_>,
    key: Option<&RecordKey>,
    after: Option<&(RecordKey, ResourceName)>,
    count: usize,
) -> Reply {
    assert!((1..=limits::PAGE_MAX).contains(&count), "the edge bounds pages");
    let space = view.space.map(|space| view.state.space(space));
    let from = after.map_or(Bound::Unbounded, |(prefix, _)| Bound::Included(prefix.clone()));
    let all = space
        .into_iter()
        .flat_map(|space| space.protections.range((from.clone(), Bound::Unbounded)));
    let all =
        all.flat_map(|(prefix, of)| of.iter().map(move |(name, since)| (prefix, name, *since)));
    let covers = |prefix: &RecordKey| key.is_none_or(|key| key.is_within(prefix));
    let is_behind = |prefix: &RecordKey, name: &ResourceName| {
        after.is_none_or(|(last, last_name)| (last, last_name) < (prefix, name))
    };
    let mut found = all.filter(|(prefix, name, _)| covers(prefix) && is_behind(prefix, name));
    let protections: Vec<_> = found
        .by_ref()
        .take(count)
        .map(|(prefix, resource, revision)| ProtectionInfo {
            prefix: prefix.clone(),
            resource: resource.clone(),
            revision,
        })
        .collect();
    Reply::Protections { protections, more: found.next().is_some() }
}

fn info(view: View<'_>, written: &Arc<RecordWritten>, showing: Showing) -> RecordInfo {
    let remaining_ms = match written.life {
        Some(RecordLife::Until { at, .. }) => Some(at.since(view.state.durable_now(view.now))),
        Some(RecordLife::Bound(_)) | None => None,
    };
    RecordInfo { written: Arc::clone(written), remaining_ms, showing, fetched: None }
}

/// Room for the values of one reply; the first always has it.
struct Room {
    left: usize,
    is_new: bool,
}

impl Room {
    const fn new(bytes: usize) -> Self {
        Self { left: bytes, is_new: true }
    }

    /// There is room for so many bytes more.
    fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.left && !self.is_new {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.is_new = false;
        true
    }
}

impl RecordWritten {
    /// What a reply has of it beside its value, bytes.
    fn names(&self) -> usize {
        const FIXED: usize = 64;
        let by = self.written_by.as_ref().map_or(0, |by| by.as_str().len());
        FIXED + self.key.as_str().len() + self.content_type.as_str().len() + by
    }
}
