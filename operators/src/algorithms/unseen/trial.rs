//! Trials: a group's labelled samples tried on the tasks beside it.

use serde::{Deserialize, Serialize};

use crate::data::{TaskDefinition, TaskId, TaskPath};

/// An unseen task that is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The task that it would be.
    pub task: TaskId,
    /// The paths to the tasks beside it.
    pub beside: Vec<TaskPath>,
    /// Its labelled samples.
    pub samples: Vec<TrialSample>,
    /// Whether there will be another trial when there are more labels.
    pub again: bool,
}

/// A labelled sample of an unseen task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSample {
    /// Its features; NaN = missing.
    pub features: Vec<f32>,
    /// Its class number, or its number.
    pub label: f32,
    /// What the answer to it lost, nats.
    pub lost: f32,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// The task that the unseen one would be.
    pub task: TaskId,
    /// What it is.
    pub verdict: Verdict,
}

/// What an unseen task is, by a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// A task of its own.
    Apart,
    /// Perhaps one of those beside it.
    Unsure,
    /// This one.
    Same(TaskDefinition),
}
