//! Section `kafka`: the brokers and what runs over them.

use perennial_connectors::kafka::Delivery;

use super::{Config, ConfigError, ConfigFile, Mode};

pub(crate) fn check_kafka(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let outputs = config.output_topics();
    let has_output = outputs.all().next().is_some();
    let Some(kafka) = &config.kafka else {
        if config.source.kafka.is_some() || has_output {
            let message = "missing: it says how to reach Kafka (brokers)";
            return Err(loaded.error("kafka", message));
        }
        return Ok(());
    };
    if config.source.kafka.is_none() && !has_output {
        let message = "nothing is on a topic: remove this, or set source.kafka";
        return Err(loaded.error("kafka", message));
    }
    let exactly_once = kafka.delivery == Delivery::ExactlyOnce;
    if config.source.kafka.is_none() && has_output && exactly_once {
        let message = "only what was read from Kafka is written to it exactly once: set at_least_once, or bring the \
                       samples to a topic first";
        return Err(loaded.error("kafka.delivery", message));
    }
    let endless = config
        .source
        .kafka
        .as_ref()
        .is_some_and(|samples| !samples.stop_at_end);
    if endless && config.mode == Mode::Replay {
        let message = "a replay has an end: set source.kafka.stop_at_end, or live here";
        return Err(loaded.error("mode", message));
    }
    match kafka.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&path, message)),
        None => Ok(()),
    }
}

impl Config {
    /// Consumer group of the pipeline.
    pub fn group(&self) -> &str {
        let given = self.kafka.as_ref().and_then(|kafka| kafka.group.as_ref());
        given.unwrap_or(&self.name)
    }
}
