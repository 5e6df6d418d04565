//! How scripts show what a decision came to: every answer, every change, every motion.

use std::fmt::Write;

use singletrack_core::{
    change::{Change, Effect},
    command::{Terms, YieldAnswer},
    decision::{After, Answer, Decision},
    motion::Motion,
    refusal::{Deadlock, DeadlockRelation, Held, HeldWaiter, Refusal},
    reply::{
        Found, Grant, HolderInfo, LeaseInfo, Notice, Reply, SessionPage, WaiterInfo, YieldInfo,
        YieldStatus,
    },
    types::{Claim, Labels, Mode, Reach, Targets},
};

mod records;

/// The whole decision, a line for each part, motions included.
pub(crate) fn decision(decision: &Decision) -> String {
    let mut out = String::new();
    for Answer { call, result, after } in &decision.answers {
        let answer = match result {
            Ok(reply) => self::reply(reply),
            Err(refusal) => format!("refused {}", self::refusal(refusal)),
        };
        let depends = match after {
            After::Everything => String::new(),
            After::Revision(revision) => format!(" (after {revision})"),
        };
        writeln!(out, "call {}: {answer}{depends}", call.0).unwrap();
    }
    for change in &decision.changes {
        writeln!(out, "  change {}", self::change(change)).unwrap();
    }
    for motion in &decision.motions {
        writeln!(out, "  motion {}", self::motion(motion)).unwrap();
    }
    out
}

/// How a claim shares, and how far down it reaches.
fn manner(mode: Mode, reach: Reach) -> String {
    let mode = match mode {
        Mode::Exclusive => String::from("exclusive"),
        Mode::Shared => String::from("shared"),
        Mode::Permits(permits) => format!("{}/{}", permits.count(), permits.limit()),
    };
    match reach {
        Reach::Exact => mode,
        Reach::Subtree => format!("{mode} subtree"),
    }
}

fn claims<'a>(claims: impl Iterator<Item = Claim<'a>>) -> String {
    let each: Vec<String> =
        claims.map(|it| format!("{} {}", it.resource, manner(it.mode, it.reach))).collect();
    each.join(" + ")
}

fn targets(targets: &Targets) -> String {
    claims(targets.claims())
}

fn list<T>(all: &[T], one: impl Fn(&T) -> String) -> String {
    let each: Vec<String> = all.iter().map(one).collect();
    each.join(", ")
}

/// ` name=value`, or nothing.
fn optional<T: std::fmt::Display>(name: &str, value: Option<T>) -> String {
    value.map_or_else(String::new, |value| format!(" {name}={value}"))
}

fn nonzero(name: &str, value: u64) -> String {
    optional(name, (value > 0).then_some(value))
}

fn labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!(" {key}:{value}")).collect()
}

