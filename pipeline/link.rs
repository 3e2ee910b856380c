//! The link between cloud and edges: the cloud publishes what answers, an edge takes it in. Neither waits for it: what cannot
//! be published yet is tried again, and an edge goes on with what it has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::{KnowledgeBase, SCHEMA, TaskRecord, View};
use perennial_connectors::link::{
    Followed, Follower, Published, PublishedModel, Publisher, signing_key, verifying_key,
};
use perennial_operators::flow::{DeployedModel, Deployment, TrainOutcome};
use perennial_operators::follow::Inbox;
use perennial_operators::{Failure, KnowledgeChange, ModelEvaluated, ModelId, TaskId};

use crate::committer::Committed;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;

/// How long to wait before what failed is tried again, and for what may come.
const PAUSE: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(100);
/// How long an edge that knows nothing waits for the cloud's first model.
const PATIENCE: Duration = Duration::from_secs(60);
/// What may wait for the dataflow.
const QUEUE: usize = 16;

/// The schema of a pipeline's samples, as cloud and edges compare it.
fn schema(settings: &Settings) -> String {
    let parts = settings.fingerprint();
    let schema = parts.into_iter().find(|(name, _)| name == SCHEMA);
    schema.map(|(_, schema)| schema).unwrap_or_default()
}

/// The thread that publishes.
pub struct Publishing {
    thread: JoinHandle<()>,
    finishing: Arc<AtomicBool>,
}

impl Publishing {
    /// Publishes what is left, and ends.
    pub fn finish(self) {
        self.finishing.store(true, Ordering::SeqCst);
        // A panic has ended the process already.
        let _ = self.thread.join();
    }
}

/// Publishes what answers, from what the knowledge base has now on, on a thread of its own.
pub fn publish(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<Committed>,
) -> Result<Publishing, Error> {
    let key = signing_key(link.sign.as_deref().unwrap_or("".as_ref()))?;
    let publisher = Publisher::open(&link.kafka, &link.knowledge, key, &Health::default())?;
    let schema = schema(settings);
    let finishing = Arc::new(AtomicBool::new(false));
    let is_finishing = finishing.clone();
    let thread = std::thread::spawn(move || {
        let (mut sent, mut seen) = (BTreeMap::new(), None);
        loop {
            let is_last = is_finishing.load(Ordering::SeqCst);
            let deployments = committed.status().deployments;
            match publish_new(&publisher, &knowledge, &schema, &mut sent) {
                Ok(true) => seen = Some(deployments),
                // It is tried again.
                Ok(false) => std::thread::sleep(PAUSE),
                Err(error) => {
                    tracing::error!("what was learned cannot be published: {error}");
                    std::thread::sleep(PAUSE);
                }
            }
            if is_last {
                break;
            }
            committed.wait_for_deployment(seen, GLANCE);
        }
    });
    Ok(Publishing { thread, finishing })
}

/// Publishes the tasks of which something else answers than was published; whether all has arrived.
fn publish_new(
    publisher: &Publisher,
    knowledge: &KnowledgeBase,
    schema: &str,
    sent: &mut BTreeMap<TaskId, u64>,
) -> Result<bool, Error> {
    let view = knowledge.view();
    let tasks = view.tasks()?;
    for (task, record) in &tasks {
        let Some(moved) = record.moved else { continue };
        let revision = moved.0 + 1;
        if sent.get(task) == Some(&revision) {
            continue;
        }
        let published = Published {
            schema: schema.to_string(),
            revision,
            path: path(&tasks, *task),
            model: model(&view, *task, record)?,
        };
        if !publisher.publish(*task, &published)? {
            return Ok(false);
        }
        tracing::info!(%task, revision, "published");
        sent.insert(*task, revision);
    }
    Ok(true)
}

/// The tasks from the base task down to this one.
fn path(
    tasks: &BTreeMap<TaskId, TaskRecord>,
    task: TaskId,
) -> Vec<perennial_operators::TaskDefinition> {
    let mut path = VecDeque::new();
    let mut current = Some(task);
    while let Some(record) = current.and_then(|task| tasks.get(&task)) {
        path.push_front(record.definition.clone());
        current = record.definition.parent;
    }
    path.into()
}

fn model(
    view: &View<'_>,
    task: TaskId,
    record: &TaskRecord,
) -> Result<Option<PublishedModel>, Error> {
    let Some(version) = record.deployed else {
        return Ok(None);
    };
    let model = ModelId { task, version };
    let Some(known) = view.model(model)? else {
        return Ok(None);
    };
    Ok(Some(PublishedModel {
        model,
        trained: known.trained,
        evaluated: known.evaluated,
        onnx: view.onnx(model)?,
    }))
}

