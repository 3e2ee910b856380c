//! Fitting: trains candidates for a task's model, the first one or a later one, on its samples and
//! with its relatives (remodeling).

use std::collections::BTreeMap;
use std::time::Instant;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::onnx::trees;
use perennial_connectors::trainer::{Job, Trained, TrainerError};
use perennial_operators::flow::{DeployedModel, KnowledgeChange, RelationScored, TrainOrder};
use perennial_operators::{ModelId, RetainedSample, TaskId, TrainRequest, TreeParameters};

use super::candidate::{Candidate, Recipe};
use super::context::TrainingContext;
use super::losses::{losses, samples_matrix};
use super::round::TrainingRound;
use super::split::Split;
use super::stage_log::StageLog;
use crate::config::CandidateConfig;

/// Limit on the relatives or donations whose models are tried on a task's samples.
pub(super) const MOST_RELATIVES: usize = 30;

/// Limit on the samples of the task that they are tried on.
const MOST_SAMPLES: usize = 200;

/// A warm start takes one boosting round where a model from scratch takes this many: it has less to
/// learn.
const WARM_START: u32 = 6;

/// Most trees of a warm start, as a multiple of those of a model from scratch.
const MOST_GROWTH: usize = 4;

/// The latest samples of a split that candidates are fitted on, at most [`MOST_SAMPLES`].
pub(super) fn latest_samples(split: &Split) -> &[RetainedSample] {
    let first = split.fitted.len().saturating_sub(MOST_SAMPLES);
    &split.fitted[first..]
}

