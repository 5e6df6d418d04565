//! HELD and STILL_WAITING: who stands in the way, since when, for how long at most, and what to
//! do about it.

use prost::Message;
use singletrack_core::{
    command::YieldAnswer,
    refusal::{Held, HeldWaiter},
    reply::HolderInfo,
    types::{Actor, Mode, Permits, Reach, ResourceName},
};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};

use super::{bounded, clip, new, shorten};

/// When to ask again for what is held: it may be released long before it expires.
const RETRY_MS: (u64, u64) = (50, 1_000);
/// Bytes of a name in the sentence.
const NAME_SAID_BYTES_MAX: usize = 48;
/// Bytes of a holder's words in the sentence.
const WORDS_SAID_BYTES_MAX: usize = 72;
/// Bytes of details of a holder, when room is short: its answer without its words, its actor.
const ANSWER_BYTES_MAX: usize = 40;
const ACTOR_BYTES_MAX: usize = 48;
/// Bytes of the names of the only holder that is left, when not even that fits.
const LAST_BYTES_MAX: usize = 100;

/// The refusal.
pub(super) fn refusal(held: &Held, still_waiting: bool) -> v1::Refusal {
    let what = said(held.resource.as_str());
    let (first, rest) = why(held);
    let place = place(held);
    let (reason, message) = if still_waiting {
        let waited = held.waited_ms;
        let message = format!(
            "after {waited} ms {what} is still {first}; your place in the queue is kept, {place}{rest}"
        );
        (Reason::StillWaiting, message)
    } else {
        (Reason::Held, format!("{what} is {first}; {place}{rest}"))
    };
    let mut refusal = new(reason, message, &next_step(held, still_waiting));
    if !still_waiting {
        refusal.retry_after_ms = retry_ms(held);
    }
    refusal.detail = Some(Detail::Held(detail(held)));
    bounded(refusal)
}

/// The facts in at most so many bytes.
pub(crate) fn held_detail(held: &Held, bytes_max: usize) -> v1::HeldDetail {
    let mut detail = detail(held);
    while detail.encoded_len() > bytes_max && cut(&mut detail) {}
    detail
}

/// Cuts a little, the least telling first; false: there is nothing left to cut. What a name has
/// lost is shown by an ellipsis.
pub(super) fn cut(detail: &mut v1::HeldDetail) -> bool {
    let holders = &mut detail.holders;
    if holders.iter_mut().rev().any(|by| shorten(&mut by.yield_answer, ANSWER_BYTES_MAX))
        || holders.iter_mut().rev().any(|by| shorten(&mut by.actor, ACTOR_BYTES_MAX))
        || detail.waiters.pop().is_some()
    {
        return true;
    }
    if holders.len() > 1 {
        return holders.pop().is_some();
    }
    let shortened = holders.iter_mut().any(|by| {
        shorten(&mut by.resource, LAST_BYTES_MAX) || shorten(&mut by.holder, LAST_BYTES_MAX)
    });
    shortened || holders.pop().is_some()
}

// === in words ===

/// Why it is not to be had, as what follows "is": what matters most, and the rest.
fn why(held: &Held) -> (String, String) {
    let mut reasons = Vec::new();
    if let Some(first) = held.holders.first() {
        reasons.push(by(held, first));
    }
    if held.closed_ms > 0 {
        reasons.push(format!("closed for {} ms more after a holder was lost", held.closed_ms));
    }
    if let Some(first) = held.waiters.first() {
        reasons.push(behind(first));
    }
    if reasons.is_empty() {
        reasons.push("not to be had, as others wait for it".into());
    }
    let others = held.blocked_targets.saturating_sub(1);
    if others > 0 {
        reasons.push(format!("{others} more of the targets are not to be had"));
    }
    let rest = reasons.split_off(1).into_iter().map(|reason| format!("; {reason}")).collect();
    (reasons.pop().unwrap_or_default(), rest)
}

fn by(held: &Held, first: &HolderInfo) -> String {
    let HolderInfo { token, held_ms, remaining_ms, .. } = first;
    let how = match first.mode {
        Mode::Exclusive => String::from("held by"),
        Mode::Shared => String::from("shared by"),
        Mode::Permits(permits) => used_up(held, permits),
    };
    let through = match (&first.resource, first.reach) {
        (Some(other), reach) => format!(" (as {}{})", said(other.as_str()), below(reach)),
        (None, Reach::Subtree) => String::from(" (with all below it)"),
        (None, Reach::Exact) => String::new(),
    };
    let most = first
        .hold_remaining_ms
        .map_or_else(|| "with no longest hold".into(), |most| format!("at most {most} ms"));
    let answer = first.yield_answer.as_ref().map(answered).unwrap_or_default();
    let others = u64::from(held.holder_count).saturating_sub(1);
    let others = if others > 0 { format!(" and {others} more") } else { String::new() };
    format!(
        "{how} {}{through} (token {token}, for {held_ms} ms, {remaining_ms} ms left unless renewed, {most}){answer}{others}",
        said(first.holder.as_str()),
    )
}

