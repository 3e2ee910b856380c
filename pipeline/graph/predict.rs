//! Stage predict of the graph: runs the deployed models, and recognizes unseen samples.

use perennial_connectors::onnx::Runtime;
use perennial_operators::Failure;
use perennial_operators::algorithms::recognize::Calibrator;
use perennial_operators::epochs::{Epochs, OnFailure};
use perennial_operators::flow::{Effect, Feedback, ModelFailure, Substitute};
use perennial_operators::predict::{Predictor, calibrate, infer, render, retire_failed};
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concatenate, Inspect};

use super::Render;
use super::sessions::Sessions;
use super::streams::{FeedbackStreams, IngestStreams, PredictStreams};
use crate::config::Settings;
use crate::restore::PredictStart;

/// The predictor of a worker, with the deployed models loaded, and the calibrator if unseen samples
/// are recognized.
pub(super) fn predictor(
    settings: &Settings,
    runtime: Runtime,
    workers: usize,
    start: PredictStart,
) -> Result<(Predictor<Sessions>, Option<Calibrator>), Failure> {
    let config = settings.config();
    let rules = settings.inference_rules();
    let sessions = Sessions::new(
        runtime,
        settings.features(),
        rules.kind.width(),
        config.inference.memory_bytes / workers,
    );
    let (recognizer, calibrator) = start.recognition.unzip();
    let baselines = config.report.baselines.iter().copied().map(Into::into);
    let mut predictor = Predictor::new(
        sessions,
        rules,
        baselines.collect(),
        start.adapters,
        start.neighbours,
        recognizer,
    );
    for model in &start.deployed {
        predictor.deploy_or_substitute(model)?;
    }
    if let Some(spare) = start.spare {
        predictor.set_spare(spare);
    }
    for trial in start.trials {
        predictor.add_trial(trial);
    }
    Ok((predictor, calibrator))
}

/// Builds the stage. Without a `renderer`, predictions are not written.
pub(super) fn build<'scope>(
    ingested: &IngestStreams<'scope>,
    (predictor, calibrator): (Predictor<Sessions>, Option<Calibrator>),
    renderer: Option<Render>,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> PredictStreams<'scope> {
    let predicted = infer(
        ingested.allocated.clone(),
        feedback.models.clone(),
        predictor,
        on_failure.clone(),
    );
    let scope = predicted.scope();
    let (calibration, calibrated) = match calibrator {
        Some(calibrator) => calibrate(predicted.clone(), calibrator),
        None => (empty(scope), empty(scope)),
    };
    let unseen = predicted.clone().each("CountUnseen", |batch| {
        batch.count_unseen().map(Effect::Unseen)
    });
    let rendered = match renderer {
        Some(renderer) => render(predicted.clone(), renderer),
        None => empty(scope),
    };
    let failed = retire_failed(predicted.clone()).inspect(log_failure);
    let retired = failed.clone().flat_map(|failure| failure.deployment());
    let recorded = failed.flat_map(|failure| failure.change().map(Effect::from));
    let effects = [calibrated, unseen, rendered, recorded];
    PredictStreams {
        predicted,
        calibration,
        retired: retired.map(Feedback::Deployment),
        effects: scope.concatenate(effects),
    }
}

/// Tells of a model that failed, and of what takes its place.
fn log_failure(failure: &ModelFailure) {
    let ModelFailure { model, reason, .. } = failure;
    let (task, version) = (model.task, model.version);
    match &failure.substitute {
        Some(Substitute::Above) => {
            tracing::warn!(%task, version, "retired a model that failed; the task inherits: {reason}");
        }
        Some(Substitute::Earlier(earlier)) => {
            let to = earlier.model.version;
            tracing::warn!(%task, version, to, "rolled back a model that failed: {reason}");
        }
        None => {
            tracing::warn!(%task, version, "a model failed, and nothing can take its place: {reason}");
        }
    }
}
