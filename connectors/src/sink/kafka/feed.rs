//! A feed: samples, and their delayed labels, sent to the topics that a pipeline reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::label::Delay;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::format::{Row, Value};
use crate::kafka::{
    Client, Health, KafkaConfig, KafkaError, TopicConfig, Undelivered, producer, remind,
    topic_partitions,
};
use crate::schema::Schema;
use crate::sink::samples::{Encoder, Field, encoder};

/// Messages between two polls of librdkafka, since a poll costs about as much as a message.
const POLLED: u64 = 64;
/// Time to wait at once for room in librdkafka's queue.
const PAUSE: Duration = Duration::from_millis(50);

/// Parameters of a [`Feed`].
pub struct FeedOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// The topic of samples.
    pub samples: TopicConfig,
    /// The topic of labels, if samples do not contain them.
    pub labels: Option<LabelFeed>,
    /// The columns of a sample.
    pub schema: &'a Schema,
    /// The column whose text is the key of the messages.
    pub key: &'a str,
    /// Receives the reason while the feed waits for Kafka.
    pub health: Health,
    /// Set when the feed is to stop waiting.
    pub stop: Arc<AtomicBool>,
}

/// Labels on a topic of their own.
pub struct LabelFeed {
    /// The topic.
    pub topic: TopicConfig,
    /// The name of the column with the sample's id in a label.
    pub id: String,
    /// The delay of a label after its sample. Time is wall-clock time.
    pub delay: Delay,
}

/// A producer of samples and labels from rows whose cells are the columns of the schema.
pub struct Feed {
    producer: BaseProducer<Client>,
    client: Client,
    brokers: String,
    stop: Arc<AtomicBool>,
    samples: FeedTopic,
    labels: Option<LabelQueue>,
    /// The cell of the key.
    key_cell: usize,
    /// Number of messages sent.
    sent: u64,
    undelivered: Option<Undelivered>,
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: String,
}

/// A topic with the encoder of its messages.
struct FeedTopic {
    topic: String,
    encoder: Encoder,
    sent: u64,
}

/// A key and a value.
type KeyValue = (Vec<u8>, Vec<u8>);

/// Labels that are sent after their samples.
struct LabelQueue {
    outlet: FeedTopic,
    /// The cells of id and label; a row without both has no label to send.
    cells: [usize; 2],
    delay: Delay,
    waiting: VecDeque<WaitingLabel>,
    /// Buffers of labels that were sent.
    spare: Vec<KeyValue>,
}

/// A label that is not due yet.
struct WaitingLabel {
    /// When to send it.
    due: Due,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Due {
    /// Once this many samples are sent.
    Samples(u64),
    /// At this time.
    Time(Instant),
}

impl LabelQueue {
    /// Takes the next label if it is due.
    fn take_due(&mut self, samples: u64, now: Instant) -> Option<WaitingLabel> {
        let is_due = match self.waiting.front()?.due {
            Due::Samples(due) => samples >= due,
            Due::Time(due) => now >= due,
        };
        is_due.then(|| self.waiting.pop_front())?
    }

    /// When the label of the sample with number `samples` is due.
    fn due(&self, samples: u64) -> Due {
        match self.delay {
            Delay::Records(records) => Due::Samples(samples.saturating_add(records)),
            Delay::Time(micros) => {
                let micros = Duration::from_micros(micros.unsigned_abs());
                Due::Time(Instant::now() + micros)
            }
        }
    }

