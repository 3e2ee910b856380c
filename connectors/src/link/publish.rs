//! Publishing: the cloud's end of what goes down.

use ed25519_dalek::SigningKey;

use super::outlet::Outlet;
use super::{LinkError, ModelStore, Published, make_topic};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError};

/// Publishes what is known of tasks.
pub struct Publisher(Outlet);

impl Publisher {
    /// Connects. A topic that is not there is made, such that it keeps the latest message of each task.
    ///
    /// # Errors
    /// No broker answers, or it does not let the topic be made.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        health: &Health,
    ) -> Result<Publisher, KafkaError> {
        make_topic(kafka, topic, 1, true)?;
        let client = Client::new(health);
        Outlet::open(kafka, topic, key, store, client).map(Publisher)
    }

    /// Publishes what is known of a task. True once it has arrived; false if it is to be tried again, which may be at once if the
    /// run `is_over`.
    ///
    /// # Errors
    /// The store does not take its model now, or it is too large for a message.
    pub fn publish(
        &self,
        published: &mut Published,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        if let Some(model) = &mut published.model {
            self.0.put_aside(model)?;
        }
        self.0.send(&published.key(), published, is_over)
    }
}
