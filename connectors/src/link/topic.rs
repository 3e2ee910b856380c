//! The topics of the link, which the cloud makes.

use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::{Client, KafkaConfig, KafkaError, PATIENCE, admin, ask_by_consumer, consumer};

/// The largest message that the topics are made for: models go by value.
const LARGEST: usize = 32 << 20;
/// A message has so many bytes at most before it is compressed: what cannot be would have a few more afterwards.
pub const LARGEST_CONTENT: usize = 24 << 20;
/// How long somebody who wants to know waits for an answer.
const GLANCE: Duration = Duration::from_secs(3);
/// How long to wait before it is looked again whether a topic is there.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes a topic that is not there; one that keeps the latest message of each key if it is `compacted`.
///
/// # Errors
/// No broker answers, or it does not let the topic be made.
pub fn make_topic(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
    compacted: bool,
) -> Result<(), KafkaError> {
    let failed = |reason: String| KafkaError::Failed {
        brokers: kafka.brokers.clone(),
        reason,
    };
    let largest = LARGEST.to_string();
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))
        .set("max.message.bytes", &largest);
    if compacted {
        new = new.set("cleanup.policy", "compact");
    }
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
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
        Some(Err((name, code))) => {
            return Err(failed(format!("the topic \"{name}\" is not made: {code}")));
        }
    }
    // Brokers hear of it one after another.
    let until = Instant::now() + PATIENCE;
    loop {
        match reach(kafka, topic) {
            Err(KafkaError::NoTopic { .. } | KafkaError::Unreachable { .. })
                if Instant::now() < until =>
            {
                std::thread::sleep(PAUSE);
            }
            reached => return reached,
        }
    }
}

/// Whether a topic is reached, within seconds.
///
/// # Errors
/// No broker answers, or the topic is not there.
pub fn reach(kafka: &KafkaConfig, topic: &str) -> Result<(), KafkaError> {
    let consumer = consumer(kafka, "perennial-link", Client::default())?;
    let metadata = consumer.client().fetch_metadata(None, GLANCE);
    let metadata = metadata.map_err(|error| KafkaError::Unreachable {
        brokers: kafka.brokers.clone(),
        reason: error.to_string(),
    })?;
    let mut topics = metadata.topics().iter();
    let is_there = topics.any(|found| found.name() == topic && !found.partitions().is_empty());
    is_there.then_some(()).ok_or_else(|| KafkaError::NoTopic {
        topic: topic.to_string(),
        brokers: kafka.brokers.clone(),
    })
}

/// How many partitions a topic has. It is not made by being asked for, as some brokers make topics.
///
/// # Errors
/// No broker answers, or the topic is not there.
pub(crate) fn partitions_of(
    consumer: &BaseConsumer<Client>,
    kafka: &KafkaConfig,
    topic: &str,
) -> Result<i32, KafkaError> {
    let metadata = ask_by_consumer(consumer, kafka, |patience| {
        consumer.client().fetch_metadata(None, patience)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map_or(0, |found| found.partitions().len()) {
        0 => Err(KafkaError::NoTopic {
            topic: topic.to_string(),
            brokers: kafka.brokers.clone(),
        }),
        partitions => Ok(partitions as i32),
    }
}
