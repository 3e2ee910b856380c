//! Recounts a pipeline's outputs and knowledge base from its input topics, without any of its code.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::count::{Count, class};
use support::kafka::{Broker, Read};
use support::{Bench, json};

use super::Topics;

/// Time limit for the markers of decided transactions.
const MARKERS: Duration = Duration::from_secs(30);

/// Topic, partition and offset of a message.
type Place = (String, i32, i64);

/// A pipeline whose outputs are checked.
pub struct Pipeline<'a> {
    pub bench: &'a Bench,
    pub broker: &'a Broker,
    pub topics: &'a Topics,
    /// Its state folder, in the bench.
    pub state: &'a str,
    /// Its report's name, without the ending.
    pub report: &'a str,
    /// The partitions it reads.
    pub partitions: RangeInclusive<i32>,
    pub bootstrap: usize,
    /// Whether a result may come more than once; then the last one counts.
    pub repeats: bool,
}

/// Numbers of checked results.
pub struct Checked {
    pub predictions: usize,
    /// Number of repeated results.
    pub repeated: usize,
    pub dead_letters: usize,
    /// Number of samples whose labels are in the statistics, with those of the bootstrap.
    pub labelled: u64,
    pub tasks: usize,
}

/// The JSON object in a message, if it is one.
fn object(message: &Read) -> Option<Value> {
    let value: Value = serde_json::from_slice(&message.value).ok()?;
    value.is_object().then_some(value)
}

/// The sample in a message, if it is valid.
fn sample(message: &Read) -> Option<Value> {
    let sample = object(message)?;
    let is_number = |name: &&str| sample[*name].is_number() || sample[*name].is_null();
    let is_good = sample["id"].is_string() && ["a", "b", "c"].iter().all(is_number);
    is_good.then_some(sample)
}

/// The label in a message, if it is valid: id and class.
fn label(message: &Read) -> Option<(String, usize)> {
    let label = object(message)?;
    Some((label["id"].as_str()?.to_string(), class(&label["label"])?))
}

/// The place of the input in the headers of a result.
fn source(result: &Read) -> Place {
    let header = |name: &str| &result.headers[&format!("perennial.{name}")];
    let number = |name: &str| header(name).parse::<i64>().expect("a number");
    let partition = number("partition") as i32;
    (header("topic").clone(), partition, number("offset"))
}

/// The content of the input topics.
struct Inputs {
    messages: BTreeMap<Place, Read>,
    samples: BTreeMap<Place, Value>,
    /// By the id of the sample.
    labels: BTreeMap<String, usize>,
    bad: BTreeSet<Place>,
    records: usize,
}

impl Inputs {
    fn read(of: &Pipeline<'_>) -> Inputs {
        let mut inputs = Inputs {
            messages: BTreeMap::new(),
            samples: BTreeMap::new(),
            labels: BTreeMap::new(),
            bad: BTreeSet::new(),
            records: 0,
        };
        let mut ids = BTreeSet::new();
        for topic in [&of.topics.samples, &of.topics.labels] {
            for message in of.broker.read(topic) {
                if !of.partitions.contains(&message.partition) {
                    continue;
                }
                let place = (topic.clone(), message.partition, message.offset);
                if *topic == of.topics.samples {
                    inputs.records += 1;
                    match sample(&message) {
                        Some(sample) => {
                            assert!(ids.insert(sample["id"].to_string()), "{place:?} is twice");
                            inputs.samples.insert(place.clone(), sample);
                        }
                        None => _ = inputs.bad.insert(place.clone()),
                    }
                } else {
                    match label(&message) {
                        Some((id, class)) => {
                            assert_eq!(inputs.labels.insert(id, class), None, "{place:?}");
                        }
                        None => _ = inputs.bad.insert(place.clone()),
                    }
                }
                inputs.messages.insert(place, message);
            }
        }
        inputs
    }
}

/// The results in a topic by the place of their input; counts the repeated ones.
fn results(of: &Pipeline<'_>, topic: &str, repeated: &mut usize) -> BTreeMap<Place, Read> {
    let mut results = BTreeMap::new();
    for result in of.broker.read(topic) {
        let place = source(&result);
        if !of.partitions.contains(&place.1) {
            continue;
        }
        // Results of one input have one key and so one partition.
        if let Some(before) = results.insert(place.clone(), result) {
            assert!(of.repeats, "{place:?} comes twice in {topic}: {before:?}");
            *repeated += 1;
        }
    }
    results
}

/// Asserts that a result has the key and timestamp of its input.
#[track_caller]
fn assert_kept(result: &Read, input: &Read) {
    let kept = |message: &Read| (message.key.clone(), message.timestamp);
    assert_eq!(kept(result), kept(input), "{result:?}");
}

