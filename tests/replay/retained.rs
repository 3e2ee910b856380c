//! Retained samples: within their bounds after every commit, balanced over the classes, and
//! weighted by the samples that they stand for.

use std::collections::BTreeMap;

use serde_json::Value;
use support::stream::{self, Chance, Sample};
use support::{Bench, ended};

/// Bytes that a sample of the stream counts for: it has four features.
const SAMPLE_BYTES: u64 = 64;

/// A folder with a stream of many sites.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(81, 4000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    bench
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Number of samples that all tasks retained at the end of each epoch, and the bound on their bytes
/// then.
fn totals(changes: &str) -> BTreeMap<u64, (u64, u64)> {
    let (mut samples, mut bytes) = (0, u64::MAX);
    let mut totals = BTreeMap::new();
    for line in support::lines(changes.as_bytes()) {
        let change = &line["change"];
        if let Some(bounded) = change.get("memory_bounded") {
            assert_eq!(bounded["sample_bytes"], SAMPLE_BYTES);
            bytes = number(&bounded["bytes"]);
        }
        if let Some(retained) = change.get("samples_retained") {
            let count = |key: &str| retained[key].as_array().expect("a list").len() as u64;
            samples = samples + count("samples") - count("dropped");
        }
        totals.insert(number(&line["epoch"]), (samples, bytes));
    }
    totals
}

/// Number of labels and of retained samples, by task and class.
fn classes(memory: &Value) -> Vec<Vec<(u64, u64)>> {
    let tasks = memory["tasks"].as_array().expect("tasks").iter();
    let classes = |task: &Value| {
        let classes = task["classes"].as_array().expect("classes").iter();
        classes
            .map(|class| (number(&class["labelled"]), number(&class["samples"])))
            .collect()
    };
    tasks.map(classes).collect()
}

#[test]
fn memory_bound_holds_after_every_commit() {
    let bench = bench();
    const SAMPLES: u64 = 400;
    let bytes = format!("memory.bytes={}", SAMPLES * SAMPLE_BYTES);
    let bound = ["--set", bytes.as_str()];
    bench.run_as("one", &bound).success();
    bench
        .run_as("two", &[&bound[..], &["--workers", "2"]].concat())
        .success();
    let left = bench.left("one");
    left.assert_equals(&bench.left("two"), "two workers");
    let totals = totals(&left.changes);
    let most = totals.values().map(|(samples, _)| *samples).max();
    assert!(most > Some(SAMPLES * 9 / 10), "{most:?}");
    for (epoch, (samples, bytes)) in totals {
        assert!(
            samples * SAMPLE_BYTES <= bytes,
            "{samples} in epoch {epoch}"
        );
    }
    // All tasks have the same quota, and large ones use what small ones leave free.
    let memory = bench.kb_json("one", &["memory"]);
    let level = number(&memory["most_samples_per_task"]);
    assert!((10..200).contains(&level), "{level}");
    for task in classes(&memory) {
        let (labelled, samples) = task
            .iter()
            .fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
        assert_eq!(samples, labelled.min(level));
    }
    for point in ["commit: after outputs#3", "commit: after knowledge#7"] {
        let mut command = bench.pipeline("killed", &bound);
        command.env("PERENNIAL_KILL_AT", point);
        assert_eq!(ended(command.output()).status, None);
        let memory = bench.kb_json("killed", &["memory"]);
        assert!(number(&memory["bytes"]) <= SAMPLES * SAMPLE_BYTES);
        let verified = bench.run(&["kb", "--state", "killed", "verify"]).success();
        assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    }
    bench.run_as("killed", &bound).success();
    left.assert_equals(&bench.left("killed"), "killed and gone on");
}

#[test]
fn lower_bounds_shrink_the_state() {
    let bench = bench();
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#5");
    assert_eq!(ended(command.output()).status, None);
    let before = number(&bench.kb_json("run", &["memory"])["samples"]);
    let lower = [
        "--set",
        "memory.samples_per_task=60",
        "--set",
        "memory.bytes=19200",
    ];
    assert!(before > 700, "{before}");
    // The bound holds from the first commit on.
    let mut command = bench.pipeline("run", &lower);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#1");
    assert_eq!(ended(command.output()).status, None);
    let memory = bench.kb_json("run", &["memory"]);
    assert!(number(&memory["samples"]) <= 300, "{memory}");
    assert!(number(&memory["most_samples_per_task"]) <= 60, "{memory}");
    bench.run_as("run", &lower).success();
    let left = bench.left("run");
    let last = totals(&left.changes).pop_last();
    assert!(
        last.is_some_and(|(_, (samples, _))| samples <= 300),
        "{last:?}"
    );
    let said = bench.run(&["kb", "--state", "run", "memory"]).success();
    assert!(
        said.stdout.contains(" of 19200 bytes; at most "),
        "{said:?}"
    );
    bench
        .run_as("bad", &["--set", "memory.bytes=0"])
        .failure(2, &["memory.bytes", "expected at least 64"]);
}

/// The share of the rare class.
const RARE: f64 = 0.01;

/// Samples of two common classes and a rare one, which the first feature separates, with some
/// overlap.
fn with_a_rare_class(seed: u64, count: usize) -> Vec<Sample> {
    let mut chance = Chance::new(seed);
    let mut samples = stream::samples(seed, count, 0.0);
    for sample in &mut samples {
        let is_rare = chance.share() < RARE;
        let common = chance.below(2) as usize;
        let shift = if is_rare { 1.0 } else { 0.0 };
        sample.numbers = [chance.share() * 1.5 + shift, chance.share(), common as f64].map(Some);
        sample.label = Some(if is_rare { 2 } else { common });
    }
    samples
}

#[test]
fn rare_class_is_kept_with_its_true_frequency() {
    let bench = Bench::new();
    let count = 12_000;
    bench.write("stream.csv", stream::csv(&with_a_rare_class(82, count)));
    let config = stream::config("stream.csv", "records: 10");
    let config = config.replace("  path: [[season], [site]]\n", "  path: []\n");
    bench.write(
        "config.yaml",
        config.replace("records: 800", "records: 6000"),
    );
    let sets = [
        "memory.samples_per_task=500",
        // Otherwise the adapter would correct the model.
        "inference.adapters=false",
        "training.trees.rounds=60",
        "triggers.when=['new_samples >= 3000']",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    bench.run_as("run", &sets).success();
    bench.left("run");
    let classes = classes(&bench.kb_json("run", &["memory"])).remove(0);
    let [(low, _), (mid, _), (rare, kept)] = classes[..] else {
        panic!("{classes:?}");
    };
    assert_eq!(low + mid + rare, count as u64);
    assert!((80..160).contains(&rare), "{rare}");
    assert_eq!(kept, rare, "all of the rare class are kept");
    assert_eq!(classes.iter().map(|class| class.1).sum::<u64>(), 500);
    // The common classes keep a tenth of their samples, the rare class all: without weights the
    // model would predict it about fifteen times as often.
    let predictions = bench.predictions("run");
    assert!(predictions.len() > 5900);
    let high = |line: &Value| {
        line["probabilities"]["high"]
            .as_f64()
            .expect("a probability")
    };
    let mean = predictions.iter().map(high).sum::<f64>() / predictions.len() as f64;
    let share = rare as f64 / count as f64;
    assert!((mean - share).abs() < 0.5 * share, "{mean} for {share}");
}
