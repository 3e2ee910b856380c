//! Predictions, dead letters and label requests to topics of Kafka, in transactions or at least
//! once.

mod dead_letters;
mod feed;
mod labels;
mod mark;
mod message;
mod overlap;
mod recovery;
mod refusals;
mod register;
mod transaction;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial_operators::TopicPartition;
use perennial_operators::flow::DeadLetter;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use self::dead_letters::refused_prediction;
pub use self::feed::{Feed, FeedOptions, LabelFeed};
pub use self::labels::LabelSender;
pub use self::mark::{CommitMark, RunMark, committed};
pub use self::message::MessageRenderer;
use self::message::{Message, Messages};
use self::refusals::{TopicLimits, too_large_for};
pub use self::register::register_predictions;
use self::transaction::Transactions;
pub use self::transaction::{Outcome, end_transaction};
use crate::kafka::{
    Client, Delivery, Headers, Health, KafkaConfig, KafkaError, Side, is_refusal, is_too_large,
    producer, remind, topic_partitions,
};

/// How long a run that is to stop still waits for Kafka.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Size of predictions, bytes, that a topic must take. Without anything of their sample's message
/// predictions are shorter, except with very many attributes or classes.
const ORDINARY: usize = 16 << 10;

/// Time of one poll for delivery reports.
const GLANCE: Duration = Duration::from_millis(1);

/// Topics to write to.
#[derive(Clone, Debug, Default)]
pub struct OutputTopics {
    /// The topic of predictions.
    pub predictions: Option<String>,
    /// The topic of dead letters.
    pub dead_letters: Option<String>,
    /// The topic of label requests.
    pub label_requests: Option<String>,
}

impl OutputTopics {
    /// All topics that are set.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        let topics = [&self.predictions, &self.dead_letters, &self.label_requests];
        topics.into_iter().flatten()
    }
}

/// A producer for the outputs of a pipeline.
pub struct KafkaSink {
    producer: BaseProducer<Client>,
    client: Client,
    topics: OutputTopics,
    transactions: Option<Transactions>,
    config: KafkaConfig,
    group: String,
    /// The partitions that are read, whose offsets are committed.
    places: BTreeSet<TopicPartition>,
    /// This run, in the marks of its commits.
    run: RunMark,
    /// Marks that the partitions had when the run began.
    begun: BTreeSet<CommitMark>,
    /// When the sink last looked for other processes with some of the partitions.
    looked: Option<Instant>,
    /// The group's last commit.
    last: Option<CommitMark>,
    /// The commit for which the producer was last made anew.
    recovering: Option<u64>,
    /// Set when the run is to stop.
    stop: Arc<AtomicBool>,
    /// When the sink first waited after that.
    stopping: Option<Instant>,
    /// Why librdkafka refused a message, which voids the transaction.
    refused: Option<ClientError>,
    limits: TopicLimits,
}

impl KafkaSink {
    /// Opens the outputs. With exactly-once delivery this fences another process with the same
    /// partitions of the same group, and settles its open transaction.
    ///
    /// # Errors
    /// No broker answers, or a topic does not exist.
    pub fn open(
        config: &KafkaConfig,
        group: &str,
        topics: OutputTopics,
        health: &Health,
        stop: Arc<AtomicBool>,
    ) -> Result<KafkaSink, KafkaError> {
        let client = Client::new(&health.of(Side::Output));
        let run = RunMark::new(config);
        let id = match config.delivery {
            Delivery::ExactlyOnce => Some(run.transactional_id(group)),
            Delivery::AtLeastOnce => None,
        };
        let producer = producer(config, id.as_deref(), client.clone())?;
        let mut sink = KafkaSink {
            producer,
            client,
            topics,
            transactions: None,
            config: config.clone(),
            group: group.to_string(),
            places: BTreeSet::new(),
            run,
            begun: BTreeSet::new(),
            looked: None,
            last: None,
            recovering: None,
            stop,
            stopping: None,
            refused: None,
            limits: TopicLimits::default(),
        };
        for topic in sink.topics.all() {
            topic_partitions(&sink.producer, config, topic)?;
        }
        if let Some(id) = id {
            let transactions = Transactions::init(config, group, id, &sink.producer)?;
            sink.transactions = Some(transactions);
        }
        Ok(sink)
    }

    /// Sets the partitions that are read, and the marks of the group's last commits with any of
    /// them, after which this run goes on.
    pub fn go_on_after(&mut self, begun: BTreeSet<CommitMark>, places: BTreeSet<TopicPartition>) {
        (self.last, self.places) = (begun.last().cloned(), places);
        self.begun = begun;
    }

    /// This run, in the marks of its commits.
    pub fn run(&self) -> &RunMark {
        &self.run
    }

    /// Whether results are written in transactions.
    pub fn is_transactional(&self) -> bool {
        self.transactions.is_some()
    }

