//! Training stages and their states.

use serde::{Deserialize, Serialize};

use crate::data::ModelId;

/// Stage of a model's learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// A candidate is fitted.
    Train,
    /// The candidate is judged against the deployed model.
    Evaluate,
    /// The candidate replaces the deployed model.
    Deploy,
}

/// State of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// The stage's trigger has fired; the stage waits for its turn.
    Waiting,
    /// The stage's input is committed and can be read.
    Ready,
    /// The stage gathers its samples.
    Starting,
    /// The stage works.
    Running,
    /// The stage is done.
    Completed,
    /// The stage failed; `detail` says why.
    Failed,
}

impl StageState {
    /// Whether the stage is over.
    pub fn ended(self) -> bool {
        matches!(self, StageState::Completed | StageState::Failed)
    }
}

/// A stage with the state that it went into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMoved {
    /// The model that is learned.
    pub model: ModelId,
    /// The stage.
    pub stage: StageKind,
    /// Its new state.
    pub state: StageState,
    /// Labelled samples of the task when the trigger fired.
    pub labelled: i64,
    /// The stream's clock when the trigger fired, microseconds since 1970.
    pub clock: i64,
    /// Whether the stage belongs to the initial training.
    pub initial: bool,
    /// Labels of the task since the drift began, if drift was the trigger.
    pub recent: Option<u64>,
    /// The reason: the trigger's condition, the decision, or the failure.
    pub detail: String,
}
