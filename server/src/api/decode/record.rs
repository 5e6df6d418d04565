//! Messages of records and protections.

use singletrack_core::{
    body::{Body, Digest},
    command::{
        Command, Expectation, IncrementRecord, LeaseRef, ListRecords, Protect, PutRecord,
        RecordLifetime,
    },
    limits,
    types::{
        ContentType, Holder, RecordKey, RecordTtl, ResourceName, Token, Value, parse_version,
        value_flaw,
    },
};
use singletrack_proto::v1;

use super::{
    Context,
    fields::{fences, lease_id, page_size, request_id},
};
use crate::{
    api::{flaws::Flaws, identity},
    track::Question,
};

/// Decodes a get.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn get_record(
    context: Context,
    message: &v1::GetRecordRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let key = key(format_args!("key"), &message.key, &mut flaws);
    key.map(|key| context.read_only(Command::GetRecord(key))).ok_or(flaws)
}

/// Decodes a get of several.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn batch_get_records(
    context: Context,
    message: &v1::BatchGetRecordsRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let (found, maximum) = (message.keys.len(), limits::BATCH_GET_MAX);
    if found == 0 {
        flaws.add(format_args!("keys"), format!("1..{maximum} keys are expected, found none"));
    }
    if found > maximum {
        let description = format!("1..{maximum} keys are expected, found {found}");
        flaws.add_too_large(format_args!("keys"), description);
        return Err(flaws);
    }
    let keys = message.keys.iter().enumerate();
    let keys: Vec<_> =
        keys.filter_map(|(i, it)| key(format_args!("keys[{i}]"), it, &mut flaws)).collect();
    let max_bytes = max_bytes(message.max_bytes, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::BatchGetRecords { keys: keys.into(), max_bytes }))
}

/// Decodes a list.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_records(
    context: Context,
    message: &v1::ListRecordsRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let prefix =
        some(&message.prefix).and_then(|text| key(format_args!("prefix"), text, &mut flaws));
    let count = page_size(message.page_size, limits::PAGE_DEFAULT, limits::PAGE_MAX, &mut flaws);
    let after = some(&message.page_token).and_then(|text| {
        let after = read_page_token(text).and_then(|[key]| RecordKey::parse(&key).ok());
        let is_within = |after: &RecordKey| prefix.as_ref().is_none_or(|it| after.is_within(it));
        page_token(after.filter(is_within), &mut flaws)
    });
    let max_bytes = max_bytes(message.max_bytes, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let with_values = !message.keys_only;
    let list = ListRecords { prefix, after, count, with_values, max_bytes };
    Ok(context.read_only(Command::ListRecords(Box::new(list))))
}

/// Decodes a put.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn put_record(
    context: Context,
    message: &v1::PutRecordRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let key = key(format_args!("key"), &message.key, &mut flaws);
    let value = value(message.value.as_ref(), &mut flaws);
    let content_type = ContentType::parse(&message.content_type);
    let content_type = flaws.take(format_args!("content_type"), content_type);
    let expect = expectation(format_args!("expect"), message.expect.as_ref(), &mut flaws);
    let lifetime = lifetime(message.lifetime.as_ref(), &mut flaws);
    if message.keep_lifetime && message.lifetime.is_some() {
        flaws.add(format_args!("lifetime"), "none is expected with keep_lifetime");
    }
    let lifetime = if message.keep_lifetime { RecordLifetime::Kept } else { lifetime };
    let written_by = writer(&message.holder, &mut flaws);
    let fences = fences(&message.fences, &mut flaws);
    let (Some(key), Some(value), Some(content_type), true) =
        (key, value, content_type, flaws.is_empty())
    else {
        return Err(flaws);
    };
    let put = PutRecord { key, value, content_type, expect, lifetime, written_by };
    let identity = context.identify(&message.request_id, || identity::put(&put, &fences));
    Ok(context.question(identity, message.age_ms, fences, Command::PutRecord(Box::new(put))))
}

