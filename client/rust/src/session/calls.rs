//! What is under way on a session: numbered, sent, answered or given up. Knows no socket.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::time::Instant;

use super::{Ask, acks::Acks, wire::FrameBytes};
use crate::{
    Error, YieldRequest,
    clock::{Moment, margin},
    life::Life,
    op,
    retry::Answered,
};

/// Undecided operations of a stream, below what the server refuses.
const UNDECIDED_MAX: usize = 1_000;
/// Bytes and operations of a frame. A larger operation goes alone.
const FRAME_BYTES: usize = 512 << 10;
/// The largest operation: the server refuses a frame above 2 MiB, and with it the whole stream. The
/// rest is room for acknowledgements and cancellations.
const OPERATION_BYTES_MAX: usize = (2 << 20) - (128 << 10);
/// When a call is sent again that was refused without a delay.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const FRAME_OPERATIONS: usize = 512;
/// How long what nobody waits for is tried.
const QUIET_TIME: Duration = Duration::from_secs(10);
/// Most waits given up in one frame.
const CANCELS_MAX: usize = 4_096;

/// A call with its number.
pub(super) struct Pending {
    pub(super) ask: Box<Ask>,
    /// The last send, and the oldest that no answer followed: equal if that is the only one.
    pub(super) sent: Option<Moment>,
    pub(super) oldest: Option<Moment>,
    /// It was not taken, and is to be sent again then.
    again_at: Option<Instant>,
    /// It abandons the acquire with this number, which is done for good when this is answered.
    abandons: Option<u64>,
    /// The frame of this stream that it was in.
    frame: Option<u64>,
    parked: bool,
    cancelled: bool,
    /// It waits in the queue to be sent.
    queued: bool,
    /// Ours: keep-alives and pages, which mean nothing on another stream.
    inner: bool,
}

/// Everything under way on one session.
pub(super) struct Calls {
    pending: BTreeMap<u64, Pending>,
    queue: VecDeque<u64>,
    next: u64,
    parked: usize,
    pub(super) acks: Acks,
    cancels: Vec<u64>,
    /// Leases that somebody has a handle on; true: it lives with the session.
    held: HashMap<String, (Weak<Life>, bool)>,
    frames: u64,
    /// Whether a call may be sent twice.
    retries: bool,
}

/// The session that calls were sent on.
#[derive(Clone)]
pub(super) struct OnSession {
    pub(super) id: String,
    pub(super) life: Arc<Life>,
    pub(super) ttl: Duration,
}

/// What an answer was to, if it is the task's own.
pub(super) enum Inner {
    /// A keep-alive that was sent then.
    Kept(Moment, u64),
    /// A page of what the session holds.
    Page(v1::ListSessionLeasesResponse),
    /// A keep-alive was refused.
    Refused(Error),
    /// A page was refused.
    NoPage(Error),
}

// === impl Calls ===

impl Calls {
    pub(super) fn new(retries: bool) -> Self {
        Self {
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            next: 1,
            parked: 0,
            acks: Acks::new(),
            cancels: Vec::new(),
            held: HashMap::new(),
            frames: 0,
            retries,
        }
    }

    /// There is room for further calls. Of those that wait there may be any number: the server
    /// refuses what is too much for it, and they must not keep others from their turn.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() - self.parked < UNDECIDED_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// There is something to send that doesn't wait for company.
    pub(super) fn has_to_say(&self) -> bool {
        !self.queue.is_empty() || !self.cancels.is_empty()
    }

    /// Takes a call on.
    pub(super) fn add(&mut self, ask: Box<Ask>) {
        let bytes = op::size(&ask.op);
        if bytes > OPERATION_BYTES_MAX {
            tell(ask, Err(Error::too_large(bytes, OPERATION_BYTES_MAX)));
            return;
        }
        self.number(ask, false, None);
    }

    /// Takes one of the task's own calls on.
    pub(super) fn add_inner(&mut self, op: Operation) -> u64 {
        let ends = Instant::now() + QUIET_TIME;
        let ask = Ask { op, ends, patience: None, life: None, reply: None };
        self.number(Box::new(ask), true, None)
    }

