//! The feedback loops: opened before the first stage, closed after the last.
//!
//! A record that enters a loop in epoch `e` comes out in `e + 1`. So an epoch sees one state of
//! models and tasks, whatever is learned in it.

use perennial_operators::flow::{Feedback, Flow, KnowledgeChange, TaskUpdate, TrainOutcome};
use perennial_operators::{Epoch, EpochsLater, TaskDefinition};
use timely::dataflow::Scope;
use timely::dataflow::operators::core::feedback::Handle;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback as _};

use super::streams::{
    FeedbackStreams, IngestStreams, LearnStreams, PredictStreams, TrainStreams, UnseenStreams,
};
use crate::fault;

/// Loops that are to be closed: the handle of each.
pub(super) struct OpenLoops<'scope> {
    tasks: Handle<'scope, Epoch, Vec<TaskUpdate>>,
    models: Handle<'scope, Epoch, Vec<Feedback>>,
    trials: Handle<'scope, Epoch, Vec<Feedback>>,
    outcomes: Handle<'scope, Epoch, Vec<TrainOutcome>>,
    /// Adopted tasks, which go round once more: as updates, to every worker.
    adopted: Flow<'scope, TaskDefinition>,
}

/// Opens the loops.
pub(super) fn open(scope: Scope<'_, Epoch>) -> (FeedbackStreams<'_>, OpenLoops<'_>) {
    let later = EpochsLater(1);
    let (close_tasks, tasks) = scope.feedback::<Vec<TaskUpdate>>(later);
    let (close_models, models) = scope.feedback::<Vec<Feedback>>(later);
    let (close_trials, trials) = scope.feedback::<Vec<Feedback>>(later);
    let (close_outcomes, outcomes) = scope.feedback::<Vec<TrainOutcome>>(later);
    let trained = outcomes.clone().flat_map(|outcome| {
        if outcome.deployment.is_some() {
            // The model is back in the dataflow and not deployed yet.
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
        adopted: adopted.clone(),
    };
    let loops = OpenLoops {
        tasks: close_tasks,
        models: close_models,
        trials: close_trials,
        outcomes: close_outcomes,
        adopted,
    };
    (feedback, loops)
}

impl<'scope> OpenLoops<'scope> {
    /// Closes the loops with what the stages yield.
    pub(super) fn close(
        self,
        ingested: &IngestStreams<'scope>,
        predicted: &PredictStreams<'scope>,
        resolved: &UnseenStreams<'scope>,
        learned: &LearnStreams<'scope>,
        trained: &TrainStreams<'scope>,
    ) {
        let defined = ingested.defined.clone().concat(self.adopted);
        defined
            .map(|task| TaskUpdate::Defined(task.task))
            .concat(resolved.tasks.clone())
            .connect_loop(self.tasks);
        predicted
            .calibration
            .clone()
            .concat(predicted.retired.clone())
            .concat(resolved.regions.clone())
            .concat(learned.known.clone().map(Feedback::Known))
            .concat(learned.adapters.clone().map(Feedback::Adapter))
            .concat(learned.neighbours.clone().map(Feedback::Recent))
            .connect_loop(self.models);
        resolved.trials.clone().connect_loop(self.trials);
        trained.outcomes.clone().connect_loop(self.outcomes);
    }
}
