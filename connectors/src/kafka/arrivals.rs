//! Arrival times of the messages of a topic, for measurements.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::consumer;
use super::{Client, KafkaConfig, KafkaError, PATIENCE};

/// A reader of all partitions of a topic that sees committed messages only.
pub struct Arrivals {
    consumer: BaseConsumer<Client>,
    brokers: String,
}

impl Arrivals {
    /// Opens a topic at its end.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn open(config: &KafkaConfig, topic: &str) -> Result<Arrivals, KafkaError> {
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: config.brokers.clone(),
            reason: error.to_string(),
        };
        let consumer = consumer(config, &format!("{topic}-arrivals"), Client::default())?;
        let metadata = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(failed)?;
        let mut assignment = TopicPartitionList::new();
        for partition in metadata
            .topics()
            .iter()
            .flat_map(|found| found.partitions())
        {
            let (_, end) = consumer
                .fetch_watermarks(topic, partition.id(), PATIENCE)
                .map_err(failed)?;
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Offset(end))
                .map_err(failed)?;
        }
        if assignment.count() == 0 {
            return Err(KafkaError::NoTopic {
                topic: topic.to_string(),
                brokers: config.brokers.clone(),
            });
        }
        consumer.assign(&assignment).map_err(failed)?;
        Ok(Arrivals {
            consumer,
            brokers: config.brokers.clone(),
        })
    }

    /// The timestamp of the next message in milliseconds since 1970; none if none comes within
    /// `wait`.
    ///
    /// # Errors
    /// The topic can no longer be read.
    pub fn next(&self, wait: Duration) -> Result<Option<i64>, KafkaError> {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => Ok(message.timestamp().to_millis()),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::TopicAuthorizationFailed,
                ) => Err(KafkaError::Failed {
                    brokers: self.brokers.clone(),
                    reason: error.to_string(),
                }),
                _ => Ok(None),
            },
            None => Ok(None),
        }
    }
}
