//! Unseen tasks: the fate of samples with new attribute values, and of outliers.

use std::fmt::Write;

use serde_json::Value;
use support::stream::Chance;
use support::{Bench, ended};

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 1200;

/// The concept that maps features to labels.
#[derive(Clone, Copy)]
enum Concept {
    First,
    Second,
    Third,
}

impl Concept {
    fn label(self, [a, b, c, _]: [f64; 4]) -> &'static str {
        let says = match self {
            Concept::First => a,
            Concept::Second => b,
            Concept::Third => c,
        };
        if says > 0.0 { "yes" } else { "no" }
    }
}

/// A stream as CSV.
struct Stream {
    text: String,
    chance: Chance,
    count: usize,
}

impl Stream {
    fn new(seed: u64) -> Stream {
        Stream {
            text: "id,time,site,kind,a,b,c,d,label\n".to_string(),
            chance: Chance::new(seed),
            count: 0,
        }
    }

    /// Adds a sample of a concept, with `d` around `shift`.
    fn add(&mut self, kind: &str, concept: Concept, shift: f64) {
        let mut normal = || {
            let sum: f64 = (0..12).map(|_| self.chance.share()).sum();
            sum - 6.0
        };
        let features = [normal(), normal(), normal(), normal() + shift];
        let [a, b, c, d] = features;
        let (count, label) = (self.count, concept.label(features));
        let line = format!("r{count},{count},s,{kind},{a:.4},{b:.4},{c:.4},{d:.4},{label}");
        writeln!(self.text, "{line}").expect("a line");
        self.count += 1;
    }

    /// Adds samples of two known concepts in turn.
    fn known(&mut self, many: usize) {
        for at in 0..many {
            match at % 2 {
                0 => self.add("k1", Concept::First, 0.0),
                _ => self.add("k2", Concept::Second, 0.0),
            }
        }
    }
}

fn config(unseen: &str, more: &str) -> String {
    format!(
        "name: groups
source: {{path: stream.csv}}
schema:
  id: id
  time: time
  site: site
  attributes: [kind]
  features: [a, b, c, d]
  label: {{column: label, classes: [no, yes]}}
tasks:
  path: [[kind]]
bootstrap:
  records: {BOOTSTRAP}
epoch:
  records: 64
training:
  min_samples: 100
  trees: {{rounds: 20, max_depth: 3}}
triggers:
  when: ['new_samples >= 400']
unseen: {{{unseen}}}
commit:
  epochs: 4
{more}"
    )
}

fn share_right(predictions: &[Value], labels: &[&str], is_of: impl Fn(&Value) -> bool) -> f64 {
    let right = |at: &Value| {
        let id = at["id"].as_str().expect("an id");
        let number: usize = id.trim_start_matches('r').parse().expect("a number");
        at["prediction"] == labels[number]
    };
    let of: Vec<&Value> = predictions.iter().filter(|at| is_of(at)).collect();
    of.iter().filter(|at| right(at)).count() as f64 / of.len() as f64
}

fn labels(stream: &Stream) -> Vec<&str> {
    let lines = stream.text.lines().skip(1);
    lines.filter_map(|line| line.rsplit(',').next()).collect()
}

/// Runs it again with two workers, and interrupted, and asserts the same output.
fn assert_the_same_whatever_happens(bench: &Bench) {
    // A new state takes no output of another one.
    let clear = || {
        let _ = std::fs::remove_file(bench.path("requests.jsonl"));
    };
    clear();
    bench.run_as("two", &["--workers", "2"]).success();
    let left = bench.left("run");
    left.assert_equals(&bench.left("two"), "two workers");
    for number in [3, 5, 6, 7, 8, 9, 11] {
        let name = format!("killed-{number}");
        clear();
        let mut command = bench.pipeline(&name, &["--workers", "2"]);
        command.env(
            "PERENNIAL_KILL_AT",
            format!("commit: after knowledge#{number}"),
        );
        assert_eq!(ended(command.output()).status, None);
        bench.run_as(&name, &[]).success();
        left.assert_equals(&bench.left(&name), &name);
    }
}

