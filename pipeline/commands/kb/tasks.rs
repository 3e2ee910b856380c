//! `perennial kb tasks` and `perennial kb show`.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::{LabelKind, TaskDifference, TaskId};
use serde_json::{Value, json};

use super::figures::version;
use super::find::{family, find};
use super::{clusters, memory};
use crate::error::Error;
use crate::report::quality::Quality;
use crate::terminal::{number, print, print_json, right, table};

/// How a task's own predictions did.
fn quality(kind: LabelKind, statistics: &TaskDifference) -> Quality {
    Quality::new(kind, statistics, &statistics.score)
}

fn task_json(
    task: TaskId,
    record: &TaskRecord,
    kind: LabelKind,
    statistics: &TaskDifference,
) -> Value {
    let mut value = json!({
        "task": record.definition.name,
        "id": task.to_string(),
        "parent": record.definition.parent.map(|parent| parent.to_string()),
        "defined": record.defined,
        "model": record.deployed,
        "pinned": record.pinned,
        "labelled": statistics.labelled,
        "scored": statistics.score.count,
    });
    if let (Value::Object(to), Value::Object(figures)) =
        (&mut value, json!(quality(kind, statistics)))
    {
        to.extend(figures);
    }
    value
}

pub(crate) fn tasks(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let mut statistics = view.statistics()?;
    let tasks = view.tasks()?;
    for task in tasks.keys() {
        statistics.entry(*task).or_default();
    }
    let mut tasks: Vec<(&TaskId, &TaskRecord)> = tasks.iter().collect();
    tasks.sort_by_key(|(_, record)| record.definition.name.clone());
    // The base task is the root, whatever its name.
    tasks.sort_by_key(|(task, _)| **task != TaskId::BASE);
    if as_json {
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|(task, record)| task_json(**task, record, kind, &statistics[*task]))
            .collect();
        return print_json(&tasks);
    }
    let mut header = vec!["id", "task", "labelled"];
    header.extend(quality(kind, &TaskDifference::default()).names());
    header.push("model");
    let mut table = table(&header);
    for (task, record) in tasks {
        let statistics = &statistics[task];
        let mut row = vec![
            Cell::new(task),
            Cell::new(&record.definition.name),
            right(statistics.labelled),
        ];
        let figures = quality(kind, statistics).figures();
        row.extend(figures.into_iter().map(|figure| right(number(figure))));
        row.push(right(match record.pinned {
            true => format!("{} pinned", version(record.deployed)),
            false => version(record.deployed),
        }));
        table.add_row(row);
    }
    print(&format!("{table}\n"));
    Ok(())
}

pub(crate) fn show(
    view: &View<'_>,
    kind: LabelKind,
    wanted: &str,
    as_json: bool,
) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let (task, record) = find(&tasks, wanted)?;
    let statistics = view.statistics_of(*task)?;
    let children: Vec<String> = tasks
        .values()
        .filter(|other| other.definition.parent == Some(*task))
        .map(|other| other.definition.name.to_string())
        .collect();
    let models: Vec<Value> = view
        .models()?
        .into_iter()
        .filter(|(model, _)| model.task == *task)
        .map(|(_, record)| json!(record))
        .collect();
    let family = family(&tasks, *task);
    let mut value = task_json(*task, record, kind, &statistics);
    let features: Vec<Value> = statistics
        .moments
        .iter()
        .map(|moments| {
            json!({
                "count": moments.count,
                "mean": moments.mean(),
                "variance": moments.variance(),
            })
        })
        .collect();
    if let Some(centre) = clusters::centre(view.clusters()?.as_deref(), record) {
        value["centre"] = centre;
    }
    value["children"] = json!(children);
    value["confusion"] = json!(statistics.confusion);
    value["features"] = json!(features);
    value["memory"] = memory::of(view, &family)?;
    value["models"] = json!(models);
    if as_json {
        return print_json(&value);
    }
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            let value = match value {
                Value::String(text) => text,
                value => value.to_string(),
            };
            print(&format!("{name}: {value}\n"));
        }
    }
    Ok(())
}
