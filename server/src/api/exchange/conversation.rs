//! What a frame means, and what is answered. Knows no socket and no task: frames and answers of
//! the track go in, frames come out.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::RandomState;
use singletrack_core::{
    command::{Command, OpenSession},
    limits,
    refusal::Refusal,
    reply::{Attached, Notice, Renewed, Reply},
    types::{Namespace, RequestHash, SessionId},
};
use singletrack_proto::v1;
use tonic::Status;

use super::{codec::Frame, outgoing::Outgoing};
use crate::{
    api::{
        Converse,
        decode::{self, Asked, Context, OnStream},
        encode,
        flaws::Flaws,
        identity, refuse, status,
    },
    telemetry::{Method, Metrics},
    track::{CallError, Heard, OfSession, Question},
};

/// Operations of a stream that are not decided yet.
const UNDECIDED_MAX: usize = 1_024;
/// Operations of a stream that wait for a lease.
const PARKED_MAX: usize = 16_384;
/// When a client that met one of these may try again.
const OVERLOADED_RETRY_MS: u64 = 100;
/// Tags of what a stream asks for itself; operations have their numbers, which are smaller.
const OPEN: u64 = limits::SEQ_MAX + 1;
const ATTACH: u64 = limits::SEQ_MAX + 2;

/// Numbers of operations.
type Seqs = HashSet<u64, RandomState>;

/// Why a stream ends.
#[derive(Debug)]
pub(super) enum End {
    /// All is said.
    Done,
    /// With this status.
    Refused(Box<v1::Refusal>),
}

/// One stream's state.
pub(super) struct Conversation<L> {
    pub(super) line: L,
    namespace: Namespace,
    metrics: Arc<Metrics>,
    session: Option<Session>,
    /// Frames that have come.
    frames: u64,
    /// Operations under way, by number; true: it may wait for long.
    under_way: HashMap<u64, bool, RandomState>,
    parked: usize,
    seen_below: u64,
    out: Outgoing,
    phase: Phase,
    /// The client says nothing more, though it was not welcomed yet.
    has_hung_up: bool,
}

/// The session whose stream this is, or will be.
#[derive(Clone, Copy, Debug)]
struct Session {
    id: SessionId,
    requests: RequestHash,
    resumed: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing is said before welcome is.
    Hello,
    Talking,
    /// No operation is taken any more; what is under way is still answered.
    Closing,
    /// Nothing is answered any more but what is to be sent already.
    Leaving,
    /// Nothing is sent any more.
    Ended(Option<Box<v1::Refusal>>),
}

// === impl Conversation ===

impl<L: Converse> Conversation<L> {
    pub(super) fn new(namespace: Namespace, line: L, metrics: Arc<Metrics>) -> Self {
        Self {
            line,
            namespace,
            metrics,
            session: None,
            frames: 0,
            under_way: HashMap::default(),
            parked: 0,
            seen_below: 0,
            out: Outgoing::default(),
            phase: Phase::Hello,
            has_hung_up: false,
        }
    }

    /// Nothing has come yet.
    pub(super) const fn is_silent(&self) -> bool {
        self.frames == 0
    }

    /// There is something to send, and it may be.
    pub(super) fn has_frames(&self) -> bool {
        !self.out.is_empty() && !matches!(self.phase, Phase::Hello)
    }

    /// What is to be sent is not so much that more has to wait. Welcome, before which nothing is
    /// sent, never has to.
    pub(super) fn may_hear(&self) -> bool {
        matches!(self.phase, Phase::Hello) || !self.out.is_enough()
    }

    pub(super) fn next_frame(&mut self) -> Option<v1::ExchangeResponse> {
        self.out.take()
    }

    /// Why the stream ends now; `None`: it goes on.
    pub(super) fn end(&mut self) -> Option<End> {
        match &mut self.phase {
            Phase::Ended(refusal) => Some(refusal.take().map_or(End::Done, End::Refused)),
            _ if self.out.is_too_much() => Some(End::Refused(Box::new(refuse::overloaded(
                "bytes of answers that a stream has not read",
                8 << 20,
                OVERLOADED_RETRY_MS,
            )))),
            Phase::Leaving if self.out.is_empty() => Some(End::Done),
            Phase::Closing if self.out.is_empty() && self.under_way.is_empty() => Some(End::Done),
            Phase::Hello | Phase::Talking | Phase::Closing | Phase::Leaving => None,
        }
    }

