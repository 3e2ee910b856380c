//! Requests to brokers that a run needs to begin, retried until [`PATIENCE`] is over.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::client::{Client, PATIENCE, remind};
use super::{KafkaConfig, KafkaError};

/// Timeout of the first attempt; each later one takes twice as long. A request does not report that
/// the client is rejected but waits for a connection to the end, so the first attempts are short.
const FIRST: Duration = Duration::from_secs(1);
/// Timeout of any attempt that may be given up in between.
const LONGEST: Duration = Duration::from_secs(4);
/// Time to collect errors of the client between two attempts.
const LISTEN: Duration = Duration::from_millis(50);

/// Asks brokers through a consumer that has no partitions yet. `question` gets its timeout.
///
/// # Errors
/// No broker answers within [`PATIENCE`], or one refuses.
pub(crate) fn ask_by_consumer<T>(
    consumer: &BaseConsumer<Client>,
    config: &KafkaConfig,
    question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    let listen = || listen(consumer);
    let client = consumer.client().context();
    ask((client, config), listen, (&|| false, PATIENCE), question)
}

/// Asks brokers as [`ask_by_consumer`] does, but gives up soon after `is_over` becomes true.
pub(crate) fn ask_by_consumer_until<T>(
    consumer: &BaseConsumer<Client>,
    config: &KafkaConfig,
    is_over: &dyn Fn() -> bool,
    question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    let listen = || listen(consumer);
    let client = consumer.client().context();
    ask((client, config), listen, (is_over, LONGEST), question)
}

/// Collects errors of a client: a poll returns after each.
fn listen(consumer: &BaseConsumer<Client>) {
    while consumer.poll(LISTEN).is_some() {}
    remind(consumer.client());
}

/// Asks brokers through a producer, as [`ask_by_consumer`] does.
pub(crate) fn ask_by_producer<T>(
    producer: &BaseProducer<Client>,
    config: &KafkaConfig,
    question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    let listen = || {
        producer.poll(LISTEN);
        remind(producer.client());
    };
    let client = producer.client().context();
    ask((client, config), listen, (&|| false, PATIENCE), question)
}

fn ask<T>(
    (client, config): (&Client, &KafkaConfig),
    listen: impl Fn(),
    (is_over, longest): (&dyn Fn() -> bool, Duration),
    mut question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    let brokers = config.brokers.clone();
    let began = Instant::now();
    let mut patience = FIRST;
    loop {
        let error = match question(patience) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        listen();
        if let Some(reason) = client.turned_away() {
            return Err(KafkaError::TurnedAway { brokers, reason });
        }
        if !is_transient(&error) {
            let reason = error.to_string();
            return Err(KafkaError::Failed { brokers, reason });
        }
        let left = PATIENCE.saturating_sub(began.elapsed());
        if left.is_zero() || is_over() {
            // An error of the client says more than that the time is over.
            let reason = client.health.waiting();
            let reason = reason.unwrap_or_else(|| error.to_string());
            return Err(KafkaError::Unreachable { brokers, reason });
        }
        patience = (2 * patience).min(left).min(longest);
    }
}

/// Whether an error only says that no answer has come yet.
fn is_transient(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                // A new topic has its leaders a little later.
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
        )
    )
}
