//! Wire in: messages and metadata become validated questions, or a list of what is not legal.
//!
//! Every MALFORMED and TOO_LARGE of a message is born here. Owns defaults and bounds of the
//! wire; what a name may look like is the core's. One function a message, shared by unary
//! calls and by `Operation`.

mod fields;
mod lease;
mod session;

use http::HeaderMap;
use singletrack_core::{
    command::Command,
    fence::Fence,
    limits,
    types::{CommandHash, Namespace, RequestHash, RequestMark, SessionId},
};
use singletrack_proto::v1;

pub(crate) use self::{
    fields::{page_token_after, session_id_text},
    lease::{
        abandon_lease, acquire_lease, answer_lease_yield, check_lease, force_release_lease,
        get_lease, get_lease_stats, list_lease_waiters, list_leases, release_lease, renew_leases,
        request_lease_yield, transfer_lease,
    },
    session::{
        close_session, keep_session_alive, list_session_leases, open_session, opening, ping,
    },
};
use crate::{
    api::{deadline, draw, flaws::Flaws, identity},
    track::{OfSession, Question},
};

/// The metadata key of the namespace.
pub(crate) const NAMESPACE_KEY: &str = "singletrack-namespace";
/// What all our metadata keys begin with.
const OUR_KEYS: &str = "singletrack-";
/// How long before the caller's deadline a wait ends, so that the answer still arrives.
pub(crate) const DEADLINE_MARGIN_MS: u64 = 250;

/// What a call says beside its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Where it acts.
    pub(crate) namespace: Namespace,
    /// How long its caller waits for an answer, milliseconds; `None`: it doesn't say.
    pub(crate) budget_ms: Option<u64>,
    /// The session and the operation of it that this is; `None`: a call by itself.
    pub(crate) on_stream: Option<OnStream>,
}

/// Which operation of which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OnStream {
    /// The session whose stream it came on.
    pub(crate) session: SessionId,
    /// Where the identities of its operations begin.
    pub(crate) requests: RequestHash,
    /// The operation's number.
    pub(crate) seq: u64,
}

/// What an operation asks.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// Answered without the machine.
    Ping(v1::PingRequest),
    /// Answered by the track.
    Track(Question),
}

// === impl Context ===

impl Context {
    /// Reads the metadata of a call.
    ///
    /// # Errors
    /// When a key that begins with `singletrack-` is unknown, the namespace is not legal or
    /// comes twice, or the timeout is not one.
    pub(crate) fn read(headers: &HeaderMap, default: &Namespace) -> Result<Self, Flaws> {
        let mut flaws = Flaws::under("");
        for key in headers.keys() {
            let key = key.as_str();
            if key.starts_with(OUR_KEYS) && key != NAMESPACE_KEY {
                flaws.add(
                    format_args!("metadata[{key}]"),
                    format!("unknown key; of those that begin with `{OUR_KEYS}` there is only `{NAMESPACE_KEY}`"),
                );
            }
        }
        let namespace = namespace(headers, default, &mut flaws);
        let budget = deadline::budget(headers).unwrap_or_else(|timeout| {
            for flaw in timeout.fields() {
                flaws.add(format_args!("{}", flaw.field), flaw.description.clone());
            }
            None
        });
        let (Some(namespace), true) = (namespace, flaws.is_empty()) else { return Err(flaws) };
        let budget_ms = budget.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { namespace, budget_ms, on_stream: None })
    }

    /// How long a call may wait that asks for `wait_ms`.
    fn wait_ms(&self, wait_ms: u64) -> u64 {
        let asked = wait_ms.min(limits::WAIT_MS_MAX);
        match self.budget_ms {
            None => asked,
            Some(budget) => asked.min(budget.saturating_sub(DEADLINE_MARGIN_MS)),
        }
    }

    fn question(
        self,
        identity: Identity,
        age_ms: u64,
        fences: Box<[Fence]>,
        command: Command,
    ) -> Question {
        let Identity { mark, of } = identity;
        Question { namespace: self.namespace, mark, of, age_ms, fences, command }
    }

    fn read_only(self, command: Command) -> Question {
        let of = self.of(None);
        self.question(Identity { mark: None, of }, 0, Box::default(), command)
    }

    /// How a call belongs to the session whose stream it came on.
    fn of(&self, seq: Option<u64>) -> Option<OfSession> {
        self.on_stream.map(|on| OfSession { session: on.session, seq })
    }

    /// What a call is known by: its own request id, or else its number on the stream.
    fn identify(&self, request_id: &str, command: impl FnOnce() -> CommandHash) -> Identity {
        if request_id.is_empty() {
            let mark =
                |on: OnStream| RequestMark { id: on.requests.at(on.seq), command: command() };
            let of = self.of(self.on_stream.map(|on| on.seq));
            return Identity { mark: self.on_stream.map(mark), of };
        }
        let (id, of) = self.identify_text(request_id);
        Identity { mark: Some(RequestMark { id, command: command() }), of }
    }

    fn identify_text(&self, request_id: &str) -> (RequestHash, Option<OfSession>) {
        let Some((session, seq)) = identity::operation_of(request_id) else {
            return (identity::request(&self.namespace, request_id), self.of(None));
        };
        let id = identity::session(&self.namespace, session).at(seq);
        match self.on_stream {
            Some(on) if on.session != session => (id, self.of(None)),
            Some(_) | None => (id, Some(OfSession { session, seq: Some(seq) })),
        }
    }
}

