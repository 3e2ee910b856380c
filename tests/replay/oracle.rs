//! Reports against a recount from the predictions and the input alone.

use std::collections::BTreeMap;

use serde_json::Value;
use support::Bench;
use support::count::{Count, class};
use support::stream::{self, CLASSES, Sample};

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 800;

/// The names of a sample's tasks.
fn path(sample: &Sample) -> [String; 3] {
    let season = format!("season={}", sample.season);
    ["base".to_string(), season, sample.task()]
}

/// Asserts that each prediction is that of the sample in its place, and consistent.
fn assert_predictions(predictions: &[Value], expected: &[Sample]) {
    let ids = |of: &mut dyn Iterator<Item = String>| of.collect::<Vec<String>>();
    let predicted = &mut predictions.iter().map(|line| text(&line["id"]));
    let read = &mut expected.iter().map(|sample| sample.id.clone());
    assert_eq!(
        ids(predicted),
        ids(read),
        "each once, in the order of the input"
    );
    for (line, sample) in predictions.iter().zip(expected) {
        assert_eq!(line["site"], sample.site.as_str());
        assert_eq!(line["task"], sample.task().as_str());
        let model = text(&line["model"]);
        let owner = model.rsplit_once(" @").expect("a model").0.to_string();
        assert!(path(sample).contains(&owner), "{line}");
        let of = |name: &&str| line["probabilities"][*name].as_f64().expect("a number");
        let probabilities: Vec<f64> = CLASSES.iter().map(of).collect();
        let sum: f64 = probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-4, "{line}");
        let highest = probabilities.iter().copied().fold(0.0, f64::max);
        assert_eq!(
            probabilities[class(&line["prediction"]).expect("a class")],
            highest,
            "{line}"
        );
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_string()
}

/// Runs the samples and compares report and knowledge base with a recount.
fn check(samples: &[Sample], delay: &str) {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(samples));
    bench.write("config.yaml", stream::config("stream.csv", delay));
    bench.run_as("run", &["--workers", "2"]).success();
    let predictions = bench.predictions("run");
    assert_predictions(&predictions, &samples[BOOTSTRAP..]);
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut unlabelled = 0;
    for (number, sample) in samples.iter().enumerate() {
        let prediction = number
            .checked_sub(BOOTSTRAP)
            .map(|place| &predictions[place]);
        let Some(label) = sample.label else {
            unlabelled += u64::from(prediction.is_some());
            continue;
        };
        for task in path(sample) {
            let count = counts.entry(task).or_default();
            let features = sample.features().map(|value| value.map(f64::from));
            count.add(features, label, prediction);
        }
    }
    let base = &counts["base"];
    let report = bench.report("run");
    base.assert_quality(&report, "the report");
    assert_eq!(report["records"], samples.len());
    assert_eq!(report["bootstrapped"], BOOTSTRAP);
    assert_eq!(report["predicted"], samples.len() - BOOTSTRAP);
    assert_eq!(report["labelled"], base.scored);
    assert_eq!(report["confusion"], serde_json::json!(base.confusion));
    assert_eq!(report["finished"], true);
    assert_eq!(report["unlabelled"], unlabelled);
    check_tasks(&bench, &report, &counts);
}

/// Compares report and knowledge base with a recount, task by task.
fn check_tasks(bench: &Bench, report: &Value, counts: &BTreeMap<String, Count>) {
    let in_report = report["tasks"].as_array().expect("tasks");
    let listed = bench.kb_json("run", &["tasks"]);
    let listed = listed.as_array().expect("tasks");
    assert_eq!(
        (in_report.len(), listed.len()),
        (counts.len(), counts.len())
    );
    for (task, count) in counts {
        let find = |tasks: &[Value]| -> Value {
            let found = tasks.iter().find(|said| said["task"] == task.as_str());
            found
                .unwrap_or_else(|| panic!("{task} is not there"))
                .clone()
        };
        let said = find(in_report);
        count.assert_quality(&said, task);
        assert_eq!(said["labelled"], count.scored, "{task}");
        let said = find(listed);
        count.assert_quality(&said, task);
        assert_eq!(said["labelled"], count.labelled, "{task}");
        assert_eq!(said["scored"], count.scored, "{task}");
        // Sums of features are stored as whole numbers of small units.
        count.assert_shown(&bench.kb_json("run", &["show", task]), 1e-4, task);
    }
}

#[test]
fn reports_equal_a_recount() {
    check(&stream::samples(11, 5000, 0.0), "records: 100");
}

#[test]
fn missing_labels_are_counted_separately() {
    check(&stream::samples(12, 5000, 0.2), "seconds: 6000");
}

#[test]
fn label_delay_ends_with_the_stream() {
    check(&stream::samples(13, 3000, 0.1), "records: 1000000");
}
