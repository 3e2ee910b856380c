//! The stages of training orders: train, evaluate, decide whether to deploy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_connectors::knowledge_base::{KnowledgeError, TaskRecord, View};
use perennial_operators::flow::{
    DeployedModel, Deployment, KnowledgeChange, ModelEvaluated, StageKind, StageState, TrainOrder,
    TrainOutcome,
};
use perennial_operators::{Failure, ModelId, Moments, TaskId};

use super::candidate::Candidate;
use super::comparison::PairedGain;
use super::context::TrainingContext;
use super::gate::worsened;
use super::judge::{Incumbent, Judgement, judge};
use super::reviewed::Reviewed;
use super::snapshot::load;
use super::split::Split;
use super::stage_log::StageLog;

/// Orders that are carried out on one view of the knowledge base.
pub struct TrainingRound<'a> {
    pub(super) workshop: &'a TrainingContext,
    pub(super) view: View<'a>,
    pub(super) tasks: BTreeMap<TaskId, TaskRecord>,
    pub(super) children: BTreeMap<TaskId, Vec<TaskId>>,
    /// See [`TrainingRound::scale`].
    pub(super) scale: Option<f32>,
    /// What this round deploys, by task: children are judged against it.
    pub(super) deployed: Mutex<BTreeMap<TaskId, Deployment>>,
}

impl<'a> TrainingRound<'a> {
    /// Coarse tasks first: a task's model must be better than what answers without it, and that can
    /// be a model of this very round.
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

    /// The scale of the label, if it is a number and has one: that of the base task's model, of this round if there was
    /// none before.
    pub(super) fn scale(&self) -> Option<f32> {
        let deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = match deployed.get(&TaskId::BASE) {
            Some(Deployment::Deploy(model) | Deployment::Restore { to: model, .. }) => model.scale,
            _ => None,
        };
        self.scale.or(fresh)
    }

