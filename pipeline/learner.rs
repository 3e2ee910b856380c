//! Training stages: train, evaluate, decide whether to deploy; on threads of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use perennial_connectors::knowledge_base::{KnowledgeBase, KnowledgeError, TaskRecord, View};
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{Job, Trained, Trainer, TrainerError};
use perennial_operators::flow::{DeployedModel, Deployment, TrainOrder, TrainOutcome};
use perennial_operators::train::Training;
use perennial_operators::{
    Epoch, Failure, KnowledgeChange, ModelId, RetainedSample, StageKind, StageState, TaskId,
    TrainRequest, TreeParameters,
};
use timely::scheduling::SyncActivator;

use crate::committer::Committed;
use crate::judge::{Judgement, Rival, judge, samples_matrix};
use crate::split::Split;
use crate::stage_log::StageLog;

/// What the learner works with.
pub struct Workshop {
    /// Where samples and models are.
    pub knowledge: Arc<KnowledgeBase>,
    /// How far the commit is.
    pub committed: Arc<Committed>,
    /// What fits models.
    pub trainer: Trainer,
    /// Runs models to judge them.
    pub runtime: Runtime,
    /// Number of features.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
    /// Share of the samples that no model is fitted on.
    pub holdout: f64,
    /// Settings of the trees.
    pub trees: TreeParameters,
    /// Trainings at a time.
    pub threads: usize,
}

/// Orders that wait for the learner, and outcomes that wait for the dataflow.
#[derive(Default)]
struct Desk {
    /// By the epoch that must be committed before.
    orders: BTreeMap<Epoch, Vec<TrainOrder>>,
    outcomes: Vec<TrainOutcome>,
    failure: Option<Failure>,
    activator: Option<SyncActivator>,
    closed: bool,
}

/// The dataflow's end of the learner.
pub struct Learner {
    desk: Arc<(Mutex<Desk>, Condvar)>,
}

impl Learner {
    /// Starts the learner's thread, which ends when the learner is dropped. Without a workshop every order fails.
    pub fn start(workshop: Workshop) -> (Self, JoinHandle<()>) {
        let desk = Arc::new((Mutex::new(Desk::default()), Condvar::new()));
        let thread_desk = desk.clone();
        let thread = std::thread::spawn(move || work(&workshop, &thread_desk));
        (Learner { desk }, thread)
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        lock(&self.desk).closed = true;
        self.desk.1.notify_all();
    }
}

impl Training for Learner {
    fn start(&mut self, orders: Vec<TrainOrder>, after: Epoch, activator: &SyncActivator) {
        let mut desk = lock(&self.desk);
        // A task has at most one order under way, so the number of tasks bounds the desk.
        desk.orders.entry(after).or_default().extend(orders);
        desk.activator = Some(activator.clone());
        self.desk.1.notify_all();
    }

    fn ended(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let mut desk = lock(&self.desk);
        match desk.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut desk.outcomes)),
        }
    }
}

fn lock<'a>(desk: &'a Arc<(Mutex<Desk>, Condvar)>) -> std::sync::MutexGuard<'a, Desk> {
    desk.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off orders until the learner is dropped, those of one epoch at a time: the next epoch may
/// only be committed once they are done.
fn work(workshop: &Workshop, desk: &Arc<(Mutex<Desk>, Condvar)>) {
    loop {
        let round = {
            let mut waiting = lock(desk);
            while waiting.orders.is_empty() && !waiting.closed {
                waiting = desk.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            if waiting.closed {
                return;
            }
            waiting.orders.pop_first()
        };
        let Some((after, orders)) = round else {
            continue;
        };
        if !workshop.committed.wait_for(after) {
            return;
        }
        let stage = format!("training {} models", orders.len());
        workshop.committed.set_stage(Some(stage));
        let result = Round::new(workshop).and_then(|round| round.carry_out(orders));
        workshop.committed.set_stage(None);
        let mut desk = lock(desk);
        match result {
            Ok(outcomes) => desk.outcomes.extend(outcomes),
            Err(error) => desk.failure = Some(error.into()),
        }
        if let Some(activator) = &desk.activator {
            // It only fails when the worker is gone, and then nobody waits.
            let _ = activator.activate();
        }
    }
}

/// Orders that are carried out on one view of the knowledge base.
struct Round<'a> {
    workshop: &'a Workshop,
    view: View<'a>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    children: BTreeMap<TaskId, Vec<TaskId>>,
    /// What this round deploys, by task: children are judged against it.
    deployed: Mutex<BTreeMap<TaskId, Deployment>>,
}

