//! `perennial kb lineage`: the history of a task.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::View;
use perennial_operators::algorithms::unseen::GroupOutcome;
use perennial_operators::flow::{KnowledgeChange, StageState};
use perennial_operators::{Epoch, LabelKind, TaskId};
use serde_json::{Value, json};

use super::describe::Describer;
use crate::error::Error;
use crate::terminal::{print_json, print_line};

pub(crate) fn lineage(
    view: &View<'_>,
    kind: LabelKind,
    wanted: &str,
    as_json: bool,
) -> Result<(), Error> {
    let mut history = History::of(view, wanted)?;
    let tasks = view.tasks()?;
    let describer = Describer::new(&tasks, kind);
    let mut lines = Vec::new();
    view.changes(Epoch(0), |epoch, change| {
        if history.includes(&change) {
            lines.push((epoch, describer.describe(&change)));
        }
        Ok(())
    })?;
    if as_json {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(epoch, what)| json!({"epoch": epoch, "what": what}))
            .collect();
        return print_json(&json!({
            "task": history.name,
            "requests": history.requests,
            "story": lines,
        }));
    }
    for (epoch, what) in lines {
        print_line(format!("{epoch:>8}  {what}"));
    }
    if history.requests > 0 {
        print_line(format!("{} of its labels were asked for", history.requests));
    }
    Ok(())
}

/// The changes of a task's history.
struct History {
    /// The task, and unseen tasks that became it.
    tasks: BTreeSet<TaskId>,
    name: String,
    /// Whether the first samples, and the first adapter, are included already.
    has_samples: bool,
    has_adapter: bool,
    /// Number of labels that were requested.
    requests: u64,
}

impl History {
    /// The history, still empty, of the task with the name or number `wanted`.
    fn of(view: &View<'_>, wanted: &str) -> Result<History, Error> {
        let mut names: BTreeMap<TaskId, String> = BTreeMap::new();
        let mut aliases: BTreeMap<TaskId, TaskId> = BTreeMap::new();
        view.changes(Epoch(0), |_, change| {
            let task = match &change {
                KnowledgeChange::TaskDefined(task) => task,
                KnowledgeChange::UnseenGrown(grown) => grown.group.task(),
                KnowledgeChange::UnseenSettled(settled) => {
                    if let GroupOutcome::Alias(known) = &settled.became {
                        aliases.insert(settled.task.task, known.task);
                    }
                    &settled.task
                }
                _ => return Ok(()),
            };
            names.insert(task.task, task.name.to_string());
            Ok(())
        })?;
        let found = names
            .into_iter()
            .find(|(task, name)| *name == wanted || task.to_string() == wanted);
        let Some((task, name)) = found else {
            return Err(Error::NotFound(format!(
                "there is no task \"{wanted}\"; perennial kb tasks lists them, and perennial kb unseen \
                 those that are none yet"
            )));
        };
        let others = aliases.iter().filter(|(_, known)| **known == task);
        Ok(History {
            tasks: others.map(|(other, _)| *other).chain([task]).collect(),
            name,
            has_samples: false,
            has_adapter: false,
            requests: 0,
        })
    }

    /// Whether a change belongs to the history. Label requests are only counted.
    fn includes(&mut self, change: &KnowledgeChange) -> bool {
        let is_it = |task: &TaskId| self.tasks.contains(task);
        match change {
            KnowledgeChange::TaskDefined(definition) => is_it(&definition.task),
            KnowledgeChange::UnseenGrown(grown) if is_it(&grown.group.task().task) => {
                grown.group.trying || !std::mem::replace(&mut self.has_samples, true)
            }
            KnowledgeChange::UnseenSettled(settled) => is_it(&settled.task.task),
            KnowledgeChange::LabelsRequested(requested) => {
                let requests = requested.requests.iter();
                let own = requests.filter(|request| request.task == self.name);
                self.requests += own.count() as u64;
                false
            }
            KnowledgeChange::AdapterMoved(moved) if is_it(&moved.task) => {
                !std::mem::replace(&mut self.has_adapter, true)
            }
            KnowledgeChange::DriftDetected(detected) => is_it(&detected.task),
            KnowledgeChange::ModelTrained(trained) => is_it(&trained.model.task),
            KnowledgeChange::ModelEvaluated(evaluated) => is_it(&evaluated.model.task),
            KnowledgeChange::ModelDeployed { model }
            | KnowledgeChange::ModelRetired { model }
            | KnowledgeChange::ModelRolledBack { model, .. } => is_it(&model.task),
            KnowledgeChange::TaskPinned { task, .. } => is_it(task),
            // The details of these states say why it trained, and what was decided.
            KnowledgeChange::StageMoved(moved) => {
                let has_reason = matches!(
                    moved.state,
                    StageState::Waiting | StageState::Completed | StageState::Failed
                );
                is_it(&moved.model.task) && has_reason && !moved.detail.is_empty()
            }
            _ => false,
        }
    }
}