fn terms(terms: Option<&Terms>) -> String {
    let Some(it) = terms else { return String::new() };
    let (max_hold, delay) = (it.max_hold.map(|it| it.ms()), it.lock_delay.map(|it| it.ms()));
    format!(
        "{}{}{}{}",
        optional("actor", it.actor.as_ref()),
        optional("maxhold", max_hold),
        optional("delay", delay),
        labels(&it.labels)
    )
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Acquired(it) => format!("granted {}", grant(it)),
        Reply::Transferred(it) => format!("transferred {}", grant(it)),
        Reply::Abandoned(state) => format!("abandoned {state:?}"),
        Reply::Renewed(results) => {
            let each: Vec<String> = results
                .iter()
                .map(|result| match result {
                    Ok(it) => format!(
                        "remaining={}{}",
                        it.remaining_ms,
                        nonzero("yields", it.yield_requests.into())
                    ),
                    Err(no) => refusal(no),
                })
                .collect();
            format!("renewed [{}]", each.join(", "))
        }
        Reply::Released { replayed } => {
            format!("released{}", if *replayed { " replayed" } else { "" })
        }
        Reply::Found(it) => found(it),
        Reply::Page { leases: page, next } => {
            format!("page [{}] next={next:?}", leases(page))
        }
        Reply::Checked(checked) => format!(
            "checked {} newest={}",
            if checked.current { "current" } else { "stale" },
            checked.newest.as_ref().map_or(String::from("none"), holder)
        ),
        Reply::ForceReleased { holder, replayed } => {
            format!("force-released from {holder}{}", if *replayed { " replayed" } else { "" })
        }
        Reply::YieldRequested(statuses) => format!("asked [{}]", list(statuses, status)),
        Reply::YieldAnswered(count) => format!("answered {count}"),
        Reply::Waiters { waiters, next } => {
            format!("waiters [{}] next={next:?}", list(waiters, waiter))
        }
        Reply::Stats(it) => format!(
            "stats leases={} waiters={} closed={} sessions={} granted={} released={} lost={} \
             queued={} revision={}",
            it.leases,
            it.waiters,
            it.closed,
            it.sessions,
            it.granted_total,
            it.released_total,
            it.lost_total,
            it.queued_total,
            it.revision
        ),
        Reply::SessionOpened { remaining_ms, .. } => {
            format!("session-opened remaining={remaining_ms}")
        }
        Reply::SessionAttached(it) => format!(
            "session-attached generation={} ttl={} remaining={} holds {} of {}",
            it.generation,
            it.ttl_ms,
            it.remaining_ms,
            session_page(&it.held),
            it.held_count
        ),
        Reply::SessionKept(remaining) => format!("session-kept remaining={remaining}"),
        Reply::SessionClosed { replayed } => {
            format!("session-closed{}", if *replayed { " replayed" } else { "" })
        }
        Reply::SessionLeases(page) => format!("holds {}", session_page(page)),
        Reply::Notice(Notice::Superseded) => "notice superseded".into(),
        Reply::Notice(Notice::SessionLost(end)) => format!("notice session-lost {end:?}"),
        Reply::Notice(Notice::YieldRequested { token, request, .. }) => {
            format!("notice yield-requested token={token} {}", yield_info(request))
        }
        Reply::Notice(Notice::LeaseLost { token, end, .. }) => {
            format!("notice lease-lost token={token} {end:?}")
        }
        Reply::Transacted(it) => {
            let each: Vec<String> = it.replies.iter().map(self::reply).collect();
            format!("transacted [{}] commit={}{}", each.join("; "), it.commit, again(it.replayed))
        }
        Reply::Lost(refusal) => format!("lost ({})", self::refusal(refusal)),
        Reply::Record(_)
        | Reply::Records { .. }
        | Reply::RecordPage { .. }
        | Reply::RecordPut { .. }
        | Reply::Incremented { .. }
        | Reply::RecordDeleted { .. }
        | Reply::PrefixProtected { .. }
        | Reply::PrefixUnprotected { .. }
        | Reply::Protections { .. } => records::reply(reply),
    }
}

fn again(replayed: bool) -> &'static str {
    if replayed { " replayed" } else { "" }
}

fn session_page(page: &SessionPage) -> String {
    let tokens: Vec<String> = page.leases.iter().map(|(_, token)| token.to_string()).collect();
    format!("[{}] next={:?}", tokens.join(", "), page.next)
}

fn grant(grant: &Grant) -> String {
    format!(
        "token={} remaining={} waited={}{}",
        grant.token,
        grant.remaining_ms,
        grant.waited_ms,
        if grant.replayed { " replayed" } else { "" }
    )
}

fn found(found: &Found) -> String {
    let waiters = match &found.waiters[..] {
        [] => String::new(),
        all => format!(" [{}]", list(all, waiter)),
    };
    format!(
        "found [{}] holders={} waiters={}{waiters}{}",
        leases(&found.leases),
        found.holder_count,
        found.waiter_count,
        nonzero("closed", found.closed_ms)
    )
}

