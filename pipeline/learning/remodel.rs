//! Remodeling: the ways in which a task's model can be built from its relatives.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::trainer::Trained;
use perennial_operators::flow::{DeployedModel, TrainOrder};
use perennial_operators::{
    KnowledgeChange, RelationScored, Remodeling, RetainedSample, TaskId, TrainRequest,
    TreeParameters,
};

use super::judge::{losses, samples_matrix};
use super::round::Round;
use super::split::Split;
use super::stage_log::StageLog;

/// Relatives whose models are tried on a task's samples, the nearest first.
const MOST_RELATIVES: usize = 30;
/// Samples of the task that they are tried on, the latest.
const MOST_SAMPLES: usize = 200;

/// A warm start takes one of so many boosting rounds: a correction of what is known already has less to learn.
const WARM_START: u32 = 6;

/// A way to build a model.
pub enum Way {
    /// From the task's samples alone.
    Scratch,
    /// Its trees correct another model.
    WarmStart(DeployedModel),
    /// From a relative's samples as well.
    Pooled(TaskId, Vec<RetainedSample>),
}

/// A model that was built.
pub struct Candidate {
    /// How.
    pub way: Way,
    /// The model.
    pub trained: Trained,
}

impl Candidate {
    /// How it was built, as it is remembered.
    pub fn remodeling(&self) -> Remodeling {
        match &self.way {
            Way::Scratch => Remodeling::Scratch,
            Way::WarmStart(from) => Remodeling::WarmStart { from: from.model },
            Way::Pooled(with, _) => Remodeling::Pooled { with: *with },
        }
    }

    /// The same for people.
    pub fn name(&self) -> &'static str {
        match &self.way {
            Way::Scratch => "from scratch",
            Way::WarmStart(_) => "warm start",
            Way::Pooled(..) => "pooled",
        }
    }
}

impl Round<'_> {
    /// The candidates for an order. `rival` is what answers without them.
    pub(super) fn candidates(
        &self,
        order: &TrainOrder,
        rival: Option<&DeployedModel>,
        split: &Split,
        log: &mut StageLog<'_>,
    ) -> Result<Vec<Result<Candidate, String>>, KnowledgeError> {
        let task = order.model.task;
        let mut ways = vec![Way::Scratch];
        if let Some(rival) = rival.filter(|_| task != TaskId::BASE) {
            ways.push(Way::WarmStart(rival.clone()));
            if let Some(relative) = self.best_relative(task, rival, split, log)? {
                let theirs = self.material(relative.model.task)?.samples;
                let theirs = split.without_held_back(theirs);
                ways.push(Way::Pooled(relative.model.task, theirs));
                ways.push(Way::WarmStart(relative));
            }
        }
        Ok(ways
            .into_iter()
            .map(|way| self.fit(way, &split.fitted))
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
            let losses = losses(self.workshop, &model.onnx, samples).ok()?;
            Some((losses.score.log_loss()?, losses.score.accuracy()?))
        };
        let Some((mut least, _)) = loss(rival) else {
            return Ok(None);
        };
        let mut best = None;
        for relative in self.relatives(task) {
            let Some(model) = self.answering(&[relative])? else {
                continue;
            };
            let Some((log_loss, accuracy)) = loss(&model) else {
                continue;
            };
            log.changes
                .push(KnowledgeChange::RelationScored(RelationScored {
                    model: model.model,
                    task,
                    samples: samples.len() as u64,
                    accuracy,
                    log_loss,
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
    pub(super) fn fit(&self, way: Way, samples: &[RetainedSample]) -> Result<Candidate, String> {
        if samples.is_empty() {
            return Err("there are no labelled samples to fit a model on".to_string());
        }
        let request = |samples: &[RetainedSample], rounds: u32| TrainRequest {
            features: samples_matrix(samples, self.workshop.features),
            labels: samples.iter().map(|sample| sample.label).collect(),
            classes: self.workshop.classes,
            margins: None,
            parameters: TreeParameters {
                rounds,
                ..self.workshop.trees.clone()
            },
        };
        let rounds = self.workshop.trees.rounds;
        let trainer = &self.workshop.trainer;
        let trained = match &way {
            Way::Scratch => trainer.train(&request(samples, rounds)),
            Way::WarmStart(from) => {
                let rounds = rounds.div_ceil(WARM_START);
                trainer.warm_start(&from.onnx, request(samples, rounds))
            }
            Way::Pooled(_, theirs) => trainer.train(&request(&[samples, theirs].concat(), rounds)),
        };
        match trained {
            Ok(trained) => Ok(Candidate { way, trained }),
            Err(error) => Err(error.to_string()),
        }
    }
}