/// What a call is known by.
struct Identity {
    mark: Option<RequestMark>,
    of: Option<OfSession>,
}

fn namespace(headers: &HeaderMap, default: &Namespace, flaws: &mut Flaws) -> Option<Namespace> {
    let field = format_args!("metadata[{NAMESPACE_KEY}]");
    let mut values = headers.get_all(NAMESPACE_KEY).iter();
    let Some(value) = values.next() else { return Some(default.clone()) };
    if values.next().is_some() {
        flaws.add(field, "one value is expected, found several");
        return None;
    }
    match value.to_str() {
        Ok(text) => flaws.take(field, Namespace::parse(text)),
        Err(_) => {
            flaws.add(field, "only letters, digits, `.`, `_`, `-` are expected, found other bytes");
            None
        }
    }
}

// === messages ===

/// Decodes any operation; the paths of flaws begin with its name.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn operation(context: Context, operation: v1::Operation) -> Result<Asked, Flaws> {
    use v1::operation::Operation as Op;
    let Some(operation) = operation.operation else {
        return Err(Flaws::of(format_args!("operation"), "an operation is required"));
    };
    match operation {
        Op::Ping(message) => {
            let mut flaws = Flaws::under("ping.");
            ping(&message, &mut flaws);
            return if flaws.is_empty() { Ok(Asked::Ping(message)) } else { Err(flaws) };
        }
        Op::KeepSessionAlive(m) => {
            keep_session_alive(context, &m, Flaws::under("keep_session_alive."))
        }
        Op::CloseSession(m) => close_session(context, &m, Flaws::under("close_session.")),
        Op::ListSessionLeases(m) => {
            list_session_leases(context, &m, Flaws::under("list_session_leases."))
        }
        Op::AcquireLease(m) => acquire_lease(context, &m, Flaws::under("acquire_lease.")),
        Op::AbandonLease(m) => abandon_lease(context, &m, Flaws::under("abandon_lease.")),
        Op::RenewLeases(m) => renew_leases(context, &m, Flaws::under("renew_leases.")),
        Op::ReleaseLease(m) => release_lease(context, &m, Flaws::under("release_lease.")),
        Op::GetLease(m) => get_lease(context, &m, Flaws::under("get_lease.")),
        Op::ListLeases(m) => list_leases(context, &m, Flaws::under("list_leases.")),
        Op::CheckLease(m) => check_lease(context, &m, Flaws::under("check_lease.")),
        Op::ForceReleaseLease(m) => {
            force_release_lease(context, &m, Flaws::under("force_release_lease."))
        }
        Op::TransferLease(m) => transfer_lease(context, &m, Flaws::under("transfer_lease.")),
        Op::RequestLeaseYield(m) => {
            request_lease_yield(context, &m, Flaws::under("request_lease_yield."))
        }
        Op::AnswerLeaseYield(m) => {
            answer_lease_yield(context, &m, Flaws::under("answer_lease_yield."))
        }
        Op::ListLeaseWaiters(m) => {
            list_lease_waiters(context, &m, Flaws::under("list_lease_waiters."))
        }
        Op::GetLeaseStats(m) => get_lease_stats(context, &m, Flaws::under("get_lease_stats.")),
    }
    .map(Asked::Track)
}

