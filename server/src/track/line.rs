//! A stream's way to the track: many calls under way at once, heard of a batch at a time.
//!
//! No entry of the table of callers and no channel for each call: the number of a call says which
//! line it is of, and what is answered in one step is heard at once. What a line can hold is
//! bounded by what it has under way and by [`NOTICES_MAX`].

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use singletrack_core::{
    command::{Command, Origin, Request},
    decision::NOBODY,
    reply::Reply,
    types::{CallId, Namespace},
};
use tokio::sync::Notify;

use super::{
    CallError, Heard, OfSession, Question,
    fetch::{self, Fetching, Filled},
    handle::{Shared, Turns},
};

/// Notices kept for a line that doesn't listen; further ones are lost, as any of them is a hint.
const NOTICES_MAX: usize = 10_000;
/// Says of a call's number that it is of a line: the line's number and the call's there follow.
const OF_A_LINE: u64 = 1 << 63;
/// Numbers of lines; they come again after so many.
const LINES: u32 = 1 << 31;

/// A stream's way to the track. Dropping it detaches its calls.
pub struct Line {
    shared: Arc<Shared>,
    number: u32,
    sink: Arc<Sink>,
    /// Calls under way, and what the stream knows them by.
    tags: HashMap<u32, u64, RandomState>,
    next: u32,
    /// Reads of several records under way, to be asked again if what they find is overwritten
    /// meanwhile. (That of one is known by its answer.)
    reads: HashMap<u32, Read, RandomState>,
    /// The session of the stream, as its questions name it.
    of: Option<OfSession>,
    /// What is answered and was not heard yet.
    answered: VecDeque<Answered>,
    /// Of the first of these: its values are on their way.
    fetching: Option<Fetching>,
    /// It is known to be its session's.
    is_attached: bool,
}

/// A read, and how often it was asked.
#[derive(Debug)]
struct Read {
    question: Question,
    attempts: u32,
}

/// An answer, and if it is that of a read, what to ask again.
#[derive(Debug)]
struct Answered {
    heard: Heard,
    read: Option<Read>,
}

/// Bytes of answers after which no more are heard at once: the others are fetched and encoded when
/// these are on their way.
const HEARD_BYTES: usize = 1 << 20;

/// Where the driver leaves what a line is to hear.
#[derive(Debug, Default)]
pub(super) struct Sink {
    left: Mutex<Left>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Left {
    answers: Vec<(u32, Result<Reply, CallError>)>,
    notices: usize,
    /// Nothing more will be answered, but for this.
    ended: Option<CallError>,
}

/// The number of a call of a line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfLine {
    pub(super) line: u32,
    /// 0: the line itself.
    pub(super) call: u32,
}

// === impl Answered ===

impl Answered {
    fn may_be_large(&self) -> bool {
        let Heard::Answer(_, Ok(reply)) = &self.heard else { return false };
        matches!(
            reply,
            Reply::Record(_)
                | Reply::Records { .. }
                | Reply::RecordPage { .. }
                | Reply::Page { .. }
                | Reply::Waiters { .. }
        )
    }
}

// === impl OfLine ===

impl OfLine {
    /// `None`: it is a call by itself.
    #[expect(clippy::cast_possible_truncation, reason = "each half is cut to its bits")]
    pub(super) const fn read(id: CallId) -> Option<Self> {
        if id.0 & OF_A_LINE == 0 {
            return None;
        }
        Some(Self { line: (id.0 >> 32) as u32 & (LINES - 1), call: id.0 as u32 })
    }

    pub(super) const fn id(self) -> CallId {
        CallId(OF_A_LINE | (self.line as u64) << 32 | self.call as u64)
    }
}

// === impl Sink ===

impl Sink {
    fn left(&self) -> MutexGuard<'_, Left> {
        // Plain data: a panic elsewhere can't have left it half changed.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves answers, in their order.
    pub(super) fn leave(&self, answers: impl Iterator<Item = (u32, Result<Reply, CallError>)>) {
        {
            let mut left = self.left();
            for (call, result) in answers {
                if matches!(result, Ok(Reply::Notice(_))) {
                    if left.notices >= NOTICES_MAX {
                        continue;
                    }
                    left.notices += 1;
                }
                left.answers.push((call, result));
            }
        }
        self.arrived.notify_one();
    }

