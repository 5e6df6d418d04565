//! Every field that can be illegal is named by its path, and every default is applied.

mod menu;
mod records;

use http::HeaderValue;
use singletrack_core::{
    command::AcquireLease,
    types::{CommandHash, RequestHash},
};

use super::*;

fn context() -> Context {
    Context { namespace: Namespace::default(), budget_ms: None, on_stream: None }
}

fn whole() -> Flaws {
    Flaws::under("")
}

fn acquire() -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        request_id: "one".into(),
        holder: "agent".into(),
        targets: vec![target("a/b")],
        fences: vec![fence("c", 7)],
        ..Default::default()
    }
}

fn target(resource: &str) -> v1::LeaseTarget {
    v1::LeaseTarget { resource: resource.into(), ..Default::default() }
}

/// What an acquire comes to.
fn acquired(message: &v1::AcquireLeaseRequest) -> AcquireLease {
    let question = acquire_lease(context(), message, whole()).unwrap();
    let Command::AcquireLease(acquire) = question.command else { panic!("an acquire") };
    acquire
}

fn fence(resource: &str, token: u64) -> v1::Fence {
    v1::Fence { target: Some(v1::fence::Target::Resource(resource.into())), token }
}

fn id() -> String {
    "0f".repeat(16)
}

#[track_caller]
fn assert_flaws(result: Result<Question, Flaws>, expected: &[&str]) {
    let flaws = result.expect_err("the message is not legal");
    let fields: Vec<_> = flaws.fields().iter().map(|flaw| flaw.field.as_str()).collect();
    assert_eq!(fields, expected, "{flaws:?}");
}

#[test]
fn each_illegal_field_of_an_acquire_is_named() {
    type Spoil = fn(&mut v1::AcquireLeaseRequest);
    let cases: [(Spoil, &str, bool); 24] = [
        (|m| m.request_id = "x".repeat(129), "request_id", true),
        (|m| m.request_id = "a\nb".into(), "request_id", false),
        (|m| m.holder = String::new(), "holder", false),
        (|m| m.holder = "x".repeat(257), "holder", true),
        (|m| m.holder = "a\0".into(), "holder", false),
        (|m| m.targets.clear(), "targets", false),
        (|m| m.targets.push(m.targets[0].clone()), "targets[1].resource", false),
        (|m| m.targets[0].resource = String::new(), "targets[0].resource", false),
        (|m| m.targets[0].resource = "x".repeat(513), "targets[0].resource", true),
        (|m| m.targets[0].resource = "/a".into(), "targets[0].resource", false),
        (|m| m.targets[0].resource = "a/../b".into(), "targets[0].resource", false),
        (|m| m.targets[0].resource = vec!["a"; 33].join("/"), "targets[0].resource", true),
        (|m| m.targets[0].mode = 9, "targets[0].mode", false),
        (|m| m.ttl_ms = Some(999), "ttl_ms", false),
        (|m| m.ttl_ms = Some(86_400_001), "ttl_ms", false),
        (|m| m.ttl_ms = Some(0), "ttl_ms", false),
        (|m| m.keep_ms = Some(0), "keep_ms", false),
        (|m| m.keep_ms = Some(60_001), "keep_ms", false),
        (|m| m.priority = 101, "priority", false),
        (|m| m.priority = i32::MIN, "priority", false),
        (|m| m.fences = vec![fence("c", 7); 17], "fences", true),
        (|m| m.fences[0].target = None, "fences[0].target", false),
        (|m| m.fences[0] = fence("c//d", 7), "fences[0].resource", false),
        (|m| m.fences[0].token = 1 << 53, "fences[0].token", false),
    ];
    for (spoil, field, too_large) in cases {
        let mut message = acquire();
        spoil(&mut message);
        let result = acquire_lease(context(), &message, whole());
        assert_eq!(result.as_ref().unwrap_err().all_too_large(), too_large, "{field}: {result:?}");
        assert_flaws(result, &[field]);
    }
}

#[test]
fn all_flaws_of_a_message_are_told_at_once_and_at_most_sixteen() {
    let mut message = acquire();
    message.holder = String::new();
    message.fences = vec![fence("", 0); 16];
    let flaws = acquire_lease(context(), &message, whole()).unwrap_err();
    assert_eq!((flaws.fields().len(), flaws.left_out()), (16, 17));
    assert_eq!(flaws.fields()[0].field, "holder");
    assert_eq!(flaws.fields()[1].field, "fences[0].resource");
    assert!(!flaws.all_too_large());
}

#[test]
fn lengths_are_counted_in_characters_where_the_contract_says_so() {
    let mut message = acquire();
    message.request_id = "\u{1F512}".repeat(128);
    message.holder = "\u{1F512}".repeat(256);
    assert!(acquire_lease(context(), &message, whole()).is_ok());
    message.request_id.push('x');
    assert_flaws(acquire_lease(context(), &message, whole()), &["request_id"]);
}