<<<<<<< HEAD
=======
/// Notes what is not legal about a ping.
pub(crate) fn ping(message: &v1::PingRequest, flaws: &mut Flaws) {
    let length = message.payload.len();
    if length > PING_BYTES_MAX {
        flaws.add_too_large(
            format_args!("payload"),
            format!("a payload may have at most {PING_BYTES_MAX} bytes, this one has {length}"),
        );
    }
}

/// Decodes an opening of a session; its id is drawn here.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn open_session(
    context: Context,
    message: &v1::OpenSessionRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let open = opening(&context.namespace, &message.holder, message.ttl_ms, flaws)?;
    Ok(context.read_only(Command::OpenSession(open)))
}

/// What is asked for with a new session.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn opening(
    namespace: &Namespace,
    holder: &str,
    ttl_ms: Option<u64>,
    mut flaws: Flaws,
) -> Result<OpenSession, Flaws> {
    let holder = flaws.take(format_args!("holder"), Holder::parse(holder));
    let ttl = Ttl::parse(ttl_ms.unwrap_or(limits::TTL_MS_DEFAULT));
    let ttl = flaws.take(format_args!("ttl_ms"), ttl);
    let (Some(holder), Some(ttl)) = (holder, ttl) else { return Err(flaws) };
    let session_id = SessionId(draw::id());
    let requests = identity::session(namespace, session_id);
    Ok(OpenSession { session_id, holder, ttl, requests })
}

/// Decodes a keep-alive.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn keep_session_alive(
    context: Context,
    message: &v1::KeepSessionAliveRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::KeepSessionAlive(session)))
}

/// Decodes a close.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn close_session(
    context: Context,
    message: &v1::CloseSessionRequest,
    flaws: Flaws,
) -> Result<Question, Flaws> {
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::CloseSession(session)))
}

/// Decodes a list of what a session holds.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_session_leases(
    context: Context,
    message: &v1::ListSessionLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = page_size(message.page_size, limits::PAGE_MAX, &mut flaws);
    let after = page_token(&message.page_token, &mut flaws);
    let session = own_session(&context, &message.session_id, flaws)?;
    Ok(context.read_only(Command::ListSessionLeases { session, after, count }))
}

/// Decodes an acquire; its lease id is drawn here.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn acquire_lease(
    context: Context,
    message: &v1::AcquireLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let holder = flaws.take(format_args!("holder"), Holder::parse(&message.holder));
    let target = targets(&message.targets, &mut flaws);
    let lifetime = lifetime(&context, message.ttl_ms, &message.session_id, &mut flaws);
    let keep_ms = message.keep_ms.unwrap_or(limits::KEEP_MS_DEFAULT);
    if !(1..=limits::KEEP_MS_MAX).contains(&keep_ms) {
        let maximum = limits::KEEP_MS_MAX;
        flaws
            .add(format_args!("keep_ms"), format!("1..{maximum} ms are expected, found {keep_ms}"));
    }
    let priority = flaws.take(format_args!("priority"), Priority::parse(message.priority));
    let fences = fences(&message.fences, &mut flaws);
    let (Some(holder), Some(target), Some(lifetime), Some(priority), true) =
        (holder, target, lifetime, priority, flaws.is_empty())
    else {
        return Err(flaws);
    };
    let wait_ms = context.wait_ms(message.wait_ms);
    let lease_id = LeaseId(draw::id());
    let acquire = AcquireLease { lease_id, holder, target, lifetime, wait_ms, keep_ms, priority };
    let identity = context.identify(&message.request_id, || identity::acquire(&acquire, &fences));
    Ok(context.question(identity, message.age_ms, fences, Command::AcquireLease(acquire)))
}

