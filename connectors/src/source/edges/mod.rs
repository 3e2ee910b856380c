//! A source of the samples that edges share on the topic of changes.
//!
//! Each edge's changes are read in the order of its commits and each once, even if messages repeat.
//! Between edges the earlier sample comes first. A replay waits for every edge, so that the same
//! changes give the same stream in whatever order they arrive; live mode waits for none.

mod cells;
mod fetch;
mod history;
mod merge;
mod parked;
mod partitions;
mod queue;
mod quota;
mod refusals;
mod rights;
mod sealed;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::flow::{
    DeadLetter, EdgeHistory, EdgeProgress, Effect, MessageOffset, RecordsSkipped, RefusedMessages,
    SeenIds,
};
use perennial_operators::{Offsets, TaskDefinition, TaskLevels, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::merge::{BadSample, EdgeMerge};
use self::parked::{MessagePlace, MessageSize, ParkedMessages, ReadyMessage};
use self::partitions::{PartitionState, open_partitions};
pub use self::quota::DonatedModels;
use self::refusals::Refusals;
pub use self::rights::{
    AllowedValues, EdgeKey, EdgeRights, KnownEdges, MOST_MODEL_BYTES, MOST_MODELS, SignedChanges,
};
use self::sealed::{SealedMessages, Unsealed};
use super::Read;
use super::continuity::{Continuity, OnGone};
use super::kafka::Limit;
use crate::kafka::{
    Client, Health, KafkaConfig, KafkaError, TopicWatch, consumer, is_lost, known_end, remind,
};
use crate::link::ModelStore;
use crate::schema::Schema;

/// Time to wait for messages at once.
const GLANCE: Duration = Duration::from_millis(20);
/// Bound in bytes on messages that wait for other edges, on those that wait for models, and on all
/// of them with their models.
const AHEAD: usize = 256 << 20;
/// Bytes of a refused message that its dead letter keeps: few, since it may contain private data.
const CONTENT: usize = 64;

/// A source of what edges share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgesConfig {
    /// End where the topic ends when the run starts, instead of waiting for more.
    pub stop_at_end: bool,
    /// What happens when the changes to take in next have been deleted.
    pub on_gone: OnGone,
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
    /// Returns the edges whose changes are accepted from now on, if that was told to change.
    pub reload: Box<dyn FnMut() -> Option<BTreeMap<String, EdgeRights>> + Send>,
    /// The store of large models, if there is one.
    pub store: Option<ModelStore>,
    /// Number of earlier samples whose ids are known: a known id is a duplicate.
    pub duplicates_within: usize,
    /// Levels of the task tree.
    pub levels: &'a TaskLevels,
    /// Whether to end where the topic ends when it is opened.
    pub stop_at_end: bool,
    /// What to do when the changes to take in next have been deleted.
    pub on_gone: OnGone,
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
    /// Id of the topic that the offsets are of, by name.
    pub topics: BTreeMap<Arc<str>, String>,
    /// Messages behind those offsets that were refused.
    pub refused: Vec<MessageOffset>,
    /// Progress of each edge.
    pub edges: BTreeMap<String, EdgeProgress>,
    /// History of each edge.
    pub histories: BTreeMap<String, EdgeHistory>,
    /// Models that each edge has donated.
    pub donated: BTreeMap<String, DonatedModels>,
}

/// A source of the samples that edges share.
pub struct EdgeSource {
    kafka: KafkaConfig,
    group: String,
    consumer: BaseConsumer<Client>,
    topic: Arc<str>,
    /// The topic's name for librdkafka.
    name: CString,
    partitions: Vec<PartitionState>,
    continuity: Continuity,
    watch: TopicWatch,
    /// Whether the partitions have to be assigned again, and when that was last tried.
    is_lost: bool,
    asked: Instant,
    merge: EdgeMerge,
    /// Messages that wait for models from the store.
    parked: ParkedMessages,
    /// Messages that wait for their keys.
    sealed: SealedMessages,
    reload: Box<dyn FnMut() -> Option<BTreeMap<String, EdgeRights>> + Send>,
    health: Health,
    stop: Arc<AtomicBool>,
    position: u64,
    refusals: Refusals,
}

