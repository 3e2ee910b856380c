//! Sending: an edge's end of what goes up.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::topic::partitions_of;
use super::{Changes, LinkError, ModelStore, seal};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, consumer, producer};

/// How long what was sent may take to arrive before it is sent again.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Sends what an edge shares.
pub struct Sender {
    producer: BaseProducer<Client>,
    client: Client,
    topic: String,
    key: SigningKey,
    store: Option<ModelStore>,
}

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
        Ok(Sender {
            producer: producer(kafka, None, client.clone())?,
            client,
            topic: topic.to_string(),
            key,
            store,
        })
    }

    /// Sends changes. True once they have arrived; false if they are to be sent again.
    pub fn send(&self, changes: &mut Changes) -> Result<bool, LinkError> {
        if let Some(store) = &self.store {
            let models = changes.changes.iter_mut();
            for donation in models.flat_map(|(_, change)| &mut change.models) {
                store.put_aside(&mut donation.model)?;
            }
        }
        let value = seal(changes, &self.key)?;
        let record = BaseRecord::to(&self.topic)
            .key(&changes.edge)
            .payload(&value);
        let sent = self.producer.send(record).is_ok();
        let arrived = self.producer.flush(ARRIVAL).is_ok();
        let lost = self.client.take_undelivered();
        if let Some(lost) = &lost {
            tracing::warn!(topic = self.topic, error = %lost.error, "not sent yet");
        }
        Ok(sent && arrived && lost.is_none())
    }
}
