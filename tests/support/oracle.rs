//! The one judge of what clients saw: a history of calls and answers goes in, the first broken
//! promise comes out.
//!
//! It knows the promises of leases, and by [`records`] those of records and transactions; a later
//! noun adds its events and its rules here. It judges only by what clients sent and were told, in the order in which they noted it, and it
//! assumes that no lease runs out during the history. It talks to nobody.

#[path = "records_oracle.rs"]
pub(crate) mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use self::records::{RecordEvent, RecordJudge};

/// Names one logical call: its request id.
pub(crate) type CallId = String;

/// What a lease is asked for, one part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) resource: String,
    pub(crate) kind: Kind,
    /// And everything below it.
    pub(crate) subtree: bool,
}

/// How a claim shares its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exclusive,
    Shared,
    Permits { count: u32, limit: u32 },
}

/// What a client did or was told. The place in the history is its time: an answer is noted
/// after it came, a request before it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An acquire is sent for the first time.
    AcquireSent { call: CallId, claims: Vec<Claim> },
    /// It, or a repetition, was granted.
    Granted { call: CallId, lease_id: String, token: u64, replayed: bool },
    /// It, or a repetition, was refused for a reason that leaves the caller with nothing.
    AcquireRefused { call: CallId, reason: String },
    /// The call is given up.
    AbandonSent { call: CallId },
    /// The server has confirmed that.
    Abandoned { call: CallId },
    /// A renewal was answered: `None` for yes, or the reason of the refusal.
    RenewAnswered { lease_id: String, refused: Option<String> },
    /// The lease was looked up by its id: its token, or the reason of the refusal.
    Looked { lease_id: String, found: Result<u64, String> },
    /// A release is sent for the first time.
    ReleaseSent { lease_id: String },
    /// It, or a repetition, was answered: `None` for yes.
    ReleaseAnswered { lease_id: String, refused: Option<String> },
    /// A transfer is sent for the first time.
    TransferSent { lease_id: String },
    /// It, or a repetition, was done: the new lease.
    Transferred { lease_id: String, new_id: String, token: u64, replayed: bool },
    /// A record was written, read or counted.
    Record(RecordEvent),
    /// The server was killed.
    Killed,
    /// It serves again.
    Restarted,
    /// All live leases at the end, when every call has its answer.
    Live { tokens: Vec<u64> },
    /// A call was answered in a way that no rule foresees.
    Unexpected { what: String },
}

/// A history that many clients write.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Event>>>);

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Which one, in words.
    pub(crate) promise: &'static str,
    /// Where in the history it came to light.
    pub(crate) at: usize,
    /// The events that have to do with it, with their places.
    pub(crate) evidence: Vec<(usize, Event)>,
}

/// What a history without a broken promise had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) grants: usize,
    /// Grants that were told again to a repeated call.
    pub(crate) repeated: usize,
    /// Grants that were first told to a repeated call, as the first answer was lost.
    pub(crate) recovered: usize,
    pub(crate) releases: usize,
    pub(crate) transfers: usize,
    pub(crate) kills: usize,
    /// Writes of records.
    pub(crate) writes: usize,
    /// Writes that were first told to a repeated call.
    pub(crate) writes_recovered: usize,
}

/// Judges a whole history.
pub(crate) fn judge(history: &[Event]) -> Result<Summary, Broken> {
    let mut judge = Judge::default();
    for (at, event) in history.iter().enumerate() {
        if let Err((promise, mut about)) = judge.take(event) {
            judge.widen(&mut about);
            let evidence = history
                .iter()
                .enumerate()
                .take(at + 1)
                .filter(|(_, event)| judge.concerns(event, &about))
                .map(|(at, event)| (at, event.clone()))
                .collect();
            return Err(Broken { promise, at, evidence });
        }
    }
    Ok(judge.summary)
}

/// Everything known so far. Keys of `calls` are request ids, of `leases` lease ids.
#[derive(Default)]
struct Judge {
    calls: BTreeMap<CallId, Call>,
    leases: BTreeMap<String, Lease>,
    tokens: BTreeMap<u64, CallId>,
    /// Leases that are held, as far as the clients know.
    held: BTreeSet<String>,
    highest_token: u64,
    /// The highest token of an exclusive grant on a resource.
    highest_on: BTreeMap<String, u64>,
    records: RecordJudge,
    summary: Summary,
}

struct Call {
    claims: Vec<Claim>,
    /// The highest token that anybody had been told when the call was first sent.
    tokens_before: u64,
    grant: Option<(String, u64)>,
    abandon: Progress,
}

