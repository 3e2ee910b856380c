//! The subscriber, by which an edge receives what the cloud publishes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use perennial_operators::TaskId;
use perennial_operators::flow::Revision;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::topic::partitions_of;
use super::{EdgeNotice, LinkError, ModelStore, Published, fetch, now, open};
use crate::kafka::{
    Client, KafkaConfig, KafkaError, OutageCount, TopicWatch, consumer, is_lost, remind,
};

/// Bound on the difference between clocks, microseconds (an hour).
const CLOCK_SKEW: i64 = 3_600_000_000;

/// Time between two attempts to fetch a model.
const PAUSE: Duration = Duration::from_secs(2);

/// A subscription of an edge, with the revisions that it knows.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The cloud's key.
    pub key: VerifyingKey,
    /// The [`schema_hash`](super::schema_hash) of the edge's samples.
    pub schema: String,
    /// Names of wanted tasks, each with all tasks above and below it; empty for all.
    pub subscribed: Vec<String>,
    /// Name of the edge.
    pub edge: String,
    /// Whether it wants models that other edges have trained.
    pub takes_donations: bool,
    /// The known revisions, by task and number of the donor's name, as in
    /// [`View::revisions`](crate::knowledge_base::View::revisions).
    pub known: BTreeMap<(TaskId, u64), Revision>,
}

/// Models that were fetched from the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchedModels {
    /// Number of models.
    pub models: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A reader of the cloud's topic from its start; the topic keeps the latest message of each task.
pub struct Subscriber {
    consumer: BaseConsumer<Client>,
    following: Subscription,
    store: Option<ModelStore>,
    /// Messages whose models were not fetched yet: the topic was not read to its end by then, and
    /// may have later ones, or the store did not return them.
    waiting: VecDeque<Box<Published>>,
    /// Time of the last failed attempt to fetch a model.
    asked: Option<Instant>,
    /// Models that were fetched.
    fetched: FetchedModels,
    /// The latest time at which an accepted message was sent, by the cloud's clock.
    latest: i64,
    /// Failures to get messages, and to fetch models.
    outages: (OutageCount, OutageCount),
    /// Whether a message was refused for its time alone.
    is_early: bool,
    /// Partitions that have not been read to their ends yet.
    unread: BTreeSet<i32>,
    watch: TopicWatch,
    /// Why nothing more may come, if so.
    lost: Option<String>,
}