fn leases(leases: &[LeaseInfo]) -> String {
    list(leases, |lease| {
        let yields = match &lease.yield_requests[..] {
            [] => String::new(),
            all => format!(" asked by [{}]", list(all, yield_info)),
        };
        format!(
            "{} {} token={} ttl={} remaining={}{}{}{}{}{}{yields}",
            targets(&lease.targets),
            lease.holder,
            lease.token,
            lease.ttl_ms,
            lease.remaining_ms,
            nonzero("held", lease.held_ms),
            optional("actor", lease.actor.as_ref()),
            optional("hold-remaining", lease.hold_remaining_ms),
            nonzero("delay", lease.lock_delay_ms),
            labels(&lease.labels)
        )
    })
}

fn waiter(it: &WaiterInfo) -> String {
    format!(
        "{} {}{} priority={} waited={}{}{}",
        targets(&it.targets),
        it.holder,
        optional("actor", it.actor.as_ref()),
        it.priority,
        it.waited_ms,
        if it.is_attached { "" } else { " detached" },
        optional("blocked-by", it.blocked_by.as_deref().map(|it| format!("({})", held(it))))
    )
}

fn answer(answer: &YieldAnswer) -> String {
    let within = match answer.within_ms {
        Some(ms) => format!("within={ms}"),
        None => String::from("declined"),
    };
    format!("{within} \"{}\"", answer.message)
}

fn yield_info(it: &YieldInfo) -> String {
    format!(
        "#{} {} \"{}\" asked={}{}",
        it.number,
        it.from,
        it.reason,
        it.asked_ms,
        optional("answer", it.answer.as_ref().map(answer))
    )
}

fn status(it: &YieldStatus) -> String {
    format!(
        "{}:{}:{}ms{}{}",
        it.holder,
        it.token,
        it.remaining_ms,
        if it.is_told { " told" } else { "" },
        optional("answer", it.answer.as_ref().map(answer))
    )
}

fn holder(info: &HolderInfo) -> String {
    format!(
        "{}:{}:{}ms:{}{}{}{}{}{}",
        info.holder,
        info.token,
        info.remaining_ms,
        manner(info.mode, info.reach),
        optional("on", info.resource.as_ref()),
        nonzero("held", info.held_ms),
        optional("hold-remaining", info.hold_remaining_ms),
        optional("actor", info.actor.as_ref()),
        optional("answer", info.yield_answer.as_ref().map(answer))
    )
}

fn held(held: &Held) -> String {
    let waiters = match &held.waiters[..] {
        [] => String::new(),
        all => format!(" after [{}]", list(all, held_waiter)),
    };
    let blocked = u64::from(held.blocked_targets);
    format!(
        "{} by [{}] of {}{waiters} ahead={} waited={}{}{}{}{}",
        held.resource,
        list(&held.holders, holder),
        held.holder_count,
        held.queue_position,
        held.waited_ms,
        nonzero("closed", held.closed_ms),
        nonzero("used", held.permits_used.into()),
        nonzero("wanted", held.permits_wanted.into()),
        // One is what is told of anyway.
        if blocked == 1 { String::new() } else { format!(" blocked={blocked}") }
    )
}

fn held_waiter(it: &HeldWaiter) -> String {
    format!(
        "{}:p{}:{}ms{}{}",
        it.holder,
        it.priority,
        it.waited_ms,
        optional("on", it.resource.as_ref()),
        optional("actor", it.actor.as_ref())
    )
}

