//! Records a second from topic to topic: the whole pipeline, exactly once and at least once, against a plain loop
//! that polls, decodes the same way, calls the same ONNX sessions in batches and produces with acks=all. All in one
//! run, with a broker of its own. Then the latency at higher and higher rates.
//!
//! `make bench-kafka`. `PERENNIAL_BENCH_RECORDS` scales the measured records.

#[path = "../common.rs"]
mod common;
#[path = "../../tests/common/kafka.rs"]
#[allow(dead_code)]
mod kafka;
mod plain;
#[path = "../../tests/common/process.rs"]
mod process;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::source::{Simulator, SimulatorConfig};

use common::{Result, Spread, mib, per_second, run, sessions};
use kafka::{Broker, PARTITIONS};
use plain::Plain;

const BOOTSTRAP: u64 = 50_000;
const ROUNDS: usize = 5;
const TOPIC: &str = "samples";
/// Records that are sent to the broker at a time.
const CHUNK: u64 = 50_000;

/// What is compared, measured one after the other, in records a second.
struct Round {
    exactly_once: f64,
    at_least_once: f64,
    plain: f64,
    two_workers: f64,
    without_model: f64,
    peak_bytes: u64,
}

fn main() -> Result<()> {
    let records: u64 = match std::env::var("PERENNIAL_BENCH_RECORDS") {
        Ok(text) => text.parse()?,
        Err(_) => 600_000,
    };
    let simulator = SimulatorConfig {
        records: Some(BOOTSTRAP + records),
        sites: 50,
        contexts: 50,
        late_sites: 0.0,
        ..SimulatorConfig::default()
    };
    let broker = Broker::start();
    fill(&broker, &simulator)?;
    println!(
        "50 tasks with a model each, 150 trees of depth 3, 17 features, {records} JSON records in {PARTITIONS} partitions"
    );
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        let round = Round::measure(&broker, &simulator, number)?;
        println!(
            "  round {number} of {ROUNDS}: exactly once {:.0} records/s, at least once {:.0}, plain loop {:.0}",
            round.exactly_once, round.at_least_once, round.plain
        );
        rounds.push(round);
    }
    println!("{}", table(&rounds));
    for workers in ["1", "2"] {
        latency(&broker, workers)?;
    }
    Ok(())
}

/// The latency at higher and higher rates, as users measure it.
fn latency(broker: &Broker, workers: &str) -> Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/simulator-kafka.yaml");
    let status = Command::new(env!("CARGO_BIN_EXE_perennial"))
        .arg("bench")
        .arg(config)
        .args(["--set", &format!("kafka.brokers={}", broker.address)])
        .args([
            "--workers",
            workers,
            "--records",
            "400000",
            "--seconds",
            "5",
        ])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("perennial bench has failed: {status}").into()),
    }
}

impl Round {
    fn measure(broker: &Broker, simulator: &SimulatorConfig, number: usize) -> Result<Round> {
        let folder = tempfile::tempdir()?;
        let pipeline = |name: &str, more: &[&str]| -> Result<(f64, u64)> {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder)?;
            let path = folder.join("config.yaml");
            let group = format!("{name}-{number}");
            std::fs::write(&path, config(broker, simulator, name, &group))?;
            let (report, peak) = run(&folder, &path, more)?;
            Ok((per_second(&report), peak))
        };
        let (exactly_once, peak_bytes) = pipeline("exactly-once", &[])?;
        let (at_least_once, _) =
            pipeline("at-least-once", &["--set", "kafka.delivery=at_least_once"])?;
        let plain = plain(broker, &folder.path().join("exactly-once/state"), simulator)?;
        let (two_workers, _) = pipeline("two-workers", &["--workers", "2"])?;
        let one_split = "training.trees={rounds: 1, max_depth: 1}";
        let one_task = ["--set", "tasks={path: []}", "--set", one_split];
        let (without_model, _) = pipeline("without-model", &one_task)?;
        Ok(Round {
            exactly_once,
            at_least_once,
            plain,
            two_workers,
            without_model,
            peak_bytes,
        })
    }
}

