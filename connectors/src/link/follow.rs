//! Following: an edge's end of the link.

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use perennial_operators::TaskId;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{LinkError, Published, open};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, ask_by_consumer, consumer};

/// Reads what the cloud publishes, from the beginning: the topic keeps the latest of each task.
pub struct Follower {
    consumer: BaseConsumer<Client>,
    topic: String,
    key: VerifyingKey,
    schema: String,
    /// Names of tasks that are wanted, with all above and below them; all are if there are none.
    subscribed: Vec<String>,
    /// The revision of each task that is known.
    known: BTreeMap<TaskId, u64>,
    /// Partitions that have been read to their ends.
    ended: usize,
    partitions: usize,
}

/// What was read.
#[derive(Debug)]
pub enum Followed {
    /// Something about a task.
    Task(Box<Published>),
    /// All that there is by now.
    UpToDate,
    /// Nothing in that time.
    Nothing,
}

impl Follower {
    /// Connects. `known` are the revisions of tasks that are known already.
    ///
    /// # Errors
    /// No broker answers, or the topic is not there.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &str,
        key: VerifyingKey,
        schema: String,
        subscribed: Vec<String>,
        known: BTreeMap<TaskId, u64>,
        health: &Health,
    ) -> Result<Follower, KafkaError> {
        let client = Client::new(health);
        // It belongs to no group: where to go on is known from what is known.
        let consumer = consumer(kafka, "perennial-link", client)?;
        let metadata = ask_by_consumer(&consumer, kafka, |patience| {
            consumer.client().fetch_metadata(Some(topic), patience)
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        if partitions == 0 {
            return Err(KafkaError::NoTopic {
                topic: topic.to_string(),
                brokers: kafka.brokers.clone(),
            });
        }
        let mut assigned = TopicPartitionList::new();
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: kafka.brokers.clone(),
            reason: error.to_string(),
        };
        for partition in 0..partitions as i32 {
            let added = assigned.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(failed)?;
        }
        consumer.assign(&assigned).map_err(failed)?;
        Ok(Follower {
            consumer,
            topic: topic.to_string(),
            key,
            schema,
            subscribed,
            known,
            ended: 0,
            partitions,
        })
    }

    /// The next thing that is new. What cannot be trusted or understood is told and left out: the edge goes on with what it
    /// has.
    pub fn next(&mut self, patience: Duration) -> Followed {
        let message = match self.consumer.poll(patience) {
            None => return Followed::Nothing,
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(_))) => {
                self.ended += 1;
                return match self.ended >= self.partitions {
                    true => Followed::UpToDate,
                    false => Followed::Nothing,
                };
            }
            Some(Err(error)) => {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
                    tracing::warn!(topic = self.topic, %error, "the cloud is not heard");
                }
                return Followed::Nothing;
            }
        };
        let (offset, key) = (message.offset(), message.key().unwrap_or_default().to_vec());
        let Some(value) = message.payload().map(<[u8]>::to_vec) else {
            return Followed::Nothing;
        };
        drop(message);
        match self.check(&key, &value) {
            Ok(Some(published)) => Followed::Task(Box::new(published)),
            Ok(None) => Followed::Nothing,
            Err(refused) => {
                let topic = &self.topic;
                tracing::warn!(
                    topic,
                    offset,
                    "a message of the cloud is refused: {refused}"
                );
                Followed::Nothing
            }
        }
    }

    /// What a message says, if it is new and wanted.
    fn check(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Published>, LinkError> {
        let published: Published = open(value, &self.key)?;
        let task = published.path.last().ok_or(LinkError::Torn)?.task;
        if key != task.to_string().as_bytes() {
            return Err(LinkError::Key);
        }
        if published.schema != self.schema {
            return Err(LinkError::Schema);
        }
        if let Some(model) = &published.model
            && (model.model.task != task
                || blake3::hash(&model.onnx).to_hex().as_str() != model.trained.hash)
        {
            return Err(LinkError::Hash);
        }
        let found = published.revision;
        match self.known.get(&task) {
            Some(known) if *known == found => return Ok(None),
            Some(known) if *known > found => {
                return Err(LinkError::Old {
                    found,
                    known: *known,
                });
            }
            _ => {}
        }
        if !self.is_wanted(&published) {
            return Ok(None);
        }
        self.known.insert(task, found);
        Ok(Some(published))
    }

    fn is_wanted(&self, published: &Published) -> bool {
        let Some(task) = published.path.last() else {
            return false;
        };
        let above = |wanted: &str| {
            let begins = wanted.strip_prefix(&*task.name);
            begins.is_some_and(|rest| rest.is_empty() || rest.starts_with(" > "))
        };
        let below = |wanted: &str| published.path.iter().any(|node| &*node.name == wanted);
        let is_wanted = |wanted: &String| below(wanted) || above(wanted);
        let is_base = published.path.len() == 1;
        is_base || self.subscribed.is_empty() || self.subscribed.iter().any(is_wanted)
    }
}
