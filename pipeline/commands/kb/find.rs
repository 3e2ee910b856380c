//! Finding tasks by name, and their descendants.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::TaskRecord;
use perennial_operators::TaskId;

use crate::error::Error;

/// The task with the name or number `wanted`.
pub(crate) fn find<'a>(
    tasks: &'a BTreeMap<TaskId, TaskRecord>,
    wanted: &str,
) -> Result<(&'a TaskId, &'a TaskRecord), Error> {
    let is_wanted = |task: &TaskId, name: &str| name == wanted || task.to_string() == wanted;
    let mut found = tasks
        .iter()
        .filter(|(task, record)| is_wanted(task, &record.definition.name));
    match (found.next(), found.next()) {
        (Some(task), None) => Ok(task),
        (Some((one, _)), Some((other, _))) => Err(Error::NotFound(format!(
            "more than one task has the name \"{wanted}\": give a number instead, {one} or {other}"
        ))),
        (None, _) => Err(Error::NotFound(format!(
            "there is no task \"{wanted}\"; perennial kb tasks lists them"
        ))),
    }
}

/// A task and everything below it.
pub(crate) fn family(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> BTreeSet<TaskId> {
    let parent = |task: &TaskId| tasks.get(task).and_then(|record| record.definition.parent);
    let path_up = |from: TaskId| std::iter::successors(Some(from), parent);
    let is_below = |other: &&TaskId| path_up(**other).any(|above| above == task);
    tasks.keys().filter(is_below).copied().collect()
}
