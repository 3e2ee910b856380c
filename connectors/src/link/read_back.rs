//! Reading back: the revisions that a cloud finds on its topic when it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use perennial_operators::TaskId;
use perennial_operators::flow::Revision;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::topic::partitions_of;
use super::{Published, open};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, consumer, remind};

/// Time of one wait for a message.
const GLANCE: Duration = Duration::from_millis(100);
/// Bound on the reading at the end of a run.
const LAST: Duration = Duration::from_secs(5);

/// Revisions on the cloud's topic.
#[derive(Clone, Debug, Default)]
pub struct PublishedRevisions {
    /// The revision of the last message about each task, by task and number of the donor's name,
    /// if it is for all edges.
    pub last: BTreeMap<(TaskId, u64), Revision>,
    /// The latest revision of all.
    pub latest: Revision,
    /// All messages by their keys: of each its subject and revision.
    pub messages: BTreeMap<String, ((TaskId, u64), Revision)>,
}

impl PublishedRevisions {
    /// Adds a message of the topic, or its removal. One that is not of the cloud is left out.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>, verifying: &VerifyingKey) {
        let key = String::from_utf8_lossy(key).into_owned();
        let Some(value) = value else {
            if let Some((subject, _)) = self.messages.remove(&key) {
                self.last.remove(&subject);
            }
            return;
        };
        let Ok(published) = open::<Published>(value, verifying, "the cloud") else {
            return;
        };
        self.latest = self.latest.max(published.revision);
        let subject = published.subject();
        if published.audience.is_empty() {
            self.last.insert(subject, published.revision);
        } else {
            self.last.remove(&subject);
        }
        self.messages.insert(key, (subject, published.revision));
    }

    /// Reads the topic from its start to its end. None if that takes long after the end of the run
    /// (`is_over`).
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn read(
        kafka: &KafkaConfig,
        topic: &str,
        key: &VerifyingKey,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<PublishedRevisions>, KafkaError> {
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: kafka.brokers.clone(),
            reason: error.to_string(),
        };
        let consumer: BaseConsumer<Client> =
            consumer(kafka, "perennial-link", Client::new(&Health::default()))?;
        let partitions = partitions_of(&consumer, kafka, topic, is_over)?;
        let mut assigned = TopicPartitionList::new();
        for partition in 0..partitions {
            let added = assigned.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(failed)?;
        }
        consumer.assign(&assigned).map_err(failed)?;
        let (mut found, mut ended) = (PublishedRevisions::default(), BTreeSet::new());
        let began = Instant::now();
        while ended.len() < partitions as usize {
            if is_over() && began.elapsed() > LAST {
                return Ok(None);
            }
            match consumer.poll(GLANCE) {
                Some(Ok(message)) => {
                    found.add(message.key().unwrap_or_default(), message.payload(), key);
                }
                Some(Err(ClientError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(ClientError::MessageConsumption(
                    RDKafkaErrorCode::TopicAuthorizationFailed,
                ))) => {
                    tracing::warn!(
                        topic,
                        "cannot read what was published, and so not notice that the state was \
                         restored: give the cloud's user the right to read the topic"
                    );
                    return Ok(Some(found));
                }
                Some(Err(error)) => return Err(failed(error)),
                None => remind(consumer.client()),
            }
        }
        Ok(Some(found))
    }
}
