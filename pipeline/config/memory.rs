//! Section `memory`: how many samples are retained.

use perennial_connectors::schema::Schema;
use perennial_operators::RetainedSample;
use perennial_operators::learn::MemoryRules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, ConfigFile, Settings};

pub(super) fn check_memory(loaded: &ConfigFile, schema: &Schema) -> Result<(), ConfigError> {
    let least = RetainedSample::bytes(schema.features.len());
    if loaded.config.memory.bytes < least {
        let message = format!("expected at least {least}, which is what one sample counts");
        return Err(loaded.error("memory.bytes", message));
    }
    Ok(())
}

/// How much of the past is retained for training and judging.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Labelled samples retained for each finest task, shared out evenly among the classes; at most.
    pub samples_per_task: usize,
    /// The latest labelled samples of each finest task that are kept beside, to learn from after drift. Without
    /// `drift.detectors`, only as many are kept as `inference.neighbours` has it.
    pub recent_per_task: usize,
    /// The most bytes of all retained samples; each counts 48, and 4 more for each feature. Where tasks want more, the
    /// largest give up samples first.
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

impl Settings {
    /// Rules by which samples are retained.
    pub fn memory_rules(&self) -> MemoryRules {
        let memory = &self.config().memory;
        MemoryRules {
            samples_per_task: memory.samples_per_task,
            bytes: memory.bytes,
            features: self.features(),
            classes: self.classes.len(),
        }
    }

    /// Number of recent labelled samples that are kept of each task.
    pub fn recent_samples(&self) -> usize {
        let for_drift = if self.drift.any() {
            self.config().memory.recent_per_task
        } else {
            0
        };
        for_drift.max(self.neighbours())
    }
}
