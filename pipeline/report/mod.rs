//! The report of a run, read from the knowledge base, as JSON and as tables.

pub(crate) mod plot;
pub mod quality;

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{Cell, Table};
use perennial_connectors::knowledge_base::{KnowledgeBase, Progress, TaskRecord};
use perennial_operators::flow::{StageKind, StageState};
use perennial_operators::{LabelKind, Score, TaskDifference, TaskId};
use serde::Serialize;

pub use self::quality::Quality;
use crate::config::Settings;
use crate::error::Error;
use crate::terminal::{json, number, right, table};

/// Maximum number of tasks in the table. The JSON has all.
const SHOWN: usize = 12;

/// A task in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Path in the task tree.
    pub task: String,
    /// The task above; none for the base task.
    pub parent: Option<String>,
    /// Number of predictions whose label is known.
    pub labelled: i64,
    /// Quality of these predictions.
    #[serde(flatten)]
    pub quality: Quality,
    /// Quality of the baselines on the same samples.
    pub baselines: BTreeMap<String, Quality>,
    /// Version of the task's own model, if it has one.
    pub model: Option<u32>,
}

/// A stage in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// Task of the model.
    pub task: String,
    /// Version of the model.
    pub version: u32,
    /// Kind of the stage.
    pub stage: StageKind,
    /// State of the stage.
    pub state: StageState,
    /// Detail of that state.
    pub detail: String,
}

/// What a run did since the beginning of its stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the pipeline.
    pub name: String,
    /// Number of records read, good and bad.
    pub records: u64,
    /// Number of unusable records.
    pub dead_letters: u64,
    /// Number of samples of the bootstrap.
    pub bootstrapped: u64,
    /// Number of samples predicted.
    pub predicted: u64,
    /// Number of predictions whose label is known.
    pub labelled: i64,
    /// Number of predictions whose label will never be known.
    pub unlabelled: u64,
    /// Number of samples recognized as unseen; none without a section `unseen`.
    pub unseen: Option<u64>,
    /// Quality of these predictions.
    #[serde(flatten)]
    pub quality: Quality,
    /// Quality of the baselines on the same samples.
    pub baselines: BTreeMap<String, Quality>,
    /// Confusion cells of all predictions: one row a label, one column a prediction. Empty where
    /// the label is a number.
    pub confusion: Vec<Vec<i64>>,
    /// The classes, in the order of the confusion cells.
    pub classes: Vec<String>,
    /// The tasks, those with the most labels first.
    pub tasks: Vec<TaskReport>,
    /// The stages, by task and version.
    pub stages: Vec<StageReport>,
    /// Number of models trained, refused ones included; at an edge also those of the cloud.
    pub models: u64,
    /// Number of deployed models.
    pub models_deployed: u64,
    /// Number of epochs committed.
    pub epochs: u64,
    /// Number of knowledge changes committed.
    pub changes: u64,
    /// Whether the end of the stream was reached.
    pub finished: bool,
    /// Seconds of all runs on the stream.
    pub seconds: f64,
    /// Seconds of these until the first models were deployed.
    pub bootstrap_seconds: f64,
    /// Records read a second, the initial training included.
    pub records_per_second: f64,
}

