//! Who holds and who waits at the nodes of the tree, counted and in order; and where to look again
//! when something of it ends.

use alloc::collections::BTreeMap;

use super::{
    Class, Crowd, Mark, NOWHERE, Queue, QueueKey, Queued, Share, Tally, Unsettled, Waiting,
};
use crate::{
    limits,
    state::State,
    types::{Claim, Mode, Reach, Token},
};

// === holders ===

impl State {
    /// Who holds a node, counted.
    pub(crate) fn tally(&self, slot: u32) -> Tally {
        let node = self.node(slot);
        let mut tally = node.crowd().map(|crowd| crowd.tally).unwrap_or_default();
        if let Some(lease) = node.sole_holder() {
            let claim = self.lease(lease).granted.only_claim().expect("it has no other claim");
            tally.add(Share { mode: claim.mode, reach: claim.reach });
        }
        tally
    }

    /// Adds a holder; what it may not share with was excluded by the decision.
    pub(crate) fn hold(&mut self, slot: u32, lease: u32, token: Token, claim: Claim<'_>) {
        let share = Share { mode: claim.mode, reach: claim.reach };
        let tally = self.tally(slot);
        assert!(tally.clashes_here(claim.mode) == 0, "holders of one resource share it");
        let is_only = self.lease(lease).granted.only_claim().is_some();
        let is_flat = is_only && !matches!(claim.mode, Mode::Permits(_));
        if self.node(slot).holder_count() == 0 && is_flat {
            self.node_mut(slot).holder = lease;
        } else {
            if let Some(first) = self.node(slot).sole_holder() {
                let known = &self.lease(first).granted;
                let other = known.only_claim().expect("it has no other claim");
                let (key, of) =
                    ((known.token, first), Share { mode: other.mode, reach: other.reach });
                let node = self.node_mut(slot);
                node.holder = NOWHERE;
                node.crowd_mut().join(key, of);
            }
            let crowd = self.node_mut(slot).crowd_mut();
            crowd.join((token, lease), share);
            crowd.queue.set_limit(claim.mode);
        }
        self.count_below(slot, claim.mode, |count| *count += 1);
    }

    /// Takes a holder away.
    pub(crate) fn let_go(&mut self, slot: u32, lease: u32, token: Token, claim: Claim<'_>) {
        let node = self.node_mut(slot);
        if node.holder == lease {
            node.holder = NOWHERE;
        } else {
            node.crowd_mut().leave((token, lease));
            self.flatten(slot);
        }
        self.count_below(slot, claim.mode, |count| *count -= 1);
        self.mark_freed(slot, claim.reach);
        self.drop_node_if_idle(slot);
    }

    /// The last of several holders needs no crowd.
    fn flatten(&mut self, slot: u32) {
        let Some(crowd) = self.node(slot).crowd().filter(|crowd| crowd.sharers.len() == 1) else {
            return;
        };
        let (key, share) = crowd.sharers.first_key_value().map(|(k, s)| (*k, *s)).expect("one");
        let is_only = self.lease(key.1).granted.only_claim().is_some();
        if is_only && !matches!(share.mode, Mode::Permits(_)) {
            let node = self.node_mut(slot);
            node.crowd_mut().leave(key);
            node.holder = key.1;
        }
    }

    fn count_below(&mut self, slot: u32, mode: Mode, change: fn(&mut u32)) {
        let mut at = self.node(slot).parent();
        while let Some(above) = at {
            let node = self.node_mut(above);
            let below = &mut node.more_mut().below;
            change(&mut below.claims);
            if mode != Mode::Shared {
                change(&mut below.unshared);
            }
            at = node.parent();
        }
    }

    /// Of how many permits a node is, while anybody has or wants some.
    pub(crate) fn limit_of(&self, slot: u32) -> Option<u32> {
        let crowd = self.node(slot).crowd()?;
        (crowd.tally.permits > 0 || crowd.queue.permits > 0).then_some(crowd.queue.limit)
    }
}

impl Crowd {
    fn join(&mut self, key: (Token, u32), share: Share) {
        let before = self.sharers.insert(key, share);
        assert!(before.is_none(), "a lease holds a node once");
        self.tally.add(share);
        if share.reach == Reach::Subtree {
            self.deep.insert(key);
        }
    }

    fn leave(&mut self, key: (Token, u32)) {
        let share = self.sharers.remove(&key).expect("a lease holds its resource");
        self.tally.remove(share);
        self.deep.remove(&key);
    }
}

impl Queue {
    /// Decisions see to it that all who have or want permits agree.
    const fn set_limit(&mut self, mode: Mode) {
        if let Mode::Permits(permits) = mode {
            self.limit = permits.limit();
        }
    }
}

// === waiters ===

impl State {
    /// A waiter stands at a node, attached or not.
    pub(crate) fn enter_queue(&mut self, slot: u32, mode: Mode) {
        let queue = &mut self.node_mut(slot).crowd_mut().queue;
        queue.total += 1;
        if matches!(mode, Mode::Permits(_)) {
            queue.permits += 1;
            queue.set_limit(mode);
        }
    }

    /// It does so no longer.
    pub(crate) fn exit_queue(&mut self, slot: u32, mode: Mode) {
        let queue = &mut self.node_mut(slot).crowd_mut().queue;
        queue.total -= 1;
        queue.permits -= u32::from(matches!(mode, Mode::Permits(_)));
        self.drop_node_if_idle(slot);
    }

