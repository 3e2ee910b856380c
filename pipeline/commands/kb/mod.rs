//! `perennial kb`: looking into a knowledge base.

mod clusters;
mod describe;
mod edit;
mod lineage;
mod memory;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Subcommand;
use comfy_table::Cell;
use perennial_connectors::knowledge_base::{
    KnowledgeBase, KnowledgeError, StageRecord, TaskRecord, View,
};
use perennial_operators::flow::{KnowledgeChange, Remodeling, StageKind};
use perennial_operators::{Epoch, LabelKind, ModelId, TaskDifference, TaskId};
use serde::Serialize;
use serde_json::{Value, json};

use self::describe::describe;
use crate::cli::print;
use crate::error::Error;
use crate::quality::Quality;
use crate::report::{number, right, table, task_name};

/// What to look at.
#[derive(Subcommand)]
pub enum KbCommand {
    /// The tasks, with their statistics and models.
    Tasks,
    /// The models that were trained.
    Models,
    /// The stages of learning.
    Stages,
    /// How well the model of one task does on the samples of another.
    Relations,
    /// The clusters of features that tasks are made of, with their centres.
    Clusters,
    /// Every change, in order: what the knowledge base is the sum of.
    Changes {
        /// Begin at this epoch.
        #[arg(long, value_name = "EPOCH", default_value_t = 0)]
        from: u64,
    },
    /// How much of each task's past is retained, and how much may be.
    Memory,
    /// Unseen tasks, and what became of them.
    Unseen,
    /// How a task came to be what it is: from its first sample over trials, labels asked for and drift to its models.
    Lineage {
        /// The task's name or number, as `kb tasks` and `kb unseen` print them.
        task: String,
    },
    /// One task, whole.
    Show {
        /// The task's name or number, as `kb tasks` prints them.
        task: String,
    },
    /// Let an earlier model of a task answer again; a run must not be using the state.
    Rollback {
        /// The task's name or number.
        task: String,
        /// The version to go back to; left out, the one before, or none of its own where there was none.
        #[arg(long, value_name = "VERSION")]
        to: Option<u32>,
    },
    /// Keep the model of a task as it is, whatever is learned; a run must not be using the state.
    Pin {
        /// The task's name or number.
        task: String,
    },
    /// Let a pinned task learn again; a run must not be using the state.
    Unpin {
        /// The task's name or number.
        task: String,
    },
    /// Check that every pointer resolves, every model matches its hash, and the counts equal a recount.
    Verify,
}

/// Carries a command out.
pub fn execute(command: KbCommand, state: &Path, as_json: bool) -> Result<(), Error> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let kind = || Ok::<_, KnowledgeError>(knowledge.label()?.kind());
    match command {
        KbCommand::Tasks => tasks(&view, kind()?, as_json),
        KbCommand::Models => models(&view, kind()?, as_json),
        KbCommand::Stages => stages(&view, as_json),
        KbCommand::Relations => relations(&view, kind()?, as_json),
        KbCommand::Clusters => clusters::clusters(&view, as_json),
        KbCommand::Changes { from } => changes(&view, kind()?, Epoch(from), as_json),
        KbCommand::Memory => memory::memory(&view, as_json),
        KbCommand::Unseen => unseen::unseen(&view, as_json),
        KbCommand::Lineage { task } => lineage::lineage(&view, kind()?, &task, as_json),
        KbCommand::Show { task } => show(&view, kind()?, &task, as_json),
        KbCommand::Verify => verify(&view, as_json),
        KbCommand::Rollback { task, to } => edit::roll_back(state, &task, to),
        KbCommand::Pin { task } => edit::pin(state, &task, true),
        KbCommand::Unpin { task } => edit::pin(state, &task, false),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Failed(error.into()))?;
    print(&format!("{text}\n"));
    Ok(())
}

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

