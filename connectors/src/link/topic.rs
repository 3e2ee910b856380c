//! The topics of the link, which the cloud creates.

use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::{
    Client, KafkaConfig, KafkaError, PATIENCE, admin, ask_by_consumer_until, consumer,
};

/// The largest message of the topics in bytes. Messages contain models.
const LARGEST: usize = 32 << 20;
/// Bound in bytes on the content of a message before compression, which can make it a little
/// longer.
pub const LARGEST_CONTENT: usize = 24 << 20;
/// How long the topic of changes keeps them: a cloud that is away for longer loses some.
const RETENTION: Duration = Duration::from_hours(90 * 24);
/// Longest time for which a compacted topic keeps a message that was replaced or removed.
const COMPACTION: Duration = Duration::from_hours(24);
/// Timeout of a check that a user waits for, and of one attempt in it.
const GLANCE: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_millis(200);
/// Time for which a check goes on after a failed connection: another address may be good.
const GRACE: Duration = Duration::from_millis(400);
/// Time between two checks of a new topic.
const PAUSE: Duration = Duration::from_millis(100);

/// Creates a topic unless it exists. A `compacted` one keeps the latest message of each key, any
/// other one all messages for 90 days.
///
/// # Errors
/// No broker answers, or one refuses to create the topic.
pub fn make_topic(
    kafka: &KafkaConfig,
    topic: &str,
    partitions: i32,
    compacted: bool,
) -> Result<(), KafkaError> {
    let failed = |reason: String| KafkaError::Failed {
        brokers: kafka.brokers.clone(),
        reason,
    };
    let largest = LARGEST.to_string();
    let retention = RETENTION.as_millis().to_string();
    let lag = COMPACTION.as_millis().to_string();
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))
        .set("max.message.bytes", &largest);
    new = if compacted {
        new.set("cleanup.policy", "compact")
            .set("max.compaction.lag.ms", &lag)
    } else {
        new.set("retention.ms", &retention)
            .set("retention.bytes", "-1")
    };
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    let admin = admin(kafka)?;
    let made = block_on(admin.create_topics(&[new], &options));
    let made = made.map_err(|error| KafkaError::Unreachable {
        brokers: kafka.brokers.clone(),
        reason: error.to_string(),
    })?;
    match made.into_iter().next() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {}
        Some(Err((name, code))) => {
            return Err(failed(format!("the topic \"{name}\" is not made: {code}")));
        }
    }
    // Brokers learn of the topic one after another.
    let until = Instant::now() + PATIENCE;
    loop {
        match reach(kafka, topic) {
            Err(error) if may_appear(&error) && Instant::now() < until => std::thread::sleep(PAUSE),
            reached => return reached,
        }
    }
}

/// Whether a new topic may still appear after this error.
fn may_appear(error: &KafkaError) -> bool {
    error.is_transient() || matches!(error, KafkaError::NoTopic { .. })
}

/// Checks within seconds that a topic exists.
///
/// # Errors
/// No broker answers, or the topic does not exist.
pub fn reach(kafka: &KafkaConfig, topic: &str) -> Result<(), KafkaError> {
    let client = Client::default();
    let consumer = consumer(kafka, "perennial-link", client.clone())?;
    let began = Instant::now();
    let mut failed: Option<Instant> = None;
    let metadata = loop {
        let error = match consumer.client().fetch_metadata(None, ATTEMPT) {
            Ok(metadata) => break metadata,
            Err(error) => error,
        };
        // A poll returns after each error of the client.
        while consumer.poll(Duration::ZERO).is_some() {}
        let reason = client.health.waiting();
        if reason.is_some() {
            failed.get_or_insert_with(Instant::now);
        }
        let has_failed = failed.is_some_and(|failed| failed.elapsed() >= GRACE);
        if has_failed || began.elapsed() >= GLANCE {
            return Err(KafkaError::Unreachable {
                brokers: kafka.brokers.clone(),
                reason: reason.unwrap_or_else(|| error.to_string()),
            });
        }
    };
    let mut topics = metadata.topics().iter();
    let is_there = topics.any(|found| found.name() == topic && !found.partitions().is_empty());
    is_there.then_some(()).ok_or_else(|| KafkaError::NoTopic {
        topic: topic.to_string(),
        brokers: kafka.brokers.clone(),
    })
}

/// Number of partitions of a topic. The request is for all topics, so that no broker creates the
/// topic on it.
///
/// # Errors
/// No broker answers, or the topic does not exist.
pub(crate) fn partitions_of(
    consumer: &BaseConsumer<Client>,
    kafka: &KafkaConfig,
    topic: &str,
    is_over: &dyn Fn() -> bool,
) -> Result<i32, KafkaError> {
    let metadata = ask_by_consumer_until(consumer, kafka, is_over, |patience| {
        consumer.client().fetch_metadata(None, patience)
    })?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map_or(0, |found| found.partitions().len()) {
        0 => Err(KafkaError::NoTopic {
            topic: topic.to_string(),
            brokers: kafka.brokers.clone(),
        }),
        partitions => Ok(partitions as i32),
    }
}
