//! The sender, by which an edge sends what it shares to the cloud.

use ed25519_dalek::SigningKey;

use super::producer::LinkProducer;
use super::topic::partitions_of;
use super::{Changes, LinkError, ModelStore};
use crate::kafka::{Client, KafkaConfig, KafkaError, consumer};

/// A sender of an edge's changes.
pub struct Sender(LinkProducer);

impl Sender {
    /// Connects; gives up soon after `is_over` becomes true.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Sender, KafkaError> {
        let client = Client::default();
        let consumer = consumer(kafka, "perennial-link", client.clone())?;
        partitions_of(&consumer, kafka, topic, is_over)?;
        LinkProducer::open(kafka, topic, key, store, client).map(Sender)
    }

    /// Sends changes and waits for their delivery; false if they have to be sent again. After the
    /// end of the run (`is_over`) the wait is short. A model that is too large is logged and left
    /// out; so is a change that is too large without models, which `changes` then lacks.
    ///
    /// # Errors
    /// The store does not accept a model now.
    pub fn send(
        &self,
        changes: &mut Changes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        match self.send_whole(changes, is_over) {
            // Sent one by one, only the change that is too large fails.
            Err(LinkError::TooLarge { .. }) if changes.changes.len() > 1 => {
                self.send_singly(changes, is_over)
            }
            Err(error @ LinkError::TooLarge { .. }) if changes.has_models() => {
                tracing::error!("a model is not shared: {error}");
                let changed = changes.changes.iter_mut();
                changed.for_each(|(_, change)| change.models.clear());
                self.send(changes, is_over)
            }
            Err(error @ LinkError::TooLarge { .. }) => {
                let samples: u64 = changes
                    .changes
                    .iter()
                    .map(|(_, change)| change.rows())
                    .sum();
                tracing::error!(samples, "a change is not shared: {error}");
                changes.changes.clear();
                Ok(true)
            }
            sent => sent,
        }
    }

    /// Sends changes one by one, and leaves those in `changes` that have arrived.
    fn send_singly(
        &self,
        changes: &mut Changes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let all = std::mem::take(&mut changes.changes);
        let empty = changes.clone();
        for change in all {
            let mut one = Changes {
                changes: vec![change],
                ..empty.clone()
            };
            if let (Some(lineage), Some((last, _))) = (&mut one.lineage, changes.changes.last()) {
                lineage.follows = Some(*last);
            }
            if !self.send(&mut one, is_over)? {
                return Ok(false);
            }
            changes.changes.append(&mut one.changes);
        }
        Ok(true)
    }

    fn send_whole(
        &self,
        changes: &mut Changes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let models = changes.changes.iter_mut();
        for donation in models.flat_map(|(_, change)| &mut change.models) {
            self.0.store(&mut donation.model, true)?;
        }
        self.0.send(&changes.edge, changes, is_over)
    }
}
