//! The judge of locks over recorded histories: what five models of Jepsen's Hazelcast suite ask
//! (mutex, reentrant mutex, fenced mutex, reentrant fenced mutex, semaphore), and readers with
//! writers, written anew over times instead of by a search.
//!
//! A history is what clients did and were told, each with the time at which it was sent and the
//! time at which the answer came. A hold is **certain** from the answer to its acquire until its
//! release is sent (or until the last answer that confirmed it, where leases may run out). Two
//! things follow, and both are exact: if certain times break no rule, the server may have taken
//! each hold just before its answer and ended it as its release came, so the history is
//! explained; and if they do, nothing explains it. A call without an answer may have
//! happened or not, so it proves nothing by itself.
//!
//! It judges one resource after the other, knows nothing of the server, and talks to nobody.

use std::{collections::BTreeMap, fmt};

/// Names a hold: the request id of its acquire.
pub(crate) type HoldId = String;

/// What a lock promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// A holder that asks again under the same id is told yes again.
    pub(crate) is_reentrant: bool,
    /// Each hold has a fence: higher than all before, and the same when asked again.
    pub(crate) is_fenced: bool,
    /// How much may be held at once: an exclusive hold takes all of it, a shared one 1.
    pub(crate) limit: u64,
    /// A hold lasts until it is released; else only as long as answers confirm it.
    pub(crate) lasts: bool,
}

/// How much of a resource a hold takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    Exclusive,
    Shared,
    Permits(u64),
}

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) resource: String,
    pub(crate) hold: HoldId,
    pub(crate) action: Action,
    /// When it was sent.
    pub(crate) sent: u64,
    pub(crate) outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Acquire(Share),
    /// A renewal, or a look at it.
    Confirm,
    Release,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Yes; an acquire may come with a fence.
    Yes { at: u64, fence: Option<u64> },
    /// Not held (or not to be had), and nothing happened.
    No { at: u64 },
    /// No answer: it may have happened at any time from then on, or never.
    Unknown,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Which one, in words.
    pub(crate) promise: &'static str,
    pub(crate) resource: String,
    /// The calls that have to do with it, by the time they were sent.
    pub(crate) evidence: Vec<Call>,
}

/// What a history without a broken promise had in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) resources: usize,
    pub(crate) holds: usize,
    /// Acquires that were told yes again.
    pub(crate) repeated: usize,
    pub(crate) releases: usize,
    /// Calls without an answer.
    pub(crate) unknown: usize,
    /// The most holds of one resource that were certain at once.
    pub(crate) together: usize,
}

/// Judges a whole history.
pub(crate) fn judge(model: Model, history: &[Call]) -> Result<Summary, Broken> {
    let mut by_resource: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in history {
        by_resource.entry(&call.resource).or_default().push(call);
    }
    let mut summary = Summary { resources: by_resource.len(), ..Summary::default() };
    summary.unknown = history.iter().filter(|it| it.outcome == Outcome::Unknown).count();
    for calls in by_resource.values() {
        judge_one(model, calls, &mut summary)?;
    }
    Ok(summary)
}

/// What is known of a hold.
struct Hold<'a> {
    share: Share,
    /// The yes to its acquire that came first.
    got: Option<u64>,
    fence: Option<u64>,
    /// When its acquire was first sent.
    asked: u64,
    /// The end of the time in which it is certain.
    until: u64,
    /// When its release was first sent.
    release_sent: Option<u64>,
    /// When its release was first answered with yes, and the sending of that one.
    released: Option<(u64, u64)>,
    calls: Vec<&'a Call>,
}

const FOREVER: u64 = u64::MAX;

fn judge_one(model: Model, calls: &[&Call], summary: &mut Summary) -> Result<(), Broken> {
    let mut holds: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        holds.entry(&call.hold).or_default().push(call);
    }
    let mut known = Vec::new();
    for mut calls in holds.into_values() {
        calls.sort_by_key(|call| call.sent);
        known.push(Hold::of(model, calls, summary)?);
    }
    summary.holds += known.iter().filter(|hold| hold.got.is_some()).count();
    check_together(model, &known, summary)?;
    check_released(model, &known)?;
    if model.is_fenced {
        check_fences(model, &known)?;
    }
    Ok(())
}

fn require(kept: bool, promise: &'static str, holds: &[&Hold<'_>]) -> Result<(), Broken> {
    if kept {
        return Ok(());
    }
    let mut evidence: Vec<Call> =
        holds.iter().flat_map(|hold| &hold.calls).map(|call| (*call).clone()).collect();
    evidence.sort_by_key(|call| call.sent);
    let resource = evidence.first().map(|call| call.resource.clone()).unwrap_or_default();
    Err(Broken { promise, resource, evidence })
}

// === one hold ===

