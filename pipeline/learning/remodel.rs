//! Remodeling: the ways in which a task's model can be built from its relatives.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::trainer::TrainerError;
use perennial_connectors::trainer::{Job, Trained};
use perennial_operators::flow::{DeployedModel, KnowledgeChange, RelationScored, TrainOrder};
use perennial_operators::{ModelId, RetainedSample, TaskId, TrainRequest, TreeParameters};

use super::candidate::{Candidate, Recipe};
use super::losses::{losses, samples_matrix};
use super::round::TrainingRound;
use super::split::Split;
use super::stage_log::StageLog;
use crate::config::CandidateConfig;

/// Relatives whose models are tried on a task's samples, the nearest first.
pub(super) const MOST_RELATIVES: usize = 30;
/// Samples of the task that they are tried on, the latest.
pub(super) const MOST_SAMPLES: usize = 200;

/// A warm start takes one of so many boosting rounds: a correction of what is known already has less to learn.
const WARM_START: u32 = 6;

impl TrainingRound<'_> {
    /// The candidates for an order. `rival` is what answers without them.
    pub(super) fn candidates(
        &self,
        order: &TrainOrder,
        rival: Option<&DeployedModel>,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Vec<Result<Candidate, String>>, KnowledgeError> {
        let task = order.model.task;
        let allowed = &self.workshop.candidates;
        let warm_starts = self.workshop.trainer.warm_starts();
        let may = |candidate: CandidateConfig| {
            let is_warm = matches!(
                candidate,
                CandidateConfig::WarmStart | CandidateConfig::Relative
            );
            allowed.contains(&candidate) && (warm_starts || !is_warm)
        };
        let mut ways = Vec::new();
        let answers = rival;
        let rival = rival.filter(|_| task != TaskId::BASE);
        if may(CandidateConfig::Scratch) || rival.is_none() {
            ways.push(Recipe::Scratch);
        }
        if let (Some(first), true) = (split.drifted, may(CandidateConfig::Recent)) {
            ways.push(Recipe::Recent(first));
        }
        if let Some(rival) = rival {
            if may(CandidateConfig::WarmStart) {
                ways.push(Recipe::WarmStart(rival.clone()));
            }
            let (pooled, relative) = (may(CandidateConfig::Pooled), may(CandidateConfig::Relative));
            if (pooled || relative)
                && let Some(best) = self.best_relative(task, rival, split, log)?
            {
                if pooled {
                    let theirs = self.material(best.model.task)?.samples;
                    let theirs = split.without_held_back(theirs);
                    ways.push(Recipe::Pooled(best.model.task, theirs));
                }
                if relative {
                    ways.push(Recipe::WarmStart(best));
                }
            }
        }
        if let (Some(answers), true) = (answers, may(CandidateConfig::Donor))
            && let Some(best) = self.best_donor(task, answers, split)?
        {
            if warm_starts {
                ways.push(Recipe::WarmStart(best.clone()));
            }
            ways.push(Recipe::Adopted(best));
        }
        Ok(ways
            .into_iter()
            .map(|way| self.fit(order.model, way, &split.fitted))
            .collect())
    }

    /// The relative whose model does best on the task's samples, if it does better than the `rival`.
    fn best_relative(
        &self,
        task: TaskId,
        rival: &DeployedModel,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let latest = split.fitted.len().saturating_sub(MOST_SAMPLES);
        let samples = &split.fitted[latest..];
        let loss = |model: &DeployedModel| {
            let losses = losses(self.workshop, &model.onnx, samples, self.scale()).ok()?;
            Some((losses.mean()?, losses))
        };
        let Some(mut least) = loss(rival).map(|(mean, _)| mean) else {
            return Ok(None);
        };
        let mut best = None;
        for relative in self.relatives(task) {
            let Some(model) = self.answering(&[relative])? else {
                continue;
            };
            let Some((log_loss, losses)) = loss(&model) else {
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

    /// Tasks with models of their own that are neither above nor below, those with the nearest ancestor in common first.
    fn relatives(&self, task: TaskId) -> Vec<TaskId> {
        let distance: BTreeMap<TaskId, usize> = self.path(task).into_iter().zip(0..).collect();
        let mut relatives: Vec<(usize, TaskId)> = self
            .tasks
            .iter()
            .filter(|(other, record)| record.deployed.is_some() && !distance.contains_key(other))
            .filter_map(|(other, _)| {
                let common = self
                    .path(*other)
                    .into_iter()
                    .find_map(|a| distance.get(&a))?;
                (*common > 0).then_some((*common, *other))
            })
            .collect();
        relatives.sort_unstable();
        relatives.truncate(MOST_RELATIVES);
        relatives.into_iter().map(|(_, task)| task).collect()
    }

    /// Builds a model in a given way on some samples of the task.
    pub(super) fn fit(
        &self,
        model: ModelId,
        way: Recipe,
        samples: &[RetainedSample],
    ) -> Result<Candidate, String> {
        if samples.is_empty() {
            return Err("there are no labelled samples to fit a model on".to_string());
        }
        let rounds = self.workshop.trees.rounds;
        let trained = match &way {
            Recipe::Scratch => self.train(model, samples, rounds, None),
            Recipe::WarmStart(from) => {
                let rounds = rounds.div_ceil(WARM_START);
                self.train(model, samples, rounds, Some(from))
            }
            Recipe::Pooled(_, theirs) => {
                let mut all = [samples, theirs].concat();
                all.sort_by_key(|sample| sample.sequence);
                self.train(model, &all, rounds, None)
            }
            Recipe::Recent(first) => {
                let old = samples.partition_point(|sample| sample.sequence < *first);
                match &samples[old..] {
                    [] => Err("there are no samples since the drift to fit a model on".to_string()),
                    recent => self.train(model, recent, rounds, None),
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
            way,
        })
    }

    fn train(
        &self,
        model: ModelId,
        samples: &[RetainedSample],
        rounds: u32,
        from: Option<&DeployedModel>,
    ) -> Result<Trained, String> {
        let request = TrainRequest {
            features: samples_matrix(samples, self.workshop.features),
            labels: samples.iter().map(|sample| sample.label).collect(),
            weights: weights(samples),
            kind: self.workshop.kind,
            margins: None,
            parameters: TreeParameters {
                rounds,
                ..self.workshop.trees.clone()
            },
        };
        let record = self.tasks.get(&model.task);
        let job = Job {
            model,
            task: record.map_or("", |record| &record.definition.name),
            samples,
            request: &request,
            from: from.map(|model| model.onnx.as_slice()),
        };
        self.workshop.trainer.train(&job).map_err(|error| {
            let reason = error.to_string();
            // A run that is told to stop cancels what it has begun.
            if !matches!(error, TrainerError::Cancelled) {
                tracing::warn!(task = job.task, reason, "training failed");
            }
            reason
        })
    }
}

/// How much each sample counts in a training, 1 on average, so that what the trees' settings mean does not depend on how
/// many samples each stands for. None if all count the same.
fn weights(samples: &[RetainedSample]) -> Option<Vec<f32>> {
    let first = samples.first()?.weight;
    if samples.iter().all(|sample| sample.weight == first) {
        return None;
    }
    let all: f64 = samples.iter().map(|sample| f64::from(sample.weight)).sum();
    let mean = all / samples.len() as f64;
    let share = |sample: &RetainedSample| (f64::from(sample.weight) / mean) as f32;
    Some(samples.iter().map(share).collect())
}
