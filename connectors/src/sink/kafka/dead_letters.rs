//! Dead letters as messages, also if they are too large for their topic.
//!
//! A dead letter must neither block the results of its transaction nor be lost. So a letter that
//! its topic refuses is sent without its value, with a header that says so. A broker refuses a
//! batch as a whole, which does not show the message that is too large; so after a refusal all
//! messages are sent again, each dead letter alone.

use perennial_operators::flow::DeadLetter;

use super::KafkaSink;
use super::message::Message;
use crate::kafka::{KafkaError, push_header};

/// Handling of dead letters that are too large, until the current transaction is committed.
#[derive(Debug, Default)]
pub(super) struct Oversize {
    /// Whether each dead letter is sent alone, since a batch was refused.
    alone: bool,
    /// Least size in bytes of the values that are left out.
    limit: Option<usize>,
}

impl Oversize {
    fn takes(&self, bytes: usize) -> bool {
        self.limit.is_none_or(|limit| bytes < limit)
    }
}

impl KafkaSink {
    /// Sends a dead letter: the original bytes, with the reason and the origin as headers.
    ///
    /// # Errors
    /// It cannot be sent, not even without its value.
    pub fn send_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let Some(topic) = self.topics.dead_letters.clone() else {
            return Ok(());
        };
        let mut headers = headers(letter);
        let record = letter.message.as_deref();
        let value = match record {
            Some(record) => record.value.as_deref().unwrap_or_default(),
            None => letter.content.as_bytes(),
        };
        let timestamp = record.map_or(-1, |record| record.timestamp);
        let key = record.and_then(|record| record.key.as_deref());
        let whole = Message {
            timestamp,
            key,
            headers: &headers,
            value,
        };
        if self.oversize.takes(value.len()) {
            match self.send(&topic, whole) {
                // Too large for librdkafka itself.
                Err(KafkaError::TooLarge { .. }) if !value.is_empty() => {}
                sent => return sent.and_then(|()| self.settle(&topic, value.len())),
            }
        }
        let bytes = value.len();
        tracing::warn!(
            topic,
            bytes,
            "a dead letter is too large for its topic: its value is left out"
        );
        push(
            &mut headers,
            "perennial.value_too_large",
            &bytes.to_string(),
        );
        let rest = Message {
            timestamp,
            key,
            headers: &headers,
            value: b"",
        };
        self.send(&topic, rest)?;
        self.settle(&topic, 0)
    }

    /// If each dead letter is sent alone, waits until this one has arrived. If it is refused,
    /// values of `bytes` bytes are left out from now on.
    fn settle(&mut self, topic: &str, bytes: usize) -> Result<(), KafkaError> {
        if !self.oversize.alone || self.refused.is_some() {
            return Ok(());
        }
        self.wait()?;
        // While letters arrive, a run that is to stop still makes progress.
        self.stopping = None;
        let Some(undelivered) = self.client.take_undelivered() else {
            return Ok(());
        };
        for (refusing, longest) in &undelivered.too_large {
            if refusing != topic || bytes == 0 {
                return Err(too_large(refusing, *longest));
            }
            self.oversize.limit = Some(bytes);
        }
        self.refused = Some(undelivered.error);
        Ok(())
    }

    /// Prepares another attempt after a message was refused for its size.
    ///
    /// # Errors
    /// No other attempt can succeed: it was no dead letter, or each was sent alone already.
    pub(super) fn retry_too_large(
        &mut self,
        topic: &str,
        longest: usize,
    ) -> Result<(), KafkaError> {
        if self.topics.dead_letters.as_deref() != Some(topic) || self.oversize.alone {
            return Err(too_large(topic, longest));
        }
        self.oversize.alone = true;
        Ok(())
    }
}

pub(super) fn too_large(topic: &str, bytes: usize) -> KafkaError {
    KafkaError::TooLarge {
        topic: topic.to_string(),
        bytes,
    }
}

fn push(headers: &mut Vec<u8>, name: &str, value: &str) {
    push_header(headers, name, Some(value.as_bytes()));
}

/// Headers of a dead letter: reason and origin, then the headers of its record.
fn headers(letter: &DeadLetter) -> Vec<u8> {
    let mut headers = Vec::new();
    push(&mut headers, "perennial.reason", &letter.reason);
    let Some(record) = &letter.message else {
        push(&mut headers, "perennial.source", &letter.source);
        push(&mut headers, "perennial.record", &letter.record.to_string());
        return headers;
    };
    push(&mut headers, "perennial.topic", &record.place.topic);
    let partition = record.place.partition.to_string();
    push(&mut headers, "perennial.partition", &partition);
    push(&mut headers, "perennial.offset", &record.offset.to_string());
    if record.value.is_none() {
        // In a compacted topic a message without a value deletes its key, so the letter gets an
        // empty value.
        push(&mut headers, "perennial.no_value", "true");
    }
    headers.extend_from_slice(record.headers.as_deref().unwrap_or_default());
    headers
}
