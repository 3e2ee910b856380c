//! Samples of unseen tasks: which are recognized, why, and how they are predicted.

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Bench, ended, simulator};

/// Number of records after which a label is known, and of labels after which a task is.
const DELAY: usize = 700;
const KNOWN: usize = 5;

/// A fleet in which half of the sites join late, with these settings of recognition.
fn config(unseen: &[&str]) -> String {
    let config = simulator(6000, "records: 700");
    let config = config.replace("    sites: 8\n", "    sites: 20\n    late_sites: 0.5\n");
    let config = config.replace("page_hinkley, features]", "page_hinkley]");
    let methods = "  methods: [attributes, density, nearest, disagreement]\n";
    let lines: Vec<String> = unseen.iter().map(|line| format!("  {line}\n")).collect();
    config.replace(methods, &lines.concat())
}

fn sequence(prediction: &Value) -> usize {
    let id = prediction["id"].as_str().expect("an id");
    id.trim_start_matches('r').parse().expect("a number")
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn new_site_is_unseen_until_it_has_labels() {
    let bench = Bench::new();
    bench.write(
        "config.yaml",
        config(&["methods: [attributes, density, nearest, disagreement]"]),
    );
    bench.run_as("run", &[]).success();
    let predictions = bench.predictions("run");
    // The ends of epochs, and the samples of each site.
    let mut ends: BTreeMap<u64, usize> = BTreeMap::new();
    let mut samples: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut bootstrapped: BTreeMap<&str, usize> = BTreeMap::new();
    for prediction in &predictions {
        let epoch = prediction["epoch"].as_u64().expect("an epoch");
        let end = ends.entry(epoch).or_default();
        *end = (*end).max(sequence(prediction) + 1);
        let task = prediction["task"].as_str().expect("a task");
        samples.entry(task).or_default().push(sequence(prediction));
    }
    let memory = bench.kb_json("run", &["tasks"]);
    for task in memory.as_array().expect("tasks") {
        let count = |key: &str| task[key].as_u64().unwrap_or(0) as usize;
        let name = task["task"].as_str().expect("a name");
        bootstrapped.insert(name, count("labelled") - count("scored"));
    }
    // The epochs in which tasks became known after the bootstrap.
    let unseen = bench.kb_json("run", &["unseen"]);
    let settled: BTreeMap<&str, u64> = unseen["settled"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            let name = one["settled"]["task"]["name"].as_str();
            (
                name.expect("a name"),
                one["epoch"].as_u64().expect("an epoch"),
            )
        })
        .collect();
    assert!(settled.len() >= 8, "{unseen}");
    let labelled = |task: &str, before: usize| {
        let known = samples[task].iter().filter(|at| **at + DELAY < before);
        known.count()
    };
    for (task, epoch) in settled
        .iter()
        .filter(|(task, _)| samples.contains_key(**task))
    {
        // It had the labels an epoch before, in which it was tried on its relatives.
        let before = ends.range(..epoch).next_back().map_or(0, |(_, end)| *end);
        assert!(labelled(task, before) >= KNOWN, "{task}");
    }
    let (mut new, mut strange) = (0, 0);
    for prediction in &predictions {
        let task = prediction["task"].as_str().expect("a task");
        let epoch = prediction["epoch"].as_u64().expect("an epoch");
        // The labels known at the end of the epoch before.
        let before = ends.range(..epoch).next_back().map_or(0, |(_, end)| *end);
        let is_new = match bootstrapped.get(task) {
            // It was defined when its group was settled, or with its context.
            Some(0) | None => {
                let context = task.split(" > ").next().unwrap_or(task);
                let settled = settled.get(task).or(settled.get(context));
                let is_defined = settled.is_some_and(|settled| *settled < epoch);
                !is_defined || labelled(task, before) < KNOWN
            }
            Some(known) => labelled(task, before) + known < KNOWN,
        };
        let why = texts(&prediction["why"]);
        assert_eq!(why.contains(&"attributes"), is_new, "{prediction}");
        assert_eq!(
            prediction["unseen"] == true,
            !why.is_empty(),
            "{prediction}"
        );
        let nearest = texts(&prediction["nearest"]);
        assert_eq!(nearest.is_empty(), why.is_empty(), "{prediction}");
        if is_new {
            // The nearest task on its path is known, and is not the task itself.
            assert!(task.starts_with(nearest[0]) && nearest[0] != task || nearest[0] == "base");
            new += 1;
        } else if !why.is_empty() {
            strange += 1;
        }
    }
    assert!(new > 100 && strange > 0, "{new} {strange}");
    assert_eq!(bench.report("run")["unseen"], new + strange);
    bench.run_as("two", &["--workers", "2"]).success();
    bench
        .left("run")
        .assert_equals(&bench.left("two"), "two workers");
    for point in ["commit: after knowledge#3", "commit: after knowledge#5"] {
        let name = point.replace([' ', ':', '#'], "-");
        let mut command = bench.pipeline(&name, &["--workers", "2"]);
        command.env("PERENNIAL_KILL_AT", point);
        assert_eq!(ended(command.output()).status, None);
        bench.run_as(&name, &[]).success();
        bench.left("run").assert_equals(&bench.left(&name), point);
    }
}

#[test]
fn unseen_answer_follows_the_setting() {
    let bench = Bench::new();
    let answers = |answer: &str| {
        bench.write(
            "config.yaml",
            config(&["methods: [attributes]", &format!("answer: {answer}")]),
        );
        bench.run_as(answer, &[]).success();
        bench.predictions(answer)
    };
    let (nearest, base, defer) = (answers("nearest"), answers("base"), answers("defer"));
    let mut differ = 0;
    for ((nearest, base), defer) in nearest.iter().zip(&base).zip(&defer) {
        assert_eq!(nearest["unseen"], base["unseen"]);
        if nearest["unseen"] == false {
            assert_eq!(nearest["prediction"], defer["prediction"]);
            continue;
        }
        assert!(
            defer["prediction"].is_null() && defer["probabilities"].is_null(),
            "{defer}"
        );
        differ += usize::from(nearest["probabilities"] != base["probabilities"]);
    }
    assert!(differ > 100, "{differ}");
    // The same holds in a table.
    let bench = Bench::writing("csv");
    bench.write(
        "config.yaml",
        config(&["methods: [attributes]", "answer: defer"]),
    );
    bench.run_as("run", &[]).success();
    let text = String::from_utf8(bench.read("run.csv")).expect("text");
    let header = text.lines().next().expect("a header");
    assert!(header.ends_with(",unseen,p,why,nearest,epoch"), "{header}");
    assert!(
        text.lines().any(|line| line.contains(",,,,,true,")),
        "{header}"
    );
}

#[test]
fn recognition_settings_are_checked() {
    let bench = Bench::new();
    let refused = |unseen: &str, words: &[&str]| {
        bench.write("config.yaml", config(&[unseen]));
        bench.run(&["validate", "config.yaml"]).failure(2, words);
    };
    refused(
        "false_alarm: 1.5",
        &["unseen.false_alarm", "between 0 and 1"],
    );
    refused("methods: []", &["unseen.methods", "at least one"]);
    refused("methods: [densitty]", &["unseen.methods", "density"]);
    let number = config(&["methods: [entropy]"])
        .replace("    seed: 7\n", "    seed: 7\n    label: number\n");
    bench.write(
        "config.yaml",
        number.replace("accuracy_drop >= 0.05", "mae > 9"),
    );
    bench
        .run(&["validate", "config.yaml"])
        .failure(2, &["unseen.methods[0]", "no probabilities"]);
}
