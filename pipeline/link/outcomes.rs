//! The queue of outcomes from the link that wait for the dataflow.

use std::collections::{BTreeSet, VecDeque};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use perennial_operators::Failure;
use perennial_operators::flow::TrainOutcome;
use perennial_operators::learn::OutcomeQueue;

use super::common::POLL;

/// Limit on the updates that wait in the channel, and on those that wait for a later epoch.
const ROOM: usize = 16;

/// The dataflow's end of the link.
pub struct LinkOutcomes {
    receiver: Receiver<TrainOutcome>,
    /// Updates that wait for a later epoch.
    waiting: VecDeque<TrainOutcome>,
}

impl LinkOutcomes {
    /// An empty queue, and the sender of its outcomes.
    pub fn new() -> (Sender<TrainOutcome>, LinkOutcomes) {
        let (sender, receiver) = bounded(ROOM);
        let waiting = VecDeque::new();
        (sender, LinkOutcomes { receiver, waiting })
    }
}

impl OutcomeQueue for LinkOutcomes {
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let room = ROOM.saturating_sub(self.waiting.len());
        self.waiting.extend(self.receiver.try_iter().take(room));
        // The commit sorts the changes of an epoch, and an older model could come last. So each
        // task has at most one outcome in an epoch.
        let mut seen = BTreeSet::new();
        let (taken, later): (VecDeque<_>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|outcome| seen.insert(outcome.model.task));
        self.waiting = later;
        Ok(taken.into())
    }
}

/// Sends an outcome to a queue; waits until there is room or `is_stopped`.
pub(super) fn hand_over(
    sender: &Sender<TrainOutcome>,
    mut outcome: TrainOutcome,
    is_stopped: &dyn Fn() -> bool,
) {
    while !is_stopped() {
        match sender.send_timeout(outcome, POLL) {
            Err(SendTimeoutError::Timeout(unsent)) => outcome = unsent,
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_operators::{ModelId, TaskId};

    use super::*;

    #[test]
    fn a_task_has_at_most_one_outcome_in_an_epoch() {
        let (sender, mut outcomes) = LinkOutcomes::new();
        // The earlier model is deployed again after the later one, with another task's in between.
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
            let taken = outcomes.take().expect("outcomes").into_iter();
            taken
                .map(|outcome| (outcome.model.task.0, outcome.model.version))
                .collect::<Vec<_>>()
        };
        assert_eq!(take(), [(1, 3), (2, 1)]);
        assert_eq!(take(), [(1, 2), (2, 2)]);
        assert_eq!(take(), [(1, 4)]);
        assert_eq!(take(), []);
    }
}
