//! Tasks: contexts with a prediction of their own, as nodes of a tree.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How tasks are made from samples: each level adds something to what sets a task apart.
#[derive(Clone, Debug)]
pub struct TaskLevels {
    /// The levels, from coarse to fine.
    pub levels: Vec<Level>,
}

/// What a level of the task tree adds.
#[derive(Clone, Debug)]
pub enum Level {
    /// The values of attributes: columns and names. The site is one, so that tasks can be made by origin.
    Attributes(Vec<(usize, String)>),
    /// The cluster that a sample's features are in; one level of a tree at most.
    Cluster(ClusterPlan),
}

impl TaskLevels {
    /// What clusters are to be made of, if a level is made of them.
    pub fn cluster(&self) -> Option<&ClusterPlan> {
        self.levels.iter().find_map(|level| match level {
            Level::Attributes(_) => None,
            Level::Cluster(plan) => Some(plan),
        })
    }
}

/// What clusters are to be made of.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Column and name of each feature.
    pub features: Vec<(usize, String)>,
    /// How many clusters; none to choose the number.
    pub k: Option<usize>,
}

/// A node of the task tree. The number is a hash of the node's path, so that every worker, every
/// process and every site gives the same task the same number without asking anybody.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskId(pub u64);

impl TaskId {
    /// The root of every task tree: the task of all samples.
    pub const BASE: TaskId = TaskId(0);

    /// The child of this task for some attribute values. The attributes' names belong to the
    /// identity, so that a season and a city of one name stay apart.
    #[must_use]
    pub fn child(self, values: &[(String, String)]) -> TaskId {
        // FNV-1a over length-prefixed parts: stable over builds and platforms, which the hashers of
        // the standard library and of rustc-hash do not promise.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.0;
        let mut eat = |bytes: &[u8]| {
            for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        eat(&self.0.to_le_bytes());
        for (attribute, value) in values {
            eat(attribute.as_bytes());
            eat(value.as_bytes());
        }
        // FNV's high bits mix slowly; the finalizer of SplitMix64 spreads them.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        TaskId((hash ^ (hash >> 31)).max(1))
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a task is: its place in the tree and the attribute values that set it apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// The task.
    pub task: TaskId,
    /// The task above it; none for the base task.
    pub parent: Option<TaskId>,
    /// The name for people: the path from the top, `season=hot, cooling=none > city=athens`.
    pub name: Arc<str>,
}

impl TaskDefinition {
    /// The definition of the base task.
    pub fn base() -> Self {
        TaskDefinition {
            task: TaskId::BASE,
            parent: None,
            name: "base".into(),
        }
    }

    /// The definition of a child of this task.
    #[must_use]
    pub fn child(&self, values: &[(String, String)]) -> Self {
        let own = values
            .iter()
            .map(|(attribute, value)| format!("{attribute}={value}"))
            .collect::<Vec<_>>()
            .join(", ");
        let name = match self.parent {
            None => own,
            Some(_) => format!("{} > {own}", self.name),
        };
        TaskDefinition {
            task: self.task.child(values),
            parent: Some(self.task),
            name: name.into(),
        }
    }
}

/// The way from the base task to the finest one that a sample belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPath {
    /// The base task first, the finest task last; never empty.
    pub nodes: Vec<TaskDefinition>,
}

impl TaskPath {
    /// The finest task of the path.
    pub fn leaf(&self) -> &TaskDefinition {
        &self.nodes[self.nodes.len() - 1]
    }
}

/// A model of a task: which task, and the how many-th model it trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelId {
    /// The task that owns the model.
    pub task: TaskId,
    /// Counts from 1.
    pub version: u32,
}
