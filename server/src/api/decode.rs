//! Wire in: messages and metadata become validated questions, or a list of what is not legal.
//!
//! Every MALFORMED and TOO_LARGE of a message is born here. Owns defaults and bounds of the
//! wire; what a name may look like is the core's. One function a message, shared by unary
//! calls and by `Operation`.

mod fields;
mod lease;
mod record;
mod session;
mod transact;

use std::borrow::Cow;

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
    record::{
        batch_get_records, delete_record, get_record, increment_record, list_protections,
        list_records, page_token_behind, protect_prefix, put_record, unprotect_prefix,
    },
    session::{
        close_session, keep_session_alive, list_session_leases, open_session, opening, ping,
    },
    transact::transact,
};
use crate::{
    api::{deadline, flaws::Flaws, identity},
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
    operation_within(context, operation, "")
}

/// The same, of one that is a part of something at `path`, which is empty or ends with a dot.
fn operation_within(
    context: Context,
    operation: v1::Operation,
    path: &str,
) -> Result<Asked, Flaws> {
    use v1::operation::Operation as Op;
    let under = |name: &'static str| match path {
        "" => Flaws::under(name),
        path => Flaws::within(Cow::Owned(format!("{path}{name}"))),
    };
    let Some(operation) = operation.operation else {
        return Err(Flaws::of(format_args!("{path}operation"), "an operation is required"));
    };
    match operation {
        Op::Ping(message) => {
            let mut flaws = under("ping.");
            ping(&message, &mut flaws);
            return if flaws.is_empty() { Ok(Asked::Ping(message)) } else { Err(flaws) };
        }
        Op::KeepSessionAlive(m) => keep_session_alive(context, &m, under("keep_session_alive.")),
        Op::CloseSession(m) => close_session(context, &m, under("close_session.")),
        Op::ListSessionLeases(m) => list_session_leases(context, &m, under("list_session_leases.")),
        Op::AcquireLease(m) => acquire_lease(context, &m, under("acquire_lease.")),
        Op::AbandonLease(m) => abandon_lease(context, &m, under("abandon_lease.")),
        Op::RenewLeases(m) => renew_leases(context, &m, under("renew_leases.")),
        Op::ReleaseLease(m) => release_lease(context, &m, under("release_lease.")),
        Op::GetLease(m) => get_lease(context, &m, under("get_lease.")),
        Op::ListLeases(m) => list_leases(context, &m, under("list_leases.")),
        Op::CheckLease(m) => check_lease(context, &m, under("check_lease.")),
        Op::ForceReleaseLease(m) => force_release_lease(context, &m, under("force_release_lease.")),
        Op::TransferLease(m) => transfer_lease(context, &m, under("transfer_lease.")),
        Op::RequestLeaseYield(m) => request_lease_yield(context, &m, under("request_lease_yield.")),
        Op::AnswerLeaseYield(m) => answer_lease_yield(context, &m, under("answer_lease_yield.")),
        Op::ListLeaseWaiters(m) => list_lease_waiters(context, &m, under("list_lease_waiters.")),
        Op::GetLeaseStats(m) => get_lease_stats(context, &m, under("get_lease_stats.")),
        Op::GetRecord(m) => get_record(context, &m, under("get_record.")),
        Op::BatchGetRecords(m) => batch_get_records(context, &m, under("batch_get_records.")),
        Op::ListRecords(m) => list_records(context, &m, under("list_records.")),
        Op::PutRecord(m) => put_record(context, &m, under("put_record.")),
        Op::IncrementRecord(m) => increment_record(context, &m, under("increment_record.")),
        Op::DeleteRecord(m) => delete_record(context, &m, under("delete_record.")),
        Op::ProtectPrefix(m) => protect_prefix(context, &m, under("protect_prefix.")),
        Op::UnprotectPrefix(m) => unprotect_prefix(context, &m, under("unprotect_prefix.")),
        Op::ListProtections(m) => list_protections(context, &m, under("list_protections.")),
        Op::Transact(m) => transact(context, m, under("transact.")),
    }
    .map(Asked::Track)
}

#[cfg(test)]
mod tests;
