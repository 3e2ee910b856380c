//! Stage label of the graph: joins predictions with labels, and shares what the policy lets leave.

use perennial_operators::epochs::OnFailure;
use perennial_operators::label::join;
use perennial_operators::share::{SharePolicy, share};
use timely::dataflow::operators::Concat;

use super::streams::{FeedbackStreams, LabelStreams, PredictStreams};
use crate::restore::LabelStart;

/// Builds the stage. Without a `policy` nothing is shared.
pub(super) fn build<'scope>(
    predicted: &PredictStreams<'scope>,
    policy: Option<SharePolicy>,
    start: LabelStart,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> LabelStreams<'scope> {
    // Waiting samples keep their ids and attributes only if they are shared later.
    let joiner = start.joiner.keep_names(policy.is_some());
    let (labelled, mut effects) = join(
        predicted.predicted.clone(),
        feedback.tasks.clone(),
        joiner,
        on_failure.clone(),
    );
    if let Some(policy) = policy {
        effects = effects.concat(share(labelled.clone(), policy, &start.renamed));
    }
    LabelStreams { labelled, effects }
}
