//! Status of a run: what is committed, for those who wait for it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_connectors::kafka::Health;
use perennial_connectors::knowledge_base::Progress;
use perennial_operators::{Epoch, Score};

/// How far the commit is, for those who wait for it.
pub struct CommitWatch {
    state: Mutex<State>,
    moved: Condvar,
    health: Health,
}

#[derive(Default)]
struct State {
    status: Status,
    closed: bool,
}

/// How a run is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What is committed.
    pub progress: Progress,
    /// How all predictions did whose labels are committed.
    pub score: Score,
    /// What the learner is doing, if it is doing anything.
    pub stage: Option<String>,
    /// How often something was committed in this run that the cloud publishes.
    pub publications: u64,
}

impl CommitWatch {
    /// Nothing is committed yet; `health` is that of Kafka, where it is used.
    pub fn new(health: Health) -> Self {
        CommitWatch {
            state: Mutex::default(),
            moved: Condvar::default(),
            health,
        }
    }

    /// What is being waited for, if anything is.
    pub fn waiting(&self) -> Option<String> {
        self.health.waiting()
    }

    /// How the run is doing.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Says what the learner is doing.
    pub fn set_stage(&self, stage: Option<String>) {
        self.lock().status.stage = stage;
    }

    /// Waits until an epoch is committed; false if the run ends before.
    pub fn wait_for(&self, epoch: Epoch) -> bool {
        let mut state = self.lock();
        loop {
            if state
                .status
                .progress
                .last_epoch()
                .is_some_and(|last| last >= epoch)
            {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until there is more to publish than so much, but no longer than for a while.
    pub fn wait_for_publication(&self, seen: Option<u64>, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        while seen == Some(state.status.publications) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.moved.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets everybody who waits go.
    pub fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
    }

    pub(crate) fn set(&self, progress: Progress, score: Score, publications: u64) {
        let mut state = self.lock();
        state.status.publications = publications;
        state.status.progress = progress;
        state.status.score = score;
        drop(state);
        self.moved.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
