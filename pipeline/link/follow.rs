//! An edge takes in what the cloud publishes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{Follower, Following, Published, verifying_key};
use perennial_operators::flow::{
    DeployedModel, Deployment, KnowledgeChange, ModelDonated, ModelEvaluated, Revision,
    TrainOutcome,
};
use perennial_operators::learn::Inbox;
use perennial_operators::share::SharePolicy;
use perennial_operators::{Failure, ModelId, Renamed, TaskId};

use super::{CLOUD, GLANCE, OTHERS, PAUSE, Trouble, key_file, open_store, schema};
use crate::committer::Committed;
use crate::config::{LinkConfig, Settings};
use crate::error::Error;

/// What may wait for the dataflow.
const QUEUE: usize = 16;

/// How long what could not be taken is left alone before all is read again: where a task had no name yet, and where a clock was wrong.
const UNNAMED: Duration = Duration::from_secs(2);
const EARLY: Duration = Duration::from_secs(60);

/// What the dataflow takes in over the link, or of it.
pub struct LinkInbox {
    coming: Receiver<TrainOutcome>,
    /// What has come and waits for a later epoch.
    held: VecDeque<TrainOutcome>,
}

impl LinkInbox {
    /// An inbox, and where to put what it is to have.
    pub fn new() -> (Sender<TrainOutcome>, LinkInbox) {
        let (sender, coming) = bounded(QUEUE);
        let held = VecDeque::new();
        (sender, LinkInbox { coming, held })
    }
}

impl Inbox for LinkInbox {
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let room = QUEUE.saturating_sub(self.held.len());
        self.held.extend(self.coming.try_iter().take(room));
        // Changes of an epoch are put into an order of their own, in which an older model could come last: each task has one
        // outcome an epoch.
        let mut met = BTreeSet::new();
        let held = std::mem::take(&mut self.held).into_iter();
        let (taken, held): (VecDeque<_>, _) =
            held.partition(|outcome| met.insert(outcome.model.task));
        self.held = held;
        Ok(taken.into())
    }
}

/// Follows the cloud on a thread of its own, which ends when the run is to stop.
pub fn follow(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<Committed>,
    stop: Arc<AtomicBool>,
) -> Result<(LinkInbox, JoinHandle<()>), Error> {
    let following = Following {
        topic: link.knowledge.clone(),
        key: verifying_key(key_file(&link.verify))?,
        schema: schema(settings),
        subscribed: link.subscribe.clone(),
        edge: settings.config().name.clone(),
        takes_donations: link.train,
        known: BTreeMap::new(),
    };
    let (sender, inbox) = LinkInbox::new();
    // What cannot be a store is told at once.
    open_store(link)?;
    let (link, policy) = (link.clone(), settings.share.clone());
    let trains = link.train;
    // Trainings of its own find out how much features vary.
    let mut is_told = !trains || settings.config().bootstrap.is_none();
    let thread = std::thread::spawn(move || {
        let is_stopped = || stop.load(Ordering::Relaxed);
        let (mut follower, mut trouble) = (None, Trouble::default());
        let (mut missed, mut handed) = (Missed::after(0), BTreeMap::new());
        while !is_stopped() {
            match &mut follower {
                None => match open(&link, &following, &handed, &knowledge) {
                    Ok((opened, names)) => {
                        follower = Some(opened);
                        (missed, trouble) = (Missed::after(names), Trouble::default());
                    }
                    Err(error) => {
                        trouble.tell(&error);
                        std::thread::sleep(PAUSE);
                    }
                },
                Some(end) => {
                    let Some(published) = end.next(GLANCE) else {
                        if missed.can_be_had(end, &knowledge) {
                            follower = None;
                        }
                        continue;
                    };
                    let (subject, revision) = (published.subject(), published.revision);
                    match at_home(*published, policy.as_ref(), &knowledge) {
                        Ok(Some(mut published)) => {
                            // Once, also where the commit with it is still to come.
                            if !is_told || is_scaled(&knowledge) {
                                published.deviations = None;
                            }
                            is_told &= published.deviations.is_none();
                            let is_base = published.path.len() == 1;
                            let use_as = usage(&published, trains, &knowledge);
                            hand_over(&sender, outcome(published, use_as), &is_stopped);
                            handed.insert(subject, revision);
                            if is_base {
                                // It is not waited for any more.
                                committed.set_stage(None);
                            }
                        }
                        Ok(None) => missed.is_unnamed = true,
                        Err(error) => {
                            tracing::error!("what the cloud knows is lost on it: {error}")
                        }
                    }
                }
            }
        }
    });
    Ok((inbox, thread))
}

