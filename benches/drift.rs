//! Drift on the simulated fleet: how soon it is noticed, and how often where there is none; of each
//! detector, and of River's ADWIN on the same losses.
//!
//! `make bench BENCH=drift`. River answers if `PERENNIAL_PYTHON` names a Python that has it (`pip
//! install river`).

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use common::{Result, run};
use perennial_connectors::knowledge_base::KnowledgeBase;
use perennial_connectors::source::{Drift, DriftKind, Simulator, SimulatorConfig};
use perennial_operators::flow::KnowledgeChange;
use perennial_operators::{Epoch, TaskId};

/// Samples of the bootstrap, and from one change to the next.
const EVERY: u64 = 20_000;
/// Samples of a stream.
const RECORDS: u64 = 400_000;
/// Samples after which a label is known.
const DELAY: u64 = 100;
/// Samples of an epoch.
const EPOCH: u64 = 32;
/// Streams of one kind.
const SEEDS: std::ops::Range<u64> = 1..6;

/// Python script that feeds each loss of a file to River's ADWIN, with its defaults, and prints the
/// losses after which it detects a rise.
const RIVER: &str = "
import sys
from river.drift import ADWIN
detector, before = ADWIN(), 0.0
for number, line in enumerate(open(sys.argv[1])):
    detector.update(int(line))
    if detector.drift_detected and detector.estimation > before:
        print(number)
    before = detector.estimation
";

/// What a detector did, over all streams of a kind.
#[derive(Default)]
struct Found {
    changes: usize,
    noticed: usize,
    /// Labels from a change to the first notice, summed up.
    delays: u64,
    /// Notices where nothing had changed, and labels in which there could be any.
    false_alarms: usize,
    calm: u64,
}

fn main() -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "drift",
        "detector",
        "noticed",
        "mean delay, labels",
        "false alarms in 100,000 labels",
    ]);
    for (name, strength, kind) in [
        ("none", 0.0, DriftKind::Sudden),
        ("sudden", 1.0, DriftKind::Sudden),
        ("gradual", 1.0, DriftKind::Gradual),
        ("recurring", 1.0, DriftKind::Recurring),
    ] {
        let mut found: [Found; 3] = Default::default();
        for seed in SEEDS {
            let drift = Drift {
                every: EVERY,
                strength,
                kind,
            };
            one(seed, drift, &mut found)?;
        }
        for (detector, found) in ["ADWIN", "Page-Hinkley", "River's ADWIN"]
            .iter()
            .zip(&found)
        {
            table.add_row(row(name, detector, found));
        }
    }
    println!("{table}");
    Ok(())
}

fn row(name: &str, detector: &str, found: &Found) -> Vec<String> {
    let noticed = match found.changes {
        0 => "–".to_string(),
        changes => format!("{} of {changes}", found.noticed),
    };
    let delay = match found.noticed {
        0 => "–".to_string(),
        noticed => (found.delays / noticed as u64).to_string(),
    };
    let alarms = match found.calm {
        0 => "–".to_string(),
        calm => format!("{:.1}", found.false_alarms as f64 * 1e5 / calm as f64),
    };
    vec![name.into(), detector.into(), noticed, delay, alarms]
}

/// One stream with each of the detectors. Nothing is trained, so that all see the same losses.
fn one(seed: u64, drift: Drift, found: &mut [Found; 3]) -> Result<()> {
    let simulator = SimulatorConfig {
        seed,
        records: Some(RECORDS),
        sites: 30,
        late_sites: 0.0,
        drift: drift.clone(),
        ..SimulatorConfig::default()
    };
    let mut losses = String::new();
    for (place, detector) in ["adwin", "page_hinkley"].iter().enumerate() {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, settings(&simulator, detector))?;
        run(folder.path(), &config, &[])?;
        let notices = notices(&folder.path().join("state"))?;
        count(&mut found[place], &notices, &drift);
        losses = losses_of(folder.path(), &simulator)?;
    }
    if let Ok(python) = std::env::var("PERENNIAL_PYTHON") {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), losses)?;
        let said = Command::new(python)
            .args(["-c", RIVER])
            .arg(file.path())
            .output()?;
        if !said.status.success() {
            return Err(String::from_utf8_lossy(&said.stderr).into());
        }
        let numbers = String::from_utf8(said.stdout)?;
        let notices: std::result::Result<Vec<u64>, _> = numbers.lines().map(str::parse).collect();
        count(&mut found[2], &notices?, &drift);
    }
    Ok(())
}

fn settings(simulator: &SimulatorConfig, detector: &str) -> String {
    // YAML takes JSON as it is.
    let simulator = serde_json::json!(simulator);
    format!(
        "name: drift
source: {{simulator: {simulator}}}
tasks: {{path: [[season, zone]]}}
bootstrap: {{records: {EVERY}}}
labels: {{delay: {{records: {DELAY}}}}}
epoch: {{records: {EPOCH}}}
inference: {{adapters: false}}
triggers: {{when: []}}
drift: {{detectors: [{detector}]}}
predictions: {{path: predictions.jsonl}}
"
    )
}

/// After how many labels of the base task drift was detected, those of the bootstrap aside.
fn notices(state: &Path) -> Result<Vec<u64>> {
    let knowledge = KnowledgeBase::open_to_read(state)?;
    let mut notices = Vec::new();
    knowledge.view().changes(Epoch(0), |_, change| {
        if let KnowledgeChange::DriftDetected(drift) = change
            && drift.task == TaskId::BASE
        {
            notices.push(drift.labelled as u64 - EVERY);
        }
        Ok(())
    })?;
    Ok(notices)
}

/// For each label whether the prediction was wrong, one a line.
fn losses_of(folder: &Path, config: &SimulatorConfig) -> Result<String> {
    let batch = Simulator::new(config.clone())?.fill(EVERY..RECORDS);
    let lines = BufReader::new(File::open(folder.join("predictions.jsonl"))?).lines();
    let mut losses = String::new();
    for (line, label) in lines.zip(&batch.labels) {
        let line: serde_json::Value = serde_json::from_str(&line?)?;
        let wrong = line["prediction"] != format!("c{label}");
        writeln!(losses, "{}", u8::from(wrong))?;
    }
    Ok(losses)
}

/// Compares notices with the changes that there were. A notice is of the change before it as long
/// as that is young, or while it goes on; any other is a false alarm.
fn count(found: &mut Found, notices: &[u64], drift: &Drift) {
    let end = RECORDS - EVERY;
    if drift.strength == 0.0 {
        found.false_alarms += notices.len();
        found.calm += end;
        return;
    }
    for change in (EVERY..end).step_by(EVERY as usize) {
        // What is gradual begins half a period before it is complete.
        let begin = match drift.kind {
            DriftKind::Gradual => change - EVERY / 2,
            _ => change,
        };
        let young = begin..change + EVERY / 4;
        let calm = young.end..begin + EVERY;
        found.changes += 1;
        if let Some(first) = notices.iter().find(|notice| young.contains(notice)) {
            found.noticed += 1;
            found.delays += first - begin;
        }
        found.false_alarms += notices
            .iter()
            .filter(|notice| calm.contains(notice))
            .count();
        found.calm += calm.end.saturating_sub(calm.start);
    }
}