struct Lease {
    call: CallId,
    token: u64,
    release: Progress,
}

/// How far a request is that ends something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    None,
    Sent,
    Done,
}

/// What a broken promise is about: a lease, a resource, or a call.
struct About(Vec<String>);

type Verdict = Result<(), (&'static str, About)>;

fn require(kept: bool, promise: &'static str, about: &[&str]) -> Verdict {
    if kept {
        return Ok(());
    }
    Err((promise, About(about.iter().map(|&name| name.to_owned()).collect())))
}

// === impl Judge ===

impl Judge {
    fn take(&mut self, event: &Event) -> Verdict {
        match event {
            Event::AcquireSent { call, claims } => {
                let new = Call {
                    claims: claims.clone(),
                    tokens_before: self.highest_token,
                    grant: None,
                    abandon: Progress::None,
                };
                let old = self.calls.insert(call.clone(), new);
                require(old.is_none(), "a test sends each logical call once", &[call])
            }
            Event::Granted { call, lease_id, token, replayed } => {
                self.granted(call, lease_id, *token, *replayed)
            }
            Event::AcquireRefused { call, reason } => self.acquire_refused(call, reason),
            Event::AbandonSent { call } => self.abandoned(call, Progress::Sent),
            Event::Abandoned { call } => self.abandoned(call, Progress::Done),
            Event::RenewAnswered { lease_id, refused } => {
                self.answered_about(lease_id, refused.is_none())
            }
            Event::Looked { lease_id, found } => {
                self.answered_about(lease_id, found.is_ok())?;
                let same = match (found, self.leases.get(lease_id)) {
                    (Ok(token), Some(lease)) => *token == lease.token,
                    (Ok(_) | Err(_), _) => true,
                };
                require(same, "a lease keeps its token", &[lease_id])
            }
            Event::ReleaseSent { lease_id } => self.release_sent(lease_id),
            Event::ReleaseAnswered { lease_id, refused } => {
                self.release_answered(lease_id, refused.is_none())
            }
            Event::TransferSent { lease_id } => self.end(lease_id, Progress::Sent),
            Event::Transferred { lease_id, new_id, token, replayed } => {
                self.transferred(lease_id, new_id, *token, *replayed)
            }
            Event::Record(event) => {
                let judged = self.records.take(event);
                self.summary.writes = self.records.writes;
                self.summary.writes_recovered = self.records.recovered;
                judged.map_err(|(promise, about)| (promise, About(about)))
            }
            Event::Killed => {
                self.summary.kills += 1;
                Ok(())
            }
            Event::Restarted => Ok(()),
            Event::Live { tokens } => self.live(tokens),
            Event::Unexpected { what } => {
                require(false, "every call is answered as the contract says", &[what])
            }
        }
    }

    fn granted(&mut self, id: &str, lease_id: &str, token: u64, replayed: bool) -> Verdict {
        let Some(call) = self.calls.get_mut(id) else {
            return require(false, "a test sends a call before it is answered", &[id]);
        };
        require(call.abandon != Progress::Done, "an abandoned call is never granted", &[id])?;
        let grant = (lease_id.to_owned(), token);
        if let Some(earlier) = &call.grant {
            // Told again. It must be the one effect, and only while the lease lives.
            let ended = self.leases.get(lease_id).is_some_and(|it| it.release == Progress::Done);
            require(*earlier == grant, "a repeated call has one effect", &[id, lease_id])?;
            require(replayed, "a repeated call says that it was replayed", &[id])?;
            require(!ended, "a replayed grant that has ended is refused", &[id, lease_id])?;
            self.summary.repeated += 1;
            return Ok(());
        }
        let rises = token > call.tokens_before;
        call.grant = Some(grant);
        self.summary.grants += 1;
        self.summary.recovered += usize::from(replayed);
        self.hold(id, lease_id, token, rises)
    }

    /// A new lease: its token is new and the highest on what it keeps for itself, and nobody has
    /// what it can't share.
    fn hold(&mut self, id: &str, lease_id: &str, token: u64, rises: bool) -> Verdict {
        let used = self.tokens.insert(token, id.to_owned());
        require(used.is_none(), "a token is used once", &[id, used.as_deref().unwrap_or(id)])?;
        require(rises, "a token is higher than every one granted before", &[id])?;
        let claims = self.calls.get(id).map(|call| call.claims.clone()).unwrap_or_default();
        for Claim { resource, kind, .. } in &claims {
            let highest = self.highest_on.entry(resource.clone()).or_default();
            let rises = token > *highest || *kind != Kind::Exclusive;
            require(rises, "tokens of a resource rise", &[resource])?;
            *highest = token.max(*highest);
        }
        self.highest_token = self.highest_token.max(token);
        let lease = Lease { call: id.to_owned(), token, release: Progress::None };
        self.leases.insert(lease_id.to_owned(), lease);
        for other in &self.held {
            let theirs = self.claims_of(other);
            let alone = claims.iter().all(|own| theirs.iter().all(|it| !own.clashes(it)));
            require(alone, "nobody else has what a lease can't share", &[lease_id, other])?;
        }
        self.held.insert(lease_id.to_owned());
        for claim in &claims {
            let Kind::Permits { limit, .. } = claim.kind else { continue };
            let used: u32 = self
                .held
                .iter()
                .flat_map(|other| self.claims_of(other))
                .filter(|other| other.resource == claim.resource)
                .map(|other| match other.kind {
                    Kind::Permits { count, .. } => count,
                    Kind::Exclusive | Kind::Shared => 0,
                })
                .sum();
            let promise = "no more permits are held than there are";
            require(used <= limit, promise, &[&claim.resource])?;
        }
        Ok(())
    }

    fn claims_of(&self, lease_id: &str) -> &[Claim] {
        let call = self.leases.get(lease_id).and_then(|lease| self.calls.get(&lease.call));
        call.map_or(&[], |call| &call.claims)
    }

    fn transferred(&mut self, old: &str, new: &str, token: u64, replayed: bool) -> Verdict {
        let id = format!("transfer of {old}");
        let Some(claims) = self.leases.get(old).map(|_| self.claims_of(old).to_vec()) else {
            return require(false, "a test transfers leases it was granted", &[old]);
        };
        let grant = (new.to_owned(), token);
        if let Some(earlier) = self.calls.get(&id).and_then(|call| call.grant.clone()) {
            require(earlier == grant, "a repeated call has one effect", &[&id, old, new])?;
            return require(replayed, "a repeated call says that it was replayed", &[&id]);
        }
        self.end(old, Progress::Done)?;
        self.summary.transfers += 1;
        let tokens_before = self.leases.get(old).map_or(0, |lease| lease.token);
        let rises = token > tokens_before;
        require(rises, "a transfer raises the token", &[old, new])?;
        let call = Call { claims, tokens_before, grant: Some(grant), abandon: Progress::None };
        self.calls.insert(id.clone(), call);
        self.hold(&id, new, token, rises)
    }

    fn acquire_refused(&mut self, id: &str, reason: &str) -> Verdict {
        let Some(call) = self.calls.get(id) else {
            return require(false, "a test sends a call before it is answered", &[id]);
        };
        if let Some((lease_id, _)) = &call.grant {
            // A repetition after the grant. Only the caller's own release can have ended it.
            let ended = self.leases.get(lease_id).is_some_and(|it| it.release != Progress::None);
            let lost = ended && reason == "LEASE_LOST";
            return require(lost, "an acknowledged grant is told again", &[id, lease_id]);
        }
        let cancelled = call.abandon != Progress::None;
        let kept = reason != "CANCELLED_WAIT" || cancelled;
        require(kept, "a call is cancelled only when it was abandoned", &[id])?;
        require(reason != "LEASE_LOST", "a grant that nobody ended is told", &[id])
    }

    fn abandoned(&mut self, id: &str, progress: Progress) -> Verdict {
        let Some(call) = self.calls.get_mut(id) else {
            return require(false, "a test sends a call before it abandons it", &[id]);
        };
        call.abandon = progress;
        if let Some((lease_id, _)) = call.grant.clone() {
            return self.end(&lease_id, progress);
        }
        Ok(())
    }

    /// The lease answers while it is held, and doesn't once it is given back.
    fn answered_about(&self, lease_id: &str, alive: bool) -> Verdict {
        let Some(lease) = self.leases.get(lease_id) else {
            return require(false, "a test asks about leases it was granted", &[lease_id]);
        };
        match lease.release {
            Progress::None => require(alive, "an acknowledged grant is never lost", &[lease_id]),
            Progress::Sent => Ok(()),
            Progress::Done => require(!alive, "a released lease stays released", &[lease_id]),
        }
    }

    fn release_sent(&mut self, lease_id: &str) -> Verdict {
        self.end(lease_id, Progress::Sent)
    }

    fn release_answered(&mut self, lease_id: &str, yes: bool) -> Verdict {
        // Only its holder ends a lease here, so that a refusal means that it was lost.
        require(yes, "an acknowledged grant can be released, again and again", &[lease_id])?;
        self.summary.releases += 1;
        self.end(lease_id, Progress::Done)
    }

    fn end(&mut self, lease_id: &str, progress: Progress) -> Verdict {
        let Some(lease) = self.leases.get_mut(lease_id) else {
            return require(false, "a test ends leases it was granted", &[lease_id]);
        };
        if lease.release != Progress::Done {
            lease.release = progress;
        }
        self.held.remove(lease_id);
        Ok(())
    }

    fn live(&self, tokens: &[u64]) -> Verdict {
        for token in tokens {
            let call = self.tokens.get(token);
            let text = token.to_string();
            require(call.is_some(), "no lease is granted that nobody was told of", &[&text])?;
        }
        for (lease_id, lease) in &self.leases {
            let listed = tokens.contains(&lease.token);
            let (kept, promise) = match lease.release {
                Progress::None => (listed, "an acknowledged grant is never lost"),
                Progress::Sent => (true, "a release under way may end either way"),
                Progress::Done => (!listed, "a released lease stays released"),
            };
            require(kept, promise, &[lease_id])?;
        }
        Ok(())
    }

    /// What a lease is about, its call is about too.
    fn widen(&self, about: &mut About) {
        let of_leases = about.0.iter().filter_map(|id| self.leases.get(id)).map(|it| &it.call);
        let calls: Vec<_> = of_leases.cloned().collect();
        about.0.extend(calls);
    }

    /// True for events about the same resource, call or lease, and for kills.
    fn concerns(&self, event: &Event, about: &About) -> bool {
        let named = |name: &str| about.0.iter().any(|known| known == name);
        let of_call = |id: &CallId| {
            let call = self.calls.get(id);
            named(id) || call.is_some_and(|it| it.claims.iter().any(|it| named(&it.resource)))
        };
        let of_lease = |id: &String| {
            named(id) || self.leases.get(id).is_some_and(|lease| of_call(&lease.call))
        };
        match event {
            Event::AcquireSent { call, .. }
            | Event::AcquireRefused { call, .. }
            | Event::AbandonSent { call }
            | Event::Abandoned { call } => of_call(call),
            Event::Granted { call, lease_id, .. } => of_call(call) || of_lease(lease_id),
            Event::RenewAnswered { lease_id, .. }
            | Event::Looked { lease_id, .. }
            | Event::ReleaseSent { lease_id }
            | Event::TransferSent { lease_id }
            | Event::Transferred { lease_id, .. }
            | Event::ReleaseAnswered { lease_id, .. } => of_lease(lease_id),
            Event::Record(event) => about.0.iter().any(|name| event.concerns(name)),
            Event::Killed | Event::Restarted | Event::Live { .. } | Event::Unexpected { .. } => {
                true
            }
        }
    }
}

// === impl Claim ===

impl Claim {
    /// The resource alone, for oneself.
    pub(crate) fn exclusive(resource: impl Into<String>) -> Self {
        Self { resource: resource.into(), kind: Kind::Exclusive, subtree: false }
    }

    /// The resource alone, with others.
    pub(crate) fn shared(resource: impl Into<String>) -> Self {
        Self { kind: Kind::Shared, ..Self::exclusive(resource) }
    }

    fn covers(&self, resource: &str) -> bool {
        match resource.strip_prefix(&self.resource) {
            Some("") => true,
            Some(rest) => self.subtree && rest.starts_with('/'),
            None => false,
        }
    }

    /// Two leases may not have both. (Of permits there is a sum beside that.)
    fn clashes(&self, other: &Self) -> bool {
        let shares = match (self.kind, other.kind) {
            (Kind::Shared, Kind::Shared) => true,
            (Kind::Permits { .. }, Kind::Permits { .. }) => self.resource == other.resource,
            (Kind::Exclusive | Kind::Shared | Kind::Permits { .. }, _) => false,
        };
        !shares && (self.covers(&other.resource) || other.covers(&self.resource))
    }
}

// === impl History ===

impl History {
    pub(crate) fn push(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        writeln!(f, "broken: {}, at event {}; what led to it:", self.promise, self.at)?;
        let hidden = self.evidence.len().saturating_sub(SHOWN);
        if hidden > 0 {
            writeln!(f, "  ... {hidden} earlier events")?;
        }
        for (at, event) in self.evidence.iter().skip(hidden) {
            writeln!(f, "  {at:>6} {event:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