fn deadlock(it: &Deadlock) -> String {
    let steps = list(&it.cycle, |step| {
        let holder = step.holder.as_ref().map(|it| format!("({it})")).unwrap_or_default();
        let relation = match &step.relation {
            DeadlockRelation::Holds(name) => format!("held {name}"),
            DeadlockRelation::WaitsBefore(name) => format!("first-at {name}"),
            DeadlockRelation::Child => String::from("child"),
        };
        format!("{}{holder} -{relation}->", step.actor)
    });
    format!("[{steps}] of {}", it.step_count)
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::RequestIdReused => "REQUEST_ID_REUSED".into(),
        Refusal::RequestIdForgotten => "REQUEST_ID_FORGOTTEN".into(),
        Refusal::CancelledWait => "CANCELLED_WAIT".into(),
        Refusal::StaleFence(stale) => format!(
            "STALE_FENCE index={} resource={} presented={} current={:?}",
            stale.index, stale.resource, stale.presented, stale.current
        ),
        Refusal::NotFound => "NOT_FOUND".into(),
        Refusal::LeaseLost { end, token } => format!("LEASE_LOST {end:?} token={token}"),
        Refusal::NotHolder => "NOT_HOLDER".into(),
        Refusal::SessionLost { end } => format!("SESSION_LOST {end:?}"),
        Refusal::Held(why) => format!("HELD {}", held(why)),
        Refusal::StillWaiting(why) => format!("STILL_WAITING {}", held(why)),
        Refusal::Deadlock(it) => format!("DEADLOCK {}", deadlock(it)),
        Refusal::LimitMismatch { resource, limit, asked } => {
            format!("LIMIT_MISMATCH {resource} limit={limit} asked={asked}")
        }
        Refusal::Quota { cap, maximum } => format!("QUOTA {cap:?} maximum={maximum}"),
        Refusal::Operation { index, refusal: inner } => {
            format!("OPERATION {index}: {}", self::refusal(inner))
        }
        Refusal::AlreadyDone => "ALREADY_DONE".into(),
        Refusal::Condition { index, refusal: inner } => {
            format!("CONDITION {index}: {}", self::refusal(inner))
        }
        Refusal::VersionMismatch(_)
        | Refusal::FenceRequired(_)
        | Refusal::NotACounter { .. }
        | Refusal::OutOfBounds(_)
        | Refusal::TooLarge { .. } => records::refusal(refusal),
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Released => "released".into(),
        Effect::ForceReleased { holder } => format!("force-released from {holder}"),
        Effect::Transacted { commit, effects } => {
            let each: Vec<String> = effects.iter().map(self::effect).collect();
            format!("transacted [{}] commit={commit}", each.join("; "))
        }
        Effect::RecordPut(_)
        | Effect::Incremented { .. }
        | Effect::RecordDeleted { .. }
        | Effect::PrefixProtected { .. }
        | Effect::PrefixUnprotected => records::effect(effect),
        Effect::Transferred { token, .. } => format!("transferred token={token}"),
        Effect::Acquired { token, .. } => format!("acquired token={token}"),
        Effect::LeaseEnded { end, token } => format!("lease-ended {end:?} token={token}"),
    }
}

