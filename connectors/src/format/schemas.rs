//! Avro schemas of topics, from a file or a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AvroParser, Registry};
use crate::kafka::{KafkaConfig, KafkaError, TopicConfig, option};

/// Timeout of a request to the registry.
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// A parser of the Avro messages of a topic. A run waits for a registry that stops answering later;
/// one that does not answer at the start is more likely a mistake and fails.
///
/// # Errors
/// There is neither a schema nor a registry, or the registry does not answer.
pub(crate) fn parser(
    config: &KafkaConfig,
    topic: &TopicConfig,
    columns: &[String],
) -> Result<AvroParser, KafkaError> {
    if let Some(path) = &topic.schema {
        let parser = AvroParser::plain(&text(path)?, columns);
        return parser.map_err(|reason| unusable(path, &reason));
    }
    match registry(config)? {
        Some(registry) => {
            let greeted = registry.greet();
            greeted.map_err(|error| KafkaError::Schema(error.to_string()))?;
            Ok(AvroParser::registered(registry, columns))
        }
        None => Err(no_schema(topic)),
    }
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
    let id = register(config, &topic.topic, &schema)?.ok_or_else(|| no_schema(topic))?;
    let mut header = vec![0];
    header.extend_from_slice(&id.to_be_bytes());
    Ok((schema, header))
}

/// Registers the schema of a topic's values under the subject that Confluent's serializers use, and
/// returns its id; none without a registry.
pub(crate) fn register(
    config: &KafkaConfig,
    topic: &str,
    schema: &str,
) -> Result<Option<u32>, KafkaError> {
    let Some(registry) = registry(config)? else {
        return Ok(None);
    };
    let id = registry.register(&format!("{topic}-value"), schema);
    id.map(Some)
        .map_err(|error| KafkaError::Schema(error.to_string()))
}
