//! Publishing: the cloud's end of the link.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures_executor::block_on;
use perennial_operators::TaskId;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{LinkError, Published, seal};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, PATIENCE, admin, producer};

/// How long what was sent may take to arrive before it is sent again.
const ARRIVAL: Duration = Duration::from_secs(5);
/// The largest message that the topic is made for: models are sent by value.
const LARGEST: &str = "33554432";

/// Publishes what is known of tasks.
pub struct Publisher {
    producer: BaseProducer<Client>,
    client: Client,
    topic: String,
    key: SigningKey,
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
        health: &Health,
    ) -> Result<Publisher, KafkaError> {
        make_topic(kafka, topic)?;
        let client = Client::new(health);
        Ok(Publisher {
            producer: producer(kafka, None, client.clone())?,
            client,
            topic: topic.to_string(),
            key,
        })
    }

    /// Publishes what is known of a task. True once it has arrived; false if it is to be tried again.
    pub fn publish(&self, task: TaskId, published: &Published) -> Result<bool, LinkError> {
        let value = seal(published, &self.key)?;
        let key = task.to_string();
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

fn make_topic(kafka: &KafkaConfig, topic: &str) -> Result<(), KafkaError> {
    let failed = |reason: String| KafkaError::Failed {
        brokers: kafka.brokers.clone(),
        reason,
    };
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("max.message.bytes", LARGEST);
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let admin = admin(kafka)?;
    let made = block_on(admin.create_topics(&[new], &options));
    let made = made.map_err(|error| KafkaError::Unreachable {
        brokers: kafka.brokers.clone(),
        reason: error.to_string(),
    })?;
    match made.into_iter().next() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((name, code))) => Err(failed(format!("the topic \"{name}\" is not made: {code}"))),
    }
}
