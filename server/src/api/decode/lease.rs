//! Messages of leases.

use singletrack_core::{
    command::{
        AcquireLease, AnswerLeaseYield, Command, LeaseFilter, LeaseKey, LeaseRef, Lifetime,
        RequestLeaseYield, Terms, TransferLease, YieldAnswer,
    },
    limits,
    types::{Holder, LeaseId, LockDelay, MaxHold, Priority, ResourceName, Token, Ttl},
};
use singletrack_proto::v1;

use super::{
    Context,
    fields::{
        actor, fences, labels, lease_id, page_size, page_token, request_id, request_id_text,
        session_id_text, targets, words,
    },
};
use crate::{
    api::{draw, flaws::Flaws, identity},
    track::Question,
};

/// Decodes an acquire; its lease id is drawn here.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn acquire_lease(
    context: Context,
    message: &v1::AcquireLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let holder = flaws.take(format_args!("holder"), Holder::parse(&message.holder));
    let targets = targets(&message.targets, &mut flaws);
    let lifetime = lifetime(&context, message.ttl_ms, &message.session_id, &mut flaws);
    let keep_ms = message.keep_ms.unwrap_or(limits::KEEP_MS_DEFAULT);
    if !(1..=limits::KEEP_MS_MAX).contains(&keep_ms) {
        let maximum = limits::KEEP_MS_MAX;
        flaws
            .add(format_args!("keep_ms"), format!("1..{maximum} ms are expected, found {keep_ms}"));
    }
    let priority = flaws.take(format_args!("priority"), Priority::parse(message.priority));
    let fences = fences(&message.fences, &mut flaws);
    let terms = terms(message, &mut flaws);
    let (Some(holder), Some(targets), Some(lifetime), Some(priority), true) =
        (holder, targets, lifetime, priority, flaws.is_empty())
    else {
        return Err(flaws);
    };
    let wait_ms = context.wait_ms(message.wait_ms);
    let lease_id = LeaseId(draw::id());
    let acquire =
        AcquireLease { lease_id, holder, targets, lifetime, wait_ms, keep_ms, priority, terms };
    let identity = context.identify(&message.request_id, || identity::acquire(&acquire, &fences));
    Ok(context.question(identity, message.age_ms, fences, Command::AcquireLease(acquire)))
}

/// What few ask for; `None`: nothing of it, or not legal.
fn terms(message: &v1::AcquireLeaseRequest, flaws: &mut Flaws) -> Option<Box<Terms>> {
    let actor = actor(format_args!("actor"), &message.actor, flaws);
    let labels = labels(&message.labels, flaws).unwrap_or_default();
    let max_hold = message.max_hold_ms.map(MaxHold::parse);
    let max_hold = max_hold.and_then(|it| flaws.take(format_args!("max_hold_ms"), it));
    let lock_delay = LockDelay::parse(message.lock_delay_ms);
    let lock_delay = flaws.take(format_args!("lock_delay_ms"), lock_delay).flatten();
    let terms = Terms { actor, labels, max_hold, lock_delay };
    (terms != Terms::default()).then(|| Box::new(terms))
}

/// Decodes an abandon.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn abandon_lease(
    context: Context,
    message: &v1::AbandonLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let id = &message.abandoned_request_id;
    if id.is_empty() {
        flaws.add(format_args!("abandoned_request_id"), "a request id is required");
    }
    request_id_text(format_args!("abandoned_request_id"), id, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let (abandoned, of) = context.identify_text(id);
    let of = of.and_then(|of| Some((of.session, of.seq?)));
    Ok(context.read_only(Command::AbandonLease { abandoned, of }))
}

/// Decodes a renewal.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn renew_leases(
    context: Context,
    message: &v1::RenewLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = message.renewals.len();
    let maximum = limits::RENEWALS_MAX;
    if count == 0 {
        flaws.add(
            format_args!("renewals"),
            format!("1..{maximum} renewals are expected, found none"),
        );
    }
    if count > maximum {
        let description = format!("1..{maximum} renewals are expected, found {count}");
        flaws.add_too_large(format_args!("renewals"), description);
        return Err(flaws);
    }
    let mut renewals = Vec::with_capacity(count);
    for (i, renewal) in message.renewals.iter().enumerate() {
        let field = format_args!("renewals[{i}].lease_id");
        let lease_id = flaws.take(field, lease_id(&renewal.lease_id));
        let token = flaws.take(format_args!("renewals[{i}].token"), Token::parse(renewal.token));
        if let (Some(lease_id), Some(token)) = (lease_id, token) {
            renewals.push(LeaseRef { lease_id, token });
        }
    }
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::RenewLeases(renewals.into())))
}

