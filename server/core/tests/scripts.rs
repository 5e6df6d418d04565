//! Scripts: verbs in; the outcome, all changes and all motions out.
//!
//! A script is `tests/scripts/NAME.txt`: blocks of verbs, a line `----`, and what came of
//! them. `UPDATE=1 cargo test -p singletrack-core scripts` rewrites what came of them; read
//! the difference before you commit it. The whole-state invariants are checked after every
//! verb, and at the end of each script the log is replayed into a second machine, which must
//! have the same rows.
//!
//! Verbs (`as=NAME` names a lease, `id=ID` is a request id, durations are like `500ms`, `10s`):
//! `acquire TARGET... holder=H [ttl=] [wait=] [keep=] [priority=] [fence=RES:TOKEN] [age=]
//! [actor=] [label=KEY:VALUE,...] [maxhold=] [delay=]` (a target is `RESOURCE[:shared|:N/LIMIT]
//! [:subtree]`; a word `shared` makes all targets that don't say otherwise shared),
//! `renew NAME[:TOKEN]...`, `release NAME[:TOKEN]`, `abandon ID`, `get RESOURCE|=NAME`,
//! `list [after=] [count=] [holder=] [within=] [label=]`, `transfer NAME to=H [actor=] [ttl=]
//! as=NAME`, `yield RESOURCE from=H [token=] [reason=]`, `answer NAME [within=] [number=]
//! [message=]`, `waiters [after=] [count=]`, `stats`, `check RESOURCE TOKEN`,
//! `force RESOURCE TOKEN`, `drop CALL`, `advance TIME`, `stall TIME` (advance without charging),
//! `durable`, `manual` (nothing is durable until `durable` says so), `restart`, `quota KIND N`,
//! `transact` (the lines after it that begin with `?` are its conditions, `fence RES:TOKEN` or
//! `record KEY absent|exists|VERSION`, those that begin with `+` its operations), `put KEY VALUE
//! [type=] [expect=absent|exists|VERSION] [ttl=|bound=NAME[:TOKEN]|keep] [by=]` (a value is a
//! number, `data:TEXT`, `TEXT`, or `TEXT*N` for N times that), `incr KEY DELTA [min=] [max=] [ttl=|bound=]
//! [by=]`, `del KEY [expect=]`, `protect PREFIX RESOURCE [admin]`, `unprotect PREFIX RESOURCE
//! [admin]`, `read KEY`, `bget KEY... [bytes=]`, `records [prefix=] [after=] [count=] [bytes=]
//! [keys]`, `protections [KEY] [after=PREFIX:RES] [count=]`, `open NAME holder=H [ttl=]`,
//! `attach NAME` (the call is the session's stream), `keepalive NAME`, `close NAME`,
//! `held NAME [after=] [count=]`, `ack NAME below=N [seen=1,2]`, `cancel CALL...`, `sweep N` (at
//! most so many; after `lazy` nothing else sweeps), `slice N` (from now on so many waiters are
//! looked at in one slice of settling), `carry REVISION`, `repeat N VERB...` (with its number
//! instead of `#`). Every verb takes `ns=NAMESPACE`, writes `fence=RES:TOKEN,...`, those of leases
//! and records `op=NAME/SEQ` (an operation
//! of a session, on its last stream or on `stream=CALL`, or by itself with `unary`), acquire
//! `in=NAME`.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use singletrack_core::{
    change::{Change, RowKey, Trace},
    command::{
        AcquireLease, AnswerLeaseYield, Command, LeaseFilter, LeaseKey, LeaseRef, Lifetime,
        OpenSession, Origin, Request, RequestLeaseYield, Terms, TransferLease, YieldAnswer,
    },
    decision::Decision,
    fence::{Fence, FenceTarget},
    limits::{self, Quotas},
    machine::Machine,
    reply::Reply,
    types::{
        Actor, CallId, CommandHash, Holder, Labels, LeaseId, LockDelay, MaxHold, Mode, Ms,
        Namespace, Now, Permits, Priority, Reach, RequestHash, RequestMark, ResourceName, Revision,
        SessionId, Target, Targets, Token, Ttl, Words,
    },
};

use crate::show;

