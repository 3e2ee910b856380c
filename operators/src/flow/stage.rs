//! Training stages and their states.

use serde::{Deserialize, Serialize};

use crate::data::ModelId;

/// The stages of learning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// A model is fitted.
    Train,
    /// It is judged against the model that answers now.
    Evaluate,
    /// It takes over.
    Deploy,
}

/// The states of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Its trigger has fired; it waits for its turn.
    Waiting,
    /// What it works on is committed and can be read.
    Ready,
    /// Its samples are being gathered.
    Starting,
    /// It works.
    Running,
    /// It is done.
    Completed,
    /// It could not be done; the reason is with it.
    Failed,
}

impl StageState {
    /// Whether the stage is over.
    pub fn ended(self) -> bool {
        matches!(self, StageState::Completed | StageState::Failed)
    }
}

/// See [`KnowledgeChange::StageMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageMoved {
    /// The model that the stage is about.
    pub model: ModelId,
    /// Which stage.
    pub stage: StageKind,
    /// The state that it is in now.
    pub state: StageState,
    /// Labelled samples of the task when its trigger fired.
    pub labelled: i64,
    /// The stream's clock when its trigger fired, microseconds since 1970.
    pub clock: i64,
    /// Whether the stage belongs to the initial training.
    pub initial: bool,
    /// Where drift gave the order, how many labels of the task had come since.
    pub recent: Option<u64>,
    /// Why: the trigger's condition, what was decided, what failed.
    pub detail: String,
}
