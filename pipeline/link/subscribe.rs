//! Subscribing: an edge takes in tasks and models that the cloud publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ndarray::Array2;
use perennial_connectors::kafka::OutageCount;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{Published, Subscriber, Subscription, verifying_key};
use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::{ExamineError, Examiner, Origin};
use perennial_operators::flow::{Revision, TrainOutcome};
use perennial_operators::share::SharePolicy;
use perennial_operators::{LabelKind, TaskId};

use super::adopt::{at_home, outcome, usage};
use super::common::{POLL, RETRY_PAUSE, key_file, open_store, schema};
use super::outcomes::{LinkOutcomes, hand_over};
use crate::config::{LinkConfig, Settings};
use crate::error::Error;
use crate::run_status::CommitWatch;

/// How often the knowledge base is searched for new names of tasks, while an update waits for one.
const NAMES_EVERY: Duration = Duration::from_secs(2);

/// How long an update from the future is left alone before it is read again: a clock may be
/// corrected.
const CLOCK_EVERY: Duration = Duration::from_secs(60);

/// Subscribes to what the cloud publishes: the queue of updates, and the thread that fills it. The
/// thread ends when the run is to stop.
pub fn subscribe(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    watch: Arc<CommitWatch>,
    runtime: Runtime,
    stop: Arc<AtomicBool>,
) -> Result<(LinkOutcomes, JoinHandle<()>), Error> {
    let following = Subscription {
        topic: link.knowledge.clone(),
        key: verifying_key(key_file(&link.verify))?,
        schema: schema(settings),
        subscribed: link.subscribe.clone(),
        edge: settings.config().name.clone(),
        takes_donations: link.train,
        known: BTreeMap::new(),
    };
    // A store that cannot be opened is an error now, not a retry later.
    open_store(link)?;
    let (sender, outcomes) = LinkOutcomes::new();
    let mut updates = Updates {
        link: link.clone(),
        following,
        policy: settings.share.clone(),
        // An edge with a bootstrap of its own measures the features itself.
        wants_scales: !link.train || settings.config().bootstrap.is_none(),
        features: settings.features(),
        kind: settings.label_kind(),
        knowledge,
        watch,
        examiner: Examiner::new(runtime),
        sender,
        handed_over: BTreeMap::new(),
    };
    let thread = std::thread::spawn(move || updates.run(&stop));
    Ok((outcomes, thread))
}

/// Takes updates from the cloud to the queue.
struct Updates {
    link: LinkConfig,
    following: Subscription,
    policy: Option<SharePolicy>,
    /// Whether the standard deviations of features are still to come from the cloud. They are taken
    /// once, also while the commit with them is still to come.
    wants_scales: bool,
    /// Number of features, and what is predicted.
    features: usize,
    kind: LabelKind,
    knowledge: Arc<KnowledgeBase>,
    watch: Arc<CommitWatch>,
    /// Runs models before they are handed over.
    examiner: Examiner,
    sender: Sender<TrainOutcome>,
    /// Revisions that the queue has got, or that were refused, by task and donor. They may not be
    /// committed yet. One that was refused is looked at again by the next run.
    handed_over: BTreeMap<(TaskId, u64), Revision>,
}

impl Updates {
    /// Takes in updates until `stop` is set. Opens a new subscriber whenever everything is to be
    /// read again.
    fn run(&mut self, stop: &AtomicBool) {
        let is_stopped = || stop.load(Ordering::Relaxed);
        let (mut current, outage) = (None, OutageCount::default());
        let mut skipped = Skipped::after(0);
        while !is_stopped() {
            let Some(subscriber) = &mut current else {
                match self.open(&is_stopped) {
                    Ok((subscriber, names)) => {
                        current = Some(subscriber);
                        skipped = Skipped::after(names);
                        outage.ends("the cloud's Kafka is reached");
                    }
                    Err(error) => {
                        if outage.begins() {
                            tracing::warn!("cannot reach the cloud's Kafka; retrying: {error}");
                        }
                        std::thread::sleep(RETRY_PAUSE);
                    }
                }
                continue;
            };
            match subscriber.next(POLL) {
                Some(published) => self.take_in(*published, &mut skipped, &is_stopped),
                None => {
                    let lost = subscriber.lost();
                    if let Some(reason) = lost {
                        tracing::warn!("reading all that the cloud publishes again: {reason}");
                    }
                    if lost.is_some() || skipped.is_worth_reading(subscriber, &self.knowledge) {
                        current = None;
                    }
                }
            }
        }
    }

