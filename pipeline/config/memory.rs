//! Section `memory`: how many samples are retained.

use perennial_operators::RetainedSample;
use perennial_operators::learn::MemoryRules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::{AT_LEAST_ONE, Places};

/// How many samples are retained for training and for judging models.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Maximum number of labelled samples retained for each finest task, divided evenly among the
    /// classes.
    pub samples_per_task: usize,
    /// Number of latest labelled samples of each finest task that are kept besides, to train on
    /// after drift. Without `drift.detectors`, only `inference.neighbours` samples are kept.
    pub recent_per_task: usize,
    /// Maximum bytes of all retained samples; each sample counts 48 bytes, and 4 more for each
    /// feature. Above it, the largest tasks give up samples first.
    pub bytes: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        MemoryConfig {
            samples_per_task: 2000,
            recent_per_task: 500,
            bytes: 1 << 30,
        }
    }
}

impl MemoryConfig {
    /// Checks the section for samples of `features` features.
    pub(super) fn check(&self, features: usize, places: &Places) -> Result<(), ConfigError> {
        let samples = self.samples_per_task;
        places.require(samples > 0, "memory.samples_per_task", AT_LEAST_ONE)?;
        let least = RetainedSample::bytes(features);
        let message = format!("expected at least {least}, the size of one sample");
        places.require(self.bytes >= least, "memory.bytes", message)
    }

    pub(super) fn rules(&self, features: usize, classes: usize) -> MemoryRules {
        MemoryRules {
            samples_per_task: self.samples_per_task,
            bytes: self.bytes,
            features,
            classes,
        }
    }
}
