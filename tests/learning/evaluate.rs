//! The evaluation protocol of lifelong learning: its matrices and figures against a recount.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::count::class;
use support::stream::{self, CLASSES, Sample};
use support::{Bench, json, lines, simulator};

type Matrix = Vec<Vec<f64>>;

/// The probes of a run: the predictions of each stage, from 1, by the sample's number in the
/// stream.
struct Answers {
    probes: BTreeMap<usize, BTreeMap<usize, usize>>,
}

impl Answers {
    fn read(bench: &Bench) -> Answers {
        let mut probes: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
        for line in lines(&bench.read("out/predictions.jsonl")) {
            let id = line["id"].as_str().expect("an id");
            let parts: Vec<&str> = id.split('-').collect();
            if let ["test", stage, number] = parts[..] {
                let answer = class(&line["prediction"]).expect("a class");
                let stage = probes.entry(stage.parse().expect("a stage")).or_default();
                let before = stage.insert(number.parse().expect("a number"), answer);
                assert_eq!(before, None, "{id} was asked twice");
            }
        }
        Answers { probes }
    }

    /// The tested samples, the same in each stage.
    fn tested(&self) -> BTreeSet<usize> {
        let stages: Vec<BTreeSet<usize>> = self
            .probes
            .values()
            .map(|answers| answers.keys().copied().collect())
            .collect();
        assert!(stages.iter().all(|stage| *stage == stages[0]));
        stages[0].clone()
    }
}

/// The share of samples that are predicted right.
fn accuracy(samples: &[Sample], numbers: &[usize], answer: impl Fn(usize) -> usize) -> f64 {
    let right = numbers
        .iter()
        .filter(|number| samples[**number].label == Some(answer(**number)));
    right.count() as f64 / numbers.len() as f64
}

fn matrix(method: &Value) -> Matrix {
    serde_json::from_value(method["matrix"].clone()).expect("a matrix")
}

fn method<'a>(findings: &'a Value, name: &str) -> &'a Value {
    let methods = findings["methods"].as_array().expect("methods");
    let found = methods.iter().find(|method| method["method"] == name);
    found.unwrap_or_else(|| panic!("{name} is not there"))
}

#[track_caller]
fn assert_close(found: &Value, expected: f64, what: &str) {
    let found = found.as_f64().expect("a number");
    assert!(
        (found - expected).abs() < 1e-9,
        "{what}: {found}, not {expected}"
    );
}

/// Recomputes each method's figures from its matrix, by their definitions with stages and tasks
/// from 1.
fn assert_figures(findings: &Value) {
    let untrained = findings["untrained"].as_f64().expect("a number");
    for method in findings["methods"].as_array().expect("methods") {
        let matrix = matrix(method);
        let last = matrix.len();
        let r = |stage: usize, task: usize| matrix[stage - 1][task - 1];
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        let mut add = |name, value| *sums.entry(name).or_default() += value;
        let earlier = (last - 1) as f64;
        for task in 1..=last {
            add("average_accuracy", r(last, task) / last as f64);
        }
        for task in 1..last {
            let best = (1..last).map(|stage| r(stage, task)).fold(0.0, f64::max);
            add("bwt", (r(last, task) - r(task, task)) / earlier);
            add("forgetting", (best - r(last, task)) / earlier);
        }
        for task in 2..=last {
            add("fwt", (r(task - 1, task) - untrained) / earlier);
            add("ianvs_fwt", (r(task - 1, task) - r(1, task)) / earlier);
            // Ianvs's double sum, simplified.
            let moved = r(last, task) - r(1, task);
            add("ianvs_bwt", moved / earlier.powi(2));
        }
        for (name, sum) in sums {
            assert_close(&method[name], sum, &format!("{name} of {method}"));
        }
    }
}

/// Writes a stream of six sites, evaluates site after site, and returns the findings.
fn evaluate(samples: &[Sample]) -> (Bench, Value) {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(samples));
    bench.write("config.yaml", stream::config("stream.csv", "records: 100"));
    let arguments = ["evaluate", "config.yaml", "--sequence", "site"];
    let more = ["--json", "--output", "out"];
    let ended = bench.run(&[&arguments[..], &more[..]].concat()).success();
    let findings = json(ended.stdout.as_bytes());
    assert_eq!(findings, json(&bench.read("out/result.json")));
    (bench, findings)
}

