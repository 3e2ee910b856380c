//! Messages that their topic refuses: for their size, or for a timestamp in the future.
//!
//! A broker refuses a batch as a whole, which does not show the message that is too large. So after
//! a refusal all messages are sent again, and each one that may be too large is sent alone. A
//! message that is refused alone goes in its next shorter form, if it has one. A message of the
//! future gets the time at which it is sent.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;

use super::KafkaSink;
use super::message::Message;
use crate::kafka::{KafkaError, Undelivered};

/// What is known of the messages that topics take, until the current transaction is committed.
#[derive(Debug, Default)]
pub(super) struct TopicLimits {
    sizes: FxHashMap<String, SizeLimits>,
    /// Whether timestamps in the future are left out, since a topic refuses some.
    bounds_times: bool,
    /// Topics whose first shortened message was logged.
    told: BTreeSet<String>,
}

/// Sizes of key, headers and value together that a topic takes.
#[derive(Clone, Copy, Debug, Default)]
struct SizeLimits {
    /// Least size of messages that are sent alone, since a batch was refused.
    alone: Option<usize>,
    /// Greatest size that was taken alone.
    taken: usize,
    /// Least size that was refused alone.
    refused: Option<usize>,
}

impl TopicLimits {
    /// Forgets what topics refuse: each transaction finds it out anew.
    pub(super) fn clear(&mut self) {
        self.sizes.clear();
        self.bounds_times = false;
    }

    /// Whether timestamps in the future are left out.
    pub(super) fn bounds_times(&self) -> bool {
        self.bounds_times
    }

    /// Whether a timestamp, milliseconds since 1970, is to be left out.
    pub(super) fn is_ahead(&self, timestamp: i64) -> bool {
        self.bounds_times && {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.is_ok_and(|now| timestamp > now.as_millis() as i64)
        }
    }

    fn sizes_of(&self, topic: &str) -> SizeLimits {
        self.sizes.get(topic).copied().unwrap_or_default()
    }

    /// Logs the first message that a topic gets in a shorter form.
    pub(super) fn tell(&mut self, topic: &str, bytes: usize, what: &str) {
        if self.told.insert(topic.to_string()) {
            tracing::warn!(topic, bytes, "{what}; further ones are not logged");
        }
    }
}

impl KafkaSink {
    /// Sends the first of the forms of a message that its topic takes, as far as that is known.
    /// Returns the number of the form; none if the topic takes none of them.
    pub(super) fn send_fitting<'a>(
        &mut self,
        topic: &str,
        forms: impl IntoIterator<Item = Message<'a>>,
    ) -> Result<Option<usize>, KafkaError> {
        for (number, form) in forms.into_iter().enumerate() {
            let size = form.size();
            let limits = self.limits.sizes_of(topic);
            if limits.refused.is_some_and(|refused| size >= refused) {
                continue;
            }
            let is_alone = limits.alone.is_some_and(|alone| size >= alone);
            if is_alone {
                // A refusal of what was sent before must not be taken for one of this message.
                self.settle(None)?;
            }
            match self.send(topic, form) {
                // Too large for librdkafka itself.
                Err(KafkaError::TooLarge { .. }) => continue,
                sent => sent?,
            }
            if is_alone {
                self.settle(Some((topic, size)))?;
            }
            return Ok(Some(number));
        }
        Ok(None)
    }

    /// Waits until all messages have arrived, of which `alone` is the last one: its topic and size.
    fn settle(&mut self, alone: Option<(&str, usize)>) -> Result<(), KafkaError> {
        if self.refused.is_some() {
            return Ok(());
        }
        self.wait()?;
        // While messages arrive, a run that is to stop still makes progress.
        self.stopping = None;
        let Some((topic, size)) = alone else {
            // The end of the attempt learns from all that is refused by then.
            self.refused = self.client.undelivered_error();
            return Ok(());
        };
        if let Some(undelivered) = self.client.take_undelivered() {
            self.learn(&undelivered, alone)?;
            self.refused = Some(undelivered.error);
        } else if let Some(limits) = self.limits.sizes.get_mut(topic) {
            limits.taken = limits.taken.max(size);
        }
        Ok(())
    }

    /// Prepares another attempt after topics have refused messages; `alone` is the message that was
    /// sent alone, if one was: its topic and size.
    ///
    /// # Errors
    /// No other attempt can succeed: messages that a topic takes alone are too large together.
    pub(super) fn learn(
        &mut self,
        undelivered: &Undelivered,
        alone: Option<(&str, usize)>,
    ) -> Result<(), KafkaError> {
        let is_new = undelivered.untimely && !self.limits.bounds_times;
        if is_new || !undelivered.too_large.is_empty() {
            // Each attempt excludes something, so a run that is to stop makes progress.
            self.stopping = None;
        }
        self.limits.bounds_times |= undelivered.untimely;
        for (topic, longest) in &undelivered.too_large {
            let is_letters = self.topics.dead_letters.as_ref() == Some(topic);
            let limits = self.limits.sizes.entry(topic.clone()).or_default();
            match (alone, limits.alone) {
                (Some((sent, size)), _) if sent == topic.as_str() => limits.refused = Some(size),
                // A bad message can have any size, so each dead letter is sent alone.
                (_, None) if is_letters => limits.alone = Some(0),
                (_, Some(known)) if *longest >= known => {
                    return Err(too_large_for(topic, *longest));
                }
                _ if *longest <= limits.taken => return Err(too_large_for(topic, *longest)),
                _ => limits.alone = Some(*longest),
            }
        }
        Ok(())
    }
}

pub(super) fn too_large_for(topic: &str, bytes: usize) -> KafkaError {
    KafkaError::TooLarge {
        topic: topic.to_string(),
        bytes,
    }
}
