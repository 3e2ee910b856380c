//! Tasks: contexts with predictions of their own, as nodes of a tree.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Levels of the task tree: each one divides the tasks of the level above.
#[derive(Clone, Debug)]
pub struct TaskLevels {
    /// Levels, from coarse to fine.
    pub levels: Vec<Level>,
}

/// One level of the task tree: the property that its tasks differ in.
#[derive(Clone, Debug)]
pub enum Level {
    /// Values of these attributes: column and name of each. The site is one of the attributes.
    Attributes(Vec<(usize, String)>),
    /// Cluster of the sample's features. At most one level of a tree is made of clusters.
    Cluster(ClusterPlan),
}

impl TaskLevels {
    /// Plan of the level that is made of clusters; none if there is no such level.
    pub fn cluster(&self) -> Option<&ClusterPlan> {
        self.levels.iter().find_map(|level| match level {
            Level::Attributes(_) => None,
            Level::Cluster(plan) => Some(plan),
        })
    }
}

/// Plan for the clusters of a level: their features and number.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Column and name of each feature.
    pub features: Vec<(usize, String)>,
    /// Number of clusters; none to choose it by the data.
    pub k: Option<usize>,
}

/// Identifier of a task, a node of the task tree.
///
/// It is a hash of the node's path, so that every worker, process and site computes the same
/// identifier on its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskId(pub u64);

impl TaskId {
    /// Root of every task tree: the task of all samples.
    pub const BASE: TaskId = TaskId(0);

    /// Child of this task for some attributes' names and values. The names are part of the
    /// identity, so that a season and a city of the same name differ.
    #[must_use]
    pub fn child(self, values: &[(String, String)]) -> TaskId {
        // FNV-1a over length-prefixed parts: stable over builds and platforms, which the hashers of
        // the standard library and of rustc-hash do not promise.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ self.0;
        let mut add = |bytes: &[u8]| {
            for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        add(&self.0.to_le_bytes());
        for (attribute, value) in values {
            add(attribute.as_bytes());
            add(value.as_bytes());
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

/// Definition of a task: its place in the tree and its name.
///
/// ```
/// use perennial_operators::{TaskDefinition, TaskId};
///
/// let hot = TaskDefinition::base().child(&[("season".into(), "hot".into())]);
/// let athens = hot.child(&[("city".into(), "athens".into())]);
/// assert_eq!(&*athens.name, "season=hot > city=athens");
/// assert_eq!(hot.parent, Some(TaskId::BASE));
/// assert_eq!(athens.parent, Some(hot.task));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// The task.
    pub task: TaskId,
    /// Parent task; none for the base task.
    pub parent: Option<TaskId>,
    /// Name in logs and tables: the path from the top, `season=hot, cooling=none > city=athens`.
    /// Attributes and values with the characters between these parts are in quotes, so that no two
    /// tasks have one name.
    pub name: Arc<str>,
}

impl TaskDefinition {
    /// Definition of the base task.
    pub fn base() -> Self {
        TaskDefinition {
            task: TaskId::BASE,
            parent: None,
            name: "base".into(),
        }
    }

    /// Whether another definition is of the same task. Quotes in names do not count: older versions
    /// wrote none.
    pub fn is_same(&self, other: &TaskDefinition) -> bool {
        (self.task, self.parent) == (other.task, other.parent)
            && (self.name == other.name || self.bare_name() == other.bare_name())
    }

    /// The name without quotes, by which tasks of older versions are compared.
    pub fn bare_name(&self) -> String {
        let name = self.name.chars();
        name.filter(|c| !matches!(c, '"' | '\\')).collect()
    }

    /// Definition of the child for some attributes' names and values.
    #[must_use]
    pub fn child(&self, values: &[(String, String)]) -> Self {
        let own = values
            .iter()
            .map(|(attribute, value)| format!("{}={}", quoted(attribute), quoted(value)))
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

/// A part of a name, in quotes if it has characters that separate parts.
fn quoted(part: &str) -> Cow<'_, str> {
    let is_special = |c: char| matches!(c, ',' | '=' | '>' | '"') || c.is_control();
    if part.contains(is_special) || part.trim() != part {
        format!("{part:?}").into()
    } else {
        part.into()
    }
}

/// Path from the base task to the finest task of a sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPath {
    /// Tasks from coarse to fine, the base task first; never empty.
    pub nodes: Vec<TaskDefinition>,
}

impl TaskPath {
    /// Finest task of the path.
    pub fn leaf(&self) -> &TaskDefinition {
        &self.nodes[self.nodes.len() - 1]
    }
}

/// Identifier of a model: its task, and its version there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelId {
    /// Task that owns the model.
    pub task: TaskId,
    /// Version; the first model of a task has 1.
    pub version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(of: &TaskDefinition, values: &[(&str, &str)]) -> TaskDefinition {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        of.child(&values.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn names_tell_tasks_apart_whatever_the_values() {
        let base = TaskDefinition::base();
        let season = child(&base, &[("season", "x")]);
        let tasks = [
            child(&base, &[("season", "x, zone=y")]),
            child(&base, &[("season", "x"), ("zone", "y")]),
            child(&base, &[("season", "x > room=q")]),
            child(&season, &[("room", "q")]),
            child(&base, &[("season", "\"x\"")]),
            child(&base, &[("season", "x ")]),
            season,
        ];
        let names: std::collections::BTreeSet<&str> =
            tasks.iter().map(|task| &*task.name).collect();
        assert_eq!(names.len(), tasks.len(), "{names:?}");
        assert_eq!(&*tasks[0].name, r#"season="x, zone=y""#);
        assert_eq!(&*tasks[3].name, "season=x > room=q");
    }

    #[test]
    fn names_of_older_versions_are_the_same_task() {
        let new = child(&TaskDefinition::base(), &[("season", "x > y")]);
        let old = TaskDefinition {
            name: "season=x > y".into(),
            ..new.clone()
        };
        assert!(new.is_same(&old) && old.is_same(&new) && new != old);
        assert!(!new.is_same(&child(&TaskDefinition::base(), &[("season", "x")])));
    }
}
