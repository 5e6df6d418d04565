//! A lease that is kept: taken, renewed by itself, and given back when it is dropped.

use std::{sync::Arc, time::Duration};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    Acquire, Client, Error, Fence, HoldState, MAX_WAIT, Mode, Release, Released, Transport,
    clock::{Moment, margin},
    life::Life,
    new_request_id,
    retry::{Answered, deadline},
    session::safe_until,
};

/// A lease to take and keep: see [`Client::lease`].
#[derive(Clone, Debug)]
#[must_use = "a wish does nothing until `acquire` is called"]
pub struct LeaseWish {
    client: Client,
    resource: String,
    holder: Option<String>,
    ttl: Option<Duration>,
    wait: Duration,
    mode: Mode,
    priority: i32,
    keep: Option<Duration>,
    fences: Vec<Fence>,
}

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
    resource: String,
    lease_id: String,
    token: u64,
    life: Arc<Life>,
    renewing: Option<JoinHandle<()>>,
    /// It was given back, or is about to be.
    is_given_back: bool,
}

// === impl Client ===

impl Client {
    /// A lease on `resource` that is kept for as long as the handle lives.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use singletrack::{Client, HoldState};
    ///
    /// # async fn example() -> Result<(), singletrack::Error> {
    /// let client = Client::builder("http://127.0.0.1:7420").holder("agent-7").build()?;
    /// let lease = client.lease("repository/main").wait(Duration::from_secs(10)).acquire().await?;
    /// // Hand `lease.token()` to whatever you write to, and stop when it is held no longer.
    /// tokio::select! {
    ///     () = work(lease.token()) => {}
    ///     state = lease.not_held() => assert_ne!(state, HoldState::Held),
    /// }
    /// lease.release().await?;
    /// # Ok(())
    /// # }
    /// # async fn work(_: u64) {}
    /// ```
    pub fn lease(&self, resource: impl Into<String>) -> LeaseWish {
        LeaseWish {
            client: self.clone(),
            resource: resource.into(),
            holder: None,
            ttl: None,
            wait: Duration::ZERO,
            mode: Mode::Exclusive,
            priority: 0,
            keep: None,
            fences: Vec::new(),
        }
    }
}

// === impl LeaseWish ===

impl LeaseWish {
    /// Who asks: 1..256 characters, shown to others; the client's holder if absent.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// A time to live of its own, 1 s to 24 h, renewed every third of it. Without this it lives
    /// with the client's session, whose one keep-alive holds any number of leases.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long to wait for it, as long as you like: the place in the queue is kept. When that is
    /// over, or the future is dropped, the place is given up.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Together with other shared leases.
    pub const fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    /// Higher goes first, -100 to 100.
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// How long the place in the queue is kept while no call is attached: 1 ms to 60 s.
    pub const fn keep(mut self, keep: Duration) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Only if this token is still current. May be given up to 16 times.
    pub fn fence(mut self, fence: Fence) -> Self {
        self.fences.push(fence);
        self
    }

    /// Takes the lease, and keeps it from then on.
    ///
    /// # Errors
    /// As [`Client::acquire`]. `STILL_WAITING` means here that the whole wait was in vain.
    pub async fn acquire(self) -> Result<LeaseHandle, Error> {
        let life = Arc::new(Life::default());
        let patience = deadline(self.wait);
        let op = self.wish(self.ttl, self.wait);
        let answered = match self.client.transport() {
            Transport::Unary => self.by_unary(patience).await?,
            Transport::Session => self.on_stream(op, patience, &life).await?,
            Transport::Auto => match self.on_stream(op, patience, &life).await {
                // No stream can be had, and so no session: it gets a ttl of its own.
                Err(error) if self.ttl.is_none() && is_streamless(&error) => {
                    self.by_unary(patience).await?
                }
                other => other?,
            },
        };
        let Reply::AcquireLease(grant) = answered.0.reply else {
            return Err(Error::unreadable("expected the answer to another call"));
        };
        if let Some(ttl_ms) = answered.1.ttl_ms {
            let ttl = Duration::from_millis(ttl_ms);
            life.extend(safe_until(answered.0.sent, &grant, ttl));
        }
        let renewing = answered.1.ttl_ms.map(|ttl_ms| {
            let ttl = Duration::from_millis(ttl_ms);
            let lease = (grant.lease_id.clone(), grant.token);
            tokio::spawn(renew(self.client.clone(), lease, ttl, Arc::clone(&life)))
        });
        Ok(LeaseHandle {
            client: self.client,
            resource: self.resource,
            lease_id: grant.lease_id,
            token: grant.token,
            life,
            renewing,
            is_given_back: false,
        })
    }

