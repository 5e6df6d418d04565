//! Our own frame around an entry, within a record of the log.
//!
//! It makes every entry recognisable by itself, wherever in a segment it lies: that is how an
//! entry is found that the log would drop because what was before it has been damaged. All
//! numbers are little-endian.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | `STe1` |
//! | 4 | 4 | length of the entry |
//! | 8 | 8 | its place in the log, dense from 1; that of its record |
//! | 16 | 8 | salt |
//! | 24 | 8 | XXH3-64 of the entry, seeded with that of the 24 bytes before |
//! | 32 | .. | the entry, XORed with a stream that the salt begins |
//!
//! The stream is there because entries hold what callers sent. Somebody may store a piece of
//! a log, by chance or to do harm; left as it is, it would look like a record behind a torn
//! one, and the log would refuse to open. It hides nothing and is not meant to.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: [u8; 4] = *b"STe1";
/// Bytes before the entry.
pub(super) const HEAD: usize = 32;

/// Makes a frame of `frame`, whose first [`HEAD`] bytes are free and whose rest is an entry.
pub(super) fn seal(frame: &mut [u8], place: u64, salt: u64) {
    let Some((head, entry)) = frame.split_first_chunk_mut::<HEAD>() else {
        return;
    };
    let length = u32::try_from(entry.len()).expect("a record of the log is shorter than 4 GiB");
    let mut fields = Vec::with_capacity(HEAD);
    fields.extend_from_slice(&MAGIC);
    fields.extend_from_slice(&length.to_le_bytes());
    fields.extend_from_slice(&place.to_le_bytes());
    fields.extend_from_slice(&salt.to_le_bytes());
    let sum = xxh3_64_with_seed(entry, xxh3_64(&fields));
    fields.extend_from_slice(&sum.to_le_bytes());
    head.copy_from_slice(&fields);
    whiten(entry, salt);
}

/// The place and the entry of the frame at the start of `bytes`; `None`: there is none, or
/// it is not what was written.
pub(super) fn open(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (magic, fields) = head.split_first_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let (length, fields) = fields.split_first_chunk()?;
    let (place, fields) = fields.split_first_chunk()?;
    let (salt, fields) = fields.split_first_chunk()?;
    let (sum, _) = fields.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let mut entry = rest.get(..length)?.to_vec();
    whiten(&mut entry, u64::from_le_bytes(*salt));
    let found = xxh3_64_with_seed(&entry, xxh3_64(head.get(..24)?));
    (found == u64::from_le_bytes(*sum)).then(|| (u64::from_le_bytes(*place), entry))
}

/// A salt that differs from place to place, and from opening to opening by its seed.
pub(super) fn salt(seed: u64, place: u64) -> u64 {
    mixed(seed ^ mixed(place))
}

/// Its own inverse.
fn whiten(entry: &mut [u8], salt: u64) {
    let mut step = salt;
    let mut next = || {
        step = step.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(step).to_le_bytes()
    };
    let (words, rest) = entry.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(next())).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(next()) {
        *byte ^= key;
    }
}

/// The finalizer of SplitMix64.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
