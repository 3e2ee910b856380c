//! Stage label of the graph: joins predictions with their labels, and shares what policy lets leave.

use std::rc::Rc;

use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{Effect, Flow, LabelledEpoch};
use perennial_operators::label::join;
use perennial_operators::share::{SharePolicy, share};
use timely::dataflow::operators::Concat;

use super::feedback::FeedbackStreams;
use super::predict::PredictStreams;
use crate::restore::LabelStart;

/// Streams of the stage label.
pub(super) struct LabelStreams<'scope> {
    /// Labels that became known, with their samples and predictions.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

pub(super) fn build<'scope>(
    predicted: &PredictStreams<'scope>,
    policy: Option<SharePolicy>,
    start: LabelStart,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> LabelStreams<'scope> {
    let (labelled, mut effects) = join(
        predicted.predicted.clone(),
        feedback.tasks.clone(),
        start.joiner.naming(policy.is_some()),
        on_failure.clone(),
    );
    if let Some(policy) = policy {
        effects = effects.concat(share(labelled.clone(), policy, &start.renamed));
    }
    LabelStreams { labelled, effects }
}
