//! A source of samples, and of labels, on topics of Kafka.

mod connect;
mod labels;
mod lost;
mod merge;
mod open;
mod ready;
mod sample;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_operators::flow::{
    DeadLetter, EarlyLabel, EpochHeader, RecordsSkipped, SeenIds, WaitingSample,
};
use perennial_operators::label::Delay;
use perennial_operators::{Batch, Offsets, RawRecord, RecordMetadata, TaskDefinition, TaskLevels};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::labels::LabelMatcher;
pub use self::labels::LabelUpdate;
use self::merge::{Merge, PartitionReader};
pub use self::open::{KafkaTopics, open, partitions};
use self::ready::Role;
pub use self::sample::TopicSample;
use super::Read;
use super::continuity::OnGone;
use super::decode::Decoder;
use super::file::LabelColumns;
use crate::format::Row;
use crate::format::fields::{LabelParser, known_id};
use crate::format::parser;
use crate::format::{AvroError, AvroParser, JsonParser};
use crate::kafka::{Health, KafkaConfig, KafkaError, TopicConfig, TopicFormat};

/// Time between two attempts to reach a registry.
const PAUSE: Duration = Duration::from_millis(500);
/// Bound on how far an event time may be ahead of both the wall clock and its record's timestamp.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest time between two labels at the end of a bootstrap; after it no more are expected.
const LABELS_FOLLOW: Duration = Duration::from_secs(1);
/// Bound on the time for labels at the end of a bootstrap.
const LABELS_COMPLETE: Duration = Duration::from_secs(10);
/// Number of labels of later samples after which missing labels are no longer expected.
const MOST_AHEAD: usize = 1_000;

/// A topic of samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// The topic's name.
    pub topic: String,
    /// The format of the records' values.
    #[serde(default)]
    pub format: TopicFormat,
    /// The file (.avsc) of the schema that the records were written with, for Avro without a
    /// registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Where a pipeline without a state begins to read.
    #[serde(default)]
    pub from: StartAt,
    /// What happens when the records to read next have been deleted, of samples or of labels.
    #[serde(default)]
    pub on_gone: OnGone,
    /// End where the topics end when the run starts, instead of waiting for more.
    #[serde(default)]
    pub stop_at_end: bool,
}

impl SamplesConfig {
    /// The settings of the topic itself.
    pub fn to_topic(&self) -> TopicConfig {
        TopicConfig {
            topic: self.topic.clone(),
            format: self.format,
            schema: self.schema.clone(),
        }
    }
}

/// Where a pipeline without a state begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// At the oldest records.
    #[default]
    Earliest,
    /// At new records.
    Latest,
}

/// A parser of records' values.
enum Parser {
    Json(JsonParser),
    Avro(Box<AvroParser>, RegistryWait),
}

/// Health and stop flag of a parser that waits for a registry.
struct RegistryWait {
    health: Health,
    stop: Arc<AtomicBool>,
}

impl Parser {
    fn new(
        options: &KafkaOptions<'_>,
        topic: &TopicConfig,
        columns: &[String],
    ) -> Result<Parser, KafkaError> {
        Ok(match topic.format {
            TopicFormat::Json => Parser::Json(JsonParser::new(columns)),
            TopicFormat::Avro => {
                let parser = parser(options.kafka, topic, columns)?;
                let waiting = RegistryWait {
                    health: options.health.clone(),
                    stop: options.stop.clone(),
                };
                Parser::Avro(Box::new(parser), waiting)
            }
        })
    }

    fn parse(&mut self, value: &[u8], row: &mut Row) -> Result<(), String> {
        match self {
            Parser::Json(parser) => parser.parse(value, row),
            Parser::Avro(parser, waiting) => loop {
                match parser.parse(value, row) {
                    Ok(()) => return Ok(()),
                    Err(AvroError::Bad(reason)) => return Err(reason),
                    // Without an answer of the registry the record is not known to be bad. A run
                    // that is to stop drops what it reads, so the reason does not matter.
                    Err(AvroError::Retry(reason)) if waiting.stop.load(Ordering::Relaxed) => {
                        return Err(reason);
                    }
                    Err(AvroError::Retry(reason)) => {
                        waiting.health.report_waiting(&reason);
                        std::thread::sleep(PAUSE);
                    }
                }
            },
        }
    }
}

/// A source of the samples of a process, and of labels on a topic of their own.
pub struct KafkaSource {
    merge: Merge,
    samples: SampleReader,
    labels: Option<LabelReader>,
    /// Records of samples read so far, good and bad.
    position: u64,
    max_record_bytes: usize,
}

