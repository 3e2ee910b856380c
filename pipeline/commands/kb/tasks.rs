//! `perennial kb tasks`: the tasks with their statistics and models.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::{LabelKind, TaskDifference, TaskId};
use serde_json::{Value, json};

use super::figures::version;
use crate::error::Error;
use crate::report::quality::Quality;
use crate::terminal::{number, print_json, print_line, right, table};

pub(crate) fn tasks(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let mut statistics = view.statistics()?;
    let records = view.tasks()?;
    for task in records.keys() {
        statistics.entry(*task).or_default();
    }
    let mut tasks: Vec<(&TaskId, &TaskRecord)> = records.iter().collect();
    // The base task comes first, whatever its name.
    tasks.sort_by_key(|(task, record)| (**task != TaskId::BASE, record.definition.name.clone()));
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
    let mut rows = table(&header);
    for (task, record) in tasks {
        let statistics = &statistics[task];
        let mut row = vec![
            Cell::new(task),
            Cell::new(&record.definition.name),
            right(statistics.labelled),
        ];
        let figures = quality(kind, statistics).figures();
        row.extend(figures.into_iter().map(|figure| right(number(figure))));
        let pinned = if record.pinned { " pinned" } else { "" };
        row.push(right(format!("{}{pinned}", version(record.deployed))));
        rows.add_row(row);
    }
    print_line(rows);
    Ok(())
}

/// Quality of the pipeline's own predictions for a task.
fn quality(kind: LabelKind, statistics: &TaskDifference) -> Quality {
    Quality::new(kind, statistics, &statistics.score)
}

/// What `kb tasks` and `kb show` print of a task as JSON.
pub(crate) fn task_json(
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
    let figures = json!(quality(kind, statistics));
    if let (Value::Object(fields), Value::Object(figures)) = (&mut value, figures) {
        fields.extend(figures);
    }
    value
}
