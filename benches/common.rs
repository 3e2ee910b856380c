//! What the benches share: figures with their spread, and the memory of a process.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::onnx::{Runtime, Session};
use perennial_connectors::source::SimulatorConfig;
use perennial_operators::{ModelId, TaskId};

pub use support::process::status_bytes;

/// The program that is measured.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_perennial");

/// The result of a part of a bench.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Samples of the bootstrap.
pub const BOOTSTRAP: u64 = 50_000;

/// The parts of a config that are the same for all: small models that are trained once.
pub const TRAINING: &str = "labels:
  delay:
    records: 1000
memory:
  samples_per_task: 1000
training:
  min_samples: 400
  trees: {rounds: 50, max_depth: 3, eta: 0.3, min_child_weight: 1, subsample: 1, colsample_bytree: 1}
triggers:
  when: []
";

/// The middle of several figures, and the least and the greatest.
pub struct Spread {
    /// The median.
    pub middle: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    /// The spread of a figure over rounds.
    pub fn of<R>(rounds: &[R], figure: impl Fn(&R) -> f64) -> Spread {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        Spread {
            middle: figures[figures.len() / 2],
            least: figures[0],
            greatest: figures[figures.len() - 1],
        }
    }

    /// As a ratio to something.
    pub fn ratio(&self, of: &str) -> String {
        let Spread {
            middle,
            least,
            greatest,
        } = self;
        format!("{middle:.2} of {of} ({least:.2} to {greatest:.2})")
    }
}

/// A run of the program in a folder: its report, and the most memory that it had.
pub fn run(folder: &Path, config: &Path, more: &[&str]) -> Result<(serde_json::Value, u64)> {
    run_logged(folder, config, more, "warn")
}

/// The same, with the file `errors` in the folder as the log of what is named, as JSON lines.
pub fn run_logged(
    folder: &Path,
    config: &Path,
    more: &[&str],
    logged: &str,
) -> Result<(serde_json::Value, u64)> {
    let errors = folder.join("errors");
    let mut child = Command::new(PROGRAM)
        .arg("--log-json")
        .env("RUST_LOG", logged)
        .arg("run")
        .arg(config)
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--report")
        .arg(folder.join("report.json"))
        .args(more)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&errors)?)
        .spawn()?;
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak_bytes.max(status_bytes(child.id(), "VmHWM"));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if !status.success() {
        let said = std::fs::read_to_string(errors)?;
        return Err(format!("the run in {} failed: {status}: {said}", folder.display()).into());
    }
    let report = std::fs::read(folder.join("report.json"))?;
    Ok((serde_json::from_slice(&report)?, peak_bytes))
}

/// Records that a run predicted in a second, the bootstrap aside.
pub fn per_second(report: &serde_json::Value) -> f64 {
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    number("predicted") / (number("seconds") - number("bootstrap_seconds"))
}

/// A session for each model that is deployed.
pub fn sessions(
    state: &Path,
    runtime: &Runtime,
    config: &SimulatorConfig,
) -> Result<BTreeMap<TaskId, Session>> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
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

/// Bytes for people.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
