//! Rows as JSON objects.

use super::Field;
use crate::source::{Row, Value};

/// Greater whole numbers are written as floats, which is how they are read.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Writes rows as JSON objects. A missing value is null.
pub(in crate::sink) struct JsonEncoder {
    fields: Vec<(Key, Field)>,
    scratch: String,
}

/// What stands before a value: the comma, the name in quotes, the colon.
type Key = Vec<u8>;

impl JsonEncoder {
    /// An encoder of these fields, in this order.
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
                // An instant that counts as a number is one of seconds.
                (Value::Time(micros), true) => push_number(bytes, micros as f64 / 1e6),
                // What JSON has no number for, such as NaN, is as well understood as a text.
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

/// The same for a feature, which is read as 32 bits: one that has no more is written no longer than needed.
fn push_feature(bytes: &mut Vec<u8>, number: f64) {
    let narrow = number as f32;
    if f64::from(narrow) == number && number.fract() != 0.0 {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(narrow);
        // It is read as 64 bits first, so that it is rounded twice.
        if text.parse::<f64>().is_ok_and(|read| read as f32 == narrow) {
            return bytes.extend_from_slice(text.as_bytes());
        }
    }
    push_number(bytes, number);
}

/// Whether a text is a number as JSON writes them, within the bounds of floats.
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
    // So many digits cannot be beyond what a float holds.
    at == bytes.len() && at <= 300
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{Decoder, JsonParser, Schema};

    fn schema() -> Schema {
        let schema = r#"{"id": "id", "time": "time", "site": "site", "attributes": ["level"],
            "features": ["a", "b", "level", {"column": "mode", "values": ["1", "1.0", "fan"]}],
            "label": {"column": "vote", "classes": ["0", "1.0", "hot"]}}"#;
        serde_json::from_str(schema).unwrap()
    }

    fn fields(schema: &Schema) -> Vec<Field> {
        let field = |(cell, name): (usize, &&str)| Field {
            name: name.to_string(),
            cell,
            is_number: schema.is_number(name),
        };
        schema.columns().iter().enumerate().map(field).collect()
    }

    /// What the decoder makes of a row, if anything.
    fn decoded(row: &Row) -> Option<String> {
        let mut decoder = Decoder::new(&schema(), true, 0);
        decoder.push(row, 1).ok()?;
        let batch = decoder.take();
        let bits: Vec<u32> = batch
            .features
            .iter()
            .map(|f| match f.is_nan() {
                true => f32::NAN.to_bits(),
                false => f.to_bits(),
            })
            .collect();
        Some(format!(
            "{} {} {:?} {:?} {bits:?} {:?}",
            batch.ids.get(0),
            batch.times[0],
            batch.attribute(0, 0),
            batch.attribute(1, 0),
            batch.labels
        ))
    }

    /// Sends a row and reads it again.
    fn sent(row: &Row) -> (String, Row) {
        let schema = schema();
        let fields = fields(&schema);
        let mut bytes = Vec::new();
        JsonEncoder::new(&fields).encode(row, &mut bytes);
        let columns: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        let mut read = Row::new(columns.len());
        let parser = JsonParser::new(&columns);
        let text = String::from_utf8(bytes).unwrap();
        parser
            .parse(text.as_bytes(), &mut read)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        (text, read)
    }

    fn row(texts: &[&str]) -> Row {
        let mut row = Row::new(8);
        for (cell, text) in texts.iter().enumerate() {
            row.set_text(cell, text);
        }
        row
    }

    #[test]
    fn the_columns_are_those_of_the_decoder() {
        let schema = schema();
        assert_eq!(schema.columns(), Decoder::new(&schema, true, 0).columns());
        let numbers: Vec<&str> = schema.columns();
        let numbers = numbers.into_iter().filter(|name| schema.is_number(name));
        assert_eq!(numbers.collect::<Vec<_>>(), ["time", "a", "b"]);
    }

    #[test]
    fn numbers_are_numbers_and_texts_are_texts() {
        let texts = [
            "007",
            "1718810565.5",
            "s\"1",
            "2.50",
            "-2.50",
            "",
            "1.0",
            "1",
        ];
        let (text, read) = sent(&row(&texts));
        assert_eq!(
            text,
            r#"{"id":"007","time":1718810565.5,"site":"s\"1","level":"2.50","a":-2.50,"b":null,"mode":"1.0","vote":"1"}"#
        );
        assert_eq!(decoded(&read), decoded(&row(&texts)));
    }

    #[test]
    fn numbers_are_written_in_their_shortest_form() {
        let mut row = row(&["x", "", "", ""]);
        row.set_time(1, 1_718_810_565_000_001);
        row.set_number(3, 3.0);
        row.set_number(4, f64::from(0.1_f32));
        row.set_number(5, 0.1);
        let (text, read) = sent(&row);
        assert!(text.contains(r#""time":1718810565.000001"#), "{text}");
        assert!(text.contains(r#""level":3,"a":0.1,"b":0.1"#), "{text}");
        assert_eq!(decoded(&read), decoded(&row));
    }

    /// Texts as they stand in files, good and bad.
    fn cell() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?",
            any::<f32>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| format!("{number:e}")),
            "[ 0+.]{0,2}[0-9.]{0,3} ?",
            prop::sample::select(vec![
                "", "NaN", "NA", "null", "true", "inf", "-0", "0", "1", "1.0", "hot", "fan",
                "1e999"
            ])
            .prop_map(str::to_string),
        ]
    }

    proptest! {
        #[test]
        fn what_is_sent_as_text_is_read_as_it_was(cells in prop::collection::vec(cell(), 8)) {
            let texts: Vec<&str> = cells.iter().map(String::as_str).collect();
            for time in [texts[1], "2024-06-19 15:22:45", "1718810565"] {
                let mut texts = texts.clone();
                (texts[0], texts[1]) = ("id", time);
                let row = row(&texts);
                let (text, read) = sent(&row);
                prop_assert_eq!(decoded(&read), decoded(&row), "{}", text);
            }
        }

        #[test]
        fn what_is_sent_as_number_is_read_as_it_was(
            wide in any::<f64>(), narrow in any::<f32>(), integer in any::<i64>(),
            micros in 0_i64..4_000_000_000_000_000, bits in any::<u64>(),
        ) {
            let mut row = row(&["id"]);
            row.set_time(1, micros);
            row.set_integer(2, integer.into());
            row.set_number(3, wide);
            row.set_number(4, narrow.into());
            row.set_number(5, f64::from_bits(bits));
            row.set_number(6, f64::from((bits % 3) as u32));
            row.set_integer(7, (bits % 2).into());
            let (text, read) = sent(&row);
            prop_assert_eq!(decoded(&read), decoded(&row), "{}", text);
        }
    }
}
