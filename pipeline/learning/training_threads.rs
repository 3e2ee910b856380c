//! The learner: threads that carry out training orders, and the dataflow's end of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::learn::{Training, TrainingMode};
use perennial_operators::{Epoch, Failure, TaskId};
use timely::scheduling::SyncActivator;

use super::context::TrainingContext;
use super::queue::{Next, TrainingQueue, Work};
use super::round::TrainingRound;

/// The queue, and a signal that it has changed.
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
        let threads = match context.mode {
            // The orders of an epoch are one round, which has threads of its own.
            TrainingMode::Replay => 1,
            TrainingMode::Live => context.threads,
        };
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| work(&context, &queue));
                }
            });
        });
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
        queue.give(after, orders);
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

/// Waits for something to do.
fn next(context: &TrainingContext, queue: &SharedQueue) -> Next {
    let mut waiting = lock(queue);
    loop {
        match waiting.next() {
            Next::Wait => {}
            next => {
                context.watch.set_stage(waiting.stage());
                return next;
            }
        }
        waiting = queue
            .1
            .wait(waiting)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// Carries out orders until the learner is dropped. An order starts once its epoch is committed,
/// since it reads its samples from the knowledge base.
fn work(context: &TrainingContext, queue: &SharedQueue) {
    loop {
        match next(context, queue) {
            Next::Open(after, orders) => {
                if !context.watch.wait_for(after) {
                    return;
                }
                let opened = open(context, after, orders);
                let mut queue_now = lock(queue);
                match opened {
                    Ok(work) => queue_now.opened(work),
                    Err(failure) => fail(&mut queue_now, failure),
                }
            }
            Next::Carry(work) => {
                let tasks: Vec<TaskId> = work.orders.iter().map(|order| order.model.task).collect();
                let result = carry_out(context, queue, work.orders);
                let mut queue_now = lock(queue);
                queue_now.end(work.after, &tasks, result);
                context.watch.set_stage(queue_now.stage());
                activate(&queue_now);
            }
            Next::Wait | Next::End => return,
        }
        queue.1.notify_all();
    }
}

/// Splits the orders of a committed epoch into work. In replay all are one round, whose result does
/// not depend on how long a training takes; in live mode each is on its own.
fn open(
    context: &TrainingContext,
    after: Epoch,
    orders: Vec<TrainOrder>,
) -> Result<Vec<Work>, Failure> {
    if context.mode == TrainingMode::Replay {
        let above = Vec::new();
        return Ok(vec![Work {
            after,
            orders,
            above,
        }]);
    }
    let view = context.knowledge.view();
    let mut opened = Vec::new();
    for order in orders {
        let mut above = Vec::new();
        let mut current = order.model.task;
        while let Some(parent) = view.task(current)?.and_then(|task| task.definition.parent) {
            above.push(parent);
            current = parent;
        }
        opened.push(Work {
            after,
            orders: vec![order],
            above,
        });
    }
    opened.sort_by_key(|work| (work.above.len(), work.orders[0].model));
    Ok(opened)
}

/// Carries out orders, with the deployments that are decided and not committed yet.
fn carry_out(
    context: &TrainingContext,
    queue: &SharedQueue,
    orders: Vec<TrainOrder>,
) -> Result<Vec<TrainOutcome>, Failure> {
    let deployed = lock(queue).deployed.clone();
    let round = TrainingRound::new(context, deployed)?;
    let mut queue_now = lock(queue);
    queue_now.deployed = round.not_committed(std::mem::take(&mut queue_now.deployed))?;
    drop(queue_now);
    round.carry_out(orders)
}

/// Reports a failure, which ends the run.
fn fail(queue: &mut TrainingQueue, failure: Failure) {
    queue.failure = Some(failure);
    activate(queue);
}

/// Tells the dataflow that there is an outcome or a failure.
fn activate(queue: &TrainingQueue) {
    if let Some(activator) = &queue.activator {
        // It fails only when the worker is gone, and then nothing waits for the outcomes.
        let _ = activator.activate();
    }
}