#[test]
fn matrices_and_figures_equal_a_recount() {
    let samples = stream::samples(21, 3000, 0.1);
    let (bench, findings) = evaluate(&samples);
    let answers = Answers::read(&bench);
    let tested = answers.tested();
    let mut sites: Vec<&str> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.label.is_some()) {
        if !sites.contains(&sample.site.as_str()) {
            sites.push(&sample.site);
        }
    }
    let of_site = |site: &str, is_tested: bool| -> Vec<usize> {
        let numbers = samples.iter().enumerate().filter(|(number, sample)| {
            sample.site == site && sample.label.is_some() && tested.contains(number) == is_tested
        });
        numbers.map(|(number, _)| number).collect()
    };
    let test: Vec<Vec<usize>> = sites.iter().map(|site| of_site(site, true)).collect();
    let train: Vec<Vec<usize>> = sites.iter().map(|site| of_site(site, false)).collect();
    for (at, task) in findings["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .enumerate()
    {
        assert_eq!(task["task"], format!("site={}", sites[at]));
        assert_eq!(task["train"], train[at].len());
        assert_eq!(task["test"], test[at].len());
    }
    let unlabelled = samples.iter().filter(|sample| sample.label.is_none());
    assert_eq!(findings["unlabelled"], unlabelled.count());

    let perennial: Matrix = answers
        .probes
        .values()
        .map(|said| {
            test.iter()
                .map(|numbers| accuracy(&samples, numbers, |number| said[&number]))
        })
        .map(Iterator::collect)
        .collect();
    assert_eq!(perennial.len(), sites.len());
    assert_eq!(matrix(method(&findings, "perennial")), perennial);
    assert_figures(&findings);
    assert_baselines(&findings, &samples, &train, &test);
    for plot in ["out/matrix.svg", "out/accuracy.svg"] {
        let text = String::from_utf8(bench.read(plot)).expect("text");
        assert!(
            text.starts_with("<svg") && text.trim_end().ends_with("</svg>"),
            "{plot}"
        );
        assert!(text.contains("perennial"), "{plot}");
    }
}

/// Asserts what the definitions of the baselines imply.
fn assert_baselines(
    findings: &Value,
    samples: &[Sample],
    train: &[Vec<usize>],
    test: &[Vec<usize>],
) {
    let names = ["frozen", "single", "independent", "fine-tuned"];
    let [frozen, single, independent, fine_tuned] =
        names.map(|name| matrix(method(findings, name)));
    assert!(frozen.iter().all(|row| *row == single[0]));
    assert_ne!(single[0], single[1]);
    let mut counts = [0; CLASSES.len()];
    for (stage, row) in independent.iter().enumerate() {
        for number in &train[stage] {
            counts[samples[*number].label.expect("a label")] += 1;
        }
        let most = counts.iter().max();
        let frequent = counts.iter().position(|count| Some(count) == most);
        for (task, numbers) in test.iter().enumerate() {
            let expected = if task <= stage {
                independent[task][task]
            } else {
                accuracy(samples, numbers, |_| frequent.expect("a class"))
            };
            assert_eq!(row[task], expected, "stage {stage}, task {task}");
        }
    }
    // Both know only the first task's samples.
    assert_eq!(frozen[0][0], independent[0][0]);
    assert_eq!(fine_tuned[0], frozen[0]);
    assert_ne!(fine_tuned[1], fine_tuned[0], "it is continued");
    assert_ne!(
        fine_tuned[1], single[1],
        "on the second task's samples alone"
    );
    let later: usize = train[1..].iter().map(Vec::len).sum();
    let ratio = (later as f64 / (later + 1) as f64 * 1e4).round() / 1e4;
    for (name, expected) in names.iter().zip([0.0, ratio, ratio, ratio]) {
        let found = &method(findings, name)["samples_transfer_ratio"];
        assert_close(found, expected, name);
    }
}

