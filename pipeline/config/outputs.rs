//! Sections `predictions` and `dead_letters`: where results go.

use std::path::PathBuf;

use perennial_connectors::kafka::TopicConfig;
use perennial_connectors::sink::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::Places;

/// Where predictions are written: `path` or `kafka`, one of them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// A file; for Parquet a folder that gets one file a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// Format of the file. Default: by the file's name, else JSON Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

impl PredictionsConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let message = "expected \"path\" or \"kafka\", one of them";
        let is_one = self.path.is_some() != self.kafka.is_some();
        places.require(is_one, "predictions", message)?;
        let message = "the format of a topic is predictions.kafka.format";
        let is_of_file = self.format.is_none() || self.path.is_some();
        places.require(is_of_file, "predictions.format", message)
    }
}

/// Where unusable records are written: `path` or `kafka`, at most one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// A JSON Lines file. Default, without a topic: `dead-letters.jsonl` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A topic, which gets the records byte for byte, with the reason in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<DeadLetterTopic>,
}

impl DeadLettersConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let message = "\"path\" and \"kafka\" exclude each other";
        let is_both = self.path.is_some() && self.kafka.is_some();
        places.require(!is_both, "dead_letters", message)
    }
}

/// A topic of unusable records, byte for byte as they were read.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterTopic {
    /// Name of the topic.
    pub topic: String,
}
