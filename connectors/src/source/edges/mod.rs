//! Samples that edges share, from the topic that they send changes to.
//!
//! Each edge's changes are taken in the order in which it committed them, each once, whatever comes twice. Between edges the earlier
//! sample goes first: in replay, every edge is waited for, so that the same changes give the same stream however they came; live,
//! nobody is.

mod merge;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::flow::{DeadLetter, EdgeProgress, Effect};
use perennial_operators::{Offsets, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::merge::{BadSample, EdgeMerge, Listening};
use super::Read;
use super::kafka::Limit;
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, ask_by_consumer, consumer};
use crate::link::{Changes, LinkError, ModelStore, bring, partitions_of};
use crate::schema::Schema;

/// How long to wait for messages at a time.
const GLANCE: Duration = Duration::from_millis(20);
/// What messages may take that wait for those of other edges.
const AHEAD: usize = 256 << 20;
/// How long a store may take to have a model, and how long to wait before it is asked again. All edges wait meanwhile: the order
/// in which what they share is taken in is that of the topic.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(2);
/// How much of a refused message its dead letter keeps, in bytes: it may hold what is nobody's business.
const CONTENT: usize = 64;

/// What edges share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgesConfig {
    /// End at what is the end of the topic when the run starts, instead of waiting for more.
    pub stop_at_end: bool,
}

/// What a source of edges is made of.
pub struct EdgesOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Whose changes are taken in.
    pub listening: Listening,
    /// Where large models are, if anywhere.
    pub store: Option<ModelStore>,
    /// An id is a duplicate if one of so many before was the same.
    pub duplicates_within: usize,
    /// Whether to end at what is the end when it is opened.
    pub stop_at_end: bool,
    /// Is told when a broker is waited for.
    pub health: Health,
    /// Set when nothing is to be waited for any more.
    pub stop: Arc<AtomicBool>,
}

/// Where to go on.
#[derive(Clone, Debug, Default)]
pub struct EdgesResume {
    /// Samples that were read before, good and bad.
    pub records: u64,
    /// Good ones among them.
    pub samples: u64,
    /// Where to read on in the topic.
    pub offsets: Offsets,
    /// How far what edges share was taken in.
    pub edges: BTreeMap<String, EdgeProgress>,
}

/// A partition of the topic.
struct Lane {
    partition: i32,
    /// The offset of the message to read next.
    next: i64,
    /// Where reading stops, if it does.
    stop: Option<i64>,
    /// Where a restart goes on, as it was last told.
    closed: Option<i64>,
}

impl Lane {
    /// Whether all that there was has been read.
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// A message that is believed.
struct Held {
    changes: Changes,
    size: usize,
    partition: i32,
    offset: i64,
    excerpt: Vec<u8>,
    /// Why models in it were left out.
    refused: Vec<LinkError>,
    /// Until when a store may have its models, and when it is asked again.
    until: Instant,
    again: Instant,
}

/// The source.
pub struct EdgeSource {
    consumer: BaseConsumer<Client>,
    brokers: String,
    topic: Arc<str>,
    lanes: Vec<Lane>,
    merge: EdgeMerge,
    store: Option<ModelStore>,
    /// A message whose models are still to be had from the store.
    held: Option<Held>,
    health: Health,
    stop: Arc<AtomicBool>,
    position: u64,
    dead_letters: Vec<DeadLetter>,
}

/// What belongs to an epoch beside the samples read in it.
pub struct EdgesClosed {
    /// Where reading goes on, for the partitions that it moved on in.
    pub offsets: Offsets,
    /// How far what edges share was taken in, for those of which something was.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
    /// How they did, and models of theirs.
    pub effects: Vec<Effect>,
}

impl EdgeSource {
    /// Opens the topic, to go on at `resume`.
    ///
    /// # Errors
    /// No broker answers, the topic is not there, or messages to go on with are gone.
    pub fn open(
        options: EdgesOptions<'_>,
        schema: &Schema,
        resume: &EdgesResume,
    ) -> Result<EdgeSource, KafkaError> {
        let client = Client::new(&options.health);
        let consumer = consumer(options.kafka, options.group, client)?;
        let topic: Arc<str> = options.topic.into();
        let lanes = lanes(&consumer, &options, &topic, resume)?;
        let (within, samples) = (options.duplicates_within, resume.samples);
        Ok(EdgeSource {
            consumer,
            brokers: options.kafka.brokers.clone(),
            topic,
            lanes,
            merge: EdgeMerge::new(options.listening, schema, within, samples, &resume.edges),
            store: options.store,
            held: None,
            health: options.health,
            stop: options.stop,
            position: resume.records,
            dead_letters: Vec::new(),
        })
    }

