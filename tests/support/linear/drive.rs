//! Clients that do random things to one record, each record its own history: they write down what
//! they ask and what they are told. Some calls have hardly any time, some connections are cut, and
//! not everybody asks again; so there are outcomes that nobody knows.
//!
//! Owns the choices and the calls, over the generated stubs. What is right is the checker's to say.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::Message as _;
use singletrack_proto::{
    Reason,
    v1::{
        self, record_expectation::Expect as WireExpect, record_service_client::RecordServiceClient,
        record_value::Kind,
    },
};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tonic::{Code, Request, Response, Status, transport::Channel};

use super::{
    file::Lines,
    record::{Answer, Expect, Operation, Value},
};
use crate::{random::Random, road::Road};

/// Clients of a record.
const CLIENTS: u64 = 4;
/// Calls of each.
const CALLS: u64 = 8;
/// So much text is kept on disk, not in memory.
const LONG_TEXT: usize = 5_000;
/// Longer than this a value isn't written down whole, nor told in a refusal.
const SHORT_BYTES: usize = 1_024;
/// Nobody's deadline.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a call without an answer.
const MOMENT: Duration = Duration::from_millis(20);
/// After so long without an answer a call is not sent again.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Ways to a server.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) direct: Channel,
    pub(crate) over_road: Channel,
    pub(crate) road: Arc<Road>,
}

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Driver {
    began: Instant,
    pub(crate) lines: Lines,
    /// What nobody foresaw.
    pub(crate) unforeseen: Arc<Mutex<Vec<String>>>,
}

/// One client of one record.
struct Client {
    driver: Driver,
    key: String,
    slot: u64,
    random: Random,
    reach: watch::Receiver<Reach>,
    /// Versions that clients of this record were told of, the newest last.
    versions: Arc<Mutex<Vec<u64>>>,
}

/// What a send came to.
enum Sent {
    Answered {
        answer: Answer,
        replayed: bool,
    },
    /// Nobody knows, for this reason.
    Unknown(String),
}

// === impl Reach ===

impl Reach {
    /// Connections to a server, one of them over this road.
    pub(crate) fn new(url: &str, road: Arc<Road>) -> Self {
        let lazily = |url: String| Channel::from_shared(url).unwrap().connect_lazy();
        Self { direct: lazily(url.to_owned()), over_road: lazily(road.url()), road }
    }
}

// === impl Driver ===

impl Driver {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), lines: Lines::default(), unforeseen: Arc::default() }
    }

    /// The whole history of a record, to its end.
    pub(crate) async fn drive(
        self,
        key: String,
        mut random: Random,
        reach: watch::Receiver<Reach>,
    ) {
        let versions = Arc::default();
        let client = |slot, random| Client {
            driver: self.clone(),
            key: key.clone(),
            slot,
            random,
            reach: reach.clone(),
            versions: Arc::clone(&versions),
        };
        let mut clients = JoinSet::new();
        for slot in 0..CLIENTS {
            clients.spawn(client(slot, random.split()).work());
        }
        while let Some(client) = clients.join_next().await {
            client.expect("a client notes what is wrong instead of panicking");
        }
        // When all is over there is still what they were told.
        client(CLIENTS, random).call(0, &Operation::Get).await;
    }

    fn at_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }
}

// === impl Client ===

impl Client {
    async fn work(mut self) {
        for number in 1..=CALLS {
            let operation = self.choose();
            self.call(number, &operation).await;
        }
    }

    fn choose(&mut self) -> Operation {
        match self.random.within(0..100) {
            0..30 => Operation::Get,
            30..65 => Operation::Put { value: self.value(), expect: self.expect() },
            65..85 => Operation::Increment {
                delta: if self.random.percent(70) { 1 } else { -1 },
                min: self.random.percent(20).then_some(0),
                max: self.random.percent(20).then_some(2),
            },
            _ => {
                let expect = match self.expect() {
                    Expect::Absent => Expect::Any,
                    other @ (Expect::Any | Expect::Exists | Expect::Version(_)) => other,
                };
                Operation::Delete { expect }
            }
        }
    }