/// Decodes an abandon.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn abandon_lease(
    context: Context,
    message: &v1::AbandonLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let id = &message.abandoned_request_id;
    if id.is_empty() {
        flaws.add(format_args!("abandoned_request_id"), "a request id is required");
    }
    request_id_text(format_args!("abandoned_request_id"), id, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    let (abandoned, of) = context.identify_text(id);
    let of = of.and_then(|of| Some((of.session, of.seq?)));
    Ok(context.read_only(Command::AbandonLease { abandoned, of }))
}

/// Decodes a renewal.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn renew_leases(
    context: Context,
    message: &v1::RenewLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = message.renewals.len();
    let maximum = limits::RENEWALS_MAX;
    if count == 0 {
        flaws.add(
            format_args!("renewals"),
            format!("1..{maximum} renewals are expected, found none"),
        );
    }
    if count > maximum {
        let description = format!("1..{maximum} renewals are expected, found {count}");
        flaws.add_too_large(format_args!("renewals"), description);
        return Err(flaws);
    }
    let mut renewals = Vec::with_capacity(count);
    for (i, renewal) in message.renewals.iter().enumerate() {
        let field = format_args!("renewals[{i}].lease_id");
        let lease_id = flaws.take(field, lease_id(&renewal.lease_id));
        let token = flaws.take(format_args!("renewals[{i}].token"), Token::parse(renewal.token));
        if let (Some(lease_id), Some(token)) = (lease_id, token) {
            renewals.push(LeaseRef { lease_id, token });
        }
    }
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::RenewLeases(renewals.into())))
}

/// Decodes a release.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn release_lease(
    context: Context,
    message: &v1::ReleaseLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let lease_id = flaws.take(format_args!("lease_id"), lease_id(&message.lease_id));
    let token = flaws.take(format_args!("token"), Token::parse(message.token));
    let fences = fences(&message.fences, &mut flaws);
    let (Some(lease_id), Some(token), true) = (lease_id, token, flaws.is_empty()) else {
        return Err(flaws);
    };
    let lease = LeaseRef { lease_id, token };
    let identity = context.identify(&message.request_id, || identity::release(lease, &fences));
    Ok(context.question(identity, message.age_ms, fences, Command::ReleaseLease(lease)))
}

/// Decodes a get.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn get_lease(
    context: Context,
    message: &v1::GetLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    use v1::get_lease_request::Key;
    let key = match &message.key {
        Some(Key::LeaseId(id)) => {
            flaws.take(format_args!("lease_id"), lease_id(id)).map(LeaseKey::Id)
        }
        Some(Key::Resource(name)) => {
            flaws.take(format_args!("resource"), ResourceName::parse(name)).map(LeaseKey::Resource)
        }
        None => {
            flaws.add(format_args!("key"), "a lease_id or a resource is required");
            None
        }
    };
    key.map(|key| context.read_only(Command::GetLease(key))).ok_or(flaws)
}

/// Decodes a list.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn list_leases(
    context: Context,
    message: &v1::ListLeasesRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let count = page_size(message.page_size, limits::PAGE_DEFAULT, &mut flaws);
    let after = page_token(&message.page_token, &mut flaws);
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(context.read_only(Command::ListLeases { after, count }))
}

