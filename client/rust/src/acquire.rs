//! The wish for a lease, in words of this language. Owns the way from there to the wire; leaves the
//! judging of values to the server, which names the field.

use std::{collections::BTreeMap, time::Duration};

use singletrack_proto::v1;

use crate::{
    Mode, Reach, Target,
    request::{milliseconds, wire_fences},
};

/// How long a lease lasts without renewal, unless the wish says otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// A wish for a lease: see [`crate::Client::acquire`].
///
/// ```
/// use singletrack::Acquire;
///
/// // All three or none: the whole of `src` but for readers, one file, and 2 of 5 permits.
/// let wish = Acquire::new("src", "agent-7")
///     .shared()
///     .subtree()
///     .and("docs/plan.md")
///     .and("machines")
///     .permits(2, 5);
/// # let _ = wish;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a wish does nothing until it is sent"]
pub struct Acquire {
    request_id: Option<String>,
    targets: Vec<Target>,
    pub(crate) holder: String,
    life: Lives,
    wait: Duration,
    keep: Option<Duration>,
    priority: i32,
    fences: Vec<(String, u64)>,
    age: Duration,
    actor: String,
    labels: BTreeMap<String, String>,
    max_hold: Option<Duration>,
    lock_delay: Duration,
}

/// How long a lease is to last.
#[derive(Clone, Copy, Debug)]
enum Lives {
    Ttl(Duration),
    WithSession,
}

// === impl Acquire: for what ===

impl Acquire {
    /// `holder` wants `resource` for itself: ttl 30 s, no waiting.
    ///
    /// A resource is a `/`-path of 1..512 bytes; a holder is a stable name of 1..256 characters.
    pub fn new(resource: impl Into<String>, holder: impl Into<String>) -> Self {
        Self::on([Target::new(resource)], holder)
    }

    /// As [`Acquire::new`], for 1..128 resources: all together or none.
    pub fn on(targets: impl IntoIterator<Item = Target>, holder: impl Into<String>) -> Self {
        Self {
            request_id: None,
            targets: targets.into_iter().collect(),
            holder: holder.into(),
            life: Lives::Ttl(DEFAULT_TTL),
            wait: Duration::ZERO,
            keep: None,
            priority: 0,
            fences: Vec::new(),
            age: Duration::ZERO,
            actor: String::new(),
            labels: BTreeMap::new(),
            max_hold: None,
            lock_delay: Duration::ZERO,
        }
    }

    /// And this resource too, for itself: all together or none, at most 128. What is said of mode and
    /// reach from here on is said of this one.
    pub fn and(mut self, resource: impl Into<String>) -> Self {
        self.targets.push(Target::new(resource));
        self
    }

    /// The resource named last alone, for itself: the default.
    pub fn exclusive(self) -> Self {
        self.mode(Mode::Exclusive)
    }

    /// The resource named last together with other shared leases.
    pub fn shared(self) -> Self {
        self.mode(Mode::Shared)
    }

    /// `count` of `limit` permits of the resource named last: a semaphore.
    pub fn permits(self, count: u32, limit: u32) -> Self {
        self.mode(Mode::Permits { count, limit })
    }

    /// How the lease shares the resource named last.
    pub fn mode(mut self, mode: Mode) -> Self {
        if let Some(last) = self.targets.last_mut() {
            last.mode = mode;
        }
        self
    }

    /// The resource named last with everything below it: `a` covers `a/b`, not `ab`. Not with
    /// permits.
    pub fn subtree(mut self) -> Self {
        if let Some(last) = self.targets.last_mut() {
            last.reach = Reach::Subtree;
        }
        self
    }

    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }
}

// === impl Acquire: by whom, for how long ===

impl Acquire {
    pub(crate) fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// The thread of control that asks, a `/`-path of at most 256 bytes: leases and waits of one
    /// actor take part in the detection of deadlocks. A parent is taken to wait for its children.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// For people and for lists: at most 16 labels, keys of 1..64 characters, values of at most 256.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// How long the lease lasts without renewal: 1 s to 24 h.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.life = Lives::Ttl(ttl);
        self
    }

    /// The lease lives as long as the client's session, whose keep-alive holds it.
    pub const fn with_session(mut self) -> Self {
        self.life = Lives::WithSession;
        self
    }

    pub(crate) const fn is_bound(&self) -> bool {
        matches!(self.life, Lives::WithSession)
    }

    /// The lease ends so long after its grant even when it is renewed: 1 s to 365 days.
    pub const fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// After an involuntary end (expired, forced, longest hold, session expired) the resources stay
    /// closed for so long, at most an hour: time for a holder that was lost to stop.
    pub const fn lock_delay(mut self, lock_delay: Duration) -> Self {
        self.lock_delay = lock_delay;
        self
    }
}

// === impl Acquire: how it is asked ===

impl Acquire {
    /// How long this call may wait for the lease, at most [`crate::MAX_WAIT`] of it.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
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

    /// The identity of this call for life. Give the one of the first attempt to repeat it;
    /// a new one is minted otherwise.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = Some(request_id.into());
        self
    }

    /// Only if `token` is still current on `resource`. May be given up to 16 times.
    pub fn fence(mut self, resource: impl Into<String>, token: u64) -> Self {
        self.fences.push((resource.into(), token));
        self
    }

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed.
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    pub(crate) fn into_wire(self) -> v1::AcquireLeaseRequest {
        let ttl_ms = match self.life {
            Lives::Ttl(ttl) => Some(milliseconds(ttl)),
            Lives::WithSession => None,
        };
        v1::AcquireLeaseRequest {
            request_id: self.request_id.unwrap_or_default(),
            holder: self.holder,
            targets: self.targets.into_iter().map(Target::into_wire).collect(),
            ttl_ms,
            wait_ms: milliseconds(self.wait),
            keep_ms: self.keep.map(milliseconds),
            priority: self.priority,
            fences: wire_fences(self.fences),
            age_ms: milliseconds(self.age),
            session_id: String::new(),
            actor: self.actor,
            labels: self.labels,
            max_hold_ms: self.max_hold.map(milliseconds),
            lock_delay_ms: milliseconds(self.lock_delay),
        }
    }
}