    fn value(&mut self) -> Value {
        match self.random.within(0..10) {
            0..4 => Value::Counter(i64::try_from(self.random.within(0..2)).unwrap()),
            4..8 => Value::Text(["a", "b"][usize::from(self.random.percent(50))].to_owned()),
            8 => Value::Data("61".to_owned()),
            _ => digest(&"c".repeat(LONG_TEXT)),
        }
    }

    fn expect(&mut self) -> Expect {
        let versions = self.versions.lock().unwrap();
        let newest = versions.last().copied();
        let older = versions.iter().rev().nth(2).copied();
        drop(versions);
        match self.random.within(0..100) {
            0..40 => Expect::Any,
            40..50 => Expect::Absent,
            50..60 => Expect::Exists,
            60..93 => newest.map_or(Expect::Absent, Expect::Version),
            _ => older.map_or(Expect::Any, Expect::Version),
        }
    }

    /// One logical call, which may be sent several times.
    async fn call(&mut self, number: u64, operation: &Operation) {
        // Without a request id it can't be sent again: it might be done twice.
        let has_id = self.random.percent(80) && *operation != Operation::Get;
        let id =
            if has_id { format!("{}/{}/{number}", self.key, self.slot) } else { String::new() };
        let is_stubborn = has_id && self.random.percent(60);
        let is_last = self.slot == CLIENTS;
        let (began, mut unanswered) = (Instant::now(), false);
        let sent_at = self.driver.at_us();
        let mut call = self.driver.lines.invoke(self.slot, sent_at, &self.key, operation);
        loop {
            let age = if unanswered { began.elapsed() } else { Duration::ZERO };
            let mut is_over = began.elapsed() > SETTLE_LIMIT;
            let (answer, result) = match self.send(operation, &id, age).await {
                Sent::Answered { answer, replayed } if replayed && !unanswered => {
                    self.unforeseen(&format!("{answer:?} of {operation:?} is a replay"));
                    (None, "replayed".to_owned())
                }
                Sent::Answered { answer, .. } => {
                    let result = result_of(&answer).to_owned();
                    self.learn(&answer);
                    is_over = true;
                    // What had no effect is not remembered, so it is the answer to this send
                    // alone: an earlier one may still be on its way.
                    let settles = !unanswered || is_last || has_effect(&answer);
                    (settles.then_some(answer), result)
                }
                Sent::Unknown(reason) => (None, reason),
            };
            let goes_on = !is_over && (is_stubborn || is_last);
            if is_last || !goes_on {
                let place = (self.slot, call, self.driver.at_us());
                self.driver.lines.returned(place, &self.key, operation, answer.as_ref(), &result);
            }
            if answer.is_none() {
                // Until the next server is there; or this one has only a moment of weakness.
                let _ = tokio::time::timeout(MOMENT, self.reach.changed()).await;
            }
            if !goes_on {
                return;
            }
            if is_last {
                // A read that is sent again is another read.
                let at = self.driver.at_us();
                call = self.driver.lines.invoke(self.slot, at, &self.key, operation);
            }
            unanswered = true;
        }
    }

    fn learn(&self, answer: &Answer) {
        if let Answer::Found { version, .. }
        | Answer::Written { version, .. }
        | Answer::Mismatch { version, .. } = answer
            && *version > 0
        {
            self.versions.lock().unwrap().push(*version);
        }
    }

