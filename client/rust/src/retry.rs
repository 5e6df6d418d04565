//! How a call is sent again: by the refusal table, under the same request id, saying how old it is.

use std::time::Duration;

use singletrack_proto::{
    Retry,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::time::{Instant, sleep};

use crate::{Client, Error, Transport, clock::Moment, op, request_id::new_request_id};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The server ends a wait 250 ms before the deadline; the way back takes time too.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

/// An answer, and what it answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    /// The id under which it was sent; empty where none is needed.
    pub(crate) request_id: String,
    /// When the call was sent that was answered.
    pub(crate) sent: Moment,
    /// When the oldest attempt was sent that no other answer followed.
    pub(crate) oldest: Moment,
}

/// Pauses between attempts: doubled each time, with jitter.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    max: Duration,
}

// === impl Answered ===

impl Answered {
    /// The earliest moment at which a grant that this answers with can have been made.
    pub(crate) fn granted_at_earliest(&self, grant: &v1::AcquireLeaseResponse) -> Moment {
        let oldest = if grant.replayed { self.oldest } else { self.sent };
        oldest.plus(Duration::from_millis(grant.waited_ms))
    }
}

// === impl Pauses ===

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self::between(PAUSE_MIN, PAUSE_MAX)
    }

    /// The first is `min` at most, and none is longer than `max`.
    pub(crate) const fn between(min: Duration, max: Duration) -> Self {
        Self { next: min, max }
    }

    /// The next one, between a half and the whole of what it grows to.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        let jitter = getrandom::u32().map_or(0.5, |bits| f64::from(bits) / f64::from(u32::MAX));
        whole / 2 + (whole / 2).mul_f64(jitter)
    }
}

// === impl Client ===

impl Client {
    /// Sends an operation, and again as often as that is right, until its time has passed.
    pub(crate) async fn call(&self, op: Operation) -> Result<Answered, Error> {
        let wait = op::wait(&op);
        let time = match wait {
            Duration::ZERO => self.timeout(),
            wait => wait.saturating_add(self.timeout().max(WAIT_MARGIN)),
        };
        match self.transport() {
            Transport::Unary => self.call_unary(op, time).await,
            Transport::Auto | Transport::Session => self.call_on_stream(op, time).await,
        }
    }

    /// The session's task keeps a call through broken streams; what is left here are refusals
    /// that name a delay.
    async fn call_on_stream(&self, mut op: Operation, time: Duration) -> Result<Answered, Error> {
        let ends = deadline(time);
        // A wait may be gone on with by another call: it has a name that outlives its number.
        if let Operation::AcquireLease(acquire) = &mut op
            && acquire.wait_ms > 0
            && acquire.request_id.is_empty()
        {
            acquire.request_id = new_request_id()?;
        }
        let mut pauses = Pauses::new();
        loop {
            let error = match self.session()?.ask(op.clone(), ends).await {
                Ok(answered) => return Ok(answered),
                Err(error) => error,
            };
            // Another number is another call: only what surely did not happen is asked again.
            if error.may_have_happened() {
                return Err(error);
            }
            let pause = match error.retry() {
                Retry::AfterDelay | Retry::Yes => error.retry_after().unwrap_or(Duration::ZERO),
                Retry::SameRequestId | Retry::No | Retry::HigherLevel => return Err(error),
            };
            let pause = pause.max(pauses.next());
            if !self.retries() || Instant::now() + pause >= ends {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn call_unary(&self, mut op: Operation, time: Duration) -> Result<Answered, Error> {
        let mut request_id = String::new();
        let mut age = Duration::ZERO;
        if let Some((id, age_ms)) = op::identity(&mut op) {
            if id.is_empty() {
                *id = new_request_id()?;
            }
            request_id.clone_from(id);
            age = Duration::from_millis(*age_ms);
        }
        // A read is as good as a call with an id; a renewal too.
        self.send_unary(op, request_id, age, deadline(time)).await
    }

    /// Gives up an acquire of this id: it leaves the queue, and what it got is released. Unheard,
    /// the place is kept for a while, and a lease ends with its ttl.
    pub(crate) async fn give_up(&self, abandoned_request_id: String) {
        let op = Operation::AbandonLease(v1::AbandonLeaseRequest { abandoned_request_id });
        let ends = deadline(self.timeout());
        let _outcome = self.send_unary(op, String::new(), Duration::ZERO, ends).await;
    }

    /// Sends a call that has its id, until it is answered for good. `age`: how old it is already.
    pub(crate) async fn send_unary(
        &self,
        mut op: Operation,
        request_id: String,
        age: Duration,
        ends: Instant,
    ) -> Result<Answered, Error> {
        let mut pauses = Pauses::new();
        // The oldest send that no answer followed.
        let mut oldest = (age > Duration::ZERO).then(|| Moment::now().minus(age));
        let mut happened = false;
        loop {
            op::set_age(&mut op, oldest.map_or(Duration::ZERO, Moment::ago));
            let (sent, left) = (Moment::now(), ends.saturating_duration_since(Instant::now()));
            let (at, channel) = self.channel_and_place();
            let error = match op::unary(self, channel, op.clone(), left).await {
                Ok(reply) => {
                    let oldest = oldest.unwrap_or(sent);
                    return Ok(Answered { reply, request_id, sent, oldest });
                }
                Err(error) => error,
            };
            if error.answers_for_earlier() {
                // What came before it did not happen, as it would have been told.
                (oldest, happened) = (None, false);
            } else if error.is_from_server() && !error.may_have_happened() {
                // This attempt did not happen. Earlier ones may have, and grow older.
            } else {
                happened |= error.may_have_happened();
                oldest = oldest.or(Some(sent));
                self.turn_from(at);
            }
            let error = error.or_earlier(happened).sent_as(&request_id);
            let pause = pauses.next().max(error.retry_after().unwrap_or_default());
            let again = self.retries() && error.is_retryable();
            if !again || Instant::now() + pause >= ends {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
}

/// A moment so far away that it can't be said is as good as never.
pub(crate) fn deadline(time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365);
    Instant::now() + time.min(FAR)
}
