//! Inference: predictions for each batch by the models that were deployed before its epoch.

use std::rc::Rc;

use super::predictor::{Models, Predictor};
use crate::Failure;
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Allocated, Deployment, Flow, Learned, Scored};

/// Predicts every batch with the models deployed before its epoch. `told` is the feedback edge,
/// broadcast to every worker: what arrives at epoch `e` holds from `e` on, so an epoch waits until nothing can arrive for it
/// any more and never sees two models of a task.
pub fn infer<'scope, M: Models + 'static>(
    allocated: Flow<'scope, Rc<Allocated>>,
    told: Flow<'scope, Learned>,
    predictor: Predictor<M>,
    on_failure: OnFailure,
) -> Flow<'scope, Rc<Scored>> {
    allocated.each_after(
        told,
        "Infer",
        on_failure,
        predictor,
        learn,
        |predictor, allocated, out| {
            out.give(Rc::new(predictor.score(allocated)?));
            Ok(())
        },
    )
}

/// Takes in the feedback of one epoch.
fn learn<M: Models>(
    predictor: &mut Predictor<M>,
    mut feedback: Vec<Learned>,
) -> Result<(), Failure> {
    feedback.sort_by_key(Learned::place);
    for learned in &feedback {
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
    Ok(())
}