    /// Subscribes from the beginning of the topic, without the revisions that are known or were
    /// handed over. Also returns how many tasks have pseudonyms.
    fn open(&self, is_stopped: &dyn Fn() -> bool) -> Result<(Subscriber, usize), Error> {
        let store = open_store(&self.link)?;
        let view = self.knowledge.view();
        let (mut known, renamed) = (view.revisions()?, view.pseudonyms()?);
        // The cloud publishes a task that has a pseudonym under the pseudonym's number.
        for (elsewhere, renamed) in &renamed {
            if let Some(revision) = known.get(&(renamed.here.task, 0)).copied() {
                known.insert((*elsewhere, 0), revision);
            }
        }
        for (subject, revision) in &self.handed_over {
            let known = known.entry(*subject).or_default();
            *known = (*known).max(*revision);
        }
        let following = Subscription {
            known,
            ..self.following.clone()
        };
        let kafka = &self.link.kafka;
        let subscriber = Subscriber::open(kafka, following, store, is_stopped)?;
        Ok((subscriber, renamed.len()))
    }

    /// Hands an update over to the queue, or notes why it was skipped.
    fn take_in(
        &mut self,
        published: Published,
        skipped: &mut Skipped,
        is_stopped: &dyn Fn() -> bool,
    ) {
        let (subject, revision) = (published.subject(), published.revision);
        if let Err(reason) = self.examine(&published) {
            let named = published.path.last().map_or("", |task| &*task.name);
            tracing::warn!(
                task = named,
                number = revision.number,
                "refused a model from the cloud: {reason}"
            );
            self.handed_over.insert(subject, revision);
            return;
        }
        match at_home(published, self.policy.as_ref(), &self.knowledge) {
            Ok(Some(mut published)) => {
                if !self.wants_scales || self.has_scales() {
                    published.deviations = None;
                }
                self.wants_scales &= published.deviations.is_none();
                let is_base = published.path.len() == 1;
                let used_as = usage(&published, self.link.train, &self.knowledge);
                hand_over(&self.sender, outcome(published, used_as), is_stopped);
                self.handed_over.insert(subject, revision);
                if is_base {
                    // The run no longer waits for the first model.
                    self.watch.set_stage(None);
                }
            }
            Ok(None) => skipped.is_unnamed = true,
            Err(error) => tracing::error!("dropped an update from the cloud: {error}"),
        }
    }

    /// Runs the model of an update, if it has one, on a sample without features, which every model
    /// must take.
    fn examine(&self, published: &Published) -> Result<(), ExamineError> {
        let Some(model) = &published.model else {
            return Ok(());
        };
        let origin = match &published.donor {
            Some(_) => Origin::Edge,
            None => Origin::Cloud,
        };
        let missing = Array2::from_elem((1, self.features), f32::NAN);
        let examined = self
            .examiner
            .outputs(&model.onnx, origin, missing.view(), self.kind);
        examined.map(drop)
    }

    /// Whether the standard deviations of features are known. They never change.
    fn has_scales(&self) -> bool {
        matches!(self.knowledge.view().deviations(), Ok(Some(_)))
    }
}

/// Updates that a subscriber read and skipped.
struct Skipped {
    /// When the subscriber was opened.
    opened: Instant,
    /// When names were last searched for.
    searched: Instant,
    /// Number of tasks with pseudonyms when the subscriber was opened.
    names: usize,
    /// Whether an update is of a task without a name here: a task of others, or one here that is
    /// still to get its pseudonym.
    is_unnamed: bool,
}

impl Skipped {
    fn after(names: usize) -> Skipped {
        Skipped {
            opened: Instant::now(),
            searched: Instant::now(),
            names,
            is_unnamed: false,
        }
    }

    /// Whether a skipped update might be taken in by now, so that everything is worth reading
    /// again.
    fn is_worth_reading(&mut self, subscriber: &Subscriber, knowledge: &KnowledgeBase) -> bool {
        if subscriber.is_early() && self.opened.elapsed() > CLOCK_EVERY {
            return true;
        }
        if !self.is_unnamed || self.searched.elapsed() < NAMES_EVERY {
            return false;
        }
        self.searched = Instant::now();
        let renamed = knowledge.view().pseudonyms();
        renamed.is_ok_and(|renamed| renamed.len() > self.names)
    }
}
