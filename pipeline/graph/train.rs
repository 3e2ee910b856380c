//! Stage train of the graph: triggers order trainings, trainings and the link yield models.

use perennial_operators::Epoch;
use perennial_operators::epochs::OnFailure;
use perennial_operators::flow::{Effect, Flow, TrainOrder, TrainOutcome};
use perennial_operators::learn::{FirstModelGate, TrainingMode, receive, train, trigger};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;

use super::feedback::FeedbackStreams;
use super::learn::LearnStreams;
use super::predict::PredictStreams;
use crate::config::Mode;
use crate::config::{Role, Settings};
use crate::learning::Learner;
use crate::link::common::OTHERS;
use crate::link::inbox::LinkInbox;
use crate::restore::TrainStart;

/// What a worker carries trainings out with; on worker 0 only.
pub(super) struct Trainers {
    /// Carries out trainings here.
    pub learner: Option<Learner>,
    /// Models that come over the link.
    pub inbox: Option<LinkInbox>,
    /// Holds samples back until there is a first model.
    pub gate: FirstModelGate,
}

/// Streams of the stage train.
pub(super) struct TrainStreams<'scope> {
    /// Outcomes of trainings, here or elsewhere.
    pub outcomes: Flow<'scope, TrainOutcome>,
    /// What is committed.
    pub effects: Flow<'scope, Effect>,
}

#[expect(
    clippy::too_many_arguments,
    reason = "one for each stream and setting it stands between"
)]
pub(super) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    settings: &Settings,
    predicted: &PredictStreams<'scope>,
    learned: &LearnStreams<'scope>,
    trainers: Trainers,
    start: TrainStart,
    feedback: &FeedbackStreams<'scope>,
    on_failure: &OnFailure,
) -> TrainStreams<'scope> {
    let config = settings.config();
    let link = config.link.as_ref();
    let mode = match config.mode {
        Mode::Replay => TrainingMode::Replay,
        Mode::Live => TrainingMode::Live,
    };
    let first_number = match config.role {
        Role::Edge => OTHERS,
        Role::Local | Role::Cloud => 0,
    };
    let trains = config.role != Role::Edge || link.is_none_or(|link| link.train);
    let (orders, mut outcomes) = if trains {
        let orders = trigger(
            learned.views.clone(),
            learned.drifted.clone(),
            feedback.outcomes.clone().map(|outcome| outcome.model),
            predicted.predicted.clone(),
            start.watch.numbering_after(first_number),
        );
        let outcomes = train(
            scope,
            orders.clone(),
            trainers.learner,
            mode,
            start.resumed,
            on_failure.clone(),
        );
        (orders, outcomes)
    } else {
        // The cloud decides what is deployed at such an edge.
        (empty(scope), empty(scope))
    };
    // An edge receives what the cloud publishes; a cloud, the verdicts on models that some edges had first.
    if config.role == Role::Edge || link.is_some_and(|link| link.canary.is_some()) {
        let clock = predicted.predicted.clone();
        outcomes = outcomes.concat(receive(
            clock,
            trainers.inbox,
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
