//! Predictions as messages: rendered by the workers, taken apart again where they are sent.
//!
//! A message is its timestamp (i64), the lengths of key, headers and value (u32 each; the greatest one stands
//! for no key), then these three; numbers are little-endian.

use perennial_operators::flow::Predicted;

use crate::kafka::push_header;
use crate::sink::layout::group_texts;
use crate::sink::{AvroPredictions, Format, Layout, Renderer, SinkError};

/// The length that stands for no key.
const NONE: u32 = u32::MAX;
/// Bytes before the key.
const HEAD: usize = 20;

/// A message to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Milliseconds since 1970; negative if there is none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// Packed.
    pub headers: &'a [u8],
    pub value: &'a [u8],
}

/// Takes messages apart, one by one.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (head, rest) = self.0.split_at_checked(HEAD)?;
        let length = |at: usize| Some(u32::from_le_bytes(head[at..at + 4].try_into().ok()?));
        let timestamp = i64::from_le_bytes(head[..8].try_into().ok()?);
        let (key, headers, value) = (length(8)?, length(12)? as usize, length(16)? as usize);
        let key_length = if key == NONE { 0 } else { key as usize };
        let (key_bytes, rest) = rest.split_at_checked(key_length)?;
        let (headers, rest) = rest.split_at_checked(headers)?;
        let (value, rest) = rest.split_at_checked(value)?;
        self.0 = rest;
        Some(Message {
            timestamp,
            key: (key != NONE).then_some(key_bytes),
            headers,
            value,
        })
    }
}

/// Renders predictions as messages. Each keeps the key, the timestamp and the headers of its sample, and
/// says in headers of its own which record that was, the task and the model.
pub struct MessageRenderer {
    values: Values,
}

/// What writes the values.
enum Values {
    Json(Box<Renderer>),
    Avro(Box<AvroPredictions>),
}

impl Values {
    fn each(&mut self, scored: &Predicted, mut each: impl FnMut(usize, &[u8])) {
        match self {
            Values::Json(renderer) => renderer.each_object(scored, each),
            Values::Avro(avro) => {
                let encoded = avro.encode(scored, |row, value| -> Result<(), SinkError> {
                    each(row, value);
                    Ok(())
                });
                // The schema is the encoder's own, and every prediction fits it.
                debug_assert!(encoded.is_ok(), "{encoded:?}");
            }
        }
    }
}

impl MessageRenderer {
    /// A renderer of JSON for predictions of this layout.
    pub fn json(layout: &Layout) -> Self {
        MessageRenderer {
            values: Values::Json(Box::new(Renderer::new(Format::Jsonl, layout))),
        }
    }

    /// A renderer of Avro; with the id of its schema in a registry, as Confluent's serializers write it.
    pub fn avro(layout: &Layout, schema_id: Option<u32>) -> Result<Self, SinkError> {
        Ok(MessageRenderer {
            values: Values::Avro(Box::new(AvroPredictions::new(layout, schema_id)?)),
        })
    }

    /// Appends the predictions of a batch, in input order.
    pub fn render(&mut self, scored: &Predicted, bytes: &mut Vec<u8>) {
        let batch = &scored.allocated.batch;
        let texts = group_texts(scored);
        self.values.each(scored, |row, value| {
            let start = bytes.len();
            bytes.resize(start + HEAD, 0);
            let metadata = batch.metadata.as_deref();
            let (timestamp, key) = match metadata {
                Some(metadata) => (metadata.timestamps[row], metadata.keys.get(row)),
                // From a file: what a producer would say of the sample.
                None => (batch.times[row] / 1000, Some(batch.ids.get(row).as_bytes())),
            };
            bytes.extend_from_slice(key.unwrap_or_default());
            let headers_start = bytes.len();
            if let Some(metadata) = metadata {
                bytes.extend_from_slice(metadata.headers.get(row).unwrap_or_default());
                let mut number = itoa::Buffer::new();
                push_header(bytes, "perennial.topic", Some(metadata.topic.as_bytes()));
                let partition = number.format(metadata.partitions[row]).as_bytes();
                push_header(bytes, "perennial.partition", Some(partition));
                let offset = number.format(metadata.offsets[row]).as_bytes();
                push_header(bytes, "perennial.offset", Some(offset));
            }
            let group = &texts[scored.allocated.group_of[row] as usize];
            push_header(bytes, "perennial.task", Some(group.task.as_bytes()));
            push_header(bytes, "perennial.model", Some(group.model.as_bytes()));
            let value_start = bytes.len();
            bytes.extend_from_slice(value);
            let lengths = [
                key.map_or(NONE, |key| key.len() as u32),
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
    fn what_is_torn_is_no_message() {
        let mut bytes = 7_i64.to_le_bytes().to_vec();
        for length in [NONE, 0, 3] {
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(b"abc");
        let message = Message {
            timestamp: 7,
            key: None,
            headers: b"",
            value: b"abc",
        };
        assert_eq!(Messages(&bytes).collect::<Vec<_>>(), [message]);
        assert_eq!(Messages(&bytes[..bytes.len() - 1]).count(), 0);
    }
}
