//! `perennial kb relations`: how well the model of one task does on the samples of another.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::View;
use perennial_operators::LabelKind;
use serde_json::{Value, json};

use super::figures::model_figures;
use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{number, print_json, print_line, right, table};

pub(crate) fn relations(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let relations = view.relations()?;
    if as_json {
        let relations: Vec<Value> = relations
            .values()
            .map(|scored| {
                json!({
                    "task": task_name(&tasks, scored.task),
                    "model_of": task_name(&tasks, scored.model.task),
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
    let mut rows = table(&["task", "model of", "version", "samples", figure, loss]);
    for scored in relations.values() {
        rows.add_row(vec![
            Cell::new(task_name(&tasks, scored.task)),
            Cell::new(task_name(&tasks, scored.model.task)),
            right(scored.model.version),
            right(scored.samples),
            right(number(scored.accuracy.or(scored.rmse))),
            right(number(Some(scored.log_loss))),
        ]);
    }
    print_line(rows);
    Ok(())
}