    /// Gives up an acquire: it leaves the queue, and what it got is released. Only when that is
    /// answered need the server remember it no longer.
    fn abandon(&mut self, session: &str, seq: u64, op: &Operation) {
        if !matches!(op, Operation::AcquireLease(_)) {
            self.acks.finish(seq);
            return;
        }
        let abandoned_request_id = op::own_id(op).unwrap_or_else(|| format!("{session}/{seq}"));
        let abandon = v1::AbandonLeaseRequest { abandoned_request_id };
        self.number(quiet(Operation::AbandonLease(abandon)), false, Some(seq));
    }

    fn number(&mut self, ask: Box<Ask>, inner: bool, abandons: Option<u64>) -> u64 {
        let seq = self.next;
        self.next += 1;
        let parked = op::wait(&ask.op) > Duration::ZERO;
        self.parked += usize::from(parked);
        self.pending.insert(
            seq,
            Pending {
                ask,
                sent: None,
                oldest: None,
                again_at: None,
                abandons,
                frame: None,
                parked,
                cancelled: false,
                queued: true,
                inner,
            },
        );
        self.queue.push_back(seq);
        seq
    }

    fn remove(&mut self, seq: u64) -> Option<Pending> {
        let pending = self.pending.remove(&seq)?;
        self.parked -= usize::from(pending.parked);
        Some(pending)
    }

    // === out ===

    /// A new stream: what is not answered is sent again; of what nobody waits for any more only
    /// the giving up.
    pub(super) fn begin_stream(&mut self, session: &str) {
        self.frames = 1;
        self.acks.unsay();
        self.cancels.clear();
        self.queue.clear();
        let seqs: Vec<u64> = self.pending.keys().copied().collect();
        for seq in seqs {
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            let unwanted = pending.inner || (pending.is_unwanted() && pending.sent.is_some());
            if !unwanted {
                pending.queued = true;
                pending.frame = None;
                pending.again_at = None;
                self.queue.push_back(seq);
                continue;
            }
            if let Some(gone) = self.remove(seq) {
                self.abandon(session, seq, &gone.ask.op);
            }
        }
    }

    /// The next frame: queued operations, acknowledgements, cancellations.
    pub(super) fn frame(&mut self) -> FrameBytes {
        let mut frame = FrameBytes::default();
        let (now, mut bytes, mut operations) = (Moment::now(), 0, 0);
        while operations < FRAME_OPERATIONS {
            let Some(seq) = self.queue.pop_front() else { break };
            let Some(pending) = self.pending.get_mut(&seq).filter(|it| it.queued) else { continue };
            let size = op::size(&pending.ask.op);
            if bytes > 0 && bytes + size > FRAME_BYTES {
                self.queue.push_front(seq);
                break;
            }
            bytes += size;
            operations += 1;
            if let Some(oldest) = pending.oldest {
                op::set_age(&mut pending.ask.op, oldest.ago());
            }
            pending.queued = false;
            pending.sent = Some(now);
            pending.oldest.get_or_insert(now);
            pending.frame = Some(self.frames);
            frame.operation(seq, &pending.ask.op);
        }
        let (seen_below, seen) = self.acks.take();
        let most = self.cancels.len().min(CANCELS_MAX);
        let cancel = self.cancels.drain(..most).collect();
        frame.rest(&v1::ExchangeRequest { seen_below, seen, cancel, ..Default::default() });
        self.frames += 1;
        frame
    }

    // === in ===