impl Report {
    /// The report of what is committed in a knowledge base.
    pub fn read(settings: &Settings, knowledge: &KnowledgeBase) -> Result<Self, Error> {
        let view = knowledge.view();
        let progress = view.progress()?;
        let tasks = view.tasks()?;
        let statistics = view.statistics()?;
        let base = statistics.get(&TaskId::BASE).cloned().unwrap_or_default();
        let config = settings.config();
        let baseline_configs = config.report.baselines.iter();
        let names: Vec<&str> = baseline_configs.map(|baseline| baseline.name()).collect();
        let stages = view.stages()?;
        let stage_reports = stages.iter().map(|((model, stage), record)| StageReport {
            task: task_name(&tasks, model.task),
            version: model.version,
            stage: *stage,
            state: record.state(),
            detail: record.detail.clone(),
        });
        let deployed = tasks.values().filter(|task| task.deployed.is_some());
        let kind = settings.label_kind();
        let confusion = base.confusion.chunks(kind.width());
        Ok(Report {
            name: config.name.clone(),
            predicted: progress.samples - progress.bootstrapped,
            labelled: base.score.count,
            quality: Quality::new(kind, &base, &base.score),
            baselines: baselines(kind, &names, &base),
            confusion: confusion.map(<[i64]>::to_vec).collect(),
            classes: settings.classes.clone(),
            tasks: task_reports(kind, &tasks, &statistics, &names),
            stages: stage_reports.collect(),
            models: view.models()?.len() as u64,
            models_deployed: deployed.count() as u64,
            epochs: progress.header.map_or(0, |header| header.epoch.0 + 1),
            finished: crate::restore::is_finished(&progress),
            records_per_second: rate(&progress),
            records: progress.records,
            dead_letters: progress.dead_letters,
            bootstrapped: progress.bootstrapped,
            unlabelled: progress.unlabelled,
            unseen: settings.unseen.as_ref().map(|_| progress.unseen),
            changes: progress.changes,
            seconds: progress.seconds,
            bootstrap_seconds: progress.bootstrap_seconds,
        })
    }

    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        std::fs::write(path, json(self)?).map_err(|error| Error::File(path.into(), error))
    }

    /// The report as text with tables.
    pub fn tables(&self) -> String {
        let mut text = format!("\n{}\n\n", self.headline());
        text.push_str(&self.quality_table().to_string());
        text.push('\n');
        if !self.tasks.is_empty() {
            text.push_str(&format!("\n{}\n", self.task_table()));
            if self.tasks.len() > SHOWN {
                let more = self.tasks.len() - SHOWN;
                text.push_str(&format!(
                    "… and {more} more tasks; --report FILE.json has them all\n"
                ));
            }
        }
        text
    }

    fn headline(&self) -> String {
        let Report {
            name,
            records,
            bootstrapped,
            predicted,
            labelled,
            dead_letters,
            ..
        } = self;
        let unseen = match self.unseen {
            Some(unseen) => format!(" ({unseen} unseen)"),
            None => String::new(),
        };
        format!(
            "{name}: {records} records in {:.1} s ({:.0}/s): {bootstrapped} bootstrapped, \
             {predicted} predicted{unseen}, {labelled} labelled, {dead_letters} dead letters\n\
             {} tasks, {} models, {} deployed; {} epochs, {} knowledge changes",
            self.seconds,
            self.records_per_second,
            self.tasks.len(),
            self.models,
            self.models_deployed,
            self.epochs,
            self.changes,
        )
    }

    fn quality_table(&self) -> Table {
        let mut header = vec![""];
        header.extend(self.quality.names());
        let mut table = table(&header);
        table.add_row(quality_row("lifelong learning", &self.quality));
        for (name, quality) in &self.baselines {
            let description = match name.as_str() {
                "frozen" => "frozen: the first model, never changed",
                "single" => "single: one model for all tasks, retrained",
                other => other,
            };
            table.add_row(quality_row(description, quality));
        }
        table
    }

    fn task_table(&self) -> Table {
        let baselines: Vec<&str> = self.baselines.keys().map(String::as_str).collect();
        let mut header = vec!["task", "labelled", self.quality.names()[0]];
        header.extend(&baselines);
        header.push("model");
        let mut table = table(&header);
        for task in self.tasks.iter().take(SHOWN) {
            let mut row = vec![
                Cell::new(&task.task),
                right(task.labelled.to_string()),
                right(number(task.quality.figures()[0])),
            ];
            for name in &baselines {
                let quality = task.baselines.get(*name);
                row.push(right(number(
                    quality.and_then(|quality| quality.figures()[0]),
                )));
            }
            row.push(right(
                task.model
                    .map_or("parent's".to_string(), |version| format!("own, v{version}")),
            ));
            table.add_row(row);
        }
        table
    }
}

fn rate(progress: &Progress) -> f64 {
    if progress.seconds > 0.0 {
        progress.records as f64 / progress.seconds
    } else {
        0.0
    }
}

/// Name of a task, or its number if it is not defined here.
pub(crate) fn task_name(tasks: &BTreeMap<TaskId, TaskRecord>, task: TaskId) -> String {
    match tasks.get(&task) {
        Some(record) => record.definition.name.to_string(),
        None => task.to_string(),
    }
}

fn baselines(
    kind: LabelKind,
    names: &[&str],
    statistics: &TaskDifference,
) -> BTreeMap<String, Quality> {
    let scores = statistics.baselines.iter().copied();
    names
        .iter()
        .zip(scores.chain(std::iter::repeat(Score::default())))
        .map(|(name, score)| (name.to_string(), Quality::new(kind, statistics, &score)))
        .collect()
}

fn task_reports(
    kind: LabelKind,
    tasks: &BTreeMap<TaskId, TaskRecord>,
    statistics: &BTreeMap<TaskId, TaskDifference>,
    names: &[&str],
) -> Vec<TaskReport> {
    let name = |task: &TaskId| tasks.get(task).map(|task| task.definition.name.to_string());
    let empty = TaskDifference::default();
    let mut reports: Vec<TaskReport> = tasks
        .iter()
        .map(|(task, record)| {
            let statistics = statistics.get(task).unwrap_or(&empty);
            TaskReport {
                task: record.definition.name.to_string(),
                parent: record.definition.parent.as_ref().and_then(name),
                labelled: statistics.score.count,
                quality: Quality::new(kind, statistics, &statistics.score),
                baselines: baselines(kind, names, statistics),
                model: record.deployed,
            }
        })
        .collect();
    reports.sort_by(|a, b| b.labelled.cmp(&a.labelled).then(a.task.cmp(&b.task)));
    reports
}

fn quality_row(name: &str, quality: &Quality) -> Vec<Cell> {
    let figures = quality.figures();
    let cells = figures.into_iter().map(|figure| right(number(figure)));
    std::iter::once(Cell::new(name)).chain(cells).collect()
}