    // === in ===

    /// Takes a frame.
    pub(super) fn frame(&mut self, frame: Frame) {
        let number = self.frames;
        self.frames += 1;
        if matches!(self.phase, Phase::Leaving | Phase::Ended(_)) {
            return;
        }
        let taken = match frame {
            Frame::Unreadable(what) => Err(Box::new(status::unreadable(&what))),
            Frame::Whole(frame) if number == 0 => self.hello(*frame),
            Frame::Whole(frame) => self.later(*frame),
        };
        match taken {
            Ok(()) => {}
            // What can't say hello is nobody's stream.
            Err(refusal) if number == 0 => self.refuse(*refusal),
            Err(refusal) => {
                self.metrics.refused(status::reason_of(&refusal));
                self.out.refuse_frame(v1::FrameRefused { frame: number, refusal: Some(*refusal) });
            }
        }
    }

    /// The client says nothing more; what is under way is still answered.
    pub(super) fn hung_up(&mut self) {
        match self.phase {
            Phase::Hello if self.session.is_none() => self.phase = Phase::Ended(None),
            Phase::Talking => self.phase = Phase::Closing,
            // Whoever said hello and hung up is still told what became of it.
            Phase::Hello => self.has_hung_up = true,
            Phase::Closing | Phase::Leaving | Phase::Ended(_) => {}
        }
    }

    /// The stream can't be read any further.
    pub(super) fn broken(&mut self, broken: &Status) {
        self.refuse(status::foreign_refusal(broken.code(), broken.message()));
    }

    pub(super) fn never_said_hello(&mut self) {
        let flaws = Flaws::of(format_args!("hello"), "a hello is expected within 10 s, found none");
        self.refuse(refuse::flawed(&flaws));
    }

    /// The server stops: nothing new is taken.
    pub(super) fn shut_down(&mut self) {
        match self.phase {
            Phase::Hello => self.refuse(refuse::shutting_down()),
            Phase::Talking | Phase::Closing => {
                self.out.go_away(v1::GoingAwayReason::ShuttingDown);
                self.phase = Phase::Closing;
            }
            Phase::Leaving | Phase::Ended(_) => {}
        }
    }

    fn refuse(&mut self, refusal: v1::Refusal) {
        self.phase = Phase::Ended(Some(Box::new(refusal)));
    }

    fn hello(&mut self, mut frame: v1::ExchangeRequest) -> Result<(), Box<v1::Refusal>> {
        let Some(hello) = frame.hello.take() else {
            let what = "the first frame of a stream says hello, found none";
            return Err(flawed(&Flaws::of(format_args!("hello"), what)));
        };
        let seqs = self.check(&frame)?;
        let asked = self.greet(&hello).map_err(|flaws| flawed(&flaws))?;
        if let Some((_, error)) = self.line.submit(asked).first() {
            self.refuse(refuse::call(error));
            return Ok(());
        }
        self.metrics.requested(Method::Exchange);
        self.carry_out(frame, seqs);
        Ok(())
    }

    fn later(&mut self, frame: v1::ExchangeRequest) -> Result<(), Box<v1::Refusal>> {
        if frame.hello.is_some() {
            let what = "none is expected after the first frame of a stream";
            return Err(flawed(&Flaws::of(format_args!("hello"), what)));
        }
        let seqs = self.check(&frame)?;
        self.carry_out(frame, seqs);
        Ok(())
    }

