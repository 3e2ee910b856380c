//! The commit: epochs made durable, in order, on a thread of its own.
//!
//! Outputs are appended as epochs come. A commit flushes them, then writes one atomic batch to the
//! knowledge base that holds the input position, what was learned, the samples that wait, and the
//! length of each output. What a crash leaves in an output beyond its committed length is cut off
//! when it is opened again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxWrite, Progress};
use perennial_operators::commit::Commit;
use perennial_operators::flow::{EpochEffects, KnowledgeChange, Phase, StageKind, StageState};
use perennial_operators::{Score, TaskId};

use super::outputs::Outputs;
use crate::config::Config;
use crate::config::Mode;
use crate::error::Error;
use crate::fault;
use crate::link::outbox::Outbox;
use crate::run_status::CommitWatch;

/// Epochs that may wait for the committer.
const QUEUE: usize = 4;

/// Changes that may wait for their commit: with many tasks, each epoch has many, and they are in memory until then.
const CHANGES: usize = 100_000;

/// The dataflow's end of the committer.
pub struct CommitSender {
    sender: Sender<EpochEffects>,
}

impl Commit for CommitSender {
    fn offer(&mut self, effects: EpochEffects) -> Option<EpochEffects> {
        match self.sender.try_send(effects) {
            Ok(()) => None,
            Err(TrySendError::Full(effects)) => Some(effects),
            // The committer has failed and said so; the run is about to end.
            Err(TrySendError::Disconnected(effects)) => Some(effects),
        }
    }
}

/// The committer's thread.
pub struct Committer {
    knowledge: Arc<KnowledgeBase>,
    outputs: Outputs,
    /// What is shared, if anything is.
    outbox: Option<Outbox>,
    committed: Arc<CommitWatch>,
    /// At most so many epochs are committed together.
    epochs: usize,
    /// How long an epoch waits for its commit at most.
    interval: Duration,
    progress: Progress,
    /// How all predictions did.
    score: Score,
    /// See [`Status::publications`].
    publications: u64,
    waiting: Vec<EpochEffects>,
    since: Instant,
    /// When the run began and what the runs before it took.
    began: (Instant, f64),
}

impl Committer {
    /// Starts the thread. It ends when the [`CommitSender`] is dropped; its result is the first failure.
    pub fn start(
        knowledge: Arc<KnowledgeBase>,
        outputs: Outputs,
        outbox: Option<Outbox>,
        committed: Arc<CommitWatch>,
        config: &Config,
        on_failure: impl FnOnce(Error) + Send + 'static,
    ) -> Result<(CommitSender, JoinHandle<()>), Error> {
        let view = knowledge.view();
        let progress = view.progress()?;
        let score = view.statistics_of(TaskId::BASE)?.score;
        drop(view);
        committed.set(progress.clone(), score, 0);
        let (sender, receiver) = bounded(QUEUE);
        let mut committer = Committer {
            knowledge,
            outputs,
            outbox,
            committed,
            epochs: config.commit.epochs,
            interval: interval(config),
            began: (Instant::now(), progress.seconds),
            progress,
            score,
            publications: 0,
            waiting: Vec::new(),
            since: Instant::now(),
        };
        let thread = std::thread::spawn(move || {
            if let Err(error) = committer.run(&receiver) {
                on_failure(error);
            }
        });
        Ok((CommitSender { sender }, thread))
    }

