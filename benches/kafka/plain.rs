//! Baseline of the pipeline: a loop on one thread that polls, decodes, predicts in batches and
//! produces, and does nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{Array2, s};
use perennial_connectors::format::{JsonParser, Row};
use perennial_connectors::onnx::Session;
use perennial_connectors::schema::Schema;
use perennial_connectors::source::Decoder;
use perennial_operators::flow::{EpochHeader, Phase, predicted_class};
use perennial_operators::ingest::Allocator;
use perennial_operators::{Epoch, Level, RawRecord, RecordMetadata, TaskId, TaskLevels};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::common::Result;

/// Records that are decoded before their predictions are made.
const RECORDS: usize = 4096;
/// Rows that a session is given at a time: more are not faster.
const ROWS: usize = 80;

/// A prediction as it is sent.
#[derive(Serialize)]
struct Prediction<'a> {
    id: &'a str,
    time: i64,
    site: &'a str,
    task: &'a str,
    model: &'a str,
    prediction: &'a str,
    probabilities: BTreeMap<&'a str, f32>,
}

/// The loop and what it needs.
pub struct Plain {
    topic: Arc<str>,
    consumer: BaseConsumer,
    producer: BaseProducer,
    parser: JsonParser,
    row: Row,
    decoder: Decoder,
    metadata: RecordMetadata,
    allocator: Allocator,
    sessions: BTreeMap<TaskId, Session>,
    classes: Vec<String>,
    partitions: i32,
    value: Vec<u8>,
}

impl Plain {
    /// A loop over a whole topic.
    pub fn new(
        brokers: &str,
        topic: &str,
        partitions: i32,
        schema: &Schema,
        sessions: BTreeMap<TaskId, Session>,
    ) -> Result<Plain> {
        let client = || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers);
            config
        };
        let consumer: BaseConsumer = client()
            .set("group.id", "plain")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let producer = client()
            .set("acks", "all")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        let decoder = Decoder::new(schema, true, 0);
        let topic: Arc<str> = topic.into();
        let level = vec![(1, "season".to_string()), (2, "zone".to_string())];
        let label = schema.label.as_ref().ok_or("a schema with a label")?;
        Ok(Plain {
            metadata: RecordMetadata::new(topic.clone()),
            topic,
            consumer,
            producer,
            parser: JsonParser::new(decoder.columns()),
            row: Row::new(decoder.columns().len()),
            decoder,
            allocator: Allocator::new(TaskLevels {
                levels: vec![Level::Attributes(level)],
            }),
            sessions,
            classes: label.classes.clone(),
            partitions,
            value: Vec::new(),
        })
    }

    /// Works through the topic into another one; returns records a second.
    pub fn run(mut self, to: &str) -> Result<f64> {
        let (mut ended, mut pending, mut records) = (0, 0, 0);
        let mut began = None;
        while ended < self.partitions {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    began.get_or_insert_with(Instant::now);
                    let value = message.payload().ok_or("a record without a value")?;
                    self.parser.parse(value, &mut self.row)?;
                    let number = message.offset() as u64;
                    self.decoder.push(&self.row, number)?;
                    self.metadata.push(&RawRecord {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp: message.timestamp().to_millis().unwrap_or(-1),
                        key: message.key(),
                        headers: None,
                        value: None,
                    });
                    pending += 1;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
            if pending == RECORDS || (ended == self.partitions && pending > 0) {
                self.predict(to)?;
                records += pending;
                pending = 0;
            }
        }
        self.producer.flush(Duration::from_secs(60))?;
        let began = began.ok_or("the topic is empty")?;
        Ok(records as f64 / began.elapsed().as_secs_f64())
    }

    fn predict(&mut self, to: &str) -> Result<()> {
        let batch = self.decoder.take();
        let metadata =
            std::mem::replace(&mut self.metadata, RecordMetadata::new(self.topic.clone()));
        let header = EpochHeader {
            epoch: Epoch(0),
            end: batch.len() as u64,
            clock: 0,
            phase: Phase::Live,
        };
        let allocated = self.allocator.allocate(header, batch);
        let mut said = Array2::zeros((ROWS, self.classes.len()));
        for group in &allocated.groups {
            let leaf = group.path.leaf();
            let owner = [leaf.task, TaskId::BASE]
                .into_iter()
                .find(|task| self.sessions.contains_key(task));
            let owner = owner.ok_or("no model at all")?;
            let name = if owner == leaf.task { &*leaf.name } else { "" };
            let model = format!("{name} @1");
            for rows in allocated.order[group.start..group.end].chunks(ROWS) {
                let order: Vec<usize> = rows.iter().map(|row| *row as usize).collect();
                let features = allocated.batch.features.select(ndarray::Axis(0), &order);
                let session = self.sessions.get_mut(&owner).ok_or("no model")?;
                session.predict(features.view(), said.slice_mut(s![..rows.len(), ..]))?;
                for (number, row) in order.into_iter().enumerate() {
                    let probabilities = said.row(number);
                    let prediction = Prediction {
                        id: allocated.batch.ids.get(row),
                        time: allocated.batch.times[row],
                        site: allocated.batch.attribute(0, row),
                        task: &leaf.name,
                        model: &model,
                        prediction: &self.classes[predicted_class(probabilities)],
                        probabilities: self
                            .classes
                            .iter()
                            .map(String::as_str)
                            .zip(probabilities.iter().copied())
                            .collect(),
                    };
                    self.value.clear();
                    serde_json::to_writer(&mut self.value, &prediction)?;
                    self.send(to, &metadata, row, &leaf.name, &model)?;
                }
            }
        }
        Ok(())
    }

    fn send(
        &self,
        to: &str,
        metadata: &RecordMetadata,
        row: usize,
        task: &str,
        model: &str,
    ) -> Result<()> {
        let header = |key: &'static str, value: &str, headers: OwnedHeaders| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        };
        let mut headers = OwnedHeaders::new_with_capacity(5);
        headers = header("perennial.topic", &metadata.topic, headers);
        let partition = metadata.partitions[row].to_string();
        headers = header("perennial.partition", &partition, headers);
        headers = header(
            "perennial.offset",
            &metadata.offsets[row].to_string(),
            headers,
        );
        headers = header("perennial.task", task, headers);
        headers = header("perennial.model", model, headers);
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(to)
            .payload(&self.value[..])
            .timestamp(metadata.timestamps[row])
            .headers(headers);
        if let Some(key) = metadata.keys.get(row) {
            record = record.key(key);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }
}
