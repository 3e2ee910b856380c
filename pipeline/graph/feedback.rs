//! The feedback loops: opened before the first stage, closed after the last.
//!
//! What enters a loop in epoch `e` comes out in `e + 1`, so an epoch sees one state throughout.

use perennial_operators::flow::{Feedback, Flow, KnowledgeChange, TaskUpdate, TrainOutcome};
use perennial_operators::{Epoch, EpochsLater, TaskDefinition};
use timely::dataflow::Scope;
use timely::dataflow::operators::core::feedback::Handle;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback as _};

use super::ingest::IngestStreams;
use super::learn::LearnStreams;
use super::predict::PredictStreams;
use super::unseen::UnseenStreams;
use crate::fault;

/// Streams that come out of the loops, each one epoch later than it went in.
pub(super) struct FeedbackStreams<'scope> {
    /// Updates about tasks, on every worker.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// What inference learns: models and everything that corrects or recognizes, on every worker;
    /// trials of unseen tasks on one.
    pub models: Flow<'scope, Feedback>,
    /// Outcomes of trainings, on worker 0.
    pub outcomes: Flow<'scope, TrainOutcome>,
    /// Tasks that were defined elsewhere, on worker 0.
    pub adopted: Flow<'scope, TaskDefinition>,
}

/// Ends of the loops that are still open.
pub(super) struct Closing<'scope> {
    tasks: Handle<'scope, Epoch, Vec<TaskUpdate>>,
    models: Handle<'scope, Epoch, Vec<Feedback>>,
    trials: Handle<'scope, Epoch, Vec<Feedback>>,
    outcomes: Handle<'scope, Epoch, Vec<TrainOutcome>>,
}

/// Opens the loops.
pub(super) fn open(scope: Scope<'_, Epoch>) -> (FeedbackStreams<'_>, Closing<'_>) {
    let later = EpochsLater(1);
    let (close_tasks, tasks) = scope.feedback::<Vec<TaskUpdate>>(later);
    let (close_models, models) = scope.feedback::<Vec<Feedback>>(later);
    let (close_trials, trials) = scope.feedback::<Vec<Feedback>>(later);
    let (close_outcomes, outcomes) = scope.feedback::<Vec<TrainOutcome>>(later);
    let trained = outcomes.clone().flat_map(|outcome| {
        if outcome.deployment.is_some() {
            // It has come back into the dataflow and is not deployed yet.
            fault::point("swap: decided");
        }
        outcome.feedback()
    });
    let adopted = outcomes.clone().flat_map(|outcome| {
        let changes = outcome.changes.into_iter();
        changes.filter_map(|change| match change {
            KnowledgeChange::TaskDefined(task) => Some(task),
            _ => None,
        })
    });
    let feedback = FeedbackStreams {
        tasks: tasks.broadcast(),
        models: trained.concat(models).broadcast().concat(trials),
        outcomes,
        adopted,
    };
    let closing = Closing {
        tasks: close_tasks,
        models: close_models,
        trials: close_trials,
        outcomes: close_outcomes,
    };
    (feedback, closing)
}

impl<'scope> Closing<'scope> {
    /// Closes the loops.
    pub(super) fn close(
        self,
        adopted: Flow<'scope, TaskDefinition>,
        ingested: &IngestStreams<'scope>,
        predicted: &PredictStreams<'scope>,
        resolved: &UnseenStreams<'scope>,
        learned: &LearnStreams<'scope>,
        outcomes: Flow<'scope, TrainOutcome>,
    ) {
        let defined = ingested.defined.clone().concat(adopted);
        let defined = defined.map(|task| TaskUpdate::Defined(task.task));
        defined
            .concat(resolved.tasks.clone())
            .connect_loop(self.tasks);
        predicted
            .calibration
            .clone()
            .concat(resolved.regions.clone())
            .concat(learned.known.clone().map(Feedback::Known))
            .concat(learned.adapters.clone().map(Feedback::Adapter))
            .concat(learned.neighbours.clone().map(Feedback::Recent))
            .connect_loop(self.models);
        resolved.trials.clone().connect_loop(self.trials);
        outcomes.connect_loop(self.outcomes);
    }
}
