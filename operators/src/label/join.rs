//! The join of predictions with their labels.

use std::rc::Rc;

use timely::dataflow::operators::vec::Map;

use super::joiner::{JoinOutput, Joiner};
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Effect, Flow, LabelledEpoch, Predicted, TaskUpdate};

/// Joins predictions with their labels. The first returned stream has the labels that became known;
/// the second has what is committed, so that after a restart the same samples wait.
///
/// `updates` is a feedback edge, broadcast to every worker; of its updates, the label requests
/// matter here.
pub fn join<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
    updates: Flow<'scope, TaskUpdate>,
    joiner: Joiner,
    on_failure: OnFailure,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, Effect>) {
    let joined: Flow<'scope, Rc<JoinOutput>> = predicted.each_after(
        updates,
        "Join",
        on_failure,
        joiner,
        |joiner, updates| {
            for update in updates {
                if let TaskUpdate::LabelRequested(sequence) = update {
                    joiner.request(sequence);
                }
            }
            Ok(())
        },
        |joiner, predicted, out| {
            out.give(Rc::new(joiner.join(predicted)?));
            Ok(())
        },
    );
    let labelled = joined.clone().map(|joined| joined.labelled.clone());
    let effects = joined.flat_map(|joined| {
        let mut effects = vec![Effect::PendingFloor(joined.floor)];
        if joined.unlabelled > 0 {
            effects.push(Effect::Unlabelled(joined.unlabelled));
        }
        if let Some((last, bytes)) = joined.pending.clone() {
            effects.push(Effect::Pending { last, bytes });
        }
        if let Some((last, bytes)) = joined.released.clone() {
            effects.push(Effect::Released { last, bytes });
        }
        effects
    });
    (labelled, effects)
}
