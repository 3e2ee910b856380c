//! The schema that messages were written with (Avro's *writer schema*), prepared for the wanted
//! columns.

use std::fmt;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny};
use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeError, DeserializerConfig, DeserializerState};
use serde_avro_fast::schema::{LogicalType, RegularType, SchemaKey, SchemaMut, SchemaNode};
use serde_json::Value;

use crate::format::Row;
use crate::format::object::{Bytes, Keys, Object, Place, Unit};

/// Bound on the record types of a schema. The library recurses from one to the next, and many
/// thousands would exceed a thread's stack.
const MAX_RECORDS: usize = 1000;

/// A schema and the places of its fields in a row.
pub(super) struct Writer {
    schema: Schema,
    /// The places of the fields, in the order of the values in a record.
    places: Vec<Option<Place>>,
}

impl Writer {
    /// Prepares a schema that may use the types of `references`.
    ///
    /// # Errors
    /// The schema cannot be used: the reason.
    pub(super) fn new(
        schema: &str,
        references: &[String],
        columns: &[String],
    ) -> Result<Writer, String> {
        let main = Tidied::new(schema)?;
        if !main.is_record {
            return Err("it is not one of a record".into());
        }
        let mut records = main.records;
        let mut others = Vec::new();
        for reference in references {
            let other = Tidied::new(reference)?;
            records += other.records;
            others.push(other.text);
        }
        if records > MAX_RECORDS {
            return Err(format!("it has more than {MAX_RECORDS} types of records"));
        }
        let parsed = SchemaMut::from_schemata(&main.text, others);
        let mut parsed = parsed.map_err(|error| error.to_string())?;
        let places = places(&parsed, columns)?;
        // The places handle logical types. The library would fail at a decimal of more than 16
        // bytes even in an unwanted field.
        for node in parsed.nodes_mut() {
            node.logical_type = None;
        }
        let schema = parsed.freeze().map_err(|error| error.to_string())?;
        Ok(Writer { schema, places })
    }

