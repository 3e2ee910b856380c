//! `perennial kb memory`: how many samples are retained.

use std::collections::BTreeSet;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{Retained, View};
use perennial_operators::TaskId;
use serde_json::{Value, json};

use crate::error::Error;
use crate::report::task_name;
use crate::terminal::{print_json, print_line, right, table};

/// Prints how many samples each task retains, and the bound of all.
pub(crate) fn memory(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let retained = view.retained()?;
    let bound = view.memory()?;
    let sample_bytes = bound.map_or(0, |bound| bound.sample_bytes);
    let samples: usize = retained.values().map(|of_task| of_task.samples.len()).sum();
    let bytes = samples as u64 * sample_bytes;
    if as_json {
        let tasks: Vec<Value> = retained
            .iter()
            .map(|(task, of_task)| {
                json!({
                    "task": task_name(&tasks, *task),
                    "labelled": labelled(of_task),
                    "samples": of_task.samples.len(),
                    "bytes": of_task.samples.len() as u64 * sample_bytes,
                    "classes": class_counts(of_task)
                        .map(|(labelled, samples)| json!({"labelled": labelled, "samples": samples}))
                        .collect::<Vec<Value>>(),
                })
            })
            .collect();
        return print_json(&json!({
            "samples": samples,
            "bytes": bytes,
            "most_bytes": bound.map(|bound| bound.bytes),
            "most_samples_per_task": bound.map(|bound| bound.samples_per_task),
            "sample_bytes": sample_bytes,
            "tasks": tasks,
        }));
    }
    let mut rows = table(&["task", "labelled", "retained", "by class"]);
    for (task, of_task) in &retained {
        let by_class: Vec<String> = class_counts(of_task)
            .map(|(labelled, samples)| format!("{samples}/{labelled}"))
            .collect();
        rows.add_row(vec![
            Cell::new(task_name(&tasks, *task)),
            right(labelled(of_task)),
            right(of_task.samples.len()),
            Cell::new(by_class.join(" ")),
        ]);
    }
    print_line(rows);
    if let Some(bound) = bound {
        print_line(format!(
            "{samples} samples, {bytes} of {} bytes; at most {} samples a task",
            bound.bytes, bound.samples_per_task,
        ));
    }
    Ok(())
}

/// What some tasks retain together, as JSON.
pub(crate) fn memory_of(view: &View<'_>, tasks: &BTreeSet<TaskId>) -> Result<Value, Error> {
    let bound = view.memory()?;
    let mut samples = 0;
    for task in tasks {
        samples += view.samples_of(*task)?.len();
    }
    Ok(json!({
        "samples": samples,
        "bytes": samples as u64 * bound.map_or(0, |bound| bound.sample_bytes),
        "most_bytes_of_all_tasks": bound.map(|bound| bound.bytes),
        "most_samples_per_task": bound.map(|bound| bound.samples_per_task),
    }))
}

/// Number of labelled samples that a task has had.
fn labelled(of_task: &Retained) -> u64 {
    of_task.classes.iter().map(|class| class.seen).sum()
}

/// For each class, the number of labelled samples that there were, and of those retained.
fn class_counts(of_task: &Retained) -> impl Iterator<Item = (u64, u64)> {
    let mut retained = vec![0; of_task.classes.len()];
    for (class, _) in &of_task.samples {
        if let Some(count) = retained.get_mut(*class) {
            *count += 1;
        }
    }
    let classes = of_task.classes.iter().zip(retained);
    classes.map(|(class, retained)| (class.seen, retained))
}
