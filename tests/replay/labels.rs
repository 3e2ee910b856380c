//! Labels in a separate file: each joins its sample by id, in any order; a label without a sample
//! is a dead letter.

use std::fmt::Write;

use support::Bench;

const RECORDS: usize = 1200;

/// A stream without labels, and its labels in reverse order. Every 50th sample has none, and two
/// labels have no sample.
fn streams() -> (String, String) {
    let mut samples = "id,time,site,a\n".to_string();
    let mut labels = String::new();
    for number in 0..RECORDS {
        let value = (number * 37) % 100;
        let _ = writeln!(samples, "r{number},{number},s{},{value}", number % 3);
        if number % 50 != 0 {
            let label = if value < 50 { "low" } else { "high" };
            labels.insert_str(0, &format!("r{number},{label}\n"));
        }
    }
    labels.push_str("nobody,low\nghost,high\nr7,high\nr9,purple\n");
    (samples, format!("key,verdict\n{labels}"))
}

fn bench() -> Bench {
    let bench = Bench::new();
    let (samples, labels) = streams();
    bench.write("samples.csv", samples);
    bench.write("labels.csv", labels);
    bench.write(
        "config.yaml",
        "name: labels
source: {path: samples.csv}
schema:
  id: id
  time: time
  site: site
  features: [a]
  label: {column: verdict, classes: [low, high]}
tasks: {path: [[site]]}
bootstrap: {records: 400}
labels:
  path: labels.csv
  id: key
  delay: {records: 20}
epoch: {records: 100}
training:
  min_samples: 1000
  trees: {rounds: 10, max_depth: 3}
predictions: {path: p.jsonl}
",
    );
    bench
}

#[test]
fn labels_join_their_samples_by_id() {
    let bench = bench();
    bench.run_as("one", &[]).success();
    let report = bench.report("one");
    assert_eq!(report["predicted"], 800);
    assert_eq!(report["labelled"], 800 - 16);
    assert_eq!(report["unlabelled"], 16);
    // The label is a function of the feature, so that joined labels can be learned.
    assert!(report["accuracy"].as_f64() > Some(0.95), "{report}");
    let reasons: Vec<String> = bench
        .dead_letters("one")
        .iter()
        .map(|letter| letter["reason"].to_string())
        .collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("nobody")));
    assert!(reasons.iter().any(|reason| reason.contains("ghost")));
    assert!(reasons.iter().any(|reason| reason.contains("purple")));
    assert_eq!(report["records"], RECORDS);
    assert_eq!(report["dead_letters"], 4);
}

#[test]
fn joins_do_not_depend_on_workers_or_restarts() {
    let bench = bench();
    bench.run_as("whole", &[]).success();
    let whole = bench.left("whole");
    bench.run_as("three", &["--workers", "3"]).success();
    bench.left("three").assert_equals(&whole, "three workers");
    for point in ["commit: after outputs#2", "commit: after knowledge#2"] {
        let mut command = bench.pipeline("torn", &[]);
        let output = command.env("PERENNIAL_KILL_AT", point).output();
        assert!(!output.expect("it starts").status.success(), "{point}");
        bench.run_as("torn", &[]).success();
        bench.left("torn").assert_equals(&whole, point);
        std::fs::remove_dir_all(bench.path("torn")).expect("the state is removed");
        std::fs::remove_file(bench.path("torn.jsonl")).expect("the predictions are removed");
    }
}
