//! Dead letters as messages, also if they are too large for their topic.
//!
//! A dead letter must neither block the results of its transaction nor be lost. So a letter that
//! its topic refuses is sent without its value, and if that does not help without the key and the
//! headers of its record either, with headers that say so.

use perennial_operators::flow::DeadLetter;
use perennial_operators::{OwnedRecord, TopicPartition};

use super::KafkaSink;
use super::message::{Message, Rendered};
use super::refusals::too_large_for;
use crate::kafka::{Headers, KafkaError, push_header};

impl KafkaSink {
    /// Sends a dead letter: the original bytes, with the reason and the origin as headers.
    ///
    /// # Errors
    /// It cannot be sent, not even without anything of its record.
    pub fn send_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let Some(topic) = self.topics.dead_letters.clone() else {
            return Ok(());
        };
        let record = letter.message.as_deref();
        let value = match record {
            Some(record) => record.value.as_deref().unwrap_or_default(),
            None => letter.content.as_bytes(),
        };
        let key = record.and_then(|record| record.key.as_deref());
        let foreign = record.and_then(|record| record.headers.as_deref());
        let foreign = foreign.unwrap_or_default();
        let timestamp = record.map_or(-1, |record| record.timestamp);
        let message = |key, headers, value| Message {
            timestamp,
            key,
            headers,
            value,
        };
        let mut own = headers(letter);
        let all = [&own, foreign].concat();
        let whole = message(key, &all, value);
        let bytes = whole.size();
        if self.send_fitting(&topic, [whole])?.is_some() {
            return Ok(());
        }
        push_length(&mut own, "perennial.value_too_large", value.len());
        let valueless = [&own, foreign].concat();
        push_length(
            &mut own,
            "perennial.key_too_large",
            key.map_or(0, <[u8]>::len),
        );
        push_length(&mut own, "perennial.headers_too_large", foreign.len());
        let shorter = [message(key, &valueless, b""), message(None, &own, b"")];
        if self.send_fitting(&topic, shorter)?.is_none() {
            return Err(too_large_for(&topic, own.len()));
        }
        let what = "a dead letter is too large for its topic: parts of its record are left out";
        self.limits.tell(&topic, bytes, what);
        Ok(())
    }
}

/// Headers of a dead letter: reason and origin.
fn headers(letter: &DeadLetter) -> Vec<u8> {
    let mut headers = Vec::new();
    let mut push = |name: &str, value: &str| {
        push_header(&mut headers, name, Some(value.as_bytes()));
    };
    push("perennial.reason", &letter.reason);
    let Some(record) = &letter.message else {
        push("perennial.source", &letter.source);
        push("perennial.record", &letter.record.to_string());
        return headers;
    };
    push("perennial.topic", &record.place.topic);
    push("perennial.partition", &record.place.partition.to_string());
    push("perennial.offset", &record.offset.to_string());
    if record.value.is_none() {
        // In a compacted topic a message without a value deletes its key, so the letter gets an
        // empty value.
        push("perennial.no_value", "true");
    }
    headers
}

/// Appends the length of a part that is left out, if it has any bytes.
fn push_length(headers: &mut Vec<u8>, name: &str, bytes: usize) {
    if bytes > 0 {
        push_header(headers, name, Some(bytes.to_string().as_bytes()));
    }
}

/// The dead letter of a sample whose prediction `topic` does not take. It holds the prediction.
pub(super) fn refused_prediction(topic: &str, prediction: &Rendered<'_>) -> DeadLetter {
    let message = prediction.own();
    let key = message.key.unwrap_or_default();
    let reason = format!(
        "the topic {topic:?} does not take its prediction, which has {} bytes, of which its key has {}",
        message.size(),
        key.len()
    );
    let header = |name: &str| {
        let found = Headers(message.headers).find(|(key, _)| *key == name);
        let text = found.and_then(|(_, value)| std::str::from_utf8(value?).ok());
        text.unwrap_or_default()
    };
    let number = |name: &str| header(name).parse::<i64>().unwrap_or(-1);
    let record = OwnedRecord {
        place: TopicPartition {
            topic: header("perennial.topic").into(),
            partition: number("perennial.partition") as i32,
        },
        offset: number("perennial.offset"),
        timestamp: message.timestamp,
        key: message.key.map(<[u8]>::to_vec),
        headers: Some(prediction.message.headers[..prediction.foreign].to_vec()),
        value: Some(message.value.to_vec()),
    };
    DeadLetter::of_record(record, reason)
}
