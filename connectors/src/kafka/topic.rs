//! Partitions of topics that are written.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use super::{Client, KafkaConfig, KafkaError, ask_by_producer};

/// How long a new topic may take to appear.
const LATE: Duration = Duration::from_secs(5);
/// Time between two checks.
const PAUSE: Duration = Duration::from_millis(200);

/// Number of partitions of a topic. Brokers that create topics by themselves create it on this
/// request, which takes a moment.
///
/// # Errors
/// No broker answers, or the topic does not exist.
pub(crate) fn topic_partitions(
    producer: &BaseProducer<Client>,
    config: &KafkaConfig,
    topic: &str,
) -> Result<usize, KafkaError> {
    let began = Instant::now();
    loop {
        let metadata = ask_by_producer(producer, config, |patience| {
            producer.client().fetch_metadata(Some(topic), patience)
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        if partitions > 0 {
            return Ok(partitions);
        }
        if began.elapsed() > LATE {
            return Err(KafkaError::NoTopic {
                topic: topic.to_string(),
                brokers: config.brokers.clone(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}
