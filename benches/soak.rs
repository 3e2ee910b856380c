//! Half an hour of Kafka at half of what the pipeline takes, with a model swapped every second:
//! memory has to stay flat, and the lag must not grow.
//!
//! `make soak`. `PERENNIAL_SOAK_SECONDS` and `PERENNIAL_SOAK_RATE` (samples a second) set how long
//! and how much.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use perennial_connectors::source::{Drift, SimulatorConfig};
use support::kafka::Broker;
use support::process::signal;

use common::{PROGRAM, Result, mib, status_bytes};

/// The group that the pipeline reads by.
const GROUP: &str = "soak";
/// Samples of the bootstrap.
const BOOTSTRAP: u64 = 50_000;
/// How often memory and lag are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What a broker keeps of half an hour's messages, which would fill a disk.
const BROKER: [&str; 3] = [
    "log.segment.bytes=67108864",
    "log.retention.bytes=268435456",
    "log.retention.check.interval.ms=5000",
];

/// What was seen of the pipeline at one moment.
struct Look {
    memory: u64,
    /// Samples that were sent and whose predictions are not committed.
    lag: u64,
}

fn main() -> Result<()> {
    let seconds = setting("PERENNIAL_SOAK_SECONDS", 1800)?;
    let rate = setting("PERENNIAL_SOAK_RATE", 46_000)?;
    let broker = Broker::start_with(&BROKER);
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, settings(&broker, rate, BOOTSTRAP + rate * seconds))?;
    let mut producer = start(folder.path(), "produce", &[])?;
    let more = ["--state", "state", "--report", "report.json"];
    let mut pipeline = start(folder.path(), "run", &more)?;
    let looks = watch(&broker, &mut producer, &mut pipeline)?;
    signal(pipeline.id(), "INT");
    let status = pipeline.wait()?;
    if !status.success() {
        let said = std::fs::read_to_string(folder.path().join("run.err"))?;
        return Err(format!("the pipeline has failed: {status}: {said}").into());
    }
    let report = serde_json::from_slice(&std::fs::read(folder.path().join("report.json"))?)?;
    print(&looks, &report, seconds, rate);
    Ok(())
}

fn setting(name: &str, default: u64) -> Result<u64> {
    Ok(match std::env::var(name) {
        Ok(text) => text.parse()?,
        Err(_) => default,
    })
}

fn start(folder: &Path, verb: &str, more: &[&str]) -> Result<Child> {
    let mut command = Command::new(PROGRAM);
    command
        .args([verb, "config.yaml"])
        .args(more)
        .current_dir(folder);
    command.stdout(Stdio::null());
    command.stderr(std::fs::File::create(folder.join(format!("{verb}.err")))?);
    Ok(command.spawn()?)
}

/// Looks at the pipeline until everything is sent.
fn watch(broker: &Broker, producer: &mut Child, pipeline: &mut Child) -> Result<Vec<Look>> {
    let position = broker.position(GROUP, "soak-samples");
    let began = Instant::now();
    let mut looks = Vec::new();
    loop {
        std::thread::sleep(LOOK);
        if let Some(status) = pipeline.try_wait()? {
            return Err(format!("the pipeline has ended: {status}").into());
        }
        if let Some(status) = producer.try_wait()? {
            return if status.success() {
                Ok(looks)
            } else {
                Err(format!("the producer has failed: {status}").into())
            };
        }
        let (Some(end), Some(committed)) = (position.end(), position.committed()) else {
            continue;
        };
        let look = Look {
            memory: status_bytes(pipeline.id(), "VmRSS"),
            lag: (end - committed).max(0) as u64,
        };
        if looks.len() % 30 == 0 {
            let (seconds, memory) = (began.elapsed().as_secs(), mib(look.memory));
            println!("  {seconds} s: {memory}, lag {}", look.lag);
        }
        looks.push(look);
    }
}

/// Prints what the thirds of the time were like.
fn print(looks: &[Look], report: &serde_json::Value, seconds: u64, rate: u64) {
    let stages = report["stages"].as_array().map_or(&[][..], Vec::as_slice);
    let swapped = stages
        .iter()
        .filter(|stage| stage["stage"] == "deploy" && stage["state"] == "completed")
        .count();
    let third = |number: usize| &looks[looks.len() * number / 3..looks.len() * (number + 1) / 3];
    let mean = |looks: &[Look], of: fn(&Look) -> u64| {
        looks.iter().map(of).sum::<u64>() / looks.len().max(1) as u64
    };
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "memory", "lag", "greatest lag"]);
    for (number, name) in ["first third", "second third", "last third"]
        .iter()
        .enumerate()
    {
        let looks = third(number);
        let greatest = looks.iter().map(|look| look.lag).max().unwrap_or(0);
        table.add_row([
            (*name).to_string(),
            mib(mean(looks, |look| look.memory)),
            format!("{} samples", mean(looks, |look| look.lag)),
            format!("{greatest} samples"),
        ]);
    }
    println!(
        "{seconds} s at {rate} samples/s; {swapped} models swapped, {} trained",
        report["models"]
    );
    println!("{table}");
    let memory = |number| mean(third(number), |look| look.memory) as f64;
    println!(
        "memory of the last third: {:.3} of the second",
        memory(2) / memory(1)
    );
}

/// Contexts that change every second, so that there always is a better model; small trees and few
/// samples, so that there is the time to train it.
fn settings(broker: &Broker, rate: u64, records: u64) -> String {
    let simulator = SimulatorConfig {
        records: Some(records),
        sites: 30,
        contexts: 6,
        drift: Drift {
            every: rate,
            strength: 1.0,
            ..Drift::default()
        },
        late_sites: 0.0,
        ..SimulatorConfig::default()
    };
    // YAML takes JSON as it is.
    let (schema, produced) = (
        serde_json::json!(simulator.schema()),
        serde_json::json!(simulator),
    );
    format!(
        "name: soak
mode: live
kafka:
  brokers: {}
  group: {GROUP}
source:
  kafka: {{topic: soak-samples}}
schema: {schema}
tasks:
  path: [[season, zone]]
bootstrap:
  records: {BOOTSTRAP}
labels:
  delay: {{records: 500}}
memory:
  samples_per_task: 500
training:
  min_samples: 100
  trees: {{rounds: 5, max_depth: 3}}
triggers:
  when: ['new_samples >= {}']
  window: 1000
predictions:
  kafka: {{topic: soak-predictions}}
dead_letters:
  kafka: {{topic: soak-dead-letters}}
produce:
  simulator: {produced}
  rate: {rate}
",
        broker.address,
        // Each of six contexts has a sixth of the samples. Not every model that is trained is
        // better.
        rate / 8
    )
}
