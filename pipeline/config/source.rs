//! Section `source`: where samples come from.

use std::path::PathBuf;

use perennial_connectors::source::SimulatorConfig;
use perennial_connectors::source::edges::EdgesConfig;
use perennial_connectors::source::file::FileFormat;
use perennial_connectors::source::kafka::SamplesConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::labels::check_labels;
use super::{ConfigError, ConfigFile, Role};

pub(crate) fn check_source(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let source = &loaded.config.source;
    let kinds = [
        source.path.is_some(),
        source.kafka.is_some(),
        source.simulator.is_some(),
        source.edges.is_some(),
    ];
    match kinds.iter().filter(|there| **there).count() {
        1 => {}
        0 => {
            let message = "expected \"path\", \"kafka\", \"edges\" or \"simulator\"";
            return Err(loaded.error("source", message));
        }
        _ => {
            let message = "\"path\", \"kafka\", \"edges\" and \"simulator\" exclude each other";
            return Err(loaded.error("source", message));
        }
    }
    check_labels(loaded)?;
    if source.edges.is_some() && loaded.config.role != Role::Cloud {
        return Err(loaded.error("source.edges", "only the cloud has edges: set role: cloud"));
    }
    if (source.kafka.is_some() || source.edges.is_some()) && source.rate.is_some() {
        let message = "records of a topic come when they come: remove this";
        return Err(loaded.error("source.rate", message));
    }
    if source
        .rate
        .is_some_and(|rate| !(rate > 0.0 && rate.is_finite()))
    {
        return Err(loaded.error("source.rate", "expected a number above 0"));
    }
    if source.max_record_bytes == Some(0) {
        return Err(loaded.error("source.max_record_bytes", "expected at least 1"));
    }
    let simulator = source.simulator.iter();
    let mut problems = simulator.flat_map(|simulator| simulator.problems("source.simulator"));
    if let Some((path, message)) = problems.next() {
        return Err(loaded.error(&path, message));
    }
    Ok(())
}

/// A file of samples, a topic, what edges share, or the simulator: `path`, `kafka`, `edges` or `simulator`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A CSV, JSON Lines or Parquet file; text may be gzipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The file's format, when its name does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<SamplesConfig>,
    /// A text record or a message of more bytes is a dead letter. Default: 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record_bytes: Option<usize>,
    /// An id that was seen within this many records is a duplicate. Default: 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates_within: Option<usize>,
    /// In the cloud: what edges share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesConfig>,
    /// A simulated fleet of sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<SimulatorConfig>,
    /// At most this many records a second. Default: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
}
