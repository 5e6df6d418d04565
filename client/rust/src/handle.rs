//! A lease that is kept: renewed by itself, given away or given back, and given back when it is
//! dropped.

use std::{fmt, sync::Arc, time::Duration};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation},
};
use tokio::task::JoinHandle;

use crate::{
    AnswerYield, Client, Error, Fence, HoldState, LeaseEnd, Release, Released, Target, Transfer,
    Transferred, Transport, YieldAnswer, YieldRequest,
    clock::{Moment, margin},
    life::Life,
    retry::deadline,
};

/// The least time between two renewals.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// A lease that this process holds and keeps. Dropping it gives the lease back, as far as that can
/// be done without waiting; [`LeaseHandle::release`] tells what came of it.
///
/// What it protects may be touched only while [`LeaseHandle::state`] says [`HoldState::Held`], and
/// whatever can look at a token should be given [`LeaseHandle::token`] or [`LeaseHandle::fence`]: a
/// process can be paused at any moment, also between the look and the touch.
#[derive(Debug)]
#[must_use = "dropping it gives the lease back"]
pub struct LeaseHandle {
    client: Client,
    targets: Vec<Target>,
    lease_id: String,
    token: u64,
    life: Arc<Life>,
    renewing: Option<JoinHandle<()>>,
    /// It was given back or away, or is about to be.
    is_given_back: bool,
}

/// A lease that could not be given to another, and why.
///
/// As an [`Error`] alone, through `?`, it gives the lease back.
#[derive(Debug)]
pub struct NotTransferred {
    /// The lease, kept as before. If the transfer may have happened all the same, it soon knows that
    /// it is lost.
    pub lease: Box<LeaseHandle>,
    /// Why.
    pub error: Error,
}

// === impl Client ===

impl Client {
    /// Keeps a lease that was taken elsewhere: by a call of this client, by the command line, or by
    /// another who transferred it. It must have a ttl of its own.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_HOLDER`, `NOT_FOUND`, and what every call may meet.
    pub async fn adopt(
        &self,
        lease_id: impl Into<String>,
        token: u64,
    ) -> Result<LeaseHandle, Error> {
        let lease_id = lease_id.into();
        let info = self.get_by_id(lease_id.clone()).await?;
        let life = Arc::new(Life::default());
        let sent = Moment::now();
        let renewed = self.renew_one(lease_id.clone(), token).await?;
        life.extend(sent.plus(renewed.remaining).minus(margin(info.ttl)));
        Ok(LeaseHandle::new(self.clone(), info.targets, (lease_id, token), life, Some(info.ttl)))
    }
}

/// Sends a call that nobody waits for, if there is a runtime to do it.
pub(crate) fn in_background(client: &Client, op: Operation) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let client = client.clone();
    runtime.spawn(async move {
        let ends = deadline(client.timeout());
        // Unheard, what it was about ends with its ttl.
        let _outcome = client.send_unary(op, String::new(), Duration::ZERO, ends).await;
    });
}

/// Renews a lease every third of its ttl until it is lost, and tells who asks for it.
async fn renew(client: Client, (lease_id, token): (String, u64), ttl: Duration, life: Arc<Life>) {
    let mut pause = ttl / 3;
    loop {
        tokio::time::sleep(pause).await;
        let sent = Moment::now();
        let client = client.with_timeout(ttl / 3);
        match client.renew_one(lease_id.clone(), token).await {
            Ok(renewed) => {
                life.extend(sent.plus(renewed.remaining).minus(margin(ttl)));
                // Near its longest hold it has less than a ttl left, and its end is soon to be told.
                pause = (ttl / 3).min(renewed.remaining.max(PAUSE_MIN));
                // A hint alone: it can always be asked for.
                if renewed.yield_requests > 0
                    && let Ok(info) = client.get_by_id(lease_id.clone()).await
                {
                    info.yield_requests.into_iter().for_each(|request| life.ask_for(request));
                }
            }
            Err(error) => match error.reason() {
                Some(Reason::LeaseLost | Reason::NotHolder | Reason::NotFound) => {
                    life.lose(error);
                    return;
                }
                // Sooner than a third: it may be the last chance.
                Some(_) | None => pause = ttl / 12,
            },
        }
        if life.lost().is_some() {
            return;
        }
    }
}

// === impl LeaseHandle: what it is ===

impl LeaseHandle {
    /// `ttl`: its own, which is renewed; `None`: it lives with the client's session.
    pub(crate) fn new(
        client: Client,
        targets: Vec<Target>,
        (lease_id, token): (String, u64),
        life: Arc<Life>,
        ttl: Option<Duration>,
    ) -> Self {
        let renewing = ttl.map(|ttl| {
            let lease = (lease_id.clone(), token);
            tokio::spawn(renew(client.clone(), lease, ttl, Arc::clone(&life)))
        });
        Self { client, targets, lease_id, token, life, renewing, is_given_back: false }
    }

    /// The fencing token: greater than every token granted before.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// The lease's id. Whoever knows it can release the lease.
    #[must_use]
    pub fn lease_id(&self) -> &str {
        &self.lease_id
    }

