//! Training rounds: orders are carried out in stages, train, evaluate and deploy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use perennial_connectors::knowledge_base::{KnowledgeError, TaskRecord, View};
use perennial_operators::flow::{
    DeployedModel, Deployment, StageKind, StageState, TrainOrder, TrainOutcome,
};
use perennial_operators::{Failure, ModelId, RetainedSample, TaskId};

use super::candidate::{Candidate, Recipe};
use super::context::TrainingContext;
use super::deployed::load;
use super::judge::{JudgedModel, Judgement, judge};
use super::left_out::OmittedSamples;
use super::review_result::ReviewResult;
use super::split::Split;
use super::stage_log::StageLog;

/// Orders that are carried out on one view of the knowledge base.
pub struct TrainingRound<'a> {
    pub(super) context: &'a TrainingContext,
    pub(super) view: View<'a>,
    pub(super) tasks: BTreeMap<TaskId, TaskRecord>,
    pub(super) children: BTreeMap<TaskId, Vec<TaskId>>,
    /// Scale of the label when the round starts.
    pub(super) scale: Option<f32>,
    /// Deployments of this round, by task: children are judged against them.
    pub(super) deployed: Mutex<BTreeMap<TaskId, Deployment>>,
}

/// Samples of an order.
pub(super) struct OrderSamples {
    pub split: Split,
    /// Sequence number of the latest sample.
    pub latest: u64,
    /// Finest task of each sample, by sequence number.
    pub leaf_of: BTreeMap<u64, TaskId>,
}

/// A candidate and what judging found.
pub(super) struct JudgedCandidate {
    pub candidate: Candidate,
    pub judgement: Judgement,
}

/// Samples that a task learns from.
#[derive(Default)]
pub(super) struct TrainingSamples {
    /// Samples of the task and all tasks below it, in the order of the stream.
    pub samples: Vec<RetainedSample>,
    /// Finest task of each sample, by sequence number.
    pub leaf_of: BTreeMap<u64, TaskId>,
    /// Samples that were left out.
    pub left_out: OmittedSamples,
}

impl<'a> TrainingRound<'a> {
    /// Carries out orders, coarse tasks first: the incumbent of a task can be a model of this
    /// round.
    pub fn carry_out(&self, orders: Vec<TrainOrder>) -> Result<Vec<TrainOutcome>, Failure> {
        let mut levels: BTreeMap<usize, Vec<TrainOrder>> = BTreeMap::new();
        for order in orders {
            let level = self.path(order.model.task).len();
            levels.entry(level).or_default().push(order);
        }
        let mut outcomes = Vec::new();
        for mut orders in levels.into_values() {
            orders.sort_by_key(|order| order.model);
            outcomes.extend(self.level(&orders)?);
        }
        Ok(outcomes)
    }

    /// The scale of the label, if it is a number and has one: that of the base task's model, which
    /// may be of this round.
    pub(super) fn scale(&self) -> Option<f32> {
        let of_round = match self.deployed().get(&TaskId::BASE) {
            Some(Deployment::Deploy(model) | Deployment::Restore { to: model, .. }) => model.scale,
            _ => None,
        };
        self.scale.or(of_round)
    }

