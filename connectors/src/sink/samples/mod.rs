//! Samples and labels as the values of messages, such that whoever reads them makes the same of them as of the
//! record that they were made from.

mod json;

use crate::kafka::{KafkaConfig, KafkaError, TopicConfig, TopicFormat};
use crate::source::Row;

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
}

impl Encoder {
    /// Appends the value of one message.
    pub(super) fn encode(&mut self, row: &Row, bytes: &mut Vec<u8>) {
        match self {
            Encoder::Json(json) => json.encode(row, bytes),
        }
    }
}

/// What writes rows as the values of a topic's messages.
///
/// # Errors
/// The topic's format cannot be written.
pub(super) fn encoder(
    _kafka: &KafkaConfig,
    topic: &TopicConfig,
    fields: &[Field],
) -> Result<Encoder, KafkaError> {
    match topic.format {
        TopicFormat::Json => Ok(Encoder::Json(JsonEncoder::new(fields))),
        TopicFormat::Avro => Err(KafkaError::Schema(format!(
            "the topic \"{}\" has Avro, which cannot be produced yet: set its format to json",
            topic.topic
        ))),
    }
}
