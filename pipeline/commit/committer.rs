//! The committer: makes epochs durable, in order, on a thread of its own.
//!
//! Outputs are appended as epochs come. A commit flushes them, then writes one atomic batch to the
//! knowledge base: the input position, knowledge changes, pending samples, and each output file
//! with its length. What a crash leaves in a file beyond its committed length is cut off when the
//! file is opened again.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use perennial_connectors::knowledge_base::{KnowledgeBase, OutboxWrite, Progress};
use perennial_operators::commit::Commit;
use perennial_operators::flow::{
    EpochEffects, Intake, KnowledgeChange, Phase, RefusedMessages, StageKind, StageState,
};
use perennial_operators::{Score, TaskId};

use super::outputs::Outputs;
use crate::config::{Config, Mode};
use crate::error::Error;
use crate::fault;
use crate::link::outbox::Outbox;
use crate::run_status::CommitWatch;

/// Limit on the epochs that wait for the committer.
const QUEUE: usize = 4;

/// Changes that make a commit due. They are in memory until then, and with many tasks each epoch
/// has many.
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
            // The committer has reported its failure; the run is about to end.
            Err(TrySendError::Disconnected(effects)) => Some(effects),
        }
    }
}

/// State of the committer's thread.
pub struct Committer {
    knowledge: Arc<KnowledgeBase>,
    outputs: Outputs,
    /// Keeps what is shared with the cloud, if anything is.
    outbox: Option<Outbox>,
    watch: Arc<CommitWatch>,
    /// Epochs that make a commit due.
    epochs: usize,
    /// Limit on how long an epoch waits for its commit.
    interval: Duration,
    /// Progress with the epochs that wait.
    progress: Progress,
    /// Score of all predictions with labels.
    score: Score,
    /// Number of changes in this run that the cloud publishes.
    publications: u64,
    /// Most tasks, and whether the log says that there are as many.
    most_tasks: usize,
    is_full: bool,
    /// Epochs that wait for their commit.
    waiting: Vec<EpochEffects>,
    /// When the first of them came.
    since: Instant,
    /// When the run began, and the seconds that earlier runs took.
    began: (Instant, f64),
}

impl Committer {
    /// Starts the thread. It ends when the [`CommitSender`] is dropped, or with a failure, with
    /// which `on_failure` is called.
    pub fn start(
        knowledge: Arc<KnowledgeBase>,
        outputs: Outputs,
        outbox: Option<Outbox>,
        watch: Arc<CommitWatch>,
        config: &Config,
        on_failure: impl FnOnce(Error) + Send + 'static,
    ) -> Result<(CommitSender, JoinHandle<()>), Error> {
        let view = knowledge.view();
        let progress = view.progress()?;
        let score = view.statistics_of(TaskId::BASE)?.score;
        drop(view);
        watch.set(progress.clone(), score, 0);
        let (sender, receiver) = bounded(QUEUE);
        let mut committer = Committer {
            knowledge,
            outputs,
            outbox,
            watch,
            epochs: config.commit.epochs,
            interval: interval(config),
            began: (Instant::now(), progress.seconds),
            progress,
            score,
            publications: 0,
            most_tasks: config.tasks.most,
            is_full: false,
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

    /// Receives epochs and commits whenever a commit is due.
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
                    let urgent = self.add(effects)?;
                    // Epochs without intake restore what a run had begun. They must not shift which
                    // epochs of the stream are committed together, since files roll at commits.
                    let read = self.waiting.iter().filter(|epoch| epoch.intake.is_some());
                    let full = read.count() >= self.epochs || self.changes() >= CHANGES;
                    if urgent || full || self.since.elapsed() >= limit {
                        self.commit(false)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.commit(false)?,
                Err(RecvTimeoutError::Disconnected) => return self.commit(true),
            }
        }
    }

