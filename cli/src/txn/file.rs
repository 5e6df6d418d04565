//! A transaction as it is written down: a `TransactRequest` in proto3 JSON, with the names of the
//! `.proto` files. Owns the way from there to the client's words; leaves the judging of values to
//! the server. What it doesn't know it refuses: a slip of the pen must not change what is done.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use singletrack::{
    Acquire, BoundLease, Client, Fence, ForceRelease, Mode, Release, Target, Transact, Transfer,
    Value,
};

use crate::record::decode_data;

/// The whole.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transaction {
    #[serde(default)]
    pub(super) request_id: Option<String>,
    #[serde(default)]
    age_ms: Number<u64>,
    #[serde(default)]
    conditions: Vec<Condition>,
    pub(super) operations: Vec<Operation>,
}

/// A number, or one in quotes: proto3 JSON has those of 64 bits so.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "Written<T>", bound = "T: Deserialize<'de> + std::str::FromStr")]
struct Number<T>(T);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Plain(T),
    Quoted(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    Fence(FenceText),
    Record(RecordText),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FenceText {
    resource: String,
    token: Number<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordText {
    key: String,
    expect: Expect,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Absent(True),
    Exists(True),
    Version(Number<u64>),
}

/// What may be expected of a record that is to be deleted.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Present {
    Exists(True),
    Version(Number<u64>),
}

/// `true`, as there is no other way to say it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "bool")]
struct True;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ValueText {
    Data(Data),
    Text(String),
    Counter(Number<i64>),
}

/// Base64.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Data(Vec<u8>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Lifetime {
    TtlMs(Number<u64>),
    BoundLease(LeaseText),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseText {
    lease_id: String,
    token: Number<u64>,
}

/// One operation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    PutRecord(PutText),
    IncrementRecord(IncrementText),
    DeleteRecord(DeleteText),
    AcquireLease(AcquireText),
    ReleaseLease(ReleaseText),
    ForceReleaseLease(ForceReleaseText),
    TransferLease(TransferText),
    ProtectPrefix(ProtectText),
    UnprotectPrefix(ProtectText),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutText {
    key: String,
    value: ValueText,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    expect: Option<Expect>,
    #[serde(default)]
    lifetime: Option<Lifetime>,
    #[serde(default)]
    keep_lifetime: bool,
    #[serde(default)]
    holder: Option<String>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IncrementText {
    key: String,
    delta: Number<i64>,
    #[serde(default)]
    min: Option<Number<i64>>,
    #[serde(default)]
    max: Option<Number<i64>>,
    #[serde(default)]
    lifetime: Option<Lifetime>,
    #[serde(default)]
    holder: Option<String>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteText {
    key: String,
    #[serde(default)]
    expect: Option<Present>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcquireText {
    targets: Vec<TargetText>,
    #[serde(default)]
    holder: Option<String>,
    #[serde(default)]
    ttl_ms: Option<Number<u64>>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    max_hold_ms: Option<Number<u64>>,
    #[serde(default)]
    lock_delay_ms: Number<u64>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetText {
    resource: String,
    #[serde(default)]
    mode: ModeText,
    #[serde(default)]
    permits: u32,
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    reach: ReachText,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum ModeText {
    #[default]
    #[serde(rename = "LEASE_MODE_EXCLUSIVE", alias = "EXCLUSIVE")]
    Exclusive,
    #[serde(rename = "LEASE_MODE_SHARED", alias = "SHARED")]
    Shared,
    #[serde(rename = "LEASE_MODE_PERMITS", alias = "PERMITS")]
    Permits,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum ReachText {
    #[default]
    #[serde(rename = "LEASE_REACH_EXACT", alias = "EXACT")]
    Exact,
    #[serde(rename = "LEASE_REACH_SUBTREE", alias = "SUBTREE")]
    Subtree,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseText {
    lease_id: String,
    token: Number<u64>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForceReleaseText {
    resource: String,
    token: Number<u64>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferText {
    lease_id: String,
    token: Number<u64>,
    to_holder: String,
    #[serde(default)]
    to_actor: Option<String>,
    #[serde(default)]
    ttl_ms: Option<Number<u64>>,
    #[serde(default)]
    fences: Vec<FenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProtectText {
    prefix: String,
    resource: String,
    #[serde(default)]
    as_admin: bool,
    #[serde(default)]
    fences: Vec<FenceText>,
}

// === impl Transaction ===

impl Transaction {
    /// How old it says to be.
    pub(super) const fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms.0)
    }

    /// In the client's words. `holder`: who acts, where nobody is named.
    pub(super) fn said(self, client: &Client, holder: &str) -> Transact {
        let mut transact = client.transact();
        for condition in self.conditions {
            transact = match condition {
                Condition::Fence(fence) => transact.holding(fence.said()),
                Condition::Record(RecordText { key, expect }) => {
                    let when = transact.when(key);
                    match expect {
                        Expect::Absent(True) => when.is_absent(),
                        Expect::Exists(True) => when.exists(),
                        Expect::Version(version) => when.has_version(version.0),
                    }
                }
            };
        }
        for operation in self.operations {
            transact = operation.add_to(transact, client, holder);
        }
        transact
    }
}

// === impl Operation ===

/// Adds fences to anything that takes them.
macro_rules! fenced {
    ($operation:expr, $fences:expr) => {
        $fences.into_iter().fold($operation, |operation, fence| operation.fence(fence.said()))
    };
}

impl Operation {
    /// As the file calls it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::PutRecord(_) => "put_record",
            Self::IncrementRecord(_) => "increment_record",
            Self::DeleteRecord(_) => "delete_record",
            Self::AcquireLease(_) => "acquire_lease",
            Self::ReleaseLease(_) => "release_lease",
            Self::ForceReleaseLease(_) => "force_release_lease",
            Self::TransferLease(_) => "transfer_lease",
            Self::ProtectPrefix(_) => "protect_prefix",
            Self::UnprotectPrefix(_) => "unprotect_prefix",
        }
    }

    /// What it is about.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::PutRecord(it) => &it.key,
            Self::IncrementRecord(it) => &it.key,
            Self::DeleteRecord(it) => &it.key,
            Self::AcquireLease(it) => it.targets.first().map_or("", |target| &target.resource),
            // The id of a lease is its holder's secret.
            Self::ReleaseLease(_) | Self::TransferLease(_) => "",
            Self::ForceReleaseLease(it) => &it.resource,
            Self::ProtectPrefix(it) | Self::UnprotectPrefix(it) => &it.prefix,
        }
    }

    fn add_to(self, transact: Transact, client: &Client, holder: &str) -> Transact {
        match self {
            Self::PutRecord(it) => transact.with(it.said(client, holder)),
            Self::IncrementRecord(it) => transact.with(it.said(client, holder)),
            Self::DeleteRecord(it) => transact.with(it.said(client)),
            Self::AcquireLease(it) => transact.with(it.said(holder)),
            Self::ReleaseLease(it) => transact.with(
                it.fences
                    .into_iter()
                    .fold(Release::new(it.lease_id, it.token.0), |release, fence| {
                        release.fence(fence.resource, fence.token.0)
                    }),
            ),
            Self::ForceReleaseLease(it) => transact.with(
                it.fences
                    .into_iter()
                    .fold(ForceRelease::new(it.resource, it.token.0), |release, fence| {
                        release.fence(fence.resource, fence.token.0)
                    }),
            ),
            Self::TransferLease(it) => transact.with(it.said()),
            Self::ProtectPrefix(it) => {
                let protect = client.records().protect(it.prefix, it.resource);
                let protect = if it.as_admin { protect.as_admin() } else { protect };
                transact.with(fenced!(protect, it.fences))
            }
            Self::UnprotectPrefix(it) => {
                let unprotect = client.records().unprotect(it.prefix, it.resource);
                let unprotect = if it.as_admin { unprotect.as_admin() } else { unprotect };
                transact.with(fenced!(unprotect, it.fences))
            }
        }
    }
}

impl PutText {
    fn said(self, client: &Client, holder: &str) -> singletrack::Put {
        let holder = self.holder.unwrap_or_else(|| holder.to_owned());
        let mut put = client.record(self.key).put(self.value.said()).holder(holder);
        put = match self.expect {
            None => put,
            Some(Expect::Absent(True)) => put.expect_absent(),
            Some(Expect::Exists(True)) => put.expect_exists(),
            Some(Expect::Version(version)) => put.expect_version(version.0),
        };
        put = match self.lifetime {
            None => put,
            Some(Lifetime::TtlMs(ttl)) => put.ttl(ttl.milliseconds()),
            Some(Lifetime::BoundLease(lease)) => put.bound_to(lease.said()),
        };
        if self.keep_lifetime {
            put = put.keep_lifetime();
        }
        if let Some(content_type) = self.content_type {
            put = put.content_type(content_type);
        }
        fenced!(put, self.fences)
    }
}

impl IncrementText {
    fn said(self, client: &Client, holder: &str) -> singletrack::Increment {
        let holder = self.holder.unwrap_or_else(|| holder.to_owned());
        let mut increment = client.record(self.key).increment(self.delta.0).holder(holder);
        if let Some(min) = self.min {
            increment = increment.min(min.0);
        }
        if let Some(max) = self.max {
            increment = increment.max(max.0);
        }
        increment = match self.lifetime {
            None => increment,
            Some(Lifetime::TtlMs(ttl)) => increment.ttl(ttl.milliseconds()),
            Some(Lifetime::BoundLease(lease)) => increment.bound_to(lease.said()),
        };
        fenced!(increment, self.fences)
    }
}

impl DeleteText {
    fn said(self, client: &Client) -> singletrack::Delete {
        let delete = client.record(self.key).delete();
        let delete = match self.expect {
            None => delete,
            Some(Present::Exists(True)) => delete.expect_exists(),
            Some(Present::Version(version)) => delete.expect_version(version.0),
        };
        fenced!(delete, self.fences)
    }
}

impl AcquireText {
    fn said(self, holder: &str) -> Acquire {
        let holder = self.holder.unwrap_or_else(|| holder.to_owned());
        let mut wish = Acquire::on(self.targets.into_iter().map(TargetText::said), holder)
            .lock_delay(self.lock_delay_ms.milliseconds());
        if let Some(ttl) = self.ttl_ms {
            wish = wish.ttl(ttl.milliseconds());
        }
        if let Some(actor) = self.actor {
            wish = wish.actor(actor);
        }
        if let Some(max_hold) = self.max_hold_ms {
            wish = wish.max_hold(max_hold.milliseconds());
        }
        for (key, value) in self.labels {
            wish = wish.label(key, value);
        }
        self.fences.into_iter().fold(wish, |wish, it| wish.fence(it.resource, it.token.0))
    }
}

impl TransferText {
    fn said(self) -> Transfer {
        let mut transfer = Transfer::new(self.lease_id, self.token.0, self.to_holder);
        if let Some(actor) = self.to_actor {
            transfer = transfer.actor(actor);
        }
        if let Some(ttl) = self.ttl_ms {
            transfer = transfer.ttl(ttl.milliseconds());
        }
        let fences = self.fences.into_iter();
        fences.fold(transfer, |transfer, it| transfer.fence(it.resource, it.token.0))
    }
}

// === words ===

impl FenceText {
    fn said(self) -> Fence {
        Fence::new(self.resource, self.token.0)
    }
}

impl LeaseText {
    fn said(self) -> BoundLease {
        BoundLease::new(self.lease_id, self.token.0)
    }
}

impl ValueText {
    fn said(self) -> Value {
        match self {
            Self::Data(data) => Value::from(data.0),
            Self::Text(text) => Value::from(text),
            Self::Counter(number) => Value::from(number.0),
        }
    }
}

impl TargetText {
    fn said(self) -> Target {
        let mut target = Target::new(self.resource);
        target.mode = match self.mode {
            ModeText::Exclusive => Mode::Exclusive,
            ModeText::Shared => Mode::Shared,
            ModeText::Permits => Mode::Permits { count: self.permits, limit: self.limit },
        };
        match self.reach {
            ReachText::Exact => target,
            ReachText::Subtree => target.subtree(),
        }
    }
}

impl Number<u64> {
    const fn milliseconds(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<T: std::str::FromStr> TryFrom<Written<T>> for Number<T> {
    type Error = String;

    fn try_from(written: Written<T>) -> Result<Self, String> {
        match written {
            Written::Plain(number) => Ok(Self(number)),
            Written::Quoted(text) => {
                text.parse().map(Self).map_err(|_| format!("expected a number, found {text:?}"))
            }
        }
    }
}

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(is: bool) -> Result<Self, Self::Error> {
        if is { Ok(Self) } else { Err("expected true, found false: leave it out") }
    }
}

impl TryFrom<String> for Data {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        decode_data(&text).map(Self).ok_or_else(|| format!("expected base64, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Transaction, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_may_stand_in_quotes_and_names_may_be_short() {
        let text = r#"{"age_ms": "5", "operations": [
            {"increment_record": {"key": "k", "delta": "-9223372036854775808", "min": -3}},
            {"acquire_lease": {"targets": [
                {"resource": "a", "mode": "LEASE_MODE_PERMITS", "permits": 1, "limit": 2},
                {"resource": "b", "mode": "SHARED", "reach": "SUBTREE"}]}}]}"#;
        let transaction = parse(text).unwrap();
        assert_eq!(transaction.age(), Duration::from_millis(5));
        let [Operation::IncrementRecord(increment), Operation::AcquireLease(_)] =
            transaction.operations.as_slice()
        else {
            panic!("{transaction:?}")
        };
        assert_eq!((increment.delta.0, increment.min.map(|it| it.0)), (i64::MIN, Some(-3)));
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_fault() {
        let operation = |text: &str| format!(r#"{{"operations": [{text}]}}"#);
        for (text, fault) in [
            ("{}".to_owned(), "missing field `operations`"),
            (r#"{"operations": [], "fences": []}"#.to_owned(), "unknown field `fences`"),
            (operation(r#"{"put": {}}"#), "unknown variant `put`"),
            (operation(r#"{"put_record": {"key": "k"}}"#), "missing field `value`"),
            (
                operation(r#"{"put_record": {"key": "k", "value": {"data": "?"}}}"#),
                "expected base64",
            ),
            (
                operation(r#"{"delete_record": {"key": "k", "expect": {"absent": true}}}"#),
                "unknown variant `absent`",
            ),
            (
                operation(r#"{"delete_record": {"key": "k", "expect": {"exists": false}}}"#),
                "expected true",
            ),
            (
                operation(r#"{"release_lease": {"lease_id": "a", "token": "x"}}"#),
                "expected a number",
            ),
            (
                operation(r#"{"put_record": {"key": "k", "value": {"text": ""}, "ttl_ms": 5}}"#),
                "unknown field `ttl_ms`",
            ),
        ] {
            let found = parse(&text).unwrap_err();
            assert!(found.contains(fault), "{text}: {found}");
        }
    }
}