#[test]
fn renamed_task_becomes_an_alias_and_a_new_one_a_task() {
    let mut stream = Stream::new(5);
    stream.known(BOOTSTRAP + 300);
    for _ in 0..900 {
        stream.add("disguised", Concept::Second, 0.0);
        stream.add("new", Concept::Third, 0.0);
        stream.known(2);
    }
    let bench = Bench::new();
    bench.write("stream.csv", &stream.text);
    bench.write("config.yaml", config("methods: [attributes, density]", ""));
    bench.run_as("run", &[]).success();
    let unseen = bench.kb_json("run", &["unseen"]);
    let settled = |name: &str| -> Value {
        let all = unseen["settled"].as_array().expect("a list");
        let found = all
            .iter()
            .find(|one| one["settled"]["task"]["name"] == name);
        found.expect("it is settled")["settled"].clone()
    };
    assert_eq!(
        settled("kind=disguised")["became"]["alias"]["name"],
        "kind=k2"
    );
    assert_eq!(settled("kind=new")["became"], "task");
    // Known after a few labels, at an epoch's end; the alias needs three times as many.
    assert!(settled("kind=new")["labelled"].as_u64() < Some(64));
    assert!(settled("kind=disguised")["labelled"].as_u64() >= Some(15));
    assert_eq!(unseen["unseen"].as_array().map(Vec::len), Some(0));
    let predictions = bench.predictions("run");
    let labels = labels(&stream);
    let last = &predictions[predictions.len() - 1200..];
    let is = |name: &'static str| move |one: &Value| one["task"] == name;
    // Its samples then count for the old task, and the new task does as well as the others.
    assert!(last.iter().all(|one| one["task"] != "kind=disguised"));
    let at_most = last.iter().filter(|one| is("kind=k2")(one)).count();
    assert_eq!(at_most, 600);
    for name in ["kind=k1", "kind=k2", "kind=new"] {
        let right = share_right(last, &labels, is(name));
        assert!(right > 0.85, "{name}: {right}");
    }
    let names: Vec<Value> = bench
        .kb_json("run", &["tasks"])
        .as_array()
        .expect("tasks")
        .clone();
    let names: Vec<&str> = names
        .iter()
        .filter_map(|task| task["task"].as_str())
        .collect();
    assert_eq!(names, ["base", "kind=k1", "kind=k2", "kind=new"]);
    // Every prediction is scored once.
    let report = bench.report("run");
    assert_eq!(report["labelled"], predictions.len());
    let right = share_right(&predictions, &labels, |_| true);
    let accuracy = report["accuracy"].as_f64().expect("an accuracy");
    assert!((accuracy - right).abs() < 1e-9, "{accuracy} {right}");
    assert_the_same_whatever_happens(&bench);
    let lineage = bench.kb_json("run", &["lineage", "kind=new"]);
    let story: Vec<&str> = lineage["story"]
        .as_array()
        .expect("a story")
        .iter()
        .filter_map(|line| line["what"].as_str())
        .collect();
    for (line, begins) in
        story
            .iter()
            .zip(["unseen task grown", "task defined", "unseen task settled"])
    {
        assert!(line.starts_with(begins), "{story:?}");
    }
    assert!(
        story.iter().any(|line| line.starts_with("model deployed")),
        "{story:?}"
    );
    let other = bench.kb_json("run", &["lineage", "kind=k2"]);
    assert!(
        other.to_string().contains("kind=disguised: it is kind=k2"),
        "{other}"
    );
    bench
        .run(&["kb", "--state", "run", "lineage", "kind=none"])
        .failure(1, &["kind=none", "perennial kb tasks"]);
}

#[test]
fn group_with_one_label_becomes_a_task() {
    let mut stream = Stream::new(4);
    stream.known(BOOTSTRAP);
    for _ in 0..100 {
        stream.known(2);
        stream.add("new", Concept::Third, 0.0);
    }
    let bench = Bench::new();
    bench.write("stream.csv", &stream.text);
    let unseen = "methods: [attributes], known_after: 0";
    bench.write("config.yaml", config(unseen, ""));
    bench.run_as("run", &[]).success();
    let unseen = bench.kb_json("run", &["unseen"]);
    assert_eq!(
        unseen["settled"][0]["settled"]["became"], "task",
        "{unseen}"
    );
    assert_eq!(bench.report("run")["labelled"], 300);
    bench.left("run");
}