    /// Appends an epoch's outputs and counts the epoch. Returns whether it must be committed at
    /// once: a training reads its samples from the commit of the epoch that ordered it.
    fn add(&mut self, mut effects: EpochEffects) -> Result<bool, Error> {
        self.outputs.append(&effects)?;
        if self.outputs.kafka.is_none() {
            // Predictions in a file are done with. Those on a topic may have to be sent again.
            effects.predictions.clear();
        }
        self.progress.epoch = self.progress.epoch.max(effects.epoch);
        self.progress.changes += effects.changes.len() as u64;
        self.progress.unlabelled += effects.unlabelled;
        self.progress.unseen += effects.unseen;
        if effects.undefined > 0 && !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(
                most = self.most_tasks,
                "there are as many tasks as may be (tasks.most): samples with new values are \
                 answered by the tasks above; perennial status counts them, perennial kb forget \
                 makes room"
            );
        }
        if let Some(intake) = &effects.intake {
            self.count_intake(intake);
        }
        for change in &effects.changes {
            self.count_change(change);
        }
        let ended = effects.intake.as_ref().is_some_and(|intake| intake.ended);
        let ordered = effects.changes.iter().any(is_order);
        self.waiting.push(effects);
        Ok(ordered || ended)
    }

    fn count_intake(&mut self, intake: &Intake) {
        let progress = &mut self.progress;
        let is_first_live = intake.header.phase == Phase::Live
            && matches!(progress.header, Some(last) if last.phase == Phase::BootstrapEnds);
        if is_first_live {
            progress.bootstrap_seconds = self.began.1 + self.began.0.elapsed().as_secs_f64();
        }
        progress.header = Some(intake.header);
        progress.records += intake.records;
        progress.samples += intake.samples;
        progress.bootstrapped += intake.bootstrapped;
        progress.dead_letters += intake.dead_letters.len() as u64;
        let offsets = intake.offsets.iter();
        progress
            .offsets
            .extend(offsets.map(|(place, next)| (place.clone(), *next)));
    }

    fn count_change(&mut self, change: &KnowledgeChange) {
        match change {
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

    /// Commits the epochs that wait; `is_last` tells that no more will come.
    fn commit(&mut self, is_last: bool) -> Result<(), Error> {
        let has_news = self.outbox.as_ref().is_some_and(Outbox::has_news);
        let has_news = has_news || self.outputs.is_due(is_last);
        if self.waiting.iter().all(is_idle) && !has_news {
            // A stream at rest commits nothing. After a crash the epochs' numbers are used again.
            self.waiting.clear();
            return Ok(());
        }
        fault::point("commit: before outputs");
        let mut intakes = self
            .waiting
            .iter()
            .filter_map(|epoch| epoch.intake.as_ref());
        let ends = is_last || intakes.any(|intake| intake.ended);
        self.flush_files(ends)?;
        self.progress.seconds = self.began.1 + self.began.0.elapsed().as_secs_f64();
        self.progress.commits += 1;
        let outbox = match &mut self.outbox {
            Some(outbox) => outbox.take(&mut self.waiting, &mut self.progress.outbox)?,
            None => OutboxWrite::default(),
        };
        fault::point("commit: after outputs");
        if self.outputs.is_transactional() {
            self.commit_with_transaction(&outbox, ends)?;
        } else {
            self.outputs.flush_topics(&self.waiting)?;
            if self.outputs.has_refused() {
                self.flush_files(ends)?;
            }
            fault::point("commit: sent");
            self.knowledge
                .commit(&self.waiting, &self.progress, &outbox)?;
        }
        self.outputs.committed()?;
        fault::point("commit: after knowledge");
        self.waiting.clear();
        let progress = self.progress.clone();
        self.watch.set(progress, self.score, self.publications);
        Ok(())
    }

    /// Makes files durable, for readers too at the end of the stream or the run (`ends`). Counts
    /// the dead letters of refused predictions that are in them.
    fn flush_files(&mut self, ends: bool) -> Result<(), Error> {
        self.progress.dead_letters += self.outputs.take_refused();
        for (name, file) in self.outputs.flush_files(ends)? {
            self.progress.add_file(name, file);
        }
        Ok(())
    }

    /// Number of changes that wait for their commit.
    fn changes(&self) -> usize {
        self.waiting.iter().map(|epoch| epoch.changes.len()).sum()
    }

    /// Commits results on topics, knowledge base and input offsets together or not at all. The
    /// commit is prepared, the transaction decides, then the commit is applied. After a crash the
    /// offsets of the consumer group tell how the transaction ended.
    fn commit_with_transaction(&mut self, outbox: &OutboxWrite, ends: bool) -> Result<(), Error> {
        let prepare = |committer: &Self| {
            let (epochs, progress) = (&committer.waiting, &committer.progress);
            committer.knowledge.prepare(epochs, progress, outbox)
        };
        prepare(self)?;
        fault::point("commit: prepared");
        loop {
            let (epochs, progress) = (&self.waiting, &self.progress);
            let outputs = &mut self.outputs;
            if outputs.commit_topics(epochs, &progress.offsets, progress.commits)? {
                break;
            }
            if self.outputs.has_refused() {
                self.flush_files(ends)?;
                prepare(self)?;
            }
        }
        fault::point("commit: decided");
        Ok(self.knowledge.apply_prepared()?)
    }
}

/// Limit on how long an epoch waits for its commit. A replay has none, unless it is of edges, which
/// may pause: it commits by counts alone.
fn interval(config: &Config) -> Duration {
    match config.mode {
        Mode::Replay if config.source.edges.is_none() => Duration::MAX,
        _ => Duration::from_millis(config.commit.interval_ms),
    }
}

/// Whether a change orders a training.
fn is_order(change: &KnowledgeChange) -> bool {
    match change {
        KnowledgeChange::StageMoved(moved) => {
            (moved.stage, moved.state) == (StageKind::Train, StageState::Waiting)
        }
        _ => false,
    }
}

/// Whether nothing happened in an epoch.
fn is_idle(effects: &EpochEffects) -> bool {
    let read_nothing = effects.intake.as_ref().is_none_or(|intake| {
        intake.records == 0
            && !intake.ended
            && matches!(intake.header.phase, Phase::Bootstrap | Phase::Live)
            && intake.offsets.is_empty()
            && intake.topics.is_empty()
            && intake.refused == RefusedMessages::default()
            && intake.dead_letters.is_empty()
            && intake.settled_labels.is_empty()
            && intake.edges.is_empty()
            && intake.histories.is_empty()
    });
    read_nothing
        && effects.changes.is_empty()
        && effects.models.is_empty()
        && effects.released.is_empty()
        && effects.shared.is_empty()
        && effects.unlabelled == 0
}

/// Receives as `recv_timeout` does; [`Duration::MAX`] is no limit.
fn receive(
    receiver: &Receiver<EpochEffects>,
    wait: Duration,
) -> Result<EpochEffects, RecvTimeoutError> {
    if wait == Duration::MAX {
        return receiver.recv().map_err(|_| RecvTimeoutError::Disconnected);
    }
    receiver.recv_timeout(wait)
}