    /// Takes an answer; what it was to, if it is the task's own.
    pub(super) fn answered(&mut self, of: &OnSession, reply: v1::OperationReply) -> Option<Inner> {
        let seq = reply.seq;
        let pending = self.pending.get(&seq)?;
        let sent = pending.sent.unwrap_or_else(Moment::now);
        let result = match reply.reply {
            Some(Reply::Refusal(refusal)) => Err(Error::from_refusal(*refusal)),
            Some(reply) => Ok(reply),
            None => Err(Error::unreadable("expected a reply, found none")),
        };
        if pending.inner {
            self.acks.finish(seq);
            let pending = self.remove(seq)?;
            let is_page = matches!(pending.ask.op, Operation::ListSessionLeases(_));
            let refused = if is_page { Inner::NoPage } else { Inner::Refused };
            return Some(match result {
                Ok(Reply::KeepSessionAlive(kept)) => Inner::Kept(sent, kept.remaining_ms),
                Ok(Reply::ListSessionLeases(page)) => Inner::Page(page),
                Ok(_) => refused(Error::unreadable("expected another reply")),
                Err(error) => refused(error),
            });
        }
        if let Err(error) = &result
            && self.goes_on(seq, error)
        {
            return None;
        }
        let pending = self.remove(seq)?;
        let id = op::own_id(&pending.ask.op).unwrap_or_else(|| format!("{}/{seq}", of.id));
        match result {
            Ok(reply) => {
                self.finish(seq, pending.abandons);
                let oldest = pending.oldest.unwrap_or(sent);
                let answered = Answered { reply, request_id: id, sent, oldest };
                self.deliver(pending.ask, Some(of), answered);
            }
            Err(error) => {
                // Whoever gives up a wait of its own leaves the queue. A plain call may come back
                // under its request id.
                if error.reason() == Some(Reason::StillWaiting) && pending.ask.patience.is_some() {
                    self.abandon(&of.id, seq, &pending.ask.op);
                } else {
                    self.finish(seq, pending.abandons);
                }
                let happened = pending.may_have_happened_before(&error);
                tell(pending.ask, Err(error.or_earlier(happened).sent_as(&id)));
            }
        }
        None
    }

    fn finish(&mut self, seq: u64, abandons: Option<u64>) {
        self.acks.finish(seq);
        if let Some(abandoned) = abandons {
            self.acks.finish(abandoned);
        }
    }

