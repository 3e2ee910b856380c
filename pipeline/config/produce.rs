//! Section `produce`: what `perennial produce` sends.

use std::path::PathBuf;

use perennial_connectors::schema::Schema;
use perennial_connectors::source::SimulatorConfig;
use perennial_connectors::source::file::{FileConfig, FileFormat};
use perennial_operators::label::Delay;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::{Places, did_you_mean};
use super::{ConfigError, DelayConfig};

/// What `perennial produce` sends to the topics of samples and labels: the records of a file or of
/// the simulator, `path` or `simulator`, one of them. `perennial run` ignores this section.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProduceConfig {
    /// A CSV, JSON Lines or Parquet file; text may be gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Format of the file. Default: by the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A simulated fleet of sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorConfig>,
    /// Samples a second. Default: as fast as the brokers take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Column whose text is the key of the messages. Default: the schema's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Time between sending a sample and sending its label to the topic of labels: a number of
    /// later samples, or seconds of the wall clock.
    #[serde(default)]
    pub delay: DelayConfig,
}

/// Checked settings of `perennial produce`.
#[derive(Clone, Debug)]
pub struct Production {
    /// Column of the key.
    pub key: String,
    /// Time between sending a sample and sending its label.
    pub delay: Delay,
}

impl ProduceConfig {
    /// Checks the section; `has_label_topic` tells whether labels have a topic of their own.
    pub(super) fn production(
        &self,
        schema: &Schema,
        has_label_topic: bool,
        places: &Places,
    ) -> Result<Production, ConfigError> {
        self.check_input(places)?;
        let is_valid = self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite());
        places.require(is_valid, "produce.rate", "expected a number above 0")?;
        let message = "labels go with their samples: remove this, or set labels.kafka";
        let can_delay = has_label_topic || !self.delay.is_given();
        places.require(can_delay, "produce.delay", message)?;
        Ok(Production {
            key: self.key_column(schema, places)?,
            delay: self.delay.delay("produce.delay", 0, places)?,
        })
    }

    fn check_input(&self, places: &Places) -> Result<(), ConfigError> {
        match (&self.path, &self.simulator) {
            (Some(path), None) => {
                let file = FileConfig {
                    format: self.format,
                    ..FileConfig::new(path)
                };
                places.require_none(file.problems("produce"))
            }
            (None, Some(simulator)) => {
                let message = "the simulator has none: remove this";
                places.require(self.format.is_none(), "produce.format", message)?;
                places.require_none(simulator.problems("produce.simulator"))
            }
            (Some(_), Some(_)) => {
                let message = "\"path\" and \"simulator\" exclude each other";
                Err(places.error("produce", message))
            }
            (None, None) => Err(places.error("produce", "expected \"path\" or \"simulator\"")),
        }
    }

    /// The key's column, which must be one of the schema.
    fn key_column(&self, schema: &Schema, places: &Places) -> Result<String, ConfigError> {
        let Some(key) = &self.key else {
            return Ok(schema.site.clone());
        };
        let names = schema.columns();
        if names.contains(&key.as_str()) {
            return Ok(key.clone());
        }
        let message = format!(
            "\"{key}\" is not a column of the schema{} (expected: {})",
            did_you_mean(key, &names),
            names.join(", ")
        );
        Err(places.error("produce.key", message))
    }
}