    /// Fills the row from one record.
    ///
    /// # Errors
    /// The bytes are no such record: the reason.
    pub(super) fn read(
        &self,
        datum: &[u8],
        columns: &[String],
        row: &mut Row,
    ) -> Result<(), String> {
        let mut config = DeserializerConfig::new(&self.schema);
        // Items of no bytes could go on for ever.
        config.max_seq_size = datum.len();
        let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
        let mut unfit = None;
        let object = Object {
            keys: InOrder(self.places.iter()),
            row,
            unfit: &mut unfit,
        };
        let read = object.deserialize(state.deserializer());
        read.map_err(|error| reason(&error))?;
        let left = state.into_reader().fill_buf().map_or(0, <[u8]>::len);
        if left > 0 {
            return Err(format!(
                "the message is not of its Avro schema: {left} bytes follow the record"
            ));
        }
        match unfit {
            Some(unfit) => Err(unfit.reason(columns)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.schema.json())
    }
}

fn reason(error: &DeError) -> String {
    match error.io_error() {
        Some(_) => "the message is not of its Avro schema: it ends within the record".into(),
        None => format!("the message is not of its Avro schema: {error}"),
    }
}

/// A schema in the form that the library accepts.
struct Tidied {
    text: String,
    is_record: bool,
    /// Number of its record types.
    records: usize,
}

impl Tidied {
    fn new(schema: &str) -> Result<Tidied, String> {
        let mut schema: Value =
            serde_json::from_str(schema).map_err(|error| format!("it is not JSON: {error}"))?;
        let records = tidy(&mut schema);
        Ok(Tidied {
            text: schema.to_string(),
            is_record: is(&schema, "type", "record"),
            records,
        })
    }
}

/// Tidies a part of a schema and returns its number of record types. By Avro's specification a
/// decimal without a scale has the scale 0, and an invalid one is plain bytes; the library refuses
/// both.
fn tidy(value: &mut Value) -> usize {
    if is(value, "logicalType", "decimal") {
        tidy_decimal(value);
    }
    let record = usize::from(is(value, "type", "record"));
    let inner: usize = match value {
        Value::Array(values) => values.iter_mut().map(tidy).sum(),
        Value::Object(object) => object.values_mut().map(tidy).sum(),
        _ => 0,
    };
    record + inner
}

fn tidy_decimal(decimal: &mut Value) {
    let Value::Object(decimal) = decimal else {
        return;
    };
    let scale = decimal.entry("scale").or_insert(0.into()).as_u64();
    let precision = decimal.get("precision").and_then(Value::as_u64);
    if scale.is_none() || precision.is_none_or(|digits| digits == 0) || scale > precision {
        for key in ["logicalType", "scale", "precision"] {
            decimal.remove(key);
        }
    }
}

fn is(value: &Value, key: &str, text: &str) -> bool {
    value.get(key).and_then(Value::as_str) == Some(text)
}

/// The places of the fields of the schema's record in a row with `columns`.
fn places(schema: &SchemaMut, columns: &[String]) -> Result<Vec<Option<Place>>, String> {
    let Some(RegularType::Record(record)) = schema.nodes().first().map(|node| &node.type_) else {
        return Err("it is not one of a record".into());
    };
    let has = |column: &&String| record.fields.iter().any(|field| field.name == **column);
    let missing: Vec<String> = columns
        .iter()
        .filter(|column| !has(column))
        .map(|column| format!("{column:?}"))
        .collect();
    if !missing.is_empty() {
        return Err(format!("it has no field {}", missing.join(", ")));
    }
    let fields = record.fields.iter().map(|field| {
        let Some(cell) = columns.iter().position(|column| *column == field.name) else {
            return Ok(None);
        };
        let place = place(cell, schema, field.type_);
        let place = place.ok_or_else(|| {
            format!(
                "its field {:?} may be of several types that look alike",
                field.name
            )
        });
        place.map(Some)
    });
    fields.collect()
}

/// The place of a field of a type; `None` if values of different meaning would look alike.
fn place(cell: usize, schema: &SchemaMut, key: SchemaKey) -> Option<Place> {
    let node = schema.get(key)?;
    let variants = match &node.type_ {
        RegularType::Union(union) => &union.variants[..],
        _ => &[key],
    };
    let (mut ints, mut longs, mut bytes) = (None, None, None);
    for variant in variants {
        let node = schema.get(*variant)?;
        match node.type_ {
            RegularType::Int => agree(&mut ints, unit(node))?,
            RegularType::Long => agree(&mut longs, unit(node))?,
            RegularType::Bytes | RegularType::Fixed(_) => agree(&mut bytes, meaning(node))?,
            RegularType::Union(_) => return None,
            _ => {}
        }
    }
    Some(Place {
        cell,
        ints: ints.unwrap_or(Unit::Number),
        longs: longs.unwrap_or(Unit::Number),
        bytes: bytes.unwrap_or(Bytes::Raw),
    })
}

/// Records a meaning; `None` if it differs from the recorded one.
fn agree<T: Copy + PartialEq>(noted: &mut Option<T>, meaning: T) -> Option<()> {
    let noted = noted.get_or_insert(meaning);
    (*noted == meaning).then_some(())
}

/// The unit of the integers of a type.
fn unit(node: &SchemaNode) -> Unit {
    let logical = node.logical_type.as_ref().map(LogicalType::as_str);
    match (&node.type_, logical) {
        (RegularType::Int, Some("date")) => Unit::Days,
        (RegularType::Long, Some("timestamp-millis" | "local-timestamp-millis")) => Unit::Millis,
        (RegularType::Long, Some("timestamp-micros" | "local-timestamp-micros")) => Unit::Micros,
        (RegularType::Long, Some("timestamp-nanos" | "local-timestamp-nanos")) => Unit::Nanos,
        _ => Unit::Number,
    }
}

/// The meaning of the bytes of a type.
fn meaning(node: &SchemaNode) -> Bytes {
    match &node.logical_type {
        Some(LogicalType::Decimal(decimal)) => Bytes::Decimal {
            scale: decimal.scale,
        },
        Some(LogicalType::Uuid) => Bytes::Uuid,
        _ => Bytes::Raw,
    }
}

/// Keys in the order of the schema, so that their names need not be read.
struct InOrder<'a>(std::slice::Iter<'a, Option<Place>>);

impl<'a> Keys<'a> for InOrder<'a> {
    fn place<'de, D: Deserializer<'de>>(&mut self, key: D) -> Result<Option<&'a Place>, D::Error> {
        IgnoredAny::deserialize(key)?;
        Ok(self.0.next().and_then(Option::as_ref))
    }
}
