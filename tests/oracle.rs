//! What is reported, computed again from the predictions and the input alone.

mod common;

use std::collections::BTreeMap;

use common::Bench;
use common::stream::{self, CLASSES, Sample};
use serde_json::Value;

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 800;

/// The numbers of one task, or of all.
#[derive(Default)]
struct Count {
    /// Labelled samples, those of the bootstrap among them.
    labelled: u64,
    /// Scored predictions.
    scored: u64,
    correct: u64,
    loss: f64,
    confusion: [[u64; 3]; 3],
    /// For each feature, the values of the labelled samples.
    values: [Vec<f64>; 4],
}

impl Count {
    /// Counts a labelled sample and, unless it is of the bootstrap, its prediction.
    fn add(&mut self, sample: &Sample, label: usize, prediction: Option<&Value>) {
        self.labelled += 1;
        for (values, value) in self.values.iter_mut().zip(sample.features()) {
            values.extend(value.map(f64::from));
        }
        let Some(prediction) = prediction else { return };
        let predicted = class(&prediction["prediction"]);
        let probability = prediction["probabilities"][CLASSES[label]].as_f64();
        self.scored += 1;
        self.correct += u64::from(predicted == label);
        self.loss -= probability.expect("a probability").max(1e-15).ln();
        self.confusion[label][predicted] += 1;
    }

    fn accuracy(&self) -> f64 {
        self.correct as f64 / self.scored as f64
    }

    fn log_loss(&self) -> f64 {
        self.loss / self.scored as f64
    }

    /// Fails unless a part of a report says the same of the predictions.
    #[track_caller]
    fn assert_quality(&self, said: &Value, what: &str) {
        assert_eq!(said["accuracy"].as_f64(), Some(self.accuracy()), "{what}");
        let loss = said["log_loss"].as_f64().expect("a log loss");
        let difference = (loss - self.log_loss()).abs();
        assert!(difference < 1e-6, "{what}: {loss} {}", self.log_loss());
    }

    /// Fails unless `kb show` says the same of the features.
    #[track_caller]
    fn assert_features(&self, said: &Value, what: &str) {
        let said = said.as_array().expect("features");
        assert_eq!(said.len(), self.values.len());
        for (number, (said, values)) in said.iter().zip(&self.values).enumerate() {
            let what = format!("{what}, feature {number}");
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            assert_eq!(said["count"].as_f64(), Some(count), "{what}");
            // A mean may be next to 0: it is compared on the scale of the values.
            assert_near(&said["mean"], mean, variance.sqrt(), &what);
            assert_near(&said["variance"], variance, variance, &what);
        }
    }
}

#[track_caller]
fn assert_near(said: &Value, expected: f64, scale: f64, what: &str) {
    let said = said.as_f64().expect("a number");
    let difference = (said - expected).abs();
    assert!(difference <= 1e-4 * scale, "{what}: {said} {expected}");
}

fn class(name: &Value) -> usize {
    let place = CLASSES.iter().position(|class| name == class);
    place.unwrap_or_else(|| panic!("{name} is no class"))
}

/// The names of the tasks that a sample belongs to.
fn path(sample: &Sample) -> [String; 3] {
    let season = format!("season={}", sample.season);
    ["base".to_string(), season, sample.task()]
}

/// Fails unless each prediction is of the sample in its place and in itself consistent.
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
        assert_eq!(probabilities[class(&line["prediction"])], highest, "{line}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_string()
}

/// Writes the samples and a config, runs it, and compares all that is reported with a recount.
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
            count.add(sample, label, prediction);
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

/// Compares what the report and the knowledge base say of each task.
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
        let shown = bench.kb_json("run", &["show", task]);
        for said in [&find(listed), &shown] {
            count.assert_quality(said, task);
            assert_eq!(said["labelled"], count.labelled, "{task}");
            assert_eq!(said["scored"], count.scored, "{task}");
        }
        let confusion: Vec<u64> = count.confusion.iter().flatten().copied().collect();
        assert_eq!(shown["confusion"], serde_json::json!(confusion), "{task}");
        count.assert_features(&shown["features"], task);
    }
}

#[test]
fn reports_equal_a_recount() {
    check(&stream::samples(11, 5000, 0.0), "records: 100");
}

#[test]
fn missing_labels_are_told_apart() {
    check(&stream::samples(12, 5000, 0.2), "seconds: 6000");
}

#[test]
fn a_delay_longer_than_the_stream_ends_with_it() {
    check(&stream::samples(13, 3000, 0.1), "records: 1000000");
}
