//! Topics that are written to.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use super::{Client, KafkaConfig, KafkaError, ask_by_producer};

/// How long a topic may take to be there, and how long to wait between two looks.
const LATE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// How many partitions a topic has. Where brokers make topics by themselves, the question makes it, which
/// takes a moment.
///
/// # Errors
/// No broker answers, or the topic is not there.
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
