//! Clients of librdkafka, created from the settings.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::config::OptionValue;
use super::headers::packed_len;
use super::{Health, KafkaConfig, KafkaError};

/// Time limit of a request to a broker whose answer a run needs to begin.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// KiB that a consumer fetches ahead, over all its queues.
const QUEUED_KBYTES: usize = 64 << 10;
/// Messages that a consumer fetches ahead for one queue at most, unless they are large.
const QUEUED_MESSAGES: usize = 100_000;

/// The option with the longest time between two attempts to connect.
const RECONNECT: &str = "reconnect.backoff.max.ms";

/// The context of all clients: receives errors and messages that could not be delivered.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) health: Health,
    /// Messages of the producer that could not be delivered since the last
    /// [`Client::take_undelivered`].
    undelivered: Arc<Mutex<Option<Undelivered>>>,
    /// Why a broker rejects this client, once one has.
    turned_away: Arc<Mutex<Option<String>>>,
    /// The brokers of the config.
    brokers: Arc<CString>,
    /// Set while librdkafka may have lost all brokers.
    outage: Arc<Mutex<Option<LostBrokers>>>,
}

/// An outage of all brokers.
struct LostBrokers {
    /// When librdkafka last reported that all are down.
    since: Instant,
    /// When the client was last reminded of its brokers.
    reminded: Instant,
}

/// Time between two reminders of a client.
const REMIND: Duration = Duration::from_secs(1);
/// Time for which a client is reminded after librdkafka has reported that all brokers are down.
const REMIND_FOR: Duration = Duration::from_secs(10);

/// Messages that could not be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    /// Number of messages.
    pub(crate) count: u64,
    /// Why the first of them could not be delivered.
    pub(crate) error: ClientError,
    /// Topics that reject messages as too large, each with the size of the longest such message:
    /// bytes of key, packed headers and value.
    pub(crate) too_large: BTreeMap<String, usize>,
    /// Whether a topic rejects messages for their timestamps.
    pub(crate) untimely: bool,
}

impl Client {
    /// A client that reports to `health`.
    pub(crate) fn new(health: &Health) -> Client {
        Client {
            health: health.clone(),
            ..Client::default()
        }
    }

    /// Messages that could not be delivered since the last call.
    pub(crate) fn take_undelivered(&self) -> Option<Undelivered> {
        lock(&self.undelivered).take()
    }

    /// Returns whether any message could not be delivered since the last
    /// [`Client::take_undelivered`].
    pub(crate) fn has_undelivered(&self) -> bool {
        lock(&self.undelivered).is_some()
    }

    /// Why the first of these messages could not be delivered.
    pub(crate) fn undelivered_error(&self) -> Option<ClientError> {
        Some(lock(&self.undelivered).as_ref()?.error.clone())
    }

    /// Notes that all brokers are down, so that [`remind`] names them again.
    fn note_lost_brokers(&self) {
        let (since, mut outage) = (Instant::now(), lock(&self.outage));
        let reminded = outage.as_ref().map_or(since, |lost| lost.reminded);
        *outage = Some(LostBrokers { since, reminded });
    }

    /// Why a broker rejects this client, once one has.
    pub(crate) fn turned_away(&self) -> Option<String> {
        lock(&self.turned_away).clone()
    }
}

/// Gives a client the brokers of its config again, from time to time while it may have none. It is
/// called whenever nothing comes.
///
/// A broker that has just started, or has lost its controller, answers for a moment that there are
/// no brokers. librdkafka then forgets all of them, the first ones too, and may ask nobody any more
/// (2.12: "no usable brokers").
pub(crate) fn remind(client: &rdkafka::client::Client<Client>) {
    let context = client.context();
    let mut outage = lock(&context.outage);
    let Some(lost) = outage
        .as_mut()
        .filter(|lost| lost.reminded.elapsed() >= REMIND)
    else {
        return;
    };
    lost.reminded = Instant::now();
    let is_last = lost.since.elapsed() >= REMIND_FOR;
    if is_last {
        *outage = None;
    }
    drop(outage);
    // SAFETY: the client lives until the end of the call, and the text ends with a zero and is
    // copied. The crate has no safe form of this call, which may be made from any thread.
    #[allow(unsafe_code)]
    unsafe {
        rdkafka::bindings::rd_kafka_brokers_add(client.native_ptr(), context.brokers.as_ptr());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether a broker or librdkafka refused a message for its size.
pub(crate) fn is_too_large(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}

/// Returns whether a broker refused a message for its timestamp.
fn is_untimely(error: &ClientError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTimestamp)
}

/// Returns whether a message was refused for what it is, so that it can be sent in another form.
pub(crate) fn is_refusal(error: &ClientError) -> bool {
    is_too_large(error) || is_untimely(error)
}

/// Returns whether an error of a consumer means that it fetches nothing more of a partition.
pub(crate) fn is_lost(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopicId
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
        )
    )
}