    /// Sends it once, over one of the ways, with more or less time.
    async fn send(&mut self, operation: &Operation, id: &str, age: Duration) -> Sent {
        let reach = self.reach.borrow_and_update().clone();
        let is_safe = self.slot == CLIENTS;
        let over_road = !is_safe && self.random.percent(50);
        let channel = if over_road { reach.over_road } else { reach.direct };
        let hurried = !is_safe && self.random.percent(10);
        let timeout =
            if hurried { Duration::from_micros(self.random.within(200..4_000)) } else { PATIENCE };
        let dropped = (!is_safe && self.random.percent(5)).then(|| self.random.within(100..3_000));
        let cuts = over_road && self.random.percent(2);
        let call = ask(RecordServiceClient::new(channel), &self.key, operation, id, age, timeout);
        let call = async {
            match dropped {
                None => call.await,
                Some(after) => tokio::time::timeout(Duration::from_micros(after), call)
                    .await
                    .unwrap_or_else(|_| Err(Status::cancelled("dropped"))),
            }
        };
        let cut = async {
            if cuts {
                tokio::task::yield_now().await;
                reach.road.cut();
            }
        };
        match tokio::join!(call, cut).0 {
            Ok((answer, replayed)) => Sent::Answered { answer, replayed },
            Err(status) => self.refused(operation, &status),
        }
    }

    fn refused(&self, operation: &Operation, status: &Status) -> Sent {
        let Some(refusal) = refusal(status) else {
            // A transport's own word.
            if status.code() == Code::DataLoss {
                self.unforeseen(status.message());
            }
            return Sent::Unknown(format!("{:?}", status.code()));
        };
        let reason = Reason::from_wire(refusal.reason()).expect("the server gives a reason");
        if reason.may_have_happened() {
            return Sent::Unknown(reason.name().to_owned());
        }
        let answer = match (reason, refusal.detail) {
            (Reason::NotFound, _) if *operation == Operation::Get => Answer::NotFound,
            (Reason::NotACounter, _) => Answer::NotACounter,
            (Reason::OutOfBounds, Some(v1::refusal::Detail::OutOfBounds(detail))) => {
                Answer::OutOfBounds { value: detail.value }
            }
            (Reason::VersionMismatch, Some(v1::refusal::Detail::VersionMismatch(detail))) => {
                let value = detail.value.map(value_from);
                let is_told = value.is_some() != detail.value_omitted;
                let is_short = !matches!(value, Some(Value::Digest(_)));
                if detail.current_version > 0 && !(is_told && is_short) {
                    self.unforeseen(&format!("{value:?} is told of a mismatch"));
                }
                Answer::Mismatch { version: detail.current_version, value }
            }
            (Reason::ShuttingDown | Reason::Overloaded, _) => Answer::Refused,
            (reason, _) => {
                self.unforeseen(&format!("{operation:?} is refused: {reason:?} {status:?}"));
                Answer::Refused
            }
        };
        Sent::Answered { answer, replayed: false }
    }

    fn unforeseen(&self, what: &str) {
        self.driver.unforeseen.lock().unwrap().push(format!("{}: {what}", self.key));
    }
}

/// Sends a call; its answer, and whether it is a replay.
async fn ask(
    mut stub: RecordServiceClient<Channel>,
    key: &str,
    operation: &Operation,
    request_id: &str,
    age: Duration,
    timeout: Duration,
) -> Result<(Answer, bool), Status> {
    let (key, request_id) = (key.to_owned(), request_id.to_owned());
    let age_ms = u64::try_from(age.as_millis()).unwrap();
    match operation {
        Operation::Get => {
            let request = v1::GetRecordRequest { key };
            let record = within(timeout, request, |it| stub.get_record(it)).await?.record.unwrap();
            let value = Some(value_from(record.value.unwrap()));
            let created = Some(record.created_at_version);
            Ok((Answer::Found { value, version: record.version, created }, false))
        }
        Operation::Put { value, expect } => {
            let (value, expect) = (Some(value_to(value)), expect_to(*expect));
            let request = v1::PutRecordRequest {
                request_id,
                key,
                value,
                expect,
                age_ms,
                ..Default::default()
            };
            let done = within(timeout, request, |it| stub.put_record(it)).await?;
            let created = Some(done.created_at_version);
            Ok((Answer::Written { version: done.version, created, value: None }, done.replayed))
        }
        Operation::Increment { delta, min, max } => {
            let (delta, min, max) = (*delta, *min, *max);
            let request = v1::IncrementRecordRequest {
                request_id,
                key,
                delta,
                min,
                max,
                age_ms,
                ..Default::default()
            };
            let done = within(timeout, request, |it| stub.increment_record(it)).await?;
            let value = Some(Value::Counter(done.value));
            let created = Some(done.created_at_version);
            Ok((Answer::Written { version: done.version, created, value }, done.replayed))
        }
        Operation::Delete { expect } => {
            let expect = expect_to(*expect);
            let request =
                v1::DeleteRecordRequest { request_id, key, expect, age_ms, ..Default::default() };
            let done = within(timeout, request, |it| stub.delete_record(it)).await?;
            if done.existed != (done.deleted_version > 0) {
                return Err(Status::new(Code::DataLoss, format!("{done:?}")));
            }
            Ok((Answer::Deleted { version: done.deleted_version }, done.replayed))
        }
    }
}

