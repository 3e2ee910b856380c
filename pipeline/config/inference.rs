//! Sections `inference` and `report`: how predictions are made and what they are compared with.

use perennial_operators::algorithms::pool::Integration;
use perennial_operators::predict::{Baseline, InferenceRules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;

/// How predictions are made.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// How the models and adapters along a sample's path become one answer.
    pub integration: IntegrationConfig,
    /// Whether each task learns from its labels to correct the model that answers for it.
    pub adapters: bool,
    /// Among how many of the latest labelled samples of a task, and of the one above it, a sample's neighbours are
    /// looked for; 0 does without. It needs `adapters`.
    pub neighbours: usize,
    /// The most memory that models which are ready to answer may take, over all workers. Where they need more, those
    /// that were asked last are ready, and the others are made ready when they are asked.
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

/// See [`InferenceConfig::integration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntegrationConfig {
    /// The finest task of the path answers, with the model of its nearest ancestor that has one.
    Leaf,
    /// All along the path count the same.
    Average,
    /// Each along the path counts by how well it did lately on the finest task.
    #[default]
    Weighted,
}

/// What the report compares with.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Baselines that are scored on the same samples.
    #[serde(default)]
    pub baselines: Vec<BaselineConfig>,
}

/// See [`ReportConfig::baselines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineConfig {
    /// The base model of the bootstrap, never changed.
    Frozen,
    /// One single model for all tasks, retrained on the base task's triggers.
    Single,
}

impl BaselineConfig {
    /// The name in the config and in the report.
    pub fn name(self) -> &'static str {
        match self {
            BaselineConfig::Frozen => "frozen",
            BaselineConfig::Single => "single",
        }
    }
}

impl Settings {
    /// Rules of inference.
    pub fn inference_rules(&self) -> InferenceRules {
        let inference = &self.config().inference;
        InferenceRules {
            kind: self.label_kind(),
            integration: inference.integration.into(),
            adapters: inference.adapters,
        }
    }

    /// Number of recent samples of a task among which a new one finds its neighbours.
    pub fn neighbours(&self) -> usize {
        let inference = &self.config().inference;
        if inference.adapters && inference.integration != IntegrationConfig::Leaf {
            inference.neighbours
        } else {
            0
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
