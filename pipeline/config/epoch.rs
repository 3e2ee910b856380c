//! Sections `epoch` and `commit`, and the mode of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// See [`Config::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Training is part of the order of epochs.
    #[default]
    Replay,
    /// Inference goes on while models train.
    Live,
}

/// The unit of replay: models change between epochs only.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EpochConfig {
    /// Records in an epoch.
    pub records: u64,
    /// How many epochs the source may be ahead of what is committed or on its way there.
    pub in_flight: u64,
    /// In live mode, an epoch holds what comes in so many milliseconds: from Kafka, or at `source.rate`.
    pub tick_ms: u64,
    /// An epoch from Kafka holds at most so many bytes of records.
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

/// How often the state is made durable.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// At most this many epochs are committed together.
    pub epochs: usize,
    /// In live mode, an epoch waits at most this long for its commit, milliseconds.
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
