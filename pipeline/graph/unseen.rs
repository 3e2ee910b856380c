//! Stage unseen of the graph: holds labels of unseen tasks, and groups their samples, until each
//! group is a task of its own or part of a known one. Only then may the stage learn have the
//! labels.

use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{Feedback, KnowledgeChange, TrainOutcome};
use perennial_operators::unseen::{GroupEvent, group, hold};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use super::streams::{FeedbackStreams, IngestStreams, LabelStreams, PredictStreams, UnseenStreams};
use crate::restore::UnseenStart;

/// Builds the stage. Without a `start`, unseen samples are not recognized and all labels pass.
pub(super) fn build<'scope>(
    ingested: &IngestStreams<'scope>,
    predicted: &PredictStreams<'scope>,
    labelled: &LabelStreams<'scope>,
    start: Option<UnseenStart>,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> UnseenStreams<'scope> {
    let Some(start) = start else {
        let scope = labelled.labelled.scope();
        return UnseenStreams {
            labelled: labelled.labelled.clone(),
            tasks: empty(scope),
            trials: empty(scope),
            regions: empty(scope),
            effects: empty(scope),
        };
    };
    let (passed, held) = hold(
        predicted.predicted.clone(),
        labelled.labelled.clone(),
        feedback.tasks.clone(),
        start.updates,
        start.rules,
        on_failure.clone(),
    );
    let defined = ingested.defined.clone().concat(feedback.adopted.clone());
    let events = held
        .concat(defined.map(GroupEvent::Defined))
        .concat(feedback.outcomes.clone().flat_map(feature_events))
        .concat(predicted.calibration.clone().flat_map(calibration_event));
    let grouped = group(events, start.groups, on_failure.clone());
    UnseenStreams {
        labelled: grouped.labelled.concat(passed),
        tasks: grouped.tasks,
        trials: grouped.trials,
        regions: grouped.regions,
        effects: grouped.effects,
    }
}

/// What a training found out about features, for groups.
fn feature_events(outcome: TrainOutcome) -> Vec<GroupEvent> {
    let changes = outcome.changes.into_iter();
    let events = changes.filter_map(|change| match change {
        KnowledgeChange::FeaturesScaled { deviations } => Some(GroupEvent::Scales(deviations)),
        KnowledgeChange::ReferenceDrawn(reference) => Some(GroupEvent::Reference(reference)),
        _ => None,
    });
    events.collect()
}

fn calibration_event(feedback: Feedback) -> Option<GroupEvent> {
    match feedback {
        Feedback::Calibration(calibration) => Some(GroupEvent::Calibration(calibration)),
        _ => None,
    }
}
