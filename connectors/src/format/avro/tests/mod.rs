//! Avro messages as rows: types, logical types, unions, and bad messages and schemas.

use serde_json::json;

use super::*;
use crate::format::Value;

/// An integer in Avro's encoding.
fn long(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

/// Bytes or a text in Avro's encoding.
fn sized(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [long(value.len() as i64), value.to_vec()].concat()
}

fn record(fields: serde_json::Value) -> String {
    json!({"type": "record", "name": "R", "namespace": "n", "fields": fields}).to_string()
}

/// The schema of a record whose only field is `a`.
fn of(kind: serde_json::Value) -> String {
    record(json!([{"name": "a", "type": kind}]))
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|name| name.to_string()).collect()
}

/// The cell of the field `a` of a message with the encoded value.
fn cell(kind: serde_json::Value, value: &[u8]) -> Result<String, String> {
    let columns = names(&["a"]);
    let mut parser = AvroParser::plain(&of(kind), &columns)?;
    let mut row = Row::new(1);
    match parser.parse(value, &mut row) {
        Ok(()) => Ok(format!("{:?}", row.get(0))),
        Err(AvroError::Bad(reason)) => Err(reason),
        Err(AvroError::Retry(reason)) => panic!("{reason}"),
    }
}

fn good(kind: serde_json::Value, value: &[u8]) -> String {
    cell(kind, value).unwrap()
}

fn show(value: Value) -> String {
    format!("{value:?}")
}

fn bad(result: Result<(), AvroError>) -> String {
    match result.unwrap_err() {
        AvroError::Bad(reason) => reason,
        AvroError::Retry(reason) => panic!("to be tried again: {reason}"),
    }
}

#[test]
fn values_of_all_types() {
    assert_eq!(good(json!("null"), b""), "Missing");
    assert_eq!(good(json!("boolean"), &[1]), show(Value::Text("true")));
    assert_eq!(good(json!("int"), &long(-3)), show(Value::Number(-3.0)));
    let beyond = (1 << 53) + 1;
    assert_eq!(
        good(json!("long"), &long(beyond)),
        show(Value::Text("9007199254740993"))
    );
    let float = 1.5f32.to_le_bytes();
    assert_eq!(good(json!("float"), &float), show(Value::Number(1.5)));
    let double = 0.1f64.to_le_bytes();
    assert_eq!(good(json!("double"), &double), show(Value::Number(0.1)));
    assert_eq!(good(json!("string"), &sized("ü")), show(Value::Text("ü")));
    assert_eq!(good(json!("string"), &sized("")), "Missing");
    let seasons = json!({"type": "enum", "name": "S", "symbols": ["dry", "wet"]});
    assert_eq!(good(seasons.clone(), &long(1)), show(Value::Text("wet")));
    assert!(cell(seasons, &long(2)).is_err());
}

#[test]
fn unions_give_what_is_in_them() {
    let kind =
        json!(["null", "string", "int", {"type": "long", "logicalType": "timestamp-millis"}]);
    let with = |variant: i64, value: Vec<u8>| [long(variant), value].concat();
    assert_eq!(good(kind.clone(), &with(0, vec![])), "Missing");
    assert_eq!(
        good(kind.clone(), &with(1, sized("x"))),
        show(Value::Text("x"))
    );
    // Here a 32-bit integer is a number and a 64-bit integer a time.
    assert_eq!(
        good(kind.clone(), &with(2, long(5))),
        show(Value::Number(5.0))
    );
    assert_eq!(
        good(kind.clone(), &with(3, long(5))),
        show(Value::Time(5000))
    );
    assert!(cell(kind, &with(4, vec![])).is_err());
}

#[test]
fn times_are_microseconds() {
    let of = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    for (logical, value, micros) in [
        ("timestamp-millis", -1, -1000),
        (
            "local-timestamp-millis",
            1_718_810_565_123,
            1_718_810_565_123_000,
        ),
        (
            "timestamp-micros",
            1_718_810_565_123_456,
            1_718_810_565_123_456,
        ),
        ("local-timestamp-micros", 7, 7),
        ("timestamp-nanos", -1, -1),
        ("local-timestamp-nanos", 1999, 1),
    ] {
        let expected = show(Value::Time(micros));
        assert_eq!(
            good(of("long", logical), &long(value)),
            expected,
            "{logical}"
        );
    }
    let day = 86_400_000_000;
    assert_eq!(
        good(of("int", "date"), &long(-2)),
        show(Value::Time(-2 * day))
    );
    // A time of day is no instant, and a logical type of the wrong type is ignored.
    assert_eq!(
        good(of("int", "time-millis"), &long(5)),
        show(Value::Number(5.0))
    );
    assert_eq!(good(of("long", "date"), &long(5)), show(Value::Number(5.0)));
    for (kind, logical, value) in [
        ("long", "timestamp-millis", i64::MAX),
        ("long", "timestamp-micros", i64::MIN),
        ("int", "date", i64::from(i32::MAX)),
    ] {
        assert_eq!(
            cell(of(kind, logical), &long(value)).unwrap_err(),
            r#"column "a" holds a time beyond the year 9999"#
        );
    }
}

