//! Bad records as messages, and what becomes of those that are too large for their topic.
//!
//! A dead letter must not hold up the results that are written with it, nor be lost. So what its topic does
//! not take goes without its value, and says so. Which one it was that was too large cannot be told of a
//! batch, for which the broker answers as a whole: so when one is refused, all are sent again, each alone.

use perennial_operators::flow::DeadLetter;

use super::KafkaSink;
use super::message::Message;
use crate::kafka::{KafkaError, push_header};

/// What is done about dead letters that are too large, until what was sent with them is committed.
#[derive(Debug, Default)]
pub(super) struct Oversize {
    /// One was refused, perhaps for the others in its batch: each is sent alone.
    alone: bool,
    /// Values of so many bytes and more are left out.
    limit: Option<usize>,
}

impl Oversize {
    fn takes(&self, bytes: usize) -> bool {
        self.limit.is_none_or(|limit| bytes < limit)
    }
}

impl KafkaSink {
    /// Sends a bad record: the bytes as they came, and in headers the reason and where it stood.
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
                // It is too large for librdkafka already.
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

    /// Where each dead letter goes alone, waits for this one to have arrived; a value of this many bytes has
    /// no place in the topic if it was refused.
    fn settle(&mut self, topic: &str, bytes: usize) -> Result<(), KafkaError> {
        if !self.oversize.alone || self.refused.is_some() {
            return Ok(());
        }
        self.wait()?;
        // As long as one after the other arrives, a run that is to stop has reason to wait.
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

    /// Finds a way for what was refused for its size.
    ///
    /// # Errors
    /// There is none: it is no dead letter, or one that has been sent in every way.
    pub(super) fn find_way(&mut self, topic: &str, longest: usize) -> Result<(), KafkaError> {
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

/// What a dead letter says of itself, and the headers of its record.
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
        // A message without a value is a deletion where a topic is compacted: that a dead letter is not.
        push(&mut headers, "perennial.no_value", "true");
    }
    headers.extend_from_slice(record.headers.as_deref().unwrap_or_default());
    headers
}
