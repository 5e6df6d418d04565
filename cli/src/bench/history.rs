//! What was called and answered, as JSON lines, so that an outside checker can judge it. The format
//! is in `docs/history-format.md`.
//!
//! A thread writes; whoever calls only hands over. When it can't keep up, they wait: a history with
//! gaps would be worthless.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use serde_json::{Value as Json, json};
use singletrack::{Error, Value};
use tokio::time::Instant;

/// Lines that wait for the thread.
const LINES: usize = 65_536;

/// A history that is being written.
pub(super) struct History {
    writer: Writer,
    thread: JoinHandle<io::Result<()>>,
}

/// What a call asks, beside what it is about.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) value: Option<Json>,
    pub(super) delta: Option<i64>,
}

/// What an answer said.
#[derive(Default)]
pub(super) struct Told {
    pub(super) token: Option<u64>,
    pub(super) version: Option<u64>,
    pub(super) created_at_version: Option<u64>,
    pub(super) value: Option<Json>,
}

/// Hands lines over.
#[derive(Clone)]
pub(super) struct Writer {
    lines: SyncSender<Json>,
    calls: Arc<AtomicU64>,
    started: Instant,
}

// === impl History ===

impl History {
    /// Begins a file.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        let (lines, written) = sync_channel::<Json>(LINES);
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || {
            for line in written {
                writeln!(file, "{line}")?;
            }
            file.flush()
        })?;
        let writer = Writer { lines, calls: Arc::default(), started: Instant::now() };
        Ok(Self { writer, thread })
    }

    pub(super) fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Waits until all is written. No other writer may be left.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { writer, thread } = self;
        drop(writer);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the history's thread panicked")))
    }
}

// === impl Writer ===

impl Writer {
    /// A call begins; its number.
    pub(super) fn invoke(&self, slot: u32, op: &str, resource: Option<&str>, asked: Asked) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.write(json!({
            "event": "invoke", "call": call, "slot": slot, "at_us": self.at_us(),
            "op": op, "resource": resource,
            "value": asked.value, "delta": text(asked.delta),
        }));
        call
    }

    /// A call has ended.
    pub(super) fn returned(
        &self,
        slot: u32,
        call: u64,
        op: &str,
        resource: Option<&str>,
        told: Told,
        error: Option<&Error>,
    ) {
        let (event, result) = match error {
            None => ("return", "OK"),
            Some(error) if error.may_have_happened() => ("unknown", error.reason_name()),
            Some(error) => ("return", error.reason_name()),
        };
        self.write(json!({
            "event": event, "call": call, "slot": slot, "at_us": self.at_us(),
            "op": op, "resource": resource,
            "token": text(told.token), "version": text(told.version),
            "created_at_version": text(told.created_at_version), "value": told.value,
            "result": result,
        }));
    }

    fn at_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn write(&self, line: Json) {
        // A thread that failed says so at the end.
        let _failed = self.lines.send(line);
    }
}

/// A number as JSON has room for it.
fn text(number: Option<impl ToString>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// What a record holds, in short: equal values come out equal.
pub(super) fn short(value: &Value) -> Json {
    let digest = |bytes: &[u8]| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        json!({ "digest": format!("{:016x}", hasher.finish()) })
    };
    match value {
        Value::Data(data) => digest(data),
        Value::Text(text) => digest(text.as_bytes()),
        Value::Counter(value) => json!({ "counter": value.to_string() }),
    }
}
