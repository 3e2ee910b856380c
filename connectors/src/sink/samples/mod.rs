//! Samples and labels as the values of messages. A reader decodes them to the same samples and
//! labels as the original records.

mod avro;
mod json;

use crate::format::Row;
use crate::format::written_schema;
use crate::kafka::{KafkaConfig, KafkaError, TopicConfig, TopicFormat};

use avro::AvroRecordEncoder;
use json::JsonEncoder;

/// A column to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name in the message.
    pub name: String,
    /// Its cell in a row.
    pub cell: usize,
    /// Whether it is read as a number, so that its spelling does not matter.
    pub is_number: bool,
}

/// An encoder of rows as the values of messages.
pub(super) enum Encoder {
    /// JSON objects.
    Json(JsonEncoder),
    /// Avro records.
    Avro(Box<AvroRecordEncoder>),
}

impl Encoder {
    /// Appends the value of one message.
    ///
    /// # Errors
    /// The topic's schema cannot hold the row: the reason.
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

/// An encoder of rows as the values of a topic's messages.
///
/// # Errors
/// The schema for Avro is missing, or cannot hold the fields.
pub(super) fn encoder(
    kafka: &KafkaConfig,
    topic: &TopicConfig,
    fields: &[Field],
) -> Result<Encoder, KafkaError> {
    if topic.format == TopicFormat::Json {
        return Ok(Encoder::Json(JsonEncoder::new(fields)));
    }
    let (schema, header) = written_schema(kafka, topic, || avro::schema_of(fields))?;
    let encoder = AvroRecordEncoder::new(&schema, header, fields).map_err(|reason| {
        KafkaError::Schema(format!(
            "the Avro schema of the topic \"{}\" cannot be used: {reason}",
            topic.topic
        ))
    })?;
    Ok(Encoder::Avro(Box::new(encoder)))
}

#[cfg(test)]
mod tests;
