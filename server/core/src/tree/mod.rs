//! The tree of resources: one node for each segment of a path that is held, waited for, or above
//! such a one.
//!
//! Owns nodes, who is found at them, and the counts and orders that make a question about a whole
//! subtree cost as much as its depth. What may be granted is not decided here.

mod crowd;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};
use core::cmp::Reverse;

use crate::{
    absorb::slot_of,
    state::State,
    table::KeyHash,
    types::{Mode, Permits, Reach, ResourceName, Token},
};

/// A slot that is none.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// Marks the parent of a first segment: the rest is the slot of its namespace.
const ROOT: u32 = 1 << 31;

/// One segment of a path. Small, as a million of these are kept.
pub(crate) struct Node {
    /// A path that this node's path begins; shared with a lease or waiter.
    name: Arc<str>,
    /// Where its segment begins there.
    start: u16,
    /// Where it ends.
    end: u16,
    /// The node above, or [`ROOT`] and the namespace.
    parent: u32,
    /// The lease of the only holder, if that has no other claim; [`NOWHERE`]: nobody, or those in
    /// the crowd.
    holder: u32,
    /// The next child of the same parent.
    next: u32,
    /// The one before.
    before: u32,
    /// What few nodes have.
    more: Option<Box<More>>,
}

/// What nodes have that are no quiet leaves.
pub(crate) struct More {
    first_child: u32,
    pub(crate) below: Below,
    pub(crate) crowd: Option<Box<Crowd>>,
    /// Attached waiters below.
    pub(crate) waiting: Option<Box<Waiting>>,
}

/// What is below a node, the node itself not among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) children: u32,
    /// Claims of leases.
    pub(crate) claims: u32,
    /// Those that are not shared.
    pub(crate) unshared: u32,
}

/// Those who share a resource, and those who wait for it.
#[derive(Default)]
pub(crate) struct Crowd {
    /// By token; all holders, or none when the node's holder is the only one.
    pub(crate) sharers: BTreeMap<(Token, u32), Share>,
    /// Those of them that reach down.
    pub(crate) deep: BTreeSet<(Token, u32)>,
    tally: Tally,
    pub(crate) queue: Queue,
    pub(crate) unsettled: Option<Unsettled>,
}

/// Waiters that are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// From which one on.
    pub(crate) from: QueueKey,
    /// And then, as more has ended meanwhile, from the first again: what is marked again and again
    /// is looked at to its end all the same.
    again: bool,
}

/// How one of several holders holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) mode: Mode,
    pub(crate) reach: Reach,
}

/// Who holds one node, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) exclusive: u32,
    pub(crate) shared: u32,
    /// Of the two, those that reach down.
    pub(crate) exclusive_subtree: u32,
    pub(crate) shared_subtree: u32,
    /// Leases with permits.
    pub(crate) permits: u32,
    /// The permits they have.
    pub(crate) used: u64,
}

/// Who waits for a resource.
#[derive(Default)]
pub(crate) struct Queue {
    /// Attached waiters: for each class in the order in which they will be served.
    pub(crate) attached: BTreeMap<(Class, QueueKey), Queued>,
    /// Waiters, detached ones included.
    pub(crate) total: u32,
    /// Those of them that ask for permits.
    permits: u32,
    /// Of how many, while any holder or waiter has or asks for permits.
    limit: u32,
}

/// What a waiter asks of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Exclusive,
    Shared,
    ExclusiveSubtree,
    SharedSubtree,
    Permits,
}

/// One attached waiter in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) waiter: u32,
    pub(crate) permits: u32,
}

/// Attached waiters below a node, those for shared claims and the others, in their order. One that
/// has several claims there is there several times, by the number of the claim.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) shared: BTreeMap<(QueueKey, u8), u32>,
    pub(crate) unshared: BTreeMap<(QueueKey, u8), u32>,
    pub(crate) unsettled: Option<Unsettled>,
}

/// Place in a queue: higher priority first, then first come, first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub(crate) descending: Reverse<i8>,
    pub(crate) seq: u64,
}

/// Waiters that are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Those of this node.
    At(u32),
    /// Those below this node.
    Below(u32),
}

// === impl Class ===

impl Class {
    pub(crate) const ALL: [Self; 5] =
        [Self::Exclusive, Self::Shared, Self::ExclusiveSubtree, Self::SharedSubtree, Self::Permits];

