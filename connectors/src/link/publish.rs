//! The publisher, by which the cloud sends what it knows to edges.

use ed25519_dalek::SigningKey;

use super::producer::LinkProducer;
use super::{EdgeNotice, LinkError, ModelStore, Published, make_topic};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError};

/// A publisher of tasks and models.
pub struct Publisher(LinkProducer);

impl Publisher {
    /// Connects, and creates a missing topic as a compacted one.
    ///
    /// # Errors
    /// No broker answers, or one refuses to create the topic.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        health: &Health,
    ) -> Result<Publisher, KafkaError> {
        make_topic(kafka, topic, 1, true)?;
        let client = Client::new(health);
        LinkProducer::open(kafka, topic, key, store, client).map(Publisher)
    }

    /// Publishes a message about a task and waits for its delivery; false if it has to be sent
    /// again. After the end of the run (`is_over`) the wait is short.
    ///
    /// # Errors
    /// The store does not accept the model now, or the model is too large for a message.
    pub fn publish(
        &self,
        published: &mut Published,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        // Every edge takes the base task, and any other one only some: all read the topic.
        let for_all = published.donor.is_none() && published.path.len() == 1;
        if let Some(model) = &mut published.model {
            self.0.store(model, for_all)?;
        }
        self.0.send(&published.key(), published, is_over)
    }

    /// Sends a notice to its edge and waits for its delivery; false if it has to be sent again.
    ///
    /// # Errors
    /// The message is larger than the topic allows.
    pub fn tell(&self, notice: &EdgeNotice, is_over: &dyn Fn() -> bool) -> Result<bool, LinkError> {
        self.0.send(&notice.key(), notice, is_over)
    }

    /// Removes a published message, by its key, for edges that read the topic later, and waits for
    /// the delivery; false if it has to be removed again.
    ///
    /// # Errors
    /// The topic does not take it.
    pub fn remove(&self, key: &str, is_over: &dyn Fn() -> bool) -> Result<bool, LinkError> {
        self.0.remove(key, is_over)
    }
}
