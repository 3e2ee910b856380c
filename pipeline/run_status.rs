//! Status of a run: what is committed, for threads that show it or wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::Progress;
use perennial_operators::{Epoch, Score};

/// The status of a run, shared by all its threads. The committer updates it after each commit.
pub struct CommitWatch {
    state: Mutex<State>,
    changed: Condvar,
    health: Health,
}

#[derive(Default)]
struct State {
    status: Status,
    closed: bool,
}

/// Status of a run.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What is committed.
    pub progress: Progress,
    /// Score of all predictions whose labels are committed.
    pub score: Score,
    /// The training stage that the learner is in, if it trains.
    pub stage: Option<String>,
    /// Number of changes committed in this run that the cloud publishes.
    pub publications: u64,
}

impl CommitWatch {
    /// The status before the first commit; `health` is that of Kafka.
    pub fn new(health: Health) -> Self {
        CommitWatch {
            state: Mutex::default(),
            changed: Condvar::default(),
            health,
        }
    }

    /// What the run waits for at Kafka, if it does.
    pub fn waiting(&self) -> Option<String> {
        self.health.waiting()
    }

    /// A copy of the status.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Sets the training stage that the learner is in.
    pub fn set_stage(&self, stage: Option<String>) {
        self.lock().status.stage = stage;
    }

    /// Blocks until `epoch` is committed; returns false if the run ends before.
    pub fn wait_for(&self, epoch: Epoch) -> bool {
        let mut state = self.lock();
        loop {
            let last = state.status.progress.last_epoch();
            if last.is_some_and(|last| last >= epoch) {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until the number of publications is no longer `seen`, at most for `patience`.
    pub fn wait_for_publication(&self, seen: Option<u64>, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while seen == Some(state.status.publications) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends all waits for an epoch; later ones return at once.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn set(&self, progress: Progress, score: Score, publications: u64) {
        let mut state = self.lock();
        state.status.publications = publications;
        state.status.progress = progress;
        state.status.score = score;
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