#[test]
fn decimals_are_numbers() {
    let bytes = |scale: i64| json!({"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": scale});
    let big = |value: i128| sized(value.to_be_bytes());
    assert_eq!(
        good(bytes(2), &sized([0xfb, 0x2e])),
        show(Value::Number(-12.34))
    );
    assert_eq!(good(bytes(1), &sized([1, 44])), show(Value::Number(30.0)));
    assert_eq!(good(bytes(0), &sized([])), show(Value::Number(0.0)));
    assert_eq!(
        good(bytes(20), &big(-(1 << 60) - 1)),
        show(Value::Text("-0.01152921504606846977"))
    );
    assert_eq!(
        good(bytes(2), &big(100 * (1 << 60))),
        show(Value::Text("1152921504606846976"))
    );
    assert_eq!(
        good(bytes(38), &big(i128::MIN)),
        show(Value::Text("-1.70141183460469231731687303715884105728"))
    );
    // Wider than needed, which a fixed may be.
    let fixed = json!({"type": "fixed", "name": "F", "size": 20, "logicalType": "decimal",
        "precision": 40, "scale": 1});
    let mut wide = [0xff; 20];
    assert_eq!(good(fixed.clone(), &wide), show(Value::Number(-0.1)));
    wide[..4].fill(0);
    assert!(
        cell(fixed, &wide)
            .unwrap_err()
            .contains("more than 38 digits")
    );
    assert!(cell(bytes(39), &sized([1])).is_err());
}

#[test]
fn decimals_that_are_none_are_bytes() {
    let decimal = |scale: serde_json::Value, precision: serde_json::Value| {
        let mut kind = json!({"type": "bytes", "logicalType": "decimal"});
        for (key, value) in [("scale", scale), ("precision", precision)] {
            if !value.is_null() {
                kind[key] = value;
            }
        }
        kind
    };
    assert_eq!(
        good(decimal(json!(null), json!(4)), &sized([7])),
        show(Value::Number(7.0))
    );
    for kind in [
        decimal(json!(5), json!(4)),
        decimal(json!(-1), json!(4)),
        decimal(json!(0), json!(0)),
        decimal(json!(0), json!(null)),
        decimal(json!("0"), json!("4")),
    ] {
        assert_eq!(
            cell(kind, &sized([7])).unwrap_err(),
            r#"column "a" holds bytes, not a value"#
        );
    }
}

