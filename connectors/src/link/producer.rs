//! Where messages of the link go out: sealed, under a key, and waited for until they have arrived.

use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Serialize;

use super::topic::LARGEST_CONTENT;
use super::{LinkError, ModelStore, PublishedModel, seal};
use crate::kafka::{Client, KafkaConfig, KafkaError, is_too_large, producer};

/// How long is waited at a time for what was sent, and how long in all once a run is over. Otherwise the client says when it has
/// waited in vain: a second copy would only be in the way of the first.
const GLANCE: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(5);

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
    ///
    /// # Errors
    /// The store does not take it now, or the model is in no store and too large for a message.
    pub(super) fn put_aside(&self, model: &mut PublishedModel) -> Result<(), LinkError> {
        if let Some(store) = &self.store {
            store.put_aside(model)?;
        }
        match model.onnx.len() {
            bytes if bytes > LARGEST_CONTENT => Err(LinkError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }

    /// Sends a message. True once it has arrived; false if it is to be sent again, which it may be at once if the run `is_over`.
    ///
    /// # Errors
    /// It is larger than the topic takes.
    pub(super) fn send(
        &self,
        key: &str,
        message: &impl Serialize,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let value = seal(message, &self.key)?;
        let record = BaseRecord::to(&self.topic).key(key).payload(&value);
        let refused = self.producer.send(record).err().map(|(error, _)| error);
        let began = Instant::now();
        let arrived = loop {
            if self.producer.flush(GLANCE).is_ok() {
                break true;
            }
            if is_over() && began.elapsed() > LAST {
                break false;
            }
        };
        let lost = self.client.take_undelivered();
        let Some(error) = refused.or(lost.map(|lost| lost.error)) else {
            return Ok(arrived);
        };
        if is_too_large(&error) {
            let bytes = value.len();
            return Err(LinkError::TooLarge { bytes });
        }
        tracing::warn!(topic = self.topic, %error, "not sent yet");
        Ok(false)
    }
}
