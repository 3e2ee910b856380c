//! Findings of a benchmark, as JSON and as tables.

use std::fmt::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::options::BenchOptions;
use super::trial::FullSpeed;
use crate::error::Error;
use crate::terminal::table;

/// Number of characters of the longest bar.
const WIDTH: f64 = 30.0;

/// Findings of a benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Number of worker threads of the dataflow.
    pub workers: u16,
    /// Number of predictions made at full speed, from a topic that was filled before.
    pub predicted: u64,
    /// Predictions a second at full speed.
    pub records_per_second: f64,
    /// Highest rate, in samples a second, at which the pipeline kept up; none if it did not even at
    /// the lowest.
    pub knee: Option<f64>,
    /// All rates, up to the first at which the pipeline did not keep up.
    pub steps: Vec<Step>,
}

/// Findings at one rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Rate in samples a second.
    pub offered: f64,
    /// Whether the predictions had arrived a second after the last sample.
    pub kept_up: bool,
    /// Median latency: milliseconds from producing a sample to reading its prediction.
    pub p50_ms: Option<i64>,
    /// 95th percentile of the latency.
    pub p95_ms: Option<i64>,
    /// 99th percentile of the latency.
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

    /// The findings as text with a table.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let (predicted, per_second) = (self.predicted, self.records_per_second);
        let workers = match self.workers {
            1 => "1 worker".to_string(),
            workers => format!("{workers} workers"),
        };
        // Writing to a String cannot fail.
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
        let mut rows = table(&["samples/s", "p50 ms", "p95 ms", "p99 ms", "p99"]);
        let highest = self.steps.iter().filter_map(|step| step.p99_ms).max();
        let scale = highest.unwrap_or(1).max(1) as f64;
        for step in &self.steps {
            let ms = |latency: Option<i64>| latency.map_or("-".to_string(), |ms| ms.to_string());
            let bar = if step.kept_up {
                let share = step.p99_ms.unwrap_or(0) as f64 / scale;
                "█".repeat((share * WIDTH).ceil() as usize)
            } else {
                "does not keep up".to_string()
            };
            rows.add_row([
                format!("{:.0}", step.offered),
                ms(step.p50_ms),
                ms(step.p95_ms),
                ms(step.p99_ms),
                bar,
            ]);
        }
        // Numbers and their headers are aligned to the right.
        for column in rows.column_iter_mut().take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        rows
    }
}
