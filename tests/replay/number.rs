//! Numeric labels: figures against a recount, lifelong learning against the first model, and labels
//! that cannot be used.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use support::stream::Chance;
use support::{Bench, json, lines};

const BOOTSTRAP: usize = 800;
const RECORDS: usize = 4000;

struct Sample {
    site: String,
    features: [f64; 2],
    label: Option<f64>,
}

/// Samples of four sites with an offset each; the meaning of the features turns round in the
/// middle.
fn samples() -> Vec<Sample> {
    let mut chance = Chance::new(11);
    let sample = |number: usize| {
        let site = chance.below(4);
        let mut cell = || ((chance.share() * 2.0 - 1.0) * 1000.0).round() / 1000.0;
        let features = [cell(), cell()];
        let turned = if number < RECORDS / 2 { 1.0 } else { -1.0 };
        let noise = cell() * 0.3;
        let label = 20.0 + site as f64 * 3.0 + turned * 4.0 * features[0] + features[1] + noise;
        Sample {
            site: format!("s{site}"),
            features,
            label: (chance.share() > 0.1).then_some((label * 1000.0).round() / 1000.0),
        }
    };
    (0..RECORDS).map(sample).collect()
}

fn csv(samples: &[Sample], labelled: bool) -> String {
    let mut text = "id,time,site,a,b,label\n".to_string();
    for (number, sample) in samples.iter().enumerate() {
        let label = sample.label.filter(|_| labelled);
        let label = label.map_or(String::new(), |label| label.to_string());
        let Sample {
            site,
            features: [a, b],
            ..
        } = sample;
        let _ = writeln!(text, "r{number},{},{site},{a},{b},{label}", number * 60);
    }
    text
}

const CONFIG: &str = "name: numbers
source: {path: stream.csv}
schema:
  id: id
  time: time
  site: site
  features: [a, b]
  label: {column: label, kind: number}
tasks: {path: [[site]]}
bootstrap: {records: 800}
labels: {delay: {records: 50}}
epoch: {records: 128}
memory: {samples_per_task: 400}
training:
  min_samples: 100
  trees: {rounds: 20, max_depth: 3}
triggers: {when: ['new_samples >= 400', 'mae > 5', 'rmse > 5', 'rmse_rise > 0.3']}
report: {baselines: [frozen]}
";

fn bench() -> (Bench, Vec<Sample>) {
    let (bench, samples) = (Bench::new(), samples());
    bench.write("stream.csv", csv(&samples, true));
    bench.write("config.yaml", CONFIG);
    (bench, samples)
}

#[track_caller]
fn assert_near(said: &Value, expected: f64) {
    let said = said.as_f64().expect("a number");
    assert!((said - expected).abs() < 1e-5, "{said} and not {expected}");
}

/// Asserts that figures are those of these pairs of prediction and label.
#[track_caller]
fn assert_quality(said: &Value, pairs: &[(f64, f64)]) {
    let count = pairs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let square = mean(&|(said, label)| (said - label).powi(2));
    let middle = mean(&|(_, label)| *label);
    let variance = mean(&|(_, label)| (label - middle).powi(2));
    assert_near(&said["mae"], mean(&|(said, label)| (said - label).abs()));
    assert_near(&said["rmse"], square.sqrt());
    assert_near(&said["r2"], 1.0 - square / variance);
    assert!(said.get("accuracy").is_none(), "{said}");
}

