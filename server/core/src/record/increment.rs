//! Adding to counters.

use alloc::boxed::Box;

use super::{
    protect,
    put::{self, NewRecord},
};
use crate::{
    change::Effect,
    command::{IncrementRecord, Request},
    decision::Draft,
    fence::Fences,
    overlay::View,
    record,
    refusal::{OutOfBounds, Refusal},
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
    record::decide_once(view, request, draft, |fences, draft| {
        decide_within(view, request, increment, fences, draft)
    })
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
