//! Predictions as messages. Workers render them as bytes; the sender parses the bytes.
//!
//! A message is its timestamp (i64), the lengths of the key, the sample's headers, its own headers
//! and the value (u32 each; the greatest number stands for no key), then key, headers and value.
//! Numbers are little-endian.

use perennial_operators::flow::Predicted;

use crate::kafka::push_header;
use crate::sink::layout::group_texts;
use crate::sink::{AvroPredictions, Format, Layout, Renderer, SinkError};

/// The length that stands for no key.
const NONE: u32 = u32::MAX;
/// Bytes before the key.
const HEAD: usize = 24;

/// A message to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Milliseconds since 1970; negative if there is none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// Packed headers.
    pub headers: &'a [u8],
    pub value: &'a [u8],
}

impl Message<'_> {
    /// Bytes of key, headers and value.
    pub(super) fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.headers.len() + self.value.len()
    }
}

/// A rendered prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rendered<'a> {
    /// The message, with the headers of its sample before its own.
    pub message: Message<'a>,
    /// Length of the sample's headers.
    pub foreign: usize,
}

impl<'a> Rendered<'a> {
    /// The message without the headers of its sample.
    pub(super) fn own(&self) -> Message<'a> {
        Message {
            headers: &self.message.headers[self.foreign..],
            ..self.message
        }
    }
}

/// Iterator over rendered messages.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Rendered<'a>;

    fn next(&mut self) -> Option<Rendered<'a>> {
        let (head, rest) = self.0.split_at_checked(HEAD)?;
        let length = |at: usize| Some(u32::from_le_bytes(head[at..at + 4].try_into().ok()?));
        let timestamp = i64::from_le_bytes(head[..8].try_into().ok()?);
        let (key, foreign) = (length(8)?, length(12)? as usize);
        let (headers, value) = (foreign + length(16)? as usize, length(20)? as usize);
        let key_length = if key == NONE { 0 } else { key as usize };
        let (key_bytes, rest) = rest.split_at_checked(key_length)?;
        let (headers, rest) = rest.split_at_checked(headers)?;
        let (value, rest) = rest.split_at_checked(value)?;
        self.0 = rest;
        let message = Message {
            timestamp,
            key: (key != NONE).then_some(key_bytes),
            headers,
            value,
        };
        Some(Rendered { message, foreign })
    }
}

/// A renderer of predictions as messages. Each has the key, the timestamp and the headers of its
/// sample, and further headers for the record of the sample, the task and the model.
pub struct MessageRenderer {
    values: Values,
}

/// The encoder of values.
enum Values {
    Json(Box<Renderer>),
    Avro(Box<AvroPredictions>),
}

impl Values {
    fn each(&mut self, predicted: &Predicted, mut each: impl FnMut(usize, &[u8])) {
        match self {
            Values::Json(renderer) => renderer.each_object(predicted, each),
            Values::Avro(avro) => {
                let encoded = avro.encode(predicted, |row, value| -> Result<(), SinkError> {
                    each(row, value);
                    Ok(())
                });
                // Every prediction fits the encoder's own schema.
                debug_assert!(encoded.is_ok(), "{encoded:?}");
            }
        }
    }
}

impl MessageRenderer {
    /// A renderer of predictions of `layout` as JSON.
    pub fn json(layout: &Layout) -> Self {
        MessageRenderer {
            values: Values::Json(Box::new(Renderer::new(Format::Jsonl, layout))),
        }
    }

    /// A renderer of predictions of `layout` as Avro; with the id of the schema in a registry in
    /// the format of Confluent's serializers.
    pub fn avro(layout: &Layout, schema_id: Option<u32>) -> Result<Self, SinkError> {
        Ok(MessageRenderer {
            values: Values::Avro(Box::new(AvroPredictions::new(layout, schema_id)?)),
        })
    }

    /// Appends the predictions of a batch, in input order.
    pub fn render(&mut self, predicted: &Predicted, bytes: &mut Vec<u8>) {
        let batch = &predicted.allocated.batch;
        let texts = group_texts(predicted);
        self.values.each(predicted, |row, value| {
            let start = bytes.len();
            bytes.resize(start + HEAD, 0);
            let metadata = batch.metadata.as_deref();
            let (timestamp, key) = match metadata {
                Some(metadata) => (metadata.timestamps[row], metadata.keys.get(row)),
                // A sample of a file: the event time and the id.
                None => (batch.times[row] / 1000, Some(batch.ids.get(row).as_bytes())),
            };
            bytes.extend_from_slice(key.unwrap_or_default());
            let foreign = metadata.and_then(|metadata| metadata.headers.get(row));
            let foreign = foreign.unwrap_or_default();
            bytes.extend_from_slice(foreign);
            let headers_start = bytes.len();
            if let Some(metadata) = metadata {
                let mut number = itoa::Buffer::new();
                push_header(bytes, "perennial.topic", Some(metadata.topic.as_bytes()));
                let partition = number.format(metadata.partitions[row]).as_bytes();
                push_header(bytes, "perennial.partition", Some(partition));
                let offset = number.format(metadata.offsets[row]).as_bytes();
                push_header(bytes, "perennial.offset", Some(offset));
            }
            let group = &texts[predicted.allocated.group_of[row] as usize];
            push_header(bytes, "perennial.task", Some(group.task.as_bytes()));
            push_header(bytes, "perennial.model", Some(group.model.as_bytes()));
            let value_start = bytes.len();
            bytes.extend_from_slice(value);
            let lengths = [
                key.map_or(NONE, |key| key.len() as u32),
                foreign.len() as u32,
                (value_start - headers_start) as u32,
                value.len() as u32,
            ];
            let head = &mut bytes[start..start + HEAD];
            head[..8].copy_from_slice(&timestamp.to_le_bytes());
            for (to, length) in head[8..].chunks_exact_mut(4).zip(lengths) {
                to.copy_from_slice(&length.to_le_bytes());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_message_is_none() {
        let mut bytes = 7_i64.to_le_bytes().to_vec();
        for length in [NONE, 1, 2, 3] {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(b"fowabc");
        let message = Message {
            timestamp: 7,
            key: None,
            headers: b"fow",
            value: b"abc",
        };
        let rendered = Rendered {
            message,
            foreign: 1,
        };
        assert_eq!(Messages(&bytes).collect::<Vec<_>>(), [rendered]);
        assert_eq!(rendered.own().headers, b"ow");
        assert_eq!(Messages(&bytes[..bytes.len() - 1]).count(), 0);
    }
}