    fn run(&mut self, receiver: &Receiver<EpochEffects>) -> Result<(), Error> {
        loop {
            let limit = self.interval;
            let wait = if self.waiting.is_empty() {
                Duration::MAX
            } else {
                limit.saturating_sub(self.since.elapsed())
            };
            match receive(receiver, wait) {
                Ok(effects) => {
                    if self.waiting.is_empty() {
                        self.since = Instant::now();
                    }
                    let urgent = self.take(effects)?;
                    // What a run restores is no epoch of the stream: it must not shift which epochs are
                    // committed together, and so what the files of a folder hold.
                    let read = self.waiting.iter().filter(|epoch| epoch.intake.is_some());
                    let full = read.count() >= self.epochs || self.changes() >= CHANGES;
                    if urgent || full || self.since.elapsed() >= limit {
                        self.commit()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.commit()?,
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
        }
    }

    /// Writes an epoch's outputs and counts it; says whether it must be committed at once.
    fn take(&mut self, mut effects: EpochEffects) -> Result<bool, Error> {
        self.outputs.append(&effects)?;
        if self.outputs.kafka.is_none() {
            // What went to a file is there. What was sent may have to be sent again.
            effects.predictions.clear();
        }
        let progress = &mut self.progress;
        progress.epoch = progress.epoch.max(effects.epoch);
        progress.changes += effects.changes.len() as u64;
        progress.unlabelled += effects.unlabelled;
        progress.unseen += effects.unseen;
        let mut ended = false;
        if let Some(intake) = &effects.intake {
            let first_scored = intake.header.phase == Phase::Live
                && matches!(progress.header, Some(before) if before.phase == Phase::BootstrapEnds);
            if first_scored {
                progress.bootstrap_seconds = self.began.1 + self.began.0.elapsed().as_secs_f64();
            }
            progress.header = Some(intake.header);
            progress.records += intake.records;
            progress.samples += intake.samples;
            progress.bootstrapped += intake.bootstrapped;
            progress.dead_letters += intake.dead_letters.len() as u64;
            progress.offsets.extend(
                intake
                    .offsets
                    .iter()
                    .map(|(place, next)| (place.clone(), *next)),
            );
            ended = intake.ended;
        }
        let mut ordered = false;
        for change in &effects.changes {
            match change {
                // A training reads its samples from the commit of the epoch that ordered it.
                KnowledgeChange::StageMoved(moved) => {
                    ordered |=
                        (moved.stage, moved.state) == (StageKind::Train, StageState::Waiting);
                }
                KnowledgeChange::StatisticsMoved(moved) if moved.task == TaskId::BASE => {
                    self.score.add(&moved.difference.score);
                }
                KnowledgeChange::ModelDeployed { .. }
                | KnowledgeChange::ModelRetired { .. }
                | KnowledgeChange::ModelRolledBack { .. }
                | KnowledgeChange::ModelPromoted { .. }
                | KnowledgeChange::ModelDonated(_) => self.publications += 1,
                _ => {}
            }
        }
        self.waiting.push(effects);
        Ok(ordered || ended)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let has_news = self.outbox.as_ref().is_some_and(Outbox::has_news);
        if self.waiting.iter().all(is_idle) && !has_news {
            // A stream at rest commits nothing. The epochs' numbers are used again after a crash.
            self.waiting.clear();
            return Ok(());
        }
        fault::point("commit: before outputs");
        for (name, length) in self.outputs.flush_files()? {
            self.progress.outputs.insert(name.to_string(), length);
        }
        self.progress.seconds = self.began.1 + self.began.0.elapsed().as_secs_f64();
        self.progress.commits += 1;
        let outbox = match &mut self.outbox {
            Some(outbox) => outbox.take(&mut self.waiting, &mut self.progress.outbox)?,
            None => OutboxWrite::default(),
        };
        fault::point("commit: after outputs");
        if self.outputs.is_transactional() {
            self.commit_with_transaction(&outbox)?;
        } else {
            self.outputs.flush_topics(&self.waiting)?;
            fault::point("commit: sent");
            self.knowledge
                .commit(&self.waiting, &self.progress, &outbox)?;
        }
        fault::point("commit: after knowledge");
        self.waiting.clear();
        let progress = self.progress.clone();
        self.committed.set(progress, self.score, self.publications);
        Ok(())
    }

    /// How many changes wait.
    fn changes(&self) -> usize {
        self.waiting.iter().map(|epoch| epoch.changes.len()).sum()
    }
}

/// Results on topics, the knowledge base and the position in the input, together or not at all: first the
/// commit is prepared, then the transaction decides, then the commit counts. After a crash the decision is
/// found with the group's offsets.
impl Committer {
    fn commit_with_transaction(&mut self, outbox: &OutboxWrite) -> Result<(), Error> {
        let (epochs, progress) = (&self.waiting, &self.progress);
        self.knowledge.prepare(epochs, progress, outbox)?;
        fault::point("commit: prepared");
        self.outputs
            .commit_topics(epochs, &progress.offsets, progress.commits)?;
        fault::point("commit: decided");
        Ok(self.knowledge.apply_prepared()?)
    }
}

/// How long an epoch waits for its commit at most: in a replay of what has an end, until enough others have come.
fn interval(config: &Config) -> Duration {
    match config.mode {
        Mode::Replay if config.source.edges.is_none() => Duration::MAX,
        _ => Duration::from_millis(config.commit.interval_ms),
    }
}

/// Whether nothing happened in an epoch.
fn is_idle(effects: &EpochEffects) -> bool {
    let read_nothing = effects.intake.as_ref().is_none_or(|intake| {
        intake.records == 0
            && !intake.ended
            && matches!(intake.header.phase, Phase::Bootstrap | Phase::Live)
            && intake.offsets.is_empty()
            && intake.dead_letters.is_empty()
            && intake.settled_labels.is_empty()
            && intake.edges.is_empty()
    });
    read_nothing
        && effects.changes.is_empty()
        && effects.models.is_empty()
        && effects.released.is_empty()
        && effects.shared.is_empty()
        && effects.unlabelled == 0
}

fn receive(
    receiver: &Receiver<EpochEffects>,
    wait: Duration,
) -> Result<EpochEffects, RecvTimeoutError> {
    if wait == Duration::MAX {
        return receiver.recv().map_err(|_| RecvTimeoutError::Disconnected);
    }
    receiver.recv_timeout(wait)
}
