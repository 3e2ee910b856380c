//! The report: what a run did, read from the knowledge base, as JSON and as tables.

pub mod quality;

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{Cell, Table};
use perennial_connectors::knowledge_base::{KnowledgeBase, Progress, TaskRecord};
use perennial_operators::flow::{StageKind, StageState};
use perennial_operators::{LabelKind, ModelId, Score, TaskDifference, TaskId};
use serde::Serialize;

pub use self::quality::Quality;
use crate::config::Settings;
use crate::error::Error;
use crate::terminal::{number, right, table};

/// Tasks that the table shows; the JSON has them all.
const SHOWN: usize = 12;

/// A task in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Its path in the task tree.
    pub task: String,
    /// The task above it; none for the base task.
    pub parent: Option<String>,
    /// Predictions whose label is known.
    pub labelled: i64,
    /// How they did.
    #[serde(flatten)]
    pub quality: Quality,
    /// How the baselines did on the same samples.
    pub baselines: BTreeMap<String, Quality>,
    /// The version of its own model, if it has one.
    pub model: Option<u32>,
}

/// A stage in the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageReport {
    /// The task whose model it was about.
    pub task: String,
    /// The model's version.
    pub version: u32,
    /// Which stage.
    pub stage: StageKind,
    /// How it ended, or where it is.
    pub state: StageState,
    /// What it said last.
    pub detail: String,
}

/// What a run did, from the beginning of its stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The pipeline's name.
    pub name: String,
    /// Records read, good and bad.
    pub records: u64,
    /// Bad records.
    pub dead_letters: u64,
    /// Samples of the bootstrap.
    pub bootstrapped: u64,
    /// Samples predicted.
    pub predicted: u64,
    /// Predictions whose label is known.
    pub labelled: i64,
    /// Predictions whose label will never be known.
    pub unlabelled: u64,
    /// Samples that were taken for those of unseen tasks, where that is looked at.
    pub unseen: Option<u64>,
    /// How they did.
    #[serde(flatten)]
    pub quality: Quality,
    /// How the baselines did on the same samples.
    pub baselines: BTreeMap<String, Quality>,
    /// Confusion cells of all predictions: one row a label, one column a prediction. None where the label is a number.
    pub confusion: Vec<Vec<i64>>,
    /// The classes, in the order of the confusion cells.
    pub classes: Vec<String>,
    /// The tasks, those with most labels first.
    pub tasks: Vec<TaskReport>,
    /// The stages, by task and version.
    pub stages: Vec<StageReport>,
    /// Models trained, here or for an edge elsewhere, refused ones included.
    pub models: u64,
    /// Models that answer now.
    pub models_deployed: u64,
    /// Epochs committed.
    pub epochs: u64,
    /// Knowledge changes committed.
    pub changes: u64,
    /// Whether the stream has come to its end.
    pub finished: bool,
    /// Seconds that runs worked on the stream.
    pub seconds: f64,
    /// Seconds of these until the first models answered.
    pub bootstrap_seconds: f64,
    /// Records read by the second, the initial training included.
    pub records_per_second: f64,
}

impl Report {
    /// Reads the report of what is committed.
    pub fn read(settings: &Settings, knowledge: &KnowledgeBase) -> Result<Self, Error> {
        let view = knowledge.view();
        let progress = view.progress()?;
        let tasks = view.tasks()?;
        let statistics = view.statistics()?;
        let names: Vec<&str> = settings
            .config()
            .report
            .baselines
            .iter()
            .map(|baseline| baseline.name())
            .collect();
        let base = statistics.get(&TaskId::BASE).cloned().unwrap_or_default();
        let stages = view.stages()?;
        let stages = stages.iter().map(|((model, stage), record)| StageReport {
            task: task_name(&tasks, model),
            version: model.version,
            stage: *stage,
            state: record.state(),
            detail: record.detail.clone(),
        });
        let kind = settings.label_kind();
        Ok(Report {
            name: settings.config().name.clone(),
            predicted: progress.samples - progress.bootstrapped,
            labelled: base.score.count,
            quality: Quality::new(kind, &base, &base.score),
            baselines: baselines(kind, &names, &base),
            confusion: base
                .confusion
                .chunks(kind.width())
                .map(<[i64]>::to_vec)
                .collect(),
            classes: settings.classes.clone(),
            tasks: task_reports(kind, &tasks, &statistics, &names),
            stages: stages.collect(),
            models: view.models()?.len() as u64,
            models_deployed: tasks
                .values()
                .filter(|task| task.deployed.is_some())
                .count() as u64,
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
        let failed = |error| Error::File(path.into(), error);
        let mut text = serde_json::to_string_pretty(self).map_err(|e| failed(e.into()))?;
        text.push('\n');
        std::fs::write(path, text).map_err(failed)
    }

    /// The report for a terminal.
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
            "{name}: {records} records in {:.1} s ({:.0}/s): {bootstrapped} bootstrapped, {predicted} predicted{unseen}, {labelled} labelled, {dead_letters} dead letters\n{} tasks, {} models, {} deployed; {} epochs, {} knowledge changes",
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
            let explained = match name.as_str() {
                "frozen" => "frozen: the first model, never changed",
                "single" => "single: one model for all tasks, retrained",
                other => other,
            };
            table.add_row(quality_row(explained, quality));
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

/// The name of the task that a model is of.
pub fn task_name(tasks: &BTreeMap<TaskId, TaskRecord>, model: &ModelId) -> String {
    match tasks.get(&model.task) {
        Some(record) => record.definition.name.to_string(),
        None => model.task.to_string(),
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
    let figures = quality.figures().into_iter();
    std::iter::once(Cell::new(name))
        .chain(figures.map(|figure| right(number(figure))))
        .collect()
}
