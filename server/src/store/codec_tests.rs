//! What is written is what is read, and nothing else is.

use proptest::{prelude::*, sample::Index};
use prost::Message;
use singletrack_core::{change::Trace, types::Revision};

use super::*;
use crate::store::samples;

proptest! {
    #[test]
    fn an_entry_comes_back_as_it_was(entry in samples::any_entry()) {
        let mut bytes = Vec::new();
        encode_entry(Revision(0), &entry, &mut bytes);
        prop_assert_eq!(decode_entry(&bytes), Ok((Revision(0), entry)));
    }

    #[test]
    fn the_tag_of_a_change_is_its_tag_on_disk(change in samples::any_change()) {
        let bytes = change_out(&change).encode_to_vec();
        let (tag, _) = prost::encoding::decode_key(&mut bytes.as_slice()).unwrap();
        prop_assert_eq!(tag, change.tag());
    }

    #[test]
    fn weight_is_an_upper_bound_of_what_a_change_takes(change in samples::any_change()) {
        // Effects of a transaction and revisions beyond 2^53 don't occur in real entries.
        let bytes = change_out(&change).encoded_len();
        if !matches!(change, Change::RequestRemembered(_)) {
            prop_assert!(bytes <= change.weight(), "{bytes} > {}", change.weight());
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was_without_large_values(change in samples::any_change()) {
        let row = change.to_row();
        let (Trace::Created(row_key) | Trace::Written(row_key)) = row.trace() else {
            return Ok(());
        };
        let key = encode_key(&row_key);
        let value = encode_row(&key, &row);
        let (_, sum) = unsealed::<wire::Change>(&key, &value).unwrap();
        prop_assert!(value.len() < 2_048 || change.carried().is_none(), "{}", value.len());
        prop_assert_eq!(decode_row(&key, &value), Ok((row_key, row, sum)));
    }

    #[test]
    fn keys_sort_as_rows_do(
        one in samples::any_key(),
        other in samples::any_key(),
    ) {
        prop_assert_eq!(encode_key(&one).cmp(&encode_key(&other)), one.cmp(&other));
    }

    #[test]
    fn a_flipped_bit_in_a_row_is_found(
        change in samples::any_change(),
        at in any::<Index>(),
        bit in 0..8_u32,
        in_key in any::<bool>(),
    ) {
        let (Trace::Created(key) | Trace::Written(key)) = change.trace() else { return Ok(()) };
        let mut key = encode_key(&key);
        let mut value = encode_row(&key, &change.to_row());
        let bytes = if in_key { &mut key } else { &mut value };
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode_row(&key, &value).is_err());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_entry(&bytes);
        let _ = decode_row(&bytes, &bytes);
        let _ = decode_marker(&bytes);
    }
}

#[test]
fn revisions_that_do_not_rise_are_refused() {
    let entry = Entry {
        transactions: [samples::grant(5), samples::grant(5)].map(|e| e.transactions).concat(),
    };
    let mut bytes = Vec::new();
    encode_entry(Revision(0), &entry, &mut bytes);
    assert_eq!(decode_entry(&bytes), Err(Flawed(String::from("revision 5 after 5"))));
}

#[test]
fn marker_and_digest_come_back_and_are_not_mistaken_for_each_other() {
    let marker = Marker { through: Revision(5), reached: Revision(9) };
    let digest = Digest { rows: 3, sum: u64::MAX };
    assert_eq!(decode_marker(&encode_marker(marker)), Ok(marker));
    assert_eq!(decode_digest(&encode_digest(digest)), Ok(digest));
    assert!(decode_digest(&encode_marker(marker)).is_err());
}

// === damaged leases ===

fn wide() -> wire::LeaseGranted {
    let target = |resource: &str, mode: wire::LeaseMode| wire::Target {
        resource: resource.into(),
        mode: mode.into(),
        ..Default::default()
    };
    let pool = wire::Target { permits: 2, limit: 5, ..target("pool", wire::LeaseMode::Permits) };
    let tree = wire::Target {
        reach: wire::LeaseReach::Subtree.into(),
        ..target("tree", wire::LeaseMode::Shared)
    };
    let Change::LeaseGranted(plain) = samples::granted(11) else { unreachable!() };
    wire::LeaseGranted {
        target: Some(target("a", wire::LeaseMode::Exclusive)),
        further_targets: vec![pool, tree],
        granted_at: 7,
        terms: Some(wire::Terms {
            actor: "ada/1".into(),
            labels: vec![wire::Label { key: "k".into(), value: String::new() }],
            max_hold_ms: 1_000,
            lock_delay_ms: 1,
        }),
        ..lease::granted_out(&plain)
    }
}

fn further(granted: &mut wire::LeaseGranted, at: usize) -> &mut wire::Target {
    &mut granted.further_targets[at]
}

fn terms(granted: &mut wire::LeaseGranted) -> &mut wire::Terms {
    granted.terms.as_mut().unwrap()
}

#[test]
fn a_lease_that_no_version_wrote_is_refused() {
    type Spoil = fn(&mut wire::LeaseGranted);
    let cases: [(Spoil, &str); 23] = [
        (|it| it.target = None, "a target is missing"),
        (|it| it.target.as_mut().unwrap().mode = 0, "a lease of mode 0"),
        (|it| further(it, 0).mode = 9, "a lease of mode 9"),
        (|it| further(it, 0).permits = 0, "permits are 1..limit, found 0 of 5"),
        (|it| further(it, 0).permits = 6, "permits are 1..limit, found 6 of 5"),
        (|it| further(it, 0).limit = 1_000_001, "a limit of permits is 1..1000000, found 1000001"),
        (|it| further(it, 0).limit = 0, "a limit of permits is 1..1000000, found 0"),
        (|it| further(it, 1).permits = 1, "1 of 0 permits of a lease of mode 2"),
        (|it| further(it, 1).reach = 7, "a target of reach 7"),
        (|it| further(it, 0).reach = 1, "target 1: a subtree can't be divided into permits"),
        (|it| further(it, 0).resource = "a".into(), "target 1: it touches targets[0]: "),
        (|it| further(it, 0).resource = "tree/x".into(), "target 2: it touches targets[1]: "),
        (|it| further(it, 0).resource = "a//b".into(), "a resource name may not begin or end"),
        (|it| it.further_targets = vec![wire::Target::default(); 200], "a lease of mode 0"),
        (
            |it| {
                let one = further(it, 0).clone();
                let named = |i| wire::Target { resource: format!("{i}"), ..one.clone() };
                it.further_targets = (0..128).map(named).collect();
            },
            "target 128: at most 128 targets, found 129",
        ),
        (
            |it| {
                let one = further(it, 0).clone();
                let named = |i| wire::Target { resource: format!("{i:0>512}"), ..one.clone() };
                it.further_targets = (0..33).map(named).collect();
            },
            "target 32: the names of all targets have at most 16384 bytes",
        ),
        (|it| terms(it).actor = "/a".into(), "an actor may not begin or end"),
        (|it| terms(it).labels[0].key.clear(), "a label's key is required"),
        (|it| terms(it).labels[0].value = "\n".into(), "a label may not have control characters"),
        (
            |it| {
                let one = terms(it).labels[0].clone();
                terms(it).labels.push(one);
            },
            "a label may be given once",
        ),
        (|it| terms(it).max_hold_ms = 999, "a longest hold is 1000..31536000000 ms, found 999"),
        (|it| terms(it).lock_delay_ms = u64::MAX, "a lock delay is 0..3600000 ms, found"),
        (|it| (it.is_bound, it.session) = (true, 0), "a lease that lives with no session"),
    ];
    lease::granted_in(wide()).unwrap();
    for (spoil, expected) in cases {
        let mut granted = wide();
        spoil(&mut granted);
        let Flawed(said) = lease::granted_in(granted).unwrap_err();
        assert!(said.starts_with(expected), "{said}, not {expected}");
    }
}

#[test]
fn a_closed_lease_has_its_own_end_and_no_other() {
    let Change::LeaseClosed(closed) = samples::closed(11, 12) else { unreachable!() };
    let written = || lease::closed_out(&closed);
    assert_eq!(lease::closed_in(written()), Ok((*closed).clone()));
    let mut other = written();
    other.ended.as_mut().unwrap().token = 10;
    assert_eq!(
        lease::closed_in(other),
        Err(Flawed(String::from("the end of lease 10 for that of lease 11")))
    );
    let mut elsewhere = written();
    elsewhere.ended.as_mut().unwrap().namespace = "elsewhere".into();
    lease::closed_in(elsewhere).unwrap_err();
    for nothing in [
        wire::LeaseClosed { granted: None, ..written() },
        wire::LeaseClosed { ended: None, ..written() },
    ] {
        lease::closed_in(nothing).unwrap_err();
    }
}

#[test]
fn a_lease_of_an_older_format_was_granted_at_the_beginning_of_time_and_reaches_no_further() {
    let Change::LeaseGranted(plain) = samples::granted(11) else { unreachable!() };
    let written = lease::granted_out(&plain);
    assert!(written.further_targets.is_empty() && written.terms.is_none());
    let bytes = written.encode_to_vec();
    // What a lease of the first format holds: fields 1 to 6.
    let mut tags = std::collections::BTreeSet::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (tag, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        prost::encoding::skip_field(wire_type, tag, &mut rest, Default::default()).unwrap();
        tags.insert(tag);
    }
    assert_eq!(tags, (1..=6).collect());
    let read = lease::granted_in(wire::LeaseGranted::decode(&*bytes).unwrap()).unwrap();
    assert_eq!(read, *plain);
    assert_eq!(read.granted_at.0, 0);
}

// === damaged records ===

fn large_written() -> wire::RecordWritten {
    let value = samples::data(samples::large(11));
    let Change::RecordWritten(it) = samples::written("a/b", 11, value, Some(10)) else {
        unreachable!()
    };
    let until = wire::RecordUntil { at: 7, ttl_ms: 1_000 };
    wire::RecordWritten {
        written_by: "ada".into(),
        content_type: "text/plain".into(),
        life: Some(wire::record_written::Life::Until(until)),
        ..record::written_out(&it)
    }
}

fn body(written: &mut wire::RecordWritten) -> &mut wire::Body {
    match written.value.as_mut().unwrap() {
        wire::record_written::Value::Data(body) | wire::record_written::Value::Text(body) => body,
        wire::record_written::Value::Counter(_) => unreachable!(),
    }
}

#[test]
fn a_record_that_no_version_wrote_is_refused() {
    use wire::record_written::{Life, Value};
    type Spoil = fn(&mut wire::RecordWritten);
    let cases: [(Spoil, &str); 21] = [
        (|it| it.namespace = "a b".into(), "a namespace"),
        (|it| it.key = "a//b".into(), "a key may not begin or end"),
        (|it| it.value = None, "the value of a record is missing"),
        (|it| it.content_type = "é".into(), "a content type has printable ASCII alone"),
        (|it| it.version = 0, "a version is required, and never 0"),
        (|it| it.version = 1 << 53, "a version is below 2^53"),
        (|it| it.created_at = 0, "a version is required, and never 0"),
        (|it| it.created_at = 12, "version 11 of a record created at 12"),
        (|it| it.replaced = 11, "version 11 of a record that replaces 11"),
        (|it| it.replaced = 1 << 53, "a version is below 2^53"),
        (|it| it.written_by = "\n".into(), "a holder may not have control characters"),
        (|it| it.life = Some(Life::BoundToken(0)), "a token"),
        (|it| it.life = Some(Life::Until(wire::RecordUntil { at: 7, ttl_ms: 999 })), "1000.."),
        (|it| body(it).digest.clear(), "0 bytes in place of 16"),
        (|it| body(it).digest.push(0), "17 bytes in place of 16"),
        (|it| body(it).bytes.truncate(4_096), "a large body of 4096 bytes, and 0 in the store"),
        (|it| body(it).bytes.clear(), "a large body of 0 bytes, and 0 in the store"),
        (|it| body(it).stored_bytes = 4_097, "a large body of 4097 bytes, and 4097 in the store"),
        (
            |it| {
                let digest = std::mem::take(&mut body(it).digest);
                *body(it) = wire::Body { digest, stored_bytes: 4_096, ..Default::default() };
            },
            "a large body of 0 bytes, and 4096 in the store",
        ),
        (
            |it| body(it).bytes = vec![0; 1_048_577].into(),
            "a value may have at most 1048576 bytes, this one has 1048577",
        ),
        (|it| it.value = Some(Value::Text(std::mem::take(body(it)))), "a text that is no UTF-8"),
    ];
    record::written_in(large_written()).unwrap();
    for (spoil, expected) in cases {
        let mut written = large_written();
        body(&mut written).bytes = vec![0xff; 4_097].into();
        spoil(&mut written);
        let Flawed(said) = record::written_in(written).unwrap_err();
        assert!(said.starts_with(expected), "{said}, not {expected}");
    }
}

#[test]
fn a_small_body_has_no_digest_and_is_here() {
    for spoil in [
        (|it| it.digest = vec![1; 16]) as fn(&mut wire::Body),
        |it| it.stored_bytes = 4_097,
        |it| it.stored_bytes = 1,
    ] {
        let mut written = large_written();
        *body(&mut written) = wire::Body { bytes: vec![1].into(), ..Default::default() };
        record::written_in(written.clone()).unwrap();
        spoil(body(&mut written));
        record::written_in(written).unwrap_err();
    }
}

#[test]
fn an_end_of_a_record_names_the_body_of_its_last_version_or_none() {
    let Change::RecordDeleted(it) = samples::deleted("a", 11, 12, true) else { unreachable!() };
    let written = || record::deleted_out(&it);
    assert_eq!(record::deleted_in(written()), Ok((*it).clone()));
    for other in [
        wire::RecordDeleted { replaced: 10, ..written() },
        wire::RecordDeleted { version: 0, replaced: 0, ..written() },
        wire::RecordDeleted { revision: 11, ..written() },
        wire::RecordDeleted { key: String::new(), ..written() },
    ] {
        record::deleted_in(other).unwrap_err();
    }
}

#[test]
fn a_large_value_is_in_the_log_and_never_in_a_row() {
    let change = samples::written("a", 11, samples::data(samples::large(11)), None);
    let logged = |change: &Change| {
        let mut bytes = Vec::new();
        encode_entry(Revision(0), &samples::entry(11, vec![change.clone()]), &mut bytes);
        decode_entry(&bytes)
    };
    let read = |change: &Change| {
        let key = encode_key(change.trace().key().unwrap());
        decode_row(&key, &encode_row(&key, change)).map(|(_, row, _)| row)
    };
    let row = change.to_row();
    logged(&change).unwrap();
    assert_eq!(read(&row), Ok(row.clone()));
    let said = "version 11 of a record, logged without its value";
    assert_eq!(logged(&row), Err(Flawed(said.into())));
    assert_eq!(read(&change), Err(Flawed("a row that holds a large value itself".into())));
}
