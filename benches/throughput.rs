//! Records a second of the whole graph, against the bare ceiling: the same ONNX sessions over
//! prepared batches in a loop with nothing else, at the batch size that is fastest. All in one run.
//!
//! `make bench BENCH=throughput`. Set `PERENNIAL_BENCH_RECORDS` to scale the measured records.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use common::{BOOTSTRAP, Result, Spread, TRAINING, mib, per_second, run, sessions};
use ndarray::{Array2, Axis, s};
use perennial_connectors::onnx::{Runtime, Session};
use perennial_connectors::source::{Simulator, SimulatorConfig};
use perennial_operators::flow::{EpochHeader, Phase};
use perennial_operators::ingest::Allocator;
use perennial_operators::{Epoch, Level, TaskId, TaskLevels};

const EPOCH: u64 = 16_384;
/// Rows that the ceiling is measured on: enough that the processor cannot learn their branches.
const CEILING_ROWS: u64 = 400_000;

/// A fleet for the bench.
struct Fleet {
    /// Combinations of season and zone, which are the tasks that own models.
    contexts: u32,
    sites: u32,
    /// Whether each site is a task of its own below them.
    site_tasks: bool,
}

/// What a run of the whole graph showed.
struct Measured {
    per_second: f64,
    models: u64,
    tasks: usize,
    peak_bytes: u64,
}

/// How often what is compared is measured, in turn, so that a machine that gets faster or slower
/// meanwhile does so for all.
const ROUNDS: usize = 5;

/// What is compared, measured one after the other.
struct Round {
    bare: Ceiling,
    one: Measured,
    two: Measured,
}

impl Round {
    fn measure(folder: &Path, fleet: &Fleet, records: u64) -> Result<Round> {
        let one = graph(folder, "one", fleet, records, 1)?;
        let bare = ceiling(&folder.join("one"), fleet)?;
        let two = graph(folder, "two", fleet, records, 2)?;
        fs::remove_dir_all(folder.join("one"))?;
        fs::remove_dir_all(folder.join("two"))?;
        Ok(Round { bare, one, two })
    }
}

