//! `perennial kb stages`: training stages and how they ended.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{StageRecord, View};
use perennial_operators::flow::StageKind;
use perennial_operators::{Epoch, ModelId};
use serde_json::{Value, json};

use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{print_json, print_line, right, table};

pub(crate) fn stages(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let records = view.stages()?;
    let mut stages: Vec<(&(ModelId, StageKind), &StageRecord)> = records.iter().collect();
    stages.sort_by_key(|(key, record)| (record.states.first().map(|(_, epoch)| *epoch), **key));
    if as_json {
        let stages: Vec<Value> = stages
            .iter()
            .map(|((model, stage), record)| {
                json!({
                    "task": task_name(&tasks, model.task),
                    "version": model.version,
                    "stage": stage,
                    "state": record.state(),
                    "states": record.states,
                    "reason": record.reason,
                    "detail": record.detail,
                })
            })
            .collect();
        return print_json(&stages);
    }
    let mut rows = table(&["epoch", "task", "version", "stage", "state", "detail"]);
    for ((model, stage), record) in stages {
        let stage = format!("{stage:?}").to_lowercase();
        rows.add_row(vec![
            right(record.states.last().map_or(Epoch(0), |(_, epoch)| *epoch)),
            Cell::new(task_name(&tasks, model.task)),
            right(model.version),
            Cell::new(stage),
            Cell::new(format!("{:?}", record.state())),
            Cell::new(&record.detail),
        ]);
    }
    print_line(rows);
    Ok(())
}