/// What a follower could not take when it read it.
struct Missed {
    /// When it was opened, and when it was last looked for names.
    opened: Instant,
    looked: Instant,
    /// How many tasks had names elsewhere.
    names: usize,
    /// Whether something is of a task that has no name elsewhere: it may be one of others, or one here that is to be named.
    is_unnamed: bool,
}

impl Missed {
    fn after(names: usize) -> Missed {
        Missed {
            opened: Instant::now(),
            looked: Instant::now(),
            names,
            is_unnamed: false,
        }
    }

    /// Whether it could be taken by now, so that all is worth reading again.
    fn can_be_had(&mut self, follower: &Follower, knowledge: &KnowledgeBase) -> bool {
        if follower.is_early() && self.opened.elapsed() > EARLY {
            return true;
        }
        if !self.is_unnamed || self.looked.elapsed() < UNNAMED {
            return false;
        }
        self.looked = Instant::now();
        let renamed = knowledge.view().renamed();
        renamed.is_ok_and(|renamed| renamed.len() > self.names)
    }
}

/// Begins to follow from the beginning, but for what is known, or was handed over and will be; also gives how many tasks have names
/// elsewhere.
fn open(
    link: &LinkConfig,
    following: &Following,
    handed: &BTreeMap<(TaskId, u64), Revision>,
    knowledge: &KnowledgeBase,
) -> Result<(Follower, usize), Error> {
    let store = open_store(link)?;
    let view = knowledge.view();
    let (mut known, renamed) = (view.followed()?, view.renamed()?);
    // What is published of a task is known by its number there.
    for (elsewhere, renamed) in &renamed {
        if let Some(revision) = known.get(&(renamed.here.task, 0)).copied() {
            known.insert((*elsewhere, 0), revision);
        }
    }
    for (subject, revision) in handed {
        let known = known.entry(*subject).or_default();
        *known = (*known).max(*revision);
    }
    let following = Following {
        known,
        ..following.clone()
    };
    let follower = Follower::open(&link.kafka, following, store, &Health::default())?;
    Ok((follower, renamed.len()))
}

/// What was published under the names that tasks have here; none if it is of tasks of others, under pseudonyms.
fn at_home(
    published: Published,
    policy: Option<&SharePolicy>,
    knowledge: &KnowledgeBase,
) -> Result<Option<Published>, Error> {
    // A donor's model is of no task here.
    let renames = |policy: &&SharePolicy| policy.renames() && published.donor.is_none();
    let Some(policy) = policy.filter(renames) else {
        return Ok(Some(published));
    };
    let renamed = knowledge.view().renamed()?;
    Ok(rename(published, &renamed, policy.common_levels()))
}

/// Renames the tasks of a path; those of the first levels, whose attributes are shared as they are, have the same names for all.
fn rename(
    mut published: Published,
    renamed: &BTreeMap<TaskId, Renamed>,
    common: usize,
) -> Option<Published> {
    for (level, task) in published.path.iter_mut().enumerate() {
        match renamed.get(&task.task) {
            Some(renamed) => *task = renamed.here.clone(),
            None if level <= common => {}
            None => return None,
        }
    }
    let task = published.path.last()?.task;
    if let Some(published) = &mut published.model {
        published.model.task = task;
        published.trained.model.task = task;
        if let Some(evaluated) = &mut published.evaluated {
            evaluated.model.task = task;
        }
    }
    Some(published)
}

