//! Inference: predictions for each batch by the models that were deployed before its epoch.

use std::rc::Rc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::predictor::{Models, Predictor};
use crate::Failure;
use crate::data::Epoch;
use crate::epochs::{Stash, Told};
use crate::flow::{Allocated, Deployment, Flow, Learned, Scored};

/// Predicts every batch with the models deployed before its epoch. `told` is the feedback edge,
/// broadcast to every worker: what arrives at epoch `e` holds from `e` on, so an epoch waits until nothing can arrive for it
/// any more and never sees two models of a task.
pub fn infer<'scope, M: Models + 'static>(
    allocated: Flow<'scope, Rc<Allocated>>,
    told: Flow<'scope, Learned>,
    mut predictor: Predictor<M>,
    fail: impl Fn(Failure) + 'static,
) -> Flow<'scope, Rc<Scored>> {
    allocated.binary_frontier(
        told,
        Pipeline,
        Pipeline,
        "Infer",
        move |_capability, _info| {
            let mut batches: Stash<Rc<Allocated>> = Stash::new();
            let mut told = Told::new();
            let mut failed = false;
            move |(input, _), (learned, learned_frontier), output| {
                input.for_each(|capability, allocated| {
                    batches.hold(&capability, 0, allocated.drain(..));
                });
                learned.for_each(|capability, arrived| told.hear(&capability, arrived));
                if failed {
                    return;
                }
                while let Some((epoch, capability, mut allocated)) = batches.next(learned_frontier)
                {
                    let result = learn_until(&mut told, epoch, &mut predictor).and_then(|()| {
                        let mut session = output.session(&capability);
                        for batch in allocated.drain(..) {
                            session.give(Rc::new(predictor.score(batch)?));
                        }
                        Ok(())
                    });
                    if let Err(failure) = result {
                        // The frontier stays where it is: what failed has not happened.
                        batches.put_back(epoch, capability, allocated);
                        failed = true;
                        fail(failure);
                        return;
                    }
                }
            }
        },
    )
}

/// Takes in what has arrived for the epochs up to `epoch`.
fn learn_until<M: Models>(
    told: &mut Told<Learned>,
    epoch: Epoch,
    predictor: &mut Predictor<M>,
) -> Result<(), Failure> {
    for mut learned in told.take_until(epoch) {
        learned.sort_by_key(Learned::place);
        for learned in &learned {
            match learned {
                Learned::Deployment(Deployment::Deploy(model)) => predictor.deploy(model)?,
                Learned::Deployment(Deployment::Restore { from, to }) => {
                    if predictor.answers(*from) {
                        predictor.deploy(to)?;
                    }
                }
                Learned::Deployment(Deployment::Retire(model)) => {
                    if model.version == 0 || predictor.answers(*model) {
                        predictor.retire(model.task);
                    }
                }
                Learned::Adapter(moved) => predictor.adapt(moved),
                Learned::Recent(moved) => predictor.neighbours.learn(moved),
                Learned::Scales(deviations) => predictor.neighbours.scale(deviations),
                Learned::Known(task) => predictor.recognize(|recognizer| recognizer.know(*task)),
                Learned::Reference(reference) => {
                    predictor.recognize(|recognizer| recognizer.compare_with(reference.clone()));
                }
                Learned::Calibration(calibration) => {
                    predictor.recognize(|recognizer| recognizer.calibrate(calibration.clone()));
                }
                Learned::Regions(regions) => {
                    predictor.recognize(|recognizer| recognizer.divide(regions.clone()));
                }
                Learned::Trial(trial) => predictor.attempt_next(trial.clone()),
            }
        }
    }
    Ok(())
}