/// Decodes a check.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn check_lease(
    context: Context,
    message: &v1::CheckLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(&message.resource));
    let token = flaws.take(format_args!("token"), Token::parse(message.token));
    let (Some(resource), Some(token)) = (resource, token) else { return Err(flaws) };
    Ok(context.read_only(Command::CheckLease { resource, token }))
}

/// Decodes a forced release.
///
/// # Errors
/// What is not legal about it.
pub(crate) fn force_release_lease(
    context: Context,
    message: &v1::ForceReleaseLeaseRequest,
    mut flaws: Flaws,
) -> Result<Question, Flaws> {
    request_id(&message.request_id, &mut flaws);
    let resource = flaws.take(format_args!("resource"), ResourceName::parse(&message.resource));
    let token = flaws.take(format_args!("token"), Token::parse(message.token));
    let fences = fences(&message.fences, &mut flaws);
    let (Some(resource), Some(token), true) = (resource, token, flaws.is_empty()) else {
        return Err(flaws);
    };
    let identity = context
        .identify(&message.request_id, || identity::force_release(&resource, token, &fences));
    let command = Command::ForceReleaseLease { resource, token };
    Ok(context.question(identity, message.age_ms, fences, command))
}

// === fields ===

fn request_id(text: &str, flaws: &mut Flaws) {
    request_id_text(format_args!("request_id"), text, flaws);
}

fn request_id_text(field: std::fmt::Arguments<'_>, text: &str, flaws: &mut Flaws) {
    let maximum = limits::REQUEST_ID_CHARS_MAX;
    // No character is shorter than a byte, so most ids need no counting.
    if text.len() > maximum {
        let length = text.chars().count();
        if length > maximum {
            flaws.add_too_large(
                field,
                format!(
                    "a request id may have at most {maximum} characters, this one has {length}"
                ),
            );
            return;
        }
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        flaws.add(field, format!("a request id may not have control characters, found {c:?}"));
    }
}

fn targets(targets: &[v1::LeaseTarget], flaws: &mut Flaws) -> Option<Target> {
    let [target] = targets else {
        let found = targets.len();
        let description =
            format!("exactly {} target is expected, found {found}", limits::TARGETS_MAX);
        if found > limits::TARGETS_MAX {
            flaws.add_too_large(format_args!("targets"), description);
        } else {
            flaws.add(format_args!("targets"), description);
        }
        return None;
    };
    let field = format_args!("targets[0].resource");
    let resource = flaws.take(field, ResourceName::parse(&target.resource));
    let mode = match v1::LeaseMode::try_from(target.mode) {
        Ok(v1::LeaseMode::Unspecified | v1::LeaseMode::Exclusive) => Some(Mode::Exclusive),
        Ok(v1::LeaseMode::Shared) => Some(Mode::Shared),
        Err(_) => {
            flaws.add(
                format_args!("targets[0].mode"),
                format!(
                    "LEASE_MODE_EXCLUSIVE or LEASE_MODE_SHARED is expected, found {}",
                    target.mode
                ),
            );
            None
        }
    };
    Some(Target { resource: resource?, mode: mode? })
}

fn fences(fences: &[v1::Fence], flaws: &mut Flaws) -> Box<[Fence]> {
    let maximum = limits::FENCES_MAX;
    if fences.len() > maximum {
        let description = format!("at most {maximum} fences are expected, found {}", fences.len());
        flaws.add_too_large(format_args!("fences"), description);
        return Box::default();
    }
    let mut read = Vec::with_capacity(fences.len());
    for (i, fence) in fences.iter().enumerate() {
        let target = match &fence.target {
            Some(v1::fence::Target::Resource(name)) => flaws
                .take(format_args!("fences[{i}].resource"), ResourceName::parse(name))
                .map(FenceTarget::Resource),
            None => {
                flaws.add(format_args!("fences[{i}].target"), "a resource is required");
                None
            }
        };
        let token = flaws.take(format_args!("fences[{i}].token"), Token::parse(fence.token));
        if let (Some(target), Some(token)) = (target, token) {
            read.push(Fence { target, token });
        }
    }
    read.into()
}

