//! Inference integration: how the models along a sample's path become one answer.

use rustc_hash::FxHashMap;

use crate::{ModelId, TaskId, TaskPath};

/// The models that answer now, at most one a task.
pub type Deployed = FxHashMap<TaskId, ModelId>;

/// `leaf` integration: the finest task of the path that has a model answers. A task without enough
/// data for a model thereby answers through its nearest ancestor.
pub fn leaf(path: &TaskPath, deployed: &Deployed) -> Option<ModelId> {
    path.nodes
        .iter()
        .rev()
        .find_map(|node| deployed.get(&node.task).copied())
}
