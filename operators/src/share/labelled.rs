//! The operator that shares labelled samples.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::policy::{SharePolicy, is_named};
use crate::data::{TaskId, TaskPath, TaskPseudonym};
use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, KnowledgeChange, Labelled, LabelledEpoch};

/// Emits what the policy shares of labelled samples, and the pseudonym of each of their tasks once.
/// `known` are the pseudonyms that were emitted before.
pub fn share<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    policy: SharePolicy,
    known: &[TaskPseudonym],
) -> Flow<'scope, Effect> {
    let naming = policy.naming();
    let mut named: FxHashSet<TaskId> = known
        .iter()
        .filter(|pseudonym| pseudonym.naming == naming)
        .map(|pseudonym| pseudonym.here.task)
        .collect();
    labelled.each("Share", move |epoch| {
        let mut effects = Vec::new();
        for batch in &epoch.batches {
            if policy.renames() {
                let pseudonyms = new_pseudonyms(&policy, naming, batch, &mut named);
                let changes = pseudonyms.into_iter().map(KnowledgeChange::TaskPseudonym);
                effects.extend(changes.map(Effect::from));
            }
            effects.extend(policy.samples(batch).map(Effect::Shared));
        }
        effects
    })
}

/// Pseudonyms of the tasks of labelled samples that are not in `named` yet.
fn new_pseudonyms(
    policy: &SharePolicy,
    naming: u64,
    labelled: &Labelled,
    named: &mut FxHashSet<TaskId>,
) -> Vec<TaskPseudonym> {
    let allocated = &labelled.predicted.allocated;
    if !is_named(&allocated.batch) {
        return Vec::new();
    }
    let mut first_rows: BTreeMap<u32, u32> = BTreeMap::new();
    for row in &labelled.rows {
        let group = allocated.group_of[*row as usize];
        first_rows.entry(group).or_insert(*row);
    }
    let mut pseudonyms = Vec::new();
    for (group, row) in first_rows {
        let path: &TaskPath = &allocated.groups[group as usize].path;
        if named.contains(&path.leaf().task) {
            continue;
        }
        let elsewhere = policy.elsewhere(&allocated.batch, row as usize);
        for (here, elsewhere) in path.nodes.iter().zip(elsewhere) {
            if named.insert(here.task) {
                pseudonyms.push(TaskPseudonym {
                    here: here.clone(),
                    elsewhere,
                    naming,
                });
            }
        }
        // Tasks further down have no name elsewhere, which need not be found out again.
        named.extend(path.nodes.iter().map(|task| task.task));
    }
    pseudonyms
}