fn change(change: &Change) -> String {
    match change {
        Change::Started { revision } => format!("started revision={revision}"),
        Change::RequestRemembered(it) => {
            let of = it.of.map(|(session, seq)| format!(" of {session}/{seq}"));
            let of = of.unwrap_or_default();
            format!("request-remembered revision={} {}{of}", it.revision, effect(&it.effect))
        }
        Change::SessionOpened(it) => format!(
            "session-opened {} number={} holder={} ttl={}",
            it.namespace,
            it.number,
            it.holder,
            it.ttl.ms()
        ),
        Change::SessionEnded(it) => {
            format!("session-ended {} revision={} {:?}", it.opened.number, it.revision, it.end)
        }
        Change::SessionSwept { number, revision, .. } => {
            format!("session-swept {number} revision={revision}")
        }
        Change::SessionFloored { number, below, revision } => {
            format!("session-floored {number} below={below} revision={revision}")
        }
        Change::RequestAbandoned { revision, .. } => {
            format!("request-abandoned revision={revision}")
        }
        Change::TimePassed { at, revision } => format!("time-passed at={at} revision={revision}"),
        Change::LeaseClosed(it) => format!(
            "lease-closed {} token={} revision={} {:?} until={}",
            it.ended.namespace, it.ended.token, it.ended.revision, it.ended.end, it.until
        ),
        Change::LeaseReopened { namespace, token, revision } => {
            format!("lease-reopened {namespace} token={token} revision={revision}")
        }
        Change::LeaseGranted(it) => format!(
            "lease-granted {}/{} token={} holder={} ttl={}{}{}{}{}",
            it.namespace,
            claims(it.claims()),
            it.token,
            it.holder,
            it.ttl.ms(),
            nonzero("at", it.granted_at.0),
            terms(it.terms()),
            if it.request.is_some() { " with request" } else { "" },
            match it.session {
                Some(session) if it.is_bound => format!(" in session {session}"),
                Some(session) => format!(" asked by session {session}"),
                None => String::new(),
            }
        ),
        Change::LeaseEnded(it) => format!(
            "lease-ended {} token={} revision={} {:?}{}{}",
            it.namespace,
            it.token,
            it.revision,
            it.end,
            if it.request.is_some() { " with request" } else { "" },
            it.by.map(|by| format!(" by {}/{}", by.session, by.seq)).unwrap_or_default()
        ),
        Change::RecordWritten(_)
        | Change::RecordDeleted(_)
        | Change::PrefixProtected(_)
        | Change::PrefixUnprotected(_) => records::change(change),
    }
}

fn motion(motion: &Motion) -> String {
    match motion {
        Motion::WaiterQueued(it) => format!(
            "waiter-queued {} holder={} priority={}{} call={} until={}",
            targets(&it.acquire.targets),
            it.acquire.holder,
            it.acquire.priority.get(),
            terms(it.acquire.terms.as_deref()),
            it.call.0,
            it.until
        ),
        Motion::CallAttached { waiter, call, until, keep_ms } => {
            format!("call-attached waiter={waiter} call={} until={until} keep={keep_ms}", call.0)
        }
        Motion::CallDetached { call } => format!("call-detached call={}", call.0),
        Motion::WaiterDropped { waiter } => format!("waiter-dropped waiter={waiter}"),
        Motion::WaiterServed { waiter } => format!("waiter-served waiter={waiter}"),
        Motion::WaiterKept { waiter, keep_ms } => {
            format!("waiter-kept waiter={waiter} keep={keep_ms}")
        }
        Motion::LeaseRenewed { lease } => format!("lease-renewed lease={lease}"),
        Motion::LeaseRearmed { lease, at } => format!("lease-rearmed lease={lease} at={at}"),
        Motion::SessionKept { session } => format!("session-kept session={session}"),
        Motion::SessionRearmed { session, at } => {
            format!("session-rearmed session={session} at={at}")
        }
        Motion::SessionAttached { session, stream } => {
            format!("session-attached session={session} stream={}", stream.0)
        }
        Motion::RepliesAcknowledged { session, below, seen } => {
            format!("replies-acknowledged session={session} below={below} seen={seen:?}")
        }
        Motion::SessionForgotten { session, count } => {
            format!("session-forgotten session={session} count={count}")
        }
        Motion::Forgotten { count } => format!("forgotten count={count}"),
        Motion::Settled => "settled".into(),
        Motion::SettledInPart { priority, seq, node, is_below, again } => format!(
            "settled-in-part from {priority}/{seq} {} node={node}{}",
            if *is_below { "below" } else { "at" },
            if *again { " and again" } else { "" }
        ),
        Motion::YieldRequested { token, from, reason } => {
            format!("yield-requested token={token} from={from} \"{reason}\"")
        }
        Motion::YieldAnswered { token, number, answer: it } => {
            format!("yield-answered token={token}{} {}", optional("number", *number), answer(it))
        }
    }
}
