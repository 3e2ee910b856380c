//! Waiting for Kafka before a run begins.

use std::sync::atomic::AtomicBool;

use perennial_connectors::format::wait_for_registry;
use perennial_connectors::kafka::{Health, wait_for_brokers};

use crate::config::{Role, Settings};
use crate::error::Error;

/// Waits for the brokers of the pipeline and its registry of schemas, and in the cloud for the
/// brokers of the link, without which none can begin. An edge begins without its link. Returns
/// false if `stop` is set before.
pub(super) fn wait_for_kafka(
    settings: &Settings,
    health: &Health,
    stop: &AtomicBool,
) -> Result<bool, Error> {
    let config = settings.config();
    if let Some(kafka) = &config.kafka {
        let outputs = config.output_topics();
        let samples = config.source.kafka.as_ref().map(|samples| &samples.topic);
        let labels = config.labels.kafka.as_ref().map(|labels| &labels.topic);
        let topics = samples.into_iter().chain(labels).chain(outputs.all());
        let topics: Vec<&str> = topics.map(String::as_str).collect();
        if !wait_for_brokers(kafka, &topics, health, stop)? {
            return Ok(false);
        }
        if config.uses_registry() && !wait_for_registry(kafka, health, stop)? {
            return Ok(false);
        }
    }
    match (&config.link, config.role) {
        (Some(link), Role::Cloud) => {
            let topics = [&*link.changes, &*link.knowledge];
            Ok(wait_for_brokers(&link.kafka, &topics, health, stop)?)
        }
        _ => Ok(true),
    }
}
