//! Stage train of the graph: triggers order trainings; trainings and the link yield models.

use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{TrainOrder, TrainOutcome};
use perennial_operators::learn::{FirstModelGate, receive, train, trigger};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use super::streams::{FeedbackStreams, LearnStreams, PredictStreams, TrainStreams};
use crate::config::{Config, Role, Settings};
use crate::learning::Learner;
use crate::link::common::LAST_CLOUD_VERSION;
use crate::link::outcomes::LinkOutcomes;
use crate::restore::TrainStart;

/// Where a worker's new models come from. Worker 0 alone has a learner and a link.
pub struct Trainers {
    /// Carries out trainings, if models are trained here.
    pub learner: Option<Learner>,
    /// Updates from the cloud, or at the cloud verdicts on canaries.
    pub outcomes: Option<LinkOutcomes>,
    /// Holds samples back until the first model has come.
    pub gate: FirstModelGate,
}

/// Builds the stage.
pub(super) fn build<'scope>(
    settings: &Settings,
    predicted: &PredictStreams<'scope>,
    learned: &LearnStreams<'scope>,
    trainers: Trainers,
    start: TrainStart,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> TrainStreams<'scope> {
    let config = settings.config();
    let scope = learned.views.scope();
    let (orders, mut outcomes) = if trains(config) {
        let orders = trigger(
            learned.views.clone(),
            learned.drifted.clone(),
            feedback.outcomes.clone().map(|outcome| outcome.model),
            predicted.predicted.clone(),
            start.watch.number_after(numbered_after(config.role)),
        );
        let outcomes = train(
            scope,
            orders.clone(),
            trainers.learner,
            config.mode.training(),
            start.resumed,
            on_failure.clone(),
        );
        (orders, outcomes)
    } else {
        // The cloud decides which models are deployed at such an edge.
        (empty(scope), empty(scope))
    };
    if receives(config) {
        outcomes = outcomes.concat(receive(
            predicted.predicted.clone(),
            trainers.outcomes,
            trainers.gate,
            on_failure.clone(),
        ));
    }
    let ordered = orders.map(TrainOrder::into_effect);
    let ended = outcomes.clone().flat_map(TrainOutcome::into_effects);
    TrainStreams {
        outcomes,
        effects: ordered.concat(ended),
    }
}

/// Whether models are trained here.
fn trains(config: &Config) -> bool {
    config.role != Role::Edge || config.link.as_ref().is_none_or(|link| link.train)
}

/// Whether outcomes come over the link: an edge receives what the cloud publishes, and a cloud with
/// canaries the verdicts on their models.
fn receives(config: &Config) -> bool {
    let link = config.link.as_ref();
    config.role == Role::Edge || link.is_some_and(|link| link.canary.is_some())
}

/// The version after which models that are trained here are numbered.
fn numbered_after(role: Role) -> u32 {
    match role {
        Role::Edge => LAST_CLOUD_VERSION,
        Role::Local | Role::Cloud => 0,
    }
}
