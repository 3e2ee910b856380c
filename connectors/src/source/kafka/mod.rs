//! Samples, and labels, from topics of Kafka.

mod labels;
mod merge;
mod open;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_operators::flow::{DeadLetter, EarlyLabel, EpochHeader, WaitingSample};
use perennial_operators::label::Delay;
use perennial_operators::{Batch, Offsets, OwnedRecord, RawRecord, RecordMetadata};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::labels::LabelDesk;
pub use self::labels::Settled;
use self::merge::{Lane, Merge, Role};
pub use self::open::{KafkaTopics, open, partitions};
use super::Read;
use super::decode::Decoder;
use super::file::LabelColumns;
use crate::format::Row;
use crate::format::fields;
use crate::format::fields::known_id;
use crate::format::parser;
use crate::format::{AvroError, AvroParser, JsonParser};
use crate::kafka::{Health, KafkaConfig, KafkaError, TopicConfig, TopicFormat};

/// How much of a bad record the excerpt in its dead letter keeps, in bytes.
const CONTENT: usize = 4096;
/// How long to wait before a registry is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// An event time so far ahead of the clock on the wall is a mistake.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// At the end of a bootstrap, a label follows the one before within this time, or it is not on its way.
const LABELS_FOLLOW: Duration = Duration::from_secs(1);
/// How long a bootstrap takes labels at its end.
const LABELS_COMPLETE: Duration = Duration::from_secs(10);
/// When so many labels of later samples have come, those that are missing are not waited for.
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
    /// With Avro that is read without a registry, the file of the schema that it was written with (.avsc).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// Where a pipeline without a state begins.
    #[serde(default)]
    pub from: From,
    /// End at what is the end of the topics when the run starts, instead of waiting for more.
    #[serde(default)]
    pub stop_at_end: bool,
}

impl SamplesConfig {
    /// The topic, without how it is read.
    pub fn to_topic(&self) -> TopicConfig {
        TopicConfig {
            topic: self.topic.clone(),
            format: self.format,
            schema: self.schema.clone(),
        }
    }
}

/// See [`SamplesConfig::from`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// With the oldest records there are.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// What makes a row of a record's value.
enum Parser {
    Json(JsonParser),
    Avro(Box<AvroParser>, Waiting),
}

/// What waiting for a registry needs.
struct Waiting {
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
                let waiting = Waiting {
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
                    // A registry that does not answer says nothing of the record. When the run is to stop,
                    // what is being read does not count any more.
                    Err(AvroError::Retry(reason)) if waiting.stop.load(Ordering::Relaxed) => {
                        return Err(reason);
                    }
                    Err(AvroError::Retry(reason)) => {
                        waiting.health.waits(&reason);
                        std::thread::sleep(PAUSE);
                    }
                }
            },
        }
    }
}

/// The samples of a process, and the labels if they have a topic of their own.
pub struct KafkaSource {
    merge: Merge,
    samples: Samples,
    labels: Option<Labels>,
    /// Records of samples that were read, good and bad.
    position: u64,
    max_record_bytes: usize,
}

/// A record that was taken.
struct Taken {
    role: Role,
    /// How long its value is.
    size: usize,
    /// What became of it if it is bad.
    letter: Option<DeadLetter>,
}

/// How samples are decoded.
struct Samples {
    parser: Parser,
    row: Row,
    decoder: Decoder,
    metadata: RecordMetadata,
}

/// How labels are decoded, and where they find their samples.
struct Labels {
    parser: Parser,
    row: Row,
    columns: LabelColumns,
    labels: fields::Labels,
    desk: LabelDesk,
    scratch: String,
}

impl Samples {
    fn push(&mut self, record: &RawRecord<'_>, limit: usize, latest: i64) -> Result<(), String> {
        let value = value(record, limit)?;
        self.parser.parse(value, &mut self.row)?;
        let number = record.offset.max(0) as u64;
        self.decoder.push_before(&self.row, number, latest)?;
        self.metadata.push(record);
        Ok(())
    }
}

impl Labels {
    fn new(
        options: &KafkaOptions<'_>,
        topic: &TopicConfig,
        columns: LabelColumns,
        desk: LabelDesk,
    ) -> Result<Labels, KafkaError> {
        let names = [columns.id.clone(), columns.label.column.clone()];
        Ok(Labels {
            parser: Parser::new(options, topic, &names)?,
            row: Row::new(names.len()),
            labels: fields::Labels::new(&columns.label),
            columns,
            desk,
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
        self.desk.label(id, label, || record.owned(topic.clone()))
    }
}

/// The value of a record, if it can be looked at.
fn value<'a>(record: &RawRecord<'a>, limit: usize) -> Result<&'a [u8], String> {
    let value = record.value.ok_or("the record has no value")?;
    if value.len() > limit {
        return Err(format!(
            "the record is longer than {limit} bytes (max_record_bytes)"
        ));
    }
    Ok(value)
}