    /// Sends rendered predictions, which need not have arrived yet. A prediction that is too large
    /// goes without the headers of its sample. Returns the dead letters of samples whose
    /// predictions their topic does not take even so.
    ///
    /// # Errors
    /// The topic does not take ordinary predictions either.
    pub fn send_predictions(&mut self, bytes: &[u8]) -> Result<Vec<DeadLetter>, KafkaError> {
        let mut refused = Vec::new();
        let Some(topic) = self.topics.predictions.clone() else {
            return Ok(refused);
        };
        for prediction in Messages(bytes) {
            let (whole, own) = (prediction.message, prediction.own());
            match self.send_fitting(&topic, [whole, own])? {
                Some(0) => {}
                Some(_) => {
                    let what = "a prediction is too large for its topic: the headers of its sample \
                        are left out";
                    self.limits.tell(&topic, whole.size(), what);
                }
                None if own.size() < ORDINARY => return Err(too_large_for(&topic, own.size())),
                None => {
                    let what = "a prediction is too large for its topic: its sample becomes a dead \
                        letter";
                    self.limits.tell(&topic, own.size(), what);
                    refused.push(refused_prediction(&topic, &prediction));
                }
            }
        }
        // Frees the memory of delivered messages.
        self.producer.poll(Duration::ZERO);
        Ok(refused)
    }

    /// Sends the request for a label, with the key of its sample unless that is too large.
    pub fn send_request(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<(), KafkaError> {
        let Some(topic) = self.topics.label_requests.clone() else {
            return Ok(());
        };
        let form = |key| Message {
            timestamp: -1,
            key,
            headers: &[],
            value,
        };
        let (whole, keyless) = (form(key), form(None));
        match self.send_fitting(&topic, [whole, keyless])? {
            Some(0) => {}
            Some(_) => {
                let what = "a label request is too large for its topic: its key is left out";
                self.limits.tell(&topic, whole.size(), what);
            }
            None => return Err(too_large_for(&topic, keyless.size())),
        }
        Ok(())
    }

    fn send(&mut self, topic: &str, message: Message<'_>) -> Result<(), KafkaError> {
        if self.refused.is_some() {
            return Ok(());
        }
        if let Some(transactions) = &mut self.transactions
            && let Err(error) = transactions.begin(&self.producer)
        {
            // The commit reports it.
            self.refused = Some(error);
            return Ok(());
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
        if message.timestamp >= 0 && !self.limits.is_ahead(message.timestamp) {
            record = record.timestamp(message.timestamp);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(PAUSE);
                    remind(self.producer.client());
                    self.check_stop()?;
                }
                Err((error, _)) if is_too_large(&error) => {
                    return Err(too_large_for(topic, message.size()));
                }
                Err((error, _)) => {
                    // The caller sends the whole transaction again.
                    self.refused = Some(error);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until all messages have arrived; false if they have to be sent again.
    ///
    /// # Errors
    /// They can never arrive.
    pub fn flush(&mut self) -> Result<bool, KafkaError> {
        self.wait()?;
        let undelivered = self.client.take_undelivered();
        let bounded = self.limits.bounds_times();
        if let Some(lost) = &undelivered {
            self.learn(lost, None)?;
        }
        let lost = undelivered.map(|lost| lost.error);
        let Some(error) = self.refused.take().or(lost) else {
            self.limits.clear();
            return Ok(true);
        };
        // A timestamp that is refused although it is bounded shows a wrong clock.
        if !is_refusal(&error) || (bounded && !is_too_large(&error)) {
            self.client.health.report_waiting(&error.to_string());
            self.check_stop()?;
            self.renew()?;
            std::thread::sleep(PAUSE);
        }
        Ok(false)
    }

    /// Waits until every message is delivered, or the transaction can only be aborted: after one
    /// message that was not delivered librdkafka sends none of the others.
    fn wait(&mut self) -> Result<(), KafkaError> {
        let is_lost = |sink: &KafkaSink| sink.is_transactional() && sink.client.has_undelivered();
        while !is_lost(self) && !self.is_drained()? {}
        Ok(())
    }

    /// Looks for delivery reports; returns whether every message is delivered or given up.
    fn is_drained(&mut self) -> Result<bool, KafkaError> {
        // With a longer timeout a flush takes at least a tenth of a second.
        match self.producer.flush(Duration::ZERO) {
            Ok(()) => Ok(true),
            Err(ClientError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {
                self.producer.poll(GLANCE);
                remind(self.producer.client());
                self.check_stop()?;
                Ok(false)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Fails if the run is to stop and has waited for [`LAST_PATIENCE`].
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
            brokers: self.config.brokers.clone(),
            reason: format!(
                "the run was told to stop and could not commit its last results, which the next one will \
                 make again ({waiting})"
            ),
        })
    }

    /// The error of a process that another one has replaced.
    fn fenced(&self) -> KafkaError {
        let transactions = self.transactions.as_ref();
        let fenced = transactions.map(Transactions::fenced);
        fenced.unwrap_or_else(|| self.failed(&"another process has taken over"))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.config.brokers.clone(),
            reason: error.to_string(),
        }
    }
}
