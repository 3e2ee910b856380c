//! Topics that are written to.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use super::{Client, KafkaError, PATIENCE};

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
    brokers: &str,
    topic: &str,
) -> Result<usize, KafkaError> {
    let began = Instant::now();
    loop {
        let metadata = producer.client().fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.map_err(|error| {
            // What the client heard in the meantime says more than that the time is up.
            producer.poll(Duration::ZERO);
            let heard = producer.client().context().health.waiting();
            KafkaError::Unreachable {
                brokers: brokers.to_string(),
                reason: heard.unwrap_or_else(|| error.to_string()),
            }
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        if partitions > 0 {
            return Ok(partitions);
        }
        if began.elapsed() > LATE {
            return Err(KafkaError::NoTopic {
                topic: topic.to_string(),
                brokers: brokers.to_string(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}