    pub(crate) const fn of(mode: Mode, reach: Reach) -> Self {
        match (mode, reach) {
            (Mode::Exclusive, Reach::Exact) => Self::Exclusive,
            (Mode::Shared, Reach::Exact) => Self::Shared,
            (Mode::Exclusive, Reach::Subtree) => Self::ExclusiveSubtree,
            (Mode::Shared, Reach::Subtree) => Self::SharedSubtree,
            (Mode::Permits(_), _) => Self::Permits,
        }
    }

    /// The mode of its claims; how many permits they are about doesn't matter here.
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::Exclusive | Self::ExclusiveSubtree => Mode::Exclusive,
            Self::Shared | Self::SharedSubtree => Mode::Shared,
            Self::Permits => Mode::Permits(Permits::ONE),
        }
    }

    pub(crate) const fn is_subtree(self) -> bool {
        matches!(self, Self::ExclusiveSubtree | Self::SharedSubtree)
    }

    pub(crate) const fn is_shared(self) -> bool {
        matches!(self, Self::Shared | Self::SharedSubtree)
    }

    /// The two may not be held at one node by different leases. (Permits have a sum beside that.)
    pub(crate) const fn clashes(self, other: Self) -> bool {
        !((self.is_shared() && other.is_shared())
            || (matches!(self, Self::Permits) && matches!(other, Self::Permits)))
    }
}

// === impl QueueKey ===

impl QueueKey {
    /// Before all others.
    pub(crate) const FIRST: Self = Self { descending: Reverse(i8::MAX), seq: 0 };

    /// Behind all others.
    pub(crate) const LAST: Self = Self { descending: Reverse(i8::MIN), seq: u64::MAX };

    /// The first place behind this one.
    pub(crate) const fn next(self) -> Self {
        Self { descending: self.descending, seq: self.seq + 1 }
    }

    /// Where a newcomer of this priority comes.
    pub(crate) const fn newcomer(priority: i8) -> Self {
        Self { descending: Reverse(priority), seq: u64::MAX }
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, share: Share) {
        self.change(share, |count| *count += 1, |used, more| *used += more);
    }

    fn remove(&mut self, share: Share) {
        self.change(share, |count| *count -= 1, |used, less| *used -= less);
    }

    fn change(&mut self, share: Share, count: fn(&mut u32), used: fn(&mut u64, u64)) {
        match share.mode {
            Mode::Exclusive => count(&mut self.exclusive),
            Mode::Shared => count(&mut self.shared),
            Mode::Permits(permits) => {
                count(&mut self.permits);
                used(&mut self.used, u64::from(permits.count()));
            }
        }
        match (share.mode, share.reach) {
            (Mode::Exclusive, Reach::Subtree) => count(&mut self.exclusive_subtree),
            (Mode::Shared, Reach::Subtree) => count(&mut self.shared_subtree),
            (Mode::Exclusive | Mode::Shared | Mode::Permits(_), _) => {}
        }
    }

    /// How many of them clash with a claim at this node.
    pub(crate) const fn clashes_here(&self, mode: Mode) -> u32 {
        match mode {
            Mode::Exclusive => self.exclusive + self.shared + self.permits,
            Mode::Shared => self.exclusive + self.permits,
            Mode::Permits(_) => self.exclusive + self.shared,
        }
    }

    /// How many of them clash with a claim further down.
    pub(crate) const fn clashes_above(&self, mode: Mode) -> u32 {
        match mode {
            Mode::Shared => self.exclusive_subtree,
            Mode::Exclusive | Mode::Permits(_) => self.exclusive_subtree + self.shared_subtree,
        }
    }
}

// === impl Queue ===

impl Queue {
    /// The first attached waiter of a class, if it stands before `key`.
    pub(crate) fn first_before(&self, class: Class, key: QueueKey) -> Option<(QueueKey, Queued)> {
        let mut waiters = self.attached.range((class, QueueKey::FIRST)..(class, key));
        waiters.next().map(|((_, key), queued)| (*key, *queued))
    }

    /// An attached waiter stands at `key` or behind it.
    pub(crate) fn has_from(&self, key: QueueKey, only_subtrees: bool) -> bool {
        let mut classes =
            Class::ALL.into_iter().filter(|class| !only_subtrees || class.is_subtree());
        classes.any(|class| {
            self.attached.range((class, key)..=(class, QueueKey::LAST)).next().is_some()
        })
    }

