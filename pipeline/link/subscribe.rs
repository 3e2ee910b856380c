//! An edge takes in what the cloud publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::link::{Following, Subscriber, verifying_key};
use perennial_operators::TaskId;
use perennial_operators::flow::Revision;

use super::adopt::{at_home, outcome, usage};
use super::common::{GLANCE, PAUSE};
use super::common::{RetryLog, key_file, open_store, schema};
use super::inbox::{LinkInbox, hand_over};
use crate::config::{LinkConfig, Settings};
use crate::error::Error;
use crate::run_status::CommitWatch;

/// What may wait for the dataflow.
pub(crate) const QUEUE: usize = 16;

/// How long what could not be taken is left alone before all is read again: where a task had no name yet, and where a clock was wrong.
const UNNAMED: Duration = Duration::from_secs(2);
const EARLY: Duration = Duration::from_secs(60);

/// Follows the cloud on a thread of its own, which ends when the run is to stop.
pub fn subscribe(
    settings: &Settings,
    link: &LinkConfig,
    knowledge: Arc<KnowledgeBase>,
    committed: Arc<CommitWatch>,
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
        let (mut follower, mut trouble) = (None, RetryLog::default());
        let (mut missed, mut handed) = (Skipped::after(0), BTreeMap::new());
        while !is_stopped() {
            match &mut follower {
                None => match open(&link, &following, &handed, &knowledge) {
                    Ok((opened, names)) => {
                        follower = Some(opened);
                        (missed, trouble) = (Skipped::after(names), RetryLog::default());
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
struct Skipped {
    /// When it was opened, and when it was last looked for names.
    opened: Instant,
    looked: Instant,
    /// How many tasks had names elsewhere.
    names: usize,
    /// Whether something is of a task that has no name elsewhere: it may be one of others, or one here that is to be named.
    is_unnamed: bool,
}

impl Skipped {
    fn after(names: usize) -> Skipped {
        Skipped {
            opened: Instant::now(),
            looked: Instant::now(),
            names,
            is_unnamed: false,
        }
    }

    /// Whether it could be taken by now, so that all is worth reading again.
    fn can_be_had(&mut self, follower: &Subscriber, knowledge: &KnowledgeBase) -> bool {
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
) -> Result<(Subscriber, usize), Error> {
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
    let follower = Subscriber::open(&link.kafka, following, store, &Health::default())?;
    Ok((follower, renamed.len()))
}

/// Whether it is known how much features vary: that stays as it is.
fn is_scaled(knowledge: &KnowledgeBase) -> bool {
    matches!(knowledge.view().deviations(), Ok(Some(_)))
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
