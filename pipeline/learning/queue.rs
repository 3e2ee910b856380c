//! The learner's queue: which orders wait, which are under way, and which may start next.

use std::collections::BTreeMap;

use perennial_operators::flow::{Deployment, TrainOrder, TrainOutcome};
use perennial_operators::{Epoch, Failure, TaskId};
use timely::scheduling::SyncActivator;

/// Orders that are carried out together, by one thread.
pub(super) struct Work {
    /// The epoch in which they were given.
    pub after: Epoch,
    /// The orders; in live mode one.
    pub orders: Vec<TrainOrder>,
    /// Tasks above those of the orders: their orders of the same epoch come first.
    pub above: Vec<TaskId>,
}

/// What a thread of the learner does next.
pub(super) enum Next {
    /// Splits the orders of an epoch into work, once the epoch is committed.
    Open(Epoch, Vec<TrainOrder>),
    /// Carries out orders.
    Carry(Work),
    /// Waits for other orders, or for others to end.
    Wait,
    /// Ends.
    End,
}

/// Orders that wait for the learner, and outcomes and failures that wait for the dataflow.
#[derive(Default)]
pub(super) struct TrainingQueue {
    /// Orders as they were given, by the epoch that must be committed first.
    given: BTreeMap<Epoch, Vec<TrainOrder>>,
    /// Work that can start, the oldest first; in an epoch, coarse tasks first.
    ready: Vec<Work>,
    /// Epoch and task of each order under way.
    running: Vec<(Epoch, TaskId)>,
    /// Whether a thread is splitting the orders of an epoch.
    is_opening: bool,
    /// Deployments that may not be committed yet, by task.
    pub deployed: BTreeMap<TaskId, Deployment>,
    pub outcomes: Vec<TrainOutcome>,
    pub failure: Option<Failure>,
    pub activator: Option<SyncActivator>,
    /// Set when the dataflow's end is dropped.
    pub closed: bool,
}

impl TrainingQueue {
    /// Adds orders of an epoch. A task has at most one order under way, so the number of tasks
    /// bounds the queue.
    pub fn give(&mut self, after: Epoch, orders: Vec<TrainOrder>) {
        self.given.entry(after).or_default().extend(orders);
    }

    /// Takes what is to be done next: the oldest work that waits for no other.
    pub fn next(&mut self) -> Next {
        if self.closed {
            return Next::End;
        }
        let free = (0..self.ready.len()).find(|at| !self.is_blocked(*at));
        if let Some(at) = free {
            let work = self.ready.remove(at);
            let tasks = work.orders.iter().map(|order| order.model.task);
            self.running.extend(tasks.map(|task| (work.after, task)));
            return Next::Carry(work);
        }
        if !self.is_opening
            && let Some((after, orders)) = self.given.pop_first()
        {
            self.is_opening = true;
            return Next::Open(after, orders);
        }
        Next::Wait
    }

    /// Whether an order of the same epoch for a task above waits or is under way.
    fn is_blocked(&self, at: usize) -> bool {
        let Work { after, above, .. } = &self.ready[at];
        let comes_first = |epoch: Epoch, task: TaskId| epoch == *after && above.contains(&task);
        let waits = self.ready[..at].iter().any(|other| {
            let mut tasks = other.orders.iter().map(|order| order.model.task);
            tasks.any(|task| comes_first(other.after, task))
        });
        let mut running = self.running.iter();
        waits || running.any(|(epoch, task)| comes_first(*epoch, *task))
    }

    /// Adds the work of an epoch that was opened.
    pub fn opened(&mut self, work: Vec<Work>) {
        self.is_opening = false;
        self.ready.extend(work);
    }

    /// Ends orders, with their outcomes or a failure.
    pub fn end(
        &mut self,
        after: Epoch,
        tasks: &[TaskId],
        result: Result<Vec<TrainOutcome>, Failure>,
    ) {
        let has_ended = |epoch: Epoch, task: &TaskId| epoch == after && tasks.contains(task);
        self.running
            .retain(|(epoch, task)| !has_ended(*epoch, task));
        match result {
            Ok(outcomes) => {
                for outcome in &outcomes {
                    if let Some(deployment) = &outcome.deployment {
                        self.deployed.insert(outcome.model.task, deployment.clone());
                    }
                }
                self.outcomes.extend(outcomes);
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// What the learner does, for the line that shows a run's progress.
    pub fn stage(&self) -> Option<String> {
        let given: usize = self.given.values().map(Vec::len).sum();
        let ready: usize = self.ready.iter().map(|work| work.orders.len()).sum();
        match (self.running.len(), given + ready) {
            (0, _) => None,
            (running, 0) => Some(format!("training {running} models")),
            (running, waiting) => Some(format!("training {running} models, {waiting} wait")),
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_operators::ModelId;

    use super::*;

    fn order(task: u64) -> TrainOrder {
        TrainOrder {
            model: ModelId {
                task: TaskId(task),
                version: 1,
            },
            labelled: 0,
            clock: 0,
            reason: String::new(),
            initial: false,
            recent: None,
        }
    }

    fn work(after: u64, task: u64, above: &[u64]) -> Work {
        Work {
            after: Epoch(after),
            orders: vec![order(task)],
            above: above.iter().copied().map(TaskId).collect(),
        }
    }

    /// The task of the work that starts next, or 0 if all waits.
    fn start(queue: &mut TrainingQueue) -> u64 {
        match queue.next() {
            Next::Carry(work) => work.orders[0].model.task.0,
            Next::Open(..) | Next::Wait | Next::End => 0,
        }
    }

    fn end(queue: &mut TrainingQueue, after: u64, task: u64) {
        queue.end(Epoch(after), &[TaskId(task)], Ok(Vec::new()));
    }

    #[test]
    fn a_task_waits_for_those_above_it_of_its_epoch_alone() {
        let mut queue = TrainingQueue::default();
        queue.opened(vec![work(1, 1, &[]), work(1, 2, &[1]), work(1, 3, &[])]);
        queue.opened(vec![work(2, 4, &[1])]);
        // The child of 1 waits for it, a stranger and a child of a later epoch do not.
        let started = [(); 4].map(|()| start(&mut queue));
        assert_eq!(started, [1, 3, 4, 0]);
        assert_eq!(queue.stage().as_deref(), Some("training 3 models, 1 wait"));
        end(&mut queue, 2, 4);
        assert_eq!(start(&mut queue), 0);
        end(&mut queue, 1, 1);
        assert_eq!(start(&mut queue), 2);
        end(&mut queue, 1, 2);
        end(&mut queue, 1, 3);
        assert_eq!(queue.stage(), None);
    }

    #[test]
    fn epochs_are_opened_in_order_and_one_at_a_time() {
        let mut queue = TrainingQueue::default();
        queue.give(Epoch(7), vec![order(1)]);
        queue.give(Epoch(5), vec![order(2)]);
        assert!(matches!(queue.next(), Next::Open(Epoch(5), _)));
        assert!(matches!(queue.next(), Next::Wait));
        queue.opened(Vec::new());
        assert!(matches!(queue.next(), Next::Open(Epoch(7), _)));
        queue.closed = true;
        assert!(matches!(queue.next(), Next::End));
    }
}
