//! What an evaluation has found, as JSON and as tables.

use std::fmt::Write;
use std::path::Path;

use comfy_table::{Cell, Table};
use serde::Serialize;

use super::figures::{Figures, Matrix};
use super::measure::Measure;
use super::plan::{LeftOut, Plan, Sequence};
use super::samples::Samples;
use crate::config::Settings;
use crate::error::Error;
use crate::terminal::{number, right, table};

/// Tasks of the largest matrix that is shown on a terminal.
const SHOWN: usize = 12;

/// A task of the sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskFindings {
    /// Its name.
    pub task: String,
    /// How many of its samples are learned from.
    pub train: usize,
    /// How many are tested.
    pub test: usize,
}

/// How a method did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Method {
    /// Perennial or a baseline.
    pub method: String,
    /// What is made of the matrix.
    #[serde(flatten)]
    pub figures: Figures,
    /// One row a stage, one column a task.
    pub matrix: Matrix,
}

impl Method {
    /// A method with its figures.
    pub fn new(
        method: &str,
        matrix: Matrix,
        measure: Measure,
        samples_transfer_ratio: f64,
    ) -> Method {
        Method {
            method: method.to_string(),
            figures: Figures::new(&matrix, measure, samples_transfer_ratio),
            matrix,
        }
    }
}

/// What an evaluation has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// The pipeline's name.
    pub name: String,
    /// What the tasks were made of.
    pub sequence: String,
    /// Seed of the choice of test samples.
    pub seed: u64,
    /// Labelled samples of the stream.
    pub samples: usize,
    /// Samples without a label, which were not used.
    pub unlabelled: u64,
    /// Records that could not be used.
    pub bad: u64,
    /// Samples that none of the attributes of the sequence has a value for.
    pub without_task: usize,
    /// Tasks with too few samples.
    pub left_out: Vec<LeftOut>,
    /// What is measured: `accuracy`, or `r2` where the label is a number.
    pub measure: &'static str,
    /// What an untrained predictor is worth by that.
    pub untrained: f64,
    /// The measure itself.
    #[serde(skip)]
    pub(super) measured: Measure,
    /// The tasks, in the order in which they arrived.
    pub tasks: Vec<TaskFindings>,
    /// Perennial, then the baselines.
    pub methods: Vec<Method>,
}

impl EvaluationReport {
    pub(super) fn new(
        settings: &Settings,
        measure: Measure,
        sequence: &Sequence,
        seed: u64,
        samples: &Samples,
        plan: &Plan,
        methods: Vec<Method>,
    ) -> EvaluationReport {
        let tasks = plan.tasks.iter().map(|task| TaskFindings {
            task: task.name.clone(),
            train: task.train.len(),
            test: task.test.len(),
        });
        EvaluationReport {
            name: settings.config().name.clone(),
            sequence: sequence.to_string(),
            seed,
            samples: samples.len(),
            unlabelled: samples.unlabelled,
            bad: samples.bad,
            without_task: plan.without,
            left_out: plan.left_out.clone(),
            measure: measure.key(),
            untrained: measure.untrained(),
            measured: measure,
            tasks: tasks.collect(),
            methods,
        }
    }

    /// The findings as JSON.
    pub fn json(&self) -> Result<String, Error> {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::Failed(error.into()))?;
        Ok(text + "\n")
    }

    /// Writes the findings as JSON to a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let file = folder.join("result.json");
        std::fs::write(&file, self.json()?).map_err(|error| Error::File(file, error))
    }

    /// The findings for people.
    pub fn tables(&self) -> String {
        let mut text = format!("\n{}\n", self.headline());
        let _ = writeln!(text, "\n{}", self.method_table());
        let _ = writeln!(text, "\n{}", self.task_table());
        if let Some(perennial) = self.methods.first().filter(|_| self.tasks.len() <= SHOWN) {
            let name = self.measured.name();
            let title = format!("{name} of perennial on each task (column) after each stage (row)");
            let _ = writeln!(text, "\n{title}\n{}", matrix_table(&perennial.matrix));
        }
        text
    }

    fn headline(&self) -> String {
        let EvaluationReport {
            name,
            sequence,
            samples,
            ..
        } = self;
        let tasks = self.tasks.len();
        let train: usize = self.tasks.iter().map(|task| task.train).sum();
        let test: usize = self.tasks.iter().map(|task| task.test).sum();
        let mut text = format!(
            "{name}: {tasks} tasks by {sequence}; {train} of {samples} samples to learn from, {test} to test"
        );
        let without = [
            (self.bad, "bad records"),
            (self.unlabelled, "samples without a label"),
            (self.without_task as u64, "samples without a task"),
        ];
        for (count, what) in without.iter().filter(|(count, _)| *count > 0) {
            let _ = write!(text, "\n{count} {what} left out");
        }
        for left in &self.left_out {
            let _ = write!(
                text,
                "\n{} left out: only {} samples",
                left.task, left.samples
            );
        }
        text
    }

    fn method_table(&self) -> Table {
        let average = format!("average {}", self.measured.name());
        let mut table = table(&[
            "",
            &average,
            "BWT",
            "FWT",
            "BWT (Ianvs)",
            "FWT (Ianvs)",
            "forgetting",
            "samples transfer ratio",
        ]);
        for method in &self.methods {
            let figures = &method.figures;
            let explained = match method.method.as_str() {
                "perennial" => "lifelong learning",
                "frozen" => "frozen: the first stage's model, never changed",
                "single" => "single: one model, refitted on all so far",
                "independent" => "independent: a model per task, on its own",
                "fine-tuned" => "fine-tuned: one model, continued on each stage alone",
                other => other,
            };
            table.add_row([
                Cell::new(explained),
                right(number(Some(figures.average.value()))),
                right(signed(figures.bwt)),
                right(signed(figures.fwt)),
                right(signed(figures.ianvs_bwt)),
                right(signed(figures.ianvs_fwt)),
                right(signed(figures.forgetting)),
                right(number(Some(figures.samples_transfer_ratio))),
            ]);
        }
        table
    }

    /// How Perennial did on each task: just before, just after and long after it was learned.
    fn task_table(&self) -> Table {
        let mut table = table(&[
            "",
            "task",
            "train",
            "test",
            "before",
            "learned",
            "at the end",
        ]);
        let Some(perennial) = self.methods.first() else {
            return table;
        };
        let matrix = &perennial.matrix;
        let last = matrix.len() - 1;
        for (at, task) in self.tasks.iter().enumerate() {
            let before = at.checked_sub(1).map(|stage| matrix[stage][at]);
            table.add_row([
                right(at + 1),
                Cell::new(&task.task),
                right(task.train),
                right(task.test),
                right(number(before)),
                right(number(Some(matrix[at][at]))),
                right(number(Some(matrix[last][at]))),
            ]);
        }
        table
    }
}

/// A figure that may be negative.
fn signed(value: f64) -> String {
    format!("{value:+.4}")
}

fn matrix_table(matrix: &Matrix) -> Table {
    let numbers: Vec<String> = (1..=matrix.len()).map(|task| task.to_string()).collect();
    let mut header = vec![""];
    header.extend(numbers.iter().map(String::as_str));
    let mut table = table(&header);
    for (stage, row) in numbers.iter().zip(matrix) {
        let cells = row.iter().map(|accuracy| right(format!("{accuracy:.3}")));
        table.add_row(std::iter::once(right(stage)).chain(cells));
    }
    table
}
