//! Inference: predictions for each batch by the models that were deployed before its epoch.

use std::rc::Rc;

use super::predictor::{Models, Predictor};
use crate::Failure;
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Allocated, Deployment, Feedback, Flow, Predicted};

/// Predicts every batch with the models deployed before its epoch. `told` is the feedback edge,
/// broadcast to every worker: what arrives at epoch `e` holds from `e` on, so an epoch waits until nothing can arrive for it
/// any more and never sees two models of a task.
pub fn infer<'scope, M: Models + 'static>(
    allocated: Flow<'scope, Rc<Allocated>>,
    told: Flow<'scope, Feedback>,
    predictor: Predictor<M>,
    on_failure: OnFailure,
) -> Flow<'scope, Rc<Predicted>> {
    allocated.each_after(
        told,
        "Infer",
        on_failure,
        predictor,
        learn,
        |predictor, allocated, out| {
            out.give(Rc::new(predictor.predict(allocated)?));
            Ok(())
        },
    )
}

/// Takes in the feedback of one epoch.
fn learn<M: Models>(
    predictor: &mut Predictor<M>,
    mut feedback: Vec<Feedback>,
) -> Result<(), Failure> {
    feedback.sort_by_key(Feedback::place);
    for learned in &feedback {
        match learned {
            Feedback::Deployment(Deployment::Deploy(model)) => predictor.deploy(model)?,
            Feedback::Deployment(Deployment::Restore { from, to }) => {
                if predictor.is_deployed(*from) {
                    predictor.deploy(to)?;
                }
            }
            Feedback::Deployment(Deployment::Retire(model)) => {
                if model.version == 0 || predictor.is_deployed(*model) {
                    predictor.retire(model.task);
                }
            }
            Feedback::Adapter(moved) => predictor.adapt(moved),
            Feedback::Recent(moved) => predictor.neighbours.learn(moved),
            Feedback::Scales(deviations) => predictor.neighbours.scale(deviations),
            Feedback::Known(task) => predictor.recognize(|recognizer| recognizer.know(*task)),
            Feedback::Reference(reference) => {
                predictor.recognize(|recognizer| recognizer.compare_with(reference.clone()));
            }
            Feedback::Calibration(calibration) => {
                predictor.recognize(|recognizer| recognizer.calibrate(calibration.clone()));
            }
            Feedback::Regions(regions) => {
                predictor.recognize(|recognizer| recognizer.divide(regions.clone()));
            }
            Feedback::Trial(trial) => predictor.attempt_next(trial.clone()),
        }
    }
    Ok(())
}
