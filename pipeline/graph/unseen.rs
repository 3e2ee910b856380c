//! Stage unseen of the graph: finds out what unseen tasks are before anything learns from their labels.

use std::rc::Rc;

use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{
    Effect, Feedback, Flow, KnowledgeChange, LabelledEpoch, TaskUpdate, TrainOutcome,
};
use perennial_operators::unseen::{GroupEvent, group, hold};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use super::feedback::FeedbackStreams;
use super::ingest::IngestStreams;
use super::label::LabelStreams;
use super::predict::PredictStreams;
use crate::restore::UnseenStart;

/// Streams of the stage unseen.
pub(super) struct UnseenStreams<'scope> {
    /// Labels of samples whose tasks are all defined, with those of groups that were resolved.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// Updates about tasks.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// Trials of groups on the tasks beside them.
    pub trials: Flow<'scope, Feedback>,
    /// Regions of features in which no known task is.
    pub regions: Flow<'scope, Feedback>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

/// Without a `start`, unseen samples are not recognized and all labels pass.
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
    let (passed, sightings) = hold(
        predicted.predicted.clone(),
        labelled.labelled.clone(),
        feedback.tasks.clone(),
        start.settled,
        start.rules,
        on_failure.clone(),
    );
    let defined = ingested.defined.clone().concat(feedback.adopted.clone());
    let sightings = sightings
        .concat(defined.map(GroupEvent::Defined))
        .concat(feedback.outcomes.clone().flat_map(features_learned))
        .concat(predicted.calibration.clone().flat_map(calibration_of));
    let grouped = group(sightings, start.groups, on_failure.clone());
    UnseenStreams {
        labelled: grouped.labelled.concat(passed),
        tasks: grouped.tasks,
        trials: grouped.trials,
        regions: grouped.regions,
        effects: grouped.effects,
    }
}

/// What a training found out about features.
fn features_learned(outcome: TrainOutcome) -> Vec<GroupEvent> {
    let changes = outcome.changes.into_iter();
    let learned = changes.filter_map(|change| match change {
        KnowledgeChange::FeaturesScaled { deviations } => Some(GroupEvent::Scales(deviations)),
        KnowledgeChange::ReferenceDrawn(reference) => Some(GroupEvent::Reference(reference)),
        _ => None,
    });
    learned.collect()
}

fn calibration_of(learned: Feedback) -> Option<GroupEvent> {
    match learned {
        Feedback::Calibration(calibration) => Some(GroupEvent::Calibration(calibration)),
        _ => None,
    }
}
