//! Section `training`: how models are trained.

use std::time::Duration;

use perennial_connectors::trainer::CommandLine;
use perennial_operators::TreeParameters;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::limit;
use super::places::{AT_LEAST_ONE, Places};
use super::{ConfigError, TrainerConfig};

/// How models are trained.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Least number of labelled samples of a task to train a model. The base task's first model is
    /// trained on the bootstrap, whatever its size.
    pub min_samples: u64,
    /// Least number of new labelled samples before a task trains again.
    pub min_new_samples: u64,
    /// Share of the retained samples that no model is fitted on; base models are judged on them.
    pub holdout: f64,
    /// Maximum number of retained samples that a model is fitted and judged on, drawn evenly.
    pub max_samples: usize,
    /// Ways to build a task's model; the best result is taken.
    pub candidates: Vec<CandidateConfig>,
    /// Number of trainings at a time. Default: the number of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Longest time of all trainings of one order together, such as `30m`; after it the training
    /// under way is ended, and no other is begun. Default: `1h`, or four times the timeout of a
    /// command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// A command that fits the models. Default: the built-in trainer, which fits gradient-boosted
    /// trees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainer: Option<TrainerConfig>,
    /// Settings of the gradient-boosted trees; a command gets them in its request.
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
            timeout: None,
            trainer: None,
            trees: TreeParameters::default(),
        }
    }
}

impl TrainingConfig {
    /// Time limit of an order; `command` fits its models, if there is one.
    pub(super) fn order_limit(
        &self,
        command: Option<&CommandLine>,
        places: &Places,
    ) -> Result<Duration, ConfigError> {
        match (&self.timeout, command) {
            (Some(text), _) => {
                limit(text).map_err(|message| places.error("training.timeout", message))
            }
            // From scratch, since the drift, with a relative, and once more with all samples.
            (None, Some(command)) => Ok(command.timeout.saturating_mul(4)),
            (None, None) => Ok(Duration::from_secs(3600)),
        }
    }

    pub(super) fn check(&self, places: &Places) -> Result<(), ConfigError> {
        let at_least_one = |holds, key: &str| {
            let path = format!("training.{key}");
            places.require(holds, &path, AT_LEAST_ONE)
        };
        at_least_one(self.min_samples > 0, "min_samples")?;
        at_least_one(self.min_new_samples > 0, "min_new_samples")?;
        at_least_one(self.max_samples > 0, "max_samples")?;
        let message = "expected at least one of scratch, warm_start, relative, pooled, recent, \
                       recall, donor";
        let has_candidates = !self.candidates.is_empty();
        places.require(has_candidates, "training.candidates", message)?;
        at_least_one(self.threads != Some(0), "threads")?;
        let is_valid = self.holdout > 0.0 && self.holdout < 0.9;
        let message = "expected a share above 0 and below 0.9";
        places.require(is_valid, "training.holdout", message)?;
        check_trees(&self.trees, places)
    }
}

fn check_trees(trees: &TreeParameters, places: &Places) -> Result<(), ConfigError> {
    let require = |holds: bool, key: &str, message: &str| {
        places.require(holds, &format!("training.trees.{key}"), message)
    };
    let is_share = |value: f32| value > 0.0 && value <= 1.0;
    let share = "expected above 0, at most 1";
    let at_least_zero = "expected at least 0";
    let (rounds, depth) = (1..=10_000, 1..=16);
    require(
        rounds.contains(&trees.rounds),
        "rounds",
        "expected 1 to 10000",
    )?;
    require(
        depth.contains(&trees.max_depth),
        "max_depth",
        "expected 1 to 16",
    )?;
    require(is_share(trees.eta), "eta", share)?;
    require(is_share(trees.subsample), "subsample", share)?;
    require(is_share(trees.colsample_bytree), "colsample_bytree", share)?;
    require(trees.lambda >= 0.0, "lambda", at_least_zero)?;
    let weight = trees.min_child_weight;
    require(weight >= 0.0, "min_child_weight", at_least_zero)
}

/// A way to build a task's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateConfig {
    /// From the task's samples alone.
    Scratch,
    /// As a correction of the incumbent: the model that is deployed for the task, its own or an
    /// ancestor's.
    WarmStart,
    /// As a correction of the best relative's model.
    Relative,
    /// From the samples of the task and of its best relative.
    Pooled,
    /// After drift, from the task's samples since the drift alone.
    Recent,
    /// After drift, an earlier model of the task that fits the samples since the drift. Nothing is
    /// trained.
    Recall,
    /// From models that were trained elsewhere: the best of them as it is, and as a start.
    Donor,
}
