//! The consumer of a merge, with a queue for each partition.

use std::sync::Arc;

use perennial_operators::TopicPartition;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::ready::Signals;
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, queued_consumer};

/// A maker of consumers, the first one and those after partitions were lost: librdkafka can fetch
/// nothing more of a topic that was made anew, even if its partitions are assigned again.
pub(super) struct Connector {
    pub(super) kafka: KafkaConfig,
    pub(super) group: String,
    pub(super) health: Health,
}

/// A consumer, and the queues of its partitions in the order in which they were given.
pub(super) type Connection = (Arc<BaseConsumer<Client>>, Vec<PartitionQueue<Client>>);

impl Connector {
    /// Makes a consumer that reads partitions from these offsets on, and reports their records by
    /// `signals`.
    pub(super) fn connect(
        &self,
        places: &[(TopicPartition, i64)],
        signals: &Arc<Signals>,
    ) -> Result<Connection, KafkaError> {
        let client = Client::new(&self.health);
        let consumer = queued_consumer(&self.kafka, &self.group, client, places.len())?;
        let consumer = Arc::new(consumer);
        let mut assignment = TopicPartitionList::with_capacity(places.len());
        let mut queues = Vec::with_capacity(places.len());
        for (index, (place, offset)) in places.iter().enumerate() {
            let (topic, partition) = (&*place.topic, place.partition);
            assignment
                .add_partition_offset(topic, partition, Offset::Offset(*offset))
                .map_err(|error| self.failed(&error))?;
            let Some(mut queue) = consumer.split_partition_queue(topic, partition) else {
                return Err(self.failed(&format!("there is no partition {partition} of {topic}")));
            };
            let signals = signals.clone();
            queue.set_nonempty_callback(move || signals.report(index));
            queues.push(queue);
        }
        // After all queues are split: earlier records would go to the consumer's own queue.
        consumer
            .assign(&assignment)
            .map_err(|error| self.failed(&error))?;
        Ok((consumer, queues))
    }

    pub(super) fn failed(&self, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.kafka.brokers.clone(),
            reason: error.to_string(),
        }
    }
}
