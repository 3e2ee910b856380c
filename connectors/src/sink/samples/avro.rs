//! Rows as Avro records.

use serde_avro_fast::schema::{LogicalType, RegularType, SchemaKey, SchemaMut};

use super::Field;
use crate::format::{Row, TimeParser, Value, quote};

/// An encoder of rows as records of a schema.
pub(in crate::sink) struct AvroRecordEncoder {
    /// Bytes before each record.
    header: Vec<u8>,
    fields: Vec<RecordField>,
    clock: TimeParser,
    scratch: String,
}

/// A field of the schema's record.
struct RecordField {
    name: String,
    /// The column of its value; null without one.
    source: Option<Field>,
    /// The types that its value can have, in the order in which they are tried, each with its
    /// number in the union.
    types: Vec<(Option<i64>, Type)>,
}

/// A type of values, in the order in which types are tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Null,
    /// An instant, counted in units of this many microseconds.
    Time(i64),
    Float,
    Double,
    /// A whole number up to this bound.
    Whole(i64),
    Enum(Vec<String>),
    Text,
}

/// A schema of records for any values of `fields`.
pub(super) fn schema_of(fields: &[Field]) -> String {
    let field = |field: &Field| {
        let types: &[&str] = if field.is_number {
            &["null", "double", "string"]
        } else {
            &["null", "string"]
        };
        serde_json::json!({"name": field.name, "type": types})
    };
    let fields: Vec<serde_json::Value> = fields.iter().map(field).collect();
    let schema = serde_json::json!({
        "type": "record", "name": "Record", "namespace": "perennial", "fields": fields,
    });
    schema.to_string()
}

impl AvroRecordEncoder {
    /// An encoder of `fields` as records of a schema, each behind `header`.
    ///
    /// # Errors
    /// The schema cannot hold the fields: the reason.
    pub(super) fn new(
        schema: &str,
        header: Vec<u8>,
        fields: &[Field],
    ) -> Result<AvroRecordEncoder, String> {
        let schema: SchemaMut = schema.parse().map_err(|error| format!("{error}"))?;
        let Some(RegularType::Record(record)) = schema.nodes().first().map(|node| &node.type_)
        else {
            return Err("it is not one of a record".into());
        };
        for field in fields {
            if !record.fields.iter().any(|known| known.name == field.name) {
                return Err(format!("it has no field {:?}", field.name));
            }
        }
        let own = record.fields.iter().map(|field| {
            let source = fields.iter().find(|known| known.name == field.name);
            let types = types(&schema, field.type_, source);
            if source.is_none() && types.is_empty() {
                return Err(format!(
                    "its field {:?} is no column, and cannot be null",
                    field.name
                ));
            }
            Ok(RecordField {
                name: field.name.clone(),
                source: source.cloned(),
                types,
            })
        });
        Ok(AvroRecordEncoder {
            header,
            fields: own.collect::<Result<_, _>>()?,
            clock: TimeParser::default(),
            scratch: String::new(),
        })
    }

    /// Appends a row as a record.
    ///
    /// # Errors
    /// The schema cannot hold the row: the reason.
    pub(super) fn encode(&mut self, row: &Row, bytes: &mut Vec<u8>) -> Result<(), String> {
        bytes.extend_from_slice(&self.header);
        for field in &self.fields {
            let source = field.source.as_ref();
            let value = source.map_or(Value::Missing, |source| row.get(source.cell));
            let is_number = source.is_some_and(|source| source.is_number);
            let (clock, scratch) = (&mut self.clock, &mut self.scratch);
            let fits = |(at, kind): &(Option<i64>, Type)| {
                let start = bytes.len();
                at.iter().for_each(|at| push_long(bytes, *at));
                let pushed = kind.push(value, is_number, clock, scratch, bytes);
                if pushed.is_none() {
                    bytes.truncate(start);
                }
                pushed.is_some()
            };
            if !field.types.iter().any(fits) {
                return Err(format!(
                    "column {:?} is {}, for which its Avro schema has no type",
                    field.name,
                    quote(value)
                ));
            }
        }
        Ok(())
    }
}

