//! `perennial kb show`: everything about one task.

use perennial_connectors::knowledge_base::View;
use perennial_operators::LabelKind;
use serde_json::{Value, json};

use super::find::{family, find};
use super::tasks::task_json;
use super::{clusters, memory};
use crate::error::Error;
use crate::terminal::{print_json, print_line};

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
    let mut value = task_json(*task, record, kind, &statistics);
    if let Some(centre) = clusters::centre(view.clusters()?.as_deref(), record) {
        value["centre"] = centre;
    }
    value["children"] = json!(children);
    value["confusion"] = json!(statistics.confusion);
    value["features"] = json!(features);
    value["memory"] = memory::memory_of(view, &family(&tasks, *task))?;
    value["models"] = json!(models);
    if as_json {
        return print_json(&value);
    }
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            match value {
                Value::String(text) => print_line(format!("{name}: {text}")),
                value => print_line(format!("{name}: {value}")),
            }
        }
    }
    Ok(())
}
