//! `perennial kb models`: the models that were trained.

use std::collections::BTreeMap;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::flow::Remodeling;
use perennial_operators::{LabelKind, ModelId, TaskId};
use serde_json::{Value, json};

use super::figures::model_figures;
use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{number, print_json, print_line, right, table};

pub(crate) fn models(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let models = view.models()?;
    if as_json {
        let models: Vec<Value> = models
            .iter()
            .map(|(model, record)| {
                json!({
                    "task": task_name(&tasks, model.task),
                    "version": model.version,
                    "epoch": record.epoch,
                    "deployed": record.deployed,
                    "answers": is_deployed(&tasks, *model),
                    "trained": record.trained,
                    "evaluated": record.evaluated,
                })
            })
            .collect();
        return print_json(&models);
    }
    let [figure, loss] = model_figures(kind);
    let mut rows = table(&[
        "task", "version", "epoch", "built", "samples", figure, loss, "before", "bytes", "state",
    ]);
    for (model, record) in &models {
        let evaluated = record.evaluated.as_ref();
        let state = match record.deployed {
            Some(_) if is_deployed(&tasks, *model) => "answers",
            Some(_) => "replaced",
            None => "refused",
        };
        let incumbent_loss = evaluated.and_then(|evaluated| evaluated.incumbent_log_loss);
        rows.add_row(vec![
            Cell::new(task_name(&tasks, model.task)),
            right(model.version),
            right(record.epoch),
            Cell::new(built(&tasks, record.trained.remodeling)),
            right(record.trained.samples),
            right(number(
                evaluated.and_then(|evaluated| evaluated.accuracy.or(evaluated.rmse)),
            )),
            right(number(evaluated.map(|evaluated| evaluated.log_loss))),
            right(number(incumbent_loss)),
            right(record.trained.bytes),
            Cell::new(state),
        ]);
    }
    print_line(rows);
    Ok(())
}

/// How a model was built, and with which relative.
fn built(tasks: &BTreeMap<TaskId, TaskRecord>, remodeling: Remodeling) -> String {
    let name = |task: TaskId| {
        let record = tasks.get(&task);
        record.map(|record| record.definition.name.to_string())
    };
    match remodeling {
        Remodeling::Scratch => "from scratch".to_string(),
        Remodeling::WarmStart { from } => {
            let name = name(from.task).unwrap_or("another site's".to_string());
            format!("warm start from {name} v{}", from.version)
        }
        Remodeling::Recent => "since drift".to_string(),
        Remodeling::Recalled { version } => format!("v{version} recalled"),
        Remodeling::Adopted { model } => {
            format!("adopted from another site, its v{}", model.version)
        }
        Remodeling::Pooled { with } => format!("pooled with {}", name(with).unwrap_or_default()),
    }
}

fn is_deployed(tasks: &BTreeMap<TaskId, TaskRecord>, model: ModelId) -> bool {
    let task = tasks.get(&model.task);
    task.is_some_and(|record| record.deployed == Some(model.version))
}