/// Decodes an increment.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn increment_record(
    context: Context,
    message: &v1::IncrementRecordRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let key = key(format_args!("key"), &message.key, &mut flaws);
    let (delta, min, max) = (message.delta, message.min, message.max);
    if delta == 0 {
        flaws.add(format_args!("delta"), "a delta other than 0 is required");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        flaws.add(format_args!("min"), format!("at most max ({max}) is expected, found {min}"));
    }
    let lifetime = lifetime(message.lifetime.as_ref(), &mut flaws);
    let written_by = writer(&message.holder, &mut flaws);
    let fences = fences(&message.fences, &mut flaws);
    let (Some(key), true) = (key, flaws.is_empty()) else { return Err(flaws) };
    let increment = IncrementRecord { key, delta, min, max, lifetime, written_by };
    let identity =
        context.identify(&message.request_id, || identity::increment(&increment, &fences));
    let command = Command::IncrementRecord(Box::new(increment));
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes a delete.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn delete_record(
    context: Context,
    message: &v1::DeleteRecordRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let key = key(format_args!("key"), &message.key, &mut flaws);
    let expect = expectation(format_args!("expect"), message.expect.as_ref(), &mut flaws);
    if expect == Some(Expectation::Absent) {
        let description = "exists or a version is expected: what is absent is not deleted";
        flaws.add(format_args!("expect.absent"), description);
    }
    let fences = fences(&message.fences, &mut flaws);
    let (Some(key), true) = (key, flaws.is_empty()) else { return Err(flaws) };
    let identity =
        context.identify(&message.request_id, || identity::delete(&key, expect, &fences));
    let command = Command::DeleteRecord { key, expect };
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes a protection.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn protect_prefix(
    context: Context,
    message: &v1::ProtectPrefixRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let protect = protect(&message.prefix, &message.resource, message.as_admin, &mut flaws);
    let fences = fences(&message.fences, &mut flaws);
    let (Some(protect), true) = (protect, flaws.is_empty()) else { return Err(flaws) };
    let identity = context.identify(&message.request_id, || identity::protect(&protect, &fences));
    let command = Command::ProtectPrefix(Box::new(protect));
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes the end of a protection.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn unprotect_prefix(
    context: Context,
    message: &v1::UnprotectPrefixRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let protect = protect(&message.prefix, &message.resource, message.as_admin, &mut flaws);
    let fences = fences(&message.fences, &mut flaws);
    let (Some(protect), true) = (protect, flaws.is_empty()) else { return Err(flaws) };
    let identity = context.identify(&message.request_id, || identity::unprotect(&protect, &fences));
    let command = Command::UnprotectPrefix(Box::new(protect));
    Ok(context.question(identity, message.age_ms, fences, command))
}

/// Decodes a list of protections.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_protections(
    context: Context,
    message: &v1::ListProtectionsRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let covered = some(&message.key).and_then(|text| key(format_args!("key"), text, &mut flaws));
    let count = page_size(message.page_size, limits::PAGE_DEFAULT, limits::PAGE_MAX, &mut flaws);
    let after = some(&message.page_token).and_then(|text| {
        let after = read_page_token(text).and_then(|[prefix, resource]| {
            let prefix = RecordKey::parse(&prefix).ok()?;
            Some(Box::new((prefix, ResourceName::parse(&resource).ok()?)))
        });
        page_token(after, &mut flaws)
    });
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::ListProtections { key: covered, after, count }))
}

// === fields ===

pub(super) fn key(
    field: std::fmt::Arguments<'_>,
    text: &str,
    flaws: &mut Flaws,
) -> Option<RecordKey> {
    flaws.take(field, RecordKey::parse(text))
}

pub(super) fn expectation(
    field: std::fmt::Arguments<'_>,
    message: Option<&v1::RecordExpectation>,
    flaws: &mut Flaws,
) -> Option<Expectation> {
    use v1::record_expectation::Expect;
    match &message?.expect {
        Some(Expect::Absent(true)) => Some(Expectation::Absent),
        Some(Expect::Exists(true)) => Some(Expectation::Exists),
        Some(Expect::Version(version)) => flaws
            .take(format_args!("{field}.version"), parse_version(*version))
            .map(Expectation::Version),
        Some(Expect::Absent(false)) => {
            flaws.add(format_args!("{field}.absent"), "true is expected, found false");
            None
        }
        Some(Expect::Exists(false)) => {
            flaws.add(format_args!("{field}.exists"), "true is expected, found false");
            None
        }
        None => {
            flaws.add(field, "absent, exists or a version is required");
            None
        }
    }
}

