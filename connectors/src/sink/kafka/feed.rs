//! Samples, and labels behind them, to the topics that a pipeline reads them from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::label::Delay;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::format::{Row, Value};
use crate::kafka::{
    Client, Health, KafkaConfig, KafkaError, TopicConfig, Undelivered, producer, topic_partitions,
};
use crate::schema::Schema;
use crate::sink::samples::{Encoder, Field, encoder};

/// After so many messages librdkafka is asked what has arrived, which costs about as much as a message.
const POLLED: u64 = 64;
/// How long to wait for room in librdkafka's queue before looking again whether to go on.
const PAUSE: Duration = Duration::from_millis(50);

/// What a feed is made of.
pub struct FeedOptions<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaConfig,
    /// Where samples go.
    pub samples: TopicConfig,
    /// Where labels go, if not with their samples.
    pub labels: Option<LabelFeed>,
    /// The columns of a sample.
    pub schema: &'a Schema,
    /// The column whose text is the key of the messages.
    pub key: &'a str,
    /// Is told when Kafka is waited for.
    pub health: Health,
    /// Set when nothing is to be waited for any more.
    pub stop: Arc<AtomicBool>,
}

/// Labels on a topic of their own.
pub struct LabelFeed {
    /// The topic.
    pub topic: TopicConfig,
    /// The column with the sample's id there.
    pub id: String,
    /// How much later than its sample a label goes. Time is that of the clock on the wall.
    pub delay: Delay,
}

/// Sends rows whose cells are the columns of the schema, in their order.
pub struct Feed {
    producer: BaseProducer<Client>,
    client: Client,
    brokers: String,
    stop: Arc<AtomicBool>,
    samples: Outlet,
    labels: Option<Labels>,
    /// The cell of the key.
    key_cell: usize,
    /// Messages so far.
    sent: u64,
    undelivered: Option<Undelivered>,
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: String,
}

/// A topic and what is written to it.
struct Outlet {
    topic: String,
    encoder: Encoder,
    sent: u64,
}

/// A key and a value.
type Message = (Vec<u8>, Vec<u8>);

struct Labels {
    outlet: Outlet,
    /// The cells of id and label: without both there is nothing to send.
    cells: [usize; 2],
    delay: Delay,
    waiting: VecDeque<Waiting>,
    /// Keys and values of labels that are gone, whose memory is used again.
    spare: Vec<Message>,
}

/// A label that waits for its time.
struct Waiting {
    /// Once so many samples are sent, or at this moment.
    due: Due,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Due {
    Samples(u64),
    Time(Instant),
}

impl Labels {
    /// The next label, if its time has come.
    fn take_due(&mut self, samples: u64, now: Instant) -> Option<Waiting> {
        let is_due = match self.waiting.front()?.due {
            Due::Samples(due) => samples >= due,
            Due::Time(due) => now >= due,
        };
        is_due.then(|| self.waiting.pop_front())?
    }

    /// When the label of a sample goes that has just gone, after so many.
    fn due(&self, samples: u64) -> Due {
        match self.delay {
            Delay::Records(records) => Due::Samples(samples.saturating_add(records)),
            Delay::Time(micros) => {
                let micros = Duration::from_micros(micros.unsigned_abs());
                Due::Time(Instant::now() + micros)
            }
        }
    }

    /// Key and value of the label of a row, if it has one; or why the topic's schema cannot hold it.
    fn label(&mut self, row: &Row, key: &[u8]) -> Result<Option<Message>, String> {
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
    /// Connects, and finds the topics.
    ///
    /// # Errors
    /// No broker answers, a topic is not there, or there are not as many partitions for labels as for samples.
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
                Some(Labels {
                    outlet: Outlet::new(kafka, labels.topic, &own)?,
                    cells,
                    delay: labels.delay,
                    waiting: VecDeque::new(),
                    spare: Vec::new(),
                })
            }
            _ => None,
        };
        Ok(Feed {
            samples: Outlet::new(kafka, options.samples, &fields)?,
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

    /// Sends a row as a sample, and the labels whose time has come with it. The inner error says in a sentence
    /// why a topic's schema cannot hold the row, which is then not sent.
    ///
    /// # Errors
    /// Nothing more can be sent, ever.
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
                let label = label.map(|(key, value)| Waiting { due, key, value });
                labels.waiting.extend(label);
            }
        }
        Ok(Ok(()))
    }

    /// Sends the labels whose time has come, or those too that wait for further samples.
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

    /// Hands a message to librdkafka; false if it has no room and nothing is to be waited for any more.
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

    /// Waits until `until`, and sends the labels meanwhile whose time comes; not when it is to stop.
    ///
    /// # Errors
    /// Nothing more can be sent, ever.
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

    /// When the next label is due that waits for its time.
    pub fn next_label(&self) -> Option<Instant> {
        match self.labels.as_ref()?.waiting.front()?.due {
            Due::Time(due) => Some(due),
            Due::Samples(_) => None,
        }
    }

    /// Sends the labels that wait for further samples, of which there are none.
    ///
    /// # Errors
    /// Nothing more can be sent, ever.
    pub fn send_last_labels(&mut self) -> Result<(), KafkaError> {
        self.send_labels(true)
    }

    /// Waits that long for what was sent to arrive; true if nothing is on its way any more.
    pub fn drain(&mut self, patience: Duration) -> bool {
        let drained = self.producer.flush(patience).is_ok();
        self.poll();
        drained
    }

    /// Hears of what has arrived.
    fn poll(&mut self) {
        self.producer.poll(Duration::ZERO);
        if let Some(more) = self.client.take_undelivered() {
            let count = self.undelivered.as_ref().map_or(0, |known| known.count);
            let undelivered = self.undelivered.get_or_insert(more.clone());
            undelivered.count = count + more.count;
        }
    }

    /// What did not arrive: it was given up, or is still on its way.
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

    /// Samples sent.
    pub fn samples(&self) -> u64 {
        self.samples.sent
    }

    /// Labels sent on a topic of their own, and how many wait; none where they go with their samples.
    pub fn labels(&self) -> Option<(u64, u64)> {
        let labels = self.labels.as_ref()?;
        Some((labels.outlet.sent, labels.waiting.len() as u64))
    }
}

impl Outlet {
    fn new(
        kafka: &KafkaConfig,
        topic: TopicConfig,
        fields: &[Field],
    ) -> Result<Outlet, KafkaError> {
        Ok(Outlet {
            encoder: encoder(kafka, &topic, fields)?,
            topic: topic.topic,
            sent: 0,
        })
    }
}