/// A record that was read and decoded.
struct Taken {
    role: Role,
    /// Bytes of its key, headers and value.
    size: usize,
    /// Its dead letter if it is bad.
    letter: Option<DeadLetter>,
}

/// Decoding of samples.
struct SampleReader {
    parser: Parser,
    row: Row,
    decoder: Decoder,
    metadata: RecordMetadata,
}

/// Decoding of labels, and their matching with samples.
struct LabelReader {
    parser: Parser,
    row: Row,
    columns: LabelColumns,
    labels: LabelParser,
    matcher: LabelMatcher,
    scratch: String,
}

impl SampleReader {
    fn push(&mut self, record: &RawRecord<'_>, limit: usize, latest: i64) -> Result<(), String> {
        let value = value(record, limit)?;
        self.parser.parse(value, &mut self.row)?;
        let number = record.offset.max(0) as u64;
        // Brokers reject records of the future, so a later timestamp tells that this machine's
        // clock is behind: it may not be set yet.
        let sent = record.timestamp.saturating_mul(1000);
        let latest = latest.max(sent.saturating_add(AHEAD.as_micros() as i64));
        self.decoder.push_before(&self.row, number, latest)?;
        self.metadata.push(record);
        Ok(())
    }
}

impl LabelReader {
    fn new(
        options: &KafkaOptions<'_>,
        topic: &TopicConfig,
        columns: LabelColumns,
        matcher: LabelMatcher,
    ) -> Result<LabelReader, KafkaError> {
        let names = [columns.id.clone(), columns.label.column.clone()];
        Ok(LabelReader {
            parser: Parser::new(options, topic, &names)?,
            row: Row::new(names.len()),
            labels: LabelParser::new(&columns.label),
            columns,
            matcher,
            scratch: String::new(),
        })
    }

    fn push(
        &mut self,
        record: &RawRecord<'_>,
        topic: &Arc<str>,
        limit: usize,
    ) -> Result<(), String> {
        let value = value(record, limit)?;
        self.parser.parse(value, &mut self.row)?;
        let label = self
            .labels
            .known(&self.columns.label.column, self.row.get(1))?;
        let id = known_id(&self.columns.id, self.row.get(0), &mut self.scratch)?;
        self.matcher
            .label(id, label, || record.owned(topic.clone()))
    }
}

/// The value of a record.
///
/// # Errors
/// There is none, or the record is longer than `limit`, key and headers included: the reason.
fn value<'a>(record: &RawRecord<'a>, limit: usize) -> Result<&'a [u8], String> {
    let value = record.value.ok_or("the record has no value")?;
    if record.size() > limit {
        return Err(format!(
            "the record, with its key and headers, is longer than {limit} bytes (max_record_bytes)"
        ));
    }
    Ok(value)
}

/// The latest valid event time, microseconds since 1970.
fn latest_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(i64::MAX, |now| (now + AHEAD).as_micros() as i64)
}