/// Waits until there is room for it.
pub(super) fn hand_over(
    sender: &Sender<TrainOutcome>,
    outcome: TrainOutcome,
    is_stopped: &dyn Fn() -> bool,
) {
    let mut outcome = outcome;
    while !is_stopped() {
        match sender.send_timeout(outcome, GLANCE) {
            Err(SendTimeoutError::Timeout(again)) => outcome = again,
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
        }
    }
}

/// What becomes of a model that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It answers.
    Answers,
    /// It answers, and trainings may start from it.
    Both,
    /// Trainings may start from it.
    Donation,
}

/// What becomes of it: where a model of the edge's own answers, that is for the next training to beat.
fn usage(published: &Published, trains: bool, knowledge: &KnowledgeBase) -> Usage {
    if published.donor.is_some() {
        return Usage::Donation;
    }
    if !trains {
        return Usage::Answers;
    }
    let task = published.task();
    let record = knowledge.view().task(task).ok().flatten();
    let version = record.and_then(|record| record.deployed);
    match version.is_some_and(|version| version > OTHERS) {
        true => Usage::Donation,
        false => Usage::Both,
    }
}

/// Whether it is known how much features vary: that stays as it is.
fn is_scaled(knowledge: &KnowledgeBase) -> bool {
    matches!(knowledge.view().deviations(), Ok(Some(_)))
}

/// What was published, as the dataflow takes it in.
pub fn outcome(published: Published, usage: Usage) -> TrainOutcome {
    let Published {
        revision,
        path,
        donor,
        deviations,
        model,
        ..
    } = published;
    let task = path.last().map_or(TaskId::BASE, |task| task.task);
    let donor: Option<Arc<str>> = donor.map(Into::into);
    let mut changes = vec![KnowledgeChange::Followed {
        task,
        donor: donor.clone(),
        revision,
    }];
    changes.extend(deviations.map(|deviations| KnowledgeChange::FeaturesScaled { deviations }));
    let mut models = Vec::new();
    if let (Some(model), true) = (&model, usage != Usage::Answers) {
        changes.push(KnowledgeChange::ModelDonated(Box::new(ModelDonated {
            donor: donor.unwrap_or_else(|| CLOUD.into()),
            path: path.clone(),
            trained: model.trained.clone(),
            evaluated: model.evaluated.clone(),
        })));
        models.push((model.trained.hash.clone(), Arc::new(model.onnx.clone())));
    }
    if usage == Usage::Donation {
        return TrainOutcome {
            model: ModelId { task, version: 0 },
            changes,
            deployment: None,
            models,
        };
    }
    changes.extend(path.into_iter().map(KnowledgeChange::TaskDefined));
    let Some(published) = model else {
        let model = ModelId { task, version: 0 };
        changes.push(KnowledgeChange::ModelRetired { model });
        return TrainOutcome {
            model,
            changes,
            deployment: Some(Deployment::Retire(model)),
            models,
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
        models,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_one_outcome_an_epoch() {
        let (sender, mut inbox) = LinkInbox::new();
        // The earlier model answers again after the later one; another task's is in between.
        let models = [(1, 3), (2, 1), (1, 2), (1, 4), (2, 2)];
        for (task, version) in models {
            let task = TaskId(task);
            let outcome = TrainOutcome {
                model: ModelId { task, version },
                changes: Vec::new(),
                deployment: None,
                models: Vec::new(),
            };
            sender.send(outcome).expect("room");
        }
        let mut take = || {
            let taken = inbox.take().expect("outcomes").into_iter();
            let taken = taken.map(|outcome| (outcome.model.task.0, outcome.model.version));
            taken.collect::<Vec<_>>()
        };
        assert_eq!(take(), [(1, 3), (2, 1)]);
        assert_eq!(take(), [(1, 2), (2, 2)]);
        assert_eq!(take(), [(1, 4)]);
        assert_eq!(take(), []);
    }
}