/// Decodes a release.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn release_lease(
    context: Context,
    message: &v1::ReleaseLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let lease = lease(&message.lease_id, message.token, &mut flaws);
    let fences = fences(&message.fences, &mut flaws);
    let (Some(lease), true) = (lease, flaws.is_empty()) else { return Err(flaws) };
    let identity = context.identify(&message.request_id, || identity::release(lease, &fences));
    Ok(context.question(identity, message.age_ms, fences, Command::ReleaseLease(lease)))
}

/// Decodes a get.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn get_lease(
    context: Context,
    message: &v1::GetLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    use v1::get_lease_request::Key;
    let key = match &message.key {
        Some(Key::LeaseId(id)) => {
            flaws.take(format_args!("lease_id"), lease_id(id)).map(LeaseKey::Id)
        }
        Some(Key::Resource(name)) => {
            flaws.take(format_args!("resource"), ResourceName::parse(name)).map(LeaseKey::Resource)
        }
        None => {
            flaws.add(format_args!("key"), "a lease_id or a resource is required");
            None
        }
    };
    key.map(|key| context.read_only(Command::GetLease(key))).ok_or(flaws)
}

/// Decodes a list.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_leases(
    context: Context,
    message: &v1::ListLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = page_size(message.page_size, limits::PAGE_DEFAULT, limits::PAGE_MAX, &mut flaws);
    let after = page_token(&message.page_token, &mut flaws);
    let holder = Some(&*message.holder).filter(|text| !text.is_empty());
    let holder = holder.and_then(|text| flaws.take(format_args!("holder"), Holder::parse(text)));
    let within = Some(&*message.resource_prefix).filter(|text| !text.is_empty());
    let within = within
        .and_then(|text| flaws.take(format_args!("resource_prefix"), ResourceName::parse(text)));
    let labels = labels(&message.labels, &mut flaws).unwrap_or_default();
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let filter = Box::new(LeaseFilter { holder, within, labels });
    Ok(context.read_only(Command::ListLeases { after, count, filter }))
}

/// Decodes a check.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn check_lease(
    context: Context,
    message: &v1::CheckLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(&message.resource));
    let token = flaws.take(format_args!("token"), Token::parse(message.token));
    let (Some(resource), Some(token)) = (resource, token) else { return Err(flaws) };
    Ok(context.read_only(Command::CheckLease { resource, token }))
}

/// Decodes a forced release.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn force_release_lease(
    context: Context,
    message: &v1::ForceReleaseLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(&message.resource));
    let token = flaws.take(format_args!("token"), Token::parse(message.token));
    let fences = fences(&message.fences, &mut flaws);
    let (Some(resource), Some(token), true) = (resource, token, flaws.is_empty()) else {
        return Err(flaws);
    };
    let identity = context
        .identify(&message.request_id, || identity::force_release(&resource, token, &fences));
    let command = Command::ForceReleaseLease { resource, token };
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes a transfer; the id of the new lease is drawn here.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn transfer_lease(
    context: Context,
    message: &v1::TransferLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let lease = lease(&message.lease_id, message.token, &mut flaws);
    let to = flaws.take(format_args!("to_holder"), Holder::parse(&message.to_holder));
    let to_actor = actor(format_args!("to_actor"), &message.to_actor, &mut flaws);
    let ttl = message.ttl_ms.map(Ttl::parse);
    let ttl = ttl.and_then(|ttl| flaws.take(format_args!("ttl_ms"), ttl));
    let fences = fences(&message.fences, &mut flaws);
    let (Some(lease), Some(to), true) = (lease, to, flaws.is_empty()) else { return Err(flaws) };
    let new_id = LeaseId(draw::id());
    let transfer = TransferLease { lease, new_id, to, to_actor, ttl };
    let identity = context.identify(&message.request_id, || identity::transfer(&transfer, &fences));
    let command = Command::TransferLease(Box::new(transfer));
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes a request to yield.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn request_lease_yield(
    context: Context,
    message: &v1::RequestLeaseYieldRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(&message.resource));
    let token = match message.token {
        0 => None,
        token => flaws.take(format_args!("token"), Token::parse(token)),
    };
    let from = flaws.take(format_args!("holder"), Holder::parse(&message.holder));
    let reason = words(format_args!("reason"), &message.reason, &mut flaws);
    let (Some(resource), Some(from), Some(reason), true) =
        (resource, from, reason, flaws.is_empty())
    else {
        return Err(flaws);
    };
    let request = RequestLeaseYield { resource, token, from, reason };
    Ok(context.read_only(Command::RequestLeaseYield(Box::new(request))))
}