#[test]
fn uuids_are_texts() {
    let text = "00112233-4455-6677-8899-aabbccddeeff";
    let of_text = json!({"type": "string", "logicalType": "uuid"});
    assert_eq!(good(of_text, &sized(text)), show(Value::Text(text)));
    let fixed = json!({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"});
    let bytes: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
    assert_eq!(good(fixed, &bytes), show(Value::Text(text)));
}

/// A record with values of all types between wanted ones.
fn mixed() -> (String, Vec<u8>) {
    let schema = record(json!([
        {"name": "before", "type": {"type": "fixed", "name": "D", "size": 24,
            "logicalType": "decimal", "precision": 50, "scale": 2}},
        {"name": "a", "type": "string"},
        {"name": "raw", "type": ["null", "bytes"]},
        {"name": "list", "type": {"type": "array", "items": ["null", "D"]}},
        {"name": "map", "type": {"type": "map", "values": "long"}},
        {"name": "inner", "type": {"type": "record", "name": "I", "fields": [
            {"name": "a", "type": "int"},
            {"name": "next", "type": ["null", "I"]}]}},
        {"name": "span", "type": {"type": "fixed", "name": "P", "size": 12,
            "logicalType": "duration"}},
        {"name": "money", "type": {"type": "bytes", "logicalType": "big-decimal"}},
        {"name": "b", "type": "double"},
    ]));
    let value = [
        vec![0x55; 24],
        sized("x"),
        [long(1), sized([1, 2, 3])].concat(),
        // A block with its size in bytes, then one without.
        [
            long(-1),
            long(1),
            long(0),
            long(1),
            long(1),
            vec![0; 24],
            long(0),
        ]
        .concat(),
        [long(1), sized("k"), long(300), long(0)].concat(),
        [long(9), long(1), long(8), long(0)].concat(),
        vec![3; 12],
        sized([0xff, 0xff]),
        2.5f64.to_le_bytes().to_vec(),
    ];
    (schema, value.concat())
}

#[test]
fn what_is_not_wanted_is_passed_over() {
    let (schema, value) = mixed();
    let mut parser = AvroParser::plain(&schema, &names(&["b", "a"])).unwrap();
    let mut row = Row::new(2);
    parser.parse(&value, &mut row).unwrap();
    assert_eq!(row.get(0), Value::Number(2.5));
    assert_eq!(row.get(1), Value::Text("x"));
}

#[test]
fn what_is_no_single_value_makes_the_record_bad() {
    let (schema, value) = mixed();
    for (column, what) in [
        ("before", "a decimal number of more than 38 digits"),
        ("raw", "bytes, not a value"),
        ("list", "a list or an object, not a value"),
        ("map", "a list or an object, not a value"),
        ("inner", "a list or an object, not a value"),
        ("span", "bytes, not a value"),
        ("money", "bytes, not a value"),
    ] {
        let mut parser = AvroParser::plain(&schema, &names(&["a", column])).unwrap();
        let reason = bad(parser.parse(&value, &mut Row::new(2)));
        assert_eq!(reason, format!("column {column:?} holds {what}"));
    }
}

#[test]
fn a_message_is_one_whole_record() {
    let (schema, value) = mixed();
    let mut parser = AvroParser::plain(&schema, &names(&["a", "b"])).unwrap();
    let mut row = Row::new(2);
    for length in 0..value.len() {
        let reason = bad(parser.parse(&value[..length], &mut row));
        assert!(reason.starts_with("the message is not of its"), "{reason}");
    }
    let longer = [value.clone(), vec![0, 0]].concat();
    assert_eq!(
        bad(parser.parse(&longer, &mut row)),
        "the message is not of its Avro schema: 2 bytes follow the record"
    );
    parser.parse(&value, &mut row).unwrap();
}

#[test]
fn items_without_bytes_end() {
    let nulls = json!({"type": "array", "items": "null"});
    let schema = record(json!([
        {"name": "a", "type": "int"},
        {"name": "nulls", "type": nulls},
    ]));
    let mut parser = AvroParser::plain(&schema, &names(&["a"])).unwrap();
    let value = [long(1), long(1 << 40), long(0)].concat();
    bad(parser.parse(&value, &mut Row::new(1)));
}

#[test]
fn schemas_that_cannot_be_used_are_refused() {
    let refused = |schema: &str| AvroParser::plain(schema, &names(&["a", "x"])).unwrap_err();
    assert_eq!(
        refused(&record(json!([{"name": "a", "type": "int"}]))),
        r#"the Avro schema cannot be used: it has no field "x""#
    );
    for schema in [r#""string""#, r#"["null", "string"]"#, r#""n.R""#, "7"] {
        assert!(refused(schema).contains("not one of a record"), "{schema}");
    }
    assert!(refused("{").contains("it is not JSON"));
    for schema in [
        r#"{"type": "record", "name": "R"}"#,
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "Unknown"}]}"#,
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "R"}]}"#,
    ] {
        assert!(refused(schema).starts_with("the Avro schema cannot be used: "));
    }
    let next = |i: usize| {
        json!({"type": "record", "name": format!("N{i}"),
        "fields": [{"name": "next", "type": format!("N{}", i + 1)}]})
    };
    let chain: Vec<_> = (0..10_000).map(next).collect();
    let endless = record(json!([{"name": "a", "type": chain}, {"name": "x", "type": "N0"}]));
    assert!(refused(&endless).contains("more than 1000 types of records"));
    let fixed = |name: &str, logical: &str| {
        json!({"type": "fixed", "name": name, "size": 16,
        "logicalType": logical, "precision": 9})
    };
    assert_eq!(
        cell(json!([fixed("A", "uuid"), fixed("B", "decimal")]), b"").unwrap_err(),
        r#"the Avro schema cannot be used: its field "a" may be of several types that look alike"#
    );
}
