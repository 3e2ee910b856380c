//! The learner: a thread that carries out training orders, and its end in the dataflow.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::learn::Training;
use perennial_operators::{Epoch, Failure};
use timely::scheduling::SyncActivator;

use super::context::TrainingContext;
use super::round::TrainingRound;

/// Orders that wait for the learner, and outcomes that wait for the dataflow.
#[derive(Default)]
struct TrainingQueue {
    /// By the epoch that must be committed before.
    orders: BTreeMap<Epoch, Vec<TrainOrder>>,
    outcomes: Vec<TrainOutcome>,
    failure: Option<Failure>,
    activator: Option<SyncActivator>,
    closed: bool,
}

/// The dataflow's end of the learner.
pub struct Learner {
    desk: Arc<(Mutex<TrainingQueue>, Condvar)>,
}

impl Learner {
    /// Starts the learner's thread, which ends when the learner is dropped.
    pub fn start(workshop: Arc<TrainingContext>) -> (Self, JoinHandle<()>) {
        let desk = Arc::new((Mutex::new(TrainingQueue::default()), Condvar::new()));
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

fn lock<'a>(
    desk: &'a Arc<(Mutex<TrainingQueue>, Condvar)>,
) -> std::sync::MutexGuard<'a, TrainingQueue> {
    desk.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works off orders until the learner is dropped, those of one epoch at a time: the next epoch may
/// only be committed once they are done.
fn work(workshop: &TrainingContext, desk: &Arc<(Mutex<TrainingQueue>, Condvar)>) {
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
        let result = TrainingRound::new(workshop)
            .map_err(Failure::from)
            .and_then(|round| round.carry_out(orders));
        workshop.committed.set_stage(None);
        let mut desk = lock(desk);
        match result {
            Ok(outcomes) => desk.outcomes.extend(outcomes),
            Err(failure) => desk.failure = Some(failure),
        }
        if let Some(activator) = &desk.activator {
            // It only fails when the worker is gone, and then nobody waits.
            let _ = activator.activate();
        }
    }
}
