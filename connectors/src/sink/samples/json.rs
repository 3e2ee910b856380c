//! Rows as JSON objects.

use super::Field;
use crate::format::{Row, Value};

/// Whole numbers above this are written as floats, since they are read as floats.
const EXACT: f64 = (1_u64 << 53) as f64;

/// An encoder of rows as JSON objects. A missing value is null.
pub(in crate::sink) struct JsonEncoder {
    fields: Vec<(Key, Field)>,
    scratch: String,
}

/// Bytes before a value: comma, quoted name, colon.
type Key = Vec<u8>;

impl JsonEncoder {
    /// An encoder of `fields` in their order.
    pub(super) fn new(fields: &[Field]) -> JsonEncoder {
        let key = |(at, field): (usize, &Field)| {
            let mut key = if at == 0 { Vec::new() } else { vec![b','] };
            push_text(&mut key, &field.name);
            key.push(b':');
            (key, field.clone())
        };
        JsonEncoder {
            fields: fields.iter().enumerate().map(key).collect(),
            scratch: String::new(),
        }
    }

    /// Appends a row as an object.
    pub(super) fn encode(&mut self, row: &Row, bytes: &mut Vec<u8>) {
        bytes.push(b'{');
        for (key, field) in &self.fields {
            bytes.extend_from_slice(key);
            match (row.get(field.cell), field.is_number) {
                (Value::Missing, _) => bytes.extend_from_slice(b"null"),
                (Value::Text(text), true) if is_number(text) => {
                    bytes.extend_from_slice(text.as_bytes());
                }
                (Value::Number(number), true) if number.is_finite() => {
                    push_feature(bytes, number);
                }
                (Value::Number(number), false) if number.is_finite() => push_number(bytes, number),
                // As a number, an instant is in Unix seconds.
                (Value::Time(micros), true) => push_number(bytes, micros as f64 / 1e6),
                // JSON has no NaN, which is read from a text as well.
                (value, _) => push_text(bytes, value.text(&mut self.scratch)),
            }
        }
        bytes.push(b'}');
    }
}

/// Appends a text in quotes.
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(bytes, text);
    debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
}

/// Appends a finite number in its shortest form.
fn push_number(bytes: &mut Vec<u8>, number: f64) {
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
    if is_whole && !(number == 0.0 && number.is_sign_negative()) {
        bytes.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        bytes.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    }
}

/// Appends a finite number that is read with 32 bits, in the shortest form that gives the same 32
/// bits.
fn push_feature(bytes: &mut Vec<u8>, number: f64) {
    let narrow = number as f32;
    if f64::from(narrow) == number && number.fract() != 0.0 {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(narrow);
        // A reader parses 64 bits first, so it rounds twice.
        if text.parse::<f64>().is_ok_and(|read| read as f32 == narrow) {
            return bytes.extend_from_slice(text.as_bytes());
        }
    }
    push_number(bytes, number);
}

/// Whether a text is a number in the syntax of JSON and within the range of floats.
fn is_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes[at] == b'0') {
        return false;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        match digits(at + 1) {
            0 => return false,
            part => at += 1 + part,
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        match digits(at) {
            0 => return false,
            exponent => at += exponent,
        }
        return at == bytes.len() && text.parse().is_ok_and(f64::is_finite);
    }
    // A number of at most 300 digits is within the range of floats.
    at == bytes.len() && at <= 300
}