fn main() -> Result<()> {
    // `cargo bench` and `cargo test --benches` pass arguments that mean nothing here.
    let records: u64 = match std::env::var("PERENNIAL_BENCH_RECORDS") {
        Ok(text) => text.parse()?,
        Err(_) => 2_000_000,
    };
    let folder = tempfile::tempdir()?;
    let fleet = Fleet {
        contexts: 50,
        sites: 50,
        site_tasks: false,
    };
    println!("50 tasks with a model each, 150 trees of depth 3, 17 features, {records} records");
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let round = Round::measure(folder.path(), &fleet, records)?;
        println!(
            "  round {number} of {ROUNDS}: bare {:.0} rows/s, graph {:.0} records/s, two workers {:.0}",
            round.bare.one_thread, round.one.per_second, round.two.per_second
        );
        rounds.push(round);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "records/s", "ratio", "peak memory"]);
    for row in compared(&rounds) {
        table.add_row(row);
    }
    let one = Spread::of(&rounds, |round| round.one.per_second).middle;
    for (sites, contexts) in [(10, 10), (1_000, 50), (10_000, 50)] {
        let fleet = Fleet {
            contexts,
            sites,
            site_tasks: sites > contexts,
        };
        let measured = graph(folder.path(), &sites.to_string(), &fleet, records, 1)?;
        table.add_row([
            format!(
                "{sites} finest tasks, {} models, 1 worker ({} nodes)",
                measured.models, measured.tasks
            ),
            format!("{:.0}", measured.per_second),
            format!("{:.2} of (a)", measured.per_second / one),
            mib(measured.peak_bytes),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// The rows of what is compared: medians over the rounds, of ratios too.
fn compared(rounds: &[Round]) -> Vec<[String; 4]> {
    let row = |name: String, figure: &dyn Fn(&Round) -> f64, ratio: String, memory: String| {
        let per_second = format!("{:.0}", Spread::of(rounds, figure).middle);
        [name, per_second, ratio, memory]
    };
    let peak = |of: &dyn Fn(&Round) -> u64| mib(rounds.iter().map(of).max().unwrap_or(0));
    let batch = rounds.first().map_or(0, |round| round.bare.batch);
    let one_of_bare = Spread::of(rounds, |r| r.one.per_second / r.bare.one_thread);
    let two_of_one = Spread::of(rounds, |r| r.two.per_second / r.one.per_second);
    let bare_two = Spread::of(rounds, |r| r.bare.two_threads / r.bare.one_thread);
    vec![
        row(
            format!("(b) bare ceiling, one thread, batches of {batch}"),
            &|r| r.bare.one_thread,
            String::new(),
            String::new(),
        ),
        row(
            "the same on two threads".to_string(),
            &|r| r.bare.two_threads,
            bare_two.ratio("(b)"),
            String::new(),
        ),
        row(
            "(a) whole graph, 1 worker".to_string(),
            &|r| r.one.per_second,
            one_of_bare.ratio("(b)"),
            peak(&|r| r.one.peak_bytes),
        ),
        row(
            "whole graph, 2 workers".to_string(),
            &|r| r.two.per_second,
            two_of_one.ratio("(a)"),
            peak(&|r| r.two.peak_bytes),
        ),
    ]
}

fn simulator(fleet: &Fleet, records: u64) -> SimulatorConfig {
    SimulatorConfig {
        records: Some(records),
        sites: fleet.sites,
        contexts: fleet.contexts,
        late_sites: 0.0,
        ..SimulatorConfig::default()
    }
}

fn config(fleet: &Fleet, records: u64, folder: &Path) -> String {
    let simulator = simulator(fleet, records + BOOTSTRAP);
    let path = if fleet.site_tasks {
        "[[season, zone], [site]]"
    } else {
        "[[season, zone]]"
    };
    format!(
        "name: throughput
source:
  simulator: {{records: {}, sites: {}, contexts: {}, late_sites: 0}}
tasks:
  path: {path}
bootstrap:
  records: {BOOTSTRAP}
epoch:
  records: {EPOCH}
{TRAINING}predictions:
  path: {}
",
        records + BOOTSTRAP,
        simulator.sites,
        simulator.contexts,
        folder.join("predictions.jsonl").display(),
    )
}

/// Runs the whole graph as users do, and takes what came after the first models answered.
fn graph(folder: &Path, name: &str, fleet: &Fleet, records: u64, workers: u32) -> Result<Measured> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    let config_path = folder.join("config.yaml");
    fs::write(&config_path, config(fleet, records, &folder))?;
    let (report, peak_bytes) = run(&folder, &config_path, &["--workers", &workers.to_string()])?;
    fs::remove_file(folder.join("predictions.jsonl"))?;
    Ok(Measured {
        per_second: per_second(&report),
        models: report["models_deployed"].as_u64().unwrap_or(0),
        tasks: report["tasks"].as_array().map_or(0, Vec::len),
        peak_bytes,
    })
}

/// The bare sessions: what they do on one thread, and on two at a time.
struct Ceiling {
    /// The fastest batch size on one thread.
    batch: usize,
    one_thread: f64,
    /// Both threads together, each with sessions of its own.
    two_threads: f64,
}

/// Measures the ceiling with the models that the run in `folder` made.
fn ceiling(folder: &Path, fleet: &Fleet) -> Result<Ceiling> {
    let config = simulator(fleet, CEILING_ROWS);
    let state = folder.join("state");
    let runtime = Runtime::load()?;
    let mut sessions = sessions(&state, &runtime, &config)?;
    let rows = rows_by_model(config.clone(), &sessions)?;
    let (mut batch, mut one_thread) = (0, 0.0);
    for size in [16, 32, 64, 80, 128, 256, 512] {
        let per_second = loop_over(&rows, &mut sessions, size)?;
        if per_second > one_thread {
            (batch, one_thread) = (size, per_second);
        }
    }
    let mut others = common::sessions(&state, &runtime, &config)?;
    let both = std::thread::scope(|scope| {
        let first =
            scope.spawn(|| loop_over(&rows, &mut sessions, batch).map_err(|e| e.to_string()));
        let second =
            scope.spawn(|| loop_over(&rows, &mut others, batch).map_err(|e| e.to_string()));
        [first.join(), second.join()]
    });
    let mut two_threads = 0.0;
    for each in both {
        two_threads += each.map_err(|_| "a thread of the bench has failed")??;
    }
    Ok(Ceiling {
        batch,
        one_thread,
        two_threads,
    })
}

/// Runs all rows through their models in batches, and returns rows/s.
fn loop_over(
    rows: &[(TaskId, Array2<f32>)],
    sessions: &mut BTreeMap<TaskId, Session>,
    batch: usize,
) -> Result<f64> {
    let classes = sessions.values().next().map_or(0, Session::classes);
    let mut said = Array2::zeros((batch, classes));
    let begin = Instant::now();
    let mut count = 0;
    for (task, features) in rows {
        let Some(session) = sessions.get_mut(task) else {
            continue;
        };
        for chunk in features.axis_chunks_iter(Axis(0), batch) {
            session.predict(chunk, said.slice_mut(s![..chunk.nrows(), ..]))?;
            count += chunk.nrows();
        }
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Prepared batches: the rows of each model, contiguous.
fn rows_by_model(
    config: SimulatorConfig,
    sessions: &BTreeMap<TaskId, Session>,
) -> Result<Vec<(TaskId, Array2<f32>)>> {
    let batch = Simulator::new(config)?.fill(0..CEILING_ROWS);
    let header = EpochHeader {
        epoch: Epoch(0),
        end: CEILING_ROWS,
        clock: 0,
        phase: Phase::Live,
    };
    let columns = vec![(1, "season".to_string()), (2, "zone".to_string())];
    let mut allocator = Allocator::new(TaskLevels {
        levels: vec![Level::Attributes(columns)],
    });
    let allocated = allocator.allocate(header, batch);
    let mut rows = Vec::new();
    for group in &allocated.groups {
        let order: Vec<usize> = allocated.order[group.start..group.end]
            .iter()
            .map(|row| *row as usize)
            .collect();
        let nodes = group.path.nodes.iter().rev();
        let owner = nodes
            .map(|node| node.task)
            .find(|task| sessions.contains_key(task));
        if let Some(owner) = owner {
            rows.push((owner, allocated.batch.features.select(Axis(0), &order)));
        }
    }
    Ok(rows)
}