    /// What hello asks of the track.
    fn greet(&mut self, hello: &v1::Hello) -> Result<Vec<(u64, Question)>, Flaws> {
        let mut flaws = Flaws::under("hello.");
        let mut asked = Vec::with_capacity(2);
        let session = if hello.session_id.is_empty() {
            let open = decode::opening(&self.namespace, &hello.holder, hello.ttl_ms, flaws)?;
            let OpenSession { session_id: id, requests, .. } = open;
            asked.push((OPEN, self.question(Command::OpenSession(open), None)));
            Session { id, requests, resumed: false }
        } else {
            for (field, given) in
                [("holder", !hello.holder.is_empty()), ("ttl_ms", hello.ttl_ms.is_some())]
            {
                if given {
                    let what = "none is expected with a session_id: the session has its own";
                    flaws.add(format_args!("{field}"), what);
                }
            }
            let id = decode::session_id_text(&hello.session_id);
            let id = flaws.take(format_args!("session_id"), id);
            let Some(id) = id.filter(|_| flaws.is_empty()) else { return Err(flaws) };
            Session { id, requests: identity::session(&self.namespace, id), resumed: true }
        };
        asked.push((ATTACH, self.question(Command::AttachSession(session.id), None)));
        self.session = Some(session);
        Ok(asked)
    }

    /// What can be said of a frame as a whole; the numbers of its operations.
    fn check(&self, frame: &v1::ExchangeRequest) -> Result<Seqs, Box<v1::Refusal>> {
        let mut flaws = Flaws::under("");
        for (field, found) in [("seen", frame.seen.len()), ("cancel", frame.cancel.len())] {
            if found > limits::SEEN_MAX {
                let what = format!("at most {} are expected, found {found}", limits::SEEN_MAX);
                flaws.add_too_large(format_args!("{field}"), what);
            }
        }
        let mut seqs =
            Seqs::with_capacity_and_hasher(frame.operations.len(), RandomState::default());
        for (i, operation) in frame.operations.iter().enumerate() {
            let seq = operation.seq;
            let field = format_args!("operations[{i}].seq");
            if !(1..=limits::SEQ_MAX).contains(&seq) {
                flaws.add(field, format!("1..2^63-1 is expected, found {seq}"));
            } else if self.under_way.contains_key(&seq) || !seqs.insert(seq) {
                flaws.add(field, format!("operation {seq} is under way on this stream already"));
            }
        }
        if flaws.is_empty() { Ok(seqs) } else { Err(flawed(&flaws)) }
    }

    fn carry_out(&mut self, frame: v1::ExchangeRequest, seqs: Seqs) {
        let Some(session) = self.session else { return };
        if frame.seen_below > self.seen_below || !frame.seen.is_empty() {
            self.seen_below = self.seen_below.max(frame.seen_below);
            let (session, below, seen) = (session.id, frame.seen_below, frame.seen.into());
            let acknowledge = Command::AcknowledgeReplies { session, below, seen };
            let question = self.question(acknowledge, Some(session));
            self.line.tell(question);
        }
        if !frame.cancel.is_empty() {
            let parked = |seq: &u64| self.under_way.get(seq).is_some_and(|parked| *parked);
            let tags: Vec<u64> = frame.cancel.into_iter().filter(parked).collect();
            self.line.cancel(&self.namespace, &tags);
        }
        drop(seqs);
        let mut asked = Vec::with_capacity(frame.operations.len());
        for operation in frame.operations {
            self.operation(session, operation, &mut asked);
        }
        if asked.is_empty() {
            return;
        }
        for (seq, error) in self.line.submit(asked) {
            self.answer(seq, Err(error));
        }
    }

    fn operation(
        &mut self,
        session: Session,
        operation: v1::Operation,
        asked: &mut Vec<(u64, Question)>,
    ) {
        let seq = operation.seq;
        self.metrics.requested(Method::of(&operation));
        if matches!(self.phase, Phase::Closing) {
            return self.say(seq, refused(refuse::shutting_down(), &self.metrics));
        }
        let on = OnStream { session: session.id, requests: session.requests, seq };
        let namespace = self.namespace.clone();
        let context = Context { namespace, budget_ms: None, on_stream: Some(on) };
        match decode::operation(context, operation) {
            Err(flaws) => self.say(seq, refused(refuse::flawed(&flaws), &self.metrics)),
            Ok(Asked::Ping(ping)) => {
                let pong = v1::PingResponse { payload: ping.payload };
                self.say(seq, v1::operation_reply::Reply::Ping(pong));
            }
            Ok(Asked::Track(question)) => {
                let parks = matches!(
                    &question.command,
                    Command::AcquireLease(acquire) if acquire.wait_ms > 0
                );
                if let Some(full) = self.is_full(parks) {
                    return self.say(seq, refused(full, &self.metrics));
                }
                self.under_way.insert(seq, parks);
                self.parked += usize::from(parks);
                asked.push((seq, question));
            }
        }
    }

