//! Seconds from the order to retrain to the last stage, with once, ten times and a hundred times
//! the history; the new samples are as many each time.
//!
//! `make bench BENCH=history`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use jiff::Timestamp;

use common::{Result, Spread, run_logged};

/// Labelled samples before those that are new: as many as the sites of the fleet retain.
const HISTORY: u64 = 60_000;
const TIMES: [u64; 3] = [1, 10, 100];
/// New samples, in one epoch: enough for each of the 30 sites to be ordered to train.
const NEW: u64 = 6_000;
/// How often what is compared is measured, in turn.
const ROUNDS: usize = 3;

/// What a run showed.
struct Measured {
    /// Seconds of the base task's training, judging and deployment.
    base: f64,
    /// Seconds until all tasks that were ordered to train had.
    all: f64,
    /// How many had.
    tasks: usize,
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for number in 1..=ROUNDS {
        println!("round {number} of {ROUNDS}");
        let measured = TIMES
            .iter()
            .map(|times| measure(folder.path(), times * HISTORY));
        rounds.push(measured.collect::<Result<_>>()?);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "history",
        "tasks",
        "base task",
        "ratio",
        "all tasks",
        "ratio",
    ]);
    for (at, times) in TIMES.iter().enumerate() {
        let seconds = |of: &dyn Fn(&Measured) -> f64| {
            let spread = Spread::of(&rounds, |round| of(&round[at]));
            let ratio = Spread::of(&rounds, |round| of(&round[at]) / of(&round[0]));
            [format!("{:.2} s", spread.middle), ratio.ratio("once")]
        };
        let (base, all) = (seconds(&|one| one.base), seconds(&|one| one.all));
        let history = format!("{} samples", times * HISTORY);
        let tasks = rounds[0][at].tasks.to_string();
        table.add_row([[history, tasks].as_slice(), &base, &all].concat());
    }
    println!("{table}");
    Ok(())
}

/// Runs the simulated fleet with so much history as its bootstrap, until the next models have come.
fn measure(folder: &Path, history: u64) -> Result<Measured> {
    let folder = folder.join(history.to_string());
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let config = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("configs/simulator.yaml");
    let settings = [
        format!("source.simulator.records={}", history + 2 * NEW),
        format!("bootstrap.records={history}"),
        "source.simulator.late_sites=0".to_string(),
        "memory.samples_per_task=2000".to_string(),
        "triggers.when=[new_samples >= 100]".to_string(),
        "training.min_new_samples=100".to_string(),
        format!("epoch.records={NEW}"),
        "predictions=null".to_string(),
    ];
    let settings: Vec<&str> = settings
        .iter()
        .flat_map(|set| ["--set", set.as_str()])
        .collect();
    run_logged(&folder, &config, &settings, "perennial::learning=debug")?;
    let log = std::fs::read_to_string(folder.join("errors"))?;
    stages(&log)
}

/// Reads the seconds of the second models' stages from the log.
fn stages(log: &str) -> Result<Measured> {
    let (mut base, mut all): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut tasks = BTreeSet::new();
    for line in log.lines() {
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let model = entry["fields"]["model"].as_str().unwrap_or_default();
        if !model.contains("version: 2 ") {
            continue;
        }
        let time: Timestamp = entry["timestamp"].as_str().unwrap_or_default().parse()?;
        let seconds = time.as_microsecond() as f64 / 1e6;
        all.push(seconds);
        if model.contains("TaskId(0)") {
            base.push(seconds);
        }
        tasks.insert(model.to_string());
    }
    let length = |times: &[f64]| match (times.first(), times.last()) {
        (Some(first), Some(last)) => Ok(last - first),
        _ => Err("the log says nothing of a second training"),
    };
    Ok(Measured {
        base: length(&base)?,
        all: length(&all)?,
        tasks: tasks.len(),
    })
}
