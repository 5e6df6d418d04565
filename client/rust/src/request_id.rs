//! Identities of logical calls. Owns how they are minted; keeps none of them.

use crate::Error;

/// A new identity for a logical call: 128 random bits as 32 hexadecimal digits.
///
/// The calls that need one mint it themselves. Mint it before the call to be able to abandon
/// or repeat one that never came back.
///
/// # Errors
/// When the operating system has no random bits.
pub fn new_request_id() -> Result<String, Error> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits).map_err(|cause| {
        Error::usage(
            format!("expected random bits for a request id, found none: {cause}"),
            "give a request_id of your own",
        )
    })?;
    Ok(hex::encode(bits))
}

#[cfg(test)]
mod tests {
    use super::new_request_id;

    #[test]
    fn ids_are_32_hexadecimal_digits_and_differ() {
        let (one, other) = (new_request_id().unwrap(), new_request_id().unwrap());
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }
}
