//! Every field of every request message, with values that are not legal.
//!
//! The list of fields comes from the descriptor set. [`free`] and [`cases`] together must have
//! each of them, so a new field without bounds fails here.

#[path = "fields_menu.rs"]
mod menu;
#[path = "fields_records.rs"]
mod records;

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorSet, ServiceDescriptorProto, field_descriptor_proto::Type,
};
use singletrack_proto::{
    DESCRIPTOR_SET,
    Reason::{self, Malformed, TooLarge},
    v1,
};

use crate::rig::{Rig, Told, Wire, acquire, fence};

/// A bad value: the field as `Message.field.field`, the bytes sent, and the answer expected.
struct Case {
    field: &'static str,
    message: Vec<u8>,
    reason: Reason,
    path: &'static str,
}

/// A field of a request message, with the numbers that lead to it.
struct Field {
    name: String,
    /// What a decoder calls it: of a `oneof` it knows the group only, of a map nothing but the map.
    told: String,
    numbers: Vec<i32>,
    kind: Type,
}

/// Fields that have no illegal value, each with the reason.
const fn free() -> [(&'static str, &'static str); 17] {
    [
        ("AcquireLeaseRequest.wait_ms", "more than 50,000 counts as 50,000"),
        ("AcquireLeaseRequest.age_ms", "any age is legal; an old unknown id is its own refusal"),
        ("ReleaseLeaseRequest.age_ms", "as in AcquireLeaseRequest"),
        ("ForceReleaseLeaseRequest.age_ms", "as in AcquireLeaseRequest"),
        ("TransferLeaseRequest.age_ms", "as in AcquireLeaseRequest"),
        ("AnswerLeaseYieldRequest.number", "0 is all; an unknown one is NOT_FOUND"),
        ("AnswerLeaseYieldRequest.will_yield", "true and false are all there are"),
        ("ListRecordsRequest.keys_only", "true and false are all there are"),
        ("PutRecordRequest.value.counter", "any number is legal"),
        ("PutRecordRequest.age_ms", "as in AcquireLeaseRequest"),
        ("IncrementRecordRequest.age_ms", "as in AcquireLeaseRequest"),
        ("DeleteRecordRequest.age_ms", "as in AcquireLeaseRequest"),
        ("ProtectPrefixRequest.as_admin", "true and false are all there are"),
        ("ProtectPrefixRequest.age_ms", "as in AcquireLeaseRequest"),
        ("UnprotectPrefixRequest.as_admin", "true and false are all there are"),
        ("UnprotectPrefixRequest.age_ms", "as in AcquireLeaseRequest"),
        ("TransactRequest.age_ms", "as in AcquireLeaseRequest"),
    ]
}

#[test]
fn every_field_of_every_request_has_a_bad_value_or_a_reason_for_none() {
    let known: BTreeSet<String> =
        requests().into_iter().flat_map(|(_, _, fields)| fields).map(|f| f.name).collect();
    let tried: BTreeSet<String> = cases()
        .iter()
        .map(|case| case.field)
        .chain(free().map(|(field, _)| field))
        .map(String::from)
        .collect();
    assert_eq!(known, tried, "left: fields of the descriptor; right: fields tried");
}

#[tokio::test]
async fn every_bad_value_is_refused_with_the_path_of_its_field() {
    let rig = Rig::start().await;
    let mut wire = Wire::to(&rig).await;
    for case in cases() {
        let request = case.field.split('.').next().unwrap();
        let told = wire.refused(&path_of(request), None, &case.message).await;
        assert_eq!((told.reason, told.fields()), (case.reason, vec![case.path]), "{}", case.field);
    }
    rig.stop().await;
}

#[tokio::test]
async fn every_field_that_is_cut_off_or_of_another_type_is_malformed() {
    let rig = Rig::start().await;
    let mut wire = Wire::to(&rig).await;
    for (path, _, fields) in requests() {
        for field in fields {
            for (what, spoilt) in spoilt(&field) {
                let told = wire.refused(&path, None, &spoilt).await.is(Reason::Malformed);
                assert_undecodable(&told, &field, what);
            }
        }
    }
    rig.stop().await;
}

/// The path is that of the field, without indexes, as bytes that can't be read have none; a
/// member of a oneof is named by its group.
fn assert_undecodable(told: &Told, field: &Field, what: &str) {
    assert_eq!(told.fields(), [&*field.told], "{}: {what}: {told:?}", field.name);
}