/// What an epoch has beside the samples read in it.
pub struct EdgesClosed {
    /// Where reading resumes, for the partitions that moved.
    pub offsets: Offsets,
    /// Id of the topic, if it is not stored yet.
    pub topics: BTreeMap<Arc<str>, String>,
    /// Changes that were deleted before they were taken in.
    pub skipped: Vec<RecordsSkipped>,
    /// Messages that were refused behind one that waits.
    pub refused: RefusedMessages,
    /// Ids of the samples.
    pub seen: SeenIds,
    /// Progress of the edges that moved.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
    /// Histories of the edges whose histories moved.
    pub histories: BTreeMap<Arc<str>, EdgeHistory>,
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
        let (partitions, continuity) = open_partitions(&consumer, &options, &topic, resume)?;
        let mut refusals = Refusals::new(topic.clone(), &resume.refused);
        let is_remade = continuity.is_remade(&topic);
        for state in partitions
            .iter()
            .filter(|state| is_remade || state.closed.is_none())
        {
            refusals.forget_offsets(state.partition);
        }
        let watch = TopicWatch::of_topic(&topic, partitions.len() as i32);
        let within = options.duplicates_within;
        let mut merge = EdgeMerge::new(options.listening, schema, within, resume);
        merge.check_tasks(options.levels, &resume.tasks);
        Ok(EdgeSource {
            consumer,
            kafka: options.kafka.clone(),
            group: options.group.to_string(),
            refusals,
            // No topic has a zero in its name.
            name: CString::new(&*topic).unwrap_or_default(),
            topic,
            partitions,
            continuity,
            watch,
            is_lost: false,
            asked: Instant::now(),
            merge,
            parked: ParkedMessages::new(options.store),
            sealed: SealedMessages::default(),
            reload: options.reload,
            health: options.health,
            stop: options.stop,
            position: resume.records,
        })
    }

    /// Reads samples until a limit is reached.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        self.take_in_edges();
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
                letter
                    .into_iter()
                    .for_each(|letter| self.refusals.push(letter));
                continue;
            }
            is_over = self.parked.is_empty() && self.partitions.iter().all(PartitionState::is_done);
            while let Some(unsealed) = self.sealed.give_up(is_over, self.refusals.full_partition())
            {
                let partition = unsealed.0.partition;
                self.unseal(unsealed);
                self.pass_refused(partition);
            }
            if is_over || Instant::now() >= limit.until || self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.poll(limit.until)?;
        }
        self.position += records as u64;
        self.take_refused();
        Ok(Read {
            batch: self.merge.take(),
            dead_letters: self.refusals.take(),
            position: self.position,
            ended: is_over && !self.merge.has_moved() && !self.has_moved(),
        })
    }

    /// Notes that refused messages of a partition before the first one that waits are not read
    /// again.
    fn pass_refused(&mut self, partition: i32) {
        let mut states = self.partitions.iter();
        let state = states.find(|state| state.partition == partition);
        if let Some(next) = state.map(|state| self.resume_at(state)) {
            self.refusals.resume_at(partition, next);
        }
    }

    /// Closes an epoch, and returns what it has beside its samples.
    pub fn close_epoch(&mut self) -> EdgesClosed {
        let mut offsets = Offsets::new();
        let resumed: Vec<i64> = self
            .partitions
            .iter()
            .map(|state| self.resume_at(state))
            .collect();
        for (state, next) in self.partitions.iter_mut().zip(resumed) {
            self.refusals.resume_at(state.partition, next);
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
        let (topics, skipped) = self.continuity.close();
        EdgesClosed {
            offsets,
            topics,
            skipped,
            refused: self.refusals.close(),
            seen,
            edges,
            histories: self.merge.take_histories(),
            effects,
        }
    }

    /// Whether a partition has moved since the last closed epoch, also if only by refused messages.
    fn has_moved(&self) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|state| state.closed != Some(self.resume_at(state)))
    }

    /// Reads at most one message.
    fn poll(&mut self, until: Instant) -> Result<(), KafkaError> {
        self.take_in_edges();
        let held = self.merge.size();
        let awaited = self.merge.waits_for();
        self.parked.begin_fetching(AHEAD, held, awaited);
        if let Some(message) = self.parked.take_ready() {
            self.accept(message);
            return Ok(());
        }
        let parked = self.parked.size();
        let is_full = held.own > AHEAD || (parked.own > AHEAD && !self.parked.is_fetching());
        if let Some(silent) = awaited.filter(|edge| is_full && !self.parked.has(edge)) {
            let waiting = held.own + parked.own;
            return Err(self.failed(&format!(
                "edge \"{silent}\" has sent nothing while others sent {waiting} bytes: a replay waits for every edge of \
                 link.edges; remove it there, or set mode: live"
            )));
        }
        let left = until.saturating_duration_since(Instant::now());
        if self.is_lost {
            return self.find_lost(left.min(GLANCE));
        }
        if held.own > AHEAD || parked.own > AHEAD {
            std::thread::sleep(left.min(GLANCE));
            return Ok(());
        }
        self.receive(left.min(GLANCE))
    }

    /// Notes that a partition is read up to its end.
    fn reach_end(&mut self, partition: i32) {
        // The last offsets before the end can be transaction markers and no messages. A new leader
        // of the partition may report an earlier end at first.
        let end = known_end(&self.consumer, &self.name, partition);
        for state in &mut self.partitions {
            let stop = state.stop.filter(|stop| end >= Some(*stop));
            if let (true, Some(stop)) = (state.partition == partition, stop) {
                state.next = state.next.max(stop);
            }
        }
    }

    /// Waits for a message, and checks and accepts it.
    fn receive(&mut self, wait: Duration) -> Result<(), KafkaError> {
        remind(self.consumer.client());
        if let Some(lost) = self.watch.look(&self.consumer) {
            self.lose(&lost.reason);
            return Ok(());
        }
        let message = match self.consumer.poll(wait) {
            None => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(ClientError::PartitionEOF(partition))) => {
                self.watch.heard(partition as usize);
                self.reach_end(partition);
                return Ok(());
            }
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                return Err(self.failed(&code));
            }
            Some(Err(error)) if is_lost(&error) => {
                self.lose(&error.to_string());
                return Ok(());
            }
            Some(Err(error)) => {
                self.health.report_waiting(&error.to_string());
                return Ok(());
            }
        };
        self.health.report_well();
        let (partition, offset) = (message.partition(), message.offset());
        self.watch.heard(partition as usize);
        if self.refusals.has(partition, offset) {
            self.advance(partition, offset);
            return Ok(());
        }
        let (key, value) = (message.key().unwrap_or_default(), message.payload());
        let opened = self.merge.open(key, value);
        let value = value.unwrap_or_default();
        let place = MessagePlace {
            edge: String::from_utf8_lossy(key).into_owned(),
            partition,
            offset,
            size: MessageSize {
                own: value.len(),
                models: 0,
            },
            excerpt: value[..value.len().min(CONTENT)].to_vec(),
        };
        let known = self.merge.known();
        let sealed = opened
            .as_ref()
            .err()
            .filter(|refused| known.may_be_good(refused, key, value))
            .map(|_| value.to_vec());
        drop(message);
        match (opened, sealed) {
            (Err(refused), Some(value)) => self.sealed.add(place, value, refused),
            (Err(refused), None) => self.refusals.add_message(&refused, &place),
            (Ok(changes), _) => self.park(place, changes),
        }
        self.advance(partition, offset);
        Ok(())
    }

    /// Takes edges and keys into force that the config has got since the last call, also for the
    /// messages that wait for their keys.
    fn take_in_edges(&mut self) {
        let Some(edges) = (self.reload)() else { return };
        self.merge.set_edges(edges);
        self.take_refused();
        for unsealed in self.sealed.open(self.merge.known()) {
            self.unseal(unsealed);
        }
    }

    /// Takes in a message that has waited for its key, or refuses it.
    fn unseal(&mut self, (place, opened): Unsealed) {
        match opened {
            Ok(changes) => self.park(place, changes),
            Err(refused) => self.refusals.add_message(&refused, &place),
        }
    }

    /// Parks a message until it has its models, without those that are too large for its edge:
    /// these are not fetched.
    fn park(&mut self, place: MessagePlace, mut message: SignedChanges) {
        self.merge.forbid_large(&mut message);
        self.parked.add(place, message);
    }

    /// Turns what the merge has refused into dead letters.
    fn take_refused(&mut self) {
        for refused in self.merge.take_refused() {
            let (partition, offset) = refused.place;
            let place = MessagePlace {
                edge: refused.edge.to_string(),
                partition,
                offset,
                ..MessagePlace::default()
            };
            if refused.is_whole {
                self.refusals.add_message(&refused.reason, &place);
            } else {
                self.refusals.add_part(&refused.reason, &place);
            }
        }
    }

    /// Adds a message to the merge.
    fn accept(&mut self, message: ReadyMessage) {
        let ReadyMessage { place, message } = message;
        let (partition, offset) = (place.partition, place.offset);
        if let Err(refused) = self.merge.push(message, place.size.own, partition, offset) {
            self.refusals.add_message(&refused, &place);
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

    /// Where a restart resumes in a partition: at the first waiting message.
    fn resume_at(&self, state: &PartitionState) -> i64 {
        let waiting = [
            self.merge.first_offset(state.partition),
            self.parked.first_offset(state.partition),
            self.sealed.first_offset(state.partition),
        ];
        waiting.into_iter().flatten().min().unwrap_or(state.next)
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.kafka.brokers.clone(),
            reason: reason.to_string(),
        }
    }
}