impl KafkaSource {
    /// Reads records until a limit is reached. Only samples count as records; labels go to their
    /// samples.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        let mut read = Read {
            batch: Batch::default(),
            dead_letters: Vec::new(),
            position: self.position,
            ended: false,
        };
        self.merge.look();
        let latest = latest_time();
        let (mut records, mut bytes) = (0, 0);
        while records < limit.records && bytes < limit.bytes {
            let Some(taken) = self.take_record(None, limit.until, latest)? else {
                break;
            };
            bytes += taken.size;
            if taken.role == Role::Samples {
                records += 1;
                if taken.letter.is_none() {
                    self.match_latest();
                }
            }
            read.dead_letters.extend(taken.letter);
        }
        self.position += records as u64;
        read.position = self.position;
        read.batch = self.take();
        // An epoch with offsets to commit, even of labels alone, must not be the end.
        read.ended = self.merge.is_done() && !self.merge.has_moved();
        Ok(read)
    }

    /// Reads labels until every sample has one, so that a bootstrap includes the labels of its
    /// samples. Labels that take too long are not waited for.
    pub fn complete_labels(&mut self) -> Result<Vec<DeadLetter>, KafkaError> {
        let began = Instant::now();
        let mut dead_letters = Vec::new();
        while began.elapsed() < LABELS_COMPLETE
            && let Some(labels) = &self.labels
            && labels.matcher.lacks_labels()
            && labels.matcher.early_labels() < MOST_AHEAD
        {
            let until = Instant::now() + LABELS_FOLLOW;
            let Some(taken) = self.take_record(Some(Role::Labels), until, i64::MAX)? else {
                break;
            };
            dead_letters.extend(taken.letter);
        }
        Ok(dead_letters)
    }

    /// Reads the next record, and decodes it or turns it into a dead letter, as [`Merge::next`]
    /// does.
    fn take_record(
        &mut self,
        role: Option<Role>,
        until: Instant,
        latest: i64,
    ) -> Result<Option<Taken>, KafkaError> {
        let (samples, labels) = (&mut self.samples, &mut self.labels);
        let most = self.max_record_bytes;
        self.merge
            .next(role, until, |reader: &PartitionReader, record| {
                let result = match (reader.role, labels) {
                    (Role::Labels, Some(labels)) => labels.push(&record, &reader.topic, most),
                    _ => samples.push(&record, most, latest),
                };
                Taken {
                    role: reader.role,
                    size: record.size(),
                    letter: result.err().map(|reason| {
                        DeadLetter::of_record(record.owned(reader.topic.clone()), reason)
                    }),
                }
            })
    }

    /// Closes the epoch of `header`, and returns what it has beside its samples.
    pub fn close_epoch(&mut self, header: &EpochHeader) -> Closed {
        let (topics, skipped) = self.merge.continuity.close();
        Closed {
            offsets: self.merge.close(),
            topics,
            skipped,
            seen: self.samples.decoder.take_seen(),
            settled: self
                .labels
                .as_mut()
                .map(|labels| labels.matcher.close(header))
                .unwrap_or_default(),
        }
    }

    /// Passes the sample that was just decoded to the matching of labels.
    fn match_latest(&mut self) {
        if let Some(labels) = &mut self.labels
            && let Some((sequence, id)) = self.samples.decoder.latest()
        {
            labels.matcher.sample(sequence, id);
        }
    }

    fn take(&mut self) -> Batch {
        let mut batch = self.samples.decoder.take();
        let next = RecordMetadata::new(self.samples.metadata.topic.clone());
        let metadata = std::mem::replace(&mut self.samples.metadata, next);
        batch.metadata = Some(Box::new(metadata));
        batch
    }
}

/// Limits of one read.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Number of samples.
    pub records: usize,
    /// Bytes of keys, headers and values, rounded up to a whole record.
    pub bytes: usize,
    /// Time at which the read ends.
    pub until: Instant,
}

/// Where a source resumes.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Records of samples read so far, good and bad.
    pub records: u64,
    /// Good ones among them.
    pub samples: u64,
    /// Tasks that are defined.
    pub tasks: Vec<TaskDefinition>,
    /// Where reading resumes in the topics.
    pub offsets: Offsets,
    /// Ids of the topics that the offsets are of, by name.
    pub topics: BTreeMap<Arc<str>, String>,
    /// Ids of the latest good ones, oldest first: number of the id, and of its record.
    pub seen: Vec<(u64, u64)>,
    /// Samples that wait for their labels, oldest first.
    pub waiting: Vec<WaitingSample>,
    /// Labels that wait for their samples.
    pub early_labels: Vec<EarlyLabel>,
}

/// What an epoch has beside the samples read in it.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Where reading resumes, for the partitions that moved.
    pub offsets: Offsets,
    /// Ids of topics that are not stored yet.
    pub topics: BTreeMap<Arc<str>, String>,
    /// Records that were deleted before they were read.
    pub skipped: Vec<RecordsSkipped>,
    /// Ids of the samples.
    pub seen: SeenIds,
    /// Labels on a topic of their own, matched and not.
    pub settled: LabelUpdate,
}

/// Parameters of a [`KafkaSource`] beside its topics.
pub struct KafkaOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// The consumer group.
    pub group: &'a str,
    /// The longest record in bytes: key, headers and value. A longer one becomes a dead letter.
    pub max_record_bytes: usize,
    /// Number of earlier good records whose ids are known: a known id is a duplicate.
    pub duplicates_within: usize,
    /// Levels of the task tree.
    pub levels: &'a TaskLevels,
    /// Receives the reason while the source waits for a broker or a registry.
    pub health: Health,
    /// Set when the source is to stop waiting.
    pub stop: Arc<AtomicBool>,
}

/// Labels on a topic of their own.
pub struct LabelTopic {
    /// The topic.
    pub topic: TopicConfig,
    /// Which columns mean what.
    pub columns: LabelColumns,
    /// How long a sample waits for its label, and a label for its sample.
    pub wait: Delay,
}