impl<'a> Hold<'a> {
    fn of(model: Model, calls: Vec<&'a Call>, summary: &mut Summary) -> Result<Self, Broken> {
        let mut hold = Hold {
            share: Share::Exclusive,
            got: None,
            fence: None,
            asked: FOREVER,
            until: 0,
            release_sent: None,
            released: None,
            calls,
        };
        for call in hold.calls.clone() {
            match call.action {
                Action::Acquire(share) => hold.acquire(model, call, share, summary)?,
                Action::Confirm => {}
                Action::Release => hold.release(call, summary)?,
            }
        }
        hold.check_end(model)?;
        hold.until = hold.certain_until(model);
        Ok(hold)
    }

    fn acquire(
        &mut self,
        model: Model,
        call: &Call,
        share: Share,
        summary: &mut Summary,
    ) -> Result<(), Broken> {
        self.share = share;
        self.asked = self.asked.min(call.sent);
        let Outcome::Yes { at, fence } = call.outcome else { return Ok(()) };
        require(!model.is_fenced || fence.is_some(), "each hold has a fence", &[self])?;
        let Some(first) = self.got else {
            self.got = Some(at);
            self.fence = fence;
            return Ok(());
        };
        require(model.is_reentrant, "what is held is not acquired again", &[self])?;
        let same = !model.is_fenced || self.fence == fence;
        require(same, "a fence is the same when asked again", &[self])?;
        self.got = Some(first.min(at));
        summary.repeated += 1;
        Ok(())
    }

    fn release(&mut self, call: &Call, summary: &mut Summary) -> Result<(), Broken> {
        let sent = self.release_sent.unwrap_or(call.sent);
        self.release_sent = Some(sent.min(call.sent));
        if let Outcome::Yes { at, .. } = call.outcome {
            require(call.sent >= self.asked, "only what is held is released", &[self])?;
            summary.releases += 1;
            let earlier = self.released.is_some_and(|(_, answered)| answered <= at);
            if !earlier {
                self.released = Some((call.sent, at));
            }
        }
        Ok(())
    }

    /// What is held lasts, and what has ended stays ended.
    fn check_end(&self, model: Model) -> Result<(), Broken> {
        let mut ended = self.released.map_or(FOREVER, |(_, answered)| answered);
        for call in &self.calls {
            let Outcome::No { at } = call.outcome else { continue };
            let is_new = matches!(call.action, Action::Acquire(_)) && !model.is_reentrant;
            if is_new || self.got.is_none_or(|got| got >= call.sent) {
                continue;
            }
            let is_ending = |other: &&Call| other.action == Action::Release && other.sent < at;
            let others = self.calls.iter().filter(|other| **other != *call).copied();
            let may_have_ended = others.filter(is_ending).count() > 0;
            require(
                !model.lasts || may_have_ended,
                "what is held lasts until it is released",
                &[self],
            )?;
            ended = ended.min(at);
        }
        let is_alive = |call: &&&Call| {
            let is_yes = matches!(call.outcome, Outcome::Yes { .. });
            is_yes && call.action != Action::Release && call.sent > ended
        };
        let alive = self.calls.iter().filter(is_alive).count();
        require(alive == 0, "what has ended stays ended", &[self])
    }

    fn certain_until(&self, model: Model) -> u64 {
        let Some(got) = self.got else { return 0 };
        let mut until = if model.lasts { FOREVER } else { got };
        for call in &self.calls {
            let is_held = !matches!(call.action, Action::Release);
            match call.outcome {
                // It was held when that was decided, which was not before it was sent.
                Outcome::Yes { .. } if is_held => until = until.max(call.sent),
                Outcome::Yes { .. } | Outcome::No { .. } | Outcome::Unknown => {}
            }
        }
        let end = self.release_sent.unwrap_or(FOREVER);
        until.min(end).max(got)
    }

    /// It is certain in all of this time.
    fn is_certain(&self, from: u64, to: u64) -> bool {
        self.got.is_some_and(|got| got <= from && to <= self.until)
    }

    fn takes(&self, limit: u64) -> u64 {
        match self.share {
            Share::Exclusive => limit,
            Share::Shared => 1,
            Share::Permits(count) => count,
        }
    }
}

// === holds beside each other ===