#[test]
fn probes_come_after_their_stage_and_teach_nothing() {
    let samples = stream::samples(22, 2400, 0.0);
    let (bench, findings) = evaluate(&samples);
    // All probes of a stage are predicted from the same state: the settling samples just before
    // them get the same predictions as the probes of the same samples.
    let said = |line: &Value| (line["model"].clone(), line["probabilities"].clone());
    let mut tested: Vec<String> = Vec::new();
    let mut settled = BTreeMap::new();
    let mut probes = BTreeMap::new();
    for line in lines(&bench.read("out/predictions.jsonl")) {
        let id = line["id"].as_str().expect("an id").to_string();
        let parts: Vec<&str> = id.split('-').collect();
        match parts[..] {
            ["settle", stage, number] => {
                let number: usize = number.parse().expect("a number");
                settled.insert((stage.to_string(), number), said(&line));
            }
            ["test", stage, number] => {
                if stage == "1" {
                    tested.push(number.to_string());
                }
                probes.insert((stage.to_string(), number.to_string()), said(&line));
            }
            _ => assert_eq!(parts[0], "train"),
        }
    }
    // Three epochs pass, of 128 records each.
    let last = 3 * 128 - 1;
    let stages = findings["tasks"].as_array().expect("tasks").len();
    assert_eq!(settled.len(), stages * (last + 1));
    for ((stage, number), said) in settled.iter().filter(|((_, number), _)| *number == last) {
        let sample = tested[number % tested.len()].clone();
        assert_eq!(probes[&(stage.clone(), sample)], *said, "stage {stage}");
    }
    // A changed concept is learned again and predicted differently.
    let perennial = matrix(method(&findings, "perennial"));
    assert_ne!(perennial[0], perennial[stages - 1]);
}

#[test]
fn sequence_is_the_first_level_or_time() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(6000, "records: 64"));
    let by_default = bench.run(&["evaluate", "config.yaml"]).success();
    for words in [
        "tasks by season, zone;",
        "lifelong learning",
        "independent: ",
        "zone=zone-",
    ] {
        assert!(
            by_default.stdout.contains(words),
            "{words:?} is not in {by_default:?}"
        );
    }
    let slices = ["evaluate", "config.yaml", "--slices", "3", "--json"];
    let findings = json(bench.run(&slices).success().stdout.as_bytes());
    assert_eq!(findings["sequence"], "3 slices of time");
    let tasks = findings["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        let of = |name: &str| task[name].as_u64().expect("a number");
        assert_eq!(of("train") + of("test"), 2000, "slices of one length");
    }
    assert_figures(&findings);
    let again = bench.run(&slices).success().stdout;
    assert_eq!(json(again.as_bytes()), findings, "the same again");
    let other = bench
        .run(&[&slices[..], &["--seed", "2"]].concat())
        .success();
    assert_ne!(json(other.stdout.as_bytes())["tasks"], findings["tasks"]);
}

#[test]
fn bad_sequences_are_refused() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(400, "records: 0"));
    let refused = |more: &[&str], words: &[&str]| {
        let arguments = [&["evaluate", "config.yaml"], more].concat();
        bench.run(&arguments).failure(2, words);
    };
    refused(
        &["--sequence", "seson"],
        &[
            "--sequence: \"seson\" is not an attribute",
            "did you mean \"season\"?",
        ],
    );
    refused(&["--sequence", "zone,zone"], &["\"zone\" is named twice"]);
    refused(
        &["--sequence", "zone", "--slices", "2"],
        &["cannot be used with"],
    );
    refused(&["--slices", "1"], &["--slices"]);
    refused(
        &["--set", "tasks.path=[]"],
        &["tasks.path: there is no level", "--slices"],
    );
    refused(
        &["--slices", "100"],
        &["needs two tasks with 30 test samples each"],
    );
    let endless = bench.path("endless.yaml");
    let text = simulator(400, "records: 0").replace("    records: 400\n", "");
    bench.write("endless.yaml", text);
    let endless = ["evaluate", support::text(&endless)];
    bench
        .run(&endless)
        .failure(2, &["source.simulator.records", "a stream with an end"]);
    let config = stream::config("stream.csv", "records: 0");
    let topic = "  kafka: {topic: samples, stop_at_end: true}\nkafka: {brokers: 'localhost:1'}";
    bench.write("topic.yaml", config.replace("  path: stream.csv", topic));
    bench
        .run(&["evaluate", "topic.yaml"])
        .failure(2, &["source.kafka", "a file or the simulator"]);
}
