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
const EPOCH: u64 = 8192;
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
    let (batch, ceiling) = ceiling(&folder.path().join("one"), &fleet)?;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "records/s", "ratio", "peak memory"]);
    table.add_row([
        format!("(b) bare ceiling, one thread, batches of {batch}"),
        format!("{ceiling:.0}"),
        String::new(),
        String::new(),
    ]);
    table.add_row(row(
        "(a) whole graph, 1 worker",
        &one,
        one.per_second / ceiling,
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

/// The fastest batch size and its rows/s, with the models that the run in `folder` made.
fn ceiling(folder: &Path, fleet: &Fleet) -> Result<(usize, f64)> {
    let config = simulator(fleet, CEILING_ROWS);
    let classes = config.classes;
    let knowledge = KnowledgeBase::open_to_read(&folder.join("state"))?;
    let view = knowledge.view();
    let runtime = Runtime::load()?;
    let mut sessions: BTreeMap<TaskId, Session> = BTreeMap::new();
    for (task, record) in view.tasks()? {
        if let Some(version) = record.deployed {
            let onnx = view.onnx(ModelId { task, version })?;
            sessions.insert(task, runtime.session(&onnx, config.features, classes)?);
        }
    }
    let rows = rows_by_model(config, &sessions)?;
    let mut best = (0, 0.0);
    for batch in [16, 32, 64, 80, 128, 256, 512] {
        let mut said = Array2::zeros((batch, classes));
        let begin = Instant::now();
        let mut count = 0;
        for (task, features) in &rows {
            let Some(session) = sessions.get_mut(task) else {
                continue;
            };
            for chunk in features.axis_chunks_iter(Axis(0), batch) {
                let room = said.slice_mut(s![..chunk.nrows(), ..]);
                session.predict(chunk, room)?;
                count += chunk.nrows();
            }
        }
        let per_second = count as f64 / begin.elapsed().as_secs_f64();
        println!("  bare sessions, batches of {batch}: {per_second:.0} rows/s");
        if per_second > best.1 {
            best = (batch, per_second);
        }
    }
    Ok(best)
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