/// At no time more is certain than the limit.
fn check_together(model: Model, holds: &[Hold<'_>], summary: &mut Summary) -> Result<(), Broken> {
    // At one time an end counts before a beginning: clocks are not finer than that.
    let mut moments: Vec<(u64, bool, usize)> = Vec::new();
    for (index, hold) in holds.iter().enumerate() {
        let Some(got) = hold.got else { continue };
        if hold.until > got {
            moments.push((got, true, index));
            moments.push((hold.until, false, index));
        }
    }
    moments.sort_unstable();
    let mut certain: Vec<usize> = Vec::new();
    let mut taken: u64 = 0;
    for (_, begins, index) in moments {
        let hold = &holds[index];
        if !begins {
            certain.retain(|other| *other != index);
            taken -= hold.takes(model.limit);
            continue;
        }
        certain.push(index);
        taken += hold.takes(model.limit);
        summary.together = summary.together.max(certain.len());
        let involved: Vec<&Hold<'_>> = certain.iter().map(|at| &holds[*at]).collect();
        require(taken <= model.limit, "no more is held at once than there is", &involved)?;
    }
    Ok(())
}

/// A hold whose acquire had no answer was held nevertheless when its release was answered with
/// yes: there was room for it at some time of that.
fn check_released(model: Model, holds: &[Hold<'_>]) -> Result<(), Broken> {
    for hold in holds.iter().filter(|hold| hold.got.is_none()) {
        let Some((sent, answered)) = hold.released else { continue };
        let others = || holds.iter().filter(|other| other.got.is_some());
        // Room begins only where some hold's certain time ends, or at the sending.
        let ends = others().map(|other| other.until).filter(|at| (sent..=answered).contains(at));
        let fits = std::iter::once(sent).chain(ends).any(|at| {
            let beside = others().filter(|other| other.is_certain(at, at) && other.until > at);
            let taken: u64 = beside.map(|other| other.takes(model.limit)).sum();
            taken + hold.takes(model.limit) <= model.limit
        });
        let mut involved: Vec<&Hold<'_>> =
            others().filter(|other| other.is_certain(sent, sent)).collect();
        involved.push(hold);
        require(fits, "only what is held is released", &involved)?;
    }
    Ok(())
}

/// Fences differ, and rise from each hold to those that were asked for after it was got, and to
/// those that came after it because the two can't be held at once.
fn check_fences(model: Model, holds: &[Hold<'_>]) -> Result<(), Broken> {
    const RISES: &str = "a fence rises with each new hold";
    let mut fenced: Vec<(u64, u64, &Hold<'_>)> =
        holds.iter().filter_map(|hold| Some((hold.fence?, hold.got?, hold))).collect();
    fenced.sort_by_key(|(fence, _, _)| *fence);
    for pair in fenced.windows(2) {
        let [(low, _, a), (high, _, b)] = pair else { continue };
        require(low != high, "a fence is given once", &[a, b])?;
    }
    // From the highest fence down: none with a higher one was got before this one was asked for.
    let mut first: Option<(u64, &Hold<'_>)> = None;
    for (_, got, hold) in fenced.iter().rev() {
        if let Some((first_got, higher)) = first {
            require(first_got >= hold.asked, RISES, &[higher, hold])?;
        }
        if first.is_none_or(|(first_got, _)| *got < first_got) {
            first = Some((*got, hold));
        }
    }
    // Certain times of those that can't be held at once are apart, and in the order of the holds.
    let mut highest: Option<(u64, &Hold<'_>)> = None;
    let mut highest_alone: Option<(u64, &Hold<'_>)> = None;
    fenced.retain(|(_, got, hold)| hold.until > *got);
    fenced.sort_by_key(|(_, got, _)| *got);
    for (fence, _, hold) in fenced {
        let is_alone = hold.takes(model.limit) == model.limit;
        let before = if is_alone { highest } else { highest_alone };
        if let Some((lower, earlier)) = before {
            require(lower < fence, RISES, &[earlier, hold])?;
        }
        if highest.is_none_or(|(known, _)| known < fence) {
            highest = Some((fence, hold));
        }
        if is_alone && highest_alone.is_none_or(|(known, _)| known < fence) {
            highest_alone = Some((fence, hold));
        }
    }
    Ok(())
}

impl Model {
    /// One holder at a time, who is not told yes twice.
    pub(crate) const MUTEX: Self =
        Self { is_reentrant: false, is_fenced: false, limit: 1, lasts: true };
    /// One holder at a time, who may ask again.
    pub(crate) const REENTRANT_MUTEX: Self = Self { is_reentrant: true, ..Self::MUTEX };
    /// A mutex with fences.
    pub(crate) const FENCED_MUTEX: Self = Self { is_fenced: true, ..Self::MUTEX };
    /// A mutex with fences, whose holder may ask again.
    pub(crate) const REENTRANT_FENCED_MUTEX: Self =
        Self { is_fenced: true, ..Self::REENTRANT_MUTEX };
    /// Any number of readers, or one writer; with fences.
    pub(crate) const READ_WRITE: Self =
        Self { limit: u32::MAX as u64, ..Self::REENTRANT_FENCED_MUTEX };

    /// So many permits.
    pub(crate) const fn semaphore(limit: u64) -> Self {
        Self { limit, ..Self::REENTRANT_MUTEX }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        writeln!(f, "broken on {}: {}; what has to do with it:", self.resource, self.promise)?;
        let hidden = self.evidence.len().saturating_sub(SHOWN);
        if hidden > 0 {
            writeln!(f, "  ... {hidden} earlier calls")?;
        }
        for call in self.evidence.iter().skip(hidden) {
            writeln!(f, "  {:>9} {} {:?}: {:?}", call.sent, call.hold, call.action, call.outcome)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "locks_oracle_tests.rs"]
mod tests;
