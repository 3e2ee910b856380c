//! Tasks by name, with their ancestors and descendants.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::TaskRecord;
use perennial_operators::TaskId;

use crate::error::Error;

/// A task by its name or number.
pub(crate) fn find<'a>(
    tasks: &'a BTreeMap<TaskId, TaskRecord>,
    wanted: &str,
) -> Result<(&'a TaskId, &'a TaskRecord), Error> {
    let is_wanted = |task: &TaskId, name: &str| name == wanted || task.to_string() == wanted;
    tasks
        .iter()
        .find(|(task, record)| is_wanted(task, &record.definition.name))
        .ok_or_else(|| {
            Error::NotFound(format!(
                "there is no task \"{wanted}\"; perennial kb tasks lists them"
            ))
        })
}

/// A task and everything below it.
pub(crate) fn family(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> BTreeSet<TaskId> {
    let below = |other: &&TaskId| {
        let mut current = Some(**other);
        while let Some(task_above) = current.filter(|current| *current != task) {
            let record = tasks.get(&task_above);
            current = record.and_then(|record| record.definition.parent);
        }
        current.is_some()
    };
    tasks.keys().filter(below).copied().collect()
}
