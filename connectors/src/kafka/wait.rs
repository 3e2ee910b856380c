//! Waiting for Kafka before a run begins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{Client, consumer, remind};
use super::{Health, KafkaConfig, KafkaError};

/// Timeout of one attempt.
const GLANCE: Duration = Duration::from_secs(2);
/// Time between two attempts, in which errors of the client arrive.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until brokers answer, and each of `topics` that exists can be read and written; at most
/// for `wait_seconds` of the config. Returns false if `stop` is set before.
///
/// # Errors
/// No broker answers in that time, or one rejects the client.
pub fn wait_for_brokers(
    config: &KafkaConfig,
    topics: &[&str],
    health: &Health,
    stop: &AtomicBool,
) -> Result<bool, KafkaError> {
    let client = Client::new(health);
    let consumer = consumer(config, "perennial-wait", client.clone())?;
    let (began, most) = (Instant::now(), Duration::from_secs(config.wait_seconds));
    while !stop.load(Ordering::Relaxed) {
        let Some(reason) = missing(&consumer, topics) else {
            health.report_well();
            return Ok(true);
        };
        // A poll returns after each error of the client.
        let until = Instant::now() + PAUSE;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            consumer.poll(left);
        }
        remind(consumer.client());
        let brokers = config.brokers.clone();
        if let Some(reason) = client.turned_away() {
            return Err(KafkaError::TurnedAway { brokers, reason });
        }
        health.report_waiting(&reason);
        if began.elapsed() >= most {
            let reason = health.waiting().unwrap_or(reason);
            return Err(KafkaError::Unreachable { brokers, reason });
        }
    }
    Ok(false)
}

/// What is still to be waited for.
fn missing(consumer: &BaseConsumer<Client>, topics: &[&str]) -> Option<String> {
    let metadata = match consumer.fetch_metadata(None, GLANCE) {
        Ok(metadata) => metadata,
        Err(error) => return Some(error.to_string()),
    };
    let named = metadata.topics().iter();
    let mut named = named.filter(|topic| topics.contains(&topic.name()));
    let leaderless = named.find(|topic| topic.partitions().iter().any(|one| one.leader() < 0))?;
    let name = leaderless.name();
    Some(format!(
        "the topic \"{name}\" has partitions without a leader"
    ))
}
