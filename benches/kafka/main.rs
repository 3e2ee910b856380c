//! Records a second from topic to topic: the whole pipeline, exactly once and at least once,
//! against a plain loop that polls, decodes the same way, calls the same ONNX sessions in batches
//! and produces with acks=all. All in one run, with a broker of its own. Then the latency at higher
//! and higher rates.
//!
//! `make bench-kafka`. `PERENNIAL_BENCH_RECORDS` scales the measured records.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../common.rs"]
mod common;
mod plain;

use std::path::Path;
use std::process::Command;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use perennial_connectors::onnx::Runtime;
use perennial_connectors::source::SimulatorConfig;
use support::kafka::{Broker, PARTITIONS};

use common::{BOOTSTRAP, PROGRAM, Result, Spread, TRAINING, mib, per_second, run, sessions};
use plain::Plain;

const ROUNDS: usize = 5;
const TOPIC: &str = "samples";

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
        Err(_) => 500_000,
    };
    let simulator = SimulatorConfig {
        records: Some(BOOTSTRAP + records),
        sites: 50,
        contexts: 50,
        late_sites: 0.0,
        ..SimulatorConfig::default()
    };
    let broker = Broker::start();
    produce(&broker, &simulator)?;
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
    print(&rounds);
    for workers in ["1", "2"] {
        latency(&broker, workers)?;
    }
    Ok(())
}

/// Fills the topic, as users do.
fn produce(broker: &Broker, simulator: &SimulatorConfig) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, config(broker, simulator, "produce", "produce"))?;
    succeed(Command::new(PROGRAM).arg("produce").arg(path))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} has failed: {status}").into())
    }
}

/// The latency at higher and higher rates, as users measure it.
fn latency(broker: &Broker, workers: &str) -> Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/simulator-kafka.yaml");
    let mut command = Command::new(PROGRAM);
    command.arg("bench").arg(config);
    command.args(["--set", &format!("kafka.brokers={}", broker.address)]);
    command.args([
        "--workers",
        workers,
        "--records",
        "400000",
        "--seconds",
        "5",
    ]);
    succeed(&mut command)
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

/// What a round has measured of something.
type Figure = fn(&Round) -> f64;

/// Prints medians over the rounds, of ratios too.
fn print(rounds: &[Round]) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "records/s", "ratio"]);
    let peak = rounds.iter().map(|round| round.peak_bytes).max();
    let middle = |figure: Figure| format!("{:.0}", Spread::of(rounds, figure).middle);
    let plain: Figure = |round| round.plain;
    let one: Figure = |round| round.exactly_once;
    table.add_row(["(c) plain loop".to_string(), middle(plain)]);
    let rows: [(&str, Figure, &str, Figure); 4] = [
        ("(a) exactly once, 1 worker", one, "(c)", plain),
        (
            "(b) at least once, 1 worker",
            |r| r.at_least_once,
            "(c)",
            plain,
        ),
        ("exactly once, 2 workers", |r| r.two_workers, "(a)", one),
        (
            "(d) exactly once, one tree of one split for all",
            |r| r.without_model,
            "(a)",
            one,
        ),
    ];
    for (name, figure, of, base) in rows {
        let ratio = Spread::of(rounds, |round| figure(round) / base(round)).ratio(of);
        table.add_row([name.to_string(), middle(figure), ratio]);
    }
    println!("{table}");
    println!("peak memory of (a): {}", mib(peak.unwrap_or(0)));
}

fn plain(broker: &Broker, state: &Path, simulator: &SimulatorConfig) -> Result<f64> {
    let sessions = sessions(state, &Runtime::load()?, simulator)?;
    let schema = simulator.schema();
    Plain::new(&broker.address, TOPIC, PARTITIONS, &schema, sessions)?.run("plain-predictions")
}

fn config(broker: &Broker, simulator: &SimulatorConfig, name: &str, group: &str) -> String {
    // YAML takes JSON as it is.
    let schema = serde_json::json!(simulator.schema());
    let produced = serde_json::json!(simulator);
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
{TRAINING}predictions:
  kafka: {{topic: {name}-predictions}}
produce:
  simulator: {produced}
",
        broker.address
    )
}
