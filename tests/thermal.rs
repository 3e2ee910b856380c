//! The real stream: thermal comfort votes, from the first to the last.

mod common;

use std::collections::HashSet;
use std::path::PathBuf;

use common::{Bench, text};
use serde_json::Value;

/// Votes of the bootstrap: a fifth of the stream.
const BOOTSTRAPPED: u64 = 11_051;
/// Votes after it.
const PREDICTED: u64 = 44_208;

/// The stream's file; none where it is not at hand, which CI does not let pass.
fn stream() -> Option<PathBuf> {
    let given = std::env::var_os("PERENNIAL_THERMAL").map(PathBuf::from);
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/thermal/stream.csv.gz"
    );
    let path = given.unwrap_or_else(|| beside.into());
    if path.exists() {
        return Some(path);
    }
    let missing = format!(
        "the thermal comfort stream is not at {}: set PERENNIAL_THERMAL to its path",
        path.display()
    );
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// The ids of the predictions, none of which may come twice.
fn unique_ids(predictions: &[Value]) -> HashSet<&str> {
    let mut ids = HashSet::new();
    for line in predictions {
        let id = line["id"].as_str().expect("an id");
        assert!(ids.insert(id), "{id} is predicted twice");
    }
    ids
}

#[test]
fn the_thermal_stream_is_learned_from() {
    let Some(stream) = stream() else { return };
    let bench = Bench::new();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/thermal.yaml");
    let config = std::fs::read_to_string(config).expect("the config");
    bench.write("config.yaml", config);
    let source = format!("source.path={}", text(&stream));
    let sets = ["--set", &source, "--set", "labels.delay.records=64"];
    bench.run_as("run", &sets).success();
    let left = bench.left("run");
    let report = &left.report;
    for (name, expected) in [
        ("records", BOOTSTRAPPED + PREDICTED),
        ("bootstrapped", BOOTSTRAPPED),
        ("predicted", PREDICTED),
        ("labelled", PREDICTED),
        ("dead_letters", 0),
        ("unlabelled", 0),
    ] {
        assert_eq!(report[name], expected, "{name}");
    }
    assert_eq!(report["finished"], true);
    let predictions = bench.predictions("run");
    assert_eq!(predictions.len() as u64, PREDICTED);
    assert_eq!(unique_ids(&predictions).len() as u64, PREDICTED);
    let accuracy = |of: &Value| of["accuracy"].as_f64().expect("an accuracy");
    let lifelong = accuracy(report);
    let frozen = accuracy(&report["baselines"]["frozen"]);
    eprintln!("accuracy: lifelong {lifelong:.4}, frozen {frozen:.4}");
    assert!(lifelong >= 0.60, "{lifelong}");
    assert!(frozen < lifelong, "{frozen} {lifelong}");
}
