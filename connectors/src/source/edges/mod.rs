//! A source of the samples that edges share on the topic of changes.
//!
//! Each edge's changes are read in the order of its commits and each once, even if messages repeat.
//! Between edges the earlier sample comes first. A replay waits for every edge, so that the same
//! changes give the same stream in whatever order they arrive; live mode waits for none.

mod merge;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::flow::{DeadLetter, EdgeProgress, Effect, SeenIds};
use perennial_operators::{Offsets, TaskDefinition, TaskLevels, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::merge::{BadSample, EdgeMerge, KnownEdges};
use super::Read;
use super::kafka::Limit;
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, ask_by_consumer, consumer};
use crate::link::{Changes, LinkError, ModelStore, fetch, partitions_of};
use crate::schema::Schema;

/// Time to wait for messages at once.
const GLANCE: Duration = Duration::from_millis(20);
/// Bound in bytes on messages that wait for other edges.
const AHEAD: usize = 256 << 20;
/// How long to wait for a model that the store lacks. All edges wait with it, since messages are
/// read in the order of the topic.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time between two attempts to fetch a model.
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of a refused message that its dead letter keeps: few, since it may contain private data.
const CONTENT: usize = 64;

/// A source of what edges share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgesConfig {
    /// End where the topic ends when the run starts, instead of waiting for more.
    pub stop_at_end: bool,
}

/// Parameters of an [`EdgeSource`].
pub struct EdgesOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The edges whose changes are accepted.
    pub listening: KnownEdges,
    /// The store of large models, if there is one.
    pub store: Option<ModelStore>,
    /// Number of earlier samples whose ids are known: a known id is a duplicate.
    pub duplicates_within: usize,
    /// Levels of the task tree.
    pub levels: &'a TaskLevels,
    /// Whether to end where the topic ends when it is opened.
    pub stop_at_end: bool,
    /// Receives the reason while the source waits for a broker.
    pub health: Health,
    /// Set when the source is to stop waiting.
    pub stop: Arc<AtomicBool>,
}

/// Where an [`EdgeSource`] resumes.
#[derive(Clone, Debug, Default)]
pub struct EdgesResume {
    /// Samples read so far, good and bad.
    pub records: u64,
    /// Good ones among them.
    pub samples: u64,
    /// Ids of the latest good ones, oldest first: number of the id, and of its record.
    pub seen: Vec<(u64, u64)>,
    /// Tasks that are defined.
    pub tasks: Vec<TaskDefinition>,
    /// Where reading resumes in the topic.
    pub offsets: Offsets,
    /// Progress of each edge.
    pub edges: BTreeMap<String, EdgeProgress>,
}

/// The state of one partition.
struct PartitionState {
    partition: i32,
    /// Offset of the next message.
    next: i64,
    /// Offset at which reading ends, if it does.
    stop: Option<i64>,
    /// Where a restart resumes, as of the last closed epoch.
    closed: Option<i64>,
}

impl PartitionState {
    /// Whether everything up to `stop` has been read.
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// A message that is trusted, and may wait for its models.
struct PendingMessage {
    changes: Changes,
    size: usize,
    partition: i32,
    offset: i64,
    excerpt: Vec<u8>,
    /// Why models in it were refused.
    refused: Vec<LinkError>,
    /// When to give up on models that the store lacks.
    until: Instant,
    /// When to ask the store again.
    again: Instant,
}

/// A source of the samples that edges share.
pub struct EdgeSource {
    consumer: BaseConsumer<Client>,
    brokers: String,
    topic: Arc<str>,
    partitions: Vec<PartitionState>,
    merge: EdgeMerge,
    store: Option<ModelStore>,
    /// The message that waits for models from the store.
    pending: Option<PendingMessage>,
    health: Health,
    stop: Arc<AtomicBool>,
    position: u64,
    dead_letters: Vec<DeadLetter>,
}

/// What an epoch has beside the samples read in it.
pub struct EdgesClosed {
    /// Where reading resumes, for the partitions that moved.
    pub offsets: Offsets,
    /// Ids of the samples.
    pub seen: SeenIds,
    /// Progress of the edges that moved.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
    /// Statistics and models of edges.
    pub effects: Vec<Effect>,
}

impl EdgeSource {
    /// Opens the topic to resume at `resume`.
    ///
    /// # Errors
    /// No broker answers, the topic does not exist, or the messages to resume at are deleted.
    pub fn open(
        options: EdgesOptions<'_>,
        schema: &Schema,
        resume: &EdgesResume,
    ) -> Result<EdgeSource, KafkaError> {
        let client = Client::new(&options.health);
        let consumer = consumer(options.kafka, options.group, client)?;
        let topic: Arc<str> = options.topic.into();
        let partitions = assign(&consumer, &options, &topic, resume)?;
        let within = options.duplicates_within;
        let mut merge = EdgeMerge::new(options.listening, schema, within, resume);
        merge.check_tasks(options.levels, &resume.tasks);
        Ok(EdgeSource {
            consumer,
            brokers: options.kafka.brokers.clone(),
            topic,
            partitions,
            merge,
            store: options.store,
            pending: None,
            health: options.health,
            stop: options.stop,
            position: resume.records,
            dead_letters: Vec::new(),
        })
    }

