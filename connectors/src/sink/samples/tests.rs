//! Encoded samples decode to the original samples.

use proptest::prelude::*;

use super::avro::{AvroRecordEncoder, schema_of};
use super::json::JsonEncoder;
use super::*;
use crate::format::{AvroParser, JsonParser};
use crate::schema::Schema;
use crate::source::Decoder;

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

/// The decoded row, if it is good.
fn decoded(row: &Row) -> Option<String> {
    let mut decoder = Decoder::new(&schema(), true, 0);
    decoder.push(row, 1).ok()?;
    let batch = decoder.take();
    let bits: Vec<u32> = batch
        .features
        .iter()
        .map(|value| {
            let value = if value.is_nan() { f32::NAN } else { *value };
            value.to_bits()
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

/// Sends a row as Avro, with a given schema or with one made for the fields, and reads it again.
fn sent_as_avro(row: &Row, given: Option<&str>) -> Result<Row, String> {
    let schema = schema();
    let fields = fields(&schema);
    let text = given.map_or_else(|| schema_of(&fields), str::to_string);
    let mut bytes = Vec::new();
    AvroRecordEncoder::new(&text, Vec::new(), &fields)?.encode(row, &mut bytes)?;
    let columns: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    let mut read = Row::new(columns.len());
    let mut parser = AvroParser::plain(&text, &columns).unwrap();
    parser.parse(&bytes, &mut read).unwrap();
    Ok(read)
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

/// A schema of a user's own; `{}` stands for further fields.
const OWN: &str = r#"{"type": "record", "name": "Reading", "fields": [
    {"name": "vote", "type": ["null", {"type": "enum", "name": "Vote", "symbols": ["hot", "0"]}]},
    {"name": "a", "type": ["float", "null"]},
    {"name": "b", "type": ["null", "int"]},
    {"name": "mode", "type": "string"},
    {"name": "level", "type": ["null", "double", "string"]},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "site", "type": "string"},
    {"name": "id", "type": "long"}{}
]}"#;

#[test]
fn a_schema_of_ones_own_is_written() {
    let note = r#", {"name": "note", "type": ["string", "null"]}"#;
    let own = OWN.replace("{}", note);
    for texts in [
        [
            "7",
            "2024-06-19 15:22:45.125",
            "s",
            "2.50",
            "0.1",
            "-3",
            "fan",
            "hot",
        ],
        ["7", "1718810565", "s", "2.5", "", "", "x", ""],
    ] {
        let row = row(&texts);
        let read = sent_as_avro(&row, Some(&own)).unwrap();
        assert!(decoded(&row).is_some());
        assert_eq!(decoded(&read), decoded(&row));
    }
    let good = ["7", "1", "s", "1", "1", "1", "fan", "hot"];
    for (cell, text, reason) in [
        (
            0,
            "007",
            r#"column "id" is "007", for which its Avro schema has no type"#,
        ),
        (1, "1.00001", r#"column "time" is "1.00001""#),
        (2, "", r#"column "site" is """#),
        (5, "1.5", r#"column "b" is "1.5""#),
        (7, "mild", r#"column "vote" is "mild""#),
    ] {
        let mut texts = good;
        texts[cell] = text;
        let error = sent_as_avro(&row(&texts), Some(&own)).unwrap_err();
        assert!(error.starts_with(reason), "{error}");
    }
    let lacking = OWN.replace("{}", "").replace("\"mode\"", "\"mood\"");
    let error = sent_as_avro(&row(&good), Some(&lacking)).unwrap_err();
    assert!(error.contains("no field \"mode\""), "{error}");
    let more = OWN.replace("{}", &note.replace(", \"null\"", ""));
    let error = sent_as_avro(&row(&good), Some(&more)).unwrap_err();
    assert!(
        error.contains("\"note\" is no column, and cannot be null"),
        "{error}"
    );
}

/// Texts as they stand in files, good and bad.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?",
        any::<f32>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "[ 0+.]{0,2}[0-9.]{0,3} ?",
        prop::sample::select(vec![
            "", "NaN", "NA", "null", "true", "inf", "-0", "0", "1", "1.0", "hot", "fan", "1e999"
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
            let read = sent_as_avro(&row, None).unwrap();
            prop_assert_eq!(decoded(&read), decoded(&row), "Avro of {}", text);
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
        let read = sent_as_avro(&row, None).unwrap();
        prop_assert_eq!(decoded(&read), decoded(&row), "Avro of {}", text);
    }
}
