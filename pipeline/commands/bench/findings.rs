//! What a trial has shown, as JSON and as tables.

use std::fmt::Write;
use std::path::Path;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::options::BenchOptions;
use super::trial::FullSpeed;
use crate::error::Error;

/// Cells of the longest bar.
const WIDTH: f64 = 30.0;

/// What a trial has shown.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Worker threads of the dataflow.
    pub workers: u16,
    /// Predictions made at full speed, with the topic filled before.
    pub predicted: u64,
    /// Predictions a second at full speed.
    pub records_per_second: f64,
    /// The highest rate that was kept up with, samples a second; none if not even the lowest was.
    pub knee: Option<f64>,
    /// Rate after rate, up to the first that was not kept up with.
    pub steps: Vec<Step>,
}

/// A rate that was offered.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Samples a second.
    pub offered: f64,
    /// Whether the predictions were there a second after the last sample.
    pub kept_up: bool,
    /// From when a sample was produced to when its prediction could be read, milliseconds.
    pub p50_ms: Option<i64>,
    /// See [`Step::p50_ms`].
    pub p95_ms: Option<i64>,
    /// See [`Step::p50_ms`].
    pub p99_ms: Option<i64>,
}

impl BenchReport {
    pub(super) fn new(
        options: &BenchOptions<'_>,
        full: &FullSpeed,
        steps: Vec<Step>,
    ) -> BenchReport {
        let kept_up = steps.iter().filter(|step| step.kept_up);
        BenchReport {
            workers: options.workers,
            predicted: full.predicted,
            records_per_second: full.per_second(),
            knee: kept_up.map(|step| step.offered).next_back(),
            steps,
        }
    }

    /// Writes the findings as JSON.
    pub fn write(&self, file: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Failed(error.into()))?;
        std::fs::write(file, text).map_err(|error| Error::File(file.to_path_buf(), error))
    }

    /// The findings for people.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let (predicted, per_second) = (self.predicted, self.records_per_second);
        let workers = match self.workers {
            1 => "1 worker".to_string(),
            more => format!("{more} workers"),
        };
        let _ = writeln!(
            text,
            "full speed: {per_second:.0} records/s ({predicted} records, {workers})\n"
        );
        let _ = writeln!(text, "{}", self.table());
        let _ = match self.knee {
            Some(knee) => writeln!(text, "it keeps up with {knee:.0} samples/s"),
            None => writeln!(
                text,
                "it does not even keep up with the lowest of these rates"
            ),
        };
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["samples/s", "p50 ms", "p95 ms", "p99 ms", "p99"]);
        let most = self.steps.iter().filter_map(|step| step.p99_ms).max();
        for step in &self.steps {
            let ms = |figure: Option<i64>| figure.map_or("-".to_string(), |ms| ms.to_string());
            let share = step.p99_ms.unwrap_or(0) as f64 / most.unwrap_or(1).max(1) as f64;
            let bar = match step.kept_up {
                true => "█".repeat((share * WIDTH).ceil() as usize),
                false => "does not keep up".to_string(),
            };
            table.add_row([
                format!("{:.0}", step.offered),
                ms(step.p50_ms),
                ms(step.p95_ms),
                ms(step.p99_ms),
                bar,
            ]);
        }
        for column in table.column_iter_mut().take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
