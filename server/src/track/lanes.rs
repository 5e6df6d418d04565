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

/// Bytes of values and transactions that the queued calls of one namespace carry.
const NAMESPACE_BYTES_MAX: usize = 64 << 20;
/// The same of all namespaces together.
const TOTAL_BYTES_MAX: usize = 256 << 20;

/// One lane with a queue per namespace.
#[derive(Debug)]
pub(super) struct Lane {
    limits: LaneLimits,
    queues: BTreeMap<Namespace, Queue>,
    /// Namespaces with something queued, next in turn first.
    turns: VecDeque<Namespace>,
    len: usize,
    /// Of the values and transactions that they carry.
    bytes: usize,
}

/// The calls of one namespace.
#[derive(Debug, Default)]
struct Queue {
    calls: VecDeque<Request>,
    bytes: usize,
}

impl Queue {
    /// The next call and what it carries.
    fn pop(&mut self) -> Option<(Request, usize)> {
        let request = self.calls.pop_front()?;
        let bytes = request.command.bytes();
        self.bytes -= bytes;
        Some((request, bytes))
    }
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
        Self { limits, queues: BTreeMap::new(), turns: VecDeque::new(), len: 0, bytes: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Queues a call behind those of its namespace.
    pub(super) fn push(&mut self, request: Request) -> Result<(), CallError> {
        if self.len >= self.limits.total {
            return Err(overloaded("queued calls of the server", self.limits.total));
        }
        let bytes = request.command.bytes();
        if bytes > 0 && self.bytes + bytes > TOTAL_BYTES_MAX {
            return Err(overloaded("queued bytes of the server", TOTAL_BYTES_MAX));
        }
        if let Some(queue) = self.queues.get_mut(&request.namespace) {
            if queue.calls.len() >= self.limits.namespace {
                return Err(overloaded("queued calls of the namespace", self.limits.namespace));
            }
            if bytes > 0 && queue.bytes + bytes > NAMESPACE_BYTES_MAX {
                return Err(overloaded("queued bytes of the namespace", NAMESPACE_BYTES_MAX));
            }
            queue.bytes += bytes;
            queue.calls.push_back(request);
        } else {
            let namespace = request.namespace.clone();
            self.turns.push_back(namespace.clone());
            self.queues.insert(namespace, Queue { calls: VecDeque::from([request]), bytes });
        }
        self.len += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes up to `most` calls, one from each namespace in turn; no more once they carry
    /// `most_bytes`.
    pub(super) fn take(&mut self, most: usize, most_bytes: usize, taken: &mut Vec<Request>) {
        let (mut calls_left, mut bytes_left) = (most, most_bytes);
        while calls_left > 0
            && bytes_left > 0
            && let Some(namespace) = self.turns.pop_front()
        {
            let is_only = self.turns.is_empty();
            let queue = self.queues.get_mut(&namespace).expect("a turn for every queue");
            while let Some((request, bytes)) = queue.pop() {
                taken.push(request);
                self.len -= 1;
                self.bytes -= bytes;
                calls_left -= 1;
                bytes_left = bytes_left.saturating_sub(bytes);
                // With one namespace there are no turns to take.
                if !is_only || calls_left == 0 || bytes_left == 0 {
                    break;
                }
            }
            if queue.calls.is_empty() {
                self.queues.remove(&namespace);
            } else {
                self.turns.push_back(namespace);
            }
        }
    }
}

fn overloaded(limit: &'static str, maximum: usize) -> CallError {
    CallError::Overloaded { limit, maximum: maximum as u64, retry_after_ms: RETRY_AFTER_MS }
}

#[cfg(test)]
mod tests {
    use singletrack_core::{
        body::{Body, Digest},
        command::{Command, PutRecord, RecordLifetime, Request},
        types::{CallId, ContentType, RecordKey, Value},
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
        lane.take(most, usize::MAX, &mut taken);
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

    fn put(namespace: &str, number: u64, bytes: usize) -> Request {
        let value = Value::Data(Body::new(&vec![7; bytes], |_| Digest([0; 16])));
        let put = PutRecord {
            key: RecordKey::parse("k").unwrap(),
            value,
            content_type: ContentType::default(),
            expect: None,
            lifetime: RecordLifetime::Forever,
            written_by: None,
        };
        Request { command: Command::PutRecord(Box::new(put)), ..call(namespace, number) }
    }

    #[test]
    fn values_are_bounded_by_their_bytes_and_taken_by_them() {
        let mut lane = Lane::new(LaneLimits::default());
        for number in 0..64 {
            lane.push(put("noisy", number, 1 << 20)).unwrap();
        }
        let refused = lane.push(put("noisy", 64, 1)).unwrap_err();
        assert_eq!(refused, overloaded("queued bytes of the namespace", NAMESPACE_BYTES_MAX));
        lane.push(call("noisy", 65)).unwrap();
        lane.push(put("quiet", 66, 1 << 20)).unwrap();
        let mut some = Vec::new();
        lane.take(512, 5 << 19, &mut some);
        let numbers: Vec<_> = some.iter().map(|request| request.call.0).collect();
        assert_eq!(numbers, [0, 66, 1]);
        assert_eq!(taken(&mut lane, 512).len(), 63);
        assert_eq!((lane.len, lane.bytes), (0, 0));
    }
}