#[test]
fn scripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty(), "there are scripts");
    let mut wrong = String::new();
    for path in names {
        let written = fs::read_to_string(&path).unwrap();
        let played = play(&written);
        if update {
            fs::write(&path, &played).unwrap();
        } else if played != written {
            let at = written.lines().zip(played.lines()).position(|(a, b)| a != b);
            let line = at.unwrap_or_else(|| written.lines().count().min(played.lines().count()));
            writeln!(
                wrong,
                "{}:{}: written `{}`, came out `{}`",
                path.display(),
                line + 1,
                written.lines().nth(line).unwrap_or(""),
                played.lines().nth(line).unwrap_or("")
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}UPDATE=1 rewrites them");
}

/// Plays a script and returns it with what really came of it.
fn play(script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    let mut verbs: Vec<&str> = Vec::new();
    let mut in_result = false;
    for line in script.lines() {
        if in_result {
            in_result = !line.is_empty();
            if line.is_empty() {
                out.push('\n');
            }
        } else if line == "----" {
            out.push_str("----\n");
            out.push_str(&stage.perform(&verbs));
            verbs.clear();
            in_result = true;
        } else {
            if !line.is_empty() && !line.starts_with('#') {
                verbs.push(line);
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(verbs.is_empty(), "verbs without a `----`: {verbs:?}");
    stage.check_replay();
    out
}

/// A machine, its log, and the names a script uses.
pub(crate) struct Stage {
    machine: Machine,
    now: Now,
    log: Vec<Change>,
    leases: BTreeMap<String, LeaseRef>,
    next_lease: u128,
    next_call: u64,
    names_of_calls: BTreeMap<CallId, String>,
    manual: bool,
    /// Log up to here was freed.
    cut: Revision,
    /// Only the verb sweeps.
    lazy: bool,
    /// So many waiters are looked at in one slice.
    slice: usize,
    /// Last stream of each session.
    streams: BTreeMap<String, CallId>,
    quotas: Quotas,
}

/// One line, taken apart.
pub(crate) struct Verb<'a> {
    pub(crate) name: &'a str,
    pub(crate) plain: Vec<&'a str>,
    pub(crate) keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Verb<'a> {
    fn parse(line: &'a str) -> Self {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let (mut plain, mut keyed) = (Vec::new(), BTreeMap::new());
        for word in words {
            match word.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    keyed.insert(key, value);
                }
                _ => plain.push(word),
            }
        }
        Self { name, plain, keyed }
    }

    fn ms(&self, key: &str, default: u64) -> u64 {
        self.keyed.get(key).map_or(default, |text| span(text))
    }

    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        self.keyed.get(key).map_or(default, |text| text.parse().unwrap())
    }
}

pub(crate) fn span(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().unwrap();
    match &text[digits..] {
        "ms" => number,
        "s" => number * 1_000,
        "m" => number * 60_000,
        "h" => number * 3_600_000,
        other => panic!("unit `{other}` in `{text}`"),
    }
}

pub(crate) fn hash16(text: &str) -> [u8; 16] {
    let mut hash = [0_u8; 16];
    for (index, byte) in text.bytes().enumerate() {
        hash[index % 16] = hash[index % 16].wrapping_mul(31).wrapping_add(byte);
    }
    hash
}

impl Stage {
    fn new() -> Self {
        let quotas = Quotas::default();
        Self {
            machine: Machine::new(7, quotas),
            now: Now { ms: Ms(0) },
            log: Vec::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            next_call: 1,
            names_of_calls: BTreeMap::new(),
            manual: false,
            cut: Revision(0),
            lazy: false,
            slice: limits::SLICE_MAX,
            streams: BTreeMap::new(),
            quotas,
        }
    }