/// The usable types of a field of the schema, each with its number in a union, in the order in
/// which they are tried.
fn types(schema: &SchemaMut, key: SchemaKey, source: Option<&Field>) -> Vec<(Option<i64>, Type)> {
    let node = schema.get(key).map(|node| &node.type_);
    let variants: Vec<(Option<i64>, SchemaKey)> = match node {
        Some(RegularType::Union(union)) => {
            let numbers = (0..).map(Some);
            numbers.zip(union.variants.iter().copied()).collect()
        }
        _ => vec![(None, key)],
    };
    let mut types: Vec<_> = variants
        .into_iter()
        .filter_map(|(at, key)| Some((at, kind(schema, key)?)))
        .filter(|(_, kind)| match source {
            None => *kind == Type::Null,
            // An instant loses the spelling of a text, which matters here.
            Some(field) => field.is_number || !matches!(kind, Type::Time(_)),
        })
        .collect();
    types.sort_by(|a, b| a.1.cmp(&b.1));
    // A column of texts is written as text if the schema allows it, and not as a number.
    if source.is_some_and(|field| !field.is_number) {
        types.sort_by_key(|(_, kind)| !matches!(kind, Type::Null | Type::Text));
    }
    types
}

fn kind(schema: &SchemaMut, key: SchemaKey) -> Option<Type> {
    let node = schema.get(key)?;
    let logical = node.logical_type.as_ref().map(LogicalType::as_str);
    Some(match (&node.type_, logical) {
        (RegularType::Null, _) => Type::Null,
        (RegularType::String, _) => Type::Text,
        (RegularType::Enum(symbols), _) => Type::Enum(symbols.symbols.clone()),
        (RegularType::Float, _) => Type::Float,
        (RegularType::Double, _) => Type::Double,
        (RegularType::Int, Some("date")) => Type::Time(24 * 60 * 60 * 1_000_000),
        (RegularType::Long, Some("timestamp-millis" | "local-timestamp-millis")) => {
            Type::Time(1000)
        }
        (RegularType::Long, Some("timestamp-micros" | "local-timestamp-micros")) => Type::Time(1),
        (RegularType::Int, None) => Type::Whole(i32::MAX.into()),
        (RegularType::Long, None) => Type::Whole(1 << 53),
        _ => return None,
    })
}

impl Type {
    /// Appends a value if it has this type. With `is_number` its spelling does not matter.
    fn push(
        &self,
        value: Value<'_>,
        is_number: bool,
        clock: &mut TimeParser,
        scratch: &mut String,
        bytes: &mut Vec<u8>,
    ) -> Option<()> {
        match self {
            Type::Null => return (value == Value::Missing).then_some(()),
            _ if value == Value::Missing => return None,
            Type::Text => {
                let text = value.text(scratch);
                push_long(bytes, text.len() as i64);
                bytes.extend_from_slice(text.as_bytes());
            }
            Type::Enum(symbols) => {
                let text = value.text(scratch);
                let at = symbols.iter().position(|symbol| symbol == text)?;
                push_long(bytes, at as i64);
            }
            Type::Float => {
                let number = number(value, is_number)? as f32;
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            Type::Double => bytes.extend_from_slice(&number(value, is_number)?.to_le_bytes()),
            Type::Whole(most) => {
                let number = number(value, is_number)?;
                let is_whole = number.fract() == 0.0 && number.abs() <= *most as f64;
                push_long(bytes, is_whole.then_some(number as i64)?);
            }
            Type::Time(unit) => {
                let micros = clock.read("", value).ok()?;
                let units = micros.div_euclid(*unit);
                push_long(bytes, (units * unit == micros).then_some(units)?);
            }
        }
        Some(())
    }
}

/// The number of a value; none if it is none, or if its spelling matters and would be lost.
fn number(value: Value<'_>, is_number: bool) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number),
        Value::Time(micros) if is_number => Some(micros as f64 / 1e6),
        Value::Text(text) => {
            let number: f64 = text.trim().parse().ok()?;
            let is_same = is_number || number.to_string() == text;
            (is_same && number.is_finite()).then_some(number)
        }
        Value::Time(_) | Value::Missing => None,
    }
}

/// Appends an integer as Avro does: zigzag, seven bits a byte.
fn push_long(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}
