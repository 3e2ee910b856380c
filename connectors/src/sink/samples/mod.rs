//! Samples and labels as the values of messages, such that whoever reads them makes the same of them as of the
//! record that they were made from.

mod avro;
mod json;

use crate::format::Row;
use crate::format::written_schema;
use crate::kafka::{KafkaConfig, KafkaError, TopicConfig, TopicFormat};

use avro::AvroEncoder;
use json::JsonEncoder;

/// A column that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name in the message.
    pub name: String,
    /// The cell of the row that it comes from.
    pub cell: usize,
    /// Whether nothing but its number counts.
    pub is_number: bool,
}

/// What writes rows as the values of messages.
pub(super) enum Encoder {
    /// JSON objects.
    Json(JsonEncoder),
    /// Avro records.
    Avro(Box<AvroEncoder>),
}

impl Encoder {
    /// Appends the value of one message, or says in a sentence why the topic's schema cannot hold it.
    pub(super) fn encode(&mut self, row: &Row, bytes: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Encoder::Json(json) => {
                json.encode(row, bytes);
                Ok(())
            }
            Encoder::Avro(avro) => avro.encode(row, bytes),
        }
    }
}

/// What writes rows as the values of a topic's messages.
///
/// # Errors
/// There is no schema for Avro, or one that cannot hold the fields.
pub(super) fn encoder(
    kafka: &KafkaConfig,
    topic: &TopicConfig,
    fields: &[Field],
) -> Result<Encoder, KafkaError> {
    if topic.format == TopicFormat::Json {
        return Ok(Encoder::Json(JsonEncoder::new(fields)));
    }
    let (schema, header) = written_schema(kafka, topic, || avro::schema_of(fields))?;
    let encoder = AvroEncoder::new(&schema, header, fields).map_err(|reason| {
        KafkaError::Schema(format!(
            "the Avro schema of the topic \"{}\" cannot be used: {reason}",
            topic.topic
        ))
    })?;
    Ok(Encoder::Avro(Box::new(encoder)))
}

#[cfg(test)]
mod tests;