impl TrainingRound<'_> {
    /// The candidates for an order, or why one could not be built.
    pub(super) fn candidates(
        &self,
        order: &TrainOrder,
        incumbent: Option<&DeployedModel>,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Vec<Result<Candidate, String>>, KnowledgeError> {
        let recipes = self.recipes(order.model.task, incumbent, split, log)?;
        Ok(recipes
            .into_iter()
            .map(|recipe| self.fit(order.model, recipe, &split.fitted, log.deadline))
            .collect())
    }

    /// Recipes to try for a model of `task`.
    fn recipes(
        &self,
        task: TaskId,
        incumbent: Option<&DeployedModel>,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Vec<Recipe>, KnowledgeError> {
        let warm_starts = self.context.trainer.warm_starts();
        let allows = |candidate: CandidateConfig| {
            let is_warm = matches!(
                candidate,
                CandidateConfig::WarmStart | CandidateConfig::Relative
            );
            self.context.candidates.contains(&candidate) && (warm_starts || !is_warm)
        };
        let mut recipes = Vec::new();
        // The incumbent of a task below the base is the model of an ancestor.
        let ancestor = incumbent.filter(|_| task != TaskId::BASE);
        if allows(CandidateConfig::Scratch) || ancestor.is_none() {
            recipes.push(Recipe::Scratch);
        }
        if let (Some(first), true) = (split.drifted, allows(CandidateConfig::Recent)) {
            recipes.push(Recipe::Recent(first));
        }
        if let Some(ancestor) = ancestor {
            if allows(CandidateConfig::WarmStart) {
                recipes.push(Recipe::WarmStart(ancestor.clone()));
            }
            let pooled = allows(CandidateConfig::Pooled);
            let relative = allows(CandidateConfig::Relative);
            if (pooled || relative)
                && let Some(best) = self.best_relative(task, ancestor, split, log)?
            {
                if pooled {
                    let theirs = self.training_samples(best.model.task, false)?.samples;
                    let theirs = split.without_held_back(theirs);
                    recipes.push(Recipe::Pooled(best.model.task, theirs));
                }
                if relative {
                    recipes.push(Recipe::WarmStart(best));
                }
            }
        }
        if let (Some(incumbent), true) = (incumbent, allows(CandidateConfig::Donor))
            && let Some(best) = self.best_donor(task, incumbent, split)?
        {
            let TrainingContext { features, kind, .. } = *self.context;
            // Only the built-in trainer's own models can be started from.
            if warm_starts && trees(&best.onnx, features, kind).is_ok() {
                recipes.push(Recipe::WarmStart(best.clone()));
            }
            recipes.push(Recipe::Adopted(best));
        }
        let starts = recipes.len();
        recipes.retain(|recipe| !self.starts_too_large(recipe));
        let has_scratch = recipes.iter().any(|it| matches!(it, Recipe::Scratch));
        if recipes.len() < starts && !has_scratch {
            recipes.push(Recipe::Scratch);
        }
        Ok(recipes)
    }

    /// Whether a recipe is a warm start that would have more than [`MOST_GROWTH`] times the trees
    /// of a model from scratch. Relatives that improve on each other in turn would grow for ever.
    fn starts_too_large(&self, recipe: &Recipe) -> bool {
        let Recipe::WarmStart(from) = recipe else {
            return false;
        };
        let TrainingContext { features, kind, .. } = *self.context;
        let rounds = self.context.trees.rounds;
        let of_rounds = |rounds: u32| rounds as usize * kind.width();
        // A model of another trainer cannot be started from at all, and the training says so.
        trees(&from.onnx, features, kind).is_ok_and(|trees| {
            let added = of_rounds(rounds.div_ceil(WARM_START));
            trees + added > MOST_GROWTH * of_rounds(rounds)
        })
    }

    /// The relative whose model has the least loss on the task's samples, if it loses less than the
    /// incumbent. Logs the relation to each relative.
    fn best_relative(
        &self,
        task: TaskId,
        incumbent: &DeployedModel,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let samples = latest_samples(split);
        let losses_of = |model: &DeployedModel| {
            let losses = losses(self.context, &model.onnx, samples, self.scale()).ok()?;
            Some((losses.mean()?, losses))
        };
        let Some(mut least) = self.loss_to_beat(incumbent, samples) else {
            return Ok(None);
        };
        let mut best = None;
        for relative in self.relatives(task) {
            let Some(model) = self.deployed_model(&[relative])? else {
                continue;
            };
            let Some((log_loss, losses)) = losses_of(&model) else {
                continue;
            };
            log.changes
                .push(KnowledgeChange::RelationScored(RelationScored {
                    model: model.model,
                    task,
                    samples: samples.len() as u64,
                    accuracy: losses.accuracy(),
                    log_loss,
                    rmse: losses.rmse(),
                }));
            if log_loss < least {
                least = log_loss;
                best = Some(model);
            }
        }
        Ok(best)
    }

    /// Mean loss of the incumbent on samples, which the model of a relative or a donor must
    /// undercut: infinite if the incumbent does not run on them. None without samples.
    pub(super) fn loss_to_beat(
        &self,
        incumbent: &DeployedModel,
        samples: &[RetainedSample],
    ) -> Option<f64> {
        match losses(self.context, &incumbent.onnx, samples, self.scale()) {
            Ok(losses) => losses.mean(),
            Err(_) => Some(f64::INFINITY),
        }
    }

    /// Tasks with models of their own that are neither above nor below `task`, at most
    /// [`MOST_RELATIVES`]: first those whose nearest ancestor in common is nearer.
    fn relatives(&self, task: TaskId) -> Vec<TaskId> {
        let distance: BTreeMap<TaskId, usize> = self.path(task).into_iter().zip(0..).collect();
        let mut relatives: Vec<(usize, TaskId)> = self
            .tasks
            .iter()
            .filter(|(other, record)| record.deployed.is_some() && !distance.contains_key(other))
            .filter_map(|(other, _)| {
                let path = self.path(*other);
                let nearest = path.iter().find_map(|above| distance.get(above))?;
                (*nearest > 0).then_some((*nearest, *other))
            })
            .collect();
        relatives.sort_unstable();
        relatives.truncate(MOST_RELATIVES);
        relatives.into_iter().map(|(_, task)| task).collect()
    }

    /// Builds a model by a recipe, on `samples` of the task, until `deadline`.
    pub(super) fn fit(
        &self,
        model: ModelId,
        recipe: Recipe,
        samples: &[RetainedSample],
        deadline: Instant,
    ) -> Result<Candidate, String> {
        if samples.is_empty() {
            return Err("there are no labelled samples to fit a model on".to_string());
        }
        let rounds = self.context.trees.rounds;
        let train = |samples: &[RetainedSample], rounds, from| {
            self.train(model, samples, rounds, from, deadline)
        };
        let trained = match &recipe {
            Recipe::Scratch => train(samples, rounds, None),
            Recipe::WarmStart(from) => {
                let rounds = rounds.div_ceil(WARM_START);
                train(samples, rounds, Some(from))
            }
            Recipe::Pooled(_, theirs) => {
                let mut all = [samples, theirs].concat();
                all.sort_by_key(|sample| sample.sequence);
                train(&all, rounds, None)
            }
            Recipe::Recent(first) => {
                let old = samples.partition_point(|sample| sample.sequence < *first);
                match &samples[old..] {
                    [] => Err("there are no samples since the drift to fit a model on".to_string()),
                    recent => train(recent, rounds, None),
                }
            }
            Recipe::Recalled(_) => return Err("an earlier model is not trained again".to_string()),
            Recipe::Adopted(from) => Ok(Trained {
                onnx: from.onnx.to_vec(),
                hash: from.hash.clone(),
                deviation: 0.0,
                metrics: BTreeMap::new(),
            }),
        };
        Ok(Candidate {
            trained: trained?,
            recipe,
        })
    }

    /// Trains a model on `samples`, with the model `from` as the margin if there is one.
    fn train(
        &self,
        model: ModelId,
        samples: &[RetainedSample],
        rounds: u32,
        from: Option<&DeployedModel>,
        deadline: Instant,
    ) -> Result<Trained, String> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let all = self.context.timeout;
        if limit.is_zero() {
            return Err(format!("no time is left of {all:?} (training.timeout)"));
        }
        let request = TrainRequest {
            features: samples_matrix(samples, self.context.features),
            labels: samples.iter().map(|sample| sample.label).collect(),
            weights: weights(samples),
            kind: self.context.kind,
            margins: None,
            parameters: TreeParameters {
                rounds,
                ..self.context.trees.clone()
            },
        };
        let record = self.tasks.get(&model.task);
        let job = Job {
            model,
            task: record.map_or("", |record| &record.definition.name),
            samples,
            request: &request,
            from: from.map(|model| model.onnx.as_slice()),
            limit: Some(limit),
        };
        self.context.trainer.train(&job).map_err(|error| {
            let mut reason = error.to_string();
            if matches!(error, TrainerError::TimedOut { .. }) && Instant::now() >= deadline {
                reason.push_str(&format!(
                    "; all trainings of an order may take {all:?} (training.timeout)"
                ));
            }
            // A run that is to stop cancels its trainings.
            if !matches!(error, TrainerError::Cancelled) {
                tracing::warn!(task = job.task, reason, "training failed");
            }
            reason
        })
    }
}

/// Weight of each sample in a training, 1 on average, so that settings such as the least weight of
/// a leaf mean the same whatever the samples stand for. None if all weights are equal.
fn weights(samples: &[RetainedSample]) -> Option<Vec<f32>> {
    let first = samples.first()?.weight;
    if samples.iter().all(|sample| sample.weight == first) {
        return None;
    }
    let total: f64 = samples.iter().map(|sample| f64::from(sample.weight)).sum();
    let mean = total / samples.len() as f64;
    let relative = |sample: &RetainedSample| (f64::from(sample.weight) / mean) as f32;
    Some(samples.iter().map(relative).collect())
}