    fn wish(&self, ttl: Option<Duration>, wait: Duration) -> v1::AcquireLeaseRequest {
        let holder = self.holder.clone().unwrap_or_else(|| self.client.holder());
        let mut wish = Acquire::new(self.resource.clone(), holder)
            .wait(wait.min(MAX_WAIT))
            .mode(self.mode)
            .priority(self.priority);
        wish = match ttl {
            Some(ttl) => wish.ttl(ttl),
            None => wish.with_session(),
        };
        if let Some(keep) = self.keep {
            wish = wish.keep(keep);
        }
        for fence in &self.fences {
            wish = wish.fence(fence.resource.clone(), fence.token);
        }
        wish.into_wire()
    }

    async fn on_stream(
        &self,
        op: v1::AcquireLeaseRequest,
        patience: Instant,
        life: &Arc<Life>,
    ) -> Result<(Answered, v1::AcquireLeaseRequest), Error> {
        let ends = patience + self.client.timeout();
        let acquire = Operation::AcquireLease(op.clone());
        let answered = self.client.session()?.acquire(acquire, ends, patience, life).await?;
        Ok((answered, op))
    }

    /// Unary calls, one wait after the other under one id; given up if this future is dropped.
    async fn by_unary(
        &self,
        patience: Instant,
    ) -> Result<(Answered, v1::AcquireLeaseRequest), Error> {
        let ttl = self.ttl.unwrap_or_else(|| self.client.session_ttl());
        let request_id = new_request_id()?;
        let mut waiting = Waiting { client: &self.client, request_id: Some(request_id.clone()) };
        loop {
            let left = patience.saturating_duration_since(Instant::now());
            let mut op = self.wish(Some(ttl), left);
            op.request_id.clone_from(&request_id);
            let ends = deadline(left.min(MAX_WAIT) + self.client.timeout());
            let acquire = Operation::AcquireLease(op.clone());
            let sent =
                self.client.send_unary(acquire, request_id.clone(), Duration::ZERO, ends).await;
            match sent {
                Ok(answered) => {
                    waiting.request_id = None;
                    return Ok((answered, op));
                }
                Err(error) if error.reason() == Some(Reason::StillWaiting) => {
                    if Instant::now() >= patience {
                        waiting.give_up().await;
                        return Err(error);
                    }
                }
                Err(error) => {
                    if !error.may_have_happened() {
                        waiting.request_id = None;
                    }
                    return Err(error);
                }
            }
        }
    }
}

fn is_streamless(error: &Error) -> bool {
    !error.is_from_server() || error.reason() == Some(Reason::Unimplemented)
}

/// An acquire over unary calls that is given up when this is dropped with its id.
struct Waiting<'a> {
    client: &'a Client,
    request_id: Option<String>,
}

impl Waiting<'_> {
    /// Leaves the queue, and waits until that is done; unheard, the place is kept for a while.
    async fn give_up(&mut self) {
        if let Some(request_id) = self.request_id.take() {
            self.client.give_up(request_id).await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(abandoned_request_id) = self.request_id.take() else { return };
        let op = Operation::AbandonLease(v1::AbandonLeaseRequest { abandoned_request_id });
        in_background(self.client, op);
    }
}

/// Sends a call that nobody waits for, if there is a runtime to do it.
fn in_background(client: &Client, op: Operation) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let client = client.clone();
    runtime.spawn(async move {
        let ends = deadline(client.timeout());
        // Unheard, what it was about ends with its ttl.
        let _outcome = client.send_unary(op, String::new(), Duration::ZERO, ends).await;
    });
}

/// Renews a lease every third of its ttl until it is lost.
async fn renew(client: Client, (lease_id, token): (String, u64), ttl: Duration, life: Arc<Life>) {
    let mut pause = ttl / 3;
    loop {
        tokio::time::sleep(pause).await;
        let sent = Moment::now();
        let client = client.with_timeout(ttl / 3);
        match client.renew_one(lease_id.clone(), token).await {
            Ok(renewed) => {
                life.extend(sent.plus(renewed.remaining).minus(margin(ttl)));
                pause = ttl / 3;
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

// === impl LeaseHandle ===

impl LeaseHandle {
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

    /// What it is for.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// "Only if I still hold this": to be given to any mutating call.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence::new(self.resource.clone(), self.token)
    }

    /// Whether it may be believed to be held.
    #[must_use]
    pub fn state(&self) -> HoldState {
        self.life.state()
    }

    /// How long it may still be believed if no answer of the server comes: until the time at which
    /// the answered call was sent, plus what the server said was left, less 1 % of the ttl and 20 ms.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.life.lost().is_some() { Duration::ZERO } else { self.life.until().left() }
    }

    /// Resolves when the server says that the lease is lost, with what it said.
    pub async fn lost(&self) -> Error {
        self.life.loss().await
    }

    /// Resolves when the lease may be believed no longer: its safe deadline has passed, or it is
    /// lost. Whatever it protects must stop then.
    pub async fn not_held(&self) -> HoldState {
        self.life.not_held().await
    }

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
