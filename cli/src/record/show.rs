//! `get`, `ls`, `protections`: what records hold, and which there are. Changes nothing.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value as Json, json};
use singletrack::{Client, Record, Value};

use super::value::{value_json, value_words};
use crate::{
    args::{Format, GetRecordArgs, LsArgs, ProtectionsArgs},
    duration,
    exit::{Exit, Failure},
    output::{self, clean, number, table},
};

// === get ===

pub(super) async fn get(client: &Client, args: &GetRecordArgs) -> Result<(), Failure> {
    let format = args.client.output;
    match args.keys.as_slice() {
        [key] => get_one(client, key, format).await,
        keys => get_many(client, keys, format).await,
    }
}

async fn get_one(client: &Client, key: &str, format: Format) -> Result<(), Failure> {
    let Some(record) = client.record(key).get().await.map_err(Failure::read)? else {
        return Err(Failure::Said {
            exit: Exit::Refused,
            message: format!("expected a record {key:?}, found none"),
            next_step: "write it with `put`, or look what there is with `ls`".to_owned(),
        });
    };
    match format {
        Format::Json => output::print(format, || record_json(&record), String::new)?,
        Format::Table => print_value(&record)?,
    }
    Ok(())
}

/// The value as it is, so that what was put from a file is that file again. A terminal gets a line
/// of its own, and nothing that steers it.
fn print_value(record: &Record) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match (&record.value, out.is_terminal()) {
        (Some(Value::Counter(number)), _) => writeln!(out, "{number}")?,
        (Some(Value::Text(text)), true) => {
            text.split_terminator('\n').try_for_each(|line| writeln!(out, "{}", clean(line)))?;
        }
        (Some(value), true) => writeln!(out, "{}", value_words(value))?,
        (Some(value), false) => out.write_all(value.bytes().unwrap_or_default())?,
        (None, _) => {}
    }
    out.flush()
}

/// Exits with 1 when one of them is not there; the others are printed all the same.
async fn get_many(client: &Client, keys: &[String], format: Format) -> Result<(), Failure> {
    let snapshot = client.records().batch_get(keys).await.map_err(Failure::read)?;
    let as_json = || {
        let records: Vec<_> =
            snapshot.records.iter().map(|it| it.as_ref().map(record_json)).collect();
        json!({ "records": records, "revision": number(snapshot.revision) })
    };
    let as_table = || {
        let found: Vec<_> = snapshot.records.iter().flatten().collect();
        record_table(&found)
    };
    output::print(format, as_json, as_table)?;
    let absent: Vec<_> = keys
        .iter()
        .zip(&snapshot.records)
        .filter(|(_, record)| record.is_none())
        .map(|(key, _)| key.as_str())
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    match format {
        Format::Json => Err(Failure::Shown(Exit::Refused)),
        Format::Table => Err(Failure::Said {
            exit: Exit::Refused,
            message: format!("expected records of all keys, found none of {}", absent.join(", ")),
            next_step: "look what there is with `ls`".to_owned(),
        }),
    }
}

// === ls ===

pub(super) async fn ls(client: &Client, args: &LsArgs) -> Result<(), Failure> {
    let format = args.client.output;
    let mut list = client.records().list(&args.prefix);
    if args.keys {
        list = list.keys_only();
    }
    if let Some(limit) = args.limit.and_then(|limit| u32::try_from(limit).ok())
        && (1..1_000).contains(&limit)
    {
        list = list.page_size(limit);
    }
    let mut records = Vec::new();
    while args.limit.is_none_or(|limit| records.len() < limit) {
        let Some(mut record) = list.next().await.map_err(Failure::read)? else { break };
        if format == Format::Table {
            // Of what is not shown nothing is kept.
            record.value = record.value.as_ref().map(in_short);
        }
        records.push(record);
    }
    let as_json = || json!({ "records": records.iter().map(record_json).collect::<Vec<_>>() });
    let as_table = || {
        if args.keys {
            return records.iter().map(|it| format!("{}\n", clean(&it.key))).collect();
        }
        record_table(&records.iter().collect::<Vec<_>>())
    };
    output::print(format, as_json, as_table)?;
    Ok(())
}

/// What a table shows of a value, as a value.
fn in_short(value: &Value) -> Value {
    Value::from(value_words(value))
}

// === protections ===

pub(super) async fn protections(client: &Client, args: &ProtectionsArgs) -> Result<(), Failure> {
    let mut list = client.records().protections();
    if let Some(key) = &args.key {
        list = list.of_key(key);
    }
    let protections = list.all().await.map_err(Failure::read)?;
    let as_json = || {
        let list: Vec<_> = protections
            .iter()
            .map(|it| {
                json!({
                    "prefix": it.prefix, "resource": it.resource, "revision": number(it.revision),
                })
            })
            .collect();
        json!({ "protections": list })
    };
    let as_table = || {
        let rows: Vec<_> = protections
            .iter()
            .map(|it| {
                let names = [&it.prefix, &it.resource].map(|name| clean(name).into_owned());
                let [prefix, resource] = names;
                [prefix, resource, it.revision.to_string()]
            })
            .collect();
        table(["PREFIX", "RESOURCE", "REVISION"], &rows)
    };
    output::print(args.client.output, as_json, as_table)?;
    Ok(())
}

// === words ===

fn record_table(records: &[&Record]) -> String {
    let rows: Vec<_> = records.iter().map(|record| record_row(record)).collect();
    table(["KEY", "VERSION", "BYTES", "TYPE", "WRITTEN BY", "LASTS", "VALUE"], &rows)
}

fn record_row(record: &Record) -> [String; 7] {
    let lasts = match (record.remaining, record.bound_token) {
        (Some(left), _) => duration::show(left),
        (None, Some(token)) => format!("with token {token}"),
        (None, None) => "-".to_owned(),
    };
    let text = |text: &Option<String>| {
        text.as_deref().map_or_else(|| "-".to_owned(), |text| clean(text).into_owned())
    };
    let value = match &record.value {
        Some(value) => value_words(value),
        None if record.value_omitted => "(left out for its size)".to_owned(),
        None => "-".to_owned(),
    };
    [
        clean(&record.key).into_owned(),
        record.version.to_string(),
        record.value_bytes.to_string(),
        text(&record.content_type),
        text(&record.written_by),
        lasts,
        value,
    ]
}

fn record_json(record: &Record) -> Json {
    json!({
        "key": record.key,
        "value": record.value.as_ref().map(value_json),
        "value_omitted": record.value_omitted,
        "value_bytes": number(record.value_bytes),
        "content_type": record.content_type,
        "version": number(record.version),
        "created_at_version": number(record.created_at_version),
        "written_by": record.written_by,
        "remaining_ms": record.remaining.map(|left| number(left.as_millis())),
        "bound_token": record.bound_token.map(number),
    })
}
