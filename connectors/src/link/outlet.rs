//! Where messages of the link go out: sealed, under a key, and waited for until they have arrived.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Serialize;

use super::{LinkError, ModelStore, PublishedModel, seal};
use crate::kafka::{Client, KafkaConfig, KafkaError, producer};

/// How long what was sent may take to arrive before it is sent again.
const ARRIVAL: Duration = Duration::from_secs(5);

/// The way to a topic.
pub(super) struct Outlet {
    producer: BaseProducer<Client>,
    client: Client,
    topic: String,
    key: SigningKey,
    store: Option<ModelStore>,
}

impl Outlet {
    pub(super) fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        client: Client,
    ) -> Result<Outlet, KafkaError> {
        Ok(Outlet {
            producer: producer(kafka, None, client.clone())?,
            client,
            topic: topic.to_string(),
            key,
            store,
        })
    }

    /// Takes the bytes of a model out of its message, if it is large and there is a store for it.
    pub(super) fn put_aside(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        let store = self.store.as_ref();
        store.map_or(Ok(()), |store| store.put_aside(model))
    }

    /// Sends a message. True once it has arrived; false if it is to be sent again.
    pub(super) fn send(&self, key: &str, message: &impl Serialize) -> Result<bool, LinkError> {
        let value = seal(message, &self.key)?;
        let record = BaseRecord::to(&self.topic).key(key).payload(&value);
        let sent = self.producer.send(record).is_ok();
        let arrived = self.producer.flush(ARRIVAL).is_ok();
        let lost = self.client.take_undelivered();
        if let Some(lost) = &lost {
            tracing::warn!(topic = self.topic, error = %lost.error, "not sent yet");
        }
        Ok(sent && arrived && lost.is_none())
    }
}
