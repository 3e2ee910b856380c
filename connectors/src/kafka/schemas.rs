//! Avro schemas: from a file, or in a registry.

use std::time::Duration;

use super::client::option;
use super::{KafkaConfig, KafkaError, TopicConfig};
use crate::sink::AvroPredictions;
use crate::source::{AvroParser, Registry};

/// How long the registry may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The registry of a config, if it has one. It is not asked anything yet.
///
/// # Errors
/// The password's file cannot be read, or the address is none.
fn registry(config: &KafkaConfig) -> Result<Option<Registry>, KafkaError> {
    let Some(registry) = &config.registry else {
        return Ok(None);
    };
    let password = match &registry.password {
        Some(password) => option("registry.password", password)?,
        None => String::new(),
    };
    let login = registry.user.as_deref().map(|user| (user, &*password));
    let opened = Registry::new(&registry.url, login, TIMEOUT);
    opened.map(Some).map_err(KafkaError::Schema)
}

/// What reads the Avro messages of a topic.
pub(crate) fn parser(
    config: &KafkaConfig,
    topic: &TopicConfig,
    columns: &[String],
) -> Result<AvroParser, KafkaError> {
    if let Some(path) = &topic.schema {
        let failed = |reason: String| KafkaError::Schema(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        return AvroParser::plain(&text, columns).map_err(failed);
    }
    match registry(config)? {
        Some(registry) => Ok(AvroParser::registered(registry, columns)),
        None => Err(KafkaError::Schema(format!(
            "the topic \"{}\" has Avro and no schema: set its schema, or kafka.registry",
            topic.topic
        ))),
    }
}

/// The id of the schema of predictions in the registry, under the name that Confluent's serializers would
/// give it; none without a registry.
///
/// # Errors
/// The registry does not answer, or takes another schema for the topic.
pub fn register_predictions(config: &KafkaConfig, topic: &str) -> Result<Option<u32>, KafkaError> {
    let Some(registry) = registry(config)? else {
        return Ok(None);
    };
    let subject = format!("{topic}-value");
    let id = registry.register(&subject, AvroPredictions::schema());
    id.map(Some)
        .map_err(|error| KafkaError::Schema(error.to_string()))
}
