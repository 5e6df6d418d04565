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
    fn weight_is_an_upper_bound_of_what_a_lease_takes(change in samples::any_change()) {
        // Effects of a transaction and revisions beyond 2^53 don't occur in real entries.
        let bytes = change_out(&change).encoded_len();
        if !matches!(change, Change::RequestRemembered(_)) {
            prop_assert!(bytes <= change.weight(), "{bytes} > {}", change.weight());
        }
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
        let mut value = encode_row(&key, &change);
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
