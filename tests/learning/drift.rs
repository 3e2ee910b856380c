//! Drift: a concept that changes is detected, learned, and recalled when it comes back.

use serde_json::Value;
use support::Bench;
use support::stream::{self, Sample};

/// Number of samples of each concept's stretch.
const PIECE: usize = 1500;

/// A stream whose labels are inverted in every other stretch.
fn recurring(pieces: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    for piece in 0..pieces {
        let whole = stream::samples(90 + piece as u64, 2 * PIECE, 0.0);
        let start = (piece % 2) * PIECE;
        samples.extend_from_slice(&whole[start..start + PIECE]);
    }
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.id = format!("r{number}");
        sample.time = 1_700_000_000 + number as i64 * 60;
    }
    samples
}

/// The changes of one kind, with their epochs.
fn changes(bench: &Bench, kind: &str) -> Vec<Value> {
    let changes = support::lines(bench.kb("run", &["changes"]).as_bytes());
    let of_kind = changes.into_iter().filter_map(|change| {
        let of_kind = change["change"].get(kind)?.clone();
        Some(serde_json::json!({"epoch": change["epoch"], "change": of_kind}))
    });
    of_kind.collect()
}

/// The config of tasks that train when they drift.
fn config() -> String {
    let config = stream::config("stream.csv", "records: 10");
    let config = config.replace("new_samples >= 600", "drift");
    format!("{config}drift: {{detectors: [adwin, page_hinkley]}}\n")
}

#[test]
fn recurring_concept_is_recalled() {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&recurring(4)));
    bench.write("config.yaml", config());
    bench.run_as("run", &[]).success();
    let drifts = changes(&bench, "drift_detected");
    assert!(!drifts.is_empty());
    let trained = changes(&bench, "model_trained");
    let recalled: Vec<&Value> = trained
        .iter()
        .filter(|change| change["change"]["remodeling"].get("recalled").is_some())
        .collect();
    assert!(!recalled.is_empty(), "{trained:?}");
    for change in &recalled {
        let (model, version) = (
            &change["change"]["model"],
            &change["change"]["remodeling"]["recalled"]["version"],
        );
        // It is the same model that predicted before.
        let answered = trained.iter().rfind(|other| {
            let other = &other["change"];
            other["model"]["task"] == model["task"] && other["model"]["version"] == *version
        });
        assert_eq!(
            answered.expect("it was trained")["change"]["hash"],
            change["change"]["hash"]
        );
    }
    bench.run_as("two", &["--workers", "2"]).success();
    bench
        .left("run")
        .assert_equals(&bench.left("two"), "two workers");
    let said = bench.run(&["kb", "--state", "run", "changes"]).success();
    assert!(said.stdout.contains("drift detected: "), "{said:?}");
    let said = bench.run(&["kb", "--state", "run", "models"]).success();
    assert!(said.stdout.contains(" recalled"), "{said:?}");
}

#[test]
fn drift_trigger_needs_detectors() {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&recurring(1)));
    bench.write("config.yaml", config());
    bench
        .run_as("run", &["--set", "drift.detectors=[]"])
        .failure(2, &["triggers.when[0]", "drift.detectors"]);
    bench
        .run_as("run", &["--set", "drift.adwin.delta=2"])
        .failure(2, &["drift.adwin.delta", "between 0 and 1"]);
}
