//! The join of predictions with their labels.

use std::rc::Rc;

use super::joiner::{JoinOutput, Joiner};
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Effect, Flow, LabelledEpoch, Predicted, TaskUpdate};

/// Joins predictions with their labels. `settled` comes over the feedback edge, broadcast to every worker: it says whose labels
/// are asked for. The first stream is what became known, the second what must be committed so that a restart goes on with
/// the same samples waiting.
pub fn join<'scope>(
    scored: Flow<'scope, Rc<Predicted>>,
    settled: Flow<'scope, TaskUpdate>,
    joiner: Joiner,
    on_failure: OnFailure,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, Effect>) {
    use timely::dataflow::operators::vec::Map;
    let joined: Flow<'scope, Rc<JoinOutput>> = scored.each_after(
        settled,
        "Join",
        on_failure,
        joiner,
        |joiner, settled| {
            for settled in settled {
                if let TaskUpdate::LabelRequested(sequence) = settled {
                    joiner.request(sequence);
                }
            }
            Ok(())
        },
        |joiner, scored, out| {
            out.give(Rc::new(joiner.join(scored)?));
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