    /// Key and value of the label of a row, if it has one.
    ///
    /// # Errors
    /// The topic's schema cannot hold the label: the reason.
    fn label(&mut self, row: &Row, key: &[u8]) -> Result<Option<KeyValue>, String> {
        if self
            .cells
            .iter()
            .any(|cell| row.get(*cell) == Value::Missing)
        {
            return Ok(None);
        }
        let (mut key_buffer, mut value) = self.spare.pop().unwrap_or_default();
        key_buffer.clear();
        key_buffer.extend_from_slice(key);
        value.clear();
        self.outlet.encoder.encode(row, &mut value)?;
        Ok(Some((key_buffer, value)))
    }
}

impl Feed {
    /// Connects and checks the topics.
    ///
    /// # Errors
    /// No broker answers, a topic does not exist, or the topics differ in their number of
    /// partitions.
    pub fn open(options: FeedOptions<'_>) -> Result<Feed, KafkaError> {
        let FeedOptions { kafka, schema, .. } = options;
        let client = Client::new(&options.health);
        let producer = producer(kafka, None, client.clone())?;
        let names = schema.columns();
        let cell = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
        let field = |(cell, name): (usize, &&str)| Field {
            name: name.to_string(),
            cell,
            is_number: schema.is_number(name),
        };
        let mut fields: Vec<Field> = names.iter().enumerate().map(field).collect();
        let partitions = topic_partitions(&producer, kafka, &options.samples.topic)?;
        let labels = match (options.labels, &schema.label) {
            (Some(labels), Some(label)) => {
                let count = topic_partitions(&producer, kafka, &labels.topic.topic)?;
                if count != partitions {
                    return Err(KafkaError::Unmatched {
                        samples: options.samples.topic,
                        sample_count: partitions,
                        labels: labels.topic.topic,
                        label_count: count,
                    });
                }
                let cells = [cell(&schema.id), cell(&label.column)];
                let field = |name: &str, cell: usize, is_number| Field {
                    name: name.to_string(),
                    cell,
                    is_number,
                };
                let is_number = schema.is_number(&label.column);
                fields.retain(|field| field.cell != cells[1]);
                let own = [
                    field(&labels.id, cells[0], false),
                    field(&label.column, cells[1], is_number),
                ];
                Some(LabelQueue {
                    outlet: FeedTopic::new(kafka, labels.topic, &own)?,
                    cells,
                    delay: labels.delay,
                    waiting: VecDeque::new(),
                    spare: Vec::new(),
                })
            }
            _ => None,
        };
        Ok(Feed {
            samples: FeedTopic::new(kafka, options.samples, &fields)?,
            labels,
            key_cell: cell(options.key),
            brokers: kafka.brokers.clone(),
            stop: options.stop,
            producer,
            client,
            sent: 0,
            undelivered: None,
            key: Vec::new(),
            value: Vec::new(),
            scratch: String::new(),
        })
    }

    /// Sends a row as a sample, and the labels that are due. The inner error is the reason why a
    /// topic's schema cannot hold the row, which is then not sent.
    ///
    /// # Errors
    /// The producer has failed for good.
    pub fn send(&mut self, row: &Row) -> Result<Result<(), String>, KafkaError> {
        let (mut key, mut value) = (
            std::mem::take(&mut self.key),
            std::mem::take(&mut self.value),
        );
        key.clear();
        value.clear();
        let text = row.get(self.key_cell).text(&mut self.scratch);
        key.extend_from_slice(text.as_bytes());
        let sent = self.send_sample(row, &key, &mut value)?;
        (self.key, self.value) = (key, value);
        self.send_labels(false)?;
        if self.sent.is_multiple_of(POLLED) {
            self.poll();
        }
        Ok(sent)
    }

