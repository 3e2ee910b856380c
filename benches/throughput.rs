//! Records a second of the whole graph, against the bare ceiling: the same ONNX sessions over prepared
//! batches in a loop with nothing else, at the batch size that is fastest. All in one run.
//!
//! `make bench BENCH=throughput`. Set `PERENNIAL_BENCH_RECORDS` to scale the measured records.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use ndarray::{Array2, Axis, s};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::{Runtime, Session};
use perennial_connectors::source::{Simulator, SimulatorConfig};
use perennial_operators::allocate::{Allocator, TaskLevels};
use perennial_operators::{Epoch, EpochHeader, ModelId, Phase, TaskId};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BOOTSTRAP: u64 = 50_000;
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
    let one = graph(folder.path(), "one", &fleet, records, 1)?;
    let two = graph(folder.path(), "two", &fleet, records, 2)?;
    let bare = ceiling(&folder.path().join("one"), &fleet)?;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "records/s", "ratio", "peak memory"]);
    table.add_row([
        format!("(b) bare ceiling, one thread, batches of {}", bare.batch),
        format!("{:.0}", bare.one_thread),
        String::new(),
        String::new(),
    ]);
    table.add_row([
        "the same on two threads".to_string(),
        format!("{:.0}", bare.two_threads),
        format!("{:.2} of (b)", bare.two_threads / bare.one_thread),
        String::new(),
    ]);
    table.add_row(row(
        "(a) whole graph, 1 worker",
        &one,
        one.per_second / bare.one_thread,
        "of (b)",
    ));
    table.add_row(row(
        "whole graph, 2 workers",
        &two,
        two.per_second / one.per_second,
        "of 1 worker",
    ));
    for (sites, contexts) in [(10, 10), (1_000, 50), (10_000, 50)] {
        let fleet = Fleet {
            contexts,
            sites,
            site_tasks: sites > contexts,
        };
        let name = format!("{sites}");
        let measured = graph(folder.path(), &name, &fleet, records, 1)?;
        let label = format!(
            "{sites} finest tasks, {} models, 1 worker ({} nodes)",
            measured.models, measured.tasks
        );
        table.add_row(row(
            &label,
            &measured,
            measured.per_second / one.per_second,
            "of 50 tasks",
        ));
    }
    println!("{table}");
    Ok(())
}

fn row(name: &str, measured: &Measured, ratio: f64, of: &str) -> [String; 4] {
    [
        name.to_string(),
        format!("{:.0}", measured.per_second),
        format!("{ratio:.2} {of}"),
        format!("{} MiB", measured.peak_bytes >> 20),
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
labels:
  delay:
    records: 1000
epoch:
  records: {EPOCH}
training:
  min_samples: 400
  samples_per_task: 1000
  trees: {{rounds: 50, max_depth: 3, eta: 0.3, min_child_weight: 1, subsample: 1, colsample_bytree: 1}}
triggers:
  when: []
predictions:
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
    let mut child = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .arg("run")
        .arg(&config_path)
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--report")
        .arg(folder.join("report.json"))
        .args(["--workers", &workers.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak_bytes.max(peak_memory(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if !status.success() {
        return Err(format!("the run in {} failed: {status}", folder.display()).into());
    }
    fs::remove_file(folder.join("predictions.jsonl"))?;
    let report: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json"))?)?;
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    Ok(Measured {
        per_second: number("predicted") / (number("seconds") - number("bootstrap_seconds")),
        models: report["models_deployed"].as_u64().unwrap_or(0),
        tasks: report["tasks"].as_array().map_or(0, Vec::len),
        peak_bytes,
    })
}

/// The most memory that a process ever had, as Linux counts it; 0 elsewhere.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
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
    let knowledge = KnowledgeBase::open_to_read(&folder.join("state"))?;
    let runtime = Runtime::load()?;
    let mut sessions = load(&knowledge, &runtime, &config)?;
    let rows = rows_by_model(config.clone(), &sessions)?;
    let (mut batch, mut one_thread) = (0, 0.0);
    for size in [16, 32, 64, 80, 128, 256, 512] {
        let per_second = loop_over(&rows, &mut sessions, size)?;
        println!("  bare sessions, batches of {size}: {per_second:.0} rows/s");
        if per_second > one_thread {
            (batch, one_thread) = (size, per_second);
        }
    }
    let mut others = load(&knowledge, &runtime, &config)?;
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

fn load(
    knowledge: &KnowledgeBase,
    runtime: &Runtime,
    config: &SimulatorConfig,
) -> Result<BTreeMap<TaskId, Session>> {
    let view = knowledge.view();
    let mut sessions = BTreeMap::new();
    for (task, record) in view.tasks()? {
        if let Some(version) = record.deployed {
            let onnx = view.onnx(ModelId { task, version })?;
            let session = runtime.session(&onnx, config.features, config.classes)?;
            sessions.insert(task, session);
        }
    }
    Ok(sessions)
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
        phase: Phase::Scored,
    };
    let columns = vec![(1, "season".to_string()), (2, "zone".to_string())];
    let mut allocator = Allocator::new(TaskLevels {
        levels: vec![columns],
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