impl Subscriber {
    /// Connects; gives up soon after `is_over` becomes true.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn open(
        kafka: &KafkaConfig,
        following: Subscription,
        store: Option<ModelStore>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Subscriber, KafkaError> {
        let client = Client::default();
        // Nothing is committed to the group: known revisions are skipped instead.
        let consumer = consumer(kafka, "perennial-link", client)?;
        let partitions = partitions_of(&consumer, kafka, &following.topic, is_over)?;
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
            watch: TopicWatch::of_topic(&following.topic, partitions),
            lost: None,
            following,
            store,
            waiting: VecDeque::new(),
            asked: None,
            fetched: FetchedModels::default(),
            latest: i64::MIN,
            outages: Default::default(),
            is_early: false,
            unread: (0..partitions).collect(),
        })
    }

    /// The next new message. A message that cannot be trusted or understood is logged and left out,
    /// so that the edge continues with what it has.
    pub fn next(&mut self, patience: Duration) -> Option<Box<Published>> {
        let may_ask = self.asked.is_none_or(|asked| asked.elapsed() > PAUSE);
        if self.unread.is_empty()
            && may_ask
            && let Some(waiting) = self.waiting.pop_front()
        {
            let fetched = self.fetch_model(waiting);
            if fetched.is_some() {
                self.outages.1.ends("models are fetched");
                return fetched;
            }
        }
        remind(self.consumer.client());
        if let Some(lost) = self.watch.look(&self.consumer) {
            self.lost = Some(lost.reason);
            return None;
        }
        let topic = &self.following.topic;
        let message = match self.consumer.poll(patience) {
            None => return None,
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(partition))) => {
                self.watch.heard(partition as usize);
                self.unread.remove(&partition);
                return None;
            }
            Some(Err(error)) if is_lost(&error) => {
                self.lost = Some(error.to_string());
                return None;
            }
            Some(Err(error)) => {
                if self.outages.0.begins() {
                    tracing::warn!(topic, %error, "no messages from the cloud");
                }
                return None;
            }
        };
        self.watch.heard(message.partition() as usize);
        self.outages.0.ends("messages come from the cloud");
        let (offset, key) = (message.offset(), message.key().unwrap_or_default().to_vec());
        let Some(value) = message.payload().map(<[u8]>::to_vec) else {
            // The cloud has forgotten what it is about.
            self.waiting
                .retain(|waiting| waiting.key().as_bytes() != key);
            return None;
        };
        drop(message);
        match self.following.check(&key, &value, self.latest, now()) {
            Ok(published) => {
                let published = published?;
                self.latest = self.latest.max(published.sent);
                // It replaces an earlier message that still waits for its model.
                let subject = published.subject();
                self.waiting.retain(|waiting| waiting.subject() != subject);
                self.fetch_model(Box::new(published))
            }
            // An earlier message that is not compacted away yet.
            Err(LinkError::Old) if !self.unread.is_empty() => None,
            Err(refused) => {
                self.is_early |= matches!(refused, LinkError::Clock(_));
                let topic = &self.following.topic;
                tracing::warn!(topic, offset, "refused a message of the cloud: {refused}");
                None
            }
        }
    }

    /// Whether a message was refused for its time alone: a device's clock may be set long after its
    /// start. A subscriber that is opened later reads the message again.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Why nothing more may come, if so: the topic was deleted, made anew, or is no longer fetched.
    /// A subscriber that is opened later reads it from its start.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The models that were fetched from the store so far.
    pub fn fetched(&self) -> FetchedModels {
        self.fetched
    }

    /// Fetches the model of a message, or keeps the message for a later attempt.
    fn fetch_model(&mut self, mut published: Box<Published>) -> Option<Box<Published>> {
        let task = published.task();
        let Some(model) = published.model.as_mut().filter(|model| model.is_stored) else {
            return Some(published);
        };
        if !self.unread.is_empty() {
            self.waiting.push_back(published);
            return None;
        }
        match fetch(self.store.as_ref(), model) {
            Ok(()) => {
                let bytes = model.onnx.len() as u64;
                self.fetched.models += 1;
                self.fetched.bytes += bytes;
                tracing::info!(%task, bytes, "fetched a model of the cloud");
                Some(published)
            }
            Err(error) if error.is_transient() => {
                if self.outages.1.begins() {
                    tracing::warn!("cannot fetch a model of the cloud; retrying: {error}");
                }
                self.asked = Some(Instant::now());
                self.waiting.push_back(published);
                None
            }
            Err(refused) => {
                tracing::warn!("refused a model of the cloud: {refused}");
                None
            }
        }
    }
}

impl Subscription {
    /// Checks a message, and returns it if it is new and wanted. `latest` is the latest time at
    /// which an earlier message was sent, by the cloud's clock, and `now` the time at the edge.
    ///
    /// # Errors
    /// The message cannot be trusted or understood, or is older than a known one.
    pub fn check(
        &mut self,
        key: &[u8],
        value: &[u8],
        latest: i64,
        now: i64,
    ) -> Result<Option<Published>, LinkError> {
        if EdgeNotice::has_key(key) {
            let notice: EdgeNotice = open(value, &self.key, "the cloud")?;
            if notice.edge == self.edge {
                notice.log();
            }
            return Ok(None);
        }
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
            // The task does not matter, since the edge tries the model on its own tasks.
            return self.takes_donations && *donor != self.edge;
        }
        if !published.audience.is_empty() && !published.audience.contains(&self.edge) {
            return false;
        }
        let above = |wanted: &str| {
            let rest = wanted.strip_prefix(&*task.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" > "))
        };
        let below = |wanted: &str| published.path.iter().any(|node| &*node.name == wanted);
        let is_wanted = |wanted: &String| below(wanted) || above(wanted);
        let is_base = published.path.len() == 1;
        is_base || self.subscribed.is_empty() || self.subscribed.iter().any(is_wanted)
    }
}

/// Checks the time at which a message was sent: not after `now`, and not long before earlier
/// messages.
fn check_clock(sent: i64, latest: i64, now: i64) -> Result<(), LinkError> {
    let hours = |micros: i64| micros as f64 / CLOCK_SKEW as f64;
    if sent > now.saturating_add(CLOCK_SKEW) {
        let ahead = hours(sent - now);
        return Err(LinkError::Clock(format!("{ahead:.1} hours from now")));
    }
    if sent < latest.saturating_sub(CLOCK_SKEW) {
        let behind = hours(latest.saturating_sub(sent));
        return Err(LinkError::Clock(format!(
            "{behind:.1} hours before what came before it"
        )));
    }
    Ok(())
}