#[test]
fn outlying_group_becomes_a_task() {
    let mut stream = Stream::new(6);
    stream.known(BOOTSTRAP + 1000);
    for _ in 0..700 {
        // The same concept in an unusual region of features.
        stream.add("k1", Concept::Third, 9.0);
        stream.known(2);
    }
    let bench = Bench::new();
    bench.write("stream.csv", &stream.text);
    bench.write("config.yaml", config("methods: [density]", ""));
    bench.run_as("run", &[]).success();
    let unseen = bench.kb_json("run", &["unseen"]);
    let settled = unseen["settled"].as_array().expect("a list");
    assert_eq!(settled.len(), 1, "{unseen}");
    assert_eq!(settled[0]["settled"]["task"]["name"], "features=unseen-1");
    assert_eq!(settled[0]["settled"]["became"], "task");
    let predictions = bench.predictions("run");
    let last = &predictions[predictions.len() - 600..];
    let of = last
        .iter()
        .filter(|one| one["task"] == "features=unseen-1")
        .count();
    assert!((190..=200).contains(&of), "{of}");
    let labels = labels(&stream);
    let right = share_right(last, &labels, |one| one["task"] == "features=unseen-1");
    assert!(right > 0.85, "{right}");
    let known = share_right(last, &labels, |one| one["task"] == "kind=k1");
    assert!(known > 0.85, "{known}");
    // The reason is in the prediction while the task is unseen.
    let why = predictions
        .iter()
        .filter(|one| one["why"].to_string().contains("region"));
    assert!(why.count() > 10);
    assert_the_same_whatever_happens(&bench);
}

#[test]
fn random_values_define_no_tasks() {
    let run = |made_up: bool| {
        let mut stream = Stream::new(7);
        let mut noise = Stream::new(8);
        stream.known(BOOTSTRAP);
        for at in 0..1500 {
            stream.known(2);
            if made_up {
                // The same random numbers for samples of known concepts.
                std::mem::swap(&mut stream.chance, &mut noise.chance);
                stream.add(&format!("x{at}"), Concept::First, 0.0);
                stream.add(&format!("y{at}"), Concept::Second, 0.0);
                std::mem::swap(&mut stream.chance, &mut noise.chance);
            }
        }
        let bench = Bench::new();
        bench.write("stream.csv", &stream.text);
        let asks = "label_requests: {per_day: 100000, path: requests.jsonl}\n";
        bench.write(
            "config.yaml",
            config("methods: [attributes, density], groups: 20", asks),
        );
        bench.run_as("run", &[]).success();
        let labels: Vec<String> = labels(&stream)
            .iter()
            .map(|label| label.to_string())
            .collect();
        (bench, labels)
    };
    let (calm, calm_labels) = run(false);
    let (bench, labels) = run(true);
    let accuracy = |bench: &Bench, labels: &[String]| {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let is_known = |one: &Value| one["task"] == "kind=k1" || one["task"] == "kind=k2";
        share_right(&bench.predictions("run"), &labels, is_known)
    };
    let (without, with) = (accuracy(&calm, &calm_labels), accuracy(&bench, &labels));
    assert!(with > without - 0.02, "{with} {without}");
    let unseen = bench.kb_json("run", &["unseen"]);
    assert_eq!(unseen["unseen"].as_array().map(Vec::len), Some(20));
    assert_eq!(
        unseen["settled"].as_array().map(Vec::len),
        Some(0),
        "{unseen}"
    );
    assert_eq!(
        bench.kb_json("run", &["tasks"]).as_array().map(Vec::len),
        Some(3)
    );
    // A value that comes once is not asked about.
    for request in support::lines(&bench.read("requests.jsonl")) {
        let task = request["task"].as_str().expect("a task");
        assert!(task.starts_with("kind=k"), "{request}");
    }
    let report = bench.report("run");
    assert_eq!(report["labelled"], 6000);
    assert!(
        bench
            .run(&["kb", "--state", "run", "unseen"])
            .success()
            .stdout
            .contains("more made room for others")
    );
    assert_the_same_whatever_happens(&bench);
}

