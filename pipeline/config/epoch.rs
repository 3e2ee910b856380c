//! Sections `epoch` and `commit`, and the mode of a run.

use perennial_operators::learn::TrainingMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::{AT_LEAST_ONE, Places};

/// Whether the stream waits for training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Training is part of the order of epochs.
    #[default]
    Replay,
    /// Inference continues while models train.
    Live,
}

impl Mode {
    /// Whether the stream waits for trainings.
    pub fn training(self) -> TrainingMode {
        match self {
            Mode::Replay => TrainingMode::Replay,
            Mode::Live => TrainingMode::Live,
        }
    }
}

/// Unit of replay: models change between epochs only.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EpochConfig {
    /// Records in an epoch.
    pub records: u64,
    /// Maximum number of epochs that the source is ahead of those committed or being committed.
    pub in_flight: u64,
    /// In live mode, an epoch holds the records of this many milliseconds: from Kafka, or at
    /// `source.rate`.
    pub tick_ms: u64,
    /// Maximum bytes of records in an epoch from Kafka.
    pub bytes: usize,
}

impl Default for EpochConfig {
    fn default() -> Self {
        EpochConfig {
            records: 4096,
            in_flight: 4,
            tick_ms: 10,
            bytes: 1 << 20,
        }
    }
}

impl EpochConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        places.require(self.records > 0, "epoch.records", AT_LEAST_ONE)?;
        places.require(self.in_flight > 0, "epoch.in_flight", AT_LEAST_ONE)?;
        places.require(self.bytes > 0, "epoch.bytes", AT_LEAST_ONE)?;
        places.require(self.tick_ms > 0, "epoch.tick_ms", AT_LEAST_ONE)
    }
}

/// How often the state is made durable.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// Maximum number of epochs that are committed together.
    pub epochs: usize,
    /// In live mode, the longest time that an epoch waits for its commit, in milliseconds.
    pub interval_ms: u64,
}

impl Default for CommitConfig {
    fn default() -> Self {
        CommitConfig {
            epochs: 32,
            interval_ms: 100,
        }
    }
}

impl CommitConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        places.require(self.epochs > 0, "commit.epochs", AT_LEAST_ONE)
    }
}
