//! Opening of topics: their partitions, and where reading begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_operators::{RecordMetadata, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::labels::LabelMatcher;
use super::merge::{Merge, Start};
use super::ready::Role;
use super::{
    KafkaOptions, KafkaSource, LabelReader, LabelTopic, Parser, Resume, SampleReader,
    SamplesConfig, StartAt,
};
use crate::format::Row;
use crate::kafka::{Client, KafkaConfig, KafkaError, ask_by_consumer, consumer};
use crate::schema::Schema;
use crate::source::continuity::Continuity;
use crate::source::decode::Decoder;

/// The topics of a pipeline.
pub struct KafkaTopics<'a> {
    /// The samples.
    pub samples: &'a SamplesConfig,
    /// The labels, if samples do not contain them.
    pub labels: Option<LabelTopic>,
}

/// Opens the topics to resume at `resume`.
///
/// # Errors
/// No broker answers, a topic or partition does not exist, or the records to resume at are deleted.
pub fn open(
    options: &KafkaOptions<'_>,
    topics: KafkaTopics<'_>,
    schema: &Schema,
    resume: &Resume,
) -> Result<KafkaSource, KafkaError> {
    let client = Client::new(&options.health);
    let scout = consumer(options.kafka, options.group, client)?;
    let sample_topic: Arc<str> = topics.samples.topic.as_str().into();
    let label_topic: Option<Arc<str>> = topics
        .labels
        .as_ref()
        .map(|labels| labels.topic.topic.as_str().into());
    let names = [Some(&sample_topic), label_topic.as_ref()];
    let names: Vec<&str> = names.into_iter().flatten().map(|name| &**name).collect();
    let on_gone = ("source.kafka.on_gone", topics.samples.on_gone);
    let mut opening = Opening {
        options,
        consumer: &scout,
        config: topics.samples,
        resume,
        continuity: Continuity::open(&scout, options.kafka, &names, &resume.topics, on_gone)?,
        starts: Vec::new(),
    };
    opening.topic(Role::Samples, &sample_topic)?;
    if let Some(topic) = &label_topic {
        opening.topic(Role::Labels, topic)?;
    }
    let (starts, mut continuity) = (opening.starts, opening.continuity);
    continuity.all_resumed();
    let mut decoder = Decoder::new(schema, label_topic.is_none(), options.duplicates_within);
    decoder.continue_from(resume.samples, &resume.seen);
    decoder.check_tasks(options.levels, &resume.tasks);
    let labels = match topics.labels {
        None => None,
        Some(labels) => {
            let (waiting, early) = (resume.waiting.clone(), resume.early_labels.clone());
            let matcher = LabelMatcher::new(labels.wait, waiting, early);
            let columns = labels.columns;
            Some(LabelReader::new(options, &labels.topic, columns, matcher)?)
        }
    };
    let topic = topics.samples.to_topic();
    Ok(KafkaSource {
        merge: Merge::new(options, starts, continuity)?,
        samples: SampleReader {
            parser: Parser::new(options, &topic, decoder.columns())?,
            row: Row::new(decoder.columns().len()),
            decoder,
            metadata: RecordMetadata::new(sample_topic.clone()),
        },
        labels,
        position: resume.records,
        max_record_bytes: options.max_record_bytes,
    })
}

/// Collects where reading begins in each partition.
struct Opening<'a> {
    options: &'a KafkaOptions<'a>,
    consumer: &'a BaseConsumer<Client>,
    config: &'a SamplesConfig,
    resume: &'a Resume,
    continuity: Continuity,
    starts: Vec<Start>,
}

impl Opening<'_> {
    fn topic(&mut self, role: Role, topic: &Arc<str>) -> Result<(), KafkaError> {
        for partition in numbers(self.consumer, self.options.kafka, topic)? {
            let start = self.start(role, topic, partition)?;
            self.starts.push(start);
        }
        Ok(())
    }

    fn start(&mut self, role: Role, topic: &Arc<str>, partition: i32) -> Result<Start, KafkaError> {
        let (low, high) = ask_by_consumer(self.consumer, self.options.kafka, |patience| {
            self.consumer.fetch_watermarks(topic, partition, patience)
        })?;
        let place = TopicPartition {
            topic: topic.clone(),
            partition,
        };
        let resumed = self.resume.offsets.get(&place).copied();
        let offset = match (resumed, self.config.from) {
            (Some(offset), _) => self.continuity.resume(&place, offset, (low, high))?,
            // A partition that was added later is read from its start.
            (None, StartAt::Earliest) => low,
            (None, StartAt::Latest) if self.resume.offsets.is_empty() => high,
            (None, StartAt::Latest) => low,
        };
        Ok(Start {
            role,
            topic: topic.clone(),
            partition,
            offset,
            is_resumed: resumed == Some(offset),
            stop: self.config.stop_at_end.then_some(high),
        })
    }
}

/// The partitions of topics that a process reads.
///
/// # Errors
/// No broker answers, or a topic or partition does not exist.
pub fn partitions(
    kafka: &KafkaConfig,
    group: &str,
    topics: &[&str],
) -> Result<BTreeSet<TopicPartition>, KafkaError> {
    let consumer = consumer(kafka, group, Client::default())?;
    let mut places = BTreeSet::new();
    for topic in topics {
        let name: Arc<str> = (*topic).into();
        for partition in numbers(&consumer, kafka, topic)? {
            places.insert(TopicPartition {
                topic: name.clone(),
                partition,
            });
        }
    }
    Ok(places)
}

/// Numbers of the partitions of a topic that a process reads.
pub(super) fn numbers(
    consumer: &BaseConsumer<Client>,
    kafka: &KafkaConfig,
    topic: &str,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = ask_by_consumer(consumer, kafka, |patience| {
        consumer.fetch_metadata(Some(topic), patience)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let count = found.map_or(0, |found| found.partitions().len());
    if count == 0 {
        return Err(KafkaError::NoTopic {
            topic: topic.to_string(),
            brokers: kafka.brokers.clone(),
        });
    }
    let Some(wanted) = &kafka.partitions else {
        return Ok((0..count as i32).collect());
    };
    match wanted.iter().find(|wanted| *wanted as usize >= count) {
        None => Ok(wanted.iter().collect()),
        Some(partition) => Err(KafkaError::NoPartition {
            topic: topic.to_string(),
            count,
            partition,
        }),
    }
}