    /// Takes samples until a limit is reached.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        let (mut records, mut bytes) = (0, 0);
        let mut is_over = false;
        while records < limit.records && bytes < limit.bytes {
            if let Some(taken) = self.merge.take_sample() {
                records += 1;
                bytes += 4 * (self.merge.features() + 1);
                let topic = &self.topic;
                let letter = taken.err().map(|bad| DeadLetter {
                    source: format!("{topic}, edge {}", bad.edge),
                    record: bad.sequence,
                    reason: bad.reason,
                    content: String::new(),
                    message: None,
                });
                self.dead_letters.extend(letter);
                continue;
            }
            is_over = self.lanes.iter().all(Lane::is_done);
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

    /// Ends an epoch: what else belongs to it.
    pub fn close_epoch(&mut self) -> EdgesClosed {
        let mut offsets = Offsets::new();
        for lane in &mut self.lanes {
            let next = resume_at(&self.merge, lane);
            if lane.closed.replace(next) != Some(next) {
                let place = TopicPartition {
                    topic: self.topic.clone(),
                    partition: lane.partition,
                };
                offsets.insert(place, next);
            }
        }
        let (effects, edges) = self.merge.close();
        EdgesClosed {
            offsets,
            edges,
            effects,
        }
    }

    /// Whether a partition has moved on since the last epoch was closed, be it over a message that was refused.
    fn has_moved(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.closed != Some(resume_at(&self.merge, lane)))
    }

    /// Takes in what has come.
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
        if let Some(held) = self.held.take() {
            if Instant::now() < held.again {
                std::thread::sleep(left.min(GLANCE));
                self.held = Some(held);
            } else {
                self.take_in(held);
            }
            return Ok(());
        }
        let message = match self.consumer.poll(left.min(GLANCE)) {
            None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(partition))) => {
                // What is missing up to the end are no messages but marks of transactions.
                for lane in &mut self.lanes {
                    if let (true, Some(stop)) = (lane.partition == partition, lane.stop) {
                        lane.next = lane.next.max(stop);
                    }
                }
                return Ok(());
            }
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                return Err(self.failed(&code));
            }
            Some(Err(error)) => {
                self.health.waits(&error.to_string());
                return Ok(());
            }
        };
        self.health.is_well();
        let (partition, offset) = (message.partition(), message.offset());
        let (key, value) = (message.key().unwrap_or_default(), message.payload());
        let opened = self.merge.open(key, value);
        let value = value.unwrap_or_default();
        let (size, excerpt) = (value.len(), value[..value.len().min(CONTENT)].to_vec());
        drop(message);
        match opened {
            Ok(changes) => self.take_in(Held {
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
                self.pass(partition, offset);
                self.refuse(&refused, partition, offset, &excerpt);
            }
        }
        Ok(())
    }

    /// Takes a message in, or holds it until its models can be had.
    fn take_in(&mut self, mut held: Held) {
        let is_late = Instant::now() >= held.until;
        if let Some(missing) = bring_models(self.store.as_ref(), &mut held, is_late) {
            tracing::warn!("a model of an edge is waited for: {missing}");
            held.again = Instant::now() + PAUSE;
            self.held = Some(held);
            return;
        }
        let (partition, offset) = (held.partition, held.offset);
        self.pass(partition, offset);
        for refused in &held.refused {
            self.refuse(refused, partition, offset, &held.excerpt);
        }
        let taken = (self.merge).push(held.changes, held.size, partition, offset);
        if let Err(refused) = taken {
            self.refuse(&refused, partition, offset, &held.excerpt);
        }
    }

    /// Goes on after a message.
    fn pass(&mut self, partition: i32, offset: i64) {
        for lane in &mut self.lanes {
            if lane.partition == partition {
                lane.next = lane.next.max(offset + 1);
            }
        }
    }

    /// Leaves a message, or a model in it, out.
    fn refuse(&mut self, refused: &LinkError, partition: i32, offset: i64, excerpt: &[u8]) {
        let topic = &self.topic;
        tracing::warn!(
            %topic,
            partition,
            offset,
            "a message of an edge, or a model in it, is refused: {refused}"
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

/// Brings the models of a message, but for those that are refused; why some cannot be had now, unless it is too late for them.
fn bring_models(store: Option<&ModelStore>, held: &mut Held, is_late: bool) -> Option<LinkError> {
    let mut missing = None;
    for (_, change) in &mut held.changes.changes {
        change
            .models
            .retain_mut(|donation| match bring(store, &mut donation.model) {
                Ok(()) => true,
                Err(error @ LinkError::Store { .. }) if !is_late => {
                    missing = Some(error);
                    true
                }
                Err(error) => {
                    held.refused.push(error);
                    false
                }
            });
    }
    missing
}

/// Where a restart goes on in a partition: what waits here is read again.
fn resume_at(merge: &EdgeMerge, lane: &Lane) -> i64 {
    merge.first_offset(lane.partition).unwrap_or(lane.next)
}

/// Assigns the partitions to the consumer.
fn lanes(
    consumer: &BaseConsumer<Client>,
    options: &EdgesOptions<'_>,
    topic: &Arc<str>,
    resume: &EdgesResume,
) -> Result<Vec<Lane>, KafkaError> {
    let failed = |error: ClientError| KafkaError::Failed {
        brokers: options.kafka.brokers.clone(),
        reason: error.to_string(),
    };
    let mut assignment = TopicPartitionList::new();
    let mut lanes = Vec::new();
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
        lanes.push(Lane {
            partition,
            next: offset,
            stop: options.stop_at_end.then_some(high),
            closed: resumed,
        });
    }
    consumer.assign(&assignment).map_err(failed)?;
    Ok(lanes)
}
