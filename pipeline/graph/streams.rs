//! Streams between the stages: what each stage gives to the later ones, and what it commits.

use std::rc::Rc;

use perennial_operators::algorithms::drift::DriftDetected;
use perennial_operators::flow::{
    AdapterMoved, Allocated, Effect, Feedback, Flow, LabelledEpoch, Predicted, TaskUpdate,
    TrainOutcome,
};
use perennial_operators::{RecentMoved, TaskDefinition, TaskId, View};

/// Streams that come out of the loops.
pub(super) struct FeedbackStreams<'scope> {
    /// Updates about tasks, on every worker.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// Everything that inference learns: models, corrections of models, and what recognizes unseen
    /// samples, on every worker; trials of unseen tasks, on worker 0 alone.
    pub models: Flow<'scope, Feedback>,
    /// Outcomes of trainings and updates from the link, on worker 0.
    pub outcomes: Flow<'scope, TrainOutcome>,
    /// Tasks that are defined by these outcomes, on worker 0.
    pub adopted: Flow<'scope, TaskDefinition>,
}

/// Streams of the stage ingest.
pub(super) struct IngestStreams<'scope> {
    /// Batches whose samples are allocated to tasks.
    pub allocated: Flow<'scope, Rc<Allocated>>,
    /// Tasks that are defined by their first sample, each once.
    pub defined: Flow<'scope, TaskDefinition>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}

/// Streams of the stage predict.
pub(super) struct PredictStreams<'scope> {
    /// Batches with their predictions.
    pub predicted: Flow<'scope, Rc<Predicted>>,
    /// The novelty scores of samples of known tasks, whenever they change.
    pub calibration: Flow<'scope, Feedback>,
    /// What takes the place of models that failed.
    pub retired: Flow<'scope, Feedback>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}

/// Streams of the stage label.
pub(super) struct LabelStreams<'scope> {
    /// Labels that became known, with their samples and predictions.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}

/// Streams of the stage unseen.
pub(super) struct UnseenStreams<'scope> {
    /// Labels of samples whose tasks are all defined, and labels of resolved groups.
    pub labelled: Flow<'scope, Rc<LabelledEpoch>>,
    /// Updates about tasks.
    pub tasks: Flow<'scope, TaskUpdate>,
    /// Trials of groups with the models of neighbouring tasks.
    pub trials: Flow<'scope, Feedback>,
    /// Regions of features that no known task covers.
    pub regions: Flow<'scope, Feedback>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}

/// Streams of the stage learn.
pub(super) struct LearnStreams<'scope> {
    /// Statistics of each task that changed.
    pub views: Flow<'scope, View>,
    /// Detected drift.
    pub drifted: Flow<'scope, DriftDetected>,
    /// Tasks that have got enough labels to be known, each once.
    pub known: Flow<'scope, TaskId>,
    /// Adapters that changed.
    pub adapters: Flow<'scope, AdapterMoved>,
    /// Recent samples in which new samples find their neighbours.
    pub neighbours: Flow<'scope, RecentMoved>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}

/// Streams of the stage train.
pub(super) struct TrainStreams<'scope> {
    /// Outcomes of trainings and updates from the link.
    pub outcomes: Flow<'scope, TrainOutcome>,
    /// Effects of the stage.
    pub effects: Flow<'scope, Effect>,
}
