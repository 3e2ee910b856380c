//! Section `source`: where samples come from.

use std::path::PathBuf;

use perennial_connectors::source::SimulatorConfig;
use perennial_connectors::source::edges::EdgesConfig;
use perennial_connectors::source::file::FileFormat;
use perennial_connectors::source::kafka::SamplesConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::{AT_LEAST_ONE, Places};
use super::{ConfigError, Role};

/// A file, a topic, the samples that edges share, or the simulator: `path`, `kafka`, `edges` or
/// `simulator`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A CSV, JSON Lines or Parquet file; text may be gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Format of the file. Default: by the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<SamplesConfig>,
    /// Maximum bytes of a text record or a message; a larger one is a dead letter. Default: 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record_bytes: Option<usize>,
    /// Number of records within which a repeated id is a duplicate. Default: 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates_within: Option<usize>,
    /// In the cloud: the samples that edges share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesConfig>,
    /// A simulated fleet of sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorConfig>,
    /// Maximum number of records a second. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}

impl SourceConfig {
    /// Checks that there is exactly one source.
    pub(super) fn check_kind(&self, places: &Places) -> Result<(), ConfigError> {
        let given = [
            self.path.is_some(),
            self.kafka.is_some(),
            self.simulator.is_some(),
            self.edges.is_some(),
        ];
        let message = match given.iter().filter(|given| **given).count() {
            1 => return Ok(()),
            0 => "expected \"path\", \"kafka\", \"edges\" or \"simulator\"",
            _ => "\"path\", \"kafka\", \"edges\" and \"simulator\" exclude each other",
        };
        Err(places.error("source", message))
    }

    pub(super) fn check(&self, role: Role, places: &Places) -> Result<(), ConfigError> {
        let is_cloud = role == Role::Cloud;
        let message = "only the cloud has edges: set role: cloud";
        places.require(self.edges.is_none() || is_cloud, "source.edges", message)?;
        if let Some(rate) = self.rate {
            let message = "records of a topic come when they come: remove this";
            let can_wait = self.kafka.is_none() && self.edges.is_none();
            places.require(can_wait, "source.rate", message)?;
            let is_valid = rate > 0.0 && rate.is_finite();
            places.require(is_valid, "source.rate", "expected a number above 0")?;
        }
        let bytes = self.max_record_bytes;
        places.require(bytes != Some(0), "source.max_record_bytes", AT_LEAST_ONE)?;
        match &self.simulator {
            Some(simulator) => places.require_none(simulator.problems("source.simulator")),
            None => Ok(()),
        }
    }
}