fn tasks(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
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

fn version(version: Option<u32>) -> String {
    version.map_or("–".to_string(), |version| format!("v{version}"))
}

/// What the two figures of a model are called: how often or how far it was off, and its mean loss in nats.
fn model_figures(kind: LabelKind) -> [&'static str; 2] {
    match kind {
        LabelKind::Classes(_) => ["accuracy", "log loss"],
        LabelKind::Number => ["RMSE", "loss"],
    }
}

fn models(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
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

fn relations(view: &View<'_>, kind: LabelKind, as_json: bool) -> Result<(), Error> {
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

fn stages(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let stages = view.stages()?;
    let mut stages: Vec<(&(ModelId, StageKind), &StageRecord)> = stages.iter().collect();
    stages.sort_by_key(|(key, record)| (record.states.first().map(|(_, epoch)| *epoch), **key));
    if as_json {
        let stages: Vec<Value> = stages
            .iter()
            .map(|((model, stage), record)| {
                json!({
                    "task": task_name(&tasks, model),
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
    let mut table = table(&["epoch", "task", "version", "stage", "state", "detail"]);
    for ((model, stage), record) in stages {
        let stage = format!("{stage:?}").to_lowercase();
        table.add_row(vec![
            right(record.states.last().map_or(Epoch(0), |(_, epoch)| *epoch)),
            Cell::new(task_name(&tasks, model)),
            right(model.version),
            Cell::new(stage),
            Cell::new(format!("{:?}", record.state())),
            Cell::new(&record.detail),
        ]);
    }
    print(&format!("{table}\n"));
    Ok(())
}

/// A line of `kb changes --json`. It is not made by way of a JSON value, which does not hold the
/// 128-bit sums of statistics.
#[derive(Serialize)]
struct Line {
    change: KnowledgeChange,
    epoch: Epoch,
}

fn changes(view: &View<'_>, kind: LabelKind, from: Epoch, as_json: bool) -> Result<(), Error> {
    let tasks = view.tasks()?;
    let mut failed = None;
    view.changes(from, |epoch, change| {
        let line = if as_json {
            serde_json::to_string(&Line { change, epoch })
        } else {
            Ok(format!("{epoch:>8}  {}", describe(&tasks, kind, &change)))
        };
        match line {
            Ok(line) => print(&format!("{line}\n")),
            Err(error) => failed = Some(error),
        }
        Ok(())
    })?;
    failed.map_or(Ok(()), |error| Err(Error::Failed(error.into())))
}

/// A task by its name or number.
fn find<'a>(
    tasks: &'a BTreeMap<TaskId, TaskRecord>,
    wanted: &str,
) -> Result<(&'a TaskId, &'a TaskRecord), Error> {
    let is_wanted = |task: &TaskId, name: &str| name == wanted || task.to_string() == wanted;
    tasks
        .iter()
        .find(|(task, record)| is_wanted(task, &record.definition.name))
        .ok_or_else(|| {
            Error::NotFound(format!(
                "there is no task \"{wanted}\"; perennial kb tasks lists them"
            ))
        })
}

fn show(view: &View<'_>, kind: LabelKind, wanted: &str, as_json: bool) -> Result<(), Error> {
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

/// A task and everything below it.
fn family(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> BTreeSet<TaskId> {
    let below = |other: &&TaskId| {
        let mut current = Some(**other);
        while let Some(task_above) = current.filter(|current| *current != task) {
            let record = tasks.get(&task_above);
            current = record.and_then(|record| record.definition.parent);
        }
        current.is_some()
    };
    tasks.keys().filter(below).copied().collect()
}

fn verify(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let findings = view.verify()?;
    if as_json {
        print_json(&findings)?;
    } else if findings.is_empty() {
        let progress = view.progress()?;
        let epochs = progress.header.map_or(0, |header| header.epoch.0 + 1);
        print(&format!(
            "sound: {} changes in {epochs} epochs\n",
            progress.changes
        ));
    }
    match findings.first() {
        None => Ok(()),
        Some(first) => Err(Error::Unsound(format!(
            "{} findings, the first: {}: {}",
            findings.len(),
            first.subject,
            first.problem
        ))),
    }
}
