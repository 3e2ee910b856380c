//! Unseen tasks: samples whose attributes have values that no task is defined for, in groups, until there are enough labels to
//! say what they are.
//!
//! Where attributes tell nothing, samples that look like none of known tasks make [regions](region), each with a group.
//!
//! A group asks for nothing but a place in a bounded [table]. Labels of its samples are [held](hold) with it. When there
//! are enough, they are [tried](crate::predict::predictor) on the tasks beside it: it may be one of them under another name, and is
//! then an alias; or else it becomes a task, and learns from what was held. A group that makes room for others leaves its
//! labels to the tasks above it. So nobody can define tasks with values made up, and no label is lost.

use serde::{Deserialize, Serialize};

use super::budget::{Asked, LabelRequest};
use crate::data::{TaskDefinition, TaskPath};

/// Samples that belong together and to no task that is defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenGroup {
    /// The tasks above it, which are defined, and last the task that it would be.
    pub path: TaskPath,
    /// The sequence number of the first of its samples.
    pub first: u64,
    /// At most so many samples came.
    pub samples: u64,
    /// So many of them may have been of groups that made room for it.
    pub error: u64,
    /// Labels that are held.
    pub labelled: u64,
    /// How many there were when it was last tried on other tasks.
    pub tried: u64,
    /// Whether that is under way.
    pub trying: bool,
}

impl UnseenGroup {
    /// The task that it would be.
    pub fn task(&self) -> &TaskDefinition {
        self.path.leaf()
    }
}

/// A labelled sample that waits until it is known what its group is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldSample {
    /// Its sequence number.
    pub sequence: u64,
    /// Its class number, or its number.
    pub label: f32,
    /// The sample and what was predicted of it, serialized.
    pub stored: Vec<u8>,
}

/// See [`KnowledgeChange::UnseenGrown`](crate::flow::KnowledgeChange::UnseenGrown).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnseenGrown {
    /// The group as it is then.
    pub group: UnseenGroup,
    /// Labelled samples that came in.
    pub labelled: Vec<HeldSample>,
}

/// See [`KnowledgeChange::UnseenSettled`](crate::flow::KnowledgeChange::UnseenSettled).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnseenSettled {
    /// The task that the group would have been, or is.
    pub task: TaskDefinition,
    /// The sequence number of the first of its samples.
    pub first: u64,
    /// At most so many samples came.
    pub samples: u64,
    /// Labels that were held.
    pub labelled: u64,
    /// What became of it.
    pub became: GroupOutcome,
}

/// What became of an unseen task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupOutcome {
    /// A task.
    Task,
    /// Another name of a task that there was.
    Alias(TaskDefinition),
    /// Known: its samples look like those of known tasks by now.
    Known,
    /// Nothing: it made room for others.
    Forgotten,
}

/// See [`KnowledgeChange::LabelsRequested`](crate::flow::KnowledgeChange::LabelsRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelsRequested {
    /// The samples.
    pub requests: Vec<LabelRequest>,
    /// What has been asked for until then.
    pub asked: Asked,
}
