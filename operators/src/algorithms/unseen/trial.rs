//! Trials: tasks beside an unseen one are evaluated on its labelled samples.
//!
//! Inference carries a trial out and returns its result, from which a
//! [group](super::UnseenGroup) becomes an alias or a task.

use serde::{Deserialize, Serialize};

use crate::data::{TaskDefinition, TaskId, TaskPath};

/// Order to evaluate the tasks beside an unseen one on its labelled samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Task that the group would be.
    pub task: TaskId,
    /// Paths to the siblings: the tasks with the same parent.
    pub siblings: Vec<TaskPath>,
    /// Labelled samples of the group.
    pub samples: Vec<TrialSample>,
    /// Whether another trial follows when there are more labels.
    pub again: bool,
}

/// A labelled sample of an unseen task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSample {
    /// Feature values; NaN = missing.
    pub features: Vec<f32>,
    /// Label: class number, or number.
    pub label: f32,
    /// Loss of the prediction that was made of it, nats.
    pub loss: f32,
}

/// Result of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Task that the group would be.
    pub task: TaskId,
    /// Verdict on the group.
    pub verdict: Verdict,
}

/// Verdict of a trial on an unseen task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is a task of its own.
    New,
    /// It may be one of the tasks beside it: another trial decides.
    Unsure,
    /// It is this task.
    Alias(TaskDefinition),
}
