//! Registration of the schema of predictions.

use crate::format::register;
use crate::kafka::{KafkaConfig, KafkaError};
use crate::sink::{AvroPredictions, Layout};

/// The id of the schema of predictions in the registry; none without a registry.
///
/// # Errors
/// The registry does not answer, or does not accept the schema for the topic.
pub fn register_predictions(
    config: &KafkaConfig,
    topic: &str,
    layout: &Layout,
) -> Result<Option<u32>, KafkaError> {
    register(config, topic, &AvroPredictions::schema(layout))
}
