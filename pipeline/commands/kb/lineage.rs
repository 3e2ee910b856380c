//! `perennial kb lineage`: how a task came to be what it is.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::algorithms::unseen::GroupOutcome;
use perennial_operators::flow::{KnowledgeChange, StageState};
use perennial_operators::{Epoch, LabelKind, TaskId};
use serde_json::json;

use super::describe::describe;
use crate::error::Error;
use crate::terminal::{print, print_json};

/// What of the past has been told.
struct Story {
    /// The task, and its other names.
    tasks: BTreeSet<TaskId>,
    name: String,
    /// Whether its first samples, and its first adapter, are told.
    has_grown: bool,
    has_learned: bool,
    /// Labels of it that were asked for.
    requests: u64,
}

impl Story {
    /// Whether a change is worth telling.
    fn tells(&mut self, change: &KnowledgeChange) -> bool {
        let is_it = |task: &TaskId| self.tasks.contains(task);
        match change {
            KnowledgeChange::TaskDefined(definition) => is_it(&definition.task),
            KnowledgeChange::UnseenGrown(grown) if is_it(&grown.group.task().task) => {
                grown.group.trying || !std::mem::replace(&mut self.has_grown, true)
            }
            KnowledgeChange::UnseenSettled(settled) => is_it(&settled.task.task),
            KnowledgeChange::LabelsRequested(requested) => {
                let of_it = requested
                    .requests
                    .iter()
                    .filter(|one| one.task == self.name);
                self.requests += of_it.count() as u64;
                false
            }
            KnowledgeChange::AdapterMoved(moved) if is_it(&moved.task) => {
                !std::mem::replace(&mut self.has_learned, true)
            }
            KnowledgeChange::DriftDetected(detected) => is_it(&detected.task),
            KnowledgeChange::ModelTrained(trained) => is_it(&trained.model.task),
            KnowledgeChange::ModelEvaluated(evaluated) => is_it(&evaluated.model.task),
            KnowledgeChange::ModelDeployed { model }
            | KnowledgeChange::ModelRetired { model }
            | KnowledgeChange::ModelRolledBack { model, .. } => is_it(&model.task),
            KnowledgeChange::TaskPinned { task, .. } => is_it(task),
            // Why it trained, and what was decided.
            KnowledgeChange::StageMoved(moved) => {
                let telling = matches!(
                    moved.state,
                    StageState::Waiting | StageState::Completed | StageState::Failed
                );
                is_it(&moved.model.task) && telling && !moved.detail.is_empty()
            }
            _ => false,
        }
    }
}

/// The task of that name or number, and the names that it had or has beside.
fn find(view: &View<'_>, wanted: &str) -> Result<(String, BTreeSet<TaskId>), Error> {
    let mut names: BTreeMap<TaskId, String> = BTreeMap::new();
    let mut aliases: BTreeMap<TaskId, TaskId> = BTreeMap::new();
    view.changes(Epoch(0), |_, change| {
        let task = match &change {
            KnowledgeChange::TaskDefined(task) => task,
            KnowledgeChange::UnseenGrown(grown) => grown.group.task(),
            KnowledgeChange::UnseenSettled(settled) => {
                if let GroupOutcome::Alias(old) = &settled.became {
                    aliases.insert(settled.task.task, old.task);
                }
                &settled.task
            }
            _ => return Ok(()),
        };
        names.insert(task.task, task.name.to_string());
        Ok(())
    })?;
    let found = names
        .iter()
        .find(|(task, name)| *name == wanted || task.to_string() == wanted);
    let Some((task, name)) = found else {
        let message = format!(
            "there is no task \"{wanted}\"; perennial kb tasks lists them, and perennial kb unseen those that are none yet"
        );
        return Err(Error::NotFound(message));
    };
    let others = aliases.iter().filter(|(_, old)| *old == task);
    let tasks = others.map(|(other, _)| *other).chain([*task]).collect();
    Ok((name.clone(), tasks))
}

pub fn lineage(view: &View<'_>, kind: LabelKind, wanted: &str, as_json: bool) -> Result<(), Error> {
    let (name, tasks) = find(view, wanted)?;
    let records: BTreeMap<TaskId, TaskRecord> = view.tasks()?;
    let mut story = Story {
        tasks,
        name,
        has_grown: false,
        has_learned: false,
        requests: 0,
    };
    let mut lines = Vec::new();
    view.changes(Epoch(0), |epoch, change| {
        if story.tells(&change) {
            lines.push((epoch, describe(&records, kind, &change)));
        }
        Ok(())
    })?;
    if as_json {
        let lines = lines.iter();
        let lines = lines.map(|(epoch, what)| json!({"epoch": epoch, "what": what}));
        return print_json(&json!({
            "task": story.name,
            "requests": story.requests,
            "story": lines.collect::<Vec<_>>(),
        }));
    }
    for (epoch, what) in lines {
        print(&format!("{epoch:>8}  {what}\n"));
    }
    if story.requests > 0 {
        print(&format!(
            "{} of its labels were asked for\n",
            story.requests
        ));
    }
    Ok(())
}
