//! Durations as a person writes and reads them. Owns both ways; knows no bounds of the server.

use std::time::Duration;

/// Reads `500ms`, `30s`, `5m` or `2h`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refuse = |what: &str| {
        Err(format!("expected a duration such as 500ms, 30s, 5m or 2h, found {text:?}: {what}"))
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return refuse("it does not begin with a whole number");
    }
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return refuse("it has no unit"),
        _ => return refuse("its unit is none of ms, s, m and h"),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)) {
        Some(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        None => refuse("it is too long"),
    }
}

/// Shows a duration with two or three digits that matter.
pub(crate) fn show(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{seconds}.{}s", milliseconds / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse, show};

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("007s", 7_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_fault() {
        for (text, fault) in [
            ("", "does not begin with a whole number"),
            ("s", "does not begin with a whole number"),
            ("-1s", "does not begin with a whole number"),
            ("30", "has no unit"),
            ("1.5s", "unit is none of"),
            ("30 s", "unit is none of"),
            ("3d", "unit is none of"),
            ("3ſ", "unit is none of"),
            ("99999999999999999999s", "too long"),
            ("18446744073709551615h", "too long"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(fault), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn a_shown_duration_is_short() {
        for (ms, shown) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1.0s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (3_600_000, "1h00m"),
            (86_400_000, "24h00m"),
        ] {
            assert_eq!(show(Duration::from_millis(ms)), shown);
        }
    }
}