#[test]
fn figures_equal_a_recount() {
    let (bench, samples) = bench();
    bench.run_as("run", &["--workers", "2"]).success();
    let (report, predictions) = (bench.report("run"), bench.predictions("run"));
    assert_eq!(predictions.len(), RECORDS - BOOTSTRAP);
    let mut pairs: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (line, sample) in predictions.iter().zip(&samples[BOOTSTRAP..]) {
        assert!(line.get("probabilities").is_none(), "{line}");
        let said = line["prediction"].as_f64().expect("a number");
        let Some(label) = sample.label else { continue };
        // Both are 32-bit numbers, written as their shortest texts.
        let both = (f64::from(said as f32), f64::from(label as f32));
        for task in ["base".to_string(), format!("site={}", sample.site)] {
            pairs.entry(task).or_default().push(both);
        }
    }
    assert_eq!(report["labelled"], pairs["base"].len());
    assert_eq!(
        report["unlabelled"],
        predictions.len() - pairs["base"].len()
    );
    assert_quality(&report, &pairs["base"]);
    assert_eq!(report["confusion"], json(b"[]"));
    assert_eq!(report["classes"], json(b"[]"));
    for task in report["tasks"].as_array().expect("tasks") {
        assert_quality(task, &pairs[task["task"].as_str().expect("a name")]);
    }
    let tasks = bench.kb_json("run", &["tasks"]);
    for task in tasks.as_array().expect("tasks") {
        assert_quality(task, &pairs[task["task"].as_str().expect("a name")]);
    }
    assert_quality(&bench.kb_json("run", &["show", "base"]), &pairs["base"]);
    let models = bench.kb_json("run", &["models"]);
    let scale = |model: &Value| model["evaluated"]["scale"].as_f64().expect("a scale");
    let models = models.as_array().expect("models");
    assert!(models.len() > 5, "{models:?}");
    // The first model cannot know the sites' offsets, which lie up to 9 apart.
    assert!((2.0..9.0).contains(&scale(&models[0])), "{}", models[0]);
    assert!(models.iter().all(|model| scale(model) == scale(&models[0])));
    for command in ["tasks", "models", "relations"] {
        let shown = bench.run(&["kb", "--state", "run", command]).success();
        assert!(shown.stdout.contains("RMSE"), "{shown:?}");
    }
    let changes = bench.run(&["kb", "--state", "run", "changes"]).success();
    assert!(
        changes.stdout.contains("scored, RMSE"),
        "{command}",
        command = changes.stdout
    );
}

#[test]
fn lifelong_learning_beats_the_first_model() {
    let bench = Bench::new();
    bench.write("config.yaml", support::numbers(20_000, "records: 100"));
    let slow = "source.simulator.drift.strength=0.1";
    bench.run_as("run", &["--set", slow]).success();
    let report = bench.report("run");
    let rmse = |of: &Value| of["rmse"].as_f64().expect("an RMSE");
    let (lifelong, frozen) = (rmse(&report), rmse(&report["baselines"]["frozen"]));
    assert!(lifelong < 0.85 * frozen, "{lifelong} and {frozen}");
    // Adapters alone correct the sites' offsets.
    let only = ["inference.adapters=false", "inference.adapters=true"].map(|adapters| {
        let never = [
            "--set",
            "triggers.when=[]",
            "--set",
            adapters,
            "--set",
            slow,
        ];
        bench.run_as(adapters, &never).success();
        rmse(&bench.report(adapters))
    });
    assert!(only[1] < 0.97 * only[0], "{only:?}");
}

#[test]
fn non_finite_labels_are_dead_letters() {
    let (bench, samples) = bench();
    let mut text = csv(&samples, true);
    for (number, label) in ["warm", "inf", "-1e39"].iter().enumerate() {
        let _ = writeln!(text, "x{number},1,s0,1,1,{label}");
    }
    bench.write("stream.csv", text);
    bench.run_as("run", &[]).success();
    let letters = bench.dead_letters("run");
    let reasons: Vec<&str> = letters
        .iter()
        .filter_map(|letter| letter["reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "label \"label\" is \"warm\", not a number",
            "label \"label\" is \"inf\", not a finite 32-bit number",
            "label \"label\" is \"-1e39\", not a finite 32-bit number",
        ]
    );
}

#[test]
fn labels_in_a_separate_file_join_their_samples() {
    let (bench, samples) = bench();
    bench.run_as("carried", &[]).success();
    bench.write("stream.csv", csv(&samples, false));
    let mut labels = "id,label\n".to_string();
    for (number, sample) in samples.iter().enumerate() {
        if let Some(label) = sample.label {
            let _ = writeln!(labels, "r{number},{label}");
        }
    }
    labels.push_str("r0,\nr1,cold\n");
    bench.write("labels.csv", labels);
    bench
        .run_as("apart", &["--set", "labels.path=labels.csv"])
        .success();
    let read = |name: &str| bench.read(&format!("{name}.jsonl"));
    assert!(
        read("carried") == read("apart"),
        "the same labels teach the same"
    );
    assert_eq!(bench.dead_letters("apart").len(), 2);
}

