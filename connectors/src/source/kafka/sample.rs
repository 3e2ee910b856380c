//! A sample of a topic's messages, for a look at what they contain.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::open::numbers;
use crate::format::{JsonParser, KeyList, Row};
use crate::kafka::{Client, KafkaConfig, KafkaError, consumer};
use crate::source::{Next, Rows, SourceError};

/// The consumer group. Nothing is committed to it.
const GROUP: &str = "perennial-init";
/// Bound on the time of reading.
const LONGEST: Duration = Duration::from_secs(30);
/// Bound on the bytes of the values.
const MOST_BYTES: usize = 256 << 20;

/// The values of a topic's oldest messages.
#[derive(Debug)]
pub struct TopicSample {
    values: Vec<Vec<u8>>,
}

impl TopicSample {
    /// Reads up to `most` messages, from the start of all partitions to their ends.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn read(kafka: &KafkaConfig, topic: &str, most: usize) -> Result<TopicSample, KafkaError> {
        let consumer = consumer(kafka, GROUP, Client::default())?;
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: kafka.brokers.clone(),
            reason: error.to_string(),
        };
        let partitions = numbers(&consumer, kafka, topic)?;
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            let added = assignment.add_partition_offset(topic, *partition, Offset::Beginning);
            added.map_err(failed)?;
        }
        consumer.assign(&assignment).map_err(failed)?;
        let values = values(&consumer, partitions.len(), most);
        Ok(TopicSample { values })
    }

    /// The keys of the messages that are JSON objects, in the order in which they appear.
    pub fn columns(&self) -> Vec<String> {
        let mut keys = KeyList::default();
        self.values.iter().for_each(|value| keys.add(value));
        keys.into_columns()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the topic has none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The messages as rows with `columns` as their cells.
    pub fn rows<'a>(&'a self, columns: &[String]) -> impl Rows + use<'a> {
        SampleRows {
            values: self.values.iter(),
            parser: JsonParser::new(columns),
        }
    }
}

fn values(consumer: &BaseConsumer<Client>, partitions: usize, most: usize) -> Vec<Vec<u8>> {
    let (mut values, mut bytes, mut ended) = (Vec::new(), 0, BTreeSet::new());
    let began = Instant::now();
    let is_over = || began.elapsed() > LONGEST;
    while ended.len() < partitions && values.len() < most && bytes < MOST_BYTES && !is_over() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload().map(<[u8]>::to_vec);
                bytes += value.as_ref().map_or(0, Vec::len);
                values.extend(value);
            }
            Some(Err(ClientError::PartitionEOF(partition))) => _ = ended.insert(partition),
            // It goes on by itself, or the time is over.
            Some(Err(_)) | None => {}
        }
    }
    values
}

struct SampleRows<'a> {
    values: std::slice::Iter<'a, Vec<u8>>,
    parser: JsonParser,
}

impl Rows for SampleRows<'_> {
    fn next(&mut self, row: &mut Row) -> Result<Next, SourceError> {
        let Some(value) = self.values.next() else {
            return Ok(Next::End);
        };
        let parsed = self.parser.parse(value, row);
        Ok(parsed.map_or_else(Next::Bad, |()| Next::Record))
    }
}
