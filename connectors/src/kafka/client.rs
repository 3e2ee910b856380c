//! Clients of librdkafka, made from the settings.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::config::OptionValue;
use super::{Health, KafkaConfig, KafkaError};

/// How long a question to a broker may take where an answer is needed to begin.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The context of all clients: it hears of errors and of messages that could not be delivered.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) health: Health,
    /// The messages of the producer that could not be delivered since this was last taken.
    undelivered: Arc<Mutex<Option<Undelivered>>>,
    /// Why a broker does not let this client in, once one has said so.
    turned_away: Arc<Mutex<Option<String>>>,
}

/// Messages that could not be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    /// How many.
    pub(crate) count: u64,
    /// Why the first of them could not.
    pub(crate) error: ClientError,
    /// The topics whose broker finds messages too large, each with the length of the longest value among these.
    pub(crate) too_large: BTreeMap<String, usize>,
}

impl Client {
    /// A client that tells how it is doing.
    pub(crate) fn new(health: &Health) -> Client {
        Client {
            health: health.clone(),
            ..Client::default()
        }
    }

    /// What could not be delivered since the last call.
    pub(crate) fn take_undelivered(&self) -> Option<Undelivered> {
        lock(&self.undelivered).take()
    }

    /// Why a broker does not let this client in, once one has said so.
    pub(crate) fn turned_away(&self) -> Option<String> {
        lock(&self.turned_away).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a broker, or librdkafka for it, has refused a message for its size.
pub(crate) fn is_too_large(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}

impl ClientContext for Client {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        // What matters comes as an error too; the rest is for whoever looks for it.
        tracing::debug!(target: "librdkafka", ?level, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            // It follows on what says why, for each broker.
            Some(RDKafkaErrorCode::AllBrokersDown) if self.health.is_waiting() => return,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                lock(&self.turned_away).get_or_insert_with(|| reason.to_string());
            }
            _ => {}
        }
        self.health.waits(reason);
    }
}

impl ConsumerContext for Client {}

impl ProducerContext for Client {
    type DeliveryOpaque = ();

    fn delivery(
        &self,
        result: &Result<BorrowedMessage<'_>, (ClientError, BorrowedMessage<'_>)>,
        (): (),
    ) {
        match result {
            Ok(_) => self.health.is_well(),
            // Its transaction was aborted before it was sent: for another reason, which is told too.
            Err((ClientError::MessageProduction(RDKafkaErrorCode::PurgeQueue), _)) => {}
            Err((error, message)) => {
                tracing::debug!(target: "librdkafka", %error, topic = message.topic(), "not delivered");
                let mut undelivered = lock(&self.undelivered);
                let undelivered = undelivered.get_or_insert_with(|| Undelivered {
                    count: 0,
                    error: error.clone(),
                    too_large: BTreeMap::new(),
                });
                undelivered.count += 1;
                if is_too_large(error) {
                    let topic = message.topic().to_string();
                    let longest = undelivered.too_large.entry(topic).or_default();
                    *longest = message.payload_len().max(*longest);
                }
            }
        }
    }
}

/// A client for making and removing topics.
pub(crate) fn admin(config: &KafkaConfig) -> Result<AdminClient<Client>, KafkaError> {
    create(&settings(config)?, Client::default())
}

/// A consumer of a group, without a subscription: partitions are assigned by hand.
pub(crate) fn consumer(
    config: &KafkaConfig,
    group: &str,
    client: Client,
) -> Result<BaseConsumer<Client>, KafkaError> {
    let mut settings = settings(config)?;
    settings
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // A position that is gone is an error, not a reason to read something else.
        .set("auto.offset.reset", "error");
    default(&mut settings, config, "fetch.wait.max.ms", "50");
    default(&mut settings, config, "queued.max.messages.kbytes", "65536");
    create(&settings, client)
}

/// A producer; with a transactional id, one of transactions.
pub(crate) fn producer(
    config: &KafkaConfig,
    transactional_id: Option<&str>,
    client: Client,
) -> Result<BaseProducer<Client>, KafkaError> {
    let mut settings = settings(config)?;
    settings
        .set("enable.idempotence", "true")
        .set("acks", "all");
    if let Some(id) = transactional_id {
        settings.set("transactional.id", id);
    }
    default(&mut settings, config, "linger.ms", "5");
    default(
        &mut settings,
        config,
        "queue.buffering.max.kbytes",
        "262144",
    );
    default(
        &mut settings,
        config,
        "queue.buffering.max.messages",
        "1000000",
    );
    // Equal keys go to equal partitions whoever writes them: this is how Java's clients choose.
    default(&mut settings, config, "partitioner", "murmur2_random");
    // The broker's limit counts, which is set where topics are made. Bad records are as large as they
    // come, and must get through all the same.
    default(&mut settings, config, "message.max.bytes", "104857600");
    create(&settings, client)
}

fn create<T: FromClientConfigAndContext<Client>>(
    settings: &ClientConfig,
    client: Client,
) -> Result<T, KafkaError> {
    settings.create_with_context(client).map_err(|error| {
        KafkaError::Option(match error {
            // The value may be a secret.
            ClientError::ClientConfig(_, what, key, value) if !value.is_empty() => {
                format!("{key}: {}", what.replace(&value, "…"))
            }
            error => error.to_string(),
        })
    })
}

fn default(settings: &mut ClientConfig, config: &KafkaConfig, key: &str, value: &str) {
    if !config.options.contains_key(key) {
        settings.set(key, value);
    }
}

fn settings(config: &KafkaConfig) -> Result<ClientConfig, KafkaError> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &config.brokers)
        .set("client.id", "perennial")
        .set_log_level(RDKafkaLogLevel::Warning);
    for (key, value) in &config.options {
        settings.set(key, option(key, value)?);
    }
    Ok(settings)
}

/// The text of an option's value, read from its file if it names one.
pub(crate) fn option(key: &str, value: &OptionValue) -> Result<String, KafkaError> {
    Ok(match value {
        OptionValue::Switch(value) => value.to_string(),
        OptionValue::Number(value) => value.to_string(),
        OptionValue::Text(text) => match text.strip_prefix("file:") {
            None => text.clone(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| KafkaError::Secret {
                    key: key.to_string(),
                    path: path.to_string(),
                    source,
                })?
                .trim_end_matches(['\r', '\n'])
                .to_string(),
        },
    })
}

/// The end of a partition as the latest answer of its broker had it; none before the first.
pub(crate) fn known_end(
    consumer: &BaseConsumer<Client>,
    topic: &CStr,
    partition: i32,
) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as the consumer, the name ends with a zero, and the two numbers are
    // written to before the call returns. The crate has no safe form of this call, which asks nobody.
    let error = unsafe {
        rdkafka::bindings::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    let known = error == rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0;
    known.then_some(high)
}
