//! Inference: predicts each batch with the models that were deployed before its epoch.

use std::rc::Rc;

use super::models::Models;
use super::predictor::Predictor;
use crate::epochs::{Epochs, OnFailure};
use crate::error::Failure;
use crate::flow::{Allocated, Deployment, Feedback, Flow, Predicted};

/// Predicts every batch. `feedback` is a feedback edge, broadcast to every worker: what arrives for
/// epoch `e` is in force from `e` on. An epoch waits until its feedback is complete, so it never
/// sees two models of a task.
pub fn infer<'scope, M: Models + 'static>(
    allocated: Flow<'scope, Rc<Allocated>>,
    feedback: Flow<'scope, Feedback>,
    predictor: Predictor<M>,
    on_failure: OnFailure,
) -> Flow<'scope, Rc<Predicted>> {
    allocated.each_after(
        feedback,
        "Infer",
        on_failure,
        predictor,
        receive,
        |predictor, allocated, out| {
            out.give(Rc::new(predictor.predict(allocated)?));
            Ok(())
        },
    )
}

/// Takes in the feedback of one epoch.
fn receive<M: Models>(
    predictor: &mut Predictor<M>,
    mut feedback: Vec<Feedback>,
) -> Result<(), Failure> {
    feedback.sort_by_key(Feedback::order);
    for feedback in &feedback {
        match feedback {
            Feedback::Deployment(Deployment::Deploy(model)) => {
                predictor.deploy_or_substitute(model)?
            }
            Feedback::Deployment(Deployment::Restore { from, to }) => {
                predictor.restore(*from, to)?;
            }
            Feedback::Deployment(Deployment::Retire(model)) => {
                if model.version == 0 || predictor.is_deployed(*model) {
                    predictor.retire(model.task);
                }
            }
            Feedback::Adapter(moved) => predictor.adapt(moved),
            Feedback::Recent(moved) => predictor.neighbours.add(moved),
            Feedback::Scales(deviations) => predictor.neighbours.set_deviations(deviations),
            Feedback::Known(task) => {
                predictor.update_recognizer(|it| it.add_task(*task));
            }
            Feedback::Reference(reference) => {
                predictor.update_recognizer(|it| it.compare_with(reference.clone()));
            }
            Feedback::Calibration(calibration) => {
                predictor.update_recognizer(|it| it.calibrate(calibration.clone()));
            }
            Feedback::Regions(regions) => {
                predictor.update_recognizer(|it| it.set_regions(regions.clone()));
            }
            Feedback::Trial(trial) => predictor.add_trial(trial.clone()),
        }
    }
    Ok(())
}