    /// An attached waiter asks for the subtree.
    pub(crate) fn wants_subtree(&self) -> bool {
        self.has_from(QueueKey::FIRST, true)
    }

    /// Some waiter, attached or not, asks for permits.
    pub(crate) const fn wants_permits(&self) -> bool {
        self.permits > 0
    }

    /// Attached waiters of a class before `key`.
    pub(crate) fn before(
        &self,
        class: Class,
        key: QueueKey,
    ) -> btree_map::Range<'_, (Class, QueueKey), Queued> {
        self.attached.range((class, QueueKey::FIRST)..(class, key))
    }
}

// === impl Node ===

impl Node {
    /// The path.
    pub(crate) fn path(&self) -> &str {
        self.name.get(..usize::from(self.end)).expect("a node's path ends within its name")
    }

    fn segment(&self) -> &str {
        let range = usize::from(self.start)..usize::from(self.end);
        self.name.get(range).expect("a node's segment lies within its name")
    }

    pub(crate) const fn parent(&self) -> Option<u32> {
        if self.parent & ROOT == 0 { Some(self.parent) } else { None }
    }

    pub(crate) fn below(&self) -> Below {
        self.more.as_deref().map(|more| more.below).unwrap_or_default()
    }

    pub(crate) fn crowd(&self) -> Option<&Crowd> {
        self.more.as_deref()?.crowd.as_deref()
    }

    pub(crate) fn waiting(&self) -> Option<&Waiting> {
        self.more.as_deref()?.waiting.as_deref()
    }

    /// Whoever waits, attached or not; `None`: nobody does.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.crowd().map(|crowd| &crowd.queue).filter(|queue| queue.total > 0)
    }

    pub(crate) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_with(|| {
            Box::new(More {
                first_child: NOWHERE,
                below: Below::default(),
                crowd: None,
                waiting: None,
            })
        })
    }

    pub(crate) fn crowd_mut(&mut self) -> &mut Crowd {
        self.more_mut().crowd.get_or_insert_default()
    }

    /// The lease of the only holder, if it has no claim but this.
    pub(crate) fn sole_holder(&self) -> Option<u32> {
        (self.holder != NOWHERE).then_some(self.holder)
    }

    /// Leases that hold it, oldest grant first.
    pub(crate) fn holders(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        let crowd = self.crowd().map(|crowd| crowd.sharers.keys().map(|(_, lease)| *lease));
        self.sole_holder().into_iter().chain(crowd.into_iter().flatten())
    }

    pub(crate) fn holder_count(&self) -> usize {
        let crowd = self.crowd().map_or(0, |crowd| crowd.sharers.len());
        usize::from(self.holder != NOWHERE) + crowd
    }

    fn is_idle(&self) -> bool {
        self.holder == NOWHERE
            && self.more.as_deref().is_none_or(|more| {
                more.below.children == 0 && more.crowd.is_none() && more.waiting.is_none()
            })
    }

    /// Drops what holds nothing any more.
    fn tidy(&mut self) {
        let Some(more) = self.more.as_deref_mut() else { return };
        if let Some(crowd) = more.crowd.as_deref()
            && crowd.sharers.is_empty()
            && crowd.queue.total == 0
        {
            more.crowd = None;
        }
        if let Some(waiting) = more.waiting.as_deref()
            && waiting.shared.is_empty()
            && waiting.unshared.is_empty()
        {
            more.waiting = None;
        }
        if more.below.children == 0 && more.crowd.is_none() && more.waiting.is_none() {
            self.more = None;
        }
    }
}

// === finding and making nodes ===

impl State {
    pub(crate) fn node(&self, slot: u32) -> &Node {
        self.nodes.get(slot as usize).expect("slots of nodes are kept true")
    }

    pub(crate) fn node_mut(&mut self, slot: u32) -> &mut Node {
        self.nodes.get_mut(slot as usize).expect("slots of nodes are kept true")
    }

    fn segment_hash(&self, parent: u32, segment: &str) -> KeyHash {
        self.hasher.hash(&(parent, segment))
    }

    fn find_child(&self, parent: u32, segment: &str) -> Option<u32> {
        let is = |slot: &u32| {
            let node = self.node(*slot);
            node.parent == parent && node.segment() == segment
        };
        self.node_names.find(self.segment_hash(parent, segment), is).copied()
    }