/// The latest event time that is no mistake, microseconds since 1970.
fn latest_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(i64::MAX, |now| (now + AHEAD).as_micros() as i64)
}

/// A dead letter of a record.
fn dead_letter(record: OwnedRecord, reason: String) -> DeadLetter {
    let value = record.value.as_deref().unwrap_or_default();
    DeadLetter {
        source: format!("{}[{}]", record.place.topic, record.place.partition),
        record: record.offset.max(0) as u64,
        reason,
        content: String::from_utf8_lossy(&value[..value.len().min(CONTENT)]).into_owned(),
        message: Some(Box::new(record)),
    }
}

impl KafkaSource {
    /// Takes records until a limit is reached. Only samples count as records; labels go to the desk.
    pub fn read(&mut self, limit: Limit) -> Result<Read, KafkaError> {
        let mut read = Read {
            batch: Batch::default(),
            dead_letters: Vec::new(),
            position: self.position,
            ended: false,
        };
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
                    self.note_latest();
                }
            }
            read.dead_letters.extend(taken.letter);
        }
        self.position += records as u64;
        read.position = self.position;
        read.batch = self.take();
        // What was read in this epoch, be it labels alone, is still to be bound to it.
        read.ended = self.merge.is_done() && !self.merge.has_moved();
        Ok(read)
    }

    /// Takes labels alone until every sample has its own, so that a bootstrap ends with its labels and not before them.
    /// It waits for labels that are on their way, but not for those that take longer than a bootstrap may.
    pub fn complete_labels(&mut self) -> Result<Vec<DeadLetter>, KafkaError> {
        let began = Instant::now();
        let mut dead_letters = Vec::new();
        while began.elapsed() < LABELS_COMPLETE
            && let Some(labels) = &self.labels
            && labels.desk.lacks_labels()
            && labels.desk.early_labels() < MOST_AHEAD
        {
            let until = Instant::now() + LABELS_FOLLOW;
            let Some(taken) = self.take_record(Some(Role::Labels), until, i64::MAX)? else {
                break;
            };
            dead_letters.extend(taken.letter);
        }
        Ok(dead_letters)
    }

    /// Takes the next record, which is decoded or turned into a dead letter; see [`Merge::next`].
    fn take_record(
        &mut self,
        role: Option<Role>,
        until: Instant,
        latest: i64,
    ) -> Result<Option<Taken>, KafkaError> {
        let (samples, labels) = (&mut self.samples, &mut self.labels);
        let most = self.max_record_bytes;
        self.merge.next(role, until, |lane: &Lane, record| {
            let result = match (lane.role, labels) {
                (Role::Labels, Some(labels)) => labels.push(&record, &lane.topic, most),
                _ => samples.push(&record, most, latest),
            };
            Taken {
                role: lane.role,
                size: record.value.map_or(0, <[u8]>::len),
                letter: result
                    .err()
                    .map(|reason| dead_letter(record.owned(lane.topic.clone()), reason)),
            }
        })
    }

    /// Ends an epoch, whose header is known once it is read: what else belongs to it.
    pub fn close_epoch(&mut self, header: &EpochHeader) -> Closed {
        Closed {
            offsets: self.merge.close(),
            settled: self
                .labels
                .as_mut()
                .map(|labels| labels.desk.close(header))
                .unwrap_or_default(),
        }
    }

    /// Tells the labels of the sample that was just decoded.
    fn note_latest(&mut self) {
        if let Some(labels) = &mut self.labels
            && let Some((sequence, id)) = self.samples.decoder.latest()
        {
            labels.desk.sample(sequence, id);
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

/// How much to take at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// So many samples.
    pub records: usize,
    /// So many bytes of values, rounded up to a whole record.
    pub bytes: usize,
    /// What has come until then.
    pub until: Instant,
}

/// Where to go on.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Records of samples that were read before, good and bad.
    pub records: u64,
    /// Good ones among them.
    pub samples: u64,
    /// Where to read on.
    pub offsets: Offsets,
    /// Samples that wait for labels of their own, oldest first.
    pub waiting: Vec<WaitingSample>,
    /// Labels that wait for their samples.
    pub early_labels: Vec<EarlyLabel>,
}

/// What belongs to an epoch beside the samples read in it.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Where reading goes on, for the partitions that it moved on in.
    pub offsets: Offsets,
    /// What became of labels on a topic of their own.
    pub settled: Settled,
}

/// What a source of Kafka is made of beside its topics.
pub struct KafkaOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// The consumer group.
    pub group: &'a str,
    /// A longer value makes a dead letter.
    pub max_record_bytes: usize,
    /// See [`FileConfig::duplicates_within`](super::file::FileConfig::duplicates_within); it begins anew
    /// with each run.
    pub duplicates_within: usize,
    /// Is told when a broker or a registry is waited for.
    pub health: Health,
    /// Set when nothing is to be waited for any more.
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
