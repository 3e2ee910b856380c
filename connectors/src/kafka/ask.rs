//! Questions to brokers that a run cannot begin without.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::client::{Client, PATIENCE};
use super::{KafkaConfig, KafkaError};

/// How long the first attempt may take; each one after it twice as long. A client that is turned away is not
/// told so by the question, which waits to the end for a connection: so the first attempts are short.
const FIRST: Duration = Duration::from_secs(1);
/// How long to listen to what the client has to say between two attempts.
const LISTEN: Duration = Duration::from_millis(50);

/// Asks by a consumer that has nothing to read yet. The question gets the time that it may take.
///
/// # Errors
/// No broker answers within [`PATIENCE`], or one says no.
pub(crate) fn ask_by_consumer<T>(
    consumer: &BaseConsumer<Client>,
    config: &KafkaConfig,
    question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    // It returns with each error that it hears of.
    let listen = || while consumer.poll(LISTEN).is_some() {};
    ask(consumer.client().context(), config, listen, question)
}

/// Asks by a producer, like [`ask_by_consumer`].
pub(crate) fn ask_by_producer<T>(
    producer: &BaseProducer<Client>,
    config: &KafkaConfig,
    question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, KafkaError> {
    let listen = || producer.poll(LISTEN);
    ask(producer.client().context(), config, listen, question)
}

fn ask<T>(
    client: &Client,
    config: &KafkaConfig,
    listen: impl Fn(),
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
        if !may_pass(&error) {
            let reason = error.to_string();
            return Err(KafkaError::Failed { brokers, reason });
        }
        let left = PATIENCE.saturating_sub(began.elapsed());
        if left.is_zero() {
            // What the client heard in the meantime says more than that the time is up.
            let reason = client.health.waiting();
            let reason = reason.unwrap_or_else(|| error.to_string());
            return Err(KafkaError::Unreachable { brokers, reason });
        }
        patience = (2 * patience).min(left);
    }
}

/// Whether an error is but the want of an answer.
fn may_pass(error: &ClientError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
                // A topic that was just made has its leaders a little later.
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
        )
    )
}