    /// A wait that is to be gone on with, or a call that was not taken or whose outcome is not
    /// known: it is sent again under its number, after a while or on the next stream.
    fn goes_on(&mut self, seq: u64, error: &Error) -> bool {
        let retries = self.retries;
        let Some(pending) = self.pending.get_mut(&seq) else { return false };
        match error.reason() {
            Some(Reason::StillWaiting) => {
                let patient = pending.ask.is_patient();
                if !patient || pending.is_unwanted() {
                    return false;
                }
                pending.oldest = None;
                pending.ask.shorten_wait();
                pending.queued = true;
                self.queue.push_back(seq);
                true
            }
            Some(Reason::ShuttingDown | Reason::Overloaded | Reason::OutcomeUnknown) if retries => {
                if !error.may_have_happened() && pending.oldest == pending.sent {
                    pending.oldest = None;
                }
                let pause = error.retry_after().unwrap_or(AGAIN_AFTER);
                pending.again_at = Some(Instant::now() + pause);
                pending.frame = None;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Tells a caller what it got; a lease is noted before anything that may end it.
    pub(super) fn deliver(&mut self, ask: Box<Ask>, of: Option<&OnSession>, answered: Answered) {
        if let (Reply::AcquireLease(grant), Operation::AcquireLease(asked)) =
            (&answered.reply, &ask.op)
            && let Some(lease) = ask.life.as_ref().and_then(Weak::upgrade)
        {
            let session = of.filter(|_| asked.ttl_ms.is_none());
            if let Some(session) = session {
                lease.bind(&session.life);
                if let Some(max_hold_ms) = asked.max_hold_ms {
                    let granted = answered.granted_at_earliest(grant);
                    lease.end_at(longest(granted, max_hold_ms, session.ttl));
                }
            }
            let ttl = session.map_or_else(
                || Duration::from_millis(asked.ttl_ms.unwrap_or(grant.remaining_ms)),
                |session| session.ttl,
            );
            lease.extend(safe_until(answered.sent, grant, ttl));
            let known = (Arc::downgrade(&lease), session.is_some());
            self.held.insert(grant.lease_id.clone(), known);
        }
        for lease_id in op::gives_up(&ask.op) {
            self.held.remove(lease_id);
        }
        for grant in tell(ask, Ok(answered)) {
            self.give_back(grant.lease_id, grant.token);
        }
    }

    /// Releases a lease that nobody wants any more.
    fn give_back(&mut self, lease_id: String, token: u64) {
        self.held.remove(&lease_id);
        let release = v1::ReleaseLeaseRequest { lease_id, token, ..Default::default() };
        self.add(quiet(Operation::ReleaseLease(release)));
    }

    /// Nothing of a frame was carried out.
    pub(super) fn frame_refused(&mut self, frame: u64, refusal: &v1::Refusal) {
        let seqs: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.frame == Some(frame))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in seqs {
            if let Some(pending) = self.remove(seq) {
                self.finish(seq, pending.abandons);
                let error = Error::from_refusal(refusal.clone());
                let happened = pending.may_have_happened_before(&error);
                tell(pending.ask, Err(error.or_earlier(happened)));
            }
        }
    }

    /// A lease has ended, by the server's word.
    pub(super) fn lease_lost(&mut self, lease_id: &str, error: &Error) {
        if let Some((life, _)) = self.held.remove(lease_id)
            && let Some(life) = life.upgrade()
        {
            life.lose(error.clone());
        }
    }

    /// Somebody asks for a lease.
    pub(super) fn lease_asked_for(&self, lease_id: &str, request: YieldRequest) {
        if let Some(life) = self.held.get(lease_id).and_then(|(life, _)| life.upgrade()) {
            life.ask_for(request);
        }
    }

    /// Leases believed to be held, that live with the session.
    pub(super) fn believed(&self) -> HashSet<String> {
        let bound = self.held.iter().filter(|(_, (_, is_bound))| *is_bound);
        bound.map(|(id, _)| id.clone()).collect()
    }

    /// Who has waited long enough is told so, and what nobody waits for is given up.
    pub(super) fn look(&mut self, session: Option<&str>, unreached: Option<&Error>) {
        let now = Instant::now();
        let due = |it: &Pending| !it.inner && (it.ask.ends <= now || it.is_unwanted());
        let due: Vec<u64> =
            self.pending.iter().filter(|(_, it)| due(it)).map(|(seq, _)| *seq).collect();
        for seq in due {
            self.give_up(seq, session, unreached);
        }
        for (seq, pending) in &mut self.pending {
            if pending.again_at.is_some_and(|at| at <= now) {
                pending.again_at = None;
                pending.queued = true;
                self.queue.push_back(*seq);
            }
        }
        self.held.retain(|_, (life, _)| life.strong_count() > 0);
    }

    fn give_up(&mut self, seq: u64, session: Option<&str>, unreached: Option<&Error>) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        let was_sent = pending.oldest.is_some();
        if let Some(reply) = pending.ask.reply.take() {
            let error = match unreached.filter(|_| !was_sent) {
                Some(error) => error.clone(),
                None => Error::deadline_passed(),
            };
            let error = match (was_sent, session) {
                (true, Some(session)) => error.sent_as(&format!("{session}/{seq}")),
                (true | false, _) => error,
            };
            // A caller that is gone needs no telling.
            let _gone = reply.send(Err(error));
        }
        let is_sent = pending.frame.is_some() && !pending.queued;
        let is_late = pending.ask.ends + QUIET_TIME <= Instant::now();
        if pending.sent.is_none() {
            let abandons = pending.abandons;
            self.remove(seq);
            self.finish(seq, abandons);
        } else if is_sent && !is_late {
            // Answered soon; a lease that it still gets is given back then.
            if pending.parked && !pending.cancelled {
                pending.cancelled = true;
                self.cancels.push(seq);
            }
        } else if let Some(session) = session
            && let Some(gone) = self.remove(seq)
        {
            // It is on no stream, or was forgotten there: nothing may come of it any more.
            self.abandon(session, seq, &gone.ask.op);
        }
    }

    /// The session is lost, and all that lives with it. What was never sent stays for the next
    /// session; the rest is returned, with its number.
    pub(super) fn lose_session(&mut self) -> Vec<(u64, Pending)> {
        let before = std::mem::replace(self, Self::new(self.retries));
        let mut rest = Vec::new();
        for (seq, pending) in before.pending {
            match pending.sent {
                Some(_) if !pending.inner => rest.push((seq, pending)),
                None if !pending.inner => self.add(pending.ask),
                Some(_) | None => {}
            }
        }
        rest
    }

    /// Takes what may be asked by unary calls meanwhile, as no stream can be had.
    pub(super) fn take_for_unary(&mut self) -> Vec<(u64, Pending)> {
        let seqs: Vec<u64> =
            self.pending.iter().filter(|(_, it)| !it.inner).map(|(seq, _)| *seq).collect();
        seqs.into_iter().filter_map(|seq| Some((seq, self.remove(seq)?))).collect()
    }

    /// All are told the same: what was sent may have happened all the same.
    pub(super) fn fail(&mut self, session: Option<&str>, error: &Error) {
        for (seq, pending) in std::mem::take(&mut self.pending) {
            if pending.oldest.is_none() {
                self.finish(seq, pending.abandons);
            }
            pending.tell_lost(session, seq, error);
        }
        self.queue.clear();
        self.parked = 0;
    }

    /// What was sent on a stream that is gone, and must not be sent twice.
    pub(super) fn fail_sent(&mut self, session: Option<&str>, error: &Error) {
        let sent = |it: &Pending| !it.inner && it.oldest.is_some();
        let seqs: Vec<u64> =
            self.pending.iter().filter(|(_, it)| sent(it)).map(|(seq, _)| *seq).collect();
        for seq in seqs {
            if let Some(pending) = self.remove(seq) {
                pending.tell_lost(session, seq, error);
            }
        }
    }
}

// === impl Pending ===

impl Pending {
    /// Nobody waits for its answer any more, though somebody had.
    fn is_unwanted(&self) -> bool {
        match &self.ask.reply {
            Some(reply) => reply.is_closed(),
            // What is asked quietly is wanted by the task.
            None => matches!(self.ask.op, Operation::AcquireLease(_)),
        }
    }

