//! How models are trained.

use perennial_operators::TreeParameters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TrainerConfig;

/// How models are trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// A task needs this many labelled samples to train a model; the base task trains its first on
    /// whatever the bootstrap has.
    pub min_samples: u64,
    /// A task trains again only after this many new labelled samples.
    pub min_new_samples: u64,
    /// Share of the retained samples that no model is fitted on, to judge the base models on.
    pub holdout: f64,
    /// A model is fitted and judged on at most so many retained samples, drawn evenly.
    pub max_samples: usize,
    /// The ways in which a task's model may be built; the best of them is taken.
    pub candidates: Vec<CandidateConfig>,
    /// Trainings at a time. Default: one a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// A command that fits the models. Default: the built-in trainer, which fits gradient-boosted trees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainer: Option<TrainerConfig>,
    /// Settings of the gradient-boosted trees; a command is told them.
    pub trees: TreeParameters,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        TrainingConfig {
            min_samples: 200,
            min_new_samples: 50,
            holdout: 0.1,
            max_samples: 50_000,
            candidates: vec![
                CandidateConfig::Scratch,
                CandidateConfig::WarmStart,
                CandidateConfig::Relative,
                CandidateConfig::Pooled,
                CandidateConfig::Recent,
                CandidateConfig::Recall,
                CandidateConfig::Donor,
            ],
            threads: None,
            trainer: None,
            trees: TreeParameters::default(),
        }
    }
}

/// A way in which a task's model may be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateConfig {
    /// From the task's samples alone.
    Scratch,
    /// As a correction of the model that answers without it.
    WarmStart,
    /// As a correction of the best relative's model.
    Relative,
    /// From the samples of the best relative as well.
    Pooled,
    /// After drift, from the task's samples since then alone.
    Recent,
    /// After drift, an earlier model of the task, if it fits what came since: nothing is trained then.
    Recall,
    /// From models that were trained elsewhere and taken in: the best of them as it is, and as a start.
    Donor,
}
