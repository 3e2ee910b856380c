//! A producer of messages of the link, which seals each and waits for its delivery.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::topic::LARGEST_CONTENT;
use super::{LinkError, LinkMessage, ModelStore, PublishedModel, seal};
use crate::kafka::{Client, KafkaConfig, KafkaError, OutageCount, is_too_large, producer, remind};

/// Time of one wait for a delivery. Without the end of a run, the client itself gives up on a
/// message; a second copy before that would only compete with the first.
const GLANCE: Duration = Duration::from_millis(100);
/// Bound on all waits for a delivery at the end of a run.
const LAST: Duration = Duration::from_secs(5);

/// A producer of signed messages on one topic.
pub(super) struct LinkProducer {
    kafka: KafkaConfig,
    /// It is made anew if it fails for good.
    producer: RefCell<BaseProducer<Client>>,
    client: Client,
    topic: String,
    key: SigningKey,
    store: Option<ModelStore>,
    outage: OutageCount,
}

impl LinkProducer {
    pub(super) fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: SigningKey,
        store: Option<ModelStore>,
        client: Client,
    ) -> Result<LinkProducer, KafkaError> {
        Ok(LinkProducer {
            producer: RefCell::new(producer(kafka, None, client.clone())?),
            kafka: kafka.clone(),
            client,
            topic: topic.to_string(),
            key,
            store,
            outage: OutageCount::default(),
        })
    }

    /// Moves the bytes of a model from its message to the store, if there is one: those of a large
    /// one if the message is `for_all` of its receivers, else those of any but a small one.
    ///
    /// # Errors
    /// The store does not accept it now, or the model is too large for a message and there is no
    /// store.
    pub(super) fn store(&self, model: &mut PublishedModel, for_all: bool) -> Result<(), LinkError> {
        match &self.store {
            Some(store) if for_all => store.store_large(model)?,
            Some(store) => store.store_for_few(model)?,
            None => {}
        }
        let bytes = model.onnx.len();
        if bytes > LARGEST_CONTENT {
            return Err(LinkError::TooLarge { bytes });
        }
        Ok(())
    }

    /// Sends a message and waits for its delivery; false if it has to be sent again. After the end
    /// of the run (`is_over`) the wait is short.
    ///
    /// # Errors
    /// The message is larger than the topic allows.
    pub(super) fn send(
        &self,
        key: &str,
        message: &impl LinkMessage,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let value = seal(message, &self.key)?;
        self.deliver(key, Some(&value), is_over)
    }

    /// Removes the message with a key from a compacted topic and waits for the delivery, as
    /// [`LinkProducer::send`] does.
    pub(super) fn remove(&self, key: &str, is_over: &dyn Fn() -> bool) -> Result<bool, LinkError> {
        self.deliver(key, None, is_over)
    }

    fn deliver(
        &self,
        key: &str,
        value: Option<&[u8]>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<bool, LinkError> {
        let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&self.topic).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        let refused = self
            .producer
            .borrow()
            .send(record)
            .err()
            .map(|(error, _)| error);
        let began = Instant::now();
        let arrived = loop {
            let producer = self.producer.borrow();
            if producer.flush(GLANCE).is_ok() {
                break true;
            }
            remind(producer.client());
            if is_over() && began.elapsed() > LAST {
                break false;
            }
        };
        let lost = self.client.take_undelivered();
        let Some(error) = refused.or(lost.map(|lost| lost.error)) else {
            if arrived {
                self.outage.ends("messages of the link arrive");
            }
            return Ok(arrived);
        };
        if is_too_large(&error) {
            let bytes = value.map_or(0, <[u8]>::len);
            return Err(LinkError::TooLarge { bytes });
        }
        if self.outage.begins() {
            let topic = &self.topic;
            tracing::warn!(topic, %error, "cannot send a message of the link; retrying");
        }
        self.renew();
        Ok(false)
    }

    /// Makes the producer anew if it has failed for good.
    fn renew(&self) {
        let fatal = self.producer.borrow().client().fatal_error();
        if fatal.is_some()
            && let Ok(producer) = producer(&self.kafka, None, self.client.clone())
        {
            self.producer.replace(producer);
        }
    }
}