#[test]
fn constant_labels_are_predicted() {
    let (bench, mut samples) = bench();
    samples
        .iter_mut()
        .for_each(|sample| sample.label = Some(5.0));
    bench.write("stream.csv", csv(&samples, true));
    bench.run_as("run", &[]).success();
    let report = bench.report("run");
    assert_eq!(report["rmse"].as_f64(), Some(0.0), "{report}");
    assert_eq!(report["r2"], Value::Null, "nothing varies");
    bench
        .run(&["evaluate", "config.yaml"])
        .failure(2, &["all test samples have the same label"]);
}

#[test]
fn evaluation_measures_explained_variance() {
    let (bench, samples) = bench();
    let arguments = [
        "evaluate",
        "config.yaml",
        "--output",
        "out",
        "--sequence",
        "site",
    ];
    let printed = bench.run(&arguments).success();
    assert!(printed.stdout.contains("average R²"), "{printed:?}");
    let result = json(&bench.read("out/result.json"));
    assert_eq!(
        (&result["measure"], &result["untrained"]),
        (&"r2".into(), &json(b"0.0"))
    );
    let tasks: Vec<String> = result["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| task["task"].as_str().expect("a name").to_string())
        .collect();
    // Predictions and labels of the probes, by stage and task.
    let mut pairs: BTreeMap<(usize, usize), Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines(&bench.read("out/predictions.jsonl")) {
        let id = line["id"].as_str().expect("an id");
        let Some(probe) = id.strip_prefix("test-") else {
            continue;
        };
        let (stage, number) = probe.split_once('-').expect("stage and number");
        let sample = &samples[number.parse::<usize>().expect("a number")];
        let task = tasks
            .iter()
            .position(|task| *task == format!("site={}", sample.site));
        let said = line["prediction"].as_f64().expect("a number");
        let key = (
            stage.parse::<usize>().expect("a stage") - 1,
            task.expect("a task"),
        );
        pairs
            .entry(key)
            .or_default()
            .push((said, sample.label.expect("a label")));
    }
    let last = tasks.len() - 1;
    let labels: Vec<f64> = (0..=last)
        .flat_map(|task| &pairs[&(0, task)])
        .map(|(_, label)| *label)
        .collect();
    let middle = labels.iter().sum::<f64>() / labels.len() as f64;
    let variance = labels
        .iter()
        .map(|label| (label - middle).powi(2))
        .sum::<f64>()
        / labels.len() as f64;
    let worth = |stage: usize, task: usize| {
        let pairs = &pairs[&(stage, task)];
        let squares = pairs.iter().map(|(said, label)| (said - label).powi(2));
        1.0 - squares.sum::<f64>() / pairs.len() as f64 / variance
    };
    let perennial = &result["methods"][0];
    for stage in 0..=last {
        for task in 0..=last {
            assert_near(&perennial["matrix"][stage][task], worth(stage, task));
        }
    }
    let mean = |of: &dyn Fn(usize) -> f64| (0..last).map(of).sum::<f64>() / last as f64;
    assert_near(
        &perennial["bwt"],
        mean(&|task| worth(last, task) - worth(task, task)),
    );
    assert_near(&perennial["fwt"], mean(&|task| worth(task, task + 1)));
    let average = (0..=last).map(|task| worth(last, task)).sum::<f64>() / tasks.len() as f64;
    assert_near(&perennial["average_r2"], average);
    assert!(perennial.get("average_accuracy").is_none(), "{perennial}");
    let frozen = result["methods"][1]["average_r2"].as_f64().expect("R²");
    assert!(average > frozen + 0.1, "{average} {frozen}");
    let plot = String::from_utf8(bench.read("out/r2.svg")).expect("a text");
    assert!(plot.contains("mean R² on the tasks so far"));
}
