//! The learner: a thread that carries out training orders, and the dataflow's end of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::learn::Training;
use perennial_operators::{Epoch, Failure};
use timely::scheduling::SyncActivator;

use super::context::TrainingContext;
use super::round::TrainingRound;

/// Orders that wait for the learner, and outcomes and failures that wait for the dataflow.
#[derive(Default)]
struct TrainingQueue {
    /// Orders by the epoch that must be committed first.
    orders: BTreeMap<Epoch, Vec<TrainOrder>>,
    outcomes: Vec<TrainOutcome>,
    failure: Option<Failure>,
    activator: Option<SyncActivator>,
    /// Set when the dataflow's end is dropped.
    closed: bool,
}

/// The queue, and a signal that an order has come or that the queue is closed.
type SharedQueue = (Mutex<TrainingQueue>, Condvar);

/// The dataflow's end of the learner.
pub struct Learner {
    queue: Arc<SharedQueue>,
}

impl Learner {
    /// Starts the learner's thread, which ends when the learner is dropped.
    pub fn start(context: Arc<TrainingContext>) -> (Self, JoinHandle<()>) {
        let queue = Arc::new(SharedQueue::default());
        let learner = Learner {
            queue: queue.clone(),
        };
        let thread = std::thread::spawn(move || work(&context, &queue));
        (learner, thread)
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        lock(&self.queue).closed = true;
        self.queue.1.notify_all();
    }
}

impl Training for Learner {
    fn start(&mut self, orders: Vec<TrainOrder>, after: Epoch, activator: &SyncActivator) {
        let mut queue = lock(&self.queue);
        // A task has at most one order under way, so the number of tasks bounds the queue.
        queue.orders.entry(after).or_default().extend(orders);
        queue.activator = Some(activator.clone());
        self.queue.1.notify_all();
    }

    fn ended(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let mut queue = lock(&self.queue);
        match queue.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut queue.outcomes)),
        }
    }
}

fn lock(queue: &SharedQueue) -> MutexGuard<'_, TrainingQueue> {
    queue.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the orders of the earliest epoch; none once the queue is closed.
fn next_orders(queue: &SharedQueue) -> Option<(Epoch, Vec<TrainOrder>)> {
    let mut waiting = lock(queue);
    loop {
        if waiting.closed {
            return None;
        }
        if let Some(orders) = waiting.orders.pop_first() {
            return Some(orders);
        }
        waiting = queue
            .1
            .wait(waiting)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// Carries out orders until the learner is dropped, those of one epoch at a time. A round starts
/// once its epoch is committed, since it reads its samples from the knowledge base.
fn work(context: &TrainingContext, queue: &SharedQueue) {
    while let Some((after, orders)) = next_orders(queue) {
        if !context.watch.wait_for(after) {
            return;
        }
        let stage = format!("training {} models", orders.len());
        context.watch.set_stage(Some(stage));
        let result = TrainingRound::new(context)
            .map_err(Failure::from)
            .and_then(|round| round.carry_out(orders));
        context.watch.set_stage(None);
        let mut queue = lock(queue);
        match result {
            Ok(outcomes) => queue.outcomes.extend(outcomes),
            Err(failure) => queue.failure = Some(failure),
        }
        if let Some(activator) = &queue.activator {
            // It fails only when the worker is gone, and then nothing waits for the outcomes.
            let _ = activator.activate();
        }
    }
}
