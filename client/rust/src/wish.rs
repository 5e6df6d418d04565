//! A lease to take and keep: what is asked for, and the way to it over the stream or unary calls.

use std::{sync::Arc, time::Duration};

use singletrack_proto::{
    Reason,
    v1::{self, operation::Operation, operation_reply::Reply},
};
use tokio::time::Instant;

use crate::{
    Acquire, Client, Error, Fence, LeaseHandle, MAX_WAIT, Mode, Target, Transport,
    handle::in_background,
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
    wish: Acquire,
    ttl: Option<Duration>,
    wait: Duration,
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
        self.lease_on([Target::new(resource)])
    }

    /// As [`Client::lease`], on 1..128 resources: all together or none.
    pub fn lease_on(&self, targets: impl IntoIterator<Item = Target>) -> LeaseWish {
        LeaseWish {
            wish: Acquire::on(targets, self.holder()),
            client: self.clone(),
            ttl: None,
            wait: Duration::ZERO,
        }
    }
}

// === impl LeaseWish: what is said ===

impl LeaseWish {
    /// As [`Acquire::and`]: this resource too, all together or none. What is said of mode and reach
    /// from here on is said of this one.
    pub fn and(self, resource: impl Into<String>) -> Self {
        self.map(|wish| wish.and(resource))
    }

    /// The resource named last alone, for itself: the default.
    pub fn exclusive(self) -> Self {
        self.map(Acquire::exclusive)
    }

    /// The resource named last together with other shared leases.
    pub fn shared(self) -> Self {
        self.map(Acquire::shared)
    }

    /// `count` of `limit` permits of the resource named last: a semaphore.
    pub fn permits(self, count: u32, limit: u32) -> Self {
        self.map(|wish| wish.permits(count, limit))
    }

    /// How the lease shares the resource named last.
    pub fn mode(self, mode: Mode) -> Self {
        self.map(|wish| wish.mode(mode))
    }

    /// The resource named last with everything below it. Not with permits.
    pub fn subtree(self) -> Self {
        self.map(Acquire::subtree)
    }

    /// Who asks: 1..256 characters, shown to others; the client's holder if absent.
    pub fn holder(self, holder: impl Into<String>) -> Self {
        self.map(|wish| wish.holder(holder))
    }

    /// As [`Acquire::actor`]: the thread of control that asks, for the detection of deadlocks.
    pub fn actor(self, actor: impl Into<String>) -> Self {
        self.map(|wish| wish.actor(actor))
    }

    /// As [`Acquire::label`]: for people and for lists.
    pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|wish| wish.label(key, value))
    }

    /// A time to live of its own, 1 s to 24 h, renewed every third of it. Without this it lives
    /// with the client's session, whose one keep-alive holds any number of leases.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The lease ends so long after its grant although it is kept: 1 s to 365 days.
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.map(|wish| wish.max_hold(max_hold))
    }

    /// As [`Acquire::lock_delay`]: how long the resources stay closed after an involuntary end.
    pub fn lock_delay(self, lock_delay: Duration) -> Self {
        self.map(|wish| wish.lock_delay(lock_delay))
    }

    /// How long to wait for it, as long as you like: the place in the queue is kept. When that is
    /// over, or the future is dropped, the place is given up.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Higher goes first, -100 to 100.
    pub fn priority(self, priority: i32) -> Self {
        self.map(|wish| wish.priority(priority))
    }

    /// How long the place in the queue is kept while no call is attached: 1 ms to 60 s.
    pub fn keep(self, keep: Duration) -> Self {
        self.map(|wish| wish.keep(keep))
    }

    /// Only if this token is still current. May be given up to 16 times.
    pub fn fence(self, fence: Fence) -> Self {
        self.map(|wish| wish.fence(fence.resource, fence.token))
    }

    fn map(mut self, change: impl FnOnce(Acquire) -> Acquire) -> Self {
        self.wish = change(self.wish);
        self
    }
}

// === impl LeaseWish: the way to it ===

impl LeaseWish {
    /// Takes the lease, and keeps it from then on.
    ///
    /// # Errors
    /// As [`Client::acquire`]. `STILL_WAITING` means here that the whole wait was in vain.
    pub async fn acquire(self) -> Result<LeaseHandle, Error> {
        let life = Arc::new(Life::default());
        let patience = deadline(self.wait);
        let op = self.wish(self.ttl, self.wait);
        let (answered, asked) = match self.client.transport() {
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
        let Reply::AcquireLease(grant) = answered.reply else {
            return Err(Error::unreadable("expected the answer to another call"));
        };
        let ttl = asked.ttl_ms.map(Duration::from_millis);
        if let Some(ttl) = ttl {
            life.extend(safe_until(answered.sent, &grant, ttl));
        }
        let targets = self.wish.targets().to_vec();
        Ok(LeaseHandle::new(self.client, targets, (grant.lease_id, grant.token), life, ttl))
    }

    fn wish(&self, ttl: Option<Duration>, wait: Duration) -> v1::AcquireLeaseRequest {
        let wish = self.wish.clone().wait(wait.min(MAX_WAIT));
        let wish = match ttl {
            Some(ttl) => wish.ttl(ttl),
            None => wish.with_session(),
        };
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
