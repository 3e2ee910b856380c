//! Grouping: unseen tasks grow and are settled, epoch by epoch, all on one worker.

use std::rc::Rc;

use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::groups::{Grouped, Groups};
use super::hold::Sighting;
use crate::Failure;
use crate::epochs::Stash;
use crate::flow::{Effect, Flow, LabelledEpoch, Learned, Settled};

/// What comes of grouping.
pub struct Told<'scope> {
    /// Labels of groups that are settled, for all that learns.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// What is known of unseen tasks from the next epoch on.
    pub settled: Flow<'scope, Settled>,
    /// What inference is to try.
    pub trials: Flow<'scope, Learned>,
    /// What all inference is to know.
    pub regions: Flow<'scope, Learned>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

/// Keeps unseen tasks in groups, all on worker 0.
pub fn group<'scope>(
    sightings: Flow<'scope, Sighting>,
    mut groups: Groups,
    fail: impl Fn(Failure) + 'static,
) -> Told<'scope> {
    use timely::dataflow::operators::vec::Map;
    let grouped: Flow<'scope, Grouped> = sightings.unary_frontier(
        Exchange::new(|_: &Sighting| 0),
        "Group",
        move |_capability, _info| {
            let mut stash = Stash::new();
            // Capabilities of what failed: the frontier stays where it is.
            let mut failed = Vec::new();
            move |(input, frontier), output| {
                input.for_each(|capability, sightings| {
                    stash.hold(&capability, 0, sightings.drain(..));
                });
                if !failed.is_empty() {
                    return;
                }
                while let Some((_, capability, sightings)) = stash.next(frontier) {
                    match groups.take_in(sightings) {
                        Ok(()) => output
                            .session(&capability)
                            .give_iterator(groups.give_out().into_iter()),
                        Err(failure) => {
                            failed.push(capability);
                            fail(failure);
                            return;
                        }
                    }
                }
            }
        },
    );
    Told {
        labelled: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Released(labelled) => Some(labelled),
            _ => None,
        }),
        settled: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Settled(settled) => Some(settled),
            _ => None,
        }),
        trials: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Trial(trial) => Some(Learned::Trial(trial)),
            _ => None,
        }),
        regions: grouped.clone().flat_map(|grouped| match grouped {
            Grouped::Regions(regions) => Some(Learned::Regions(regions)),
            _ => None,
        }),
        effects: grouped.flat_map(|grouped| match grouped {
            Grouped::Change(change) => Some(Effect::Change(*change)),
            _ => None,
        }),
    }
}