#[test]
fn each_illegal_field_of_the_other_messages_is_named() {
    let renewal = |lease_id: &str, token| v1::LeaseRenewal { lease_id: lease_id.into(), token };
    let renew = |renewals| renew_leases(context(), &v1::RenewLeasesRequest { renewals }, whole());
    assert_flaws(renew(vec![]), &["renewals"]);
    assert_flaws(renew(vec![renewal(&id(), 1); 1_001]), &["renewals"]);
    assert_flaws(
        renew(vec![renewal(&id(), 1), renewal("xyz", 0)]),
        &["renewals[1].lease_id", "renewals[1].token"],
    );

    let abandon = |id: &str| {
        let message = v1::AbandonLeaseRequest { abandoned_request_id: id.into() };
        abandon_lease(context(), &message, whole())
    };
    assert_flaws(abandon(""), &["abandoned_request_id"]);
    assert_flaws(abandon(&"x".repeat(129)), &["abandoned_request_id"]);

    let message = v1::ReleaseLeaseRequest {
        request_id: "\t".into(),
        lease_id: "0".repeat(31),
        token: 0,
        fences: vec![fence("", 1)],
        age_ms: 0,
    };
    assert_flaws(
        release_lease(context(), &message, whole()),
        &["request_id", "lease_id", "token", "fences[0].resource"],
    );

    let get = |key| get_lease(context(), &v1::GetLeaseRequest { key }, whole());
    use v1::get_lease_request::Key;
    assert_flaws(get(None), &["key"]);
    assert_flaws(get(Some(Key::LeaseId(String::new()))), &["lease_id"]);
    assert_flaws(get(Some(Key::Resource("a/".into()))), &["resource"]);

    let list = |page_size, page_token: &str| {
        let message = v1::ListLeasesRequest {
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        };
        list_leases(context(), &message, whole())
    };
    assert_flaws(list(Some(0), ""), &["page_size"]);
    assert_flaws(list(Some(1_001), "zz"), &["page_size", "page_token"]);
    assert_flaws(list(None, &"f".repeat(16)), &["page_token"]);
    assert_flaws(list(None, "+000000000000001"), &["page_token"]);

    let message = v1::CheckLeaseRequest { resource: String::new(), token: 0 };
    assert_flaws(check_lease(context(), &message, whole()), &["resource", "token"]);

    let message = v1::ForceReleaseLeaseRequest {
        request_id: "x".repeat(129),
        fences: vec![fence("c", 0)],
        ..Default::default()
    };
    assert_flaws(
        force_release_lease(context(), &message, whole()),
        &["request_id", "resource", "token", "fences[0].token"],
    );
}

#[test]
fn a_lease_id_is_never_repeated_in_a_refusal() {
    let message =
        v1::ReleaseLeaseRequest { lease_id: "5ec12e7".into(), token: 1, ..Default::default() };
    let flaws = release_lease(context(), &message, whole()).unwrap_err();
    assert!(!format!("{flaws:?}").contains("5ec12e7"), "{flaws:?}");
}

#[test]
fn a_page_token_is_the_last_token_of_the_page_before() {
    let message =
        v1::ListLeasesRequest { page_token: page_token_after(1_234_567), ..Default::default() };
    let question = list_leases(context(), &message, whole()).unwrap();
    let filter = Box::default();
    assert_eq!(question.command, Command::ListLeases { after: 1_234_567, count: 100, filter });
}

#[test]
fn an_operation_decodes_as_its_call_does_with_its_name_before_the_paths() {
    use v1::operation::Operation as Op;
    let decode = |op| operation(context(), v1::Operation { seq: 0, operation: Some(op) });
    let mut message = acquire();
    let Ok(Asked::Track(question)) = decode(Op::AcquireLease(message.clone())) else {
        panic!("an acquire is a question")
    };
    assert_eq!(question.mark, acquire_lease(context(), &message, whole()).unwrap().mark);
    message.targets[0].resource = String::new();
    let flaws = decode(Op::AcquireLease(message)).unwrap_err();
    assert_eq!(flaws.fields()[0].field, "acquire_lease.targets[0].resource");
    let flaws = operation(context(), v1::Operation { seq: 0, operation: None }).unwrap_err();
    assert_eq!(flaws.fields()[0].field, "operation");
    let ping = v1::PingRequest { payload: "hello".into() };
    let Ok(Asked::Ping(asked)) = decode(Op::Ping(ping.clone())) else { panic!("a ping") };
    assert_eq!(asked, ping);
}

