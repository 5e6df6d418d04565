//! Random bits for lease ids, drawn from the operating system some thousand at a time: one call of
//! it costs more than the rest of decoding an acquire.

use std::cell::RefCell;

/// Bytes drawn at once.
const DRAWN: usize = 4_096;

thread_local! {
    static LEFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits that nobody was given before.
pub(super) fn id() -> [u8; 16] {
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            let mut drawn = vec![0; DRAWN];
            getrandom::fill(&mut drawn)
                .expect("every supported system gives random bytes once it is up");
            *left = drawn;
        }
        let (rest, id) = left.split_last_chunk().expect("ids are drawn whole");
        let (rest, id) = (rest.len(), *id);
        left.truncate(rest);
        id
    })
}

const _: () = assert!(DRAWN.is_multiple_of(16), "ids are drawn whole");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{DRAWN, id};

    #[test]
    fn no_id_is_given_twice() {
        let count = 3 * DRAWN / 16;
        assert_eq!((0..count).map(|_| id()).collect::<HashSet<_>>().len(), count);
    }
}