    /// Reads samples until a limit is reached.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        let (mut records, mut bytes) = (0, 0);
        let mut is_over = false;
        while records < limit.records && bytes < limit.bytes {
            if let Some(decoded) = self.merge.take_sample() {
                records += 1;
                bytes += 4 * (self.merge.features() + 1);
                let topic = &self.topic;
                let letter = decoded.err().map(|bad| DeadLetter {
                    source: format!("{topic}, edge {}", bad.edge),
                    record: bad.sequence,
                    reason: bad.reason,
                    content: String::new(),
                    message: None,
                });
                self.dead_letters.extend(letter);
                continue;
            }
            is_over = self.partitions.iter().all(PartitionState::is_done);
            if is_over || Instant::now() >= limit.until || self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.poll(limit.until)?;
        }
        self.position += records as u64;
        Ok(Read {
            batch: self.merge.take(),
            dead_letters: std::mem::take(&mut self.dead_letters),
            position: self.position,
            ended: is_over && !self.merge.has_moved() && !self.has_moved(),
        })
    }

    /// Closes an epoch, and returns what it has beside its samples.
    pub fn close_epoch(&mut self) -> EdgesClosed {
        let mut offsets = Offsets::new();
        for state in &mut self.partitions {
            let next = resume_at(&self.merge, state);
            if state.closed.replace(next) != Some(next) {
                let place = TopicPartition {
                    topic: self.topic.clone(),
                    partition: state.partition,
                };
                offsets.insert(place, next);
            }
        }
        let seen = self.merge.take_seen();
        let (effects, edges) = self.merge.close();
        EdgesClosed {
            offsets,
            seen,
            edges,
            effects,
        }
    }

