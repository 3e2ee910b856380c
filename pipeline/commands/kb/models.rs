//! `perennial kb models` and `perennial kb relations`.

use std::collections::BTreeMap;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::flow::Remodeling;
use perennial_operators::{LabelKind, ModelId, TaskId};
use serde_json::{Value, json};

use super::figures::model_figures;
use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{number, print, print_json, right, table};

pub(crate) fn models(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let models = view.models()?;
    if as_json {
        let models: Vec<Value> = models
            .iter()
            .map(|(model, record)| {
                json!({
                    "task": task_name(&tasks, model),
                    "version": model.version,
                    "epoch": record.epoch,
                    "deployed": record.deployed,
                    "answers": answers(&tasks, model),
                    "trained": record.trained,
                    "evaluated": record.evaluated,
                })
            })
            .collect();
        return print_json(&models);
    }
    let [figure, loss] = model_figures(kind);
    let mut table = table(&[
        "task", "version", "epoch", "built", "samples", figure, loss, "before", "bytes", "state",
    ]);
    for (model, record) in &models {
        let evaluated = record.evaluated.as_ref();
        let state = match record.deployed {
            Some(_) if answers(&tasks, model) => "answers",
            Some(_) => "replaced",
            None => "refused",
        };
        table.add_row(vec![
            Cell::new(task_name(&tasks, model)),
            right(model.version),
            right(record.epoch),
            Cell::new(built(&tasks, record.trained.remodeling)),
            right(record.trained.samples),
            right(number(
                evaluated.and_then(|evaluated| evaluated.accuracy.or(evaluated.rmse)),
            )),
            right(number(evaluated.map(|evaluated| evaluated.log_loss))),
            right(number(
                evaluated.and_then(|evaluated| evaluated.incumbent_log_loss),
            )),
            right(record.trained.bytes),
            Cell::new(state),
        ]);
    }
    print(&format!("{table}\n"));
    Ok(())
}

/// How a model was built, with which relative.
fn built(tasks: &BTreeMap<TaskId, TaskRecord>, remodeling: Remodeling) -> String {
    let of = |task: &TaskId| tasks.get(task).map(|record| record.definition.name.clone());
    match remodeling {
        Remodeling::Scratch => "from scratch".to_string(),
        Remodeling::WarmStart { from } => {
            let name = of(&from.task).unwrap_or_else(|| "another site's".into());
            format!("warm start from {name} v{}", from.version)
        }
        Remodeling::Recent => "since drift".to_string(),
        Remodeling::Recalled { version } => format!("v{version} recalled"),
        Remodeling::Adopted { model } => {
            format!("adopted from another site, its v{}", model.version)
        }
        Remodeling::Pooled { with } => format!("pooled with {}", of(&with).unwrap_or_default()),
    }
}

pub(crate) fn relations(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let relations = view.relations()?;
    let name = |task: &TaskId| match tasks.get(task) {
        Some(record) => record.definition.name.to_string(),
        None => task.to_string(),
    };
    if as_json {
        let relations: Vec<Value> = relations
            .values()
            .map(|scored| {
                json!({
                    "task": name(&scored.task),
                    "model_of": name(&scored.model.task),
                    "version": scored.model.version,
                    "samples": scored.samples,
                    "accuracy": scored.accuracy,
                    "rmse": scored.rmse,
                    "log_loss": scored.log_loss,
                })
            })
            .collect();
        return print_json(&relations);
    }
    let [figure, loss] = model_figures(kind);
    let mut table = table(&["task", "model of", "version", "samples", figure, loss]);
    for scored in relations.values() {
        table.add_row(vec![
            Cell::new(name(&scored.task)),
            Cell::new(name(&scored.model.task)),
            right(scored.model.version),
            right(scored.samples),
            right(number(scored.accuracy.or(scored.rmse))),
            right(number(Some(scored.log_loss))),
        ]);
    }
    print(&format!("{table}\n"));
    Ok(())
}

fn answers(tasks: &BTreeMap<TaskId, TaskRecord>, model: &ModelId) -> bool {
    let task = tasks.get(&model.task);
    task.is_some_and(|record| record.deployed == Some(model.version))
}