fn check_predictions(
    inputs: &Inputs,
    predictions: &BTreeMap<Place, Read>,
) -> BTreeMap<Place, Value> {
    let check = |(place, prediction): (&Place, &Read)| {
        let sample = inputs.samples.get(place);
        let sample = sample.unwrap_or_else(|| panic!("{place:?} is no sample: {prediction:?}"));
        assert_kept(prediction, &inputs.messages[place]);
        let value = json(&prediction.value);
        assert_eq!(value["id"], sample["id"], "{place:?}");
        assert_eq!(value["site"], sample["site"], "{place:?}");
        for name in ["task", "model"] {
            assert_eq!(
                value[name],
                *prediction.headers[&format!("perennial.{name}")]
            );
        }
        assert_eq!(value["task"], leaf(sample).as_str(), "{place:?}");
        (place.clone(), value)
    };
    predictions.iter().map(check).collect()
}

fn check_dead_letters(inputs: &Inputs, letters: &BTreeMap<Place, Read>) {
    let places: BTreeSet<Place> = letters.keys().cloned().collect();
    assert_eq!(
        places, inputs.bad,
        "each bad record is a dead letter, and nothing else"
    );
    for (place, letter) in letters {
        let input = &inputs.messages[place];
        assert_kept(letter, input);
        assert_eq!(letter.value, input.value, "{place:?}");
        assert!(!letter.headers["perennial.reason"].is_empty(), "{place:?}");
    }
}

/// The name of the finest task of a sample.
fn leaf(sample: &Value) -> String {
    let of = |name: &str| sample[name].as_str().expect("a text");
    format!("season={} > site={}", of("season"), of("site"))
}

/// The features of a sample as a model gets them.
fn features(sample: &Value) -> [Option<f64>; 4] {
    let mut modes = ["fan", "ac"].iter();
    let mode = modes.position(|mode| sample["mode"] == *mode);
    let [a, b, c] = ["a", "b", "c"].map(|name| sample[name].as_f64());
    [a, b, c, mode.map(|mode| mode as f64)]
}

/// The path from a task up to the base task, as in the knowledge base.
fn path<'a>(tasks: &'a [Value], name: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut at = tasks.iter().find(|task| task["task"] == name);
    while let Some(task) = at {
        names.push(task["task"].as_str().expect("a name"));
        at = tasks.iter().find(|other| other["id"] == task["parent"]);
    }
    assert_eq!(names.last(), Some(&"base"), "{name}");
    names
}

fn check_knowledge(
    of: &Pipeline<'_>,
    inputs: &Inputs,
    predictions: &BTreeMap<Place, Value>,
) -> (u64, u64, usize) {
    let tasks = of.bench.kb_json(of.state, &["tasks"]);
    let tasks = tasks.as_array().expect("tasks");
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for (place, sample) in &inputs.samples {
        let names = path(tasks, &leaf(sample));
        let Some(label) = inputs.labels.get(sample["id"].as_str().expect("an id")) else {
            continue;
        };
        for name in names {
            let count = counts.entry(name).or_default();
            count.add(features(sample), *label, predictions.get(place));
        }
    }
    assert_eq!(tasks.len(), counts.len(), "tasks");
    for (name, count) in &counts {
        let said = of.bench.kb_json(of.state, &["show", name]);
        count.assert_shown(&said, 1e-9, name);
    }
    let base = &counts["base"];
    (base.labelled, base.scored, counts.len())
}

/// Waits until all results can be read: a transaction is decided before its markers are in all
/// partitions.
fn wait_for_markers(of: &Pipeline<'_>) {
    for topic in [&of.topics.predictions, &of.topics.dead_letters] {
        let began = Instant::now();
        while of.broker.is_in_transaction(topic) {
            let waited = began.elapsed();
            assert!(waited < MARKERS, "{topic} stays in a transaction");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Asserts that outputs, report and knowledge base agree with the input.
pub fn check(of: &Pipeline<'_>) -> Checked {
    let inputs = Inputs::read(of);
    let mut repeated = 0;
    wait_for_markers(of);
    let predictions = results(of, &of.topics.predictions, &mut repeated);
    let letters = results(of, &of.topics.dead_letters, &mut repeated);
    let predictions = check_predictions(&inputs, &predictions);
    check_dead_letters(&inputs, &letters);
    // The bootstrap's samples depend on the order in which partitions are read.
    let places = inputs.samples.keys();
    let missing: Vec<&Place> = places
        .filter(|place| !predictions.contains_key(*place))
        .collect();
    assert_eq!(missing.len(), of.bootstrap, "not predicted: {missing:?}");
    let (labelled, scored, tasks) = check_knowledge(of, &inputs, &predictions);
    let report = of.bench.report(of.report);
    assert_eq!(report["records"], inputs.records, "{report}");
    assert_eq!(report["bootstrapped"], of.bootstrap, "{report}");
    assert_eq!(report["predicted"], predictions.len(), "{report}");
    assert_eq!(report["dead_letters"], letters.len(), "{report}");
    assert_eq!(report["labelled"], scored, "{report}");
    assert_eq!(report["unlabelled"], 0, "{report}");
    let verified = of.bench.run(&["kb", "--state", of.state, "verify"]);
    verified.success();
    Checked {
        predictions: predictions.len(),
        repeated,
        dead_letters: letters.len(),
        labelled,
        tasks,
    }
}