fn table(rounds: &[Round]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "records/s", "ratio", "peak memory"]);
    let mut row = |name: &str,
                   figure: &dyn Fn(&Round) -> f64,
                   of: &str,
                   base: &dyn Fn(&Round) -> f64,
                   memory: String| {
        let ratio = match of {
            "" => String::new(),
            of => Spread::of(rounds, |round| figure(round) / base(round)).ratio(of),
        };
        let middle = format!("{:.0}", Spread::of(rounds, figure).middle);
        table.add_row([name.to_string(), middle, ratio, memory]);
    };
    let peak = rounds.iter().map(|round| round.peak_bytes).max();
    let plain = |round: &Round| round.plain;
    let one = |round: &Round| round.exactly_once;
    let none = String::new;
    row("(c) plain loop", &plain, "", &plain, none());
    row(
        "(a) exactly once, 1 worker",
        &one,
        "(c)",
        &plain,
        mib(peak.unwrap_or(0)),
    );
    row(
        "(b) at least once, 1 worker",
        &|r| r.at_least_once,
        "(c)",
        &plain,
        none(),
    );
    row(
        "exactly once, 2 workers",
        &|r| r.two_workers,
        "(a)",
        &one,
        none(),
    );
    row(
        "(d) exactly once, one tree of one split for all",
        &|r| r.without_model,
        "(a)",
        &one,
        none(),
    );
    table
}

fn plain(broker: &Broker, state: &Path, simulator: &SimulatorConfig) -> Result<f64> {
    let sessions = sessions(state, &Runtime::load()?, simulator)?;
    let schema = simulator.schema();
    Plain::new(&broker.address, TOPIC, PARTITIONS, &schema, sessions)?.run("plain-predictions")
}

fn config(broker: &Broker, simulator: &SimulatorConfig, name: &str, group: &str) -> String {
    let schema = serde_json::to_string(&simulator.schema()).unwrap_or_default();
    format!(
        "name: {name}
mode: live
kafka:
  brokers: {}
  group: {group}
source:
  kafka: {{topic: {TOPIC}, stop_at_end: true}}
schema: {schema}
tasks:
  path: [[season, zone]]
bootstrap:
  records: {BOOTSTRAP}
labels:
  delay:
    records: 1000
training:
  min_samples: 400
  samples_per_task: 1000
  trees: {{rounds: 50, max_depth: 3, eta: 0.3, min_child_weight: 1, subsample: 1, colsample_bytree: 1}}
triggers:
  when: []
predictions:
  kafka: {{topic: {name}-predictions}}
",
        broker.address
    )
}

/// Fills the topic with simulated samples, as JSON objects with their labels.
fn fill(broker: &Broker, config: &SimulatorConfig) -> Result<()> {
    let simulator = Simulator::new(config.clone())?;
    let schema = config.schema();
    let label = schema.label.as_ref().ok_or("a schema with a label")?;
    let total = config.records.unwrap_or_default();
    // As if they had come one a millisecond until now.
    let now = std::time::UNIX_EPOCH.elapsed()?.as_millis() as i64;
    let first = now - total as i64;
    for start in (0..total).step_by(CHUNK as usize) {
        let batch = simulator.fill(start..total.min(start + CHUNK));
        let mut messages = Vec::with_capacity(batch.len());
        for row in 0..batch.len() {
            let site = batch.attribute(0, row);
            let mut text = String::new();
            write!(
                text,
                r#"{{"id":"{}","time":{},"site":"{site}","season":"{}","zone":"{}""#,
                batch.ids.get(row),
                batch.times[row] / 1_000_000,
                batch.attribute(1, row),
                batch.attribute(2, row),
            )?;
            for (feature, value) in batch.features.row(row).iter().enumerate() {
                match value.is_nan() {
                    true => write!(text, r#","s{feature}":null"#)?,
                    false => write!(text, r#","s{feature}":{value}"#)?,
                }
            }
            let class = &label.classes[batch.labels[row] as usize];
            write!(text, r#","{}":"{class}"}}"#, label.column)?;
            let number = (start as usize + row) as i64;
            let partition = (number % i64::from(PARTITIONS)) as i32;
            let timestamp = first + number;
            messages.push((
                partition,
                timestamp,
                site.to_string(),
                Some(text.into_bytes()),
            ));
        }
        broker.produce(TOPIC, &messages);
    }
    Ok(())
}