/// Decodes an answer to such.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn answer_lease_yield(
    context: Context,
    message: &v1::AnswerLeaseYieldRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let lease = lease(&message.lease_id, message.token, &mut flaws);
    let (within_ms, maximum) = (message.within_ms, limits::YIELD_WITHIN_MS_MAX);
    if !message.will_yield && within_ms != 0 {
        let description = format!("none is expected without will_yield, found {within_ms}");
        flaws.add(format_args!("within_ms"), description);
    } else if within_ms > maximum {
        let description = format!("0..{maximum} ms are expected, found {within_ms}");
        flaws.add(format_args!("within_ms"), description);
    }
    let words = words(format_args!("message"), &message.message, &mut flaws);
    let (Some(lease), Some(words), true) = (lease, words, flaws.is_empty()) else {
        return Err(flaws);
    };
    let answer = YieldAnswer { within_ms: message.will_yield.then_some(within_ms), message: words };
    let number = Some(message.number).filter(|number| *number != 0);
    let answer = AnswerLeaseYield { lease, number, answer };
    Ok(context.read_only(Command::AnswerLeaseYield(Box::new(answer))))
}

/// Decodes a list of waiters.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_lease_waiters(
    context: Context,
    message: &v1::ListLeaseWaitersRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let (default, maximum) = (limits::WAITERS_PAGE_DEFAULT, limits::WAITERS_PAGE_MAX);
    let count = page_size(message.page_size, default, maximum, &mut flaws);
    let after = page_token(&message.page_token, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::ListLeaseWaiters { after, count }))
}

/// Decodes a question for counts.
///
/// # Errors
/// Never: nothing about it can be illegal.
pub(crate) fn get_lease_stats(
    context: Context,
    _: &v1::GetLeaseStatsRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    if flaws.is_empty() { Ok(context.read_only(Command::GetLeaseStats)) } else { Err(flaws) }
}

fn lease(id: &str, token: u64, flaws: &mut Flaws) -> Option<LeaseRef> {
    let lease_id = flaws.take(format_args!("lease_id"), lease_id(id));
    let token = flaws.take(format_args!("token"), Token::parse(token));
    Some(LeaseRef { lease_id: lease_id?, token: token? })
}

/// How long a lease would last: its own ttl, or as long as its session.
fn lifetime(
    context: &Context,
    ttl_ms: Option<u64>,
    session_id: &str,
    flaws: &mut Flaws,
) -> Option<Lifetime> {
    let named = !session_id.is_empty();
    if named && (ttl_ms.is_some() || context.on_stream.is_some()) {
        let other = if ttl_ms.is_some() { "with a ttl_ms" } else { "on a session's stream" };
        flaws.add(format_args!("session_id"), format!("none is expected {other}"));
        return None;
    }
    match (ttl_ms, context.on_stream) {
        (None, Some(on)) => Some(Lifetime::Session(on.session)),
        (None, None) if named => flaws
            .take(format_args!("session_id"), session_id_text(session_id))
            .map(Lifetime::Session),
        (ttl, None | Some(_)) => {
            let ttl = Ttl::parse(ttl.unwrap_or(limits::TTL_MS_DEFAULT));
            flaws.take(format_args!("ttl_ms"), ttl).map(Lifetime::Ttl)
        }
    }
}
