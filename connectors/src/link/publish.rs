//! Publishing: the cloud's end of what goes down.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{LinkError, ModelStore, Published, make_topic, seal};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, producer};

/// How long what was sent may take to arrive before it is sent again.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Publishes what is known of tasks.
pub struct Publisher {
    producer: BaseProducer<Client>,
    client: Client,
    topic: String,
    key: SigningKey,
    store: Option<ModelStore>,
}

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
        Ok(Publisher {
            producer: producer(kafka, None, client.clone())?,
            client,
            topic: topic.to_string(),
            key,
            store,
        })
    }

    /// Publishes what is known of a task. True once it has arrived; false if it is to be tried again.
    pub fn publish(&self, published: &mut Published) -> Result<bool, LinkError> {
        if let (Some(store), Some(model)) = (&self.store, &mut published.model) {
            store.put_aside(model)?;
        }
        let value = seal(published, &self.key)?;
        let key = published.key();
        let record = BaseRecord::to(&self.topic).key(&key).payload(&value);
        let sent = self.producer.send(record).is_ok();
        let arrived = self.producer.flush(ARRIVAL).is_ok();
        let lost = self.client.take_undelivered();
        if let Some(lost) = &lost {
            tracing::warn!(topic = self.topic, error = %lost.error, "not published yet");
        }
        Ok(sent && arrived && lost.is_none())
    }
}