    fn deployed(&self) -> MutexGuard<'_, BTreeMap<TaskId, Deployment>> {
        self.deployed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out the orders of one level, several at a time.
    fn level(&self, orders: &[TrainOrder]) -> Result<Vec<TrainOutcome>, Failure> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.context.threads.min(orders.len()) {
                scope.spawn(|| {
                    while let Some(order) = orders.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = self.stages(order);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        results.push(result);
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcomes: Vec<TrainOutcome> = results.into_iter().collect::<Result<_, _>>()?;
        let mut deployed = self.deployed();
        for outcome in &outcomes {
            if let Some(deployment) = &outcome.deployment {
                log_deployment(deployment);
                deployed.insert(outcome.model.task, deployment.clone());
            }
        }
        drop(deployed);
        Ok(outcomes)
    }

    /// The tasks from `task` up to the base task.
    pub(super) fn path(&self, task: TaskId) -> Vec<TaskId> {
        let mut path = vec![task];
        let mut current = task;
        while let Some(parent) = self
            .tasks
            .get(&current)
            .and_then(|record| record.definition.parent)
        {
            path.push(parent);
            current = parent;
        }
        path
    }

    /// Carries out the stages of one order.
    fn stages(&self, order: &TrainOrder) -> Result<TrainOutcome, Failure> {
        let task = order.model.task;
        let mut log = StageLog::new(order, self.context.timeout);
        log.moved(StageKind::Train, StageState::Ready, "");
        log.moved(StageKind::Train, StageState::Starting, "");
        if self.tasks.get(&task).is_some_and(|record| record.pinned) {
            let why = "the task is pinned; perennial kb unpin lets it learn again";
            log.moved(StageKind::Train, StageState::Failed, why);
            return Ok(log.outcome(None));
        }
        let training = self.prepare(order, &mut log)?;
        let reviewed = self.review(task, &training.samples)?;
        if let Some(rolled_back) = reviewed.change() {
            log.changes.push(rolled_back);
        }
        let incumbent = self.incumbent(task, &reviewed)?;
        let TrainingSamples {
            samples,
            leaf_of,
            left_out,
        } = training;
        let latest = samples.last().map_or(0, |sample| sample.sequence);
        let recent = order.recent.map_or(0, |many| Split::latest(&samples, many));
        let since_drift = &samples[samples.len() - recent..];
        let recalled = self.recall(order, &reviewed, incumbent.as_ref(), since_drift)?;
        let holdout = self.context.holdout;
        let split = match recalled {
            Some(_) => Split::to_judge(since_drift.to_vec(), holdout),
            None => Split::new(samples, recent, holdout, task),
        };
        let mut detail = match &recalled {
            Some(_) => "an earlier model fits what came since the drift".to_string(),
            None => format!("{} samples", split.fitted.len()),
        };
        if !left_out.is_empty() {
            detail.push_str(&format!(", {left_out}"));
        }
        log.moved(StageKind::Train, StageState::Running, &detail);
        let candidates = match recalled {
            Some(recalled) => vec![Ok(recalled)],
            None => self.candidates(order, incumbent.as_ref(), &split, &mut log)?,
        };
        match self.best(order, candidates, incumbent.as_ref(), &split) {
            Ok(best) => {
                let samples = OrderSamples {
                    split,
                    latest,
                    leaf_of,
                };
                Ok(self.evaluate(order, log, best, samples, detail, &reviewed))
            }
            // Without the first model there are no predictions. The order stays, for the next run.
            Err(reason) if order.initial && task == TaskId::BASE => {
                let what =
                    "the first model could not be trained, and without it nothing is predicted";
                Err(format!("{what}: {reason}; run again to retry").into())
            }
            Err(reason) => {
                log.moved(StageKind::Train, StageState::Failed, &reason);
                Ok(log.outcome(reviewed.deployment()))
            }
        }
    }

    /// Reads the samples of an order, and logs what recognition is to know about them.
    fn prepare(
        &self,
        order: &TrainOrder,
        log: &mut StageLog<'_>,
    ) -> Result<TrainingSamples, KnowledgeError> {
        let task = order.model.task;
        let training = self.training_samples(task, order.recent.is_some())?;
        if !training.left_out.is_empty() {
            let left_out = training.left_out.to_string();
            tracing::info!(%task, left_out, "training leaves samples out");
        }
        if task == TaskId::BASE && !training.samples.is_empty() {
            log.changes.push(self.feature_scales(&training));
            if self.context.recognizes {
                log.changes.extend(self.reference(&training));
            }
        }
        Ok(training)
    }

    /// The incumbent, against which candidates are judged: for the base task its deployed model,
    /// for any other the model that would predict if the task had none of its own, the nearest
    /// ancestor's.
    fn incumbent(
        &self,
        task: TaskId,
        reviewed: &ReviewResult,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let path = self.path(task);
        match (task, &reviewed.restored) {
            (TaskId::BASE, Some(restored)) => Ok(Some(restored.clone())),
            (TaskId::BASE, None) => self.deployed_model(&path),
            _ => self.deployed_model(&path[1..]),
        }
    }

    /// Judges the candidates, and takes the one with the least loss; or why there is none.
    fn best(
        &self,
        order: &TrainOrder,
        candidates: Vec<Result<Candidate, String>>,
        incumbent: Option<&DeployedModel>,
        split: &Split,
    ) -> Result<JudgedCandidate, String> {
        let mut best: Option<JudgedCandidate> = None;
        let count = candidates.len();
        let mut reason = "there are no labelled samples to fit a model on".to_string();
        for candidate in candidates {
            let judged = candidate.and_then(|candidate| {
                let own = JudgedModel {
                    model: order.model,
                    onnx: &candidate.trained.onnx,
                    is_foreign: matches!(candidate.recipe, Recipe::Adopted(_)),
                };
                let incumbent = incumbent.map(|deployed| JudgedModel {
                    model: deployed.model,
                    onnx: &deployed.onnx,
                    is_foreign: false,
                });
                match judge(self.context, own, incumbent, count, split, self.scale()) {
                    Ok(judgement) => Ok(JudgedCandidate {
                        candidate,
                        judgement,
                    }),
                    Err(error) => Err(error.to_string()),
                }
            });
            match judged {
                Ok(judged) => {
                    let loss = |judged: &JudgedCandidate| judged.judgement.evaluated.log_loss;
                    if best.as_ref().is_none_or(|best| loss(&judged) < loss(best)) {
                        best = Some(judged);
                    }
                }
                Err(why) => reason = why,
            }
        }
        best.ok_or(reason)
    }

    /// The deployed model of the first task of `path` that has one; deployments of this round
    /// count.
    pub(super) fn deployed_model(
        &self,
        path: &[TaskId],
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        for task in path {
            let of_round = self.deployed().get(task).cloned();
            match of_round {
                Some(Deployment::Deploy(model) | Deployment::Restore { to: model, .. }) => {
                    return Ok(Some(model));
                }
                Some(Deployment::Retire(_)) => continue,
                None => {}
            }
            let version = self.tasks.get(task).and_then(|record| record.deployed);
            if let Some(version) = version {
                let model = ModelId {
                    task: *task,
                    version,
                };
                return load(&self.view, model).map(Some);
            }
        }
        Ok(None)
    }
}

fn log_deployment(deployment: &Deployment) {
    match deployment {
        Deployment::Deploy(DeployedModel { model, .. }) => {
            tracing::info!(task = %model.task, version = model.version, "model deployed");
        }
        Deployment::Restore { to, .. } => {
            let ModelId { task, version } = to.model;
            tracing::info!(%task, version, "model rolled back");
        }
        Deployment::Retire(model) => {
            tracing::info!(task = %model.task, version = model.version, "model retired");
        }
    }
}
