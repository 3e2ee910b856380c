//! Encodes samples as Avro.

use crate::stream::{self, Sample};

/// The schema of [`avro`]'s records.
pub const SCHEMA: &str = r#"{"type": "record", "name": "Sample", "fields": [
    {"name": "note", "type": {"type": "array", "items": "string"}},
    {"name": "id", "type": "string"},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "site", "type": "string"},
    {"name": "season", "type": {"type": "enum", "name": "Season", "symbols": ["dry", "wet"]}},
    {"name": "a", "type": ["null", "double"]},
    {"name": "b", "type": ["null", "double"]},
    {"name": "c", "type": ["null", "double"]},
    {"name": "mode", "type": "string"},
    {"name": "label", "type": ["null", "string"]}
]}"#;

/// Encodes a sample by Avro's specification, without the library that the pipeline uses.
pub fn avro(sample: &Sample) -> Vec<u8> {
    let mut bytes = Vec::new();
    let long = |bytes: &mut Vec<u8>, value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    };
    let text = |bytes: &mut Vec<u8>, value: &str| {
        long(bytes, value.len() as i64);
        bytes.extend_from_slice(value.as_bytes());
    };
    long(&mut bytes, 1);
    text(&mut bytes, "of no use");
    long(&mut bytes, 0);
    text(&mut bytes, &sample.id);
    long(&mut bytes, sample.time * 1000);
    text(&mut bytes, &sample.site);
    long(&mut bytes, i64::from(sample.season == "wet"));
    for number in sample.numbers {
        long(&mut bytes, i64::from(number.is_some()));
        bytes.extend(number.iter().flat_map(|number| number.to_le_bytes()));
    }
    text(&mut bytes, sample.mode);
    long(&mut bytes, i64::from(sample.label.is_some()));
    if let Some(label) = sample.label {
        text(&mut bytes, stream::CLASSES[label]);
    }
    bytes
}
