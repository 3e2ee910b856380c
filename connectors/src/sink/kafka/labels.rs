//! Labels given by hand, sent to the topic that a pipeline reads.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::format::Row;
use crate::kafka::{
    Client, Health, KafkaConfig, KafkaError, TopicConfig, producer, topic_partitions,
};
use crate::schema::Label;
use crate::sink::samples::{Encoder, Field, encoder};

/// How long labels may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// A producer of labels.
pub struct LabelSender {
    producer: BaseProducer<Client>,
    client: Client,
    encoder: Encoder,
    topic: String,
    brokers: String,
    row: Row,
    value: Vec<u8>,
}

impl LabelSender {
    /// Connects and checks the topic. `id` is the column with the sample's id in a label.
    ///
    /// # Errors
    /// No broker answers, or the topic does not exist.
    pub fn open(
        kafka: &KafkaConfig,
        topic: &TopicConfig,
        id: &str,
        label: &Label,
    ) -> Result<LabelSender, KafkaError> {
        let client = Client::new(&Health::default());
        let producer = producer(kafka, None, client.clone())?;
        topic_partitions(&producer, kafka, &topic.topic)?;
        let field = |name: &str, cell, is_number| Field {
            name: name.to_string(),
            cell,
            is_number,
        };
        let is_number = label.classes.is_empty();
        let fields = [field(id, 0, false), field(&label.column, 1, is_number)];
        Ok(LabelSender {
            encoder: encoder(kafka, topic, &fields)?,
            producer,
            client,
            topic: topic.topic.clone(),
            brokers: kafka.brokers.clone(),
            row: Row::new(2),
            value: Vec::new(),
        })
    }

    /// Sends the label of a sample with the key of the sample.
    ///
    /// # Errors
    /// The label cannot be sent.
    pub fn send(&mut self, key: Option<&[u8]>, id: &str, label: &str) -> Result<(), KafkaError> {
        self.row.set_text(0, id);
        self.row.set_text(1, label);
        self.value.clear();
        let encoded = self.encoder.encode(&self.row, &mut self.value);
        encoded.map_err(|reason| self.failed(&reason))?;
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(&self.topic).payload(&self.value);
        if let Some(key) = key {
            record = record.key(key);
        }
        let sent = self.producer.send(record);
        sent.map_err(|(error, _)| self.failed(&error))
    }

    /// Waits until all labels have arrived.
    ///
    /// # Errors
    /// Some have not.
    pub fn finish(self) -> Result<(), KafkaError> {
        let flushed = self.producer.flush(PATIENCE);
        flushed.map_err(|error| self.failed(&error))?;
        match self.client.take_undelivered() {
            None => Ok(()),
            Some(lost) => Err(self.failed(&lost.error)),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: error.to_string(),
        }
    }
}
