//! Unseen tasks: samples whose attributes have values that no task is defined for, in groups, until there are enough labels to
//! say what they are.
//!
//! Where attributes tell nothing, samples that look like none of known tasks make [regions](region), each with a group.
//!
//! A group asks for nothing but a place in a bounded [table]. Labels of its samples are [held](hold) with it. When there
//! are enough, they are [tried](crate::infer) on the tasks beside it: it may be one of them under another name, and is
//! then an alias; or else it becomes a task, and learns from what was held. A group that makes room for others leaves its
//! labels to the tasks above it. So nobody can define tasks with values made up, and no label is lost.

pub mod group;
pub mod groups;
pub mod hold;
pub mod region;
pub mod request;
pub mod table;

use serde::{Deserialize, Serialize};

use self::request::{Asked, LabelRequest};
use crate::flow::{Labelled, Scored};
use crate::pending::Stored;
use crate::{Failure, TaskDefinition, TaskId, TaskPath};

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

impl HeldSample {
    /// A row of a batch and its label.
    fn new(scored: &Scored, row: u32, label: f32) -> Result<Self, Failure> {
        Ok(HeldSample {
            sequence: scored.allocated.batch.sequence(row as usize),
            label,
            stored: postcard::to_stdvec(&Stored::of_row(scored, row))?,
        })
    }

    /// The label as operators take it: of a sample of all tasks on its path, or of the first so many.
    fn release(&self, nodes: Option<usize>) -> Result<Labelled, Failure> {
        let stored: Stored = postcard::from_bytes(&self.stored)?;
        let (mut scored, rows) = stored.restore();
        if let Some(nodes) = nodes {
            scored.cut(nodes);
        }
        Ok(Labelled {
            scored: scored.into(),
            rows,
            labels: vec![self.label],
        })
    }
}

/// See [`KnowledgeChange::UnseenGrown`](crate::KnowledgeChange::UnseenGrown).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnseenGrown {
    /// The group as it is then.
    pub group: UnseenGroup,
    /// Labelled samples that came in.
    pub labelled: Vec<HeldSample>,
}

/// See [`KnowledgeChange::UnseenSettled`](crate::KnowledgeChange::UnseenSettled).
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
    pub became: Became,
}

/// What became of an unseen task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// A task.
    Task,
    /// Another name of a task that there was.
    Alias(TaskDefinition),
    /// Known: its samples look like those of known tasks by now.
    Known,
    /// Nothing: it made room for others.
    Forgotten,
}

/// See [`KnowledgeChange::LabelsRequested`](crate::KnowledgeChange::LabelsRequested).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelsRequested {
    /// The samples.
    pub requests: Vec<LabelRequest>,
    /// What has been asked for until then.
    pub asked: Asked,
}

/// What is known of unseen tasks from the next epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// A task is defined.
    Defined(TaskId),
    /// A task is that of a region, and not defined yet.
    Region(TaskId),
    /// The region of a task is no more.
    Dissolved(TaskId),
    /// A task is another.
    Alias(TaskId, TaskDefinition),
    /// The label of this sample is asked for.
    Requested(u64),
}