impl ClientContext for Client {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        // Important messages come as errors too; the rest is for debugging.
        tracing::debug!(target: "librdkafka", ?level, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            Some(RDKafkaErrorCode::AllBrokersDown) => self.note_lost_brokers(),
            _ => {}
        }
        match error.rdkafka_error_code() {
            // It follows an error for each broker that says why.
            Some(RDKafkaErrorCode::AllBrokersDown) if self.health.is_waiting() => return,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                lock(&self.turned_away).get_or_insert_with(|| reason.to_string());
            }
            _ => {}
        }
        self.health.report_waiting(reason);
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
            Ok(_) => self.health.report_well(),
            // Its transaction was aborted before it was sent, for a reason that is reported by
            // itself.
            Err((ClientError::MessageProduction(RDKafkaErrorCode::PurgeQueue), _)) => {}
            Err((error, message)) => {
                tracing::debug!(target: "librdkafka", %error, topic = message.topic(), "not delivered");
                let mut undelivered = lock(&self.undelivered);
                let undelivered = undelivered.get_or_insert_with(|| Undelivered {
                    count: 0,
                    error: error.clone(),
                    too_large: BTreeMap::new(),
                    untimely: false,
                });
                undelivered.count += 1;
                undelivered.untimely |= is_untimely(error);
                if is_too_large(error) {
                    let topic = message.topic().to_string();
                    let longest = undelivered.too_large.entry(topic).or_default();
                    *longest = size(message).max(*longest);
                }
            }
        }
    }
}

/// Bytes of key, packed headers and value of a message.
fn size(message: &BorrowedMessage<'_>) -> usize {
    let headers = message.headers().map_or(0, packed_len);
    message.key_len() + headers + message.payload_len()
}

/// A client that creates and removes topics.
pub(crate) fn admin(config: &KafkaConfig) -> Result<AdminClient<Client>, KafkaError> {
    create(&settings(config)?, Client::default())
}

/// A consumer of a group without a subscription; the caller assigns partitions.
pub(crate) fn consumer(
    config: &KafkaConfig,
    group: &str,
    client: Client,
) -> Result<BaseConsumer<Client>, KafkaError> {
    queued_consumer(config, group, client, 1)
}

/// A consumer whose records wait in `queues` queues, one for each partition that is split off.
/// librdkafka bounds each queue by itself, so the bounds are divided by their number.
pub(crate) fn queued_consumer(
    config: &KafkaConfig,
    group: &str,
    client: Client,
    queues: usize,
) -> Result<BaseConsumer<Client>, KafkaError> {
    let mut settings = settings(config)?;
    settings
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // Reading from elsewhere after a deleted offset would skip or repeat records.
        .set("auto.offset.reset", "error");
    let share = |all: usize, most: usize| (all / queues.max(1)).clamp(1, most).to_string();
    let bounds = [
        (
            "queued.max.messages.kbytes",
            share(QUEUED_KBYTES, QUEUED_KBYTES),
        ),
        // A queue may exceed its bound by one fetch.
        (
            "fetch.message.max.bytes",
            share(QUEUED_KBYTES << 8, 1 << 20),
        ),
        // A queued message costs some hundred bytes beside its own.
        (
            "queued.min.messages",
            share(10 * QUEUED_MESSAGES, QUEUED_MESSAGES),
        ),
    ];
    for (key, value) in &bounds {
        default(&mut settings, config, key, value);
    }
    default(&mut settings, config, "fetch.wait.max.ms", "50");
    // A short queue that was full must be filled again before it is empty.
    default(&mut settings, config, "fetch.queue.backoff.ms", "20");
    create(&settings, client)
}

/// A producer; a transactional one if it has a transactional id.
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
    // The choice of Java's clients, so that a key has one partition whatever client writes it.
    default(&mut settings, config, "partitioner", "murmur2_random");
    // The limit is that of the topic. Bad records can have any size, and must get through as well.
    default(&mut settings, config, "message.max.bytes", "104857600");
    create(&settings, client)
}

fn create<T: FromClientConfigAndContext<Client>>(
    settings: &ClientConfig,
    client: Client,
) -> Result<T, KafkaError> {
    let brokers = settings.get("bootstrap.servers").unwrap_or_default();
    let client = Client {
        // No address has a zero.
        brokers: Arc::new(CString::new(brokers).unwrap_or_default()),
        ..client
    };
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
    // librdkafka's 10 seconds would add to each outage.
    default(&mut settings, config, RECONNECT, "1000");
    for (key, value) in &config.options {
        settings.set(key, option(key, value)?);
    }
    Ok(settings)
}

/// The text of an option's value, read from its file if it is `file:PATH`.
pub(crate) fn option(key: &str, value: &OptionValue) -> Result<String, KafkaError> {
    Ok(match value {
        OptionValue::Switch(value) => value.to_string(),
        OptionValue::Number(value) => value.to_string(),
        OptionValue::Text(text) => match text.strip_prefix("file:") {
            None => text.clone(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|reason| KafkaError::Secret {
                    key: key.to_string(),
                    path: path.to_string(),
                    reason,
                })?
                .trim_end_matches(['\r', '\n'])
                .to_string(),
        },
    })
}

/// The end of a partition by the latest answer of its broker; none before the first answer.
pub(crate) fn known_end(
    consumer: &BaseConsumer<Client>,
    topic: &CStr,
    partition: i32,
) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as the consumer, the name ends with a zero, and the two
    // numbers are written before the call returns. The crate has no safe form of this call, which
    // sends no request.
    #[allow(unsafe_code)]
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