#[tokio::test]
async fn unknown_fields_of_a_newer_client_are_left_alone() {
    let rig = Rig::start().await;
    let mut leases = rig.leases().await;
    crate::rig::ok(leases.acquire_lease(acquire("a", "first"))).await;
    // Field 1,000 with a varint, behind a whole request for what is held.
    let mut message = acquire("a", "second").encode_to_vec();
    message.extend([0xc0, 0x3e, 0x01]);
    let told = Wire::to(&rig).await.refused(&path_of("AcquireLeaseRequest"), None, &message).await;
    told.is(Reason::Held);
    rig.stop().await;
}

// === from the descriptor set ===

/// Path of the call, name of the message, all fields of it; of every call.
fn requests() -> Vec<(String, String, Vec<Field>)> {
    let set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
    let files = || set.file.iter().filter(|file| file.package() == "singletrack.v1");
    let find = |full: &str| -> &DescriptorProto {
        let name = full.strip_prefix(".singletrack.v1.").unwrap();
        let (outer, entry) = name.split_once('.').map_or((name, None), |(o, e)| (o, Some(e)));
        let outer = files().flat_map(|file| &file.message_type).find(|m| m.name() == outer);
        let nested = |outer: &'_ DescriptorProto, entry| {
            outer.nested_type.iter().position(|nested| nested.name() == entry).unwrap()
        };
        let outer = outer.unwrap();
        entry.map_or(outer, |entry| &outer.nested_type[nested(outer, entry)])
    };
    let services: Vec<&ServiceDescriptorProto> = files().flat_map(|file| &file.service).collect();
    assert_eq!(services.len(), 4, "leases, sessions, records and transactions");
    let mut all = Vec::new();
    for service in services {
        for method in &service.method {
            // A stream's frames and operations have answers of their own: `sessions` and the
            // server's tests of the edge.
            if method.client_streaming() {
                continue;
            }
            let message = find(method.input_type());
            let mut fields = Vec::new();
            collect(message, (message.name(), ""), &[], &find, &mut fields);
            let path = format!("/singletrack.v1.{}/{}", service.name(), method.name());
            all.push((path, message.name().to_owned(), fields));
        }
    }
    all
}

