//! Predictions and dead letters to topics of Kafka, in transactions or at least once.

mod feed;
mod message;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::DeadLetter;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::kafka::{
    Client, Delivery, Headers, Health, KafkaConfig, KafkaError, producer, topic_partitions,
};
use message::{Message, Messages};
use transaction::Transactions;

pub use feed::{Feed, FeedOptions, LabelFeed};
pub use message::MessageRenderer;
pub use transaction::{Outcome, committed};

/// How long a run that is told to stop goes on waiting for Kafka.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Topics to write to.
#[derive(Clone, Debug, Default)]
pub struct OutputTopics {
    /// Where predictions go.
    pub predictions: Option<String>,
    /// Where bad records go.
    pub dead_letters: Option<String>,
}

/// A producer for the outputs of a pipeline.
pub struct KafkaSink {
    producer: BaseProducer<Client>,
    client: Client,
    topics: OutputTopics,
    transactions: Option<Transactions>,
    brokers: String,
    /// Set when the run is to stop, and since when that has been seen.
    stop: Arc<AtomicBool>,
    stopping: Option<Instant>,
    /// Whether a message could not even be handed to librdkafka: the transaction is void.
    refused: Option<ClientError>,
}

impl KafkaSink {
    /// Opens the outputs. With exactly-once delivery it fences whoever has the same partitions of the same
    /// group, and settles what that one left open.
    ///
    /// # Errors
    /// No broker answers, or a topic is not there.
    pub fn open(
        config: &KafkaConfig,
        group: &str,
        topics: OutputTopics,
        health: &Health,
        stop: Arc<AtomicBool>,
    ) -> Result<KafkaSink, KafkaError> {
        let client = Client {
            health: health.clone(),
            ..Client::default()
        };
        let id = match config.delivery {
            Delivery::ExactlyOnce => Some(transaction::id(config, group)),
            Delivery::AtLeastOnce => None,
        };
        let producer = producer(config, id.as_deref(), client.clone())?;
        let mut sink = KafkaSink {
            producer,
            client,
            topics,
            transactions: None,
            brokers: config.brokers.clone(),
            stop,
            stopping: None,
            refused: None,
        };
        let topics = [&sink.topics.predictions, &sink.topics.dead_letters];
        for topic in topics.into_iter().flatten() {
            topic_partitions(&sink.producer, &config.brokers, topic)?;
        }
        if let Some(id) = id {
            let transactions = Transactions::init(config, group, id, &sink.producer)?;
            sink.transactions = Some(transactions);
        }
        Ok(sink)
    }

    /// Whether results are written in transactions.
    pub fn is_transactional(&self) -> bool {
        self.transactions.is_some()
    }

    /// Sends rendered predictions. They need not have arrived yet.
    pub fn send_predictions(&mut self, bytes: &[u8]) -> Result<(), KafkaError> {
        let Some(topic) = self.topics.predictions.clone() else {
            return Ok(());
        };
        for message in Messages(bytes) {
            self.send(&topic, message)?;
        }
        // Hears of what has arrived, so that its memory is free again.
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Sends a bad record: the bytes as they came, and in headers the reason and where it stood.
    pub fn send_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let Some(topic) = self.topics.dead_letters.clone() else {
            return Ok(());
        };
        let mut headers = Vec::new();
        let mut header = |name: &str, value: &str| {
            crate::kafka::push_header(&mut headers, name, Some(value.as_bytes()));
        };
        header("perennial.reason", &letter.reason);
        let Some(record) = &letter.message else {
            header("perennial.source", &letter.source);
            header("perennial.record", &letter.record.to_string());
            return self.send(
                &topic,
                Message {
                    timestamp: -1,
                    key: None,
                    headers: &headers,
                    value: letter.content.as_bytes(),
                },
            );
        };
        header("perennial.topic", &record.place.topic);
        header("perennial.partition", &record.place.partition.to_string());
        header("perennial.offset", &record.offset.to_string());
        if record.value.is_none() {
            // A message without a value is a deletion where a topic is compacted: that a dead letter is not.
            header("perennial.no_value", "true");
        }
        headers.extend_from_slice(record.headers.as_deref().unwrap_or_default());
        self.send(
            &topic,
            Message {
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                headers: &headers,
                value: record.value.as_deref().unwrap_or_default(),
            },
        )
    }

    fn send(&mut self, topic: &str, message: Message<'_>) -> Result<(), KafkaError> {
        if self.refused.is_some() {
            return Ok(());
        }
        if let Some(transactions) = &mut self.transactions {
            transactions.begin(&self.producer)?;
        }
        let mut headers = OwnedHeaders::new_with_capacity(8);
        for (key, value) in Headers(message.headers) {
            headers = headers.insert(Header { key, value });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .payload(message.value)
            .headers(headers);
        if let Some(key) = message.key {
            record = record.key(key);
        }
        if message.timestamp >= 0 {
            record = record.timestamp(message.timestamp);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(PAUSE);
                    self.check_stop()?;
                }
                Err((error, _)) => {
                    // What was sent before will be sent again with it.
                    self.refused = Some(error);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until all that was sent has arrived; false if it has to be sent again.
    ///
    /// # Errors
    /// It never will.
    pub fn flush(&mut self) -> Result<bool, KafkaError> {
        loop {
            match self.producer.flush(PAUSE) {
                Ok(()) => break,
                Err(ClientError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {
                    self.check_stop()?
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        match self.take_undelivered() {
            None => Ok(true),
            Some(error) => {
                self.client.health.waits(&error.to_string());
                self.check_stop()?;
                std::thread::sleep(PAUSE);
                Ok(false)
            }
        }
    }

    fn take_undelivered(&mut self) -> Option<ClientError> {
        let undelivered = self.client.take_undelivered();
        self.refused
            .take()
            .or(undelivered.map(|undelivered| undelivered.error))
    }

    /// Fails when the run is to stop and has waited for long enough.
    fn check_stop(&mut self) -> Result<(), KafkaError> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let since = *self.stopping.get_or_insert_with(Instant::now);
        if since.elapsed() < LAST_PATIENCE {
            return Ok(());
        }
        let waiting = self.client.health.waiting().unwrap_or_default();
        Err(KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: format!(
                "the run was told to stop and could not commit its last results, which the next one will \
                 make again ({waiting})"
            ),
        })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: error.to_string(),
        }
    }
}
