//! `put`, `incr`, `del`, `protect`, `unprotect`.

use serde_json::json;
use singletrack::Client;

use super::value;
use crate::{
    args::{DelArgs, Fence, IncrArgs, ProtectArgs, PutArgs},
    exit::Failure,
    lease::default_holder,
    output::{self, number},
};

/// What every write may say of itself as a call.
macro_rules! as_said {
    ($write:expr, $call:expr) => {{
        let (mut write, call) = ($write, $call);
        if let Some(request_id) = &call.request_id {
            write = write.request_id(request_id).age(call.age);
        }
        for Fence { resource, token } in &call.fences {
            write = write.fence((resource, *token));
        }
        write
    }};
}

pub(super) async fn put(client: &Client, args: &PutArgs) -> Result<(), Failure> {
    let value = value::given(args)?;
    let holder = args.holder.clone().unwrap_or_else(default_holder);
    let mut put = client.record(&args.key).put(value).holder(holder);
    if let Some(version) = args.expect.expect_version {
        put = put.expect_version(version);
    } else if args.expect.absent {
        put = put.expect_absent();
    } else if args.expect.exists {
        put = put.expect_exists();
    }
    if let Some(ttl) = args.lifetime.ttl {
        put = put.ttl(ttl);
    } else if let Some(lease) = &args.lifetime.bound_lease {
        put = put.bound_to(lease.clone());
    } else if args.keep_lifetime {
        put = put.keep_lifetime();
    }
    if let Some(content_type) = &args.content_type {
        put = put.content_type(content_type);
    }
    let written = as_said!(put, &args.call).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "key": args.key,
            "version": number(written.version),
            "created_at_version": number(written.created_at_version),
            "replayed": written.replayed,
            "request_id": written.request_id,
        })
    };
    let as_table = || {
        let is_new = written.version == written.created_at_version;
        let what = if is_new { "created" } else { "written" };
        let before = if written.replayed { " before" } else { "" };
        format!("{what}{before}, version {}\n", written.version)
    };
    output::print(args.client.output, as_json, as_table)?;
    Ok(())
}

pub(super) async fn incr(client: &Client, args: &IncrArgs) -> Result<(), Failure> {
    let holder = args.holder.clone().unwrap_or_else(default_holder);
    let mut increment = client.record(&args.key).increment(args.delta).holder(holder);
    if let Some(min) = args.min {
        increment = increment.min(min);
    }
    if let Some(max) = args.max {
        increment = increment.max(max);
    }
    if let Some(ttl) = args.lifetime.ttl {
        increment = increment.ttl(ttl);
    } else if let Some(lease) = &args.lifetime.bound_lease {
        increment = increment.bound_to(lease.clone());
    }
    let added = as_said!(increment, &args.call).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "key": args.key,
            "value": number(added.value),
            "version": number(added.version),
            "created_at_version": number(added.created_at_version),
            "replayed": added.replayed,
            "request_id": added.request_id,
        })
    };
    output::print(args.client.output, as_json, || format!("{}\n", added.value))?;
    Ok(())
}

pub(super) async fn del(client: &Client, args: &DelArgs) -> Result<(), Failure> {
    let mut delete = client.record(&args.key).delete();
    if let Some(version) = args.expect_version {
        delete = delete.expect_version(version);
    } else if args.exists {
        delete = delete.expect_exists();
    }
    let deleted = as_said!(delete, &args.call).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "key": args.key,
            "existed": deleted.version.is_some(),
            "deleted_version": deleted.version.map(number),
            "replayed": deleted.replayed,
            "request_id": deleted.request_id,
        })
    };
    let as_table = || match (deleted.version, deleted.replayed) {
        (Some(version), false) => format!("deleted, version {version}\n"),
        (Some(version), true) => format!("deleted before, version {version}\n"),
        (None, _) => "there was none\n".to_owned(),
    };
    output::print(args.client.output, as_json, as_table)?;
    Ok(())
}

pub(super) async fn protect(client: &Client, args: &ProtectArgs) -> Result<(), Failure> {
    let mut protect = client.records().protect(&args.prefix, &args.resource);
    if args.as_admin {
        protect = protect.as_admin();
    }
    let done = as_said!(protect, &args.call).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "prefix": args.prefix,
            "resource": args.resource,
            "revision": number(done.revision),
            "existed": done.existed,
            "replayed": done.replayed,
            "request_id": done.request_id,
        })
    };
    let words = if done.existed || done.replayed { "protected before" } else { "protected" };
    output::print(args.client.output, as_json, || format!("{words}\n"))?;
    Ok(())
}

pub(super) async fn unprotect(client: &Client, args: &ProtectArgs) -> Result<(), Failure> {
    let mut unprotect = client.records().unprotect(&args.prefix, &args.resource);
    if args.as_admin {
        unprotect = unprotect.as_admin();
    }
    let done = as_said!(unprotect, &args.call).await.map_err(Failure::write)?;
    let as_json = || {
        json!({
            "prefix": args.prefix,
            "resource": args.resource,
            "existed": done.existed,
            "replayed": done.replayed,
            "request_id": done.request_id,
        })
    };
    let words = if done.existed { "not protected any more" } else { "it was not protected" };
    output::print(args.client.output, as_json, || format!("{words}\n"))?;
    Ok(())
}
