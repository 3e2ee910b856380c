//! Samples that edges share, from the topic that they send changes to.
//!
//! Each edge's changes are taken in the order in which it committed them, each once, whatever comes twice. Between edges the earlier
//! sample goes first: in replay, every edge is waited for, so that the same changes give the same stream however they came; live,
//! nobody is.

mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ed25519_dalek::VerifyingKey;
use perennial_operators::flow::EdgeProgress;
use perennial_operators::share::SharedSamples;
use perennial_operators::{
    DeadLetter, KnowledgeChange, Offsets, Reported, TopicPartition,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decode::Decoder;
use super::kafka::Limit;
use super::row::Row;
use super::{Feature, Read, Schema};
use crate::kafka::{Client, Health, KafkaConfig, KafkaError, consumer};
use crate::link::{Changes, LinkError, open, partitions_of};
use queue::Queue;

/// How long to wait for messages at a time.
const GLANCE: Duration = Duration::from_millis(20);
/// What messages may take that wait for those of other edges.
const AHEAD: usize = 256 << 20;
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
    /// The edges, and the keys by which they are known.
    pub edges: BTreeMap<String, VerifyingKey>,
    /// See [`schema_hash`](crate::link::schema_hash).
    pub schema_hash: String,
    /// An id is a duplicate if one of so many before was the same.
    pub duplicates_within: usize,
    /// Whether to end at what is the end when it is opened.
    pub stop_at_end: bool,
    /// Whether every edge is waited for.
    pub in_order: bool,
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

/// The source.
pub struct EdgeSource {
    consumer: BaseConsumer<Client>,
    topic: Arc<str>,
    lanes: Vec<Lane>,
    queues: BTreeMap<Arc<str>, Queue>,
    keys: BTreeMap<Arc<str>, VerifyingKey>,
    schema_hash: String,
    in_order: bool,
    health: Health,
    stop: Arc<AtomicBool>,
    schema: Schema,
    decoder: Decoder,
    row: Row,
    /// What each cell of a row is filled from.
    cells: Vec<Cell>,
    position: u64,
    dead_letters: Vec<DeadLetter>,
    /// What was taken in since the last epoch was closed beside samples.
    changes: Vec<KnowledgeChange>,
    moved: BTreeMap<Arc<str>, EdgeProgress>,
}

/// What a column of the schema is filled from.
#[derive(Clone, Copy)]
enum Cell {
    Id,
    Time,
    Attribute(usize),
    Feature(usize),
    Label,
}

/// What belongs to an epoch beside the samples read in it.
pub struct EdgesClosed {
    /// Where reading goes on, for the partitions that it moved on in.
    pub offsets: Offsets,
    /// How far what edges share was taken in, for those of which something was.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
    /// How they did.
    pub changes: Vec<KnowledgeChange>,
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
        let mut decoder = Decoder::new(schema, true, options.duplicates_within);
        decoder.continue_from(resume.samples);
        let cells = decoder.columns().iter().map(|name| cell(schema, name));
        let cells: Vec<Cell> = cells.collect();
        let edges = options.edges.into_iter();
        let keys: BTreeMap<Arc<str>, VerifyingKey> =
            edges.map(|(edge, key)| (edge.into(), key)).collect();
        let queue = |edge: &Arc<str>| {
            let progress = resume.edges.get(&**edge).copied();
            (edge.clone(), Queue::new(progress.unwrap_or_default()))
        };
        Ok(EdgeSource {
            queues: keys.keys().map(queue).collect(),
            consumer,
            topic,
            lanes,
            keys,
            schema_hash: options.schema_hash,
            in_order: options.in_order,
            health: options.health,
            stop: options.stop,
            schema: schema.clone(),
            row: Row::new(cells.len()),
            decoder,
            cells,
            position: resume.records,
            dead_letters: Vec::new(),
            changes: Vec::new(),
            moved: BTreeMap::new(),
        })
    }

    /// Takes samples until a limit is reached.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        let (mut records, mut bytes) = (0, 0);
        let mut is_over = false;
        while records < limit.records && bytes < limit.bytes {
            if let Some(edge) = self.earliest() {
                self.take_sample(&edge);
                records += 1;
                bytes += 4 * (self.schema.features.len() + 1);
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
            batch: self.decoder.take(),
            dead_letters: std::mem::take(&mut self.dead_letters),
            position: self.position,
            ended: is_over && self.moved.is_empty() && !self.has_moved(),
        })
    }

    /// Whether something is still to be bound to an epoch, be it a message that was refused.
    fn has_moved(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.closed != Some(self.resume_at(lane)))
    }

    /// Where a restart goes on in a partition: what waits here is read again.
    fn resume_at(&self, lane: &Lane) -> i64 {
        let queues = self.queues.values();
        let waits = queues.filter_map(|queue| queue.first_offset(lane.partition));
        waits.min().unwrap_or(lane.next)
    }

    /// Ends an epoch: what else belongs to it.
    pub fn close_epoch(&mut self) -> EdgesClosed {
        let mut offsets = Offsets::new();
        let resumed: Vec<i64> = self.lanes.iter().map(|lane| self.resume_at(lane)).collect();
        for (lane, next) in self.lanes.iter_mut().zip(resumed) {
            if lane.closed.replace(next) != Some(next) {
                let place = TopicPartition {
                    topic: self.topic.clone(),
                    partition: lane.partition,
                };
                offsets.insert(place, next);
            }
        }
        EdgesClosed {
            offsets,
            edges: std::mem::take(&mut self.moved),
            changes: std::mem::take(&mut self.changes),
        }
    }

    /// The edge whose sample goes first, if that can be told.
    fn earliest(&mut self) -> Option<Arc<str>> {
        let mut first: Option<(i64, &Arc<str>)> = None;
        for (edge, queue) in &mut self.queues {
            let reported = queue.settle();
            self.changes.extend(reported.into_iter().map(|statistics| {
                KnowledgeChange::Reported(Reported {
                    edge: edge.clone(),
                    statistics,
                })
            }));
            if let Some(progress) = queue.moved() {
                self.moved.insert(edge.clone(), progress);
            }
            match queue.time() {
                Some(time) if first.is_none_or(|(earliest, _)| time < earliest) => {
                    first = Some((time, edge));
                }
                None if self.in_order => return None,
                _ => {}
            }
        }
        first.map(|(_, edge)| edge.clone())
    }

    fn take_sample(&mut self, edge: &Arc<str>) {
        let Some(queue) = self.queues.get_mut(edge) else {
            return;
        };
        let Some((samples, row, offset)) = queue.next() else {
            return;
        };
        fill(&mut self.row, &self.cells, &self.schema, edge, samples, row);
        if let Err(reason) = self.decoder.push(&self.row, offset.max(0) as u64) {
            self.dead_letters.push(DeadLetter {
                source: format!("{} of edge {edge}", self.topic),
                record: samples.sequences.get(row).copied().unwrap_or(0),
                reason,
                content: String::new(),
                message: None,
            });
        }
        self.moved.insert(edge.clone(), queue.progress());
    }

    /// Takes in what has come.
    fn poll(&mut self, until: Instant) -> Result<(), KafkaError> {
        let waiting: usize = self.queues.values().map(Queue::bytes).sum();
        if waiting > AHEAD {
            let silent = self.queues.iter().find(|(_, queue)| queue.time().is_none());
            let silent = silent.map_or("", |(edge, _)| edge);
            return Err(self.failed(&format!(
                "edge \"{silent}\" has sent nothing while others sent {waiting} bytes: in a replay every edge of link.edges is \
                 waited for; remove it there, or set mode: live"
            )));
        }
        let left = until.saturating_duration_since(Instant::now()).min(GLANCE);
        let message = match self.consumer.poll(left) {
            None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(partition))) => {
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
        let size = message.payload().map_or(0, <[u8]>::len);
        let opened = check(&message, &self.keys, &self.schema_hash);
        let excerpt = excerpt(&message);
        drop(message);
        let lane = self.lanes.iter_mut();
        for lane in lane.filter(|lane| lane.partition == partition) {
            lane.next = lane.next.max(offset + 1);
        }
        let taken = opened.and_then(|(edge, changes)| {
            match self.queues.get_mut(&edge) {
                Some(queue) => queue.push(changes, partition, offset, size),
                None => Ok(()),
            }
        });
        if let Err(refused) = taken {
            tracing::warn!(topic = &*self.topic, partition, offset, "a message of an edge is refused: {refused}");
            self.dead_letters.push(DeadLetter {
                source: format!("{}[{partition}]", self.topic),
                record: offset.max(0) as u64,
                reason: refused.to_string(),
                content: excerpt,
                message: None,
            });
        }
        Ok(())
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.topic.to_string(),
            reason: reason.to_string(),
        }
    }
}

