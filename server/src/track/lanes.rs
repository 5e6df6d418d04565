//! Lanes: calls that wait for their turn.
//!
//! Owns order and fairness: first come, first served within a namespace, round robin between
//! namespaces, each with a bounded share. No lock, no thread.

use std::collections::{BTreeMap, VecDeque};

use singletrack_core::{command::Request, types::Namespace};

use super::CallError;

/// How much may be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Calls of one namespace.
    pub namespace: usize,
    /// Calls of all namespaces together.
    pub total: usize,
}

/// One lane with a queue per namespace.
#[derive(Debug)]
pub(super) struct Lane {
    limits: LaneLimits,
    queues: BTreeMap<Namespace, VecDeque<Request>>,
    /// Namespaces with something queued, next in turn first.
    turns: VecDeque<Namespace>,
    len: usize,
}

/// Calls of a lane that go before something else: those that were there when the last of such
/// had been taken. Later ones don't count, or a flood of them would keep that something from
/// ever happening.
#[derive(Debug, Default)]
pub(super) struct Owed(usize);

/// When a caller who met a full lane may try again.
const RETRY_AFTER_MS: u64 = 100;

impl Owed {
    /// So many calls were taken and so many are left; true while some are owed.
    pub(super) fn note(&mut self, taken: usize, left: usize) -> bool {
        self.0 = if self.0 == 0 { left } else { self.0.saturating_sub(taken).min(left) };
        self.0 > 0
    }
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { namespace: 16_384, total: 65_536 }
    }
}

impl Lane {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self { limits, queues: BTreeMap::new(), turns: VecDeque::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Queues a call behind those of its namespace.
    pub(super) fn push(&mut self, request: Request) -> Result<(), CallError> {
        if self.len >= self.limits.total {
            return Err(overloaded("queued calls of the server", self.limits.total));
        }
        if let Some(queue) = self.queues.get_mut(&request.namespace) {
            if queue.len() >= self.limits.namespace {
                return Err(overloaded("queued calls of the namespace", self.limits.namespace));
            }
            queue.push_back(request);
        } else {
            let namespace = request.namespace.clone();
            self.turns.push_back(namespace.clone());
            self.queues.insert(namespace, VecDeque::from([request]));
        }
        self.len += 1;
        Ok(())
    }

    /// Takes up to `most` calls, one from each namespace in turn.
    pub(super) fn take(&mut self, most: usize, taken: &mut Vec<Request>) {
        if let [_] = self.turns.make_contiguous() {
            self.take_only(most, taken);
            return;
        }
        for _ in 0..most {
            let Some(namespace) = self.turns.pop_front() else { return };
            let queue = self.queues.get_mut(&namespace).expect("a turn for every queue");
            taken.extend(queue.pop_front());
            self.len -= 1;
            if queue.is_empty() {
                self.queues.remove(&namespace);
            } else {
                self.turns.push_back(namespace);
            }
        }
    }

    /// The same with one namespace, which needs no turns.
    fn take_only(&mut self, most: usize, taken: &mut Vec<Request>) {
        let Some(mut entry) = self.queues.first_entry() else { return };
        let queue = entry.get_mut();
        let count = most.min(queue.len());
        taken.extend(queue.drain(..count));
        self.len -= count;
        if queue.is_empty() {
            entry.remove();
            self.turns.clear();
        }
    }
}

fn overloaded(limit: &'static str, maximum: usize) -> CallError {
    CallError::Overloaded { limit, maximum: maximum as u64, retry_after_ms: RETRY_AFTER_MS }
}

#[cfg(test)]
mod tests {
    use singletrack_core::{
        command::{Command, Request},
        types::CallId,
    };

    use super::*;

    fn call(namespace: &str, call: u64) -> Request {
        Request {
            call: CallId(call),
            namespace: Namespace::parse(namespace).unwrap(),
            mark: None,
            origin: None,
            age_ms: 0,
            fences: Box::default(),
            command: Command::ListLeases { after: 0, count: 1, filter: Box::default() },
        }
    }

    fn taken(lane: &mut Lane, most: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        lane.take(most, &mut taken);
        taken.iter().map(|request| request.call.0).collect()
    }

    #[test]
    fn namespaces_take_turns_and_keep_their_own_order() {
        let mut lane = Lane::new(LaneLimits::default());
        for number in 1..=4 {
            lane.push(call("noisy", number)).unwrap();
        }
        lane.push(call("quiet", 10)).unwrap();
        lane.push(call("third", 20)).unwrap();
        assert_eq!(taken(&mut lane, 4), [1, 10, 20, 2]);
        assert_eq!(taken(&mut lane, 4), [3, 4]);
        assert_eq!(taken(&mut lane, 4), [0; 0]);
        assert_eq!(lane.len(), 0);
    }

    #[test]
    fn what_was_there_goes_first_and_a_flood_of_later_calls_does_not() {
        let mut owed = Owed::default();
        assert!(!owed.note(10, 0), "all were taken");
        assert!(owed.note(10, 25), "25 are left");
        assert!(owed.note(10, 900), "15 of them, and newer ones");
        assert!(owed.note(10, 900));
        assert!(!owed.note(10, 900), "those that were there are through");
        assert!(owed.note(10, 900), "now the newer ones are");
        assert!(!owed.note(900, 0));
    }

    #[test]
    fn a_full_namespace_is_refused_by_name_and_others_are_not() {
        let mut lane = Lane::new(LaneLimits { namespace: 2, total: 3 });
        lane.push(call("noisy", 1)).unwrap();
        lane.push(call("noisy", 2)).unwrap();
        let refused = lane.push(call("noisy", 3)).unwrap_err();
        assert_eq!(refused, overloaded("queued calls of the namespace", 2));
        lane.push(call("quiet", 4)).unwrap();
        let refused = lane.push(call("quiet", 5)).unwrap_err();
        assert_eq!(refused, overloaded("queued calls of the server", 3));
        assert_eq!(taken(&mut lane, 9), [1, 4, 2]);
    }
}
