//! `singletrack txn`: a transaction from a file, and what came of it.
//!
//! - `file`: how it is written down

mod file;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde_json::{Value as Json, json};
use singletrack::{Client, Lease, TransactReply, Transacted};

use self::file::Transaction;
use crate::{
    args::TxnArgs,
    duration,
    exit::{Exit, Failure},
    lease::default_holder,
    output::{self, clean, number, table, target_json},
};

/// No transaction is as large in JSON.
const BYTES_MAX: u64 = 16 << 20;

pub(crate) async fn run(client: &Client, args: &TxnArgs) -> Result<(), Failure> {
    let transaction = read(&args.file)?;
    let holder = args.holder.clone().unwrap_or_else(default_holder);
    let operations: Vec<_> = transaction
        .operations
        .iter()
        .map(|operation| (operation.name(), operation.subject().to_owned()))
        .collect();
    let age = if args.age.is_zero() { transaction.age() } else { args.age };
    let request_id = args.request_id.clone().or_else(|| transaction.request_id.clone());
    let mut transact = transaction.said(client, &holder).age(age);
    if let Some(request_id) = request_id {
        transact = transact.request_id(request_id);
    }
    let transacted = transact.await.map_err(Failure::write)?;
    let as_json = || to_json(&operations, &transacted);
    output::print(args.client.output, as_json, || to_table(&operations, &transacted))?;
    Ok(())
}

fn read(path: &Path) -> Result<Transaction, Failure> {
    let (name, text) = if path == Path::new("-") {
        ("standard input".to_owned(), read_text(Ok(io::stdin().lock())))
    } else {
        (path.display().to_string(), read_text(File::open(path)))
    };
    let refuse = |found: String| Failure::Said {
        exit: Exit::Usage,
        message: format!("expected a transaction in {name}, found {found}"),
        next_step: "write it as docs/cli.md says".to_owned(),
    };
    let text = text.map_err(|error| refuse(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))
}

fn read_text(source: io::Result<impl io::Read>) -> io::Result<String> {
    let mut text = String::new();
    source?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

// === words ===

fn to_table(operations: &[(&str, String)], transacted: &Transacted) -> String {
    let rows: Vec<_> = operations
        .iter()
        .zip(&transacted.replies)
        .enumerate()
        .map(|(index, ((name, subject), reply))| {
            let subject = clean(subject).into_owned();
            [index.to_string(), (*name).to_owned(), subject, reply_words(reply)]
        })
        .collect();
    let before = if transacted.replayed { " before" } else { "" };
    let done = format!("done{before}, at revision {}\n", transacted.commit_revision);
    table(["#", "OPERATION", "ON", "RESULT"], &rows) + &done
}

fn reply_words(reply: &TransactReply) -> String {
    match reply {
        TransactReply::Acquired(lease) => format!(
            "lease {} with token {}, {} left",
            clean(&lease.lease_id),
            lease.token,
            duration::show(lease.remaining)
        ),
        TransactReply::Released => "released".to_owned(),
        TransactReply::ForceReleased(it) => format!("taken from {}", clean(&it.holder)),
        TransactReply::Transferred(it) => {
            format!("lease {} with token {}", clean(&it.lease_id), it.token)
        }
        TransactReply::Put(it) => format!("version {}", it.version),
        TransactReply::Incremented(it) => format!("{}, version {}", it.value, it.version),
        TransactReply::Deleted(it) => {
            format!("deleted, version {}", it.version.unwrap_or_default())
        }
        TransactReply::Protected(_) => "protected".to_owned(),
        TransactReply::Unprotected(_) => "not protected any more".to_owned(),
        TransactReply::Lost { reason, .. } => format!("done before, and gone: {}", clean(reason)),
        // The client crate may learn operations that this command can't have asked for.
        _ => "done".to_owned(),
    }
}

fn to_json(operations: &[(&str, String)], transacted: &Transacted) -> Json {
    let replies: Vec<_> = operations
        .iter()
        .zip(&transacted.replies)
        .map(|((name, _), reply)| json!({ *name: reply_json(reply) }))
        .collect();
    json!({
        "replies": replies,
        "commit_revision": number(transacted.commit_revision),
        "replayed": transacted.replayed,
        "request_id": transacted.request_id,
    })
}

fn reply_json(reply: &TransactReply) -> Json {
    match reply {
        TransactReply::Acquired(lease) => acquired_json(lease),
        TransactReply::ForceReleased(it) => json!({ "holder": it.holder }),
        TransactReply::Transferred(it) => json!({
            "lease_id": it.lease_id,
            "token": number(it.token),
            "remaining_ms": number(it.remaining.as_millis()),
        }),
        TransactReply::Put(it) => json!({
            "version": number(it.version),
            "created_at_version": number(it.created_at_version),
        }),
        TransactReply::Incremented(it) => json!({
            "value": number(it.value),
            "version": number(it.version),
            "created_at_version": number(it.created_at_version),
        }),
        TransactReply::Deleted(it) => json!({
            "existed": it.version.is_some(),
            "deleted_version": it.version.map(number),
        }),
        TransactReply::Protected(it) => json!({ "revision": number(it.revision) }),
        TransactReply::Lost { reason, .. } => json!({ "gone": reason }),
        TransactReply::Released | TransactReply::Unprotected(_) | _ => json!({}),
    }
}

fn acquired_json(lease: &Lease) -> Json {
    let targets: Vec<_> = lease.targets.iter().map(target_json).collect();
    json!({
        "resource": lease.resource(),
        "targets": targets,
        "holder": lease.holder,
        "lease_id": lease.lease_id,
        "token": number(lease.token),
        "remaining_ms": number(lease.remaining.as_millis()),
    })
}