    /// Whether a partition has moved since the last closed epoch, also if only by refused messages.
    fn has_moved(&self) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|state| state.closed != Some(resume_at(&self.merge, state)))
    }

    /// Reads at most one message.
    fn poll(&mut self, until: Instant) -> Result<(), KafkaError> {
        let waiting = self.merge.bytes();
        if waiting > AHEAD {
            let silent = self.merge.silent().unwrap_or_default();
            return Err(self.failed(&format!(
                "edge \"{silent}\" has sent nothing while others sent {waiting} bytes: a replay waits for every edge of \
                 link.edges; remove it there, or set mode: live"
            )));
        }
        let left = until.saturating_duration_since(Instant::now());
        if let Some(message) = self.pending.take() {
            if Instant::now() < message.again {
                std::thread::sleep(left.min(GLANCE));
                self.pending = Some(message);
            } else {
                self.accept(message);
            }
            return Ok(());
        }
        self.receive(left.min(GLANCE))
    }

    /// Waits for a message, and checks and accepts it.
    fn receive(&mut self, wait: Duration) -> Result<(), KafkaError> {
        let message = match self.consumer.poll(wait) {
            None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(partition))) => {
                // The last offsets before the end can be transaction markers and no messages.
                for state in &mut self.partitions {
                    if let (true, Some(stop)) = (state.partition == partition, state.stop) {
                        state.next = state.next.max(stop);
                    }
                }
                return Ok(());
            }
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                return Err(self.failed(&code));
            }
            Some(Err(error)) => {
                self.health.report_waiting(&error.to_string());
                return Ok(());
            }
        };
        self.health.report_well();
        let (partition, offset) = (message.partition(), message.offset());
        let (key, value) = (message.key().unwrap_or_default(), message.payload());
        let opened = self.merge.open(key, value);
        let value = value.unwrap_or_default();
        let (size, excerpt) = (value.len(), value[..value.len().min(CONTENT)].to_vec());
        drop(message);
        match opened {
            Ok(changes) => self.accept(PendingMessage {
                changes,
                size,
                partition,
                offset,
                excerpt,
                refused: Vec::new(),
                until: Instant::now() + PATIENCE,
                again: Instant::now(),
            }),
            Err(refused) => {
                self.advance(partition, offset);
                self.refuse(&refused, partition, offset, &excerpt);
            }
        }
        Ok(())
    }

    /// Adds a message to the merge, or keeps it while models are missing.
    fn accept(&mut self, mut message: PendingMessage) {
        let is_late = Instant::now() >= message.until;
        if let Some(missing) = fetch_models(self.store.as_ref(), &mut message, is_late) {
            tracing::warn!("waiting for a model of an edge: {missing}");
            message.again = Instant::now() + PAUSE;
            self.pending = Some(message);
            return;
        }
        let (partition, offset) = (message.partition, message.offset);
        self.advance(partition, offset);
        for refused in &message.refused {
            self.refuse(refused, partition, offset, &message.excerpt);
        }
        let pushed = (self.merge).push(message.changes, message.size, partition, offset);
        if let Err(refused) = pushed {
            self.refuse(&refused, partition, offset, &message.excerpt);
        }
    }

    /// Moves the partition behind a message.
    fn advance(&mut self, partition: i32, offset: i64) {
        for state in &mut self.partitions {
            if state.partition == partition {
                state.next = state.next.max(offset + 1);
            }
        }
    }

    /// Turns a refused message, or a message with a refused model, into a dead letter.
    fn refuse(&mut self, refused: &LinkError, partition: i32, offset: i64, excerpt: &[u8]) {
        let topic = &self.topic;
        tracing::warn!(
            %topic,
            partition,
            offset,
            "refused a message of an edge, or a model in it: {refused}"
        );
        self.dead_letters.push(DeadLetter {
            source: format!("{topic}[{partition}]"),
            record: offset.max(0) as u64,
            reason: refused.to_string(),
            content: String::from_utf8_lossy(excerpt).into_owned(),
            message: None,
        });
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: reason.to_string(),
        }
    }
}

/// Fetches the models of a message and drops refused ones. Returns why some are still missing; if
/// the message `is_late`, missing ones are refused.
fn fetch_models(
    store: Option<&ModelStore>,
    message: &mut PendingMessage,
    is_late: bool,
) -> Option<LinkError> {
    let mut missing = None;
    for (_, change) in &mut message.changes.changes {
        change
            .models
            .retain_mut(|donation| match fetch(store, &mut donation.model) {
                Ok(()) => true,
                Err(error) if error.is_transient() && !is_late => {
                    missing = Some(error);
                    true
                }
                Err(error) => {
                    message.refused.push(error);
                    false
                }
            });
    }
    missing
}

/// Where a restart resumes in a partition: at the first waiting message.
fn resume_at(merge: &EdgeMerge, state: &PartitionState) -> i64 {
    merge.first_offset(state.partition).unwrap_or(state.next)
}

/// Assigns all partitions to the consumer.
fn assign(
    consumer: &BaseConsumer<Client>,
    options: &EdgesOptions<'_>,
    topic: &Arc<str>,
    resume: &EdgesResume,
) -> Result<Vec<PartitionState>, KafkaError> {
    let failed = |error: ClientError| KafkaError::Failed {
        brokers: options.kafka.brokers.clone(),
        reason: error.to_string(),
    };
    let mut assignment = TopicPartitionList::new();
    let mut partitions = Vec::new();
    for partition in 0..partitions_of(consumer, options.kafka, topic)? {
        let (low, high) = ask_by_consumer(consumer, options.kafka, |patience| {
            consumer.fetch_watermarks(topic, partition, patience)
        })?;
        let place = TopicPartition {
            topic: topic.clone(),
            partition,
        };
        let resumed = resume.offsets.get(&place).copied();
        let offset = resumed.unwrap_or(low);
        if !(low..=high).contains(&offset) {
            return Err(KafkaError::Gone {
                topic: topic.to_string(),
                partition,
                offset,
                low,
                high,
            });
        }
        let added = assignment.add_partition_offset(topic, partition, Offset::Offset(offset));
        added.map_err(failed)?;
        partitions.push(PartitionState {
            partition,
            next: offset,
            stop: options.stop_at_end.then_some(high),
            closed: resumed,
        });
    }
    consumer.assign(&assignment).map_err(failed)?;
    Ok(partitions)
}
