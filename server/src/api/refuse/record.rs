//! Refusals about records.

use singletrack_core::{
    refusal::{FenceRequired, OutOfBounds, VersionMismatch},
    types::RecordKey,
};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};

use super::{bounded, new, short};
use crate::api::encode;

/// Bytes of a value that is told.
const VALUE_TOLD_BYTES_MAX: usize = singletrack_core::limits::VALUE_TOLD_BYTES_MAX;

pub(super) fn version_mismatch(mismatch: &VersionMismatch) -> v1::Refusal {
    let VersionMismatch { key, current } = mismatch;
    let name = short(key.as_str());
    let message = match current {
        None => format!("there is no record `{name}`"),
        Some(written) => match &written.written_by {
            Some(by) => {
                let by = short(by.as_str());
                format!("record `{name}` has version {}, written by `{by}`", written.version)
            }
            None => format!("record `{name}` has version {}", written.version),
        },
    };
    let next_step = match current {
        None => {
            "it was deleted, has run out, or never was: decide anew, and create it with expect.absent if it is wanted"
        }
        Some(_) => {
            "another has written it: decide anew from what it is now, then write with its version"
        }
    };
    let mut refusal = new(Reason::VersionMismatch, message, next_step);
    let told = current.as_deref().filter(|written| written.value.len() <= VALUE_TOLD_BYTES_MAX);
    refusal.detail = Some(Detail::VersionMismatch(v1::VersionMismatchDetail {
        key: key.to_string(),
        current_version: current.as_deref().map_or(0, |written| written.version.0),
        value: told.and_then(|written| encode::value(&written.value, None)),
        value_omitted: current.is_some() && told.is_none(),
        written_by: current.as_deref().map(encode::written_by).unwrap_or_default(),
        content_type: told.map(|written| written.content_type.to_string()),
    }));
    bounded(refusal)
}

/// Takes the value out first, then ends of names.
pub(super) fn cut_mismatch(mismatch: &mut v1::VersionMismatchDetail) -> bool {
    if mismatch.value.take().is_some() {
        mismatch.value_omitted = true;
        mismatch.content_type = None;
        return true;
    }
    super::shorten(&mut mismatch.written_by, super::NAME_BYTES_MAX)
}

pub(super) fn fence_required(required: &FenceRequired) -> v1::Refusal {
    let FenceRequired { prefix, resource, current } = required;
    let (name, lock) = (short(prefix.as_str()), short(resource.as_str()));
    let now = match current {
        Some((token, holder)) => {
            format!("token {token}, held by `{}`, is current", short(holder.as_str()))
        }
        None => String::from("nobody holds it"),
    };
    let mut refusal = new(
        Reason::FenceRequired,
        format!("`{name}` and what is below it is protected by `{lock}`: {now}"),
        "acquire that resource, EXCLUSIVE, and send its token as a fence",
    );
    refusal.detail = Some(Detail::FenceRequired(v1::FenceRequiredDetail {
        prefix: prefix.to_string(),
        resource: resource.to_string(),
        current_token: current.as_ref().map_or(0, |(token, _)| token.0),
        holder: current.as_ref().map(|(_, holder)| holder.to_string()).unwrap_or_default(),
    }));
    bounded(refusal)
}

pub(super) fn cut_required(required: &mut v1::FenceRequiredDetail) -> bool {
    super::shorten(&mut required.holder, super::NAME_BYTES_MAX)
}

pub(super) fn not_a_counter(key: &RecordKey) -> v1::Refusal {
    new(
        Reason::NotACounter,
        format!("record `{}` holds data or text, no counter", short(key.as_str())),
        "increment another key, or put a counter in its place",
    )
}

pub(super) fn out_of_bounds(bounds: &OutOfBounds) -> v1::Refusal {
    let OutOfBounds { key, value, min, max } = bounds;
    let name = short(key.as_str());
    let least = min.map_or_else(|| String::from("-2^63"), |min| min.to_string());
    let most = max.map_or_else(|| String::from("2^63-1"), |max| max.to_string());
    let mut refusal = new(
        Reason::OutOfBounds,
        format!("counter `{name}` is {value} and may be {least}..{most} after it"),
        "nothing was changed: ask for less, or treat it as used up",
    );
    refusal.detail = Some(Detail::OutOfBounds(v1::OutOfBoundsDetail {
        key: key.to_string(),
        value: *value,
        min: *min,
        max: *max,
    }));
    bounded(refusal)
}

pub(super) fn too_large(bytes: u64, maximum: u64) -> v1::Refusal {
    let mut refusal = new(
        Reason::TooLarge,
        format!("the changes of this transaction weigh {bytes} bytes; {maximum} are the most"),
        "nothing was changed: put fewer or smaller values into one transaction",
    );
    let limit = String::from("bytes of one transaction");
    refusal.detail = Some(Detail::Limit(v1::LimitDetail { limit, maximum }));
    refusal
}

/// Where the value of a record is neither at hand nor told, nothing is lost: it can be got.
const _: () = assert!(VALUE_TOLD_BYTES_MAX < super::REFUSAL_BYTES_MAX);
