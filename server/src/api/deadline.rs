//! The caller's deadline: `grpc-timeout` as the gRPC specification writes it.
//!
//! Owns the parsing; whoever waits applies it.

use std::time::Duration;

use http::HeaderMap;

use crate::api::flaws::Flaws;

/// The header's name.
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Digits that the specification allows.
const DIGITS_MAX: usize = 8;

/// How long the caller waits for this call; `None`: it doesn't say.
///
/// # Errors
/// When the value is not one to eight digits and a unit.
pub(crate) fn budget(headers: &HeaderMap) -> Result<Option<Duration>, Flaws> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    parse(value.as_bytes()).map(Some).ok_or_else(|| {
        Flaws::of(
            format_args!("metadata[{GRPC_TIMEOUT}]"),
            format!(
                "1 to {DIGITS_MAX} digits and one of H, M, S, m, u, n are expected, found {value:?}"
            ),
        )
    })
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut count: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        count = count * 10 + u64::from(digit - b'0');
    }
    match unit {
        b'H' => Some(Duration::from_secs(count * 3_600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse(b"1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse(b"2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse(b"3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse(b"4m"), Some(Duration::from_millis(4)));
        assert_eq!(parse(b"5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse(b"99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn a_timeout_of_any_other_form_is_refused() {
        for text in ["", "S", "1", "123456789S", "1s", "-1S", "1.5S", "1 S", "1SS"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