fn collect<'a>(
    message: &'a DescriptorProto,
    (name, told): (&str, &str),
    numbers: &[i32],
    find: &impl Fn(&str) -> &'a DescriptorProto,
    into: &mut Vec<Field>,
) {
    assert!(numbers.len() < 8, "request messages are no trees without end");
    for field in &message.field {
        let name = format!("{name}.{}", field.name());
        let numbers = [numbers, &[field.number()]].concat();
        let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
        let group = match field.oneof_index {
            _ if is_entry => "",
            Some(index) if !field.proto3_optional() => {
                message.oneof_decl[usize::try_from(index).unwrap()].name()
            }
            Some(_) | None => field.name(),
        };
        let dot = if told.is_empty() || group.is_empty() { "" } else { "." };
        let told = format!("{told}{dot}{group}");
        // What an operation has is tried with the call that does the same.
        let is_operation = field.type_name() == ".singletrack.v1.Operation";
        if field.r#type() == Type::Message && !is_operation {
            collect(find(field.type_name()), (&name, &told), &numbers, find, into);
        }
        into.push(Field { name, told, numbers, kind: field.r#type() });
    }
}

fn path_of(request: &str) -> String {
    requests().into_iter().find(|(_, name, _)| name == request).unwrap().0
}

// === spoilt bytes ===

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const BYTES: u8 = 2;

/// Messages in which this field can't be read.
fn spoilt(field: &Field) -> Vec<(&'static str, Vec<u8>)> {
    let (outer, number) = field.numbers.split_at(field.numbers.len() - 1);
    let tag = |wire: u8| u8::try_from(number[0]).unwrap() << 3 | wire;
    let mut all = vec![
        (
            "cut off",
            if is_number(field.kind) {
                vec![tag(VARINT), 0x80]
            } else {
                vec![tag(BYTES), 100, b'x']
            },
        ),
        ("another type", vec![tag(FIXED_64), 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    if field.kind == Type::String {
        all.push(("no UTF-8", vec![tag(BYTES), 2, 0xc3, 0x28]));
    }
    if is_number(field.kind) {
        all.push(("a varint without end", [&[tag(VARINT)][..], &[0xff; 11]].concat()));
    }
    for (_, bytes) in &mut all {
        for number in outer.iter().rev() {
            let length = u8::try_from(bytes.len()).unwrap();
            let head = [u8::try_from(*number).unwrap() << 3 | BYTES, length];
            *bytes = [&head[..], bytes].concat();
        }
    }
    all
}

fn is_number(kind: Type) -> bool {
    assert!(
        matches!(
            kind,
            Type::Uint64
                | Type::Uint32
                | Type::Int32
                | Type::Int64
                | Type::Enum
                | Type::Bool
                | Type::String
                | Type::Bytes
                | Type::Message
        ),
        "a type that these tests can't spoil yet: {kind:?}"
    );
    !matches!(kind, Type::String | Type::Bytes | Type::Message)
}

// === bad values ===

fn cases() -> Vec<Case> {
    [acquires(), releases(), forced(), others(), menu::cases(), records::cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn case<M: Message>(
    mut message: M,
    field: &'static str,
    reason: Reason,
    path: &'static str,
    spoil: impl FnOnce(&mut M),
) -> Case {
    spoil(&mut message);
    Case { field, message: message.encode_to_vec(), reason, path }
}

/// The fields that all calls with conditions share: request_id and fences.
macro_rules! shared_cases {
    ($message:expr, $name:literal) => {{
        let m = $message;
        vec![
            case(m.clone(), concat!($name, ".request_id"), TooLarge, "request_id", |m| {
                m.request_id = "ä".repeat(129);
            }),
            case(m.clone(), concat!($name, ".request_id"), Malformed, "request_id", |m| {
                m.request_id = "a\nb".into();
            }),
            case(m.clone(), concat!($name, ".fences"), TooLarge, "fences", |m| {
                m.fences = vec![fence("c", 7); 17];
            }),
            case(
                m.clone(),
                concat!($name, ".fences.resource"),
                Malformed,
                "fences[0].target",
                |m| m.fences = vec![v1::Fence { target: None, token: 7 }],
            ),
            case(
                m.clone(),
                concat!($name, ".fences.resource"),
                Malformed,
                "fences[1].resource",
                |m| m.fences = vec![fence("c", 7), fence("c//d", 7)],
            ),
            case(
                m.clone(),
                concat!($name, ".fences.resource"),
                TooLarge,
                "fences[0].resource",
                |m| m.fences = vec![fence(&"x".repeat(513), 7)],
            ),
            case(m.clone(), concat!($name, ".fences.token"), Malformed, "fences[0].token", |m| {
                m.fences = vec![fence("c", 0)];
            }),
            case(m, concat!($name, ".fences.token"), Malformed, "fences[0].token", |m| {
                m.fences = vec![fence("c", 1 << 53)];
            }),
        ]
    }};
}

use shared_cases;

fn acquires() -> Vec<Case> {
    type Spoil = fn(&mut v1::AcquireLeaseRequest);
    const HOLDER: &str = "AcquireLeaseRequest.holder";
    const TARGETS: &str = "AcquireLeaseRequest.targets";
    const RESOURCE: &str = "AcquireLeaseRequest.targets.resource";
    const MODE: &str = "AcquireLeaseRequest.targets.mode";
    const TTL: &str = "AcquireLeaseRequest.ttl_ms";
    const KEEP: &str = "AcquireLeaseRequest.keep_ms";
    const PRIORITY: &str = "AcquireLeaseRequest.priority";
    let table: [(&str, Reason, &str, Spoil); 24] = [
        (HOLDER, Malformed, "holder", |m| m.holder.clear()),
        (HOLDER, TooLarge, "holder", |m| m.holder = "ä".repeat(257)),
        (HOLDER, Malformed, "holder", |m| m.holder = "a\0".into()),
        (TARGETS, Malformed, "targets", |m| m.targets.clear()),
        (TARGETS, TooLarge, "targets", |m| m.targets = vec![m.targets[0].clone(); 129]),
        (RESOURCE, Malformed, "targets[1].resource", |m| m.targets.push(m.targets[0].clone())),
        (RESOURCE, Malformed, "targets[0].resource", |m| m.targets[0].resource.clear()),
        (RESOURCE, TooLarge, "targets[0].resource", |m| m.targets[0].resource = "x".repeat(513)),
        (RESOURCE, TooLarge, "targets[0].resource", |m| {
            m.targets[0].resource = ["a"; 33].join("/")
        }),
        (RESOURCE, Malformed, "targets[0].resource", |m| m.targets[0].resource = "/a".into()),
        (RESOURCE, Malformed, "targets[0].resource", |m| m.targets[0].resource = "a/".into()),
        (RESOURCE, Malformed, "targets[0].resource", |m| m.targets[0].resource = "a/./b".into()),
        (RESOURCE, Malformed, "targets[0].resource", |m| m.targets[0].resource = "a\u{7f}".into()),
        (MODE, Malformed, "targets[0].mode", |m| m.targets[0].mode = 4),
        (MODE, Malformed, "targets[0].mode", |m| m.targets[0].mode = -1),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(0)),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(999)),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(86_400_001)),
        (TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(u64::MAX)),
        (KEEP, Malformed, "keep_ms", |m| m.keep_ms = Some(0)),
        (KEEP, Malformed, "keep_ms", |m| m.keep_ms = Some(60_001)),
        (PRIORITY, Malformed, "priority", |m| m.priority = 101),
        (PRIORITY, Malformed, "priority", |m| m.priority = -101),
        (PRIORITY, Malformed, "priority", |m| m.priority = i32::MIN),
    ];
    let mut all = shared_cases!(acquire("a", "first"), "AcquireLeaseRequest");
    for (field, reason, path, spoil) in table {
        all.push(case(acquire("a", "first"), field, reason, path, spoil));
    }
    all
}

fn id() -> String {
    "0f".repeat(16)
}

fn releases() -> Vec<Case> {
    const ID: &str = "ReleaseLeaseRequest.lease_id";
    const TOKEN: &str = "ReleaseLeaseRequest.token";
    let release = v1::ReleaseLeaseRequest { lease_id: id(), token: 7, ..Default::default() };
    let mut all = shared_cases!(release.clone(), "ReleaseLeaseRequest");
    for text in [String::new(), "0".repeat(31), "0".repeat(33), "g".repeat(32)] {
        all.push(case(release.clone(), ID, Malformed, "lease_id", |m| m.lease_id = text));
    }
    for token in [0, 1 << 53, u64::MAX] {
        all.push(case(release.clone(), TOKEN, Malformed, "token", |m| m.token = token));
    }
    all
}

fn forced() -> Vec<Case> {
    const RESOURCE: &str = "ForceReleaseLeaseRequest.resource";
    const TOKEN: &str = "ForceReleaseLeaseRequest.token";
    let force =
        v1::ForceReleaseLeaseRequest { resource: "a".into(), token: 7, ..Default::default() };
    let mut all = shared_cases!(force.clone(), "ForceReleaseLeaseRequest");
    all.extend([
        case(force.clone(), RESOURCE, Malformed, "resource", |m| m.resource.clear()),
        case(force.clone(), RESOURCE, Malformed, "resource", |m| m.resource = "..".into()),
        case(force.clone(), RESOURCE, TooLarge, "resource", |m| m.resource = "x".repeat(513)),
        case(force.clone(), TOKEN, Malformed, "token", |m| m.token = 0),
        case(force, TOKEN, Malformed, "token", |m| m.token = 1 << 53),
    ]);
    all
}

fn others() -> Vec<Case> {
    const ABANDONED: &str = "AbandonLeaseRequest.abandoned_request_id";
    let mut all = renewals();
    for (text, reason) in
        [(String::new(), Malformed), ("\t".into(), Malformed), ("x".repeat(129), TooLarge)]
    {
        let message = v1::AbandonLeaseRequest { abandoned_request_id: text };
        all.push(case(message, ABANDONED, reason, "abandoned_request_id", |_| {}));
    }
    all.extend(reads());
    let ping = v1::PingRequest { payload: vec![0; 4_097].into() };
    all.push(case(ping, "PingRequest.payload", TooLarge, "payload", |_| {}));
    all.extend(sessions());
    all
}

fn sessions() -> Vec<Case> {
    const HOLDER: &str = "OpenSessionRequest.holder";
    const TTL: &str = "OpenSessionRequest.ttl_ms";
    const SIZE: &str = "ListSessionLeasesRequest.page_size";
    const PAGE: &str = "ListSessionLeasesRequest.page_token";
    const LISTED: &str = "ListSessionLeasesRequest.session_id";
    const WITH: &str = "AcquireLeaseRequest.session_id";
    let open = v1::OpenSessionRequest { holder: "agent".into(), ttl_ms: None };
    let keep = v1::KeepSessionAliveRequest { session_id: "no id".into() };
    let close = v1::CloseSessionRequest { session_id: String::new() };
    let list = v1::ListSessionLeasesRequest { session_id: id(), ..Default::default() };
    let bound = v1::AcquireLeaseRequest { ttl_ms: None, session_id: id(), ..acquire("a", "h") };
    vec![
        case(open.clone(), HOLDER, Malformed, "holder", |m| m.holder.clear()),
        case(open.clone(), HOLDER, TooLarge, "holder", |m| m.holder = "h".repeat(257)),
        case(open.clone(), TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(999)),
        case(open, TTL, Malformed, "ttl_ms", |m| m.ttl_ms = Some(86_400_001)),
        case(keep, "KeepSessionAliveRequest.session_id", Malformed, "session_id", |_| {}),
        case(close, "CloseSessionRequest.session_id", Malformed, "session_id", |_| {}),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(0)),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(1_001)),
        case(list.clone(), PAGE, Malformed, "page_token", |m| m.page_token = "x".into()),
        case(list, LISTED, Malformed, "session_id", |m| m.session_id = "12".into()),
        case(bound.clone(), WITH, Malformed, "session_id", |m| m.session_id = "12".into()),
        case(bound, WITH, Malformed, "session_id", |m| m.ttl_ms = Some(5_000)),
    ]
}

fn renewals() -> Vec<Case> {
    const ITEMS: &str = "RenewLeasesRequest.renewals";
    const ID: &str = "RenewLeasesRequest.renewals.lease_id";
    const TOKEN: &str = "RenewLeasesRequest.renewals.token";
    let item = v1::LeaseRenewal { lease_id: id(), token: 7 };
    let renew = v1::RenewLeasesRequest { renewals: vec![item.clone(); 2] };
    vec![
        case(renew.clone(), ITEMS, Malformed, "renewals", |m| m.renewals.clear()),
        case(renew.clone(), ITEMS, TooLarge, "renewals", |m| m.renewals = vec![item; 1_001]),
        case(renew.clone(), ID, Malformed, "renewals[1].lease_id", |m| {
            m.renewals[1].lease_id.clear();
        }),
        case(renew.clone(), ID, Malformed, "renewals[0].lease_id", |m| {
            m.renewals[0].lease_id = "z".repeat(32);
        }),
        case(renew.clone(), TOKEN, Malformed, "renewals[1].token", |m| m.renewals[1].token = 0),
        case(renew, TOKEN, Malformed, "renewals[0].token", |m| m.renewals[0].token = u64::MAX),
    ]
}

fn reads() -> Vec<Case> {
    use v1::get_lease_request::Key;
    const BY_ID: &str = "GetLeaseRequest.lease_id";
    const BY_RESOURCE: &str = "GetLeaseRequest.resource";
    const SIZE: &str = "ListLeasesRequest.page_size";
    const PAGE: &str = "ListLeasesRequest.page_token";
    let get = v1::GetLeaseRequest { key: None };
    let list = v1::ListLeasesRequest::default();
    let check = v1::CheckLeaseRequest { resource: "a".into(), token: 7 };
    let by_id = |m: &mut v1::GetLeaseRequest, id: &str| m.key = Some(Key::LeaseId(id.into()));
    let by_name = |m: &mut v1::GetLeaseRequest, name: &str| {
        m.key = Some(Key::Resource(name.into()));
    };
    vec![
        case(get.clone(), BY_ID, Malformed, "key", |_| {}),
        case(get.clone(), BY_ID, Malformed, "lease_id", |m| by_id(m, "")),
        case(get.clone(), BY_ID, Malformed, "lease_id", |m| by_id(m, "0f")),
        case(get.clone(), BY_RESOURCE, Malformed, "resource", |m| by_name(m, "")),
        case(get, BY_RESOURCE, TooLarge, "resource", |m| by_name(m, &"x".repeat(513))),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(0)),
        case(list.clone(), SIZE, Malformed, "page_size", |m| m.page_size = Some(1_001)),
        case(list.clone(), PAGE, Malformed, "page_token", |m| m.page_token = "next".into()),
        case(list, PAGE, Malformed, "page_token", |m| m.page_token = "f".repeat(16)),
        case(check.clone(), "CheckLeaseRequest.resource", Malformed, "resource", |m| {
            m.resource = "a\nb".into();
        }),
        case(check.clone(), "CheckLeaseRequest.token", Malformed, "token", |m| m.token = 0),
        case(check, "CheckLeaseRequest.token", Malformed, "token", |m| m.token = 1 << 53),
    ]
}
