//! Registration of the schema of predictions.

use std::sync::atomic::AtomicBool;

use crate::format::register;
use crate::kafka::{Health, KafkaConfig, KafkaError, Side};
use crate::sink::{AvroPredictions, Layout};

/// The id of the schema of predictions in the registry; none without a registry, or if `stop` is
/// set before the registry answers.
///
/// # Errors
/// The registry does not answer for `wait_seconds` of the config, or does not accept the schema for
/// the topic.
pub fn register_predictions(
    config: &KafkaConfig,
    topic: &str,
    layout: &Layout,
    (health, stop): (&Health, &AtomicBool),
) -> Result<Option<u32>, KafkaError> {
    let waiting = (&health.of(Side::Output), stop);
    register(config, topic, &AvroPredictions::schema(layout), waiting)
}
