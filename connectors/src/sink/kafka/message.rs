//! Predictions as messages: rendered by the workers, taken apart again where they are sent.
//!
//! A message is its timestamp (i64), the lengths of key, headers and value (u32 each; the greatest one stands
//! for no key), then these three; numbers are little-endian.

use perennial_operators::flow::Scored;

use crate::kafka::push_header;
use crate::sink::render::model_name;
use crate::sink::{Format, Renderer};

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
    values: Renderer,
}

impl MessageRenderer {
    /// A renderer for predictions of these classes.
    pub fn new(classes: &[String]) -> Self {
        MessageRenderer {
            values: Renderer::new(Format::Jsonl, classes),
        }
    }

    /// Appends the predictions of a batch, in input order.
    pub fn render(&mut self, scored: &Scored, bytes: &mut Vec<u8>) {
        let batch = &scored.allocated.batch;
        let names = names(scored);
        self.values.each_object(scored, |row, value| {
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
            let (task, model) = &names[scored.allocated.group_of[row] as usize];
            push_header(bytes, "perennial.task", Some(task.as_bytes()));
            push_header(bytes, "perennial.model", Some(model.as_bytes()));
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

/// For each group the names of its task and of the model that answered.
fn names(scored: &Scored) -> Vec<(String, String)> {
    let groups = scored.allocated.groups.iter();
    groups
        .zip(&scored.models)
        .map(|(group, model)| {
            let task = group.path.leaf().name.to_string();
            (task, model_name(group, model))
        })
        .collect()
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