    fn send_sample(
        &mut self,
        row: &Row,
        key: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<Result<(), String>, KafkaError> {
        if let Err(reason) = self.samples.encoder.encode(row, value) {
            return Ok(Err(reason));
        }
        let label = match &mut self.labels {
            Some(labels) => labels.label(row, key),
            None => Ok(None),
        };
        let label = match label {
            Ok(label) => label,
            Err(reason) => return Ok(Err(reason)),
        };
        if self.enqueue(&self.samples.topic, key, value)? {
            self.sent += 1;
            self.samples.sent += 1;
            if let Some(labels) = &mut self.labels {
                let due = labels.due(self.samples.sent);
                let label = label.map(|(key, value)| WaitingLabel { due, key, value });
                labels.waiting.extend(label);
            }
        }
        Ok(Ok(()))
    }

    /// Sends the labels that are due; with `no_more_samples` also labels that wait for samples.
    fn send_labels(&mut self, no_more_samples: bool) -> Result<(), KafkaError> {
        let Some(mut labels) = self.labels.take() else {
            return Ok(());
        };
        let samples = if no_more_samples {
            u64::MAX
        } else {
            self.samples.sent
        };
        let now = Instant::now();
        let mut result = Ok(true);
        while let Some(label) = labels.take_due(samples, now) {
            result = self.enqueue(&labels.outlet.topic, &label.key, &label.value);
            if !matches!(result, Ok(true)) {
                labels.waiting.push_front(label);
                break;
            }
            self.sent += 1;
            labels.outlet.sent += 1;
            labels.spare.push((label.key, label.value));
        }
        self.labels = Some(labels);
        result.map(drop)
    }

    /// Passes a message to librdkafka; false if it has no room and the feed is to stop waiting.
    fn enqueue(&self, topic: &str, key: &[u8], value: &[u8]) -> Result<bool, KafkaError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).key(key).payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(PAUSE);
                    if self.stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err((error, _)) => {
                    return Err(KafkaError::Failed {
                        brokers: self.brokers.clone(),
                        reason: error.to_string(),
                    });
                }
            }
        }
    }

    /// Waits until `until`, or until the feed is to stop, and sends labels when they are due.
    ///
    /// # Errors
    /// The producer has failed for good.
    pub fn wait(&mut self, until: Instant) -> Result<(), KafkaError> {
        while !self.stop.load(Ordering::Relaxed) {
            self.send_labels(false)?;
            let now = Instant::now();
            if now >= until {
                break;
            }
            self.poll();
            let next = self.next_label().map_or(until, |next| next.min(until));
            std::thread::sleep(next.saturating_duration_since(now).min(PAUSE));
        }
        Ok(())
    }

    /// When the next label is due, if it waits for a time.
    pub fn next_label(&self) -> Option<Instant> {
        match self.labels.as_ref()?.waiting.front()?.due {
            Due::Time(due) => Some(due),
            Due::Samples(_) => None,
        }
    }

    /// Sends the labels that wait for samples, after the last sample.
    ///
    /// # Errors
    /// The producer has failed for good.
    pub fn send_last_labels(&mut self) -> Result<(), KafkaError> {
        self.send_labels(true)
    }

    /// Waits at most `patience` for all messages to arrive; true if none is in flight any more.
    pub fn drain(&mut self, patience: Duration) -> bool {
        let drained = self.producer.flush(patience).is_ok();
        self.poll();
        drained
    }

    /// Processes delivery reports.
    fn poll(&mut self) {
        self.producer.poll(Duration::ZERO);
        remind(self.producer.client());
        if let Some(more) = self.client.take_undelivered() {
            let count = self.undelivered.as_ref().map_or(0, |known| known.count);
            let undelivered = self.undelivered.get_or_insert(more.clone());
            undelivered.count = count + more.count;
        }
    }

    /// Checks that all messages have arrived.
    ///
    /// # Errors
    /// Some were not delivered, or are still in flight.
    pub fn check(&self) -> Result<(), KafkaError> {
        let pending = self.producer.in_flight_count().max(0) as u64;
        let failed = self.undelivered.as_ref().map_or(0, |failed| failed.count);
        if failed + pending == 0 {
            return Ok(());
        }
        let waiting = self.client.health.waiting();
        let reason = match &self.undelivered {
            Some(failed) => failed.error.to_string(),
            None => waiting.unwrap_or_else(|| "it did not answer in time".to_string()),
        };
        Err(KafkaError::Undelivered {
            count: failed + pending,
            brokers: self.brokers.clone(),
            reason,
        })
    }

    /// Number of samples sent.
    pub fn samples(&self) -> u64 {
        self.samples.sent
    }

    /// Numbers of sent and waiting labels; none if samples contain their labels.
    pub fn labels(&self) -> Option<(u64, u64)> {
        let labels = self.labels.as_ref()?;
        Some((labels.outlet.sent, labels.waiting.len() as u64))
    }
}

impl FeedTopic {
    fn new(
        kafka: &KafkaConfig,
        topic: TopicConfig,
        fields: &[Field],
    ) -> Result<FeedTopic, KafkaError> {
        Ok(FeedTopic {
            encoder: encoder(kafka, &topic, fields)?,
            topic: topic.topic,
            sent: 0,
        })
    }
}
