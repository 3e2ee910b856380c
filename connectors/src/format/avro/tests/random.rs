//! Records of random fields, and random bytes as messages.

use proptest::prelude::*;
use serde_json::json;

use crate::format::Value;
use crate::format::avro::tests::*;

/// A value: its type, its bytes and the expected cell.
#[derive(Clone, Debug)]
struct Sample {
    kind: serde_json::Value,
    bytes: Vec<u8>,
    /// The `Debug` text of the expected `Value`.
    cell: String,
}

fn sample() -> impl Strategy<Value = Sample> {
    let make = |kind, bytes, cell: Value| Sample {
        kind,
        bytes,
        cell: show(cell),
    };
    let text = |text: &str| match text {
        "" => "Missing".to_string(),
        text => show(Value::Text(text)),
    };
    let integer = |value: i64| {
        if value.unsigned_abs() <= 1 << 53 {
            show(Value::Number(value as f64))
        } else {
            show(Value::Text(&value.to_string()))
        }
    };
    let single = prop_oneof![
        any::<bool>().prop_map(move |value| {
            let shown = if value { "true" } else { "false" };
            make(json!("boolean"), vec![value.into()], Value::Text(shown))
        }),
        any::<i32>().prop_map(move |value| {
            make(
                json!("int"),
                long(value.into()),
                Value::Number(value.into()),
            )
        }),
        any::<i64>().prop_map(move |value| Sample {
            kind: json!("long"),
            bytes: long(value),
            cell: integer(value),
        }),
        any::<f32>().prop_map(move |value| {
            let bytes = value.to_le_bytes().to_vec();
            make(json!("float"), bytes, Value::Number(value.into()))
        }),
        any::<f64>().prop_map(move |value| {
            let bytes = value.to_le_bytes().to_vec();
            make(json!("double"), bytes, Value::Number(value))
        }),
        ".*".prop_map(move |value: String| Sample {
            kind: json!("string"),
            bytes: sized(&value),
            cell: text(&value),
        }),
        (-62_000_000_000_000i64..250_000_000_000_000).prop_map(move |millis| {
            let kind = json!({"type": "long", "logicalType": "timestamp-millis"});
            make(kind, long(millis), Value::Time(millis * 1000))
        }),
        (-700_000i32..2_900_000).prop_map(move |days| {
            let kind = json!({"type": "int", "logicalType": "date"});
            let micros = i64::from(days) * 86_400_000_000;
            make(kind, long(days.into()), Value::Time(micros))
        }),
        (any::<i32>(), 0u32..9).prop_map(move |(digits, scale)| {
            let kind = json!({"type": "bytes", "logicalType": "decimal", "precision": 10,
                "scale": scale});
            let number = format!("{digits}e-{scale}").parse().unwrap();
            make(kind, sized(digits.to_be_bytes()), Value::Number(number))
        }),
    ];
    (single, 0..4).prop_map(|(sample, form)| match form {
        0 => Sample {
            kind: json!(["null", sample.kind]),
            bytes: long(0),
            cell: "Missing".into(),
        },
        1 => Sample {
            kind: json!([sample.kind, "null"]),
            bytes: [long(0), sample.bytes].concat(),
            ..sample
        },
        _ => sample,
    })
}

/// The schema of a record of the samples' fields, and the names of the fields.
fn of_samples(samples: &[Sample]) -> (String, Vec<String>) {
    let name = |i: usize| format!("f{i}");
    let fields: Vec<_> = samples
        .iter()
        .enumerate()
        .map(|(i, sample)| json!({"name": name(i), "type": sample.kind}))
        .collect();
    (
        record(json!(fields)),
        (0..samples.len()).map(name).collect(),
    )
}

proptest! {
    #[test]
    fn records_become_the_cells_that_were_written(
        samples in prop::collection::vec((sample(), any::<bool>()), 1..30),
        rotation in 0usize..30,
    ) {
        let (samples, wanted): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let (schema, names) = of_samples(&samples);
        let mut chosen: Vec<usize> = (0..names.len()).filter(|i| wanted[*i]).collect();
        let middle = rotation % chosen.len().max(1);
        chosen.rotate_left(middle);
        let columns: Vec<String> = chosen.iter().map(|i| names[*i].clone()).collect();
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.bytes.clone()).collect();
        let mut parser = AvroParser::plain(&schema, &columns).unwrap();
        let mut row = Row::new(columns.len());
        for _ in 0..2 {
            prop_assert_eq!(parser.parse(&bytes, &mut row), Ok(()));
            for (cell, field) in chosen.iter().enumerate() {
                prop_assert_eq!(show(row.get(cell)), samples[*field].cell.clone());
            }
        }
    }

    #[test]
    fn no_message_does_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let (schema, mut value) = mixed();
        let columns = names(&["a", "b", "before", "list"]);
        let mut parser = AvroParser::plain(&schema, &columns).unwrap();
        let mut row = Row::new(columns.len());
        let _ = parser.parse(&bytes, &mut row);
        for (at, byte) in changes {
            let at = at.index(value.len());
            value[at] = byte;
        }
        let _ = parser.parse(&value, &mut row);
    }
}