fn lease_id(text: &str) -> Result<LeaseId, Flaw> {
    id(text, "lease").map(LeaseId)
}

/// The id of a session.
///
/// # Errors
/// When it is not 32 hexadecimal digits.
pub(crate) fn session_id_text(text: &str) -> Result<SessionId, Flaw> {
    id(text, "session").map(SessionId)
}

fn id(text: &str, what: &str) -> Result<[u8; 16], Flaw> {
    let mut id = [0; 16];
    if text.is_empty() {
        return Err(Flaw { description: format!("a {what} id is required"), too_large: false });
    }
    hex::decode_to_slice(text, &mut id).map_err(|_| Flaw {
        description: format!(
            "a {what} id is {ID_DIGITS} hexadecimal digits, found another text of {} bytes",
            text.len()
        ),
        too_large: false,
    })?;
    Ok(id)
}

fn page_size(asked: Option<u32>, default: usize, flaws: &mut Flaws) -> usize {
    let maximum = limits::PAGE_MAX;
    match asked.map(usize::try_from) {
        None => default,
        Some(Ok(count)) if (1..=maximum).contains(&count) => count,
        Some(found) => {
            let found = found.unwrap_or(usize::MAX);
            let description = format!("1..{maximum} leases a page are expected, found {found}");
            flaws.add(format_args!("page_size"), description);
            0
        }
    }
}

/// How long a lease would last: its own ttl, or as long as its session.
fn lifetime(
    context: &Context,
    ttl_ms: Option<u64>,
    session_id: &str,
    flaws: &mut Flaws,
) -> Option<Lifetime> {
    let named = !session_id.is_empty();
    if named && (ttl_ms.is_some() || context.on_stream.is_some()) {
        let other = if ttl_ms.is_some() { "with a ttl_ms" } else { "on a session's stream" };
        flaws.add(format_args!("session_id"), format!("none is expected {other}"));
        return None;
    }
    match (ttl_ms, context.on_stream) {
        (None, Some(on)) => Some(Lifetime::Session(on.session)),
        (None, None) if named => flaws
            .take(format_args!("session_id"), session_id_text(session_id))
            .map(Lifetime::Session),
        (ttl, None | Some(_)) => {
            let ttl = Ttl::parse(ttl.unwrap_or(limits::TTL_MS_DEFAULT));
            flaws.take(format_args!("ttl_ms"), ttl).map(Lifetime::Ttl)
        }
    }
}

/// The session that a message names; on a session's stream it is that one, named or not.
fn own_session(context: &Context, text: &str, mut flaws: Flaws) -> Result<SessionId, Flaws> {
    let field = format_args!("session_id");
    let session = match context.on_stream {
        Some(on) if text.is_empty() => Some(on.session),
        Some(_) | None => flaws.take(field, session_id_text(text)),
    };
    if let (Some(on), Some(named)) = (context.on_stream, session)
        && on.session != named
    {
        flaws.add(field, "the session of this stream is expected, or none, found another");
    }
    session.filter(|_| flaws.is_empty()).ok_or(flaws)
}

fn page_token(text: &str, flaws: &mut Flaws) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let mut token = [0; 8];
    if text.len() == PAGE_TOKEN_DIGITS && hex::decode_to_slice(text, &mut token).is_ok() {
        let token = u64::from_be_bytes(token);
        if token < limits::REVISION_END {
            return token;
        }
    }
    flaws.add(
        format_args!("page_token"),
        "the next_page_token of an earlier page is expected, found something else",
    );
    0
}

/// The page token of the page after `token`.
pub(crate) fn page_token_after(token: Token) -> String {
    hex::encode(token.0.to_be_bytes())
}

>>>>>>> issue3
#[cfg(test)]
mod tests;
