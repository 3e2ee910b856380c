//! Groups of samples that no task is defined for, until labels show what they are.
//!
//! Their attributes have unknown values, or, where attributes do not distinguish them, their
//! features lie in a [region](super::Region) far from all known tasks. A group has a place in a
//! bounded [table](super::Table), where its labels are [held](crate::unseen::hold()). When there
//! are enough of them, the tasks beside the group are evaluated on them in a [trial](super::Trial):
//! the group becomes an alias of one of these tasks, or a task of its own that learns from the held
//! labels. A group that is evicted for others leaves its labels to the tasks above it. So made-up
//! values cannot define any number of tasks, and no label is lost.

use serde::{Deserialize, Serialize};

use super::budget::{LabelRequest, RequestHistory};
use crate::data::{TaskDefinition, TaskPath};

/// A group of samples that belong together, and to no task that is defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenGroup {
    /// Path to the task that the group would be: all tasks above it are defined.
    pub path: TaskPath,
    /// Sequence number of its first sample.
    pub first: u64,
    /// Upper bound on the number of its samples.
    pub samples: u64,
    /// Error of this bound: at least `samples - error` samples are its own, the rest may be of
    /// groups that were evicted for it.
    pub error: u64,
    /// Number of labels held.
    pub labelled: u64,
    /// Number of labels at the last trial; 0 before the first.
    pub tried: u64,
    /// Whether a trial is under way.
    pub trying: bool,
}

impl UnseenGroup {
    /// Task that the group would be.
    pub fn task(&self) -> &TaskDefinition {
        self.path.leaf()
    }
}

/// A labelled sample that is held until its group is settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldSample {
    /// Sequence number.
    pub sequence: u64,
    /// Label: class number, or number.
    pub label: f32,
    /// The sample and its prediction, serialized.
    pub stored: Vec<u8>,
}

/// A group grew, or a trial of it began or ended.
///
/// Stored as [`KnowledgeChange::UnseenGrown`](crate::flow::KnowledgeChange::UnseenGrown).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnseenGrown {
    /// The group afterwards.
    pub group: UnseenGroup,
    /// Labelled samples added to it.
    pub labelled: Vec<HeldSample>,
}

/// A group was settled: it has an outcome, and its labels are released.
///
/// Stored as [`KnowledgeChange::UnseenSettled`](crate::flow::KnowledgeChange::UnseenSettled).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenSettled {
    /// Task that the group would have been, or is.
    pub task: TaskDefinition,
    /// Sequence number of its first sample.
    pub first: u64,
    /// Upper bound on the number of its samples.
    pub samples: u64,
    /// Number of labels that were held.
    pub labelled: u64,
    /// Outcome of the group.
    pub became: GroupOutcome,
}

/// Outcome of a group of unseen samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupOutcome {
    /// It became a task.
    Task,
    /// It became an alias of this task.
    Alias(TaskDefinition),
    /// It was dropped: its samples look like those of known tasks by now.
    Known,
    /// It was evicted for other groups.
    Forgotten,
}

/// Labels were requested.
///
/// Stored as [`KnowledgeChange::LabelsRequested`](crate::flow::KnowledgeChange::LabelsRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelsRequested {
    /// The requests, one a sample.
    pub requests: Vec<LabelRequest>,
    /// History of requests, these included.
    pub asked: RequestHistory,
}