    /// Whatever is not answered yet is answered so, and whatever still comes.
    pub(super) fn end(&self, with: &CallError) {
        self.left().ended = Some(with.clone());
        self.arrived.notify_one();
    }
}

// === impl Line ===

impl Line {
    pub(super) fn open(shared: &Arc<Shared>) -> Self {
        let sink = Arc::new(Sink::default());
        let number = shared.register_line(&sink, LINES);
        Self {
            shared: Arc::clone(shared),
            number,
            sink,
            tags: HashMap::default(),
            next: 1,
            reads: HashMap::default(),
            of: None,
            answered: VecDeque::new(),
            fetching: None,
            is_attached: false,
        }
    }

    const fn id(&self, call: u32) -> CallId {
        OfLine { line: self.number, call }.id()
    }

    /// Hands questions over, in this order; each has a tag of the caller's that none under way
    /// has. What can't be taken is refused at once.
    pub fn submit(&mut self, questions: Vec<(u64, Question)>) -> Vec<(u64, CallError)> {
        let mut refused = Vec::new();
        let mut requests = Vec::with_capacity(questions.len());
        for (tag, question) in questions {
            let is_own = matches!(question.command, Command::AttachSession(_));
            let call = if is_own { 0 } else { self.number_call() };
            self.tags.insert(call, tag);
            if question.command.reads_values() {
                self.of = question.of;
                if !matches!(question.command, Command::GetRecord(_)) {
                    self.reads.insert(call, Read { question: question.clone(), attempts: 1 });
                }
            }
            requests.push(self.request(self.id(call), question));
        }
        // A renewal that went before the others here would come on a stream that is not yet the
        // session's, and be dropped.
        let turns = if self.is_attached { Turns::ByKind } else { Turns::InOrder };
        for (call, error) in self.shared.push_all(requests, turns) {
            let tag = OfLine::read(call).and_then(|of| {
                self.reads.remove(&of.call);
                self.tags.remove(&of.call)
            });
            refused.extend(tag.map(|tag| (tag, error)));
        }
        refused
    }

    /// Hands over what has no answer. When there is no room for it, it is not said: an
    /// acknowledgement is said again with the next.
    pub fn tell(&mut self, question: Question) {
        let request = self.request(NOBODY, question);
        self.shared.push_all(vec![request], Turns::ByKind);
    }

    /// Ends the waits of these questions.
    pub fn cancel(&mut self, namespace: &Namespace, tags: &[u64]) {
        let wanted: std::collections::BTreeSet<u64> = tags.iter().copied().collect();
        let calls = self.tags.iter().filter(|(_, tag)| wanted.contains(tag));
        let calls: Box<[CallId]> = calls.map(|(call, _)| self.id(*call)).collect();
        if calls.is_empty() {
            return;
        }
        self.shared.push_all(
            vec![Request {
                call: NOBODY,
                namespace: namespace.clone(),
                mark: None,
                origin: None,
                age_ms: 0,
                fences: Box::default(),
                command: Command::CancelWaits(calls),
            }],
            Turns::ByKind,
        );
    }

    /// Waits for what there is to hear; never empty. Nothing is lost when the future is dropped.
    pub async fn hear(&mut self) -> Vec<Heard> {
        loop {
            let heard = self.take();
            if !heard.is_empty() {
                return heard;
            }
            let heard = self.ready().await;
            if !heard.is_empty() {
                return heard;
            }
            if self.answered.is_empty() {
                self.sink.arrived.notified().await;
            }
        }
    }

    /// What is answered, with its values: about as much as [`HEARD_BYTES`] at once. Nothing is
    /// lost when the future is dropped: what is waited for stays first.
    async fn ready(&mut self) -> Vec<Heard> {
        let (mut ready, mut bytes) = (Vec::new(), 0);
        while bytes < HEARD_BYTES
            && let Some(first) = self.answered.front_mut()
        {
            let mut outcome = Filled::Whole;
            if let Heard::Answer(_, Ok(reply)) = &mut first.heard
                && (first.read.is_some() || matches!(reply, Reply::Record(_)))
            {
                let wanted = fetch::fill_young(&self.shared.bodies, reply);
                if !wanted.is_empty() {
                    if !ready.is_empty() {
                        break;
                    }
                    let bodies = &self.shared.bodies;
                    let fetching =
                        self.fetching.get_or_insert_with(|| fetch::fetch(bodies, wanted));
                    let fetched = fetching.await;
                    self.fetching = None;
                    // A thread that was lost had panicked.
                    outcome = fetched.map_or(Filled::Failed, |it| fetch::fill(reply, it));
                }
            }
            if let Heard::Answer(_, Ok(reply)) = &mut first.heard {
                bytes += fetch::bytes(reply);
            }
            let Some(first) = self.answered.pop_front() else { break };
            ready.extend(match outcome {
                Filled::Whole => Some(first.heard),
                Filled::Gone => self.ask_again(first),
                Filled::Closed => Some(first.heard.failed(CallError::ShuttingDown)),
                Filled::Failed => Some(first.heard.failed(CallError::Internal)),
            });
        }
        ready
    }