fn mark(change: impl FnOnce(&mut v1::AcquireLeaseRequest)) -> RequestMark {
    let mut message = acquire();
    change(&mut message);
    acquire_lease(context(), &message, whole()).unwrap().mark.unwrap()
}

#[test]
fn a_request_is_the_same_whatever_it_waits_and_however_its_defaults_are_written() {
    let plain = mark(|_| {});
    assert_eq!(mark(|m| m.wait_ms = 5), plain);
    assert_eq!(mark(|m| m.keep_ms = Some(5)), plain);
    assert_eq!(mark(|m| m.age_ms = 5), plain);
    assert_eq!(mark(|m| m.ttl_ms = Some(30_000)), plain);
    assert_eq!(mark(|m| m.targets[0].mode = 1), plain);
}

#[test]
fn a_request_is_another_as_soon_as_it_asks_for_something_else() {
    let plain = mark(|_| {});
    let changes: [fn(&mut v1::AcquireLeaseRequest); 7] = [
        |m| m.holder = "other".into(),
        |m| m.targets[0].resource = "a/c".into(),
        |m| m.targets[0].mode = 2,
        |m| m.ttl_ms = Some(30_001),
        |m| m.priority = 1,
        |m| m.fences.clear(),
        |m| m.fences[0].token = 8,
    ];
    for change in changes {
        let changed = mark(change);
        assert_eq!(changed.id, plain.id);
        assert_ne!(changed.command, plain.command);
    }
    assert_ne!(mark(|m| m.request_id = "two".into()).id, plain.id);
}

#[test]
fn the_same_request_id_for_release_and_forced_release_is_two_requests() {
    let release = v1::ReleaseLeaseRequest {
        request_id: "one".into(),
        lease_id: id(),
        token: 7,
        ..Default::default()
    };
    let force = v1::ForceReleaseLeaseRequest {
        request_id: "one".into(),
        resource: "a/b".into(),
        token: 7,
        ..Default::default()
    };
    let release = release_lease(context(), &release, whole()).unwrap().mark.unwrap();
    let force = force_release_lease(context(), &force, whole()).unwrap().mark.unwrap();
    assert_eq!(release.id, force.id);
    assert_ne!(release.command, force.command);
}

#[test]
fn an_abandon_names_its_acquire_by_the_same_hash() {
    let message = v1::AbandonLeaseRequest { abandoned_request_id: "one".into() };
    let question = abandon_lease(context(), &message, whole()).unwrap();
    assert_eq!(question.command, Command::AbandonLease { abandoned: mark(|_| {}).id, of: None });
}

#[test]
fn the_identity_of_a_request_is_the_same_in_every_version() {
    // Replay memory outlives an upgrade: these never change.
    let RequestMark { id: RequestHash(id), command: CommandHash(command) } = mark(|_| {});
    assert_eq!(hex::encode(id), "cb410dbf07c0052b8564faccbbc83fe2");
    assert_eq!(hex::encode(command), "7fb3c5a8dbfec47c741eb50a2bb043f4");
}

#[test]
fn each_acquire_draws_a_lease_id_of_its_own() {
    assert_ne!(acquired(&acquire()).lease_id, acquired(&acquire()).lease_id);
}

fn read(pairs: &[(&'static str, &'static str)]) -> Result<Context, Flaws> {
    let mut headers = HeaderMap::new();
    for (key, value) in pairs {
        headers.append(*key, HeaderValue::from_static(value));
    }
    Context::read(&headers, &Namespace::default())
}

#[test]
fn metadata_of_others_is_left_alone() {
    let context = read(&[("x-request-id", "1"), ("authorization", "x")]).unwrap();
    assert_eq!(context.namespace.as_str(), "default");
}

#[test]
fn everything_wrong_with_metadata_is_told_at_once() {
    let flaws = read(&[
        ("singletrack-name", "1"),
        ("singletrack-namespace", "a/b"),
        ("grpc-timeout", "soon"),
    ])
    .unwrap_err();
    let fields: Vec<_> = flaws.fields().iter().map(|flaw| flaw.field.as_str()).collect();
    assert_eq!(
        fields,
        ["metadata[singletrack-name]", "metadata[singletrack-namespace]", "metadata[grpc-timeout]"]
    );
}

#[test]
fn a_wait_is_cut_to_the_longest_wait_and_to_the_deadline() {
    let wait = |budget_ms, wait_ms| Context { budget_ms, ..context() }.wait_ms(wait_ms);
    assert_eq!(wait(None, 0), 0);
    assert_eq!(wait(None, u64::MAX), 50_000);
    assert_eq!(wait(Some(5_000), 50_000), 4_750);
    assert_eq!(wait(Some(5_000), 4_000), 4_000);
    assert_eq!(wait(Some(250), 4_000), 0);
    assert_eq!(wait(Some(0), 4_000), 0);
}
