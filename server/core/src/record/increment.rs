//! Adding to counters.

use alloc::boxed::Box;

use super::{
    protect,
    put::{self, NewRecord},
};
use crate::{
    change::Effect,
    command::{IncrementRecord, Request},
    decision::{Draft, check_fences},
    fence::Fences,
    overlay::View,
    refusal::{OutOfBounds, Refusal},
    replay,
    reply::Reply,
    types::{ContentType, Value},
};

/// Decides an increment.
pub(crate) fn decide(
    view: View<'_>,
    request: &Request,
    increment: &IncrementRecord,
    draft: &mut Draft,
) -> Result<Reply, Refusal> {
    if let Some(effect) = replay::find(view, request)? {
        return replay::again(view, effect);
    }
    check_fences(view, &request.fences)?;
    let fences = Fences::new(view, &request.fences);
    let (reply, effect) = decide_within(view, request, increment, &fences, draft)?;
    replay::check_room(view, request)?;
    replay::remember(view, request, effect, draft);
    Ok(reply)
}

/// Decides an increment within a transaction.
pub(crate) fn decide_within(
    view: View<'_>,
    request: &Request,
    increment: &IncrementRecord,
    fences: &Fences<'_>,
    draft: &mut Draft,
) -> Result<(Reply, Effect), Refusal> {
    let key = &increment.key;
    protect::check(view, key, fences)?;
    let before = view.record(key);
    let old = match before.map(|before| &before.value) {
        None => 0,
        Some(Value::Counter(number)) => *number,
        Some(Value::Data(_) | Value::Text(_)) => {
            return Err(Refusal::NotACounter { key: key.clone() });
        }
    };
    let value = add(increment, old)?;
    let (content_type, life) = match before {
        Some(before) => (before.content_type.clone(), before.life),
        None => (ContentType::default(), put::life(view, increment.lifetime, None)?),
    };
    let written_by = put::writer(view, request, increment.written_by.as_ref());
    let new = NewRecord { key, value: Value::Counter(value), content_type, written_by, life };
    let put = put::write(view, new, draft)?;
    let reply = Reply::Incremented { value, put, replayed: false };
    Ok((reply, Effect::Incremented { value, put }))
}

fn add(increment: &IncrementRecord, old: i64) -> Result<i64, Refusal> {
    let (min, max) = (increment.min, increment.max);
    let is_within =
        |sum: &i64| min.is_none_or(|min| min <= *sum) && max.is_none_or(|max| *sum <= max);
    old.checked_add(increment.delta).filter(is_within).ok_or_else(|| {
        let key = increment.key.clone();
        Refusal::OutOfBounds(Box::new(OutOfBounds { key, value: old, min, max }))
    })
}
