//! Records a second with 100 sites and with 100,000, each with an adapter, and what a site's task
//! takes of memory; and what neighbours cost and bring. All in one run; and how much memory the
//! session of a model takes.
//!
//! `make bench BENCH=fleet`. Set `PERENNIAL_BENCH_RECORDS` to scale the measured records.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::source::SimulatorConfig;

use common::{Result, Spread, TRAINING, mib, per_second, run, sessions, status_bytes};

/// Combinations of season and zone, each with a model of its own if it has a site.
const CONTEXTS: u32 = 200;
const FEW: u32 = 100;
const MANY: u32 = 100_000;
/// The default.
const NEIGHBOURS: usize = 128;
/// Samples of the bootstrap: enough for each context to train.
const BOOTSTRAP: u64 = 150_000;
/// How often what is compared is measured, in turn.
const ROUNDS: usize = 3;

/// What a run showed.
struct Measured {
    per_second: f64,
    accuracy: f64,
    tasks: u64,
    models: u64,
    peak_bytes: u64,
}

/// What is compared, measured one after the other.
struct Round {
    /// Without neighbours.
    alone: Measured,
    few: Measured,
    many: Measured,
}

impl Round {
    fn measure(folder: &Path, records: u64, workers: u32) -> Result<Round> {
        Ok(Round {
            alone: graph(folder, FEW, records, workers, 0)?,
            few: graph(folder, FEW, records, workers, NEIGHBOURS)?,
            many: graph(folder, MANY, records, workers, NEIGHBOURS)?,
        })
    }

    fn ratio(&self) -> f64 {
        self.many.per_second / self.few.per_second
    }

    /// What neighbours leave of the speed.
    fn left(&self) -> f64 {
        self.few.per_second / self.alone.per_second
    }

    fn bytes_per_task(&self) -> f64 {
        let bytes = self.many.peak_bytes.saturating_sub(self.few.peak_bytes);
        bytes as f64 / self.many.tasks.saturating_sub(self.few.tasks).max(1) as f64
    }
}

fn main() -> Result<()> {
    // `cargo bench` and `cargo test --benches` pass arguments that mean nothing here.
    let records: u64 = match std::env::var("PERENNIAL_BENCH_RECORDS") {
        Ok(text) => text.parse()?,
        Err(_) => 2_000_000,
    };
    let folder = tempfile::tempdir()?;
    println!("{CONTEXTS} contexts, 150 trees of depth 3, 17 features, {records} records");
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "records/s",
        "ratio",
        "accuracy",
        "peak memory",
        "a task",
    ]);
    for workers in [1, 2] {
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS {
            let round = Round::measure(folder.path(), records, workers)?;
            println!(
                "  {workers} workers, round {number} of {ROUNDS}: few {:.0} records/s, without neighbours {:.0}, many {:.0}",
                round.few.per_second, round.alone.per_second, round.many.per_second
            );
            rounds.push(round);
        }
        for row in compared(&rounds, workers) {
            table.add_row(row);
        }
    }
    println!("{table}");
    println!("{}", session_memory(folder.path())?);
    Ok(())
}

/// The rows of what is compared: medians over the rounds, of ratios too.
fn compared(rounds: &[Round], workers: u32) -> Vec<[String; 6]> {
    let row = |sites: &str, of: &dyn Fn(&Round) -> &Measured, ratio: String, task: String| {
        let first = of(&rounds[0]);
        let peak = rounds.iter().map(|round| of(round).peak_bytes).max();
        [
            format!(
                "{sites}, {} tasks, {} models, workers: {workers}",
                first.tasks, first.models
            ),
            format!("{:.0}", Spread::of(rounds, |r| of(r).per_second).middle),
            ratio,
            format!("{:.4}", first.accuracy),
            mib(peak.unwrap_or(0)),
            task,
        ]
    };
    let ratio = Spread::of(rounds, Round::ratio).ratio("few");
    let left = Spread::of(rounds, Round::left).ratio("without");
    let bytes = Spread::of(rounds, Round::bytes_per_task).middle;
    vec![
        row(
            &format!("{FEW} sites without neighbours"),
            &|round| &round.alone,
            String::new(),
            String::new(),
        ),
        row(
            &format!("{FEW} sites"),
            &|round| &round.few,
            left,
            String::new(),
        ),
        row(
            &format!("{MANY} sites"),
            &|round| &round.many,
            ratio,
            format!("{:.1} KiB", bytes / 1024.0),
        ),
    ]
}

fn simulator(sites: u32, records: u64) -> SimulatorConfig {
    SimulatorConfig {
        records: Some(BOOTSTRAP + records),
        sites,
        contexts: CONTEXTS,
        late_sites: 0.0,
        ..SimulatorConfig::default()
    }
}

fn config(sites: u32, records: u64, folder: &Path, neighbours: usize) -> String {
    format!(
        "name: fleet
source:
  simulator: {}
tasks:
  path: [[season, zone], [site]]
bootstrap:
  records: {BOOTSTRAP}
epoch:
  records: 16384
inference: {{neighbours: {neighbours}}}
{TRAINING}predictions:
  path: {}
",
        // YAML takes JSON as it is.
        serde_json::json!(simulator(sites, records)),
        folder.join("predictions.jsonl").display(),
    )
}

/// Runs the whole graph as users do, and takes what came after the first models answered. What is
/// left of the last run with so many sites makes room.
fn graph(
    folder: &Path,
    sites: u32,
    records: u64,
    workers: u32,
    neighbours: usize,
) -> Result<Measured> {
    let folder = folder.join(sites.to_string());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let config_path = folder.join("config.yaml");
    fs::write(&config_path, config(sites, records, &folder, neighbours))?;
    let (report, peak_bytes) = run(&folder, &config_path, &["--workers", &workers.to_string()])?;
    fs::remove_file(folder.join("predictions.jsonl"))?;
    Ok(Measured {
        per_second: per_second(&report),
        accuracy: report["accuracy"].as_f64().unwrap_or(f64::NAN),
        tasks: report["tasks"].as_array().map_or(0, Vec::len) as u64,
        models: report["models_deployed"].as_u64().unwrap_or(0),
        peak_bytes,
    })
}

/// What the sessions of all models of the last run with many sites take in this process.
fn session_memory(folder: &Path) -> Result<String> {
    let state = folder.join(MANY.to_string()).join("state");
    let runtime = Runtime::load()?;
    let config = simulator(MANY, 0);
    // What the first sessions bring once and for all is no part of any.
    let first = sessions(&state, &runtime, &config)?;
    let before = status_bytes(std::process::id(), "VmRSS");
    let second = sessions(&state, &runtime, &config)?;
    let grown = status_bytes(std::process::id(), "VmRSS").saturating_sub(before);
    let onnx = onnx_bytes(&state)?;
    drop(first);
    Ok(format!(
        "{} sessions: {} KiB each, {:.1} times the bytes of their models ({} KiB each)",
        second.len(),
        grown / 1024 / second.len().max(1) as u64,
        grown as f64 / onnx.max(1) as f64,
        onnx / 1024 / second.len().max(1) as u64,
    ))
}

/// The bytes of all models that answer.
fn onnx_bytes(state: &Path) -> Result<u64> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let view = knowledge.view();
    let tasks = view.tasks()?;
    let models = view.models()?;
    let answering = models.iter().filter(|(model, _)| {
        let task = tasks.get(&model.task);
        task.is_some_and(|task| task.deployed == Some(model.version))
    });
    Ok(answering.map(|(_, record)| record.trained.bytes).sum())
}
