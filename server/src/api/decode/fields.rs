//! Fields that several messages have.

use std::collections::BTreeMap;

use singletrack_core::{
    fence::{Fence, FenceTarget},
    limits,
    types::{
        Actor, Flaw, Labels, LeaseId, Mode, Permits, Reach, ResourceName, SessionId, Target,
        Targets, Token, Words,
    },
};
use singletrack_proto::v1;

use crate::api::{flaws::Flaws, refuse::clip};

/// Digits of a lease id, and of a session's.
const ID_DIGITS: usize = 32;
/// Digits of a page token.
const PAGE_TOKEN_DIGITS: usize = 16;
/// Bytes of a label's key in the path of a flaw.
const KEY_TOLD_BYTES_MAX: usize = 96;

pub(super) fn request_id(text: &str, flaws: &mut Flaws) {
    request_id_text(format_args!("request_id"), text, flaws);
}

pub(super) fn request_id_text(field: std::fmt::Arguments<'_>, text: &str, flaws: &mut Flaws) {
    let maximum = limits::REQUEST_ID_CHARS_MAX;
    // No character is shorter than a byte, so most ids need no counting.
    if text.len() > maximum {
        let length = text.chars().count();
        if length > maximum {
            flaws.add_too_large(
                field,
                format!(
                    "a request id may have at most {maximum} characters, this one has {length}"
                ),
            );
            return;
        }
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        flaws.add(field, format!("a request id may not have control characters, found {c:?}"));
    }
}

pub(super) fn fences(fences: &[v1::Fence], flaws: &mut Flaws) -> Box<[Fence]> {
    let maximum = limits::FENCES_MAX;
    if fences.len() > maximum {
        let description = format!("at most {maximum} fences are expected, found {}", fences.len());
        flaws.add_too_large(format_args!("fences"), description);
        return Box::default();
    }
    let read = fences
        .iter()
        .enumerate()
        .filter_map(|(i, it)| fence(format_args!("fences[{i}]"), it, flaws));
    read.collect()
}

/// One fence; its flaws below `field`.
pub(super) fn fence(
    field: std::fmt::Arguments<'_>,
    fence: &v1::Fence,
    flaws: &mut Flaws,
) -> Option<Fence> {
    let target = match &fence.target {
        Some(v1::fence::Target::Resource(name)) => flaws
            .take(format_args!("{field}.resource"), ResourceName::parse(name))
            .map(FenceTarget::Resource),
        None => {
            flaws.add(format_args!("{field}.target"), "a resource is required");
            None
        }
    };
    let token = flaws.take(format_args!("{field}.token"), Token::parse(fence.token));
    Some(Fence { target: target?, token: token? })
}

pub(super) fn lease_id(text: &str) -> Result<LeaseId, Flaw> {
    id(text, "lease").map(LeaseId)
}

/// The id of a session.
///
/// # Errors
/// When it is not 32 hexadecimal digits.
pub(crate) fn session_id_text(text: &str) -> Result<SessionId, Flaw> {
    id(text, "session").map(SessionId)
}

fn id(text: &str, what: &str) -> Result<[u8; 16], Flaw> {
    let mut id = [0; 16];
    if text.is_empty() {
        return Err(Flaw { description: format!("a {what} id is required"), too_large: false });
    }
    hex::decode_to_slice(text, &mut id).map_err(|_| Flaw {
        description: format!(
            "a {what} id is {ID_DIGITS} hexadecimal digits, found another text of {} bytes",
            text.len()
        ),
        too_large: false,
    })?;
    Ok(id)
}

/// How many things a page shall have: 1..=`maximum`; `default` when the caller doesn't say.
pub(super) fn page_size(
    asked: Option<u32>,
    default: usize,
    maximum: usize,
    flaws: &mut Flaws,
) -> usize {
    match asked.map(usize::try_from) {
        None => default,
        Some(Ok(count)) if (1..=maximum).contains(&count) => count,
        Some(found) => {
            let found = found.unwrap_or(usize::MAX);
            let description = format!("a page size is 1..{maximum}, found {found}");
            flaws.add(format_args!("page_size"), description);
            0
        }
    }
}

pub(super) fn page_token(text: &str, flaws: &mut Flaws) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let mut token = [0; 8];
    if text.len() == PAGE_TOKEN_DIGITS && hex::decode_to_slice(text, &mut token).is_ok() {
        let token = u64::from_be_bytes(token);
        if token < limits::REVISION_END {
            return token;
        }
    }
    flaws.add(
        format_args!("page_token"),
        "the next_page_token of an earlier page is expected, found something else",
    );
    0
}

/// The page token of the page after this number: a token, or the number of a waiter.
pub(crate) fn page_token_after(number: u64) -> String {
    hex::encode(number.to_be_bytes())
}

// === what a lease is asked for ===