impl Lane {
    /// Whether all that there was has been read.
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
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
        let marks = consumer.fetch_watermarks(topic, partition, crate::kafka::PATIENCE);
        let (low, high) = marks.map_err(failed)?;
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

/// What a message of an edge says, if it can be trusted.
fn check(
    message: &BorrowedMessage<'_>,
    keys: &BTreeMap<Arc<str>, VerifyingKey>,
    schema_hash: &str,
) -> Result<(Arc<str>, Changes), LinkError> {
    let edge = String::from_utf8_lossy(message.key().unwrap_or_default());
    let Some((edge, key)) = keys.get_key_value(&*edge) else {
        return Err(LinkError::UnknownEdge(edge.into_owned()));
    };
    let value = message.payload().ok_or(LinkError::Torn)?;
    let changes: Changes = open(value, key, &format!("edge \"{edge}\""))?;
    if changes.edge != **edge {
        return Err(LinkError::Edge {
            key: edge.to_string(),
            said: changes.edge,
        });
    }
    match changes.schema == schema_hash {
        true => Ok((edge.clone(), changes)),
        false => Err(LinkError::Schema),
    }
}

fn excerpt(message: &BorrowedMessage<'_>) -> String {
    let value = message.payload().unwrap_or_default();
    String::from_utf8_lossy(&value[..value.len().min(CONTENT)]).into_owned()
}

/// What a column is filled from. One that has several parts is an attribute first: its text says all the others need.
fn cell(schema: &Schema, name: &str) -> Cell {
    let attribute = schema.attribute_names().position(|known| known == name);
    let feature = || {
        schema
            .features
            .iter()
            .position(|feature| feature.column() == name)
    };
    match attribute.map(Cell::Attribute) {
        Some(cell) => cell,
        None if name == schema.id => Cell::Id,
        None if name == schema.time => Cell::Time,
        None => feature().map_or(Cell::Label, Cell::Feature),
    }
}

/// Fills a row from a sample that was shared.
fn fill(
    row: &mut Row,
    cells: &[Cell],
    schema: &Schema,
    edge: &str,
    samples: &SharedSamples,
    at: usize,
) {
    row.clear();
    for (number, cell) in cells.iter().enumerate() {
        match cell {
            // Ids need only be unique at their edge.
            Cell::Id => match &samples.ids {
                Some(ids) => row.set_text(number, &format!("{edge}/{}", ids.get(at))),
                None => row.set_text(number, &format!("{edge}/{}", samples.sequences[at])),
            },
            Cell::Time => row.set_time(number, samples.times[at]),
            Cell::Attribute(column) => {
                if let Some(Some(texts)) = samples.attributes.get(*column) {
                    row.set_text(number, texts.get(at));
                }
            }
            Cell::Feature(column) => {
                let value = samples.features.get(*column).and_then(Option::as_ref);
                let value = value.map_or(f32::NAN, |values| values[at]);
                match &schema.features[*column] {
                    _ if value.is_nan() => {}
                    Feature::Numeric(_) => row.set_number(number, f64::from(value)),
                    Feature::Categorical(categorical) => {
                        let text = categorical.values.get(value as usize);
                        row.set_text(number, text.map_or("", String::as_str));
                    }
                }
            }
            Cell::Label => {
                let label = samples.labels[at];
                let classes = schema.label.as_ref().map(|label| label.classes.as_slice());
                match classes.and_then(|classes| classes.get(label as usize)) {
                    Some(class) => row.set_text(number, class),
                    None => row.set_number(number, f64::from(label)),
                }
            }
        }
    }
}
