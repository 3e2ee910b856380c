//! The join of predictions with their labels.

use std::rc::Rc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::joiner::{Joined, Joiner};
use crate::Failure;
use crate::epochs::{Stash, Told};
use crate::flow::{Effect, Flow, LabelledEpoch, Scored, Settled};

/// Joins predictions with their labels. `settled` comes over the feedback edge, broadcast to every worker: it says whose labels
/// are asked for. The first stream is what became known, the second what must be committed so that a restart goes on with
/// the same samples waiting.
pub fn join<'scope>(
    scored: Flow<'scope, Rc<Scored>>,
    settled: Flow<'scope, Settled>,
    mut joiner: Joiner,
    fail: impl Fn(Failure) + 'static,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, Effect>) {
    use timely::dataflow::operators::vec::Map;
    let joined: Flow<'scope, Rc<Joined>> = scored.binary_frontier(
        settled,
        Pipeline,
        Pipeline,
        "Join",
        move |_capability, _info| {
            let mut stash = Stash::new();
            let mut told = Told::new();
            // Capabilities of what failed: the frontier stays where it is.
            let mut failed = Vec::new();
            move |(input, _), (settled, settled_frontier), output| {
                input.for_each(|capability, batches| stash.hold(&capability, 0, batches.drain(..)));
                settled.for_each(|capability, arrived| told.hear(&capability, arrived));
                if !failed.is_empty() {
                    return;
                }
                while let Some((epoch, capability, batches)) = stash.next(settled_frontier) {
                    for settled in told.take_until(epoch).flatten() {
                        if let Settled::Requested(sequence) = settled {
                            joiner.request(sequence);
                        }
                    }
                    for scored in batches {
                        match joiner.join(scored) {
                            Ok(joined) => output.session(&capability).give(Rc::new(joined)),
                            Err(failure) => {
                                failed.push(capability);
                                fail(failure);
                                return;
                            }
                        }
                    }
                }
            }
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
