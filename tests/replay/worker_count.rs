//! Replay: the same input gives the same predictions and the same knowledge, run after run and with
//! any number of workers.

use support::stream;
use support::{Bench, Left, numbers, simulator, version};

/// Runs `config.yaml` twice, and with 2 and 4 workers; asserts the same output and returns it.
fn same_with_any_workers(bench: &Bench) -> Left {
    bench.run_as("first", &[]).success();
    let first = bench.left("first");
    for (name, workers) in [("again", "1"), ("two", "2"), ("four", "4")] {
        bench.run_as(name, &["--workers", workers]).success();
        let what = format!("{name}: {workers} workers");
        first.assert_equals(&bench.left(name), &what);
    }
    first
}

/// Asserts that models were replaced during the stream, and that the new ones predicted.
#[track_caller]
fn assert_models_changed(bench: &Bench, name: &str) {
    let predictions = bench.predictions(name);
    let replaced = predictions.iter().filter(|line| version(line) > 1).count();
    assert!(replaced > 100, "{replaced} predictions of later models");
    assert_eq!(version(&predictions[0]), 1, "the first model answers first");
}

#[test]
fn worker_count_does_not_matter() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(8000, "records: 100"));
    let left = same_with_any_workers(&bench);
    assert_models_changed(&bench, "first");
    assert_eq!(left.report["bootstrapped"], 2000);
    assert_eq!(left.report["predicted"], 6000);
    assert_eq!(left.report["labelled"], 6000);
    // Another stream differs.
    bench
        .run_as("other", &["--set", "source.simulator.seed=8"])
        .success();
    assert_ne!(left.predictions, bench.left("other").predictions);
}

#[test]
fn worker_count_does_not_matter_for_numbers() {
    let bench = Bench::new();
    bench.write("config.yaml", numbers(8000, "records: 100"));
    let left = same_with_any_workers(&bench);
    assert_models_changed(&bench, "first");
    assert_eq!(left.report["labelled"], 6000);
}

#[test]
fn worker_count_does_not_matter_for_bad_records() {
    let bench = Bench::new();
    let (lines, bad) = stream::with_bad_lines(&stream::samples(3, 6000, 0.05), 4);
    assert!(bad > 100, "{bad} bad lines");
    bench.write("stream.csv", stream::csv_of(lines.into_iter()));
    bench.write("config.yaml", stream::config("stream.csv", "records: 100"));
    let left = same_with_any_workers(&bench);
    assert_models_changed(&bench, "first");
    assert_eq!(left.report["dead_letters"], bad);
    assert_eq!(bench.dead_letters("first").len(), bad);
    assert_eq!(left.report["records"], 6000 + bad);
}

#[test]
fn worker_count_does_not_matter_for_delays_in_seconds() {
    let bench = Bench::new();
    // A sample every 100 ms of event time: 30 s are 300 samples.
    bench.write("config.yaml", simulator(8000, "seconds: 30"));
    bench.run_as("one", &["--workers", "1"]).success();
    bench.run_as("two", &["--workers", "2"]).success();
    let one = bench.left("one");
    one.assert_equals(&bench.left("two"), "two workers");
    assert_models_changed(&bench, "one");
    assert_eq!(one.report["labelled"], 6000);
    // The delay matters: without it other models predict.
    bench
        .run_as("none", &["--set", "labels.delay.seconds=0"])
        .success();
    assert_ne!(one.predictions, bench.left("none").predictions);
}