    fn is_full(&self, parks: bool) -> Option<v1::Refusal> {
        let (limit, used, maximum) = if parks {
            ("waiting operations of a stream", self.parked, PARKED_MAX)
        } else {
            let undecided = self.under_way.len() - self.parked;
            ("undecided operations of a stream", undecided, UNDECIDED_MAX)
        };
        (used >= maximum).then(|| refuse::overloaded(limit, maximum as u64, OVERLOADED_RETRY_MS))
    }

    fn question(&self, command: Command, session: Option<SessionId>) -> Question {
        Question {
            namespace: self.namespace.clone(),
            mark: None,
            of: session.map(|session| OfSession { session, seq: None }),
            age_ms: 0,
            fences: Box::default(),
            command,
        }
    }

    // === out ===

    /// Takes what the track has to tell.
    pub(super) fn hear(&mut self, heard: Vec<Heard>) {
        for one in heard {
            match one {
                Heard::Answer(OPEN, Ok(_)) => {}
                Heard::Answer(ATTACH, Ok(Reply::SessionAttached(attached))) => {
                    self.welcome(&attached);
                }
                Heard::Answer(OPEN | ATTACH, result) => {
                    // The first refusal is the one that says why.
                    if !matches!(self.phase, Phase::Ended(_)) {
                        let error = result.err().unwrap_or(CallError::Internal);
                        self.refuse(refuse::call(&error));
                    }
                }
                Heard::Answer(seq, result) => self.answer(seq, result),
                Heard::Notice(notice) => self.notice(notice),
            }
        }
    }

    fn welcome(&mut self, attached: &Attached) {
        let resumed = self.session.is_some_and(|session| session.resumed);
        self.out.welcome(encode::welcome(attached, resumed));
        if matches!(self.phase, Phase::Hello) {
            self.phase = if self.has_hung_up { Phase::Closing } else { Phase::Talking };
        }
    }

    fn answer(&mut self, seq: u64, result: Result<Reply, CallError>) {
        let Some(parked) = self.under_way.remove(&seq) else { return };
        self.parked -= usize::from(parked);
        if let Ok(Reply::Renewed(results)) = &result {
            self.count_refused(results);
        }
        let reply = match result {
            Ok(reply) => encode::operation(&reply)
                .unwrap_or_else(|| refused(refuse::call(&CallError::Internal), &self.metrics)),
            Err(error) => refused(refuse::call(&error), &self.metrics),
        };
        self.say(seq, reply);
    }

    fn count_refused(&self, results: &[Result<Renewed, Refusal>]) {
        for refusal in results.iter().filter_map(|result| result.as_ref().err()) {
            self.metrics.refused(refuse::reason(refusal));
        }
    }

    fn notice(&mut self, notice: Notice) {
        if let Some(push) = encode::push(&notice) {
            self.out.push(push);
        }
        match notice {
            Notice::LeaseLost { .. } | Notice::YieldRequested { .. } => {}
            Notice::Superseded => self.leave(v1::GoingAwayReason::Superseded),
            Notice::SessionLost(_) => self.leave(v1::GoingAwayReason::SessionEnded),
        }
    }

    fn leave(&mut self, reason: v1::GoingAwayReason) {
        if matches!(self.phase, Phase::Talking | Phase::Closing) {
            self.out.go_away(reason);
            self.phase = Phase::Leaving;
        }
    }

    fn say(&mut self, seq: u64, reply: v1::operation_reply::Reply) {
        self.out.reply(v1::OperationReply { seq, reply: Some(reply) });
    }
}

fn refused(refusal: v1::Refusal, metrics: &Metrics) -> v1::operation_reply::Reply {
    metrics.refused(status::reason_of(&refusal));
    v1::operation_reply::Reply::Refusal(Box::new(refusal))
}

fn flawed(flaws: &Flaws) -> Box<v1::Refusal> {
    Box::new(refuse::flawed(flaws))
}
