//! Avro schemas: from a file, or in a registry.

use std::path::Path;
use std::time::Duration;

use super::{AvroParser, Registry};

use crate::kafka::{KafkaConfig, KafkaError, TopicConfig, option};

/// How long the registry may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The registry of a config, if it has one. It is not asked anything yet.
///
/// # Errors
/// The file of the password or of the certificates cannot be read, or the address is none.
fn registry(config: &KafkaConfig) -> Result<Option<Registry>, KafkaError> {
    let Some(registry) = &config.registry else {
        return Ok(None);
    };
    let password = match &registry.password {
        Some(password) => option("registry.password", password)?,
        None => String::new(),
    };
    let login = registry.user.as_deref().map(|user| (user, &*password));
    let ca = registry.ca.as_ref().map(|path| {
        std::fs::read(path).map_err(|error| {
            let path = path.display();
            KafkaError::Schema(format!("kafka.registry.ca: {path} cannot be read: {error}"))
        })
    });
    let ca = ca.transpose()?;
    let opened = Registry::new(&registry.url, login, ca.as_deref(), TIMEOUT);
    opened.map(Some).map_err(KafkaError::Schema)
}

/// What reads the Avro messages of a topic. A registry that goes away later is waited for; one that is not even
/// there when the run begins is more likely a mistake.
///
/// # Errors
/// There is no schema and no registry, or the registry does not answer.
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

/// The schema to write the messages of a topic with, and what comes before each: the topic's own, or in a
/// registry the one that `new` makes, which is registered.
///
/// # Errors
/// There is neither, or the registry does not answer or takes another schema for the topic.
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

/// Registers the schema of a topic's values under the name that Confluent's serializers would give it, and
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
