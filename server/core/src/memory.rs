//! Replay memory: what earlier requests achieved, so that a retry is told and not done again.
//!
//! Owns effects, ended leases and abandoned ids for [`limits::MEMORY_MS`]. Ids of live
//! grants sit in the grants, ids of waiters in the waiters. Logged, never snapshotted;
//! nothing is forgotten early.

use alloc::collections::VecDeque;

use crate::{
    change::{Effect, LeaseEnded},
    limits,
    refusal::LeaseEnd,
    table::{Hasher, Table},
    types::{CommandHash, LeaseId, Ms, Namespace, RequestHash, Revision, Token},
};

/// What a remembered request id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// It had acquired a lease that has ended.
    LeaseEnded {
        /// What was asked.
        command: CommandHash,
        /// How the lease ended.
        end: LeaseEnd,
        /// The token it had.
        token: Token,
    },
    /// It had another effect.
    Effect {
        /// What was asked.
        command: CommandHash,
        /// What to tell again.
        effect: Effect,
    },
    /// It must not take effect any more.
    Abandoned,
}

/// An ended lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The token it had.
    pub token: Token,
    /// How it ended.
    pub end: LeaseEnd,
    /// When it ended.
    pub revision: Revision,
}

/// The memory.
pub struct Memory {
    hasher: Hasher,
    requests: Table<RequestEntry>,
    leases: Table<LeaseEntry>,
    forgetting: VecDeque<(Ms, Key)>,
    bytes: u64,
    kept_bytes: u64,
}

struct RequestEntry {
    id: RequestHash,
    forget_at: Ms,
    past: Past,
}

struct LeaseEntry {
    key: (u64, LeaseId),
    forget_at: Ms,
    ended: Ended,
}

#[derive(Clone, Copy)]
enum Key {
    Request(RequestHash),
    Lease(u64, LeaseId),
}

/// When what is remembered without end is forgotten.
const NEVER: Ms = Ms(u64::MAX);

/// What an entry is counted as: its slot, its share of empty slots, its place in the queue.
const REQUEST_BYTES: u64 = 120;
/// The same for an ended lease.
const LEASE_BYTES: u64 = 96;

// === impl Memory ===

impl Memory {
    /// An empty memory.
    #[must_use]
    pub fn new(hasher: Hasher) -> Self {
        Self {
            hasher,
            requests: Table::new(),
            leases: Table::new(),
            forgetting: VecDeque::new(),
            bytes: 0,
            kept_bytes: 0,
        }
    }

    /// What this request id stands for.
    #[must_use]
    pub fn request(&self, id: RequestHash) -> Option<&Past> {
        let hash = self.hasher.hash(&id);
        self.requests.find(hash, |entry| entry.id == id).map(|entry| &entry.past)
    }

    /// The ended lease with this id.
    #[must_use]
    pub fn lease(&self, namespace: &Namespace, id: LeaseId) -> Option<Ended> {
        let key = (self.namespace_key(namespace), id);
        let hash = self.hasher.hash(&key);
        self.leases.find(hash, |entry| entry.key == key).map(|entry| entry.ended)
    }

    /// What all entries are counted as, bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of request ids remembered.
    #[must_use]
    pub const fn request_count(&self) -> usize {
        self.requests.len()
    }

