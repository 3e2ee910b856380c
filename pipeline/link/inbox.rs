//! The inbox: updates that came over the link and wait for the dataflow.

use std::collections::{BTreeSet, VecDeque};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use perennial_operators::Failure;
use perennial_operators::flow::TrainOutcome;
use perennial_operators::learn::Inbox;

use super::common::GLANCE;
use super::subscribe::QUEUE;

/// What the dataflow takes in over the link, or of it.
pub struct LinkInbox {
    coming: Receiver<TrainOutcome>,
    /// What has come and waits for a later epoch.
    held: VecDeque<TrainOutcome>,
}

impl LinkInbox {
    /// An inbox, and where to put what it is to have.
    pub fn new() -> (Sender<TrainOutcome>, LinkInbox) {
        let (sender, coming) = bounded(QUEUE);
        let held = VecDeque::new();
        (sender, LinkInbox { coming, held })
    }
}

impl Inbox for LinkInbox {
    fn take(&mut self) -> Result<Vec<TrainOutcome>, Failure> {
        let room = QUEUE.saturating_sub(self.held.len());
        self.held.extend(self.coming.try_iter().take(room));
        // Changes of an epoch are put into an order of their own, in which an older model could come last: each task has one
        // outcome an epoch.
        let mut met = BTreeSet::new();
        let held = std::mem::take(&mut self.held).into_iter();
        let (taken, held): (VecDeque<_>, _) =
            held.partition(|outcome| met.insert(outcome.model.task));
        self.held = held;
        Ok(taken.into())
    }
}

/// Waits until there is room for it.
pub(super) fn hand_over(
    sender: &Sender<TrainOutcome>,
    outcome: TrainOutcome,
    is_stopped: &dyn Fn() -> bool,
) {
    let mut outcome = outcome;
    while !is_stopped() {
        match sender.send_timeout(outcome, GLANCE) {
            Err(SendTimeoutError::Timeout(again)) => outcome = again,
            Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
        }
    }
}
