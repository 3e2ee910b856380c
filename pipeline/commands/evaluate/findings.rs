//! Findings of an evaluation, as JSON and as tables.

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
use crate::terminal::{json, number, right, signed, table};

/// Maximum number of tasks of a matrix that is shown as a table.
const SHOWN: usize = 12;

/// A task of the sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskFindings {
    /// Name of the task.
    pub task: String,
    /// Number of its samples for training.
    pub train: usize,
    /// Number of its samples for testing.
    pub test: usize,
}

/// A method with its results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Method {
    /// `perennial` or the name of a baseline.
    pub method: String,
    /// Figures of the matrix.
    #[serde(flatten)]
    pub figures: Figures,
    /// Accuracy or R²: one row a stage, one column a task.
    pub matrix: Matrix,
}

impl Method {
    /// A method with the figures of its matrix.
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

/// Findings of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// Name of the pipeline.
    pub name: String,
    /// What the tasks are made of.
    pub sequence: String,
    /// Seed of the choice of test samples.
    pub seed: u64,
    /// Number of labelled samples of the stream.
    pub samples: usize,
    /// Number of samples without a label, which are not used.
    pub unlabelled: u64,
    /// Number of unusable records.
    pub bad: u64,
    /// Number of samples with a value for none of the attributes of the sequence.
    pub without_task: usize,
    /// Tasks with too few samples.
    pub left_out: Vec<LeftOut>,
    /// Measure: `accuracy`, or `r2` where the label is a number.
    pub measure: &'static str,
    /// Value of the measure for an untrained predictor.
    pub untrained: f64,
    /// The same as `measure`, with its methods.
    #[serde(skip)]
    pub(super) measured: Measure,
    /// The tasks in the order of their arrival.
    pub tasks: Vec<TaskFindings>,
    /// Perennial, followed by the baselines.
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
        json(self)
    }

    /// Writes the findings as JSON to `result.json` in a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let file = folder.join("result.json");
        std::fs::write(&file, self.json()?).map_err(|error| Error::File(file, error))
    }

    /// The findings as text with tables.
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
        let (name, sequence, samples) = (&self.name, &self.sequence, self.samples);
        let tasks = self.tasks.len();
        let train: usize = self.tasks.iter().map(|task| task.train).sum();
        let test: usize = self.tasks.iter().map(|task| task.test).sum();
        let mut text = format!(
            "{name}: {tasks} tasks by {sequence}; {train} of {samples} samples to learn from, {test} \
             to test"
        );
        let left_out = [
            (self.bad, "bad records"),
            (self.unlabelled, "samples without a label"),
            (self.without_task as u64, "samples without a task"),
        ];
        for (count, what) in left_out.iter().filter(|(count, _)| *count > 0) {
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
            let description = match method.method.as_str() {
                "perennial" => "lifelong learning",
                "frozen" => "frozen: the first stage's model, never changed",
                "single" => "single: one model, refitted on all so far",
                "independent" => "independent: a model per task, on its own",
                "fine-tuned" => "fine-tuned: one model, continued on each stage alone",
                other => other,
            };
            table.add_row([
                Cell::new(description),
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

    /// Results of Perennial on each task: just before it was learned, just after, and at the end.
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
        for (index, task) in self.tasks.iter().enumerate() {
            let before = index.checked_sub(1).map(|stage| matrix[stage][index]);
            table.add_row([
                right(index + 1),
                Cell::new(&task.task),
                right(task.train),
                right(task.test),
                right(number(before)),
                right(number(Some(matrix[index][index]))),
                right(number(Some(matrix[last][index]))),
            ]);
        }
        table
    }
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