    /// The nodes of a path that there are, from the first segment on; `true`: that is all of it.
    pub(crate) fn walk(&self, space: u32, path: &str) -> impl Iterator<Item = (u32, bool)> {
        let mut parent = ROOT | space;
        let mut rest = Some(path);
        core::iter::from_fn(move || {
            let (segment, further) = match rest?.split_once('/') {
                Some((segment, further)) => (segment, Some(further)),
                None => (rest?, None),
            };
            let slot = self.find_child(parent, segment)?;
            parent = slot;
            rest = further;
            Some((slot, further.is_none()))
        })
    }

    pub(crate) fn find_node(&self, space: u32, name: &ResourceName) -> Option<u32> {
        self.walk(space, name.as_str()).last().and_then(|(slot, is_all)| is_all.then_some(slot))
    }

    /// The nodes above one, from its parent up.
    pub(crate) fn above(&self, slot: u32) -> impl Iterator<Item = u32> {
        let mut at = self.node(slot).parent();
        core::iter::from_fn(move || {
            let here = at?;
            at = self.node(here).parent();
            Some(here)
        })
    }

    pub(crate) fn ensure_node(&mut self, space: u32, name: &ResourceName) -> u32 {
        let mut parent = ROOT | space;
        let mut start = 0;
        loop {
            let rest = name.as_str().get(start..).expect("a segment begins here");
            let end = rest.find('/').map_or(name.as_str().len(), |length| start + length);
            let segment = name.as_str().get(start..end).expect("a segment ends there");
            let slot = match self.find_child(parent, segment) {
                Some(slot) => slot,
                None => self.insert_node(parent, name, start, end),
            };
            if end == name.as_str().len() {
                return slot;
            }
            parent = slot;
            start = end + 1;
        }
    }

    fn insert_node(&mut self, parent: u32, name: &ResourceName, start: usize, end: usize) -> u32 {
        let short = |at: usize| u16::try_from(at).expect("names are short");
        let node = Node {
            name: name.shared(),
            start: short(start),
            end: short(end),
            parent,
            holder: NOWHERE,
            next: NOWHERE,
            before: NOWHERE,
            more: None,
        };
        let hash = self.segment_hash(parent, node.segment());
        let slot = slot_of(self.nodes.insert(node));
        assert!(slot < ROOT, "quotas keep nodes below 2^31");
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.node_names.insert(hash, slot, |at| {
            let known = nodes.get(*at as usize).expect("slots of nodes are kept true");
            hasher.hash(&(known.parent, known.segment()))
        });
        if let Some(above) = self.node(slot).parent() {
            let more = self.node_mut(above).more_mut();
            more.below.children += 1;
            let first = core::mem::replace(&mut more.first_child, slot);
            self.node_mut(slot).next = first;
            if first != NOWHERE {
                self.node_mut(first).before = slot;
            }
        }
        slot
    }

    /// Drops a node, and those above it, that nobody needs.
    pub(crate) fn drop_node_if_idle(&mut self, slot: u32) {
        let mut at = Some(slot);
        while let Some(slot) = at {
            self.node_mut(slot).tidy();
            if !self.node(slot).is_idle() {
                return;
            }
            let node = self.node(slot);
            let (parent, next, before) = (node.parent, node.next, node.before);
            at = node.parent();
            let hash = self.segment_hash(parent, node.segment());
            let known = self.node_names.remove(hash, |known| *known == slot);
            assert!(known.is_some(), "every node is found by its segment");
            self.nodes.remove(slot as usize);
            if next != NOWHERE {
                self.node_mut(next).before = before;
            }
            if before != NOWHERE {
                self.node_mut(before).next = next;
            }
            if let Some(above) = at {
                let more = self.node_mut(above).more_mut();
                more.below.children -= 1;
                if before == NOWHERE {
                    more.first_child = next;
                }
            }
        }
    }

    /// The children of a node, in no order that means anything but the same every time.
    pub(crate) fn children(&self, slot: u32) -> impl Iterator<Item = u32> {
        let mut at = self.node(slot).more.as_deref().map_or(NOWHERE, |more| more.first_child);
        core::iter::from_fn(move || {
            let here = at;
            if here == NOWHERE {
                return None;
            }
            at = self.node(here).next;
            Some(here)
        })
    }
}