    fn perform(&mut self, lines: &[&str]) -> String {
        let mut out = String::new();
        let mut lines = lines.iter().peekable();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("repeat ") {
                out.push_str(&self.repeat(rest));
                continue;
            }
            let verb = Verb::parse(line);
            let mut parts = Vec::new();
            while let Some(part) = lines.next_if(|line| line.starts_with(['?', '+'])) {
                parts.push(Verb::parse(part.trim_start_matches(['?', '+']).trim()));
            }
            out.push_str(&self.one(&verb, &parts));
            self.machine.check();
        }
        out
    }

    /// The same again and again, with its number instead of `#`; what came of the last.
    fn repeat(&mut self, text: &str) -> String {
        let (times, line) = text.split_once(' ').unwrap();
        let times: u32 = times.parse().unwrap();
        let mut last = String::new();
        for number in 1..=times {
            let line = line.replace('#', &number.to_string());
            last = self.one(&Verb::parse(&line), &[]);
        }
        format!("{times} times, at last:\n{last}")
    }

    /// `parts` are the conditions and operations of a transaction.
    fn one(&mut self, verb: &Verb<'_>, parts: &[Verb<'_>]) -> String {
        match verb.name {
            "advance" => self.advance(span(verb.plain[0])),
            "stall" => {
                self.now.ms = self.now.ms.plus(limits::CHARGE_MS_MAX);
                self.machine.stalled(self.now);
                self.advance(0)
            }
            "durable" => {
                self.machine.durable(self.now, self.machine.state().revision());
                String::new()
            }
            "manual" => {
                self.manual = true;
                String::new()
            }
            "lazy" => {
                self.lazy = true;
                String::new()
            }
            "slice" => {
                self.slice = verb.plain[0].parse().unwrap();
                String::new()
            }
            "sweep" => match self.machine.decide_sweep(self.now, verb.plain[0].parse().unwrap()) {
                Some(decision) => self.take(decision),
                None => String::from("nothing to sweep\n"),
            },
            "carry" => self.carry(Revision(verb.plain[0].parse().unwrap())),
            "restart" => self.restart(),
            "drop" => {
                let call = CallId(verb.plain[0].parse().unwrap());
                let decision = self.machine.decide_drop(call);
                self.take(decision)
            }
            "quota" => self.set_quota(verb.plain[0], verb.plain[1].parse().unwrap()),
            _ => self.call(verb, parts),
        }
    }

    fn call(&mut self, verb: &Verb<'_>, parts: &[Verb<'_>]) -> String {
        let is_transaction = verb.name == "transact";
        let command =
            if is_transaction { self.transaction(verb, parts) } else { self.command(verb) };
        let call = CallId(self.next_call);
        self.next_call += 1;
        if let Some(name) = verb.keyed.get("as") {
            self.names_of_calls.insert(call, (*name).into());
        }
        if verb.name == "attach" {
            self.streams.insert(verb.plain[0].into(), call);
        }
        let namespace = verb.keyed.get("ns").copied().unwrap_or("default");
        let same = CommandHash(hash16(&identity(&command)));
        let origin = verb.keyed.get("op").map(|op| self.origin(verb, op));
        let id = match origin {
            Some((name, Origin { seq: Some(seq), .. })) => Some(session_base(name).at(seq)),
            Some(_) | None => {
                verb.keyed.get("id").map(|id| RequestHash(hash16(&format!("{namespace}/{id}"))))
            }
        };
        let request = Request {
            call,
            namespace: Namespace::parse(namespace).unwrap(),
            mark: id.map(|id| RequestMark { id, command: same }),
            origin: origin.map(|(_, origin)| origin),
            age_ms: verb.ms("age", 0),
            fences: if is_transaction { Box::default() } else { fences(verb) },
            command,
        };
        let decision = self.machine.decide(self.now, &request);
        self.take(decision)
    }

    fn origin<'a>(&self, verb: &Verb<'_>, op: &'a str) -> (&'a str, Origin) {
        let (name, seq) = op.split_once('/').unwrap();
        let stream = match verb.keyed.get("stream") {
            Some(call) => Some(CallId(call.parse().unwrap())),
            None if verb.plain.contains(&"unary") => None,
            None => self.streams.get(name).copied(),
        };
        (name, Origin { session: session_id(name), stream, seq: Some(seq.parse().unwrap()) })
    }

    fn carry(&mut self, through: Revision) -> String {
        let mut out = String::new();
        let mut at = Some(Default::default());
        while let Some(cursor) = at {
            let (decision, next) = self.machine.decide_carry(through, cursor);
            out.push_str(&self.take(decision));
            at = next;
        }
        // The log up to there is gone.
        self.cut = self.cut.max(through);
        out
    }

    fn session_command(&self, verb: &Verb<'_>) -> Command {
        let session = || session_id(verb.plain[0]);
        match verb.name {
            "open" => Command::OpenSession(OpenSession {
                session_id: session(),
                holder: Holder::parse(verb.keyed["holder"]).unwrap(),
                ttl: Ttl::parse(verb.ms("ttl", 10_000)).unwrap(),
                requests: session_base(verb.plain[0]),
            }),
            "attach" => Command::AttachSession(session()),
            "keepalive" => Command::KeepSessionAlive(session()),
            "close" => Command::CloseSession(session()),
            "held" => Command::ListSessionLeases {
                session: session(),
                after: verb.number("after", 0),
                count: usize::try_from(verb.number("count", 100)).unwrap(),
            },
            "ack" => Command::AcknowledgeReplies {
                session: session(),
                below: verb.number("below", 0),
                seen: verb.keyed.get("seen").map_or_else(Box::default, |seen| {
                    seen.split(',').map(|seq| seq.parse().unwrap()).collect()
                }),
            },
            "cancel" => Command::CancelWaits(
                verb.plain.iter().map(|call| CallId(call.parse().unwrap())).collect(),
            ),
            other => panic!("unknown verb `{other}`"),
        }
    }

    pub(crate) fn command(&mut self, verb: &Verb<'_>) -> Command {
        let resource = |text: &str| ResourceName::parse(text).unwrap();
        match verb.name {
            "acquire" => Command::AcquireLease(self.acquire(verb)),
            "transfer" => Command::TransferLease(Box::new(TransferLease {
                lease: self.lease(verb.plain[0]),
                new_id: self.lease_id(verb),
                to: Holder::parse(verb.keyed["to"]).unwrap(),
                to_actor: verb.keyed.get("actor").map(|text| Actor::parse(text).unwrap()),
                ttl: verb.keyed.get("ttl").map(|text| Ttl::parse(span(text)).unwrap()),
            })),
            "yield" => Command::RequestLeaseYield(Box::new(RequestLeaseYield {
                resource: resource(verb.plain[0]),
                token: verb.keyed.get("token").map(|text| Token(text.parse().unwrap())),
                from: Holder::parse(verb.keyed["from"]).unwrap(),
                reason: words(verb, "reason"),
            })),
            "answer" => Command::AnswerLeaseYield(Box::new(AnswerLeaseYield {
                lease: self.lease(verb.plain[0]),
                number: verb.keyed.get("number").map(|text| text.parse().unwrap()),
                answer: YieldAnswer {
                    within_ms: verb.keyed.get("within").map(|text| span(text)),
                    message: words(verb, "message"),
                },
            })),
            "waiters" => Command::ListLeaseWaiters {
                after: verb.number("after", 0),
                count: usize::try_from(verb.number("count", 50)).unwrap(),
            },
            "stats" => Command::GetLeaseStats,
            "renew" => {
                Command::RenewLeases(verb.plain.iter().map(|name| self.lease(name)).collect())
            }
            "release" => Command::ReleaseLease(self.lease(verb.plain[0])),
            "abandon" => {
                let namespace = verb.keyed.get("ns").copied().unwrap_or("default");
                let abandoned = RequestHash(hash16(&format!("{namespace}/{}", verb.plain[0])));
                Command::AbandonLease { abandoned, of: None }
            }
            "get" => Command::GetLease(match verb.plain[0].strip_prefix('=') {
                Some(name) => LeaseKey::Id(self.lease(name).lease_id),
                None => LeaseKey::Resource(resource(verb.plain[0])),
            }),
            "list" => Command::ListLeases {
                after: verb.number("after", 0),
                count: usize::try_from(verb.number("count", 100)).unwrap(),
                filter: Box::new(LeaseFilter {
                    holder: verb.keyed.get("holder").map(|text| Holder::parse(text).unwrap()),
                    within: verb.keyed.get("within").map(|text| resource(text)),
                    labels: labels(verb),
                }),
            },
            "check" => Command::CheckLease {
                resource: resource(verb.plain[0]),
                token: Token(verb.plain[1].parse().unwrap()),
            },
            "force" => Command::ForceReleaseLease {
                resource: resource(verb.plain[0]),
                token: Token(verb.plain[1].parse().unwrap()),
            },
            _ => match self.record_command(verb) {
                Some(command) => command,
                None => self.session_command(verb),
            },
        }
    }

    fn lease_id(&mut self, verb: &Verb<'_>) -> LeaseId {
        let lease_id = LeaseId(self.next_lease.to_be_bytes());
        self.next_lease += 1;
        if let Some(name) = verb.keyed.get("as") {
            let unknown = Token(u64::MAX);
            self.leases.insert((*name).into(), LeaseRef { lease_id, token: unknown });
        }
        lease_id
    }

    fn acquire(&mut self, verb: &Verb<'_>) -> AcquireLease {
        let shared = verb.plain.contains(&"shared");
        let targets = verb.plain.iter().filter(|it| !matches!(**it, "shared" | "unary"));
        let terms = Terms {
            actor: verb.keyed.get("actor").map(|text| Actor::parse(text).unwrap()),
            labels: labels(verb),
            max_hold: verb.keyed.get("maxhold").map(|text| MaxHold::parse(span(text)).unwrap()),
            lock_delay: LockDelay::parse(verb.ms("delay", 0)).unwrap(),
        };
        AcquireLease {
            lease_id: self.lease_id(verb),
            holder: Holder::parse(verb.keyed["holder"]).unwrap(),
            targets: Targets::parse(targets.map(|text| target(text, shared)).collect()).unwrap(),
            lifetime: match verb.keyed.get("in") {
                Some(session) => Lifetime::Session(session_id(session)),
                None => Lifetime::Ttl(Ttl::parse(verb.ms("ttl", 10_000)).unwrap()),
            },
            wait_ms: verb.ms("wait", 0),
            keep_ms: verb.ms("keep", 10_000),
            priority: Priority::parse(
                verb.keyed.get("priority").map_or(0, |text| text.parse().unwrap()),
            )
            .unwrap(),
            terms: (terms != Terms::default()).then(|| Box::new(terms)),
        }
    }

    /// A lease by its name in the script, or one that never was.
    pub(crate) fn lease(&self, text: &str) -> LeaseRef {
        let (name, token) = text.split_once(':').unwrap_or((text, ""));
        let unknown = LeaseRef { lease_id: LeaseId([0; 16]), token: Token(1) };
        let known = self.leases.get(name).copied().unwrap_or(unknown);
        LeaseRef { token: token.parse().map_or(known.token, Token), ..known }
    }

    fn advance(&mut self, ms: u64) -> String {
        let until = self.now.ms.plus(ms);
        let mut out = String::new();
        loop {
            let next = self.machine.next_deadline().filter(|at| *at <= until);
            self.now.ms = self.now.ms.max(next.unwrap_or(until));
            let decision = self.machine.decide_tick(self.now);
            if decision.is_empty() {
                if next.is_none() {
                    return out;
                }
                panic!("a deadline at {next:?} with nothing to do");
            }
            writeln!(out, "at {}:", self.now.ms).unwrap();
            out.push_str(&self.take(decision));
        }
    }

    /// Makes a decision true, settles, and shows both.
    fn take(&mut self, decision: Decision) -> String {
        let mut out = String::new();
        let mut next = Some(decision);
        while let Some(decision) = next {
            out.push_str(&show::decision(&decision));
            for answer in &decision.answers {
                if let (Some(name), Ok(Reply::Acquired(grant) | Reply::Transferred(grant))) =
                    (self.names_of_calls.get(&answer.call), &answer.result)
                {
                    let lease = LeaseRef { lease_id: grant.lease_id, token: grant.token };
                    self.leases.insert(name.clone(), lease);
                }
            }
            self.machine.take(self.now, &decision);
            self.log.extend(decision.changes.iter().cloned());
            if !self.manual {
                self.machine.durable(self.now, self.machine.state().revision());
            }
            next = self.machine.decide_settle(self.now, self.slice).map(|it| it.decision);
            if next.is_none() && !self.lazy {
                next = self.machine.decide_sweep(self.now, limits::SLICE_MAX);
            }
        }
        out
    }

    fn set_quota(&mut self, kind: &str, value: u64) -> String {
        match kind {
            "leases" => self.quotas.leases = value,
            "waiters" => self.quotas.waiters = value,
            "bytes" => self.quotas.bytes = value,
            "memory" => self.quotas.memory_bytes = value,
            "namespaces" => self.quotas.namespaces = value,
            "sessions" => self.quotas.sessions = value,
            "records" => self.quotas.records = value,
            "protections" => self.quotas.protections = value,
            other => panic!("unknown quota `{other}`"),
        }
        self.restart()
    }

    fn recovered(&self, revision: Revision) -> Machine {
        let rows = self.machine.rows();
        let log = self.log.iter().filter(|change| change.revision() > self.cut);
        Machine::recover(7, self.quotas, revision, &rows, log)
    }

    fn restart(&mut self) -> String {
        let revision = self.machine.state().revision().next();
        self.machine = self.recovered(revision);
        self.log.push(Change::Started { revision });
        self.now = Now { ms: Ms(0) };
        String::new()
    }

    /// The log alone, absorbed twice over, gives the same rows.
    fn check_replay(&self) {
        let twice = self.log.iter().flat_map(|change| [change, change]);
        let mut rows: BTreeMap<RowKey, Change> = BTreeMap::new();
        for change in twice {
            match change.trace() {
                Trace::Created(key) | Trace::Written(key) => {
                    rows.insert(key, change.to_row());
                }
                Trace::Removed(key) => {
                    rows.remove(&key);
                }
                Trace::None => {}
            }
        }
        let rows: Vec<Change> = rows.into_values().collect();
        assert_eq!(self.machine.rows(), rows, "the log makes the same rows");
        let revision = self.machine.state().revision();
        let machine = Machine::recover(99, self.quotas, revision, &rows, &self.log);
        machine.check();
        assert_eq!(machine.rows(), rows, "rows survive recovery, whatever the seed");
    }
}