#[test]
fn label_requests_stay_within_the_budget() {
    let mut stream = Stream::new(9);
    stream.known(BOOTSTRAP);
    for _ in 0..800 {
        stream.known(2);
        stream.add("new", Concept::Third, 0.0);
    }
    let bench = Bench::new();
    bench.write("stream.csv", &stream.text);
    // A sample a second makes a little more than half an hour.
    let asks = "labels: {on_request: true, delay: {records: 20}}\nlabel_requests: {per_day: 160, path: requests.jsonl}\n";
    let config = config("methods: [attributes, density]", asks);
    let config = config.replace("new_samples >= 400", "new_samples >= 50");
    bench.write(
        "config.yaml",
        config.replace("min_samples: 100", "min_samples: 50"),
    );
    let run = |name: &str, more: &[&str]| {
        let path = format!("label_requests.path={name}-requests.jsonl");
        let mut all = vec!["--set", path.as_str()];
        all.extend(more);
        bench.pipeline(name, &all)
    };
    ended(run("run", &[]).output()).success();
    let requests = support::lines(&bench.read("run-requests.jsonl"));
    let asked = requests.len();
    assert!((150..=170).contains(&asked), "{asked}");
    let report = bench.report("run");
    assert_eq!(report["labelled"], asked);
    assert_eq!(report["unlabelled"], 2400 - asked);
    // Mostly about unseen samples, and among these about uncertain ones.
    let new = requests
        .iter()
        .filter(|one| one["task"] == "kind=new")
        .count();
    assert!(new * 2 > asked, "{new} of {asked}");
    let mut ids: Vec<&str> = requests
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), asked);
    assert!(
        requests
            .iter()
            .all(|one| one["features"]["a"].is_number() && one["prediction"].is_string())
    );
    let predictions = bench.predictions("run");
    let right = share_right(&predictions[1800..], &labels(&stream), |one| {
        one["task"] == "kind=new"
    });
    assert!(right > 0.8, "{right}");
    let listed = bench
        .run(&["label", "config.yaml", "--state", "run", "--list"])
        .success();
    assert!(listed.stdout.contains("labels are asked for"), "{listed:?}");
    bench
        .run(&["label", "config.yaml", "--state", "run"])
        .failure(2, &["labels.kafka", "--list"]);
    // Requests do not depend on workers or interruptions.
    let left = bench.left("run");
    for (name, kill) in [
        ("two", None),
        ("killed", Some(5)),
        ("killed-later", Some(8)),
    ] {
        let mut command = run(name, &["--workers", "2"]);
        if let Some(number) = kill {
            command.env(
                "PERENNIAL_KILL_AT",
                format!("commit: after knowledge#{number}"),
            );
            assert_eq!(ended(command.output()).status, None);
            command = run(name, &[]);
        }
        ended(command.output()).success();
        left.assert_equals(&bench.left(name), name);
        let path = format!("{name}-requests.jsonl");
        assert!(
            bench.read("run-requests.jsonl") == bench.read(&path),
            "{name}"
        );
    }
}

#[test]
fn request_settings_are_checked() {
    let bench = Bench::new();
    bench.write("stream.csv", &Stream::new(1).text);
    let refused = |more: &str, words: &[&str]| {
        bench.write("config.yaml", config("methods: [attributes]", more));
        bench.run(&["validate", "config.yaml"]).failure(2, words);
    };
    refused(
        "label_requests: {per_day: 0}\n",
        &["label_requests.per_day", "above 0"],
    );
    refused(
        "labels: {on_request: true}\n",
        &["labels.on_request", "label_requests"],
    );
    refused(
        "label_requests: {per_day: 1, path: a, kafka: {topic: b}}\n",
        &["label_requests", "exclude"],
    );
    let without = config("", "label_requests: {per_day: 1}\n").replace("unseen: {}\n", "");
    bench.write("config.yaml", without);
    bench
        .run(&["validate", "config.yaml"])
        .failure(2, &["label_requests", "unseen"]);
    refused(
        "drift: {detectors: [features]}\n",
        &["drift.detectors[0]", "density"],
    );
}
