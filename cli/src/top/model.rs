//! What `top` shows, and what a key does to it. Pure: knows no server, no terminal and no clock.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use singletrack::{HeldBy, LeaseInfo, Stats, WaiterInfo};

/// What the server said at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) stats: Stats,
    /// Not all of them, if there are many.
    pub(super) leases: Vec<LeaseInfo>,
    pub(super) waiters: Vec<WaiterInfo>,
    /// There are more than are shown.
    pub(super) has_more_leases: bool,
    pub(super) has_more_waiters: bool,
}

/// What happened a second, between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) granted: f64,
    pub(super) released: f64,
    pub(super) lost: f64,
    pub(super) queued: f64,
    /// Revisions taken, by anything in any namespace.
    pub(super) revisions: f64,
}

/// One who holds what others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocker {
    pub(super) holder: String,
    /// `None`: it is a waiter itself, before the others.
    pub(super) by: Option<HeldBy>,
    /// What they want of it.
    pub(super) resource: String,
    /// Who waits behind it, the longest first.
    pub(super) blocked: Vec<String>,
    /// How long the first of them waits already.
    pub(super) longest: Duration,
    /// What the blocker itself waits for, if it does.
    pub(super) waits_for: Option<String>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Leases,
    Waiters,
    Blockers,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    NextPane,
    Sort,
    Filter,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Char(char),
}

/// What follows from a key beyond what is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Nothing,
    ToQuit,
    /// To look again, as other resources are asked for.
    ToLook,
}

/// Whatever is shown.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) server: String,
    pub(super) namespace: String,
    pub(super) interval: Duration,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) blockers: Vec<Blocker>,
    /// `None`: it takes two looks.
    pub(super) rates: Option<Rates>,
    /// Since when the server can't be reached, and what was said.
    pub(super) trouble: Option<(Duration, String)>,
    /// The time of the last thing that happened, counted from the start.
    pub(super) now: Duration,
    /// Only resources of this name or below it; empty: all.
    pub(super) prefix: String,
    /// What is typed at present to become the prefix.
    pub(super) typing: Option<String>,
    pub(super) pane: Pane,
    /// The column that each pane is sorted by.
    pub(super) sorts: [usize; 3],
    /// The row of each pane that is looked at.
    pub(super) selected: [usize; 3],
    /// The last counts, and when they were taken.
    pub(super) counted: Option<(Duration, Stats)>,
}

/// Rows that a page key goes on by.
const PAGE: usize = 10;

// === impl Pane ===

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Leases, Self::Waiters, Self::Blockers];

    const fn index(self) -> usize {
        match self {
            Self::Leases => 0,
            Self::Waiters => 1,
            Self::Blockers => 2,
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Leases => Self::Waiters,
            Self::Waiters => Self::Blockers,
            Self::Blockers => Self::Leases,
        }
    }

    /// What it can be sorted by, first the order it begins with.
    pub(super) const fn sorts(self) -> &'static [&'static str] {
        match self {
            Self::Leases => &["token", "resource", "holder", "held", "remaining"],
            Self::Waiters => &["queue", "resource", "holder", "priority"],
            Self::Blockers => &["blocked", "longest", "holder"],
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Leases => "Leases",
            Self::Waiters => "Waiters",
            Self::Blockers => "Blockers",
        }
    }
}

// === impl Model: what the server said ===

impl Model {
    /// What was seen at `now`, counted from the start.
    pub(super) fn saw(&mut self, mut snapshot: Snapshot, now: Duration) {
        self.trouble = None;
        self.now = now;
        self.rates = match &self.counted {
            Some((then, before)) => Rates::between(before, &snapshot.stats, now - *then),
            None => None,
        };
        self.counted = Some((now, snapshot.stats));
        snapshot.waiters.retain(|waiter| is_below(waiter, &self.prefix));
        self.blockers = blockers(&snapshot.waiters);
        self.snapshot = Some(snapshot);
        self.sort();
    }

    /// Counts without the rest: what comes next has rates.
    pub(super) fn count_from(&mut self, stats: Stats, now: Duration) {
        self.counted = Some((now, stats));
    }

    /// The server could not be asked at `now`. What was seen before stays.
    pub(super) fn missed(&mut self, error: String, now: Duration) {
        self.now = now;
        self.rates = None;
        self.counted = None;
        let since = self.trouble.take().map_or(now, |(since, _)| since);
        self.trouble = Some((since, error));
    }

    /// How many rows a pane has.
    pub(super) fn rows(&self, pane: Pane) -> usize {
        let snapshot = self.snapshot.as_ref();
        match pane {
            Pane::Leases => snapshot.map_or(0, |it| it.leases.len()),
            Pane::Waiters => snapshot.map_or(0, |it| it.waiters.len()),
            Pane::Blockers => self.blockers.len(),
        }
    }

    /// The row that is looked at; 0 in an empty pane.
    pub(super) fn selected(&self) -> usize {
        let last = self.rows(self.pane).saturating_sub(1);
        self.selected.get(self.pane.index()).copied().unwrap_or(0).min(last)
    }