/// What the edge hashes: the command without wait, keep and lease id.
fn identity(command: &Command) -> String {
    match command {
        Command::AcquireLease(it) => {
            format!("{}{:?}{:?}{:?}", it.holder, it.targets, it.lifetime, it.terms)
        }
        Command::TransferLease(it) => {
            format!("{:?}{}{:?}{:?}", it.lease, it.to, it.to_actor, it.ttl)
        }
        Command::Transact(it) => {
            let operations = it.operations.iter();
            let each = operations.map(|it| format!("{:?}{}", it.fences, identity(&it.command)));
            format!("{:?}{}", it.conditions, each.collect::<String>())
        }
        other => format!("{other:?}"),
    }
}

/// `RESOURCE[:shared|:N/LIMIT][:subtree]`.
fn target(text: &str, shared: bool) -> Target {
    let mut parts = text.split(':');
    let resource = ResourceName::parse(parts.next().unwrap()).unwrap();
    let mode = if shared { Mode::Shared } else { Mode::Exclusive };
    let mut target = Target::exact(resource, mode);
    for part in parts {
        match (part, part.split_once('/')) {
            ("shared", _) => target.mode = Mode::Shared,
            ("exclusive", _) => target.mode = Mode::Exclusive,
            ("subtree", _) => target.reach = Reach::Subtree,
            (_, Some((count, limit))) => {
                let permits = Permits::parse(count.parse().unwrap(), limit.parse().unwrap());
                target.mode = Mode::Permits(permits.unwrap());
            }
            (other, None) => panic!("`{other}` of target `{text}`"),
        }
    }
    target
}

fn labels(verb: &Verb<'_>) -> Labels {
    let all = verb.keyed.get("label").into_iter().flat_map(|text| text.split(','));
    Labels::parse(all.map(|label| label.split_once(':').unwrap())).unwrap()
}

fn words(verb: &Verb<'_>, key: &str) -> Words {
    Words::parse(verb.keyed.get(key).copied().unwrap_or("")).unwrap()
}

fn session_id(name: &str) -> SessionId {
    SessionId(hash16(&format!("session {name}")))
}

fn session_base(name: &str) -> RequestHash {
    RequestHash(hash16(&format!("requests of {name}")))
}

pub(crate) fn fences(verb: &Verb<'_>) -> Box<[Fence]> {
    let all = verb.keyed.get("fence").into_iter().flat_map(|text| text.split(','));
    all.map(fence).collect()
}

pub(crate) fn fence(text: &str) -> Fence {
    let (resource, token) = text.split_once(':').unwrap();
    Fence {
        target: FenceTarget::Resource(ResourceName::parse(resource).unwrap()),
        token: Token(token.parse().unwrap()),
    }
}