    /// What had led to the answer that a record is there.
    fn read_of(&self, result: &Result<Reply, CallError>) -> Option<Read> {
        let Ok(Reply::Record(info)) = result else { return None };
        let question = Question {
            namespace: info.written.namespace.clone(),
            mark: None,
            of: self.of,
            age_ms: 0,
            fences: Box::default(),
            command: Command::GetRecord(info.written.key.clone()),
        };
        Some(Read { question, attempts: 1 })
    }

    /// What a read has found was overwritten: it is decided anew, unless that was in vain too often.
    fn ask_again(&mut self, answered: Answered) -> Option<Heard> {
        let Answered { heard: Heard::Answer(tag, result), read } = answered else {
            return Some(answered.heard);
        };
        let Some(Read { question, attempts }) = read.or_else(|| self.read_of(&result)) else {
            return Some(Heard::Answer(tag, result));
        };
        if attempts >= fetch::ATTEMPTS_MAX {
            return Some(Heard::Answer(tag, Err(fetch::overtaken())));
        }
        let call = self.number_call();
        self.tags.insert(call, tag);
        let request = self.request(self.id(call), question.clone());
        self.reads.insert(call, Read { question, attempts: attempts + 1 });
        let (_, error) = self.shared.push_all(vec![request], Turns::ByKind).pop()?;
        self.tags.remove(&call);
        self.reads.remove(&call);
        Some(Heard::Answer(tag, Err(error)))
    }

    /// Questions that are not answered yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.tags.len()
    }

    /// Takes what the driver has left: what is small and whole is handed on; from the first that may
    /// be large, or without its values, all is kept for [`Self::ready`].
    fn take(&mut self) -> Vec<Heard> {
        let (answers, ended) = {
            let mut left = self.sink.left();
            left.notices = 0;
            (std::mem::take(&mut left.answers), left.ended.clone())
        };
        let mut heard = Vec::with_capacity(answers.len());
        for (call, result) in answers {
            let one = if let Ok(Reply::Notice(notice)) = result {
                Answered { heard: Heard::Notice(notice), read: None }
            } else if let Some(tag) = self.tags.remove(&call) {
                self.is_attached |= matches!(result, Ok(Reply::SessionAttached(_)));
                let read = if self.reads.is_empty() { None } else { self.reads.remove(&call) };
                Answered { heard: Heard::Answer(tag, result), read }
            } else {
                continue;
            };
            if self.answered.is_empty() && !one.may_be_large() {
                heard.push(one.heard);
            } else {
                self.answered.push_back(one);
            }
        }
        if let Some(error) = ended {
            let rest = self.tags.drain().map(|(_, tag)| Heard::Answer(tag, Err(error.clone())));
            self.answered.extend(rest.map(|heard| Answered { heard, read: None }));
            self.reads.clear();
        }
        heard
    }

    fn request(&self, call: CallId, question: Question) -> Request {
        let stream = Some(self.id(0));
        Request {
            call,
            namespace: question.namespace,
            mark: question.mark,
            origin: question.of.map(|of| Origin { session: of.session, stream, seq: of.seq }),
            age_ms: question.age_ms,
            fences: question.fences,
            command: question.command,
        }
    }

    /// Numbers come again after four billion; one still under way is passed over.
    fn number_call(&mut self) -> u32 {
        loop {
            let call = self.next;
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !self.tags.contains_key(&call) {
                return call;
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let calls = self.tags.keys().map(|call| self.id(*call)).collect();
        self.shared.drop_line(self.number, calls);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("number", &self.number).finish_non_exhaustive()
    }
}
