//! Results on standard output: a table for people, one JSON object for programs.
//!
//! Owns the shapes that `docs/cli.md` promises. Never lets a name from the server steer a
//! terminal.

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use serde_json::{Value, json};
use singletrack::{LeaseInfo, Mode};

use crate::{args::Format, duration};

/// A 64-bit number for JSON: a string, as proto3 has it, since many readers round numbers.
pub(crate) fn number(number: impl ToString) -> Value {
    Value::String(number.to_string())
}

/// A text whose control characters are shown instead of obeyed.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(show).collect::<String>().into()
}

/// Prints the same result in one of the two forms.
pub(crate) fn print(
    format: Format,
    as_json: impl FnOnce() -> Value,
    as_table: impl FnOnce() -> String,
) -> io::Result<()> {
    let text = match format {
        Format::Table => as_table(),
        Format::Json => format!("{}\n", as_json()),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns as wide as what is in them.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let headers = headers.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&headers).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&headers).chain(rows) {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Leases as anybody may see them.
pub(crate) fn lease_table(leases: &[LeaseInfo]) -> String {
    let rows: Vec<_> = leases
        .iter()
        .map(|lease| {
            [
                clean(&lease.resource).into_owned(),
                mode_name(lease.mode).to_lowercase(),
                clean(&lease.holder).into_owned(),
                lease.token.to_string(),
                duration::show(lease.ttl),
                duration::show(lease.remaining),
            ]
        })
        .collect();
    table(["RESOURCE", "MODE", "HOLDER", "TOKEN", "TTL", "REMAINING"], &rows)
}

/// One lease as anybody may see it.
pub(crate) fn lease_json(lease: &LeaseInfo) -> Value {
    json!({
        "resource": lease.resource,
        "mode": mode_name(lease.mode),
        "holder": lease.holder,
        "token": number(lease.token),
        "ttl_ms": number(lease.ttl.as_millis()),
        "remaining_ms": number(lease.remaining.as_millis()),
    })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "EXCLUSIVE",
        Mode::Shared => "SHARED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, table};

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = [["a".into(), "long cell".into()], ["äöü".into(), "x".into()]];
        assert_eq!(table(["H", "K"], &rows), "H    K\na    long cell\näöü  x\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(clean("\u{1b}[2J\u{7}evil\n\u{9b}1m"), "\\u{1b}[2J\\u{7}evil\\n\\u{9b}1m");
        assert_eq!(clean("ada@höst"), "ada@höst");
    }
}