/// What an edge's dataflow takes in.
pub struct LinkInbox {
    /// What came before it began.
    backlog: Vec<TrainOutcome>,
    coming: Receiver<TrainOutcome>,
}

impl Inbox for LinkInbox {
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let mut taken = std::mem::take(&mut self.backlog);
        taken.extend(self.coming.try_iter());
        Ok(taken)
    }
}

/// Follows the cloud on a thread of its own. An edge that knows nothing waits until the cloud has a model for it.
pub fn follow(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: &KnowledgeBase,
    stop: Arc<AtomicBool>,
) -> Result<(LinkInbox, JoinHandle<()>), Error> {
    let key = verifying_key(link.verify.as_deref().unwrap_or("".as_ref()))?;
    let view = knowledge.view();
    let known = view.followed()?;
    let base = view.task(TaskId::BASE)?;
    let knows_something = base.is_some_and(|base| base.deployed.is_some());
    let (sender, coming) = bounded(QUEUE);
    let (link, schema) = (link.clone(), schema(settings));
    let open = move || {
        Follower::open(
            &link.kafka,
            &link.knowledge,
            key,
            schema.clone(),
            link.subscribe.clone(),
            known.clone(),
            &Health::default(),
        )
    };
    let is_stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        let is_stopped = || is_stopped.load(Ordering::Relaxed);
        let mut follower = None;
        while !is_stopped() {
            match &mut follower {
                None => match open() {
                    Ok(opened) => follower = Some(opened),
                    Err(error) => {
                        tracing::warn!("the cloud is not reached, and is tried again: {error}");
                        std::thread::sleep(PAUSE);
                    }
                },
                Some(follower) => {
                    if let Followed::Task(published) = follower.next(GLANCE) {
                        hand_over(&sender, outcome(*published), &is_stopped);
                    }
                }
            }
        }
    });
    let backlog = match knows_something {
        true => Vec::new(),
        false => wait_for_base(&coming, &stop)?,
    };
    Ok((LinkInbox { backlog, coming }, thread))
}

fn hand_over(sender: &Sender<TrainOutcome>, outcome: TrainOutcome, is_stopped: &dyn Fn() -> bool) {
    let mut outcome = outcome;
    while !is_stopped() {
        match sender.send_timeout(outcome, GLANCE) {
            Err(SendTimeoutError::Timeout(again)) => outcome = again,
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
        }
    }
}

/// What came until there was a model that answers for all.
fn wait_for_base(
    coming: &Receiver<TrainOutcome>,
    stop: &AtomicBool,
) -> Result<Vec<TrainOutcome>, Error> {
    let began = Instant::now();
    let mut backlog = Vec::new();
    while began.elapsed() < PATIENCE && !stop.load(Ordering::Relaxed) {
        let Ok(outcome) = coming.recv_timeout(GLANCE) else {
            continue;
        };
        let is_base = outcome.model.task == TaskId::BASE && outcome.deployment.is_some();
        backlog.push(outcome);
        if is_base {
            return Ok(backlog);
        }
    }
    let message = "this edge knows nothing yet, and no model of the base task has come from the cloud: start the cloud first, and check \
                   link.kafka, link.knowledge and link.verify (RUST_LOG=warn tells what was refused)";
    Err(Error::NotFound(message.to_string()))
}

/// What was published, as the dataflow takes it in.
fn outcome(published: Published) -> TrainOutcome {
    let Published {
        revision,
        path,
        model,
        ..
    } = published;
    let task = path.last().map_or(TaskId::BASE, |task| task.task);
    let mut changes: Vec<KnowledgeChange> =
        path.into_iter().map(KnowledgeChange::TaskDefined).collect();
    changes.push(KnowledgeChange::Followed { task, revision });
    let Some(published) = model else {
        let model = ModelId { task, version: 0 };
        changes.push(KnowledgeChange::ModelRetired { model });
        return TrainOutcome {
            model,
            changes,
            deployment: Some(Deployment::Retire(task)),
        };
    };
    let model = published.model;
    let deployed = DeployedModel {
        model,
        hash: published.trained.hash.clone(),
        onnx: Arc::new(published.onnx),
        evidence: published
            .evaluated
            .as_ref()
            .map_or(0.0, ModelEvaluated::evidence),
        scale: published
            .evaluated
            .as_ref()
            .and_then(|evaluated| evaluated.scale),
    };
    changes.push(KnowledgeChange::ModelTrained(published.trained));
    changes.extend(published.evaluated.map(KnowledgeChange::ModelEvaluated));
    changes.push(KnowledgeChange::ModelDeployed { model });
    TrainOutcome {
        model,
        changes,
        deployment: Some(Deployment::Deploy(deployed)),
    }
}
