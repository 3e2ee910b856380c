//! Live mode: inference does not wait for training, and no prediction is lost or doubled.

use support::{Bench, simulator, version};

const RECORDS: usize = 8000;

/// A fleet in live mode; models are trained while the stream runs.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(RECORDS as u64, "records: 100"));
    bench
}

const LIVE: [&str; 4] = ["--set", "mode=live", "--set", "source.rate=2000"];

/// Asserts that each sample after the bootstrap is predicted once, in order, and counted.
fn assert_whole(bench: &Bench, name: &str) {
    let verified = bench.run(&["kb", "--state", name, "verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    let report = bench.report(name);
    let bootstrapped = report["bootstrapped"].as_u64().expect("a count") as usize;
    let ids: Vec<String> = bench
        .predictions(name)
        .iter()
        .map(|prediction| prediction["id"].as_str().expect("an id").to_string())
        .collect();
    let expected: Vec<String> = (bootstrapped..RECORDS)
        .map(|number| format!("r{number:010}"))
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(report["labelled"], RECORDS - bootstrapped);
    assert_eq!(report["records"], RECORDS);
}

#[test]
fn models_are_swapped_while_the_stream_runs() {
    let bench = bench();
    // Slow enough that trainings end before the stream does, on a busy machine too.
    let slow = ["--workers", "2", "--set", "source.rate=1000"];
    let workers = [LIVE.as_slice(), &slow].concat();
    bench.run_as("live", &workers).success();
    assert_whole(&bench, "live");
    let swapped = bench
        .predictions("live")
        .iter()
        .filter(|prediction| version(prediction) > 1)
        .count();
    assert!(swapped > 0, "no prediction is of a later model");
}

#[test]
fn killed_live_run_loses_nothing() {
    let bench = bench();
    for point in ["commit: after outputs#4", "commit: after knowledge#6"] {
        let mut command = bench.pipeline("torn", &LIVE);
        let output = command.env("PERENNIAL_KILL_AT", point).output();
        assert!(!output.expect("it starts").status.success(), "{point}");
    }
    bench.run_as("torn", &LIVE).success();
    assert_whole(&bench, "torn");
}