fn value(message: Option<&v1::RecordValue>, flaws: &mut Flaws) -> Option<Value> {
    use v1::record_value::Kind;
    let mut body = |field: &str, bytes: &[u8]| match value_flaw(bytes.len()) {
        Some(flaw) => flaws.take(format_args!("value.{field}"), Err(flaw)),
        None => Some(Body::new(bytes, |bytes| Digest(identity::digest(bytes)))),
    };
    match message.and_then(|value| value.kind.as_ref()) {
        Some(Kind::Data(bytes)) => body("data", bytes).map(Value::Data),
        Some(Kind::Text(text)) => body("text", text.as_bytes()).map(Value::Text),
        Some(Kind::Counter(number)) => Some(Value::Counter(*number)),
        None => {
            flaws.add(format_args!("value"), "data, text or a counter is required");
            None
        }
    }
}

/// Forever when it is absent; also when it is not legal, which is noted.
fn lifetime(message: Option<&v1::RecordLifetime>, flaws: &mut Flaws) -> RecordLifetime {
    use v1::record_lifetime::Lifetime;
    let Some(message) = message else { return RecordLifetime::Forever };
    let lifetime = match &message.lifetime {
        Some(Lifetime::TtlMs(ms)) => flaws
            .take(format_args!("lifetime.ttl_ms"), RecordTtl::parse(*ms))
            .map(RecordLifetime::Ttl),
        Some(Lifetime::BoundLease(bound)) => {
            let field = format_args!("lifetime.bound_lease.lease_id");
            let lease_id = flaws.take(field, lease_id(&bound.lease_id));
            let field = format_args!("lifetime.bound_lease.token");
            let token = flaws.take(field, Token::parse(bound.token));
            let lease = lease_id.zip(token);
            lease.map(|(lease_id, token)| RecordLifetime::Bound(LeaseRef { lease_id, token }))
        }
        None => {
            flaws.add(format_args!("lifetime"), "a ttl_ms or a bound_lease is required");
            None
        }
    };
    lifetime.unwrap_or(RecordLifetime::Forever)
}

fn writer(text: &str, flaws: &mut Flaws) -> Option<Holder> {
    some(text).and_then(|text| flaws.take(format_args!("holder"), Holder::parse(text)))
}

fn protect(prefix: &str, resource: &str, as_admin: bool, flaws: &mut Flaws) -> Option<Protect> {
    let prefix = key(format_args!("prefix"), prefix, flaws);
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(resource));
    Some(Protect { prefix: prefix?, resource: resource?, as_admin })
}

fn max_bytes(asked: Option<u32>, flaws: &mut Flaws) -> usize {
    let maximum = limits::VALUES_BYTES_MAX;
    let asked = asked.map_or(maximum, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if !(1..=maximum).contains(&asked) {
        let description = format!("1..{maximum} bytes are expected, found {asked}");
        flaws.add(format_args!("max_bytes"), description);
    }
    asked
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

// === page tokens ===

/// The page token of the page behind these names.
pub(crate) fn page_token_behind(names: &[&str]) -> String {
    // No name has a control character.
    hex::encode(names.join("\0"))
}

fn read_page_token<const N: usize>(text: &str) -> Option<[String; N]> {
    let names = String::from_utf8(hex::decode(text).ok()?).ok()?;
    let names: Vec<_> = names.split('\0').map(String::from).collect();
    names.try_into().ok()
}

fn page_token<T>(after: Option<T>, flaws: &mut Flaws) -> Option<T> {
    if after.is_none() {
        flaws.add(
            format_args!("page_token"),
            "the next_page_token of an earlier page is expected, found something else",
        );
    }
    after
}