    /// A waiter is attached: it counts at its node and above.
    pub(crate) fn attach_at(
        &mut self,
        slot: u32,
        key: QueueKey,
        number: u8,
        queued: Queued,
        class: Class,
    ) {
        let before = self.node_mut(slot).crowd_mut().queue.attached.insert((class, key), queued);
        assert!(before.is_none(), "a place in a queue belongs to one waiter");
        let mut at = self.node(slot).parent();
        while let Some(above) = at {
            let node = self.node_mut(above);
            let waiting = node.more_mut().waiting.get_or_insert_default();
            waiting.of(class).insert((key, number), queued.waiter);
            at = node.parent();
        }
    }

    /// It is not, any longer.
    pub(crate) fn detach_at(&mut self, slot: u32, key: QueueKey, number: u8, class: Class) {
        let gone = self.node_mut(slot).crowd_mut().queue.attached.remove(&(class, key));
        assert!(gone.is_some(), "only an attached waiter is detached");
        let mut at = self.node(slot).parent();
        while let Some(above) = at {
            let node = self.node_mut(above);
            if let Some(waiting) = node.more_mut().waiting.as_deref_mut() {
                waiting.of(class).remove(&(key, number));
            }
            node.tidy();
            at = node.parent();
        }
    }

    /// What was claimed here, by a holder or a waiter, is so no more: whoever it may have kept
    /// waiting is to be looked at.
    pub(crate) fn mark_freed(&mut self, slot: u32, reach: Reach) {
        self.mark(Mark::At(slot));
        if reach == Reach::Subtree {
            self.mark(Mark::Below(slot));
        }
        let mut at = self.node(slot).parent();
        while let Some(above) = at {
            let node = self.node(above);
            let below = node.below();
            // While leases below clash, nobody who wants the subtree can go on.
            if below.unshared == 0 && node.queue().is_some_and(Queue::wants_subtree) {
                self.mark(Mark::At(above));
            }
            at = self.node(above).parent();
        }
    }

    /// One of more waiters for permits than are counted has its own: that frees nothing, but one who
    /// stood too far behind to be judged may now stand near enough.
    pub(crate) fn mark_if_crowded(&mut self, slot: u32) {
        let queue = self.node(slot).queue();
        if queue.is_some_and(|queue| queue.permits as usize > limits::PERMIT_WAITERS_MAX) {
            self.mark(Mark::At(slot));
        }
    }

    /// Puts waiters on the list of those to be looked at, if there are any.
    pub(crate) fn mark(&mut self, mark: Mark) {
        if let Mark::At(slot) = mark
            && self.node(slot).queue().is_none_or(|queue| queue.attached.is_empty())
        {
            return;
        }
        let Some(unsettled) = self.unsettled_mut(mark) else { return };
        match unsettled {
            Some(known) => known.again |= known.from > QueueKey::FIRST,
            None => {
                *unsettled = Some(Unsettled { from: QueueKey::FIRST, again: false });
                self.unsettled.push_back(mark);
            }
        }
    }

    /// Those before `from` were looked at, the rest is to be.
    pub(crate) fn mark_rest(&mut self, mark: Mark, from: QueueKey, again: bool) {
        let Some(unsettled) = self.unsettled_mut(mark) else { return };
        // Marked anew by what was just carried out: that looks from the first again.
        let is_listed = unsettled.is_some();
        *unsettled = Some(Unsettled { from, again: again || is_listed });
        if !is_listed {
            self.unsettled.push_back(mark);
        }
    }

    fn unsettled_mut(&mut self, mark: Mark) -> Option<&mut Option<Unsettled>> {
        let (Mark::At(slot) | Mark::Below(slot)) = mark;
        let more = self.node_mut(slot).more.as_deref_mut()?;
        match mark {
            Mark::At(_) => more.crowd.as_deref_mut().map(|crowd| &mut crowd.unsettled),
            Mark::Below(_) => more.waiting.as_deref_mut().map(|waiting| &mut waiting.unsettled),
        }
    }

    /// From where the waiters of a mark are to be looked at; `None`: not at all.
    pub(crate) fn marked(&self, mark: Mark) -> Option<Unsettled> {
        match mark {
            Mark::At(slot) => self.nodes.get(slot as usize)?.crowd()?.unsettled,
            Mark::Below(slot) => self.nodes.get(slot as usize)?.waiting()?.unsettled,
        }
    }

    /// Takes the first mark off the list.
    pub(crate) fn unmark(&mut self) {
        let Some(mark) = self.unsettled.pop_front() else { return };
        let (Mark::At(slot) | Mark::Below(slot)) = mark;
        if self.nodes.contains(slot as usize)
            && let Some(unsettled) = self.unsettled_mut(mark)
        {
            *unsettled = None;
        }
    }
}

impl Unsettled {
    /// The pass to its end is one of several.
    pub(crate) const fn is_again(self) -> bool {
        self.again
    }
}

impl Waiting {
    /// An attached waiter stands at `key` or behind it.
    pub(crate) fn has_from(&self, key: QueueKey) -> bool {
        [&self.shared, &self.unshared]
            .into_iter()
            .any(|waiters| waiters.range((key, 0)..).next().is_some())
    }

    fn of(&mut self, class: Class) -> &mut BTreeMap<(QueueKey, u8), u32> {
        if class.is_shared() { &mut self.shared } else { &mut self.unshared }
    }
}