/// Sends a message with a deadline.
async fn within<M, R, F>(
    timeout: Duration,
    message: M,
    send: impl FnOnce(Request<M>) -> F,
) -> Result<R, Status>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    send(request).await.map(Response::into_inner)
}

/// What the server says of itself in a status, if it is the server's.
fn refusal(status: &Status) -> Option<v1::Refusal> {
    let rich = tonic_types::pb::Status::decode(status.details()).ok()?;
    let name = "type.googleapis.com/singletrack.v1.Refusal";
    let detail = rich.details.iter().find(|detail| detail.type_url == name)?;
    v1::Refusal::decode(&*detail.value).ok()
}

fn has_effect(answer: &Answer) -> bool {
    match answer {
        Answer::Written { .. } => true,
        Answer::Deleted { version } => *version > 0,
        Answer::Found { .. }
        | Answer::NotFound
        | Answer::Mismatch { .. }
        | Answer::NotACounter
        | Answer::OutOfBounds { .. }
        | Answer::Refused => false,
    }
}

/// What a history calls it.
fn result_of(answer: &Answer) -> &'static str {
    match answer {
        Answer::Found { .. } | Answer::Written { .. } | Answer::Deleted { .. } => "OK",
        Answer::NotFound => Reason::NotFound.name(),
        Answer::Mismatch { .. } => Reason::VersionMismatch.name(),
        Answer::NotACounter => Reason::NotACounter.name(),
        Answer::OutOfBounds { .. } => Reason::OutOfBounds.name(),
        Answer::Refused => Reason::Overloaded.name(),
    }
}

fn expect_to(expect: Expect) -> Option<v1::RecordExpectation> {
    let expect = match expect {
        Expect::Any => return None,
        Expect::Absent => WireExpect::Absent(true),
        Expect::Exists => WireExpect::Exists(true),
        Expect::Version(version) => WireExpect::Version(version),
    };
    Some(v1::RecordExpectation { expect: Some(expect) })
}

/// Text is long when it is all of one character here.
fn digest(text: &str) -> Value {
    let first = text.chars().next().unwrap_or_default();
    let is_plain = text.chars().all(|other| other == first);
    Value::Digest(format!("{} of {first}, plain: {is_plain}", text.len()))
}

fn value_to(value: &Value) -> v1::RecordValue {
    let kind = match value {
        Value::Counter(value) => Kind::Counter(*value),
        Value::Text(text) => Kind::Text(text.clone()),
        Value::Data(_) => Kind::Data(b"a".as_slice().into()),
        Value::Digest(_) => Kind::Text("c".repeat(LONG_TEXT)),
    };
    v1::RecordValue { kind: Some(kind) }
}

fn value_from(value: v1::RecordValue) -> Value {
    match value.kind.expect("a value has a kind") {
        Kind::Counter(value) => Value::Counter(value),
        Kind::Text(text) if text.len() > SHORT_BYTES => digest(&text),
        Kind::Text(text) => Value::Text(text),
        Kind::Data(data) => Value::Data(data.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}