impl<'a> Round<'a> {
    fn new(workshop: &'a Workshop) -> Result<Self, KnowledgeError> {
        let view = workshop.knowledge.view();
        let tasks = view.tasks()?;
        let mut children: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
        for (task, record) in &tasks {
            if let Some(parent) = record.definition.parent {
                children.entry(parent).or_default().push(*task);
            }
        }
        Ok(Round {
            workshop,
            view,
            tasks,
            children,
            deployed: Mutex::new(BTreeMap::new()),
        })
    }

    /// Coarse tasks first: a task's model must be better than what answers without it, and that can
    /// be a model of this very round.
    fn carry_out(&self, orders: Vec<TrainOrder>) -> Result<Vec<TrainOutcome>, KnowledgeError> {
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

    /// Carries out the orders of one level, some at a time.
    fn level(&self, orders: &[TrainOrder]) -> Result<Vec<TrainOutcome>, KnowledgeError> {
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
                let ModelId { task, version } = outcome.model;
                match deployment {
                    Deployment::Deploy(_) => tracing::info!(%task, version, "model deployed"),
                    Deployment::Retire(_) => tracing::info!(%task, "model retired"),
                }
                deployed.insert(outcome.model.task, deployment.clone());
            }
        }
        drop(deployed);
        Ok(outcomes)
    }

    /// The tasks from `task` up to the base task.
    fn path(&self, task: TaskId) -> Vec<TaskId> {
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

    /// A task and everything below it.
    fn family(&self, task: TaskId) -> BTreeSet<TaskId> {
        let mut family = BTreeSet::new();
        let mut open = vec![task];
        while let Some(task) = open.pop() {
            if family.insert(task) {
                open.extend(self.children.get(&task).into_iter().flatten());
            }
        }
        family
    }

    /// The three stages of one order.
    fn stages(&self, order: &TrainOrder) -> Result<TrainOutcome, KnowledgeError> {
        let samples = self.view.samples_of(&self.family(order.model.task))?;
        let mut log = StageLog::new(order);
        log.moved(StageKind::Train, StageState::Ready, "");
        log.moved(StageKind::Train, StageState::Starting, "");
        let split = Split::new(samples, self.workshop.holdout, order.model.task);
        let detail = format!("{} samples", split.fitted.len());
        log.moved(StageKind::Train, StageState::Running, &detail);
        let candidate = match self.train(order.model, &split.fitted) {
            Ok(candidate) => candidate,
            Err(reason) => {
                log.moved(StageKind::Train, StageState::Failed, &reason);
                return Ok(log.outcome(None));
            }
        };
        log.trained(&candidate, split.fitted.len());
        let detail = with_metrics(detail, &candidate);
        log.moved(StageKind::Train, StageState::Completed, &detail);
        log.moved(StageKind::Evaluate, StageState::Waiting, "");
        log.moved(StageKind::Evaluate, StageState::Running, "");
        let judgement = match self.judge(order, &candidate, &split)? {
            Ok(judgement) => judgement,
            Err(reason) => {
                log.moved(StageKind::Evaluate, StageState::Failed, &reason);
                return Ok(log.outcome(None));
            }
        };
        let evidence = judgement.evaluated.evidence();
        let evaluated = KnowledgeChange::ModelEvaluated(judgement.evaluated);
        log.changes.push(evaluated);
        log.moved(StageKind::Evaluate, StageState::Completed, &judgement.why);
        if judgement.deploys {
            Ok(self.deploy(order, log, candidate, split, evidence))
        } else {
            Ok(self.refuse(order, log))
        }
    }

    /// Judges the candidate against what answers without it: for the base task its model before, for
    /// any other the nearest ancestor's.
    fn judge(
        &self,
        order: &TrainOrder,
        candidate: &Trained,
        split: &Split,
    ) -> Result<Result<Judgement, String>, KnowledgeError> {
        let task = order.model.task;
        let path = self.path(task);
        let rivals = if task == TaskId::BASE {
            &path
        } else {
            &path[1..]
        };
        let incumbent = self.answering(rivals)?;
        let candidate = Rival {
            model: order.model,
            onnx: &candidate.onnx,
        };
        let rival = incumbent.as_ref().map(|deployed| Rival {
            model: deployed.model,
            onnx: &deployed.onnx,
        });
        let Workshop {
            runtime, classes, ..
        } = self.workshop;
        let judged = judge(runtime, *classes, candidate, rival, &split.judged);
        Ok(judged.map_err(|error| error.to_string()))
    }

    /// Deploys what was judged better, fitted once more with the samples that it was judged on.
    fn deploy(
        &self,
        order: &TrainOrder,
        mut log: StageLog<'_>,
        candidate: Trained,
        split: Split,
        evidence: f32,
    ) -> TrainOutcome {
        log.moved(StageKind::Deploy, StageState::Running, "");
        let model = match split.all(self.workshop.holdout) {
            None => candidate,
            Some(all) => match self.train(order.model, &all) {
                Ok(model) => {
                    log.trained(&model, all.len());
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
            hash: model.hash,
            onnx: Arc::new(model.onnx),
            evidence,
        })))
    }

    /// A task below the base that is not better off with a model of its own has none: if it had one,
    /// it inherits again.
    fn refuse(&self, order: &TrainOrder, mut log: StageLog<'_>) -> TrainOutcome {
        let task = order.model.task;
        let own = self.tasks.get(&task).and_then(|record| record.deployed);
        match own.filter(|_| task != TaskId::BASE) {
            None => log.outcome(None),
            Some(version) => {
                let model = ModelId { task, version };
                log.changes.push(KnowledgeChange::ModelRetired { model });
                log.outcome(Some(Deployment::Retire(task)))
            }
        }
    }

    fn train(&self, model: ModelId, samples: &[RetainedSample]) -> Result<Trained, String> {
        if samples.is_empty() {
            return Err("there are no labelled samples to fit a model on".to_string());
        }
        let request = TrainRequest {
            features: samples_matrix(samples, self.workshop.features),
            labels: samples.iter().map(|sample| sample.label).collect(),
            classes: self.workshop.classes,
            parameters: self.workshop.trees.clone(),
        };
        let task = self.tasks.get(&model.task);
        let job = Job {
            model,
            task: task.map_or("", |record| &record.definition.name),
            samples,
            request: &request,
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

    /// The model of the first task of `path` that has one, those deployed in this round included.
    fn answering(&self, path: &[TaskId]) -> Result<Option<DeployedModel>, KnowledgeError> {
        for task in path {
            let fresh = {
                let deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
                deployed.get(task).cloned()
            };
            match fresh {
                Some(Deployment::Deploy(model)) => return Ok(Some(model)),
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

/// What is said of a training, with what the trainer has measured.
fn with_metrics(detail: String, trained: &Trained) -> String {
    let metrics = trained.metrics.iter();
    metrics.fold(detail, |detail, (name, value)| {
        format!("{detail}, {name} {value}")
    })
}

/// A deployed model from the knowledge base.
pub fn load(view: &View<'_>, model: ModelId) -> Result<DeployedModel, KnowledgeError> {
    let onnx = view.onnx(model)?;
    let evaluated = view.model(model)?.and_then(|record| record.evaluated);
    Ok(DeployedModel {
        model,
        hash: blake3::hash(&onnx).to_hex().to_string(),
        onnx: Arc::new(onnx),
        evidence: evaluated.map_or(0.0, |evaluated| evaluated.evidence()),
    })
}
