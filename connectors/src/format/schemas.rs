//! Avro schemas of topics, from a file or a registry.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{AvroError, AvroParser, Registry};
use crate::kafka::{Health, KafkaConfig, KafkaError, TopicConfig, option};

/// Timeout of a request to the registry.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two requests to a registry that is waited for.
const PAUSE: Duration = Duration::from_millis(500);

/// The registry of a config, if it has one. No request is sent yet.
///
/// # Errors
/// The file of the password or of the certificates cannot be read, or the address is invalid.
fn registry(config: &KafkaConfig) -> Result<Option<Registry>, KafkaError> {
    let Some(registry) = &config.registry else {
        return Ok(None);
    };
    let password = match &registry.password {
        Some(password) => option("registry.password", password)?,
        None => String::new(),
    };
    let login = registry.user.as_deref().map(|user| (user, &*password));
    let read_ca = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| {
            let path = path.display();
            KafkaError::Schema(format!("kafka.registry.ca: {path} cannot be read: {error}"))
        })
    };
    let ca = registry.ca.as_ref().map(read_ca).transpose()?;
    let opened = Registry::new(&registry.url, login, ca.as_deref(), TIMEOUT);
    opened.map(Some).map_err(KafkaError::Schema)
}

/// Checks that the registry of a config answers, if it has one.
///
/// # Errors
/// The registry does not answer, or refuses the user.
pub fn greet_registry(config: &KafkaConfig) -> Result<(), KafkaError> {
    let greeted = registry(config)?.map_or(Ok(()), |registry| registry.greet());
    greeted.map_err(|error| KafkaError::Schema(error.to_string()))
}

/// Waits until the registry of a config answers, if it has one; at most for `wait_seconds` of the
/// config. Returns false if `stop` is set before.
///
/// # Errors
/// The registry does not answer in that time, or refuses the user.
pub fn wait_for_registry(
    config: &KafkaConfig,
    health: &Health,
    stop: &AtomicBool,
) -> Result<bool, KafkaError> {
    let Some(registry) = registry(config)? else {
        return Ok(true);
    };
    let answered = until_answered(config, (health, stop), || registry.greet())?;
    Ok(answered.is_some())
}

/// Repeats a request to a registry until it is answered; at most for `wait_seconds` of the config.
/// None if `stop` is set before.
fn until_answered<T>(
    config: &KafkaConfig,
    (health, stop): (&Health, &AtomicBool),
    request: impl Fn() -> Result<T, AvroError>,
) -> Result<Option<T>, KafkaError> {
    let (began, most) = (Instant::now(), Duration::from_secs(config.wait_seconds));
    while !stop.load(Ordering::Relaxed) {
        let reason = match request() {
            Ok(answer) => {
                health.report_well();
                return Ok(Some(answer));
            }
            Err(AvroError::Bad(reason)) => return Err(KafkaError::Schema(reason)),
            Err(AvroError::Retry(reason)) => reason,
        };
        if began.elapsed() >= most {
            return Err(KafkaError::Schema(reason));
        }
        health.report_waiting(&reason);
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

/// A parser of the Avro messages of a topic.
///
/// # Errors
/// There is neither a schema nor a registry.
pub(crate) fn parser(
    config: &KafkaConfig,
    topic: &TopicConfig,
    columns: &[String],
) -> Result<AvroParser, KafkaError> {
    if let Some(path) = &topic.schema {
        let parser = AvroParser::plain(&text(path)?, columns);
        return parser.map_err(|reason| unusable(path, &reason));
    }
    let registry = registry(config)?.ok_or_else(|| no_schema(topic))?;
    let patience = Duration::from_secs(config.wait_seconds);
    Ok(AvroParser::registered(registry, columns, patience))
}

fn text(path: &Path) -> Result<String, KafkaError> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, reason: &str) -> KafkaError {
    KafkaError::Schema(format!("{}: {reason}", path.display()))
}

fn no_schema(topic: &TopicConfig) -> KafkaError {
    KafkaError::Schema(format!(
        "the topic \"{}\" has Avro and no schema: set its schema, or kafka.registry",
        topic.topic
    ))
}

/// The schema of the messages to write to a topic, and the bytes before each message. The schema is
/// the topic's own, or else the result of `new`, which is registered.
///
/// # Errors
/// There is neither a schema nor a registry, or the registry does not answer or does not accept the
/// schema for the topic.
pub(crate) fn written_schema(
    config: &KafkaConfig,
    topic: &TopicConfig,
    new: impl FnOnce() -> String,
) -> Result<(String, Vec<u8>), KafkaError> {
    if let Some(path) = &topic.schema {
        return Ok((text(path)?, Vec::new()));
    }
    let schema = new();
    let registry = registry(config)?.ok_or_else(|| no_schema(topic))?;
    let id = registry.register(&subject(&topic.topic), &schema);
    let id = id.map_err(|error| KafkaError::Schema(error.to_string()))?;
    let mut header = vec![0];
    header.extend_from_slice(&id.to_be_bytes());
    Ok((schema, header))
}

/// The subject of a topic's values, as Confluent's serializers name it.
fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// Registers the schema of a topic's values, and returns its id; none without a registry, or if
/// `stop` is set before the registry answers.
///
/// # Errors
/// The registry does not answer for `wait_seconds` of the config, or does not accept the schema for
/// the topic.
pub(crate) fn register(
    config: &KafkaConfig,
    topic: &str,
    schema: &str,
    waiting: (&Health, &AtomicBool),
) -> Result<Option<u32>, KafkaError> {
    let Some(registry) = registry(config)? else {
        return Ok(None);
    };
    until_answered(config, waiting, || {
        registry.register(&subject(topic), schema)
    })
}
