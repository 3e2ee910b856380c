//! The operator that shares labelled samples.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::policy::{SharePolicy, is_named};
use crate::data::{TaskId, TaskPath, TaskPseudonym};
use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, KnowledgeChange, Labelled, LabelledEpoch};

/// Gives out what leaves of labelled samples, and the names that tasks have where it goes, each once. `renamed` are those that were
/// given out before.
pub fn share<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    policy: SharePolicy,
    renamed: &[TaskPseudonym],
) -> Flow<'scope, Effect> {
    let naming = policy.naming();
    let renamed = renamed.iter().filter(|it| it.naming == naming);
    let mut renamed: FxHashSet<TaskId> = renamed.map(|it| it.here.task).collect();
    labelled.each("Share", move |epoch| {
        let mut effects = Vec::new();
        for part in &epoch.batches {
            if policy.renames() {
                let renamed = names(&policy, naming, part, &mut renamed);
                let renamed = renamed.into_iter().map(KnowledgeChange::TaskPseudonym);
                effects.extend(renamed.map(Effect::Change));
            }
            effects.extend(policy.samples(part).into_iter().map(Effect::Shared));
        }
        effects
    })
}

/// The names that are not in `known` yet of the tasks of labelled samples.
fn names(
    policy: &SharePolicy,
    naming: u64,
    part: &Labelled,
    known: &mut FxHashSet<TaskId>,
) -> Vec<TaskPseudonym> {
    let allocated = &part.predicted.allocated;
    if !is_named(&allocated.batch) {
        return Vec::new();
    }
    let mut met: BTreeMap<u32, u32> = BTreeMap::new();
    for row in &part.rows {
        met.entry(allocated.group_of[*row as usize]).or_insert(*row);
    }
    let mut renamed = Vec::new();
    for (group, row) in met {
        let path: &TaskPath = &allocated.groups[group as usize].path;
        if known.contains(&path.leaf().task) {
            continue;
        }
        let elsewhere = policy.elsewhere(&allocated.batch, row as usize);
        for (here, elsewhere) in path.nodes.iter().zip(elsewhere) {
            if known.insert(here.task) {
                let here = here.clone();
                renamed.push(TaskPseudonym {
                    here,
                    elsewhere,
                    naming,
                });
            }
        }
        // Those below have no name elsewhere, which need not be found out again.
        known.extend(path.nodes.iter().map(|task| task.task));
    }
    renamed
}
