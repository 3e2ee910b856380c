//! Grouping: unseen tasks grow and are settled, epoch by epoch, all on one worker.

use std::rc::Rc;

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Map;

use super::groups::{Grouped, Groups};
use super::hold::GroupEvent;
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Effect, Feedback, Flow, LabelledEpoch, TaskUpdate};

/// What comes of grouping.
pub struct GroupStreams<'scope> {
    /// Labels of groups that are settled, for all that learns.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// What is known of unseen tasks from the next epoch on.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// What inference is to try.
    pub trials: Flow<'scope, Feedback>,
    /// What all inference is to know.
    pub regions: Flow<'scope, Feedback>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

/// Keeps unseen tasks in groups, all on worker 0.
pub fn group<'scope>(
    sightings: Flow<'scope, GroupEvent>,
    mut groups: Groups,
    on_failure: OnFailure,
) -> GroupStreams<'scope> {
    let grouped: Flow<'scope, Grouped> = sightings.try_per_epoch(
        Exchange::new(|_: &GroupEvent| 0),
        "Group",
        on_failure,
        move |_epoch, sightings, out| {
            groups.take_in(sightings)?;
            out.give_iterator(groups.give_out().into_iter());
            Ok(())
        },
    );
    GroupStreams {
        labelled: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Released(labelled) => Some(labelled),
            _ => None,
        }),
        tasks: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::TaskUpdate(settled) => Some(settled),
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
            Grouped::Change(change) => Some(Effect::Change(*change)),
            _ => None,
        }),
    }
}
