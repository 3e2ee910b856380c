//! `perennial kb memory`: what is retained.

use std::collections::BTreeSet;

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{Retained, View};
use perennial_operators::TaskId;
use serde_json::{Value, json};

use crate::error::Error;
use crate::terminal::{print, print_json, right, table};

/// Prints what every task retains, and what all may.
pub fn memory(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let retained = view.retained()?;
    let bound = view.memory()?;
    let sample_bytes = bound.map_or(0, |bound| bound.sample_bytes);
    let name = |task: &TaskId| match tasks.get(task) {
        Some(record) => record.definition.name.to_string(),
        None => task.to_string(),
    };
    let samples: usize = retained.values().map(|of| of.samples.len()).sum();
    let bytes = samples as u64 * sample_bytes;
    if as_json {
        let tasks: Vec<Value> = retained
            .iter()
            .map(|(task, of)| {
                json!({
                    "task": name(task),
                    "labelled": seen(of),
                    "samples": of.samples.len(),
                    "bytes": of.samples.len() as u64 * sample_bytes,
                    "classes": classes(of),
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
    let mut table = table(&["task", "labelled", "retained", "by class"]);
    for (task, of) in &retained {
        let by_class = classes(of).into_iter().map(|class| {
            let count = |key: &str| class[key].as_u64().unwrap_or(0);
            format!("{}/{}", count("samples"), count("labelled"))
        });
        table.add_row(vec![
            Cell::new(name(task)),
            right(seen(of)),
            right(of.samples.len()),
            Cell::new(by_class.collect::<Vec<_>>().join(" ")),
        ]);
    }
    print(&format!("{table}\n"));
    if let Some(bound) = bound {
        print(&format!(
            "{samples} samples, {bytes} of {} bytes; at most {} samples a task\n",
            bound.bytes, bound.samples_per_task,
        ));
    }
    Ok(())
}

/// What some tasks retain together.
pub fn of(view: &View<'_>, tasks: &BTreeSet<TaskId>) -> Result<Value, Error> {
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

fn seen(of: &Retained) -> u64 {
    of.classes.iter().map(|class| class.seen).sum()
}

/// For each class how many labelled samples there were, and how many are left.
fn classes(of: &Retained) -> Vec<Value> {
    let mut left = vec![0; of.classes.len()];
    for (class, _) in &of.samples {
        if let Some(left) = left.get_mut(*class) {
            *left += 1;
        }
    }
    let classes = of.classes.iter().zip(left);
    classes
        .map(|(class, left)| json!({"labelled": class.seen, "samples": left}))
        .collect()
}
