//! Sections `predictions` and `dead_letters`: where results go.

use std::path::PathBuf;

use perennial_connectors::kafka::TopicConfig;
use perennial_connectors::sink::Format;
use perennial_connectors::sink::kafka::OutputTopics;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, ConfigFile};

pub(crate) fn check_outputs(loaded: &ConfigFile) -> Result<(), ConfigError> {
    if let Some(predictions) = &loaded.config.predictions {
        match (&predictions.path, &predictions.kafka) {
            (Some(_), None) => {}
            (None, Some(_)) if predictions.format.is_some() => {
                let message = "the format of a topic is predictions.kafka.format";
                return Err(loaded.error("predictions.format", message));
            }
            (None, Some(_)) => {}
            _ => {
                let message = "expected \"path\" or \"kafka\", one of them";
                return Err(loaded.error("predictions", message));
            }
        }
    }
    let dead_letters = &loaded.config.dead_letters;
    if dead_letters.path.is_some() && dead_letters.kafka.is_some() {
        let message = "\"path\" and \"kafka\" exclude each other";
        return Err(loaded.error("dead_letters", message));
    }
    Ok(())
}

/// Where predictions are written: `path` or `kafka`, one of them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// The file; for Parquet a folder that gets one file a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Or a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// The format, when the name does not tell. Default: JSON Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// Where records are written that could not be used.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// A JSON Lines file. Default, without a topic: `dead-letters.jsonl` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Or a topic, which gets the records byte for byte, the reason in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<DeadLetterTopic>,
}

/// A topic of records as they came.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterTopic {
    /// The topic's name.
    pub topic: String,
}

impl Config {
    /// The topics that results go to.
    pub fn output_topics(&self) -> OutputTopics {
        let predictions = self.predictions.as_ref();
        let requests = self.label_requests.as_ref();
        OutputTopics {
            label_requests: requests
                .and_then(|requests| requests.kafka.as_ref())
                .map(|kafka| kafka.topic.clone()),
            predictions: predictions
                .and_then(|predictions| predictions.kafka.as_ref())
                .map(|kafka| kafka.topic.clone()),
            dead_letters: self
                .dead_letters
                .kafka
                .as_ref()
                .map(|kafka| kafka.topic.clone()),
        }
    }
}
