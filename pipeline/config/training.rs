//! How models are trained.

use perennial_operators::TreeParameters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, ConfigFile, TrainerConfig};

pub(crate) fn check_training(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let training = &config.training;
    let trees = &training.trees;
    let share = |value: f32| value > 0.0 && value <= 1.0;
    let checks = [
        (
            config.epoch.records > 0,
            "epoch.records",
            "expected at least 1",
        ),
        (
            config.epoch.in_flight > 0,
            "epoch.in_flight",
            "expected at least 1",
        ),
        (config.epoch.bytes > 0, "epoch.bytes", "expected at least 1"),
        (
            config.inference.memory_bytes > 0,
            "inference.memory_bytes",
            "expected at least 1",
        ),
        (
            config.epoch.tick_ms > 0,
            "epoch.tick_ms",
            "expected at least 1",
        ),
        (
            config.commit.epochs > 0,
            "commit.epochs",
            "expected at least 1",
        ),
        (
            config.triggers.window > 0,
            "triggers.window",
            "expected at least 1",
        ),
        (
            training.min_samples > 0,
            "training.min_samples",
            "expected at least 1",
        ),
        (
            training.min_new_samples > 0,
            "training.min_new_samples",
            "expected at least 1",
        ),
        (
            config.memory.samples_per_task > 0,
            "memory.samples_per_task",
            "expected at least 1",
        ),
        (
            training.max_samples > 0,
            "training.max_samples",
            "expected at least 1",
        ),
        (
            !training.candidates.is_empty(),
            "training.candidates",
            "expected at least one of scratch, warm_start, relative, pooled, recent, recall, donor",
        ),
        (
            training.threads != Some(0),
            "training.threads",
            "expected at least 1",
        ),
        (
            training.holdout > 0.0 && training.holdout < 0.9,
            "training.holdout",
            "expected a share above 0 and below 0.9",
        ),
        (
            config.gate.margin >= 0.0 && config.gate.margin.is_finite(),
            "gate.margin",
            "expected a number of nats from 0 on",
        ),
        (
            (1..=10_000).contains(&trees.rounds),
            "training.trees.rounds",
            "expected 1 to 10000",
        ),
        (
            (1..=16).contains(&trees.max_depth),
            "training.trees.max_depth",
            "expected 1 to 16",
        ),
        (
            share(trees.eta),
            "training.trees.eta",
            "expected above 0, at most 1",
        ),
        (
            share(trees.subsample),
            "training.trees.subsample",
            "expected above 0, at most 1",
        ),
        (
            share(trees.colsample_bytree),
            "training.trees.colsample_bytree",
            "expected above 0, at most 1",
        ),
        (
            trees.lambda >= 0.0,
            "training.trees.lambda",
            "expected at least 0",
        ),
        (
            trees.min_child_weight >= 0.0,
            "training.trees.min_child_weight",
            "expected at least 0",
        ),
    ];
    match checks.into_iter().find(|(holds, _, _)| !holds) {
        Some((_, path, message)) => Err(loaded.error(path, message)),
        None => Ok(()),
    }
}

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
