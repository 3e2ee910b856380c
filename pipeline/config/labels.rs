//! Section `labels`: where labels come from and when they become known.

use std::path::PathBuf;

use perennial_connectors::kafka::TopicConfig;
use perennial_connectors::source::file::FileFormat;
use perennial_operators::label::{Delay, LabelTiming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::DEFAULT_WAIT;
use super::{ConfigError, ConfigFile};

pub(crate) fn check_labels(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let (source, labels) = (&loaded.config.source, &loaded.config.labels);
    if source.simulator.is_some() && labels.path.is_some() {
        let message = "the simulator brings its own labels: remove this";
        return Err(loaded.error("labels.path", message));
    }
    if source.kafka.is_some() && labels.path.is_some() {
        let message =
            "labels of samples on a topic are on a topic too (labels.kafka), or in the samples";
        return Err(loaded.error("labels.path", message));
    }
    let says_labels = labels.path.is_some() || labels.kafka.is_some() || labels.on_request;
    let has_delay = labels.delay.records.is_some() || labels.delay.seconds.is_some();
    if source.edges.is_some() && (says_labels || has_delay) {
        let message = "what edges share has its labels, which are known: remove this";
        return Err(loaded.error("labels", message));
    }
    if source.kafka.is_none() && labels.kafka.is_some() {
        let message = "only samples on a topic (source.kafka) have labels on a topic";
        return Err(loaded.error("labels.kafka", message));
    }
    if labels.kafka.is_some() && has_delay {
        let message = "labels on a topic are known when they come: remove this, or set labels.wait";
        return Err(loaded.error("labels.delay", message));
    }
    Ok(())
}

pub(crate) fn arrival(loaded: &ConfigFile) -> Result<LabelTiming, ConfigError> {
    let labels = &loaded.config.labels;
    let wait = delay(loaded, "labels.wait", &labels.wait, DEFAULT_WAIT)?;
    let delay = delay(loaded, "labels.delay", &labels.delay, 0)?;
    Ok(match labels.kafka {
        Some(_) => LabelTiming::SeparateStream(wait),
        None if labels.on_request => LabelTiming::OnRequest(delay),
        None => LabelTiming::InSample(delay),
    })
}

pub(super) fn delay(
    loaded: &ConfigFile,
    path: &str,
    delay: &DelayConfig,
    records: u64,
) -> Result<Delay, ConfigError> {
    match (delay.records, delay.seconds) {
        (Some(_), Some(_)) => {
            Err(loaded.error(path, "\"records\" and \"seconds\" exclude each other"))
        }
        (_, Some(seconds)) if !(0.0..=1e12).contains(&seconds) => {
            Err(loaded.error(&format!("{path}.seconds"), "expected a number from 0"))
        }
        (None, Some(seconds)) => Ok(Delay::Time((seconds * 1e6) as i64)),
        (given, None) => Ok(Delay::Records(given.unwrap_or(records))),
    }
}

/// When labels become known.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// A file of labels, if the samples do not carry them; all of it is held in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The label file's format, when its name does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of labels, if the samples do not carry them. A label is known when it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// The column with the sample's id, where labels are apart. Default: as in the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How long after its sample a label is known, where they are in files.
    #[serde(default)]
    pub delay: DelayConfig,
    /// Whether only labels that are asked for become known (`label_requests`), as where people give them: a
    /// recorded stream then shows what asking would have brought.
    #[serde(default)]
    pub on_request: bool,
    /// How long a sample waits for its label, and a label for its sample, where labels have a topic.
    /// Seconds are counted from when it was read. Default: 100,000 records.
    #[serde(default)]
    pub wait: DelayConfig,
}

/// A length of time: `records` or `seconds`, at most one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayConfig {
    /// Once this many later samples were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Once the stream's event time has moved on by this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}
