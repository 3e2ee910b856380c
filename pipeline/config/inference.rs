//! Sections `inference` and `report`: how predictions are made, and the baselines beside them.

use perennial_operators::LabelKind;
use perennial_operators::algorithms::pool::Integration;
use perennial_operators::predict::{Baseline, InferenceRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::places::{AT_LEAST_ONE, Places};

/// How predictions are made.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// How the outputs of the models and adapters along a sample's task path become one prediction.
    pub integration: IntegrationConfig,
    /// Whether each task learns from its labels an adapter that corrects the model it uses.
    pub adapters: bool,
    /// Number of latest labelled samples of a task, and of the task above it, among which a
    /// sample's neighbours are searched; 0 turns neighbours off. Needs `adapters`.
    pub neighbours: usize,
    /// Memory bound, in bytes, of the models that are loaded, over all workers. Above it, the least
    /// recently used models are unloaded, and loaded again when a sample needs them.
    pub memory_bytes: usize,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        InferenceConfig {
            integration: IntegrationConfig::default(),
            adapters: true,
            neighbours: 128,
            memory_bytes: 256 << 20,
        }
    }
}

impl InferenceConfig {
    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let bytes = self.memory_bytes;
        places.require(bytes > 0, "inference.memory_bytes", AT_LEAST_ONE)
    }

    pub(super) fn rules(&self, kind: LabelKind) -> InferenceRules {
        InferenceRules {
            kind,
            integration: self.integration.into(),
            adapters: self.adapters,
        }
    }

    /// Number of recent samples of a task among which neighbours are searched; 0 where they have no
    /// weight.
    pub(super) fn used_neighbours(&self) -> usize {
        if self.adapters && self.integration != IntegrationConfig::Leaf {
            self.neighbours
        } else {
            0
        }
    }
}

/// How the outputs along a task path become one prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationConfig {
    /// The model of the finest task, or of its nearest ancestor that has one.
    Leaf,
    /// All outputs along the path, with equal weights.
    Average,
    /// All outputs along the path, weighted by their recent losses on the finest task.
    #[default]
    Weighted,
}

/// Baselines of the report.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Baselines that are scored on the same samples as the pipeline.
    #[serde(default)]
    pub baselines: Vec<BaselineConfig>,
}

impl ReportConfig {
    /// Checks the section of an edge.
    pub(super) fn check_edge(&self, places: &Places) -> Result<(), ConfigError> {
        let message = "an edge has no baselines: remove this";
        places.require(self.baselines.is_empty(), "report.baselines", message)
    }
}

/// A baseline: a simpler way to predict, scored for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineConfig {
    /// The base model of the bootstrap, never changed.
    Frozen,
    /// One single model for all tasks, retrained on the base task's triggers.
    Single,
}

impl BaselineConfig {
    /// Name in the config and in the report.
    pub fn name(self) -> &'static str {
        match self {
            BaselineConfig::Frozen => "frozen",
            BaselineConfig::Single => "single",
        }
    }
}

impl From<IntegrationConfig> for Integration {
    fn from(config: IntegrationConfig) -> Self {
        match config {
            IntegrationConfig::Leaf => Integration::Leaf,
            IntegrationConfig::Average => Integration::Average,
            IntegrationConfig::Weighted => Integration::Weighted,
        }
    }
}

impl From<BaselineConfig> for Baseline {
    fn from(config: BaselineConfig) -> Self {
        match config {
            BaselineConfig::Frozen => Baseline::Frozen,
            BaselineConfig::Single => Baseline::Single,
        }
    }
}
