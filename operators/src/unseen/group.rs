//! Grouping: unseen tasks grow and settle, epoch by epoch, all on one worker.

use std::rc::Rc;

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Map;

use super::groups::{Grouped, Groups};
use super::hold::GroupEvent;
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Effect, Feedback, Flow, LabelledEpoch, TaskUpdate};

/// Output streams of grouping.
pub struct GroupStreams<'scope> {
    /// Labels of settled groups, for everything that learns.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// Updates about tasks, in force on every worker from the next epoch on.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// Trials for inference to run, on this worker.
    pub trials: Flow<'scope, Feedback>,
    /// Regions for inference, in force on every worker from the next epoch on.
    pub regions: Flow<'scope, Feedback>,
    /// Changes to commit.
    pub effects: Flow<'scope, Effect>,
}

/// Keeps unseen tasks in groups, all on worker 0.
pub fn group<'scope>(
    events: Flow<'scope, GroupEvent>,
    mut groups: Groups,
    on_failure: OnFailure,
) -> GroupStreams<'scope> {
    let grouped: Flow<'scope, Grouped> = events.try_per_epoch(
        Exchange::new(|_: &GroupEvent| 0),
        "Group",
        on_failure,
        move |_epoch, events, out| {
            groups.receive(events)?;
            out.give_iterator(groups.take_output().into_iter());
            Ok(())
        },
    );
    GroupStreams {
        labelled: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Released(labelled) => Some(labelled),
            _ => None,
        }),
        tasks: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::TaskUpdate(update) => Some(update),
            _ => None,
        }),
        trials: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Trial(trial) => Some(Feedback::Trial(trial)),
            _ => None,
        }),
        regions: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Regions(regions) => Some(Feedback::Regions(regions)),
            _ => None,
        }),
        effects: grouped.flat_map(|grouped| match grouped {
            Grouped::Change(change) => Some((*change).into()),
            _ => None,
        }),
    }
}