    /// What the pane is sorted by.
    pub(super) fn sorted_by(&self, pane: Pane) -> &'static str {
        let at = self.sorts.get(pane.index()).copied().unwrap_or(0);
        pane.sorts().get(at).copied().unwrap_or("")
    }

    fn sort(&mut self) {
        let (leases_by, waiters_by, blockers_by) = (
            self.sorted_by(Pane::Leases),
            self.sorted_by(Pane::Waiters),
            self.sorted_by(Pane::Blockers),
        );
        if let Some(snapshot) = &mut self.snapshot {
            let leases = &mut snapshot.leases;
            match leases_by {
                "resource" => leases.sort_by(|a, b| a.resource().cmp(b.resource())),
                "holder" => leases.sort_by(|a, b| a.holder.cmp(&b.holder)),
                "held" => leases.sort_by_key(|it| Reverse(it.held)),
                "remaining" => leases.sort_by_key(|it| it.remaining),
                _ => leases.sort_by_key(|it| it.token),
            }
            let waiters = &mut snapshot.waiters;
            match waiters_by {
                "resource" => waiters.sort_by(|a, b| first_name(a).cmp(first_name(b))),
                "holder" => waiters.sort_by(|a, b| a.holder.cmp(&b.holder)),
                "priority" => waiters.sort_by_key(|it| Reverse(it.priority)),
                // The queue's order is that of waiting.
                _ => waiters.sort_by_key(|it| Reverse(it.waited)),
            }
        }
        match blockers_by {
            "longest" => self.blockers.sort_by_key(|it| Reverse(it.longest)),
            "holder" => self.blockers.sort_by(|a, b| a.holder.cmp(&b.holder)),
            _ => self.blockers.sort_by_key(|it| Reverse(it.blocked.len())),
        }
    }
}

// === impl Model: what a person wants ===

impl Model {
    /// Does what a key says.
    pub(super) fn press(&mut self, key: Key) -> Wanted {
        if self.typing.is_some() {
            return self.typed(key);
        }
        let rows = self.rows(self.pane);
        let last = rows.saturating_sub(1);
        let at = self.selected();
        let to = match key {
            Key::Quit => return Wanted::ToQuit,
            Key::NextPane => {
                self.pane = self.pane.next();
                return Wanted::Nothing;
            }
            Key::Sort => {
                let count = self.pane.sorts().len();
                if let Some(by) = self.sorts.get_mut(self.pane.index()) {
                    *by = (*by + 1) % count;
                }
                self.sort();
                return Wanted::Nothing;
            }
            Key::Filter => {
                self.typing = Some(self.prefix.clone());
                return Wanted::Nothing;
            }
            Key::Up => at.saturating_sub(1),
            Key::Down => (at + 1).min(last),
            Key::PageUp => at.saturating_sub(PAGE),
            Key::PageDown => (at + PAGE).min(last),
            Key::Home => 0,
            Key::End => last,
            Key::Enter | Key::Escape | Key::Backspace | Key::Char(_) => return Wanted::Nothing,
        };
        if let Some(selected) = self.selected.get_mut(self.pane.index()) {
            *selected = to;
        }
        Wanted::Nothing
    }

    /// A key while a prefix is typed.
    fn typed(&mut self, key: Key) -> Wanted {
        let Some(typing) = &mut self.typing else { return Wanted::Nothing };
        match key {
            Key::Char(c) => typing.push(c),
            Key::Backspace => drop(typing.pop()),
            Key::Escape => self.typing = None,
            Key::Enter => {
                self.prefix = std::mem::take(typing).trim_end_matches('/').to_owned();
                self.typing = None;
                return Wanted::ToLook;
            }
            Key::Quit => return Wanted::ToQuit,
            Key::NextPane
            | Key::Sort
            | Key::Filter
            | Key::Up
            | Key::Down
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End => {}
        }
        Wanted::Nothing
    }
}

// === impl Rates ===

impl Rates {
    /// `None` when there is nothing to compare: no time passed, or the server counts anew.
    fn between(before: &Stats, after: &Stats, time: Duration) -> Option<Self> {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = |before: u64, after: u64| Some(after.checked_sub(before)? as f64 / seconds);
        Some(Self {
            granted: rate(before.granted_total, after.granted_total)?,
            released: rate(before.released_total, after.released_total)?,
            lost: rate(before.lost_total, after.lost_total)?,
            queued: rate(before.queued_total, after.queued_total)?,
            revisions: rate(before.revision, after.revision)?,
        })
    }
}

// === who blocks whom ===

/// Whoever is in somebody's way: holders by their token, earlier waiters by their name.
fn blockers(waiters: &[WaiterInfo]) -> Vec<Blocker> {
    let mut found: BTreeMap<(u64, String), Blocker> = BTreeMap::new();
    for waiter in waiters {
        let Some(held) = &waiter.blocked_by else { continue };
        let mut note =
            |token: u64, holder: &str, by: Option<&HeldBy>, resource: Option<&String>| {
                let blocker = found.entry((token, holder.to_owned())).or_insert_with(|| Blocker {
                    holder: holder.to_owned(),
                    by: by.cloned(),
                    resource: resource.unwrap_or(&held.resource).clone(),
                    blocked: Vec::new(),
                    longest: Duration::ZERO,
                    waits_for: None,
                });
                blocker.longest = blocker.longest.max(waiter.waited);
                blocker.blocked.push(waiter.holder.clone());
            };
        for by in &held.holders {
            note(by.token, &by.holder, Some(by), by.resource.as_ref());
        }
        for before in &held.waiters {
            note(0, &before.holder, None, before.resource.as_ref());
        }
    }
    let mut blockers: Vec<Blocker> = found.into_values().collect();
    for blocker in &mut blockers {
        let waits = waiters.iter().find(|it| it.holder == blocker.holder);
        blocker.waits_for = waits.map(|it| first_name(it).to_owned());
    }
    blockers
}

pub(super) fn first_name(waiter: &WaiterInfo) -> &str {
    waiter.targets.first().map_or("", |target| &target.resource)
}

fn is_below(waiter: &WaiterInfo, prefix: &str) -> bool {
    let below = |name: &str| match name.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    };
    waiter.targets.iter().any(|target| below(&target.resource))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