    /// An earlier send may have happened of which this refusal says nothing.
    fn may_have_happened_before(&self, error: &Error) -> bool {
        self.oldest != self.sent && !error.answers_for_earlier()
    }

    /// The stream is gone for good.
    fn tell_lost(self, session: Option<&str>, seq: u64, error: &Error) {
        let mut error = error.clone().or_earlier(self.oldest.is_some());
        let id = op::own_id(&self.ask.op).or_else(|| session.map(|id| format!("{id}/{seq}")));
        if let Some(id) = id {
            error = error.sent_as(&id);
        }
        tell(self.ask, Err(error));
    }
}

// === impl Ask ===

impl Ask {
    /// It goes on waiting for a lease.
    pub(super) fn is_patient(&self) -> bool {
        self.patience.is_some_and(|until| Instant::now() < until)
    }

    /// The next wait is no longer than what is left of the patience.
    pub(super) fn shorten_wait(&mut self) {
        let Some(until) = self.patience else { return };
        if let Operation::AcquireLease(acquire) = &mut self.op {
            let left = until.saturating_duration_since(Instant::now()).min(crate::MAX_WAIT);
            acquire.wait_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        }
    }
}

/// Tells a caller; the leases that it would have got, if it is gone.
pub(super) fn tell(
    ask: Box<Ask>,
    result: Result<Answered, Error>,
) -> Vec<v1::AcquireLeaseResponse> {
    let unheard = match ask.reply {
        Some(reply) => match reply.send(result) {
            Ok(()) => return Vec::new(),
            Err(unheard) => unheard,
        },
        None => result,
    };
    unheard.map_or_else(|_| Vec::new(), |answered| op::grants(answered.reply))
}

/// A call that nobody waits for.
fn quiet(op: Operation) -> Box<Ask> {
    let ends = Instant::now() + QUIET_TIME;
    Box::new(Ask { op, ends, patience: None, life: None, reply: None })
}

/// Until when a grant may be believed, of a lease that lasts `ttl`.
pub(crate) fn safe_until(sent: Moment, grant: &v1::AcquireLeaseResponse, ttl: Duration) -> Moment {
    let left = Duration::from_millis(grant.waited_ms.saturating_add(grant.remaining_ms));
    sent.plus(left).minus(margin(ttl))
}

/// Until when a lease may be believed that was granted then, at the earliest, for so long at most.
/// One in a thousand: it is counted once, over all that time, on two clocks.
fn longest(granted: Moment, max_hold_ms: u64, ttl: Duration) -> Moment {
    let max_hold = Duration::from_millis(max_hold_ms);
    granted.plus(max_hold).minus(max_hold / 1_000 + margin(ttl))
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