    /// Carries out the orders of one level, some at a time.
    fn level(&self, orders: &[TrainOrder]) -> Result<Vec<TrainOutcome>, Failure> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.workshop.threads.min(orders.len()) {
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
        let mut deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in &outcomes {
            if let Some(deployment) = &outcome.deployment {
                match deployment {
                    Deployment::Deploy(DeployedModel { model, .. }) => {
                        tracing::info!(task = %model.task, version = model.version, "model deployed");
                    }
                    Deployment::Restore { to, .. } => {
                        let ModelId { task, version } = to.model;
                        tracing::info!(%task, version, "model answers again");
                    }
                    Deployment::Retire(model) => {
                        tracing::info!(task = %model.task, version = model.version, "model retired");
                    }
                }
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

    /// The stages of one order.
    fn stages(&self, order: &TrainOrder) -> Result<TrainOutcome, Failure> {
        let task = order.model.task;
        let mut log = StageLog::new(order);
        log.moved(StageKind::Train, StageState::Ready, "");
        log.moved(StageKind::Train, StageState::Starting, "");
        if self.tasks.get(&task).is_some_and(|record| record.pinned) {
            let why = "the task is pinned; perennial kb unpin lets it learn again";
            log.moved(StageKind::Train, StageState::Failed, why);
            return Ok(log.outcome(None));
        }
        if order.initial && task == TaskId::BASE {
            log.changes.push(self.scales()?);
        }
        let mut material = self.material(task)?;
        if order.recent.is_some() {
            self.add_recent(task, &mut material)?;
        }
        if task == TaskId::BASE && self.workshop.recognizes {
            log.changes.extend(self.reference(&material));
        }
        let reviewed = self.review(task, &material.samples)?;
        if let Some(rolled_back) = reviewed.change() {
            log.changes.push(rolled_back);
        }
        let rival = self.rival(task, &reviewed)?;
        let latest = material.samples.last().map_or(0, |sample| sample.sequence);
        let recent = order
            .recent
            .map_or(0, |many| Split::latest(&material.samples, many));
        let since = &material.samples[material.samples.len() - recent..];
        let recalled = self.recall(order, &reviewed, rival.as_ref(), since)?;
        let holdout = self.workshop.holdout;
        let split = match recalled {
            Some(_) => Split::to_judge(since.to_vec(), holdout),
            None => Split::new(material.samples, recent, holdout, task),
        };
        let mut detail = match &recalled {
            Some(_) => "an earlier model fits what came since the drift".to_string(),
            None => format!("{} samples", split.fitted.len()),
        };
        log.moved(StageKind::Train, StageState::Running, &detail);
        let candidates = match recalled {
            Some(recalled) => vec![Ok(recalled)],
            None => self.candidates(order, rival.as_ref(), &split, &mut log)?,
        };
        let best = match self.best(order, candidates, rival.as_ref(), &split) {
            Ok(best) => best,
            // Without it nothing could answer. The order stays, for the next run.
            Err(reason) if order.initial && task == TaskId::BASE => {
                let what = "the first model could not be trained, and without it nothing answers";
                return Err(format!("{what}: {reason}. Run again to try again").into());
            }
            Err(reason) => {
                log.moved(StageKind::Train, StageState::Failed, &reason);
                return Ok(log.outcome(reviewed.deployment()));
            }
        };
        let Judged {
            candidate,
            judgement,
        } = best;
        log.trained(&candidate, split.fitted.len(), latest);
        for (name, value) in &candidate.trained.metrics {
            detail.push_str(&format!(", {name} {value}"));
        }
        log.moved(StageKind::Train, StageState::Completed, &detail);
        log.moved(StageKind::Evaluate, StageState::Waiting, "");
        log.moved(StageKind::Evaluate, StageState::Running, "");
        let known = judgement.evaluated.clone();
        let is_gated = self.gate(task, &judgement, &split, &material.leaf_of);
        let evaluated = KnowledgeChange::ModelEvaluated(judgement.evaluated);
        log.changes.push(evaluated);
        let why = format!("{}, {}", candidate.name(), judgement.why);
        log.moved(
            StageKind::Evaluate,
            StageState::Completed,
            is_gated.as_deref().unwrap_or(&why),
        );
        if judgement.deploys && is_gated.is_none() {
            Ok(self.deploy(order, log, candidate, split, latest, &known))
        } else {
            Ok(self.refuse(order, log, &reviewed))
        }
    }

    /// How much each feature varies over all labelled samples so far.
    fn scales(&self) -> Result<KnowledgeChange, KnowledgeError> {
        let moments = self.view.statistics_of(TaskId::BASE)?.moments;
        let deviation = |moments: &Moments| moments.variance().unwrap_or(0.0).sqrt() as f32;
        Ok(KnowledgeChange::FeaturesScaled {
            deviations: moments.iter().map(deviation).collect(),
        })
    }

    /// What a candidate is judged against: what answers without it. For the base task that is its model before, for
    /// any other the nearest ancestor's.
    fn rival(
        &self,
        task: TaskId,
        reviewed: &Reviewed,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let path = self.path(task);
        match (task, &reviewed.restored) {
            (TaskId::BASE, Some(restored)) => Ok(Some(restored.clone())),
            (TaskId::BASE, None) => self.answering(&path),
            _ => self.answering(&path[1..]),
        }
    }

    /// Judges the candidates, and takes the one with the least loss.
    fn best(
        &self,
        order: &TrainOrder,
        candidates: Vec<Result<Candidate, String>>,
        rival: Option<&DeployedModel>,
        split: &Split,
    ) -> Result<Judged, String> {
        let mut best: Option<Judged> = None;
        let count = candidates.len();
        let mut reason = "there are no labelled samples to fit a model on".to_string();
        for candidate in candidates {
            let judged = candidate.and_then(|candidate| {
                let own = Incumbent {
                    model: order.model,
                    onnx: &candidate.trained.onnx,
                };
                let rival = rival.map(|deployed| Incumbent {
                    model: deployed.model,
                    onnx: &deployed.onnx,
                });
                match judge(self.workshop, own, rival, count, split, self.scale()) {
                    Ok(judgement) => Ok(Judged {
                        candidate,
                        judgement,
                    }),
                    Err(error) => Err(error.to_string()),
                }
            });
            match judged {
                Ok(judged) => {
                    let loss = |judged: &Judged| judged.judgement.evaluated.log_loss;
                    if best.as_ref().is_none_or(|best| loss(&judged) < loss(best)) {
                        best = Some(judged);
                    }
                }
                Err(why) => reason = why,
            }
        }
        best.ok_or(reason)
    }

    /// Whether a related task would get worse, and which. Related are the tasks below for which the model would answer.
    fn gate(
        &self,
        task: TaskId,
        judgement: &Judgement,
        split: &Split,
        leaf_of: &BTreeMap<u64, TaskId>,
    ) -> Option<String> {
        let mut gains: BTreeMap<TaskId, Vec<PairedGain>> = BTreeMap::new();
        for (sample, gain) in split.judged.iter().zip(&judgement.gains) {
            let Some(leaf) = leaf_of.get(&sample.sequence) else {
                continue;
            };
            let path = self.path(*leaf);
            let below = path.iter().take_while(|below| **below != task);
            let owns = |task: &&TaskId| self.tasks.get(task).is_some_and(|r| r.deployed.is_some());
            // For what is below a model of its own, that one goes on answering.
            if !below.clone().any(|below| owns(&below)) {
                below.for_each(|below| gains.entry(*below).or_default().push(*gain));
            }
        }
        let (related, worse) = worsened(&gains, self.workshop.gate_margin)?;
        let name = self.tasks.get(&related).map(|r| r.definition.name.clone());
        Some(format!(
            "{} would get worse by {worse:.4} nats (gate.margin)",
            name.as_deref().unwrap_or("a related task"),
        ))
    }

    /// Deploys what was judged better, fitted once more with the samples that it was judged on.
    fn deploy(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        candidate: Candidate,
        split: Split,
        latest: u64,
        evaluated: &ModelEvaluated,
    ) -> TrainOutcome {
        log.moved(StageKind::Deploy, StageState::Running, "");
        let model = match split.all() {
            None => candidate,
            Some(all) => match self.fit(order.model, candidate.way, &all) {
                Ok(model) => {
                    log.trained(&model, all.len(), latest);
                    model
                }
                Err(reason) => {
                    log.moved(StageKind::Deploy, StageState::Failed, &reason);
                    return log.outcome(None);
                }
            },
        };
        log.changes
            .push(KnowledgeChange::ModelDeployed { model: order.model });
        log.moved(StageKind::Deploy, StageState::Completed, "");
        log.outcome(Some(Deployment::Deploy(DeployedModel {
            model: order.model,
            hash: model.trained.hash,
            onnx: Arc::new(model.trained.onnx),
            evidence: evaluated.evidence(),
            scale: evaluated.scale,
        })))
    }

    /// A task below the base that is not better off with a model of its own has none: if it had one,
    /// it inherits again.
    fn refuse(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        reviewed: &Reviewed,
    ) -> TrainOutcome {
        let task = order.model.task;
        match reviewed.answers.filter(|_| task != TaskId::BASE) {
            None => log.outcome(reviewed.deployment()),
            Some(model) => {
                log.changes.push(KnowledgeChange::ModelRetired { model });
                // One that was rolled back just now has not been told yet.
                log.outcome(Some(Deployment::Retire(reviewed.dropped.unwrap_or(model))))
            }
        }
    }

    /// The model of the first task of `path` that has one, those deployed in this round included.
    pub(super) fn answering(
        &self,
        path: &[TaskId],
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        for task in path {
            let fresh = {
                let deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
                deployed.get(task).cloned()
            };
            match fresh {
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

/// A candidate and what judging found.
struct Judged {
    candidate: Candidate,
    judgement: Judgement,
}