fn used_up(held: &Held, permits: Permits) -> String {
    let wanted = match held.permits_wanted {
        0 => String::new(),
        wanted => format!(" and {wanted} promised to earlier waiters"),
    };
    format!("with {} of {} permits in use{wanted}, by", held.permits_used, permits.limit())
}

const fn below(reach: Reach) -> &'static str {
    match reach {
        Reach::Exact => "",
        Reach::Subtree => " with all below it",
    }
}

fn answered(answer: &YieldAnswer) -> String {
    let words = clip(answer.message.as_str(), WORDS_SAID_BYTES_MAX);
    let words = if words.is_empty() { words } else { format!(" (\"{words}\")") };
    match answer.within_ms {
        Some(within_ms) => format!(", who will yield within {within_ms} ms{words}"),
        None => format!(", who declines to yield{words}"),
    }
}

fn behind(first: &HeldWaiter) -> String {
    let HeldWaiter { waited_ms, priority, .. } = first;
    let what = first
        .resource
        .as_ref()
        .map(|resource| format!(" for {}", said(resource.as_str())))
        .unwrap_or_default();
    let priority = if *priority == 0 { String::new() } else { format!(", priority {priority}") };
    format!(
        "wanted before you by {}{what} (waiting {waited_ms} ms{priority})",
        said(first.holder.as_str())
    )
}

fn place(held: &Held) -> String {
    match held.queue_position {
        0 => "nobody waits before you".into(),
        1 => "1 waits before you".into(),
        before => format!("{before} wait before you"),
    }
}

fn next_step(held: &Held, still_waiting: bool) -> String {
    let yields = held.holders.first().and_then(|by| by.yield_answer.as_ref());
    let ask = match yields.map(|answer| answer.within_ms) {
        None if held.holders.is_empty() => "",
        None => "; RequestLeaseYield asks the holder to give it up",
        Some(Some(_)) => "; the holder has said that it will yield",
        Some(None) => "; the holder has declined to yield: do something else meanwhile",
    };
    if still_waiting {
        format!(
            "repeat the call with the same request_id to go on waiting, or give it up with AbandonLease{ask}"
        )
    } else {
        format!(
            "don't proceed without the lease: ask again with wait_ms and a request_id to be queued, or later{ask}"
        )
    }
}

fn retry_ms(held: &Held) -> u64 {
    let (least, most) = RETRY_MS;
    let ends = held.holders.iter().map(|by| by.remaining_ms);
    let opens = Some(held.closed_ms).filter(|ms| *ms > 0);
    ends.chain(opens).min().unwrap_or(most).clamp(least, most)
}

fn said(name: &str) -> String {
    format!("`{}`", clip(name, NAME_SAID_BYTES_MAX))
}

// === as facts ===

fn detail(held: &Held) -> v1::HeldDetail {
    v1::HeldDetail {
        resource: held.resource.to_string(),
        holders: held.holders.iter().map(held_by).collect(),
        holder_count: held.holder_count,
        queue_position: held.queue_position,
        waited_ms: held.waited_ms,
        waiters: held.waiters.iter().map(held_waiter).collect(),
        closed_ms: held.closed_ms,
        permits_used: held.permits_used,
        permits_wanted: held.permits_wanted,
        blocked_targets: held.blocked_targets,
    }
}

fn held_by(by: &HolderInfo) -> v1::HeldBy {
    let (shared, permits) = match by.mode {
        Mode::Exclusive => (false, 0),
        Mode::Shared => (true, 0),
        Mode::Permits(permits) => (false, permits.count()),
    };
    v1::HeldBy {
        holder: by.holder.to_string(),
        token: by.token.0,
        remaining_ms: by.remaining_ms,
        shared,
        resource: by.resource.as_ref().map(ResourceName::to_string).unwrap_or_default(),
        subtree: by.reach == Reach::Subtree,
        permits,
        held_ms: by.held_ms,
        hold_remaining_ms: by.hold_remaining_ms,
        actor: by.actor.as_ref().map(Actor::to_string).unwrap_or_default(),
        yield_answer: by.yield_answer.as_ref().map(answer_text).unwrap_or_default(),
    }
}

fn answer_text(answer: &YieldAnswer) -> String {
    let head = match answer.within_ms {
        Some(within_ms) => format!("will yield within {within_ms} ms"),
        None => "declines".into(),
    };
    let words = answer.message.as_str();
    if words.is_empty() { head } else { format!("{head}: {words}") }
}

fn held_waiter(waiter: &HeldWaiter) -> v1::HeldWaiter {
    v1::HeldWaiter {
        holder: waiter.holder.to_string(),
        actor: waiter.actor.as_ref().map(Actor::to_string).unwrap_or_default(),
        priority: waiter.priority.into(),
        waited_ms: waiter.waited_ms,
        resource: waiter.resource.as_ref().map(ResourceName::to_string).unwrap_or_default(),
    }
}
