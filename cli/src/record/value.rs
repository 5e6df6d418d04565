//! Values: what a person types or pipes in, what a table shows of it, and its form in JSON.

use std::{
    fs::File,
    io::{self, Read as _},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use singletrack::Value;

use crate::{
    args::PutArgs,
    exit::{Exit, Failure},
    output::{clean, number},
};

/// The server takes no larger one.
const BYTES_MAX: u64 = 1 << 20;
/// Characters of a text that a table or an error shows.
const SHOWN_MAX: usize = 60;

/// The value that was given: in words, in a file, or on standard input.
pub(super) fn given(args: &PutArgs) -> Result<Value, Failure> {
    let bytes = match args.value.strip_prefix('@') {
        Some(path) => read(path, File::open(path))?,
        None if args.value == "-" => read("standard input", Ok(io::stdin().lock()))?,
        None => args.value.clone().into_bytes(),
    };
    if args.data {
        return Ok(Value::from(bytes));
    }
    match (String::from_utf8(bytes), args.counter) {
        (Ok(text), true) => match text.trim().parse::<i64>() {
            Ok(counter) => Ok(Value::from(counter)),
            Err(_) => Err(no_counter(&format!("{:?}", shown(text.trim())))),
        },
        (Err(_), true) => Err(no_counter("data")),
        (Ok(text), false) => Ok(Value::from(text)),
        (Err(error), false) => Ok(Value::from(error.into_bytes())),
    }
}

fn read(name: &str, source: io::Result<impl io::Read>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = source.and_then(|source| source.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(Failure::Said {
            exit: Exit::Usage,
            message: format!("expected a value in {name}, found {error}"),
            next_step: "give a file that can be read, or the value itself".to_owned(),
        });
    }
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::Said {
            exit: Exit::Usage,
            message: format!("expected a value of at most {BYTES_MAX} bytes in {name}, found more"),
            next_step: "keep it elsewhere, and put here where it is".to_owned(),
        });
    }
    Ok(bytes)
}

fn no_counter(found: &str) -> Failure {
    Failure::Said {
        exit: Exit::Usage,
        message: format!("expected a 64-bit number for a counter, found {found}"),
        next_step: "give a number such as 17, or leave --counter out".to_owned(),
    }
}

/// A value in a line: a number, the beginning of a text, the length of data.
pub(crate) fn value_words(value: &Value) -> String {
    match value {
        Value::Counter(number) => number.to_string(),
        Value::Text(text) => shown(text),
        Value::Data(data) => format!("({} bytes of data)", data.len()),
    }
}

fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    clean(&cut).into_owned()
}

/// As in proto3 JSON: `{"text": …}`, `{"counter": "…"}` or `{"data": base64}`.
pub(crate) fn value_json(value: &Value) -> Json {
    match value {
        Value::Counter(counter) => json!({ "counter": number(counter) }),
        Value::Text(text) => json!({ "text": text }),
        Value::Data(data) => json!({ "data": STANDARD.encode(data) }),
    }
}

/// Data as it is in JSON.
pub(crate) fn decode_data(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use singletrack::Value;

    use super::{decode_data, value_json, value_words};

    #[test]
    fn a_value_in_a_line_is_short_and_steers_no_terminal() {
        assert_eq!(value_words(&Value::from(-3)), "-3");
        assert_eq!(value_words(&Value::from("a\u{1b}\nb")), "a\\u{1b}\\nb");
        assert_eq!(value_words(&Value::from("ä".repeat(60))), "ä".repeat(60));
        assert_eq!(value_words(&Value::from("ä".repeat(61))), format!("{}…", "ä".repeat(60)));
        assert_eq!(value_words(&Value::from(b"\xff\0")), "(2 bytes of data)");
    }

    #[test]
    fn a_value_in_json_is_what_proto3_says() {
        assert_eq!(value_json(&Value::from(i64::MIN)), json!({ "counter": i64::MIN.to_string() }));
        assert_eq!(value_json(&Value::from("x")), json!({ "text": "x" }));
        assert_eq!(value_json(&Value::from(b"\xff\0!")), json!({ "data": "/wAh" }));
        assert_eq!(decode_data("/wAh"), Some(vec![255, 0, 33]));
        assert_eq!(decode_data("/w?"), None);
    }
}
