//! Sending: an edge's end of what goes up.

use ed25519_dalek::SigningKey;

use super::outlet::Outlet;
use super::topic::partitions_of;
use super::{Changes, LinkError, ModelStore};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, consumer};

/// Sends what an edge shares.
pub struct Sender(Outlet);

impl Sender {
    /// Connects.
    ///
    /// # Errors
    /// No broker answers, or the topic is not there.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        health: &Health,
    ) -> Result<Sender, KafkaError> {
        let client = Client::new(health);
        let asks = consumer(kafka, "perennial-link", client.clone())?;
        partitions_of(&asks, kafka, topic)?;
        Outlet::open(kafka, topic, key, store, client).map(Sender)
    }

    /// Sends changes. True once they have arrived; false if they are to be sent again, which may be at once if the run `is_over`. A model that is too large is told, and left
    /// out.
    ///
    /// # Errors
    /// The store does not take a model now, or the topic no message of that size.
    pub fn send(
        &self,
        changes: &mut Changes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        match self.send_whole(changes, is_over) {
            // By itself, none but what is at fault is.
            Err(LinkError::TooLarge { .. }) if changes.changes.len() > 1 => {
                for change in std::mem::take(&mut changes.changes) {
                    let mut one = Changes {
                        changes: vec![change],
                        ..changes.clone()
                    };
                    if !self.send(&mut one, is_over)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(error @ LinkError::TooLarge { .. }) if changes.has_models() => {
                tracing::error!("a model is not shared: {error}");
                let changed = changes.changes.iter_mut();
                changed.for_each(|(_, change)| change.models.clear());
                self.send_whole(changes, is_over)
            }
            sent => sent,
        }
    }

    fn send_whole(
        &self,
        changes: &mut Changes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let models = changes.changes.iter_mut();
        for donation in models.flat_map(|(_, change)| &mut change.models) {
            self.0.put_aside(&mut donation.model)?;
        }
        self.0.send(&changes.edge, changes, is_over)
    }
}