    /// What it is for, at least one.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The first resource that it is for.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.targets.first().map_or("", |target| &target.resource)
    }

    /// "Only if I still hold this": to be given to any mutating call. Of several resources the first
    /// stands for all, as the lease holds all or none.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence::new(self.resource(), self.token)
    }

    pub(crate) const fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// Whether it may be believed to be held.
    #[must_use]
    pub fn state(&self) -> HoldState {
        self.life.state()
    }

    /// How long it may still be believed if no answer of the server comes: until the time at which
    /// the answered call was sent, plus what the server said was left, less 1 % of the ttl and 20 ms;
    /// and never beyond its longest hold.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.life.lost().is_some() { Duration::ZERO } else { self.life.until().left() }
    }

    /// How it ended, once the server has said so. `None`: it is not lost, or with its session, or
    /// in a way that was not told; [`LeaseHandle::lost`] has the whole word.
    #[must_use]
    pub fn end(&self) -> Option<LeaseEnd> {
        self.life.lost()?.lease_end()
    }

    /// Resolves when the server says that the lease is lost, with what it said: see
    /// [`Error::lease_end`].
    pub async fn lost(&self) -> Error {
        self.life.loss().await
    }

    /// Resolves when the lease may be believed no longer: its safe deadline has passed, or it is
    /// lost. Whatever it protects must stop then.
    pub async fn not_held(&self) -> HoldState {
        self.life.not_held().await
    }
}

// === impl LeaseHandle: others who want it ===

impl LeaseHandle {
    /// Who asks for it at present, oldest first, at most 8, answered ones included.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_FOUND`, and what every call may meet.
    pub async fn yield_requests(&self) -> Result<Vec<YieldRequest>, Error> {
        Ok(self.client.get_by_id(self.lease_id.clone()).await?.yield_requests)
    }

    /// Resolves with the next request to give it up, each once; `None`: it is lost.
    ///
    /// A lease that lives with the session is told at once, on the session's stream; one with a ttl
    /// of its own with its next renewal. A hint may be lost: [`LeaseHandle::yield_requests`] asks.
    pub async fn yield_requested(&self) -> Option<YieldRequest> {
        self.life.asked_for().await
    }

    /// Answers one request.
    ///
    /// # Errors
    /// As [`Client::answer_yield`].
    pub async fn answer_yield(
        &self,
        request: &YieldRequest,
        answer: YieldAnswer,
    ) -> Result<(), Error> {
        let answer = AnswerYield::new(self.lease_id.clone(), self.token, answer);
        self.client.answer_yield(answer.number(request.number)).await.map(drop)
    }

    /// Answers all who ask; how many they are.
    ///
    /// # Errors
    /// As [`Client::answer_yield`].
    pub async fn answer_yields(&self, answer: YieldAnswer) -> Result<u32, Error> {
        self.client.answer_yield(AnswerYield::new(self.lease_id.clone(), self.token, answer)).await
    }
}

// === impl LeaseHandle: its end ===

impl LeaseHandle {
    /// Gives the lease back.
    ///
    /// # Errors
    /// As [`Client::release`].
    pub async fn release(mut self) -> Result<Released, Error> {
        self.stop_renewing();
        let released = self.client.release(Release::new(self.lease_id.clone(), self.token)).await;
        // What may not have happened is tried once more when this is dropped.
        self.is_given_back = released.as_ref().err().is_none_or(|error| !error.may_have_happened());
        released
    }

    /// Gives the lease to another holder, with nobody in between; what it protected must be left
    /// alone from before this is called. The new id and token are to be passed on, to be kept with
    /// [`Client::adopt`]. [`Client::transfer`] can say more.
    ///
    /// If this is dropped before it is answered, the lease is given back; if it had been given away by
    /// then, it ends with its ttl, as nobody knows its id.
    ///
    /// # Errors
    /// As [`Client::transfer`], with the lease, which is kept.
    pub async fn transfer(
        mut self,
        to_holder: impl Into<String>,
    ) -> Result<Transferred, NotTransferred> {
        let transfer = Transfer::new(self.lease_id.clone(), self.token, to_holder);
        match self.client.transfer(transfer).await {
            Ok(transferred) => {
                self.stop_renewing();
                self.is_given_back = true;
                Ok(transferred)
            }
            Err(error) => Err(NotTransferred { lease: Box::new(self), error }),
        }
    }

    fn stop_renewing(&mut self) {
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        self.stop_renewing();
        if self.is_given_back || self.life.lost().is_some() {
            return;
        }
        let release = v1::ReleaseLeaseRequest {
            lease_id: self.lease_id.clone(),
            token: self.token,
            ..Default::default()
        };
        let op = Operation::ReleaseLease(release);
        let on_stream = match self.client.transport() {
            Transport::Unary => false,
            Transport::Auto | Transport::Session => {
                let ends = deadline(self.client.timeout());
                self.client.session().is_ok_and(|session| session.ask_quietly(op.clone(), ends))
            }
        };
        if !on_stream {
            in_background(&self.client, op);
        }
    }
}

// === impl NotTransferred ===

impl fmt::Display for NotTransferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was not transferred: {}", self.lease.resource(), self.error)
    }
}

impl std::error::Error for NotTransferred {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<NotTransferred> for Error {
    fn from(not: NotTransferred) -> Self {
        not.error
    }
}
