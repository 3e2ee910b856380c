//! Following: an edge's end of what goes down.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use perennial_operators::TaskId;
use perennial_operators::flow::Revision;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::topic::partitions_of;
use super::{LinkError, ModelStore, Published, bring, now, open};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, consumer};

/// Clocks may be so far apart, microseconds.
const APART: i64 = 3_600_000_000;

/// How long to wait before a store is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// What an edge follows.
#[derive(Clone, Debug)]
pub struct Following {
    /// The topic.
    pub topic: String,
    /// The cloud's key.
    pub key: VerifyingKey,
    /// The schema of the edge's samples; see [`schema_hash`](super::schema_hash).
    pub schema: String,
    /// Names of tasks that are wanted, with all above and below them; all are if there are none.
    pub subscribed: Vec<String>,
    /// The edge's own name.
    pub edge: String,
    /// Whether it takes models that others have trained.
    pub takes_donations: bool,
    /// The revisions that are known; see [`View::followed`](crate::knowledge_base::View::followed).
    pub known: BTreeMap<(TaskId, u64), Revision>,
}

/// Reads what the cloud publishes, from the beginning: the topic keeps the latest of each task.
pub struct Subscriber {
    consumer: BaseConsumer<Client>,
    following: Following,
    store: Option<ModelStore>,
    /// What is wanted, while models are still to be had from the store; when one was asked for last.
    waiting: VecDeque<Box<Published>>,
    asked: Instant,
    /// When the latest of what was taken in was sent, by the cloud's clock.
    latest: i64,
    /// Whether something was refused that may be taken once a clock is right.
    is_early: bool,
    /// Partitions that have been read to their ends.
    ended: i32,
    partitions: i32,
}

impl Subscriber {
    /// Connects.
    ///
    /// # Errors
    /// No broker answers, or the topic is not there.
    pub fn open(
        kafka: &KafkaConfig,
        following: Following,
        store: Option<ModelStore>,
        health: &Health,
    ) -> Result<Subscriber, KafkaError> {
        let client = Client::new(health);
        // It belongs to no group: where to go on is known from what is known.
        let consumer = consumer(kafka, "perennial-link", client)?;
        let partitions = partitions_of(&consumer, kafka, &following.topic)?;
        let mut assigned = TopicPartitionList::new();
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: kafka.brokers.clone(),
            reason: error.to_string(),
        };
        for partition in 0..partitions {
            let topic = &following.topic;
            let added = assigned.add_partition_offset(topic, partition, Offset::Beginning);
            added.map_err(failed)?;
        }
        consumer.assign(&assigned).map_err(failed)?;
        Ok(Subscriber {
            consumer,
            following,
            store,
            waiting: VecDeque::new(),
            asked: Instant::now(),
            latest: i64::MIN,
            is_early: false,
            ended: 0,
            partitions,
        })
    }

    /// The next thing that is new. What cannot be trusted or understood is told and left out: the edge goes on with what it
    /// has.
    pub fn next(&mut self, patience: Duration) -> Option<Box<Published>> {
        if self.asked.elapsed() > PAUSE
            && let Some(waiting) = self.waiting.pop_front()
        {
            let brought = self.bring(waiting);
            if brought.is_some() {
                return brought;
            }
        }
        let topic = &self.following.topic;
        let message = match self.consumer.poll(patience) {
            None => return None,
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(_))) => {
                self.ended += 1;
                return None;
            }
            Some(Err(error)) => {
                tracing::warn!(topic, %error, "the cloud is not heard");
                return None;
            }
        };
        let (offset, key) = (message.offset(), message.key().unwrap_or_default().to_vec());
        let value = message.payload()?.to_vec();
        drop(message);
        match self.following.check(&key, &value, self.latest, now()) {
            Ok(published) => {
                let published = published?;
                self.latest = self.latest.max(published.sent);
                // It takes the place of what was to be had before.
                let subject = published.subject();
                self.waiting.retain(|waiting| waiting.subject() != subject);
                self.bring(Box::new(published))
            }
            // What the topic had before, and has not been compacted away yet.
            Err(LinkError::Old) if self.ended < self.partitions => None,
            Err(refused) => {
                self.is_early |= matches!(refused, LinkError::Clock(_));
                let topic = &self.following.topic;
                tracing::warn!(
                    topic,
                    offset,
                    "a message of the cloud is refused: {refused}"
                );
                None
            }
        }
    }
}

impl Subscriber {
    /// Whether something was refused for its time alone: a device's clock may be set long after it has begun. A follower that is
    /// opened later reads it again.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Brings the model, or waits until it can be had.
    fn bring(&mut self, mut published: Box<Published>) -> Option<Box<Published>> {
        let model = published.model.as_mut();
        match model.map_or(Ok(()), |model| bring(self.store.as_ref(), model)) {
            Ok(()) => Some(published),
            Err(error @ LinkError::Store { .. }) => {
                tracing::warn!("a model cannot be had yet, and is asked for again: {error}");
                self.asked = Instant::now();
                self.waiting.push_back(published);
                None
            }
            Err(refused) => {
                tracing::warn!("a model of the cloud is refused: {refused}");
                None
            }
        }
    }
}

impl Following {
    /// What a message says, if it is new and wanted; `latest` is when the latest of those before was sent, by the cloud's
    /// clock, and `now` the time here.
    ///
    /// # Errors
    /// It cannot be trusted or understood, or is older than what is known.
    pub fn check(
        &mut self,
        key: &[u8],
        value: &[u8],
        latest: i64,
        now: i64,
    ) -> Result<Option<Published>, LinkError> {
        let published: Published = open(value, &self.key, "the cloud")?;
        let task = published.path.last().ok_or(LinkError::Torn)?.task;
        if key != published.key().as_bytes() {
            return Err(LinkError::Key);
        }
        if published.schema != self.schema {
            return Err(LinkError::Schema);
        }
        let model = published.model.as_ref();
        if model.is_some_and(|model| !model.is_of(task)) {
            return Err(LinkError::Hash);
        }
        let found = published.revision;
        let subject = published.subject();
        match self.known.get(&subject) {
            Some(known) if *known == found => return Ok(None),
            Some(known) if *known > found => return Err(LinkError::Old),
            _ => {}
        }
        check_clock(published.sent, latest, now)?;
        if !self.is_wanted(&published) {
            return Ok(None);
        }
        self.known.insert(subject, found);
        Ok(Some(published))
    }

    fn is_wanted(&self, published: &Published) -> bool {
        let Some(task) = published.path.last() else {
            return false;
        };
        if let Some(donor) = &published.donor {
            // Whose task it is does not matter: it is tried on the edge's own.
            return self.takes_donations && *donor != self.edge;
        }
        if !published.audience.is_empty() && !published.audience.contains(&self.edge) {
            return false;
        }
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

/// Whether something can have been sent when it says: not later than now, and not long before what came before it.
fn check_clock(sent: i64, latest: i64, now: i64) -> Result<(), LinkError> {
    let hours = |micros: i64| micros as f64 / APART as f64;
    if sent > now.saturating_add(APART) {
        let ahead = hours(sent - now);
        return Err(LinkError::Clock(format!("{ahead:.1} hours from now")));
    }
    if sent < latest.saturating_sub(APART) {
        let behind = hours(latest.saturating_sub(sent));
        return Err(LinkError::Clock(format!(
            "{behind:.1} hours before what came before it"
        )));
    }
    Ok(())
}
