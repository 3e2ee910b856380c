//! What `perennial produce` sends.

use std::path::PathBuf;

use perennial_connectors::schema::Schema;
use perennial_connectors::source::SimulatorConfig;
use perennial_connectors::source::file::{FileConfig, FileFormat};
use perennial_operators::label::Delay;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DelayConfig;
use super::labels::delay;
use super::places::nearest;
use super::{ConfigError, ConfigFile};

/// What `perennial produce` sends to the topics of samples and labels: the records of a file or of the
/// simulator, `path` or `simulator`, one of them. `perennial run` does not look at it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProduceConfig {
    /// A CSV, JSON Lines or Parquet file; text may be gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The file's format, when its name does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A simulated fleet of sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorConfig>,
    /// Samples a second. Default: as fast as the brokers take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The column whose text is the key of the messages. Default: the schema's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How much later than its sample a label goes to the topic of labels: after so many more samples, or
    /// so many seconds of the clock on the wall.
    #[serde(default)]
    pub delay: DelayConfig,
}

/// What to produce, once it is known to make sense.
#[derive(Clone, Debug)]
pub struct Production {
    /// The column of the key.
    pub key: String,
    /// How much later than its sample a label goes.
    pub delay: Delay,
}

/// Checks the section, if there is one.
pub(super) fn production(
    loaded: &ConfigFile,
    schema: &Schema,
) -> Result<Option<Production>, ConfigError> {
    let Some(produce) = &loaded.config.produce else {
        return Ok(None);
    };
    check_origin(loaded, produce)?;
    if produce
        .rate
        .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
    {
        return Err(loaded.error("produce.rate", "expected a number above 0"));
    }
    let has_delay = produce.delay.records.is_some() || produce.delay.seconds.is_some();
    if has_delay && loaded.config.labels.kafka.is_none() {
        let message = "labels go with their samples: remove this, or set labels.kafka";
        return Err(loaded.error("produce.delay", message));
    }
    Ok(Some(Production {
        key: key(loaded, produce, schema)?,
        delay: delay(loaded, "produce.delay", &produce.delay, 0)?,
    }))
}

fn check_origin(loaded: &ConfigFile, produce: &ProduceConfig) -> Result<(), ConfigError> {
    match (&produce.path, &produce.simulator) {
        (Some(path), None) => {
            let file = FileConfig {
                format: produce.format,
                ..FileConfig::new(path)
            };
            first(loaded, file.problems("produce"))
        }
        (None, Some(_)) if produce.format.is_some() => {
            let message = "the simulator has none: remove this";
            Err(loaded.error("produce.format", message))
        }
        (None, Some(simulator)) => first(loaded, simulator.problems("produce.simulator")),
        (Some(_), Some(_)) => {
            let message = "\"path\" and \"simulator\" exclude each other";
            Err(loaded.error("produce", message))
        }
        (None, None) => Err(loaded.error("produce", "expected \"path\" or \"simulator\"")),
    }
}

fn first(loaded: &ConfigFile, problems: Vec<(String, String)>) -> Result<(), ConfigError> {
    match problems.into_iter().next() {
        Some((path, message)) => Err(loaded.error(&path, message)),
        None => Ok(()),
    }
}

/// The key's column, which must be one that samples have.
fn key(
    loaded: &ConfigFile,
    produce: &ProduceConfig,
    schema: &Schema,
) -> Result<String, ConfigError> {
    let Some(key) = &produce.key else {
        return Ok(schema.site.clone());
    };
    let names = schema.columns();
    if names.contains(&key.as_str()) {
        return Ok(key.clone());
    }
    let hint = nearest(key, &names)
        .map(|near| format!("; did you mean \"{near}\"?"))
        .unwrap_or_default();
    let message = format!(
        "\"{key}\" is not a column of the schema{hint} (expected: {})",
        names.join(", ")
    );
    Err(loaded.error("produce.key", message))
}