    /// When the next entry is to be forgotten.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Ms> {
        self.forgetting.front().map(|(at, _)| *at)
    }

    /// How many entries are due to be forgotten, at most `most`.
    #[must_use]
    pub fn due(&self, now: Ms, most: usize) -> usize {
        self.forgetting.iter().take(most).take_while(|(at, _)| *at <= now).count()
    }

    /// Counts a reply that a session keeps.
    pub(crate) fn count_reply(&mut self, past: &Past) {
        self.bytes += past.bytes();
        self.kept_bytes += past.bytes();
    }

    /// It is kept no longer.
    pub(crate) fn discount_reply(&mut self, past: &Past) {
        self.bytes -= past.bytes();
        self.kept_bytes -= past.bytes();
    }

    /// What of it sessions keep.
    pub(crate) const fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Remembers how a lease ended, by its id; `None`: until it is taken back.
    pub(crate) fn remember_end(&mut self, now: Option<Ms>, ended: &LeaseEnded) {
        let key = (self.namespace_key(&ended.namespace), ended.lease_id);
        let forget_at = now.map_or(NEVER, |now| now.plus(limits::MEMORY_MS));
        let row = Ended { token: ended.token, end: ended.end, revision: ended.revision };
        let hash = self.hasher.hash(&key);
        if let Some(entry) = self.leases.find_mut(hash, |entry| entry.key == key) {
            entry.ended = row;
            entry.forget_at = forget_at;
        } else {
            let entry = LeaseEntry { key, forget_at, ended: row };
            let hasher = self.hasher.clone();
            self.leases.insert(hash, entry, |other| hasher.hash(&other.key));
            self.bytes += LEASE_BYTES;
        }
        if now.is_some() {
            self.forgetting.push_back((forget_at, Key::Lease(key.0, key.1)));
        }
    }

    /// Forgets the end of a lease that was remembered without end.
    pub(crate) fn take_back_end(&mut self, namespace: &Namespace, id: LeaseId) {
        let key = (self.namespace_key(namespace), id);
        let hash = self.hasher.hash(&key);
        let gone = self.leases.remove(hash, |entry| entry.key == key && entry.forget_at == NEVER);
        if gone.is_some() {
            self.bytes -= LEASE_BYTES;
        }
    }

    /// Remembers that a request must not take effect any more.
    pub(crate) fn abandon(&mut self, now: Ms, id: RequestHash) {
        self.keep_request(now, id, Past::Abandoned);
    }

    /// Forgets up to `count` entries whose time has come.
    pub(crate) fn forget(&mut self, now: Ms, count: usize) {
        for _ in 0..count {
            let Some((at, key)) = self.forgetting.front().copied() else { return };
            if at > now {
                return;
            }
            self.forgetting.pop_front();
            match key {
                Key::Request(id) => self.forget_request(now, id),
                Key::Lease(namespace, id) => self.forget_lease(now, (namespace, id)),
            }
        }
    }

    /// Remembers what a request came to, for a while.
    pub(crate) fn keep_request(&mut self, now: Ms, id: RequestHash, past: Past) {
        let forget_at = now.plus(limits::MEMORY_MS);
        let hash = self.hasher.hash(&id);
        self.bytes += past.bytes();
        if let Some(entry) = self.requests.find_mut(hash, |entry| entry.id == id) {
            self.bytes -= entry.past.bytes();
            entry.past = past;
            entry.forget_at = forget_at;
        } else {
            let entry = RequestEntry { id, forget_at, past };
            let hasher = self.hasher.clone();
            self.requests.insert(hash, entry, |other| hasher.hash(&other.id));
        }
        self.forgetting.push_back((forget_at, Key::Request(id)));
    }

    /// An entry that was renewed meanwhile stays: a later place in the queue stands for it.
    fn forget_request(&mut self, now: Ms, id: RequestHash) {
        let hash = self.hasher.hash(&id);
        let gone = self.requests.remove(hash, |entry| entry.id == id && entry.forget_at <= now);
        if let Some(entry) = gone {
            self.bytes -= entry.past.bytes();
        }
    }

    fn forget_lease(&mut self, now: Ms, key: (u64, LeaseId)) {
        let hash = self.hasher.hash(&key);
        let gone = self.leases.remove(hash, |entry| entry.key == key && entry.forget_at <= now);
        if gone.is_some() {
            self.bytes -= LEASE_BYTES;
        }
    }

    fn namespace_key(&self, namespace: &Namespace) -> u64 {
        self.hasher.hash(namespace.as_str()).get()
    }
}

// === impl Past ===

impl Past {
    /// What it is counted as.
    pub(crate) fn bytes(&self) -> u64 {
        REQUEST_BYTES + extra_bytes(self)
    }

    /// What a request had achieved.
    pub(crate) fn of(command: CommandHash, effect: &Effect) -> Self {
        match effect {
            Effect::LeaseEnded { end, token } => {
                Self::LeaseEnded { command, end: *end, token: *token }
            }
            Effect::Released
            | Effect::ForceReleased { .. }
            | Effect::Transacted { .. }
            | Effect::Transferred { .. }
            | Effect::Acquired { .. }
            | Effect::RecordPut(_)
            | Effect::Incremented { .. }
            | Effect::RecordDeleted { .. }
            | Effect::PrefixProtected { .. }
            | Effect::PrefixUnprotected => Self::Effect { command, effect: effect.clone() },
        }
    }
}

/// What an entry weighs beyond its slot.
fn extra_bytes(past: &Past) -> u64 {
    match past {
        Past::LeaseEnded { .. } | Past::Abandoned => 0,
        Past::Effect { effect, .. } => match effect {
            Effect::Released
            | Effect::Acquired { .. }
            | Effect::Transferred { .. }
            | Effect::RecordPut(_)
            | Effect::Incremented { .. }
            | Effect::RecordDeleted { .. }
            | Effect::PrefixProtected { .. }
            | Effect::PrefixUnprotected
            | Effect::LeaseEnded { .. } => 0,
            Effect::ForceReleased { .. } | Effect::Transacted { .. } => effect.weight() as u64,
        },
    }
}
