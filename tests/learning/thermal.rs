//! The real stream of thermal comfort votes, whole.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use support::kafka::Broker;
use support::thermal::stream;
use support::{Bench, checkout, ended, text};

/// Number of votes in the bootstrap: a fifth of the stream.
const BOOTSTRAPPED: u64 = 11_051;
/// Number of votes after it.
const PREDICTED: u64 = 44_208;

/// Trains the base model less often than the configs do, with which it takes minutes.
const SELDOM: [&str; 2] = ["--set", "triggers.when=[new_samples >= 3000]"];

/// A folder with a config of this repository as `config.yaml`.
fn bench(name: &str) -> Bench {
    let bench = Bench::new();
    let config = std::fs::read(checkout(&format!("configs/{name}")));
    bench.write("config.yaml", config.expect("the config"));
    bench
}

/// Runs on the stream's file, with labels 64 votes later, and returns the report.
fn run_on_file(stream: &Path) -> Value {
    let bench = bench("thermal.yaml");
    let source = format!("source.path={}", text(stream));
    let sets = ["--set", &source, "--set", "labels.delay.records=64"];
    let sets: Vec<&str> = sets.into_iter().chain(SELDOM).collect();
    bench.run_as("run", &sets).success();
    let left = bench.left("run");
    assert_eq!(left.report["finished"], true);
    assert_complete(&left.report, &bench.predictions("run"));
    left.report
}

/// Asserts that every vote was read, predicted once and scored.
fn assert_complete(report: &Value, predictions: &[Value]) {
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
    let ids: HashSet<&str> = predictions
        .iter()
        .map(|prediction| prediction["id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids.len(), predictions.len(), "an id is predicted twice");
    assert_eq!(ids.len() as u64, PREDICTED);
}

fn accuracy(report: &Value) -> f64 {
    report["accuracy"].as_f64().expect("an accuracy")
}

/// Runs on the same stream in topics of four partitions, and returns the accuracy.
fn run_on_topics(stream: &Path) -> f64 {
    let broker = Broker::shared();
    for topic in ["samples", "labels", "predictions"] {
        broker.create_topic(&format!("thermal-{topic}"), 4, &[]);
    }
    let bench = bench("thermal-kafka.yaml");
    let brokers = format!("kafka.brokers={}", broker.address);
    let path = format!("produce.path={}", text(stream));
    let mut produce = bench.command(&["produce", "config.yaml", "--set", &brokers]);
    // Votes of the same millisecond have no order across partitions.
    produce.args(["--set", &path, "--set", "produce.rate=2000"]);
    ended(produce.output()).success();
    let mut run = bench.command(&["run", "config.yaml", "--state", "state", "--set", &brokers]);
    // The whole stream is there already: training has to keep up, and the topic has an end.
    run.args(["--set", "mode=replay", "--report", "run.json"]);
    run.args(["--set", "source.kafka.stop_at_end=true"]);
    run.args(SELDOM);
    ended(run.output()).success();
    let predictions: Vec<Value> = broker
        .read("thermal-predictions")
        .iter()
        .map(|prediction| support::json(&prediction.value))
        .collect();
    assert_complete(&bench.report("run"), &predictions);
    accuracy(&bench.report("run"))
}

#[test]
fn thermal_stream_is_learned_from_file_and_topics_alike() {
    let Some(stream) = stream() else { return };
    let (lifelong, from_topics) = std::thread::scope(|scope| {
        let from_topics = scope.spawn(|| run_on_topics(&stream));
        let report = run_on_file(&stream);
        let lifelong = accuracy(&report);
        let frozen = accuracy(&report["baselines"]["frozen"]);
        eprintln!("accuracy: lifelong {lifelong:.4}, frozen {frozen:.4}");
        assert!(lifelong >= 0.60, "{lifelong}");
        assert!(frozen < lifelong, "{frozen} {lifelong}");
        (lifelong, from_topics.join().expect("a run on topics"))
    });
    eprintln!("accuracy: from topics {from_topics:.4}");
    assert!((from_topics - lifelong).abs() <= 0.005, "{from_topics}");
}