/// All targets; each flaw by the path of its field.
pub(super) fn targets(targets: &[v1::LeaseTarget], flaws: &mut Flaws) -> Option<Targets> {
    let maximum = limits::TARGETS_MAX;
    let (found, field) = (targets.len(), format_args!("targets"));
    if found == 0 {
        flaws.add(field, format!("1..{maximum} targets are expected, found none"));
        return None;
    }
    if found > maximum {
        let description = format!("1..{maximum} targets are expected, found {found}");
        flaws.add_too_large(field, description);
        return None;
    }
    let mut read = Vec::with_capacity(found);
    for (i, wanted) in targets.iter().enumerate() {
        read.extend(target(i, wanted, flaws));
    }
    if read.len() < found {
        return None;
    }
    match Targets::parse(read) {
        Ok(targets) => Some(targets),
        Err((_, flaw)) if flaw.too_large => flaws.take(field, Err(flaw)),
        Err((i, flaw)) => flaws.take(format_args!("targets[{i}].resource"), Err(flaw)),
    }
}

fn target(i: usize, target: &v1::LeaseTarget, flaws: &mut Flaws) -> Option<Target> {
    let resource = ResourceName::parse(&target.resource);
    let resource = flaws.take(format_args!("targets[{i}].resource"), resource);
    let mode = mode(i, target, flaws);
    let reach = match v1::LeaseReach::try_from(target.reach) {
        Ok(v1::LeaseReach::Unspecified | v1::LeaseReach::Exact) => Some(Reach::Exact),
        Ok(v1::LeaseReach::Subtree) => Some(Reach::Subtree),
        Err(_) => {
            let description = format!(
                "LEASE_REACH_EXACT or LEASE_REACH_SUBTREE is expected, found {}",
                target.reach
            );
            flaws.add(format_args!("targets[{i}].reach"), description);
            None
        }
    };
    let (resource, mode, reach) = (resource?, mode?, reach?);
    if reach == Reach::Subtree && matches!(mode, Mode::Permits(_)) {
        let what =
            "LEASE_REACH_EXACT is expected with LEASE_MODE_PERMITS, found LEASE_REACH_SUBTREE";
        flaws.add(format_args!("targets[{i}].reach"), what);
        return None;
    }
    Some(Target { resource, mode, reach })
}

fn mode(i: usize, target: &v1::LeaseTarget, flaws: &mut Flaws) -> Option<Mode> {
    let mode = match v1::LeaseMode::try_from(target.mode) {
        Ok(v1::LeaseMode::Unspecified | v1::LeaseMode::Exclusive) => Mode::Exclusive,
        Ok(v1::LeaseMode::Shared) => Mode::Shared,
        Ok(v1::LeaseMode::Permits) => return permits(i, target, flaws).map(Mode::Permits),
        Err(_) => {
            let description = format!(
                "LEASE_MODE_EXCLUSIVE, LEASE_MODE_SHARED or LEASE_MODE_PERMITS is expected, found {}",
                target.mode
            );
            flaws.add(format_args!("targets[{i}].mode"), description);
            return None;
        }
    };
    let mut fits = true;
    for (field, found) in [("permits", target.permits), ("limit", target.limit)] {
        if found != 0 {
            let description = format!("none is expected without LEASE_MODE_PERMITS, found {found}");
            flaws.add(format_args!("targets[{i}].{field}"), description);
            fits = false;
        }
    }
    fits.then_some(mode)
}

fn permits(i: usize, target: &v1::LeaseTarget, flaws: &mut Flaws) -> Option<Permits> {
    let limit = target.limit;
    let field = if (1..=limits::PERMITS_MAX).contains(&limit) { "permits" } else { "limit" };
    let parsed = Permits::parse(target.permits, limit);
    flaws.take(format_args!("targets[{i}].{field}"), parsed)
}

/// A thread of control; absent: none.
pub(super) fn actor(
    field: std::fmt::Arguments<'_>,
    text: &str,
    flaws: &mut Flaws,
) -> Option<Actor> {
    if text.is_empty() { None } else { flaws.take(field, Actor::parse(text)) }
}

/// Labels; each flaw by the key it is about.
pub(super) fn labels(labels: &BTreeMap<String, String>, flaws: &mut Flaws) -> Option<Labels> {
    let (maximum, found) = (limits::LABELS_MAX, labels.len());
    if found > maximum {
        let description = format!("at most {maximum} labels are expected, found {found}");
        flaws.add_too_large(format_args!("labels"), description);
        return None;
    }
    let mut fit = true;
    for (key, value) in labels {
        if let Err((_, flaw)) = Labels::parse([(&**key, &**value)]) {
            let key = clip(key, KEY_TOLD_BYTES_MAX);
            let told: Option<Labels> =
                flaws.take(format_args!("labels[{}]", key.escape_debug()), Err(flaw));
            fit &= told.is_some();
        }
    }
    if !fit {
        return None;
    }
    let all = Labels::parse(labels.iter().map(|(key, value)| (&**key, &**value)));
    flaws.take(format_args!("labels"), all.map_err(|(_, flaw)| flaw))
}

/// Words of a caller; there may be none.
pub(super) fn words(
    field: std::fmt::Arguments<'_>,
    text: &str,
    flaws: &mut Flaws,
) -> Option<Words> {
    flaws.take(field, Words::parse(text))
}
