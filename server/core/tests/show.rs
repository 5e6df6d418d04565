//! How scripts show what a decision came to: every answer, every change, every motion.

use std::fmt::Write;

use singletrack_core::{
    change::{Change, Effect},
    decision::{After, Answer, Decision},
    motion::Motion,
    refusal::{Held, Refusal},
    reply::{HolderInfo, LeaseInfo, Notice, Reply, SessionPage},
    types::Mode,
};

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

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Acquired(grant) => format!(
            "granted token={} remaining={} waited={}{}",
            grant.token,
            grant.remaining_ms,
            grant.waited_ms,
            if grant.replayed { " replayed" } else { "" }
        ),
        Reply::Abandoned(state) => format!("abandoned {state:?}"),
        Reply::Renewed(results) => {
            let each: Vec<String> = results
                .iter()
                .map(|result| match result {
                    Ok(remaining) => format!("remaining={remaining}"),
                    Err(no) => refusal(no),
                })
                .collect();
            format!("renewed [{}]", each.join(", "))
        }
        Reply::Released { replayed } => {
            format!("released{}", if *replayed { " replayed" } else { "" })
        }
        Reply::Found(found) => format!(
            "found [{}] holders={} waiters={}",
            leases(&found.leases),
            found.holder_count,
            found.waiter_count
        ),
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
        Reply::Notice(Notice::LeaseLost { token, end, .. }) => {
            format!("notice lease-lost token={token} {end:?}")
        }
        Reply::Transacted(replies) => {
            let each: Vec<String> = replies.iter().map(self::reply).collect();
            format!("transacted [{}]", each.join("; "))
        }
    }
}

fn session_page(page: &SessionPage) -> String {
    let tokens: Vec<String> = page.leases.iter().map(|(_, token)| token.to_string()).collect();
    format!("[{}] next={:?}", tokens.join(", "), page.next)
}

fn leases(leases: &[LeaseInfo]) -> String {
    let each: Vec<String> = leases
        .iter()
        .map(|lease| {
            format!(
                "{} {} {} token={} ttl={} remaining={}",
                lease.target.resource,
                mode(lease.target.mode),
                lease.holder,
                lease.token,
                lease.ttl_ms,
                lease.remaining_ms
            )
        })
        .collect();
    each.join(", ")
}

fn holder(info: &HolderInfo) -> String {
    format!("{}:{}:{}ms:{}", info.holder, info.token, info.remaining_ms, mode(info.mode))
}

fn held(held: &Held) -> String {
    let holders: Vec<String> = held.holders.iter().map(holder).collect();
    format!(
        "{} by [{}] of {} ahead={} waited={}",
        held.resource,
        holders.join(", "),
        held.holder_count,
        held.queue_position,
        held.waited_ms
    )
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
        Refusal::Quota { cap, maximum } => format!("QUOTA {cap:?} maximum={maximum}"),
        Refusal::Operation { index, refusal: inner } => {
            format!("OPERATION {index}: {}", self::refusal(inner))
        }
        Refusal::AlreadyDone => "ALREADY_DONE".into(),
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Released => "released".into(),
        Effect::ForceReleased { holder } => format!("force-released from {holder}"),
        Effect::Transacted(effects) => {
            let each: Vec<String> = effects.iter().map(self::effect).collect();
            format!("transacted [{}]", each.join("; "))
        }
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
        Change::LeaseGranted(it) => format!(
            "lease-granted {}/{} token={} {} holder={} ttl={}{}{}",
            it.namespace,
            it.resource,
            it.token,
            mode(it.mode),
            it.holder,
            it.ttl.ms(),
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
    }
}

fn motion(motion: &Motion) -> String {
    match motion {
        Motion::WaiterQueued(it) => format!(
            "waiter-queued {} {} holder={} priority={} call={} until={}",
            it.acquire.target.resource,
            mode(it.acquire.target.mode),
            it.acquire.holder,
            it.acquire.priority.get(),
            it.call.0,
            it.until
        ),
        Motion::CallAttached { waiter, call, until, keep_ms } => {
            format!("call-attached waiter={waiter} call={} until={until} keep={keep_ms}", call.0)
        }
        Motion::CallDetached { call } => format!("call-detached call={}", call.0),
        Motion::WaiterDropped { waiter } => format!("waiter-dropped waiter={waiter}"),
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
    }
}
